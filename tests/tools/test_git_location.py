"""A repository's git directory is its own, or one that says so itself, or one that the user allows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from gitrepo import Repo, make_repo

from review_agent.agent.errors import GitError
from review_agent.tools.git import Location, Repository, find


@pytest.fixture
def private(tmp_path: Path) -> Repo:
    """Another repository of the user's, that a hostile one wants to be taken for."""
    repo = make_repo(tmp_path / "private")
    repo.commit({"secret.txt": "mine\n"})
    return repo


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    folder = tmp_path / "evil"
    folder.mkdir()
    return folder


def gitfile(evil: Path, target: Path) -> None:
    (evil / ".git").write_text(f"gitdir: {target}\n")


def hollow(evil: Path) -> Path:
    """A `.git` folder that looks like one."""
    git_dir = evil / ".git"
    for name in ("refs", "objects"):
        (git_dir / name).mkdir(parents=True)
    (git_dir / "HEAD").write_text("ref: refs/heads/main\n")
    return git_dir


def names_itself(folder: Path) -> None:
    (folder / "gitdir").write_text("../evil/.git\n")
    (folder / "config").write_text("[core]\n\tworktree = ../evil\n")


def as_a_file(evil: Path, private: Path) -> None:
    gitfile(evil, private / ".git")


def as_a_relative_file(evil: Path, private: Path) -> None:
    gitfile(evil, Path("../private/.git"))


def as_a_link(evil: Path, private: Path) -> None:
    (evil / ".git").symlink_to(private / ".git")


def as_a_linked_file(evil: Path, private: Path) -> None:
    (evil / "inner").write_text(f"gitdir: {private}/.git\n")
    (evil / ".git").symlink_to("inner")


def by_commondir(evil: Path, private: Path) -> None:
    (hollow(evil) / "commondir").write_text(f"{private}/.git\n")


def by_a_second_folder(evil: Path, private: Path) -> None:
    """The archive brings a git directory beside, which names the folder but takes all from elsewhere."""
    second = evil.parent / "second"
    second.mkdir()
    (second / "HEAD").write_text("ref: refs/heads/main\n")
    (second / "commondir").write_text("../private/.git\n")
    names_itself(second)
    gitfile(evil, second)


def as_its_worktree(evil: Path, private: Path) -> None:
    Repo(private).git("worktree", "add", "-q", "--detach", str(evil.parent / "side"))
    gitfile(evil, private / ".git" / "worktrees" / "side")


def by_a_false_worktree(evil: Path, private: Path) -> None:
    second = evil.parent / "worktrees" / "x"
    second.mkdir(parents=True)
    (second / "HEAD").write_text("ref: refs/heads/main\n")
    (second / "commondir").write_text(f"{private}/.git\n")
    (second / "gitdir").write_text(f"{evil}/.git\n")
    gitfile(evil, second)


def by_linked(name: str) -> Callable[[Path, Path], None]:
    def make(evil: Path, private: Path) -> None:
        part = hollow(evil) / name
        if part.is_dir():
            part.rmdir()
        part.unlink(missing_ok=True)
        part.symlink_to(private / ".git" / name)

    make.__name__ = f"by_linked_{name}"
    return make


