"""The pre-push hook under real `git push`: what the user sees, what goes through, what the model is asked."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from driver import ROOT, Cli, Server
from pushing import CLEAN, FAULTY, SKIP, Desk

from review_agent.agent.commands.hook_run import MOST_LATE, MOST_TOLD

Start = Callable[..., Server]
GOLDEN = ROOT / "tests" / "golden" / "push.zh-CN.txt"


def test_transcript(desk: Desk, start_server: Start) -> None:
    server = desk.server = start_server(review="eval")
    desk.commit(clean=CLEAN)
    codes = [desk.hook("install").code, desk.hook("install").code]
    codes.append(desk.push("origin", "main").code)
    desk.commit(faulty=FAULTY)
    codes.append(desk.push("origin", "main").code)
    desk.commit(other=FAULTY.replace("run", "other"))
    codes.append(desk.push("origin", "main", REVIEW_AGENT_FAIL_ON="medium").code)
    codes.append(desk.push("origin", "main", **SKIP).code)
    desk.git("tag", "-a", "v1", "-m", "one")
    codes += [desk.push("origin", "v1").code, desk.push("origin", ":v1").code]
    desk.git("switch", "-q", "-c", "topic")
    desk.commit(topic=CLEAN.replace("double", "topic"))
    codes.append(desk.push("origin", "topic").code)
    desk.git("commit", "-q", "--amend", "-m", "amended")
    codes.append(desk.push("--force", "origin", "topic").code)
    server.stop()
    desk.commit(third=CLEAN.replace("double", "twice"))
    down = {"REVIEW_AGENT_BACKEND": "ollama"}
    codes.append(desk.push("origin", "topic", REVIEW_AGENT_ON_ERROR="block", **down).code)
    codes.append(desk.push("origin", "topic", **down).code)
    codes += [desk.hook("uninstall").code, desk.push("origin", "topic").code]
    text = desk.masked()
    if os.environ.get("REVIEW_AGENT_UPDATE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")
    assert codes == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0]


def test_a_clean_push_goes_through(pushed_once: Desk) -> None:
    head = pushed_once.commit(more=CLEAN.replace("double", "twice"))
    seen = pushed_once.push("origin", "main")
    assert (seen.code, seen.asked, pushed_once.remote("main")) == (0, 1, head)
    assert "结论：通过" in seen.seen
    assert "clean.py" not in pushed_once.server.prompts()[-1]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"REVIEW_AGENT_FAIL_ON": "high"}, 0),
        ({"REVIEW_AGENT_FAIL_ON": "medium", "REVIEW_AGENT_SKIP": "0"}, 1),
    ],
)
def test_findings(pushed_once: Desk, variables: dict[str, str], code: int) -> None:
    before = pushed_once.remote("main")
    head = pushed_once.commit(faulty=FAULTY)
    seen = pushed_once.push("origin", "main", **variables)
    assert seen.code == code
    assert pushed_once.remote("main") == (before if code else head)
    assert "[中等] faulty.py:2" in seen.seen
    assert ("`git push --no-verify`" in seen.seen) == bool(code)
    assert ("`REVIEW_AGENT_SKIP=1 git push`" in seen.seen) == bool(code)


def test_a_repository_may_ask_for_a_stricter_gate_and_not_by_what_is_pushed(pushed_once: Desk) -> None:
    config = pushed_once.tree / ".review-agent.toml"
    config.write_text('fail_on = "low"\n')
    pushed_once.commit(faulty=FAULTY)
    assert pushed_once.push("origin", "main").code == 0
    pushed_once.commit(other=FAULTY)
    assert pushed_once.push("origin", "main").code == 1


def test_the_reviewed_repository_cannot_make_the_gate_fail_open(pushed_once: Desk) -> None:
    (pushed_once.tree / ".review-agent.toml").write_text('on_error = "allow"\nno_such_key = 1\n')
    pushed_once.commit("settings")
    pushed_once.git("push", "-q", "--no-verify", "origin", "main")
    pushed_once.commit(faulty=FAULTY)
    assert pushed_once.push("origin", "main", REVIEW_AGENT_ON_ERROR="block").code == 1


def test_a_wrong_setting_of_the_users_own_ends_the_push(pushed_once: Desk) -> None:
    pushed_once.commit(faulty=FAULTY)
    seen = pushed_once.push("origin", "main", REVIEW_AGENT_ON_ERROR="maybe")
    assert seen.code == 1
    assert "REVIEW_AGENT_ON_ERROR" in seen.seen
    assert "REVIEW_AGENT_SKIP=1" in seen.seen


def test_partial_work_is_kept_and_the_next_push_goes_on(pushed_once: Desk) -> None:
    one, two, three = (FAULTY.replace("run", name) for name in ("one", "two", "three"))
    pushed_once.commit(one=one, two=two)
    first = pushed_once.push("origin", "main", REVIEW_AGENT_MAX_FILES="1")
    assert (first.code, first.asked) == (0, 1)
    assert "还有 1 个文件没有审查完" in first.seen
    assert "`review-agent resume " in first.seen
    pushed_once.commit(three=three)
    second = pushed_once.push("origin", "main")
    assert "上次推送没有审查完" in second.seen
    assert all(f"{name}.py:2" in second.seen for name in ("one", "two", "three"))
    prompts = "".join(pushed_once.server.prompts()[-second.asked :])  # type: ignore[union-attr]
    assert [prompts.count(f"def {name}") for name in ("two", "three")] == [1, 1]
    assert "def one" not in prompts or "def two" not in first.seen
    pushed_once.commit(four=three.replace("three", "four"))
    third = pushed_once.push("origin", "main")
    assert "上次推送没有审查完" not in third.seen
    assert "one.py" not in third.seen


def test_resume_pays_the_debt(pushed_once: Desk) -> None:
    pushed_once.commit(one=FAULTY.replace("run", "one"), two=FAULTY.replace("run", "two"))
    pushed_once.push("origin", "main", REVIEW_AGENT_MAX_FILES="1")
    assert pushed_once.see(*pushed_once.cli.argv("resume")).code == 0
    pushed_once.commit(three=CLEAN)
    assert "上次推送没有审查完" not in pushed_once.push("origin", "main").seen


def test_a_resume_that_stops_again_leaves_the_rest_to_the_next_push(pushed_once: Desk) -> None:
    pushed_once.commit(**{name: FAULTY.replace("run", name) for name in ("one", "two", "three")})
    pushed_once.push("origin", "main", REVIEW_AGENT_MAX_FILES="1")
    assert pushed_once.see(*pushed_once.cli.argv("resume", "--max-files", "1")).code == 4
    pushed_once.commit(four=CLEAN)
    assert "上次推送没有审查完" in pushed_once.push("origin", "main").seen


def test_time_is_bounded_for_all_refs_together(pushed_once: Desk, start_server: Start) -> None:
    """A few are begun late, for a second each, so that the next push goes on with them; the others are named."""
    pushed_once.server = start_server(fault="hang")
    names = [f"b{number}" for number in range(MOST_LATE + 3)]
    for name in names:
        pushed_once.git("switch", "-q", "-c", name, "main")
        pushed_once.commit(**{name: FAULTY.replace("run", name)})
    blocked = {"REVIEW_AGENT_MAX_SECONDS": "1", "REVIEW_AGENT_ON_ERROR": "block"}
    seen = pushed_once.push("origin", *names, **blocked)
    assert (seen.code, pushed_once.remote("b0")) == (1, "")
    assert seen.seconds < 30
    assert seen.seen.count("到了时间或数量上限") == MOST_LATE + 1
    assert seen.seen.count("到了时间上限，没有开始") == 2
    assert seen.seen.count("之后可以这样审查：`review-agent run --from") == 2


@pytest.mark.parametrize("backend", ["auto", "openai"])
def test_a_server_that_accepts_and_says_nothing(pushed_once: Desk, backend: str) -> None:
    pushed_once.commit(faulty=FAULTY)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        pushed_once.env["REVIEW_AGENT_BASE_URL"] = f"http://127.0.0.1:{mute.getsockname()[1]}"
        limits = {"REVIEW_AGENT_MAX_SECONDS": "1", "REVIEW_AGENT_ON_ERROR": "block"}
        seen = pushed_once.push("origin", "main", REVIEW_AGENT_BACKEND=backend, **limits)
    assert (seen.code, pushed_once.remote("main") == pushed_once.git("rev-parse", "HEAD")) == (1, False)
    assert seen.seconds < 15
    assert "在 1 秒的时间上限内没有回应" in seen.seen


def test_many_refs_take_few_words_and_little_time(pushed_once: Desk) -> None:
    head = pushed_once.git("rev-parse", "HEAD")
    tags = pushed_once.tree / ".git" / "refs" / "tags"
    for number in range(500):
        (tags / f"v{number}").write_text(f"{head}\n")
    seen = pushed_once.push("--tags", "origin", GIT_TRACE="0")
    ours = [line for line in seen.seen.splitlines() if line.startswith("review-agent")]
    assert (seen.code, len(ours)) == (0, MOST_TOLD + 1)
    assert ours[-1] == f"review-agent：还有 {500 - MOST_TOLD} 个引用也是：标签没有带来新的提交"
    assert seen.cpu < 3  # five and more when git was asked of each


def test_nothing_new_asks_nobody_and_takes_no_time(pushed_once: Desk) -> None:
    pushed_once.git("tag", "v1")
    pushed_once.git("branch", "same")
    for args in (("origin", "main"), ("origin", "v1"), ("origin", "same"), ("origin", ":same")):
        seen = pushed_once.push(*args)
        assert (seen.code, seen.asked) == (0, 0)
        assert seen.cpu < 1.5  # half a second on a free machine; git and the shell count as well


def test_a_new_branch_is_reviewed_from_where_it_left(pushed_once: Desk) -> None:
    pushed_once.git("switch", "-q", "-c", "topic")
    pushed_once.commit(topic=FAULTY)
    seen = pushed_once.push("-u", "origin", "topic")
    assert (seen.code, seen.asked) == (0, 1)
    assert "topic：新分支" in seen.seen
    assert "topic.py:2" in seen.seen


def test_of_several_refs_each_commit_is_reviewed_once(pushed_once: Desk) -> None:
    for name in ("one", "two"):  # the second stands on the first
        pushed_once.git("switch", "-q", "-c", name)
        pushed_once.commit(**{name: FAULTY.replace("run", name)})
    pushed_once.git("tag", "v2")
    seen = pushed_once.push("origin", "one", "two", "v2", "main:copy")
    assert (seen.code, seen.asked) == (0, 2)
    assert seen.seen.count("one.py:2") == seen.seen.count("two.py:2") == 1
    assert "v2：标签没有带来新的提交" in seen.seen
    assert "copy：没有新的提交" in seen.seen


def test_one_bad_ref_of_several_ends_the_push_of_all(pushed_once: Desk) -> None:
    pushed_once.git("branch", "fine")
    pushed_once.commit(faulty=FAULTY)
    pushed_once.git("switch", "-q", "fine")
    pushed_once.commit(fine=CLEAN)
    seen = pushed_once.push("origin", "main", "fine", REVIEW_AGENT_FAIL_ON="low")
    assert (seen.code, pushed_once.remote("fine")) == (1, "")


@pytest.mark.parametrize("annotated", [True, False])
def test_a_tag_with_new_commits_is_reviewed(pushed_once: Desk, annotated: bool) -> None:
    pushed_once.git("switch", "-q", "--detach")
    pushed_once.commit(faulty=FAULTY)
    pushed_once.git("tag", *(("-a", "-m", "x") if annotated else ()), "v3")
    seen = pushed_once.push("origin", "v3", REVIEW_AGENT_FAIL_ON="low")
    assert seen.code == 1
    assert "v3：标签带有新的提交" in seen.seen


def test_a_forced_push_is_reviewed_from_the_fork(pushed_once: Desk) -> None:
    pushed_once.commit(wrong=FAULTY)
    pushed_once.git("push", "-q", "--no-verify", "origin", "main")
    pushed_once.git("reset", "-q", "--hard", "HEAD~1")
    pushed_once.commit(right=FAULTY.replace("run", "right"))
    seen = pushed_once.push("--force", "origin", "main")
    assert seen.code == 0
    assert "main：强制推送" in seen.seen
    assert "right.py:2" in seen.seen
    assert "wrong.py" not in seen.seen


@pytest.mark.parametrize(
    ("lines", "on_error", "code"),
    [
        ("nonsense\n", "allow", 0),
        ("nonsense\n", "block", 1),
        ("refs/heads/x abc refs/heads/x def\n", "block", 1),
        ("\x1b[2J \udcff\n", "block", 1),
    ],
)
def test_lines_that_are_none_of_gits(pushed_once: Desk, lines: str, on_error: str, code: int) -> None:
    done = pushed_once.cli.run(
        "hook", "run", "pre-push", "origin", "url", cwd=pushed_once.tree,
        stdin=lines.encode("utf-8", "surrogateescape"), REVIEW_AGENT_ON_ERROR=on_error,
    )  # fmt: skip
    assert done.returncode == code
    assert "读不懂" in done.stderr.decode()
    assert b"\x1b" not in done.stderr


def test_skipping_counts_wherever_the_words_stand(pushed_once: Desk) -> None:
    words = ("--lang", "en", "hook", "run", "pre-push", "origin")
    done = pushed_once.cli.run(*words, stdin=b"nonsense", REVIEW_AGENT_ON_ERROR="block", **SKIP)
    assert (done.returncode, b"skipped by" in done.stderr) == (0, True)


def test_skipping_is_for_the_hook_only(cli: Cli) -> None:
    assert "还没有运行记录" in cli.run("runs", "list", **SKIP).stderr.decode()


def test_skipping_imports_next_to_nothing(pushed_once: Desk) -> None:
    program = Path(sys.executable).parent / "review-agent"
    argv = [sys.executable, "-X", "importtime", str(program), "hook", "run", "pre-push", "origin", "url"]
    done = subprocess.run(argv, env=pushed_once.environment(**SKIP), capture_output=True)
    loaded = done.stderr.decode()
    assert "review_agent.prompts" in loaded
    assert not [name for name in ("click", "pydantic", "agent.cli", "git.cmd") if f" {name}" in loaded]


def test_without_a_store_nothing_is_promised(pushed_once: Desk) -> None:
    pushed_once.commit(one=FAULTY, two=FAULTY.replace("run", "two"))
    off = {"REVIEW_AGENT_CHECKPOINT_ENABLED": "false", "REVIEW_AGENT_MAX_FILES": "1"}
    seen = pushed_once.push("origin", "main", **off)
    assert seen.code == 0
    assert "review-agent resume" not in seen.seen
    assert "review-agent report" not in seen.seen
    assert "可以重试：`review-agent run --from" in seen.seen


@pytest.mark.parametrize("words", [("--no-such",), ("pre-commit",), (), ("pre-push", "a", "b", "c")])
def test_what_cannot_be_understood_is_one_not_two(pushed_once: Desk, words: tuple[str, ...]) -> None:
    assert pushed_once.cli.run("hook", "run", *words, cwd=pushed_once.tree).returncode == 1


def test_a_git_directory_of_another_repository_is_not_reviewed(pushed_once: Desk, tmp_path: Path) -> None:
    other = tmp_path / "other"
    pushed_once.git("init", "-q", other, at=tmp_path)
    pushed_once.commit(faulty=FAULTY)
    git_dir = str(pushed_once.tree / ".git")
    seen = pushed_once.push("origin", "main", at=other, GIT_DIR=git_dir, REVIEW_AGENT_ON_ERROR="block")
    assert (seen.code, seen.asked) == (1, 0)
    assert "不是它" in seen.seen


def test_a_word_with_blanks_is_pushed(pushed_once: Desk) -> None:
    pushed_once.commit(faulty=FAULTY)
    seen = pushed_once.push("origin", ":/c:refs/heads/分支", REVIEW_AGENT_FAIL_ON="low")
    assert seen.code == 1
    assert "分支：新分支" in seen.seen
