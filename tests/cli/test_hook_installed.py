"""The installed hook: where git looks for it, what else stands there, and what it does when ours is gone."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from pushing import CLEAN, FAULTY, SKIP, Desk, script


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
    assert ("原有的推送钩子（pre-push.before-review-agent）没有通过" in seen.seen) == bool(code)
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
        ("../common", "../common", "不在这个仓库里"),
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
    assert desk.push("origin", "main", **SKIP).seen.count("跳过") == 1  # git ran it


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


@pytest.mark.parametrize(
    ("trouble", "on_error", "code"),
    [("gone", "allow", 0), ("gone", "block", 1), ("broken", "allow", 0), ("killed", "block", 1)],
)
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
    skipped = desk.push("origin", "main:other", **SKIP)
    assert (skipped.code, "重新安装" in skipped.seen) == (0, False)
    assert "已按 `REVIEW_AGENT_SKIP=1` 跳过" in skipped.seen


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


def test_another_hook_that_pushes_itself_gets_that_push_reviewed(desk: Desk) -> None:
    desk.commit(clean=CLEAN)
    desk.git("push", "-q", "origin", "main")
    hooks = desk.tree / ".git" / "hooks"
    script(hooks / "pre-push", '[ -z "$AGAIN" ] || exit 0\nAGAIN=1 git push origin side')
    desk.hook("install")
    desk.git("switch", "-q", "-c", "side")
    desk.commit(side=FAULTY)
    desk.git("switch", "-q", "main")
    desk.commit(more=CLEAN.replace("double", "more"))
    seen = desk.push("origin", "main")
    assert "side：新分支" in seen.seen
    assert "side.py:2" in seen.seen
    assert "main：新的提交" in seen.seen


def test_another_hook_put_over_ours_is_named_at_uninstall(pushed_once: Desk) -> None:
    hooks = pushed_once.tree / ".git" / "hooks"
    script(hooks / "pre-push.before-review-agent", "exit 0")
    script(hooks / "pre-push", "exit 0")
    seen = pushed_once.hook("uninstall")
    assert "不是 review-agent 的" in seen.seen
    assert "先前保留的钩子还在" in seen.seen


def test_nothing_of_the_repository_gets_into_our_python(pushed_once: Desk, tmp_path: Path) -> None:
    """Many have `PYTHONPATH=.`, and programs with a Python of their own set PYTHONHOME."""
    pushed_once.commit(click=f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    seen = pushed_once.push("origin", "main", PYTHONPATH=".", PYTHONHOME="/nowhere")
    assert (seen.code, seen.asked) == (0, 1)
    assert not (tmp_path / "ran").exists()


def test_a_strange_path_does_not_make_a_push_one_of_nothing(pushed_once: Desk) -> None:
    head = pushed_once.commit(faulty=FAULTY)
    done = subprocess.run(
        ["/bin/sh", pushed_once.tree / ".git" / "hooks" / "pre-push", "origin", "url"], cwd=pushed_once.tree,
        env=pushed_once.environment(PATH="/nowhere", REVIEW_AGENT_ON_ERROR="block"), capture_output=True,
        input=f"refs/heads/main {head} refs/heads/main {pushed_once.remote('main')}\n".encode(),
    )  # fmt: skip
    assert (done.returncode, b"not found" in done.stderr) == (1, False)  # there is no git to ask


@pytest.mark.parametrize("given", ["--git-dir={tree}/.git --work-tree={tree}", "-C {tree}"])
def test_a_push_from_another_folder(pushed_once: Desk, tmp_path: Path, given: str) -> None:
    pushed_once.commit(faulty=FAULTY)
    words = given.format(tree=pushed_once.tree).split(" ")
    seen = pushed_once.see("git", *words, "push", "origin", "main", at=tmp_path)
    assert (seen.code, seen.asked) == (0, 1)
    assert "faulty.py:2" in seen.seen


def test_a_bare_repository_is_refused(pushed_once: Desk) -> None:
    seen = pushed_once.hook("install", at=pushed_once.bare)
    assert (seen.code, "裸仓库" in seen.seen) == (2, True)
    assert not (pushed_once.bare / "hooks" / "pre-push").exists()


@pytest.mark.parametrize(("on_error", "code"), [("allow", 0), ("block", 1)])
def test_a_push_from_a_bare_repository(pushed_once: Desk, tmp_path: Path, on_error: str, code: int) -> None:
    """Where `core.hooksPath` of the user is for all repositories."""
    pushed_once.git("config", "--global", "core.hooksPath", pushed_once.tree / ".git" / "hooks")
    pushed_once.git("init", "-q", "--bare", tmp_path / "empty.git")
    other = str(tmp_path / "empty.git")
    seen = pushed_once.push(other, "main", at=pushed_once.bare, REVIEW_AGENT_ON_ERROR=on_error)
    assert (seen.code, "是裸仓库" in seen.seen) == (code, True)


def test_what_no_push_could_be_reviewed_from_is_said_at_once(pushed_once: Desk, tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    pushed_once.git("init", "-q", "--separate-git-dir", tmp_path / "apart.git", apart, at=tmp_path)
    seen = pushed_once.hook("install", at=apart)
    assert (seen.code, "allowed_directories" in seen.seen) == (2, True)
    assert not (tmp_path / "apart.git" / "hooks" / "pre-push").exists()
