"""Nothing that a repository or the environment asks for is obeyed, and nothing of a repository is written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from gitrepo import Repo, make_repo, opened

from review_agent.agent.errors import GitError


@pytest.fixture
def canary(repo: Repo, tmp_path: Path) -> Path:
    """The file that appears when anything the repository asks for is run; everything asks for it."""
    trace = tmp_path / "canary"
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\necho $0 $@ >> {trace}\ncat\n")
    script.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for hook in (
        "post-index-change",
        "pre-commit",
        "post-checkout",
        "fsmonitor-watchman",
        "reference-transaction",
    ):
        for folder in (hooks, repo.path / ".git" / "hooks"):
            shutil.copy(script, folder / hook)
    repo.commit({"a.py": "1\n", ".gitattributes": "* diff=evil filter=evil merge=evil\n", "b.py": "1\n"})
    repo.write("a.py", "2\n")
    inner = make_repo(repo.path / "sub")
    inner.commit({"x": "1\n"})
    for target in (repo, inner):
        for name in (
            "core.fsmonitor", "core.pager", "core.editor", "core.sshCommand", "core.askPass", "diff.external",
            "diff.evil.command", "diff.evil.textconv", "filter.evil.clean", "filter.evil.smudge",
            "filter.evil.process", "gpg.program", "credential.helper", "core.gitProxy", "interactive.diffFilter",
        ):  # fmt: skip
            target.git("config", name, str(script))
        for name in ("diff", "ls-files", "log", "cat-file", "rev-parse", "merge-base", "rev-list", "ls-tree"):
            target.git("config", f"alias.{name}", f"!{script}")
        target.git("config", "core.hooksPath", str(hooks))
        target.git("config", "filter.evil.required", "true")
        target.git("config", "log.showSignature", "true")
        target.git("config", "core.worktree", "/")
    trace.unlink(missing_ok=True)
    return trace


def use_everything(repo: Repo) -> list[bytes]:
    with opened(repo) as git:
        head = git.resolve("HEAD")
        outputs = [
            git.diff(head, work_tree=True),
            git.diff(head, cached=True),
            git.diff(git.empty_tree, head),
            repr(git.listed()).encode(),
            repr(git.unmerged()).encode(),
            repr(sorted(git.churn().items())).encode(),
            repr(git.file_at(head, "a.py", 100)).encode(),
            repr((git.parents(head), git.merge_base(head, head), git.unreadable(head, head))).encode(),
        ]
        outputs.append(repr(git.blobs([entry.blob for entry in git.listed()], 100)).encode())
        return outputs


def test_nothing_that_a_repository_asks_for_is_run(repo: Repo, canary: Path) -> None:
    outputs = use_everything(repo)
    assert not canary.exists()
    assert b"+2\n" in outputs[0]
    assert b"evil" in outputs[2]  # .gitattributes as text
    repo.git("--work-tree=.", "diff", ok=(0, 128))
    assert canary.exists()  # git itself is obedient, so the test can fail


def test_nothing_is_written(repo: Repo, canary: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in sorted(repo.path.rglob("*"))}

    before = state()
    use_everything(repo)
    assert state() == before


def test_the_callers_environment_changes_nothing(
    repo: Repo, tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = use_everything(repo)
    other = make_repo(tmp_path / "other")
    other.commit({"other": "x\n"})
    script = str(tmp_path / "evil.sh")
    for name, value in {
        "GIT_DIR": str(other.path / ".git"),
        "GIT_WORK_TREE": str(other.path),
        "GIT_INDEX_FILE": str(other.path / ".git" / "index"),
        "GIT_OBJECT_DIRECTORY": str(tmp_path),
        "GIT_EXTERNAL_DIFF": script,
        "GIT_PAGER": script,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "diff.external",
        "GIT_CONFIG_VALUE_0": script,
        "GIT_CONFIG_PARAMETERS": "'diff.noprefix'='true'",
        "GIT_DIFF_OPTS": "-u0",
        "GIT_TRACE": str(tmp_path / "trace"),
        "GIT_PREFIX": "sub/",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NAMESPACE": "x",
        "GIT_DEFAULT_HASH": "sha256",
    }.items():
        monkeypatch.setenv(name, value)
    assert use_everything(repo) == expected
    assert not canary.exists()
    assert not (tmp_path / "trace").exists()
    assert os.environ["GIT_DIR"] == str(other.path / ".git")  # and the caller's variables are still there


@pytest.mark.parametrize(
    "setting", ["diff.noprefix", "diff.mnemonicPrefix", "core.bare", "diff.ignoreSubmodules"]
)
def test_settings_of_the_repository_change_nothing(repo: Repo, setting: str) -> None:
    repo.commit({"a": "1\n"})
    repo.write("a", "2\n")
    with opened(repo) as git:
        expected = git.diff(git.resolve("HEAD"), work_tree=True)
    repo.git("config", setting, "true" if setting != "diff.ignoreSubmodules" else "all")
    with opened(repo) as git:
        assert git.diff(git.resolve("HEAD"), work_tree=True) == expected
    assert b"--- a/a\n+++ b/a\n" in expected


@pytest.mark.parametrize("attribute", ["-diff", "binary", "diff=none -text"])
def test_attributes_cannot_hide_code(repo: Repo, attribute: str) -> None:
    first = repo.commit({"a.py": "1\n", ".gitattributes": f"*.py {attribute}\n"})
    second = repo.commit({"a.py": "2\n"})
    repo.write("a.py", "3\n")
    with opened(repo) as git:
        assert b"+2\n" in git.diff(first, second)
        assert b"+3\n" in git.diff(second, work_tree=True)


def test_the_private_folder_is_removed(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.commit({"a": "1\n"})
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with opened(repo) as git:
        git.head()
        assert len(list(place.iterdir())) == 1
    assert list(place.iterdir()) == []
    repo.git("config", "extensions.refStorage", "reftable")
    with pytest.raises(GitError) as caught:
        opened(repo)
    assert (caught.value.key, list(place.iterdir())) == ("git_reftable", [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_a_repository_of_another_user_is_read_and_not_obeyed(repo: Repo, canary: Path) -> None:
    """git itself refuses it (`safe.directory`) because it would obey it; we need no exception for that."""
    for path in (repo.path, *repo.path.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    refusal = subprocess.run(["git", "status"], cwd=repo.path, capture_output=True, text=True)
    assert "dubious ownership" in refusal.stderr
    outputs = use_everything(repo)
    assert b"+2\n" in outputs[0]
    assert not canary.exists()


@pytest.mark.parametrize(
    "config",
    [
        b"[core]\n" + b"\tx = " + b"y" * 5_000_000 + b"\n",
        b"[diff]\n" * 500_000,
        b"\0" * 100_000,
        b"[core\n\xff\xfe",
        b"[extensions]\n\tobjectFormat = md5\n",
        b"[include]\n\tpath = config\n",
        b"",
        b"[core]\n\trepositoryFormatVersion = 999\n[extensions]\n\tunknown = 1\n",
    ],
    ids=["long", "many", "nul", "broken", "format", "loop", "empty", "future"],
)
def test_a_configuration_is_never_read_by_git(repo: Repo, config: bytes) -> None:
    commit = repo.commit({"a": "1\n"})
    repo.write(".git/config", config)
    started = time.monotonic()
    with opened(repo) as git:
        assert (git.head(), [entry.path for entry in git.listed()]) == (commit, ["a"])
    assert time.monotonic() - started < 5


def test_a_git_directory_too_large_to_copy_is_refused(repo: Repo) -> None:
    repo.commit({"a": "1\n"})
    os.truncate(repo.path / ".git" / "index", 2**40)  # sparse: it takes no room here
    with pytest.raises(GitError) as caught:
        opened(repo)
    assert (caught.value.key, caught.value.fields["detail"]) == ("git_unreadable", "File too large")


def test_the_users_own_ignore_file_is_heeded(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.write("mine.local", "x\n")
    repo.write("new", "x\n")
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "git"
    folder.mkdir(parents=True)
    (folder / "ignore").write_text("*.local\n")
    with opened(repo) as git:
        assert git.untracked() == ["new"]
    monkeypatch.delenv("XDG_CONFIG_HOME")
    with opened(repo) as git:
        assert git.untracked() == ["mine.local", "new"]
    (Path.home() / ".config" / "git").mkdir(parents=True)
    (Path.home() / ".config" / "git" / "ignore").write_text("new\n")
    with opened(repo) as git:
        assert git.untracked() == ["mine.local"]


def test_links_and_locks_among_refs_are_passed_over(repo: Repo, tmp_path: Path) -> None:
    commit = repo.commit({"a": "1\n"})
    (tmp_path / "outside").write_text(f"{commit}\n")
    heads = repo.path / ".git" / "refs" / "heads"
    (heads / "link").symlink_to(tmp_path / "outside")
    (heads / "x.lock").write_text("")
    (heads / "folder").symlink_to(tmp_path)
    with opened(repo) as git:
        assert git.resolve("main") == commit
        with pytest.raises(GitError):
            git.resolve("link")


def test_an_unreadable_repository_is_refused(repo: Repo) -> None:
    repo.commit({"a": "1\n"})
    os.mkfifo(repo.path / ".git" / "refs" / "heads" / "pipe")
    with pytest.raises(GitError) as caught:
        opened(repo)
    assert caught.value.key == "git_unreadable"


def test_without_git_there_is_one_clear_error(repo: Repo, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from review_agent.agent.errors import GitError\n"
        "from review_agent.tools.git import Repository, find\n"
        "try:\n    Repository(find(Path(sys.argv[1]))).head()\n"
        "except GitError as exc:\n    print(exc.key)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(repo.path)],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("git_missing\n", "")
