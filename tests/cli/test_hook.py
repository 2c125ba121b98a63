"""The pre-push hook under real `git push`: what the user sees, what goes through, what the model is asked."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from driver import ROOT, Cli, Server
from pushing import Desk, make_desk

Start = Callable[..., Server]
GOLDEN = ROOT / "tests" / "golden" / "push.zh-CN.txt"
CLEAN = "def double(number: int) -> int:\n    return number * 2\n"
FAULTY = "def run(text: str) -> object:\n    return eval(text)\n"
SKIP = {"REVIEW_AGENT_SKIP": "1"}


@pytest.fixture
def desk(cli: Cli, start_server: Start, tmp_path: Path) -> Desk:
    """The model finds something wherever there is an `eval`."""
    return make_desk(cli, tmp_path, start_server(review="eval"))


@pytest.fixture
def pushed_once(desk: Desk) -> Desk:
    """The hook is installed, and `main` is at the other side."""
    desk.commit(clean=CLEAN)
    desk.git("push", "-q", "origin", "main")
    assert desk.hook("install").code == 0
    return desk


def script(path: Path, text: str, mode: int = 0o755) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path.read_bytes()


def test_transcript(desk: Desk) -> None:
    server = desk.server
    assert server is not None
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
        ({}, 0),
        ({"REVIEW_AGENT_FAIL_ON": "high"}, 0),
        ({"REVIEW_AGENT_FAIL_ON": "medium"}, 1),
        ({"REVIEW_AGENT_FAIL_ON": "medium", **SKIP}, 0),
        ({"REVIEW_AGENT_FAIL_ON": "medium", "REVIEW_AGENT_SKIP": "0"}, 1),
    ],
)
def test_findings(pushed_once: Desk, variables: dict[str, str], code: int) -> None:
    before = pushed_once.remote("main")
    head = pushed_once.commit(faulty=FAULTY)
    seen = pushed_once.push("origin", "main", **variables)
    assert seen.code == code
    assert pushed_once.remote("main") == (before if code else head)
    assert ("[中等] faulty.py:2" in seen.seen) == (variables.get("REVIEW_AGENT_SKIP") != "1")
    assert ("`git push --no-verify`" in seen.seen) == bool(code)
    assert ("`REVIEW_AGENT_SKIP=1 git push`" in seen.seen) == bool(code)


def test_a_repository_may_ask_for_a_stricter_gate_and_not_by_what_is_pushed(pushed_once: Desk) -> None:
    config = pushed_once.tree / ".review-agent.toml"
    config.write_text('fail_on = "low"\n')
    pushed_once.commit(faulty=FAULTY)
    assert pushed_once.push("origin", "main").code == 0
    pushed_once.commit(other=FAULTY)
    assert pushed_once.push("origin", "main").code == 1


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({}, 0, "按 `on_error = \"allow\"` 放行"),
        ({"REVIEW_AGENT_ON_ERROR": "block"}, 1, "`on_error = \"block\"`"),
        ({"REVIEW_AGENT_ON_ERROR": "block", **SKIP}, 0, "REVIEW_AGENT_SKIP=1"),
    ],
)  # fmt: skip
def test_no_reviewer(pushed_once: Desk, variables: dict[str, str], code: int, said: str) -> None:
    assert pushed_once.server is not None
    pushed_once.server.stop()
    pushed_once.commit(faulty=FAULTY)
    seen = pushed_once.push("origin", "main", REVIEW_AGENT_BACKEND="ollama", **variables)
    assert seen.code == code
    assert said in seen.seen


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


def test_time_is_bounded_for_all_refs_together(pushed_once: Desk) -> None:
    assert pushed_once.server is not None
    pushed_once.server.configure(fault="hang")
    pushed_once.git("branch", "other")
    pushed_once.commit(one=FAULTY)
    pushed_once.git("switch", "-q", "other")
    pushed_once.commit(two=FAULTY.replace("run", "two"))
    blocked = {"REVIEW_AGENT_MAX_SECONDS": "4", "REVIEW_AGENT_ON_ERROR": "block"}
    seen = pushed_once.push("origin", "main", "other", **blocked)
    assert (seen.code, pushed_once.remote("other")) == (1, "")
    assert seen.seconds < 30
    assert seen.seen.count("到了时间或数量上限") == 2


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


@pytest.mark.parametrize("code", [0, 3])
def test_another_hook_runs_first_with_the_same_input(desk: Desk, code: int) -> None:
    desk.commit(faulty=FAULTY)
    hook = desk.tree / ".git" / "hooks" / "pre-push"
    text = script(hook, f'cat > seen; printf "%s|" "$@" > args; exit {code}', 0o751)
    assert "原有的钩子保留为" in desk.hook("install").seen
    seen = desk.push("origin", "main")
    assert (seen.code, seen.asked) == ((1, 0) if code else (0, 1))
    head = desk.git("rev-parse", "HEAD")
    assert (desk.tree / "seen").read_text() == f"refs/heads/main {head} refs/heads/main {'0' * 40}\n"
    assert (desk.tree / "args").read_text() == f"origin|{desk.bare}|"
    assert "已恢复" in desk.hook("uninstall").seen
    assert hook.read_bytes() == text
    assert stat.S_IMODE(hook.stat().st_mode) == 0o751


def test_a_hook_that_reads_nothing_does_no_harm(desk: Desk) -> None:
    desk.commit(faulty=FAULTY)
    script(desk.tree / ".git" / "hooks" / "pre-push", "exit 0")
    desk.hook("install")
    assert "faulty.py:2" in desk.push("origin", "main").seen


def test_a_linked_work_tree(pushed_once: Desk, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    pushed_once.git("worktree", "add", "-q", "-b", "topic", linked)
    assert "已经装好" in pushed_once.hook("install", at=linked).seen
    (linked / "faulty.py").write_text(FAULTY)
    pushed_once.git("add", "-A", at=linked)
    pushed_once.git("commit", "-q", "-m", "c", at=linked)
    seen = pushed_once.push("origin", "topic", at=linked, REVIEW_AGENT_FAIL_ON="low")
    assert seen.code == 1
    assert "faulty.py:2" in seen.seen


def test_a_submodule(pushed_once: Desk, tmp_path: Path) -> None:
    pushed_once.git("init", "-q", tmp_path / "above", at=tmp_path)
    above = tmp_path / "above"
    pushed_once.git("submodule", "--quiet", "add", pushed_once.bare, "sub", at=above)
    assert pushed_once.hook("install", at=above / "sub").code == 0
    assert (above / ".git" / "modules" / "sub" / "hooks" / "pre-push").is_file()
    (above / "sub" / "faulty.py").write_text(FAULTY)
    pushed_once.git("add", "-A", at=above / "sub")
    pushed_once.git("commit", "-q", "-m", "c", at=above / "sub")
    seen = pushed_once.push("origin", "main", at=above / "sub", REVIEW_AGENT_FAIL_ON="low")
    assert seen.code == 1


@pytest.mark.parametrize(
    ("configured", "folder", "said"),
    [
        ("hooks", "hooks", "指向仓库里的文件夹"),
        ("../shared", "../shared", "不在这个仓库里"),
        (".git/other", ".git/other", "下次 `git push`"),
        (".husky/_", ".husky", "指向仓库里的文件夹"),
    ],
)
def test_where_hooks_are_configured_to_be(desk: Desk, configured: str, folder: str, said: str) -> None:
    desk.git("config", "core.hooksPath", configured)
    (desk.tree / configured).mkdir(parents=True)
    if folder == ".husky":  # what husky 9 writes there
        script(desk.tree / configured / "pre-push", 'sh -e "$(dirname "$(dirname "$0")")/pre-push" "$@"')
    assert said in desk.hook("install").seen
    assert (desk.tree / folder / "pre-push").is_file()
    desk.commit(faulty=FAULTY)
    seen = desk.push("origin", "main", REVIEW_AGENT_FAIL_ON="low")
    assert (seen.code, seen.asked) == (1, 1)


def test_husky_runs_files_that_are_not_executable(desk: Desk) -> None:
    desk.git("config", "core.hooksPath", ".husky/_")
    script(desk.tree / ".husky" / "_" / "pre-push", 'sh -e "$(dirname "$(dirname "$0")")/pre-push" "$@"')
    script(desk.tree / ".husky" / "pre-push", "false; exit 0", 0o644)
    desk.hook("install")
    desk.commit(faulty=FAULTY)
    seen = desk.push("origin", "main")
    assert (seen.code, seen.asked) == (1, 0)


def test_a_changed_hook_is_not_touched(pushed_once: Desk) -> None:
    hook = pushed_once.tree / ".git" / "hooks" / "pre-push"
    hook.write_text(hook.read_text() + "echo mine\n")
    text = hook.read_bytes()
    for word in ("install", "uninstall"):
        seen = pushed_once.hook(word)
        assert (seen.code, "被人改过" in seen.seen) == (2, True)
    assert hook.read_bytes() == text


@pytest.mark.parametrize(("on_error", "code"), [("allow", 0), ("block", 1)])
@pytest.mark.parametrize("trouble", ["gone", "broken", "killed"])
def test_when_the_program_does_not_run(
    desk: Desk, tmp_path: Path, trouble: str, on_error: str, code: int
) -> None:
    desk.commit(faulty=FAULTY)
    desk.hook("install", REVIEW_AGENT_ON_ERROR=on_error)
    hook = desk.tree / ".git" / "hooks" / "pre-push"
    program = tmp_path / "review-agent"
    if trouble != "gone":
        program.write_text("#!/no/such/python\n" if trouble == "broken" else "#!/bin/sh\nkill -9 $$\n")
        program.chmod(0o755)
    hook.write_text(hook.read_text().replace(desk.cli.argv()[0], str(program)))
    seen = desk.push("origin", "main")
    assert seen.code == code
    assert "重新安装后运行 `review-agent hook install`" in seen.seen
    assert desk.push("origin", "main", **SKIP).code == 0


def test_a_program_inside_the_repository_is_refused(desk: Desk) -> None:
    inside = desk.tree / "bin" / "review-agent"
    inside.parent.mkdir()
    shutil.copy(desk.cli.argv()[0], inside)
    seen = desk.see(str(inside), "hook", "install")
    assert seen.code == 2
    assert "之内" in seen.seen
    assert not (desk.tree / ".git" / "hooks" / "pre-push").exists()


def test_a_tool_that_takes_the_hook_over_and_calls_it(pushed_once: Desk) -> None:
    """As `pre-commit install` does; installed again, ours calls it, which calls ours."""
    hooks = pushed_once.tree / ".git" / "hooks"
    (hooks / "pre-push").rename(hooks / "pre-push.legacy")
    script(hooks / "pre-push", '"$(dirname "$0")/pre-push.legacy" "$@"')
    pushed_once.hook("install")
    pushed_once.commit(faulty=FAULTY)
    seen = pushed_once.push("origin", "main")
    assert (seen.code, seen.asked, seen.seen.count("faulty.py:2")) == (0, 1, 1)


@pytest.mark.parametrize("lines", ["nonsense\n", "refs/heads/x abc refs/heads/x def\n", "\x1b[2J \udcff\n"])
@pytest.mark.parametrize(("on_error", "code"), [("allow", 0), ("block", 1)])
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
