"""Where hooks are, and what becomes of one that stands there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from gitrepo import Repo, make_repo

from review_agent.agent.errors import GitError, UsageError
from review_agent.tools.git_hooks import (
    KEPT,
    MARK,
    Done,
    Place,
    State,
    install,
    place_of,
    signed,
    state_of,
    uninstall,
)

SCRIPT = signed(b"#!/bin/sh\nexit 0\n")
OTHER = signed(b"#!/bin/sh\nexit 1\n")


def place(folder: Path) -> Place:
    return Place(folder / ".git" / "hooks", folder / ".git", folder)


def env(**extra: str) -> dict[str, str]:
    return {**os.environ, **extra}


@pytest.mark.parametrize(
    ("content", "state"),
    [
        (None, State.ABSENT),
        (SCRIPT, State.OURS),
        (OTHER, State.OURS),
        (SCRIPT + b"\n", State.EDITED),
        (SCRIPT.replace(b"exit 0", b"exit 1"), State.EDITED),
        (b"#!/bin/sh\n# mine\n" + SCRIPT, State.EDITED),
        (b"#!/bin/sh\nexit 0\n", State.FOREIGN),
        (b"", State.FOREIGN),
        (b"\x7fELF" + bytes(100_000), State.FOREIGN),
    ],
)
def test_states(tmp_path: Path, content: bytes | None, state: State) -> None:
    hook = tmp_path / "pre-push"
    if content is not None:
        hook.write_bytes(content)
    assert state_of(hook) is state


def test_a_link_is_never_ours(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(SCRIPT)
    (tmp_path / "pre-push").symlink_to("target")
    assert state_of(tmp_path / "pre-push") is State.FOREIGN


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    hook = tmp_path / "pre-push"
    if kind == "folder":
        hook.mkdir()
    elif kind == "pipe":
        os.mkfifo(hook)
    with pytest.raises(UsageError) as caught:
        state_of(hook if kind != "device" else Path(os.devnull))
    assert caught.value.key == "hook.no_file"


def test_install_and_uninstall_leave_nothing(tmp_path: Path) -> None:
    where = place(tmp_path)
    assert install(where, SCRIPT) is Done.INSTALLED
    assert install(where, SCRIPT) is Done.CURRENT
    assert install(where, OTHER) is Done.RENEWED
    assert where.hook.read_bytes() == OTHER
    assert stat.S_IMODE(where.hook.stat().st_mode) == 0o755
    assert uninstall(where) is Done.REMOVED
    assert uninstall(where) is Done.NONE
    assert list(where.folder.iterdir()) == []


def test_a_mode_that_was_changed_is_mended(tmp_path: Path) -> None:
    where = place(tmp_path)
    install(where, SCRIPT)
    where.hook.chmod(0o644)
    assert install(where, SCRIPT) is Done.RENEWED
    assert stat.S_IMODE(where.hook.stat().st_mode) == 0o755


@pytest.mark.parametrize("linked", [False, True])
def test_another_hook_comes_back_as_it_was(tmp_path: Path, linked: bool) -> None:
    where = place(tmp_path)
    where.folder.mkdir(parents=True)
    if linked:
        (where.folder / "real").write_bytes(b"x")
        where.hook.symlink_to("real")
    else:
        where.hook.write_bytes(b"\xff\x00\r\n")
        where.hook.chmod(0o511)
    before = os.lstat(where.hook)
    install(where, SCRIPT)
    assert os.lstat(where.folder / KEPT).st_ino == before.st_ino
    assert uninstall(where) is Done.RESTORED
    after = os.lstat(where.hook)
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)
    assert not os.path.lexists(where.kept)


def test_another_hook_comes_back_when_ours_was_deleted_by_hand(tmp_path: Path) -> None:
    where = place(tmp_path)
    where.folder.mkdir(parents=True)
    where.hook.write_bytes(b"x")
    install(where, SCRIPT)
    where.hook.unlink()
    assert uninstall(where) is Done.RESTORED
    assert where.hook.read_bytes() == b"x"


def test_uninstall_leaves_another_hook_alone(tmp_path: Path) -> None:
    where = place(tmp_path)
    where.folder.mkdir(parents=True)
    where.hook.write_bytes(b"x")
    assert uninstall(where) is Done.NOT_OURS
    assert where.hook.read_bytes() == b"x"


@pytest.mark.parametrize("kept", ["file", "dangling link"])
def test_two_other_hooks_are_left_alone(tmp_path: Path, kept: str) -> None:
    where = place(tmp_path)
    where.folder.mkdir(parents=True)
    where.hook.write_bytes(b"new")
    if kept == "file":
        where.kept.write_bytes(b"old")
    else:
        where.kept.symlink_to("nowhere")
    with pytest.raises(UsageError) as caught:
        install(where, SCRIPT)
    assert caught.value.key == "hook.two_foreign"
    assert where.hook.read_bytes() == b"new"
    assert os.path.lexists(where.kept)


@pytest.mark.parametrize("act", [lambda where: install(where, SCRIPT), uninstall])
def test_an_edited_one_is_left_alone(tmp_path: Path, act: object) -> None:
    where = place(tmp_path)
    install(where, SCRIPT)
    edited = SCRIPT + b"echo mine\n"
    where.hook.write_bytes(edited)
    with pytest.raises(UsageError) as caught:
        act(where)  # type: ignore[operator]
    assert caught.value.key == "hook.edited"
    assert where.hook.read_bytes() == edited


def test_the_mark_stands_once_and_after_the_first_line() -> None:
    assert SCRIPT.split(b"\n")[1].startswith(MARK.encode())
    assert SCRIPT.count(MARK.encode()) == 1


def test_the_usual_place(repo: Repo) -> None:
    (repo.path / "deep").mkdir()
    for folder in (repo.path, repo.path / "deep"):
        found = place_of(folder, env())
        assert (found.folder, found.top, found.in_tree, found.shared, found.husky) == (
            repo.path / ".git" / "hooks", repo.path, False, False, False,
        )  # fmt: skip


def test_a_bare_repository(tmp_path: Path) -> None:
    bare = make_repo(tmp_path / "bare", "--bare")
    found = place_of(bare.path, env())
    assert (found.folder, found.top) == (bare.path / "hooks", None)


def test_the_users_own_configuration_counts(repo: Repo, tmp_path: Path) -> None:
    config = tmp_path / "gitconfig"
    config.write_text("[core]\nhooksPath = ~/my-hooks\n")
    found = place_of(repo.path, env(GIT_CONFIG_GLOBAL=str(config), HOME=str(tmp_path)))
    assert (found.folder, found.shared) == (tmp_path / "my-hooks", True)


def test_git_dir_counts(repo: Repo, tmp_path: Path) -> None:
    found = place_of(tmp_path, env(GIT_DIR=str(repo.path / ".git"), GIT_WORK_TREE=str(tmp_path)))
    assert found.folder == repo.path / ".git" / "hooks"


def test_husky_is_known_by_its_folder(repo: Repo) -> None:
    repo.git("config", "core.hooksPath", ".husky/_")
    found = place_of(repo.path, env())
    assert (found.folder, found.husky, found.in_tree) == (repo.path / ".husky", True, True)


@pytest.mark.parametrize("stated", ["", os.devnull, "a-file"])
def test_where_git_runs_no_hooks_none_is_put(repo: Repo, stated: str) -> None:
    repo.write("a-file", "")
    repo.git("config", "core.hooksPath", stated)
    with pytest.raises(UsageError) as caught:
        place_of(repo.path, env())
    assert caught.value.key == "hook.no_folder"


def test_outside_of_any(tmp_path: Path) -> None:
    with pytest.raises(GitError) as caught:
        place_of(tmp_path, env(GIT_CEILING_DIRECTORIES=str(tmp_path.parent)))
    assert caught.value.key == "hook.no_repository"


def test_asking_runs_nothing_of_the_repository(repo: Repo, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    trap = repo.write("trap", f"#!/bin/sh\ntouch {ran}\n")
    trap.chmod(0o755)
    for name in ("core.fsmonitor", "core.pager", "core.editor", "alias.rev-parse", "diff.external"):
        value = f"!{trap}" if name.startswith("alias") else str(trap)
        repo.git("config", name, value)
    (repo.path / "git").symlink_to(trap)
    place_of(repo.path, env(PATH=f"{repo.path}:.:{os.environ['PATH']}"))
    assert not ran.exists()


def test_no_secret_of_the_environment_is_given_to_a_program(repo: Repo) -> None:
    repo.git("config", "alias.x", "x")
    from review_agent.tools.git_hooks import _program

    variables = _program(repo.path, env(ANTHROPIC_API_KEY="dummy", GIT_ASKPASS="x")).variables
    assert not [each for each in variables if each.startswith(("ANTHROPIC", "GIT_ASKPASS"))]