ATTACKS = [
    as_a_file, as_a_relative_file, as_a_link, as_a_linked_file, by_commondir, by_a_second_folder,
    as_its_worktree, by_a_false_worktree, *map(by_linked, ("objects", "refs", "index", "HEAD", "config")),
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_another_repository_cannot_be_borrowed(
    private: Repo, evil: Path, attack: Callable[[Path, Path], None]
) -> None:
    attack(evil, private.path)
    with pytest.raises(GitError) as caught:
        find(evil)
    assert caught.value.key == "git_dir_elsewhere"
    assert caught.value.fields["path"] == str(evil)
    where = Path(str(caught.value.fields["where"]))
    assert not where.is_relative_to(evil)
    assert find(evil, [evil.parent]) is not None  # the user may say that it is theirs


def test_a_separate_git_directory_is_the_users_to_allow(tmp_path: Path) -> None:
    git_dir = tmp_path / "kept apart.git"
    repo = make_repo(tmp_path / "work", f"--separate-git-dir={git_dir}")
    repo.commit({"a": "1\n"})
    with pytest.raises(GitError, match="git_dir_elsewhere"):
        find(repo.path)
    location = find(repo.path, [git_dir])
    assert location == Location(repo.path, git_dir, git_dir)
    with Repository(location) as git:
        assert [entry.path for entry in git.listed()] == ["a"]


def test_a_git_directory_within_the_folder_is_its_own(tmp_path: Path) -> None:
    """The layout of a bare repository with worktrees beside it."""
    make_repo(tmp_path / "source").commit({"a": "1\n"})
    top = Repo(tmp_path / "top")
    top.path.mkdir()
    top.git("clone", "-q", "--bare", str(tmp_path / "source"), ".bare")
    gitfile(top.path, Path("./.bare"))
    top.git("worktree", "add", "-q", "side", "main")
    bare = top.path / ".bare"
    assert find(top.path) == Location(top.path, bare, bare)
    assert find(top.path / "side") == Location(top.path / "side", bare / "worktrees" / "side", bare)


def test_worktrees_and_submodules_below_links(repo: Repo, tmp_path: Path) -> None:
    """Their git directories name them by real paths; we may have come through a link."""
    commit = make_repo(tmp_path / "inner").commit({"x": "1\n"})
    repo.git("submodule", "add", "-q", str(tmp_path / "inner"), "sub")
    repo.commit()
    repo.git("worktree", "add", "-q", str(tmp_path / "side"))
    (tmp_path / "way").symlink_to(tmp_path)
    for folder in (tmp_path / "way" / "side", tmp_path / "way" / "repo" / "sub"):
        location = find(folder)
        assert location is not None
        with Repository(location) as git:
            assert git.head() == (commit if folder.name == "sub" else repo.git("rev-parse", "side").strip())


def test_a_submodule_that_was_moved_by_hand_is_refused(repo: Repo, tmp_path: Path) -> None:
    make_repo(tmp_path / "inner").commit({"x": "1\n"})
    repo.git("submodule", "add", "-q", str(tmp_path / "inner"), "sub")
    (tmp_path / "stray").mkdir()
    gitfile(tmp_path / "stray", repo.path / ".git" / "modules" / "sub")
    with pytest.raises(GitError, match="git_dir_elsewhere"):
        find(tmp_path / "stray")


def test_loops_and_pipes_end(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).mkdir()
    gitfile(tmp_path / "a", Path("../b/.git"))
    gitfile(tmp_path / "b", Path("../a/.git"))
    (tmp_path / "c" / ".git").symlink_to(".git")
    os.mkfifo(tmp_path / "d" / ".git")
    assert [find(tmp_path / name) for name in "abcd"] == [None] * 4


@pytest.mark.parametrize("name", ["HEAD", "refs", "objects", "commondir"])
def test_a_loop_of_links_in_the_git_directory_is_refused(evil: Path, name: str) -> None:
    part = hollow(evil) / name
    if part.is_dir():
        part.rmdir()
    part.unlink(missing_ok=True)
    part.symlink_to(name)
    if name == "HEAD":  # it is no repository then
        assert find(evil) is None
        return
    with pytest.raises(GitError, match="git_dir_elsewhere"):
        find(evil)


@pytest.mark.parametrize("name", ["config", "commondir"])
def test_a_pipe_in_the_git_directory_is_not_waited_for(repo: Repo, name: str) -> None:
    commit = repo.commit({"a": "1\n"})
    (repo.path / ".git" / name).unlink(missing_ok=True)
    os.mkfifo(repo.path / ".git" / name)
    location = find(repo.path)
    assert location is not None
    with Repository(location) as git:
        assert git.head() == commit


def test_without_head_it_is_no_repository(repo: Repo, tmp_path: Path) -> None:
    (repo.path / ".git" / "HEAD").unlink()
    assert find(repo.path) is None
    inner = repo.path / "vendor" / "x"
    make_repo(inner)
    (inner / ".git" / "HEAD").unlink()
    outer = make_repo(repo.path)
    location = find(inner)  # as git does: it belongs to the repository around it
    assert location is not None
    assert location.root == outer.path


# --- objects from elsewhere


def test_objects_from_elsewhere_are_read_and_named(repo: Repo, tmp_path: Path) -> None:
    commit = repo.commit({"a": "1\n"})
    repo.git("clone", "-q", "--bare", "--shared", ".", str(tmp_path / "one.git"))
    repo.git("clone", "-q", "--shared", str(tmp_path / "one.git"), str(tmp_path / "two"))
    location = find(tmp_path / "two")
    assert location is not None
    with Repository(location) as git:
        assert git.file_at(commit, "a", 10) == b"1\n"
        assert git.borrowed == (tmp_path / "one.git" / "objects", repo.path / ".git" / "objects")


@pytest.mark.parametrize("linked", ["pack", "ab"])
def test_linked_object_folders_are_named(repo: Repo, private: Repo, linked: str) -> None:
    repo.commit({"a": "1\n"})
    folder = repo.path / ".git" / "objects" / linked
    if folder.exists():
        folder.rmdir()
    folder.symlink_to(private.path / ".git" / "objects" / "pack")
    location = find(repo.path)
    assert location is not None
    with Repository(location) as git:
        assert git.borrowed == (private.path / ".git" / "objects" / "pack",)


@pytest.mark.parametrize(
    "text", ["", "# none\n", "\n\n", ".\n", "../objects\n", "\0\n", "x" * 70_000, "pack\n" * 1000]
)
def test_odd_alternates_name_nothing_outside(repo: Repo, text: str) -> None:
    repo.commit({"a": "1\n"})
    repo.write(".git/objects/info/alternates", text)
    location = find(repo.path)
    assert location is not None
    with Repository(location) as git:
        assert git.borrowed == ()


def test_alternates_without_end_are_cut(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"a": "1\n"})
    repo.write(".git/objects/info/alternates", "".join(f"{tmp_path}/{n}\n" for n in range(500)))
    (tmp_path / "0" / "info").mkdir(parents=True)
    (tmp_path / "0" / "info" / "alternates").write_text(f"{repo.path}/.git/objects\n")  # a loop
    location = find(repo.path)
    assert location is not None
    with Repository(location) as git:
        assert len(git.borrowed) == 100
