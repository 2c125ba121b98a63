"""The hook through the pre-commit framework: its own validator, its own `install`, and real `git push`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from driver import ROOT, Cli, Server, free_port
from pushing import FAULTY, Desk, copied, make_desk

MANIFEST = ROOT / ".pre-commit-hooks.yaml"
PRE_COMMIT = str(Path(sys.executable).parent / "pre-commit")
CONFIG = """repos:
- repo: {repo}
  rev: v1
  hooks:
  - id: review-agent-system
"""


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory, eval_server: Server) -> Desk:
    """pre-commit is installed for pushes, with our manifest from a repository on this machine."""
    folder = tmp_path_factory.mktemp("pre-commit")
    (folder / "home").mkdir()
    desk = make_desk(Cli(folder / "home"), folder, eval_server)
    desk.env["PRE_COMMIT_HOME"] = str(folder / "home" / "pre-commit")
    desk.env["PRE_COMMIT_COLOR"] = "never"
    hooks = folder / "hooks"
    hooks.mkdir()
    shutil.copy(MANIFEST, hooks)
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "hooks"), ("tag", "v1")):
        desk.git(*words, at=hooks)
    (desk.tree / ".pre-commit-config.yaml").write_text(CONFIG.format(repo=hooks))
    assert desk.see(PRE_COMMIT, "install", "--hook-type", "pre-push").code == 0
    assert desk.see(PRE_COMMIT, "install-hooks").code == 0
    return desk


@pytest.fixture
def desk(hooked: Desk, tmp_path: Path) -> Desk:
    return copied(hooked, tmp_path)


@pytest.fixture
def pushed_once(desk: Desk) -> Desk:
    desk.commit(clean="A = 1\n")
    desk.git("push", "-q", "--no-verify", "origin", "main")
    return desk


def test_pre_commit_itself_finds_the_manifest_valid() -> None:
    done = subprocess.run([PRE_COMMIT, "validate-manifest", str(MANIFEST)], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_both_hooks_are_for_pushes_and_see_them_whole() -> None:
    from pre_commit.clientlib import load_manifest

    hooks = {hook["id"]: hook for hook in load_manifest(MANIFEST)}
    assert {name: hook["language"] for name, hook in hooks.items()} == {
        "review-agent": "python",
        "review-agent-system": "unsupported",  # what pre-commit calls `system` by now
    }
    for hook in hooks.values():
        assert hook["entry"] == "review-agent hook run pre-push"
        assert hook["stages"] == ["pre-push"]
        flags = ("pass_filenames", "always_run", "require_serial", "verbose")
        assert [hook[flag] for flag in flags] == [False, True, True, True]


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({}, 0, "[中等] faulty.py:2"),
        ({"REVIEW_AGENT_FAIL_ON": "medium"}, 1, "已拦截推送"),
        ({"REVIEW_AGENT_FAIL_ON": "medium", "REVIEW_AGENT_SKIP": "1"}, 0, "已按 `REVIEW_AGENT_SKIP=1` 跳过"),
    ],
)
def test_new_commits(pushed_once: Desk, variables: dict[str, str], code: int, said: str) -> None:
    pushed_once.commit(faulty=FAULTY)
    seen = pushed_once.push("origin", "main", **variables)
    assert seen.code == code
    assert said in seen.seen


def test_a_clean_push(pushed_once: Desk) -> None:
    pushed_once.commit(more="B = 2\n")
    seen = pushed_once.push("origin", "main")
    assert (seen.code, seen.asked) == (0, 1)
    assert "main：新的提交" in seen.seen
    assert "结论：通过" in seen.seen


@pytest.mark.parametrize(("on_error", "code"), [("allow", 0), ("block", 1)])
def test_no_reviewer(pushed_once: Desk, on_error: str, code: int) -> None:
    pushed_once.env["REVIEW_AGENT_BASE_URL"] = f"http://127.0.0.1:{free_port()}"
    pushed_once.commit(faulty=FAULTY)
    variables = {"REVIEW_AGENT_BACKEND": "ollama", "REVIEW_AGENT_ON_ERROR": on_error}
    seen = pushed_once.push("origin", "main", **variables)
    assert seen.code == code
    assert f'`on_error = "{on_error}"`' in seen.seen


def test_the_first_push_of_everything(desk: Desk) -> None:
    desk.commit(faulty=FAULTY)
    seen = desk.push("origin", "main", REVIEW_AGENT_FAIL_ON="low")
    assert seen.code == 1
    assert "第一次推送" in seen.seen


def test_a_new_branch_a_tag_and_a_deletion(pushed_once: Desk) -> None:
    pushed_once.git("switch", "-q", "-c", "topic")
    pushed_once.commit(faulty=FAULTY)
    branch = pushed_once.push("origin", "topic")
    assert "topic：新分支" in branch.seen or "topic：新的提交" in branch.seen
    assert "faulty.py:2" in branch.seen
    pushed_once.git("tag", "v1")
    for what in ("v1", ":v1"):
        seen = pushed_once.push("origin", what)
        assert (seen.code, seen.asked) == (0, 0)


def test_a_forced_push(pushed_once: Desk) -> None:
    pushed_once.commit(wrong=FAULTY)
    pushed_once.git("push", "-q", "--no-verify", "origin", "main")
    pushed_once.git("reset", "-q", "--hard", "HEAD~1")
    pushed_once.commit(right=FAULTY.replace("run", "right"))
    seen = pushed_once.push("--force", "origin", "main")
    assert "main：强制推送" in seen.seen
    assert "right.py:2" in seen.seen
    assert "wrong.py" not in seen.seen


def test_beside_a_plain_hook_of_ours(desk: Desk) -> None:
    """`hook install` keeps pre-commit's hook; what that reviewed is not asked again."""
    assert desk.hook("install").code == 0
    desk.commit(faulty=FAULTY)
    seen = desk.push("origin", "main")
    assert (seen.code, seen.asked) == (0, 1)
