"""What an agent may see of a repository: what the policy hides is as good as absent, by whatever name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gitrepo import Repo, opened

from review_agent.agent.library import DiskShelf, Library, old_names, shelf_for
from review_agent.agent.models import Change, SourceFile
from review_agent.agent.router import Policy
from review_agent.agent.target import Target
from review_agent.tools.files import FileGate
from review_agent.tools.git import Repository

SECRET = 'token = "ghp_Zk3vQx81LmN0pRtYw7BcDfGhJk2S4a6E8uXz"\n'


def file(path: str, text: str = "x = 1\n", **more: Any) -> SourceFile:
    made = SourceFile(path, "python", tuple(text.splitlines()), "", Change.WHOLE)
    return replace(made, **more)


def policy(*local_only: str, allowed: tuple[str, ...] = ()) -> Callable[[str, bool], str]:
    rules = Policy(local_only, allowed)
    return lambda path, secret: rules.hidden(path, has_secret=secret)


def plain(pattern: str) -> Callable[[str], bool]:
    return lambda text: pattern in text


# --- what is visible


@pytest.mark.parametrize(
    ("one", "hides", "seen"),
    [
        (file("a.py"), policy(), True),
        (file("a.py"), policy("a.py"), False),
        (file("A.py"), policy("a.py"), False),
        (file("a.py", SECRET), policy(), False),
        (file("a.py"), policy(allowed=("b.py",)), False),
        (file("a.py"), policy(allowed=("a.py",)), True),
        (file("a.py", SECRET), policy(allowed=("a.py",)), False),
        (file("a.py", old_path="secret/a.py"), policy("secret/"), False),
        (file("a.py", old_path="b.py"), policy(allowed=("a.py",)), False),
        (file("a.py", SECRET), lambda _path, _secret: "", True),
    ],
)
def test_a_file_is_seen_only_where_nothing_hides_it(
    one: SourceFile, hides: Callable[[str, bool], str], seen: bool
) -> None:
    library = Library({one.path: one}, hides)
    assert (library.visible(one.path) is not None) is seen
    assert bool(library.search(lambda _: True, "", 10).hits) is seen


def test_secrets_are_looked_for_once_and_only_where_it_matters() -> None:
    asked: list[tuple[str, bool]] = []

    def hides(path: str, secret: bool) -> str:
        asked.append((path, secret))
        return ""

    library = Library({"a": file("a", SECRET)}, hides)
    library.prepare()
    before = len(asked)
    assert library.visible("a")
    assert len(asked) == before


@pytest.fixture
def hidden(repo: Repo) -> Repo:
    """A repository with much that is hidden, and something that is not."""
    repo.commit(
        {
            "secret/a.py": "x = 'PLANTED'\n",
            "src/key.py": SECRET,
            "src/open.py": "x = 'seen'\n",
            "b.py": "x = 'seen'\n",
            "blob.bin": b"\0PLANTED\0",
        }
    )
    return repo


def looking(repo: Repo, kind: Any = "tree", *local_only: str, **more: Any) -> tuple[Library, Repository]:
    git = opened(repo)
    target = Target(kind, str(repo.path), head=git.head() or "")
    shelf = shelf_for(target, git, FileGate(repo.path))
    library = Library({}, policy(*(local_only or ("secret/",))), shelf, git, git.head() or "", **more)
    return library, git


@pytest.mark.parametrize("kind", ["tree", "working", "staged", "range", "commit"])
def test_the_rest_of_the_repository_is_seen_as_far_as_the_policy_goes(hidden: Repo, kind: str) -> None:
    library, git = looking(hidden, kind)
    with git:
        every = ["secret/a.py", "src/key.py", "src/open.py", "b.py", "blob.bin", "nothing", "src", "src/"]
        assert [path for path in every if library.visible(path)] == ["src/open.py", "b.py"]
        assert [hit.path for hit in library.search(lambda _: True, "", 10).hits] == ["b.py", "src/open.py"]


@pytest.mark.parametrize(
    "path",
    [
        "./secret/a.py",
        "secret//a.py",
        "src/../secret/a.py",
        "/secret/a.py",
        "secret/a.py\0",
        "secret\\a.py",
        "SECRET/a.py",
        "secret/a.py/",
        "secret/a.py ",
        "./b.py",  # nor is another spelling of one that may be seen a file
        "src/../b.py",
        "b.py/",
        "\udcff",
        "",
        ".git/config",
        "../outside",
    ],
)
def test_only_the_spelling_of_git_is_a_file(hidden: Repo, path: str) -> None:
    library, git = looking(hidden)
    with git:
        assert library.visible(path) is None
        assert library.lines(path, 1, 10) == []


@pytest.mark.parametrize(
    ("name", "asked"), [("caf\u00e9.py", "cafe\u0301.py"), ("cafe\u0301.py", "caf\u00e9.py")]
)
def test_composed_and_decomposed_names_are_hidden_alike(repo: Repo, name: str, asked: str) -> None:
    repo.commit({name: "x = 'PLANTED'\n"})
    library, git = looking(repo, "tree", "caf\u00e9.py")
    with git:
        assert [library.visible(each) for each in (name, asked)] == [None, None]
        assert library.search(lambda _: True, "", 10).hits == ()


def test_a_link_does_not_lead_to_what_is_hidden(hidden: Repo, tmp_path: Path) -> None:
    (hidden.path / "link.py").symlink_to("secret/a.py")
    (hidden.path / "untracked.py").symlink_to("secret/a.py")
    (hidden.path / "folder").symlink_to("secret")
    hidden.git("add", "link.py")
    # What is tracked below a folder that became a link is read through it.
    hidden.git("rm", "-q", "--cached", "src/open.py")
    (hidden.path / "src" / "open.py").unlink()
    hidden.write("moved/a.py", "x\n")
    hidden.git("add", "moved/a.py")
    (hidden.path / "moved" / "a.py").unlink()
    (hidden.path / "moved").rmdir()
    (hidden.path / "moved").symlink_to("secret")
    library, git = looking(hidden)
    with git:
        assert isinstance(library.shelf, DiskShelf)
        listed = library.shelf.paths()
        assert {"link.py", "untracked.py", "moved/a.py"} <= set(listed)
        assert [path for path in listed if library.visible(path)] == ["b.py"]
        assert library.search(plain("PLANTED"), "", 10).hits == ()


def test_what_was_renamed_from_a_hidden_name_stays_hidden_where_it_is_not_reviewed(repo: Repo) -> None:
    text = "".join(f"line {number} PLANTED\n" for number in range(20))
    base = repo.commit({"secret/a.py": text, "b.py": "x\n"})
    repo.git("mv", "secret/a.py", "a.py")
    for kind in ("staged", "working"):
        with opened(repo) as git:
            assert old_names(Target(kind, str(repo.path)), git) == {"a.py": "secret/a.py"}  # type: ignore[arg-type]
    head = repo.commit()
    with opened(repo) as git:
        for target in (
            Target("range", str(repo.path), base, head),
            Target("commit", str(repo.path), head=head),
        ):
            names = old_names(target, git)
            shelf = shelf_for(target, git, FileGate(repo.path))
            library = Library({}, policy("secret/"), shelf, git, head, names)
            assert names == {"a.py": "secret/a.py"}
            assert [path for path in ("a.py", "b.py") if library.visible(path)] == ["b.py"]
            assert library.search(plain("PLANTED"), "", 10).hits == ()
        assert old_names(Target("tree", str(repo.path)), git) == {}


def test_directories_that_may_not_be_read_are_not_there(repo: Repo) -> None:
    repo.commit({"in/a.py": "x\n", "out/b.py": "x\n"})
    for kind in ("tree", "range"):
        with opened(repo) as git:
            gate = FileGate(repo.path, allowed_directories=[Path("in")])
            target = Target(kind, str(repo.path), head=git.head() or "")  # type: ignore[arg-type]
            library = Library({}, policy(), shelf_for(target, git, gate), git)
            assert [hit.path for hit in library.search(lambda _: True, "", 9).hits] == ["in/a.py"]
            assert library.visible("out/b.py") is None


def test_a_diff_file_has_nothing_around_it(repo: Repo) -> None:
    with opened(repo) as git:
        assert shelf_for(Target("diff", str(repo.path)), git, FileGate(repo.path)) is None
    library = Library({"a": file("a", "1\n2\n3\n", known=frozenset({2}))}, policy())
    assert library.lines("a", 1, 9) == [(2, "2")]
    assert [hit.line for hit in library.search(lambda _: True, "", 9).hits] == [2]
    assert (library.log("a", 5), library.blame("a", 1, 2)) == ([], [])


# --- searches


def test_pages_of_a_search_cover_every_hit_once() -> None:
    library = Library({"a": file("a", "hit\n" * 3000), "b": file("b", "hit\nmiss\n" * 1000)}, policy())
    seen: list[tuple[str, int]] = []
    stopped = "more"
    while stopped:
        found = library.search(plain("hit"), "", 60, len(seen))
        stopped = found.stopped
        seen += [(hit.path, hit.line) for hit in found.hits]
        assert len(found.hits) == 60 or not stopped
    assert len(seen) == len(set(seen)) == 4000


@pytest.mark.parametrize(
    ("glob", "paths"),
    [
        ("", ["a.py", "src/b.py", "src/deep/c.txt"]),
        ("*.py", ["a.py", "src/b.py"]),
        ("**/*.py", ["a.py", "src/b.py"]),
        ("src/*", ["src/b.py", "src/deep/c.txt"]),
        ("c.txt", ["src/deep/c.txt"]),
        ("[z-a]", []),
        ("[", []),
        ("\0", []),
    ],
)
def test_a_glob_limits_a_search(glob: str, paths: list[str]) -> None:
    library = Library({path: file(path) for path in ("a.py", "src/b.py", "src/deep/c.txt")}, policy())
    assert [hit.path for hit in library.search(lambda _: True, glob, 10).hits] == paths


def test_a_search_ends_in_time_within_a_file_too() -> None:
    def slow(_: str) -> bool:
        time.sleep(0.01)
        return False

    library = Library({"a": file("a", "x\n" * 10_000)}, policy(), seconds=0.2)
    started = time.monotonic()
    assert library.search(slow, "", 10).stopped == "time"
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("glob", ["*a" * 100, "[!b]*" * 40, "?" * 200, "*" * 200 + "b"])
def test_no_glob_takes_long(glob: str) -> None:
    library = Library({("a" * 250 + "/") * 16 + str(n): file("x") for n in range(50)}, policy())
    started = time.monotonic()
    library.search(lambda _: True, glob, 10)
    assert time.monotonic() - started < 5


# --- history


@pytest.fixture
def history(repo: Repo) -> Iterator[tuple[Library, dict[str, str]]]:
    repo.commit({"b.py": "x = 1\n"}, "open work")
    repo.commit({"secret/a.py": "x\n"}, "about the SECRET file")
    repo.commit({"b.py": "x = 2\n", "secret/a.py": "y\n"}, "about BOTH")
    repo.commit({"src/key.py": SECRET}, "add the KEY")
    repo.commit({"src/was.py": SECRET + "a = 1\n" * 9}, "moves on")
    repo.git("mv", "src/was.py", "src/is.py")
    repo.commit(message="RENAME of a file with a secret")
    repo.commit(message="touches NOTHING")
    repo.git("rm", "-q", "-r", "secret")
    repo.commit(message="takes the SECRET away")
    repo.commit({"b.py": "x = 3\n"}, "more open work")
    library, git = looking(repo)
    with git:
        yield library, {commit.subject: commit.id for commit in git.log(git.head() or "", "", 50)}


def test_a_commit_that_touches_what_is_hidden_has_no_subject(history: tuple[Library, dict[str, str]]) -> None:
    library, ids = history
    log = library.log("", 50)
    assert [commit.id for commit in log] == list(ids.values())
    # "moves on" put a secret into a file that is gone, which nobody can look into any more.
    assert [commit.subject for commit in log if commit.subject] == ["more open work", "moves on", "open work"]
    assert [commit.subject for commit in library.log("b.py", 50)] == ["more open work", "", "open work"]


def test_a_commit_with_more_files_than_are_looked_into_has_no_subject(repo: Repo) -> None:
    repo.commit({f"many/{number}.py": "x\n" for number in range(250)}, "many")
    repo.commit({"one.py": "x\n"}, "one")
    library, git = looking(repo)
    with git:
        assert [commit.subject for commit in library.log("", 9)] == ["one", ""]


def test_blame(history: tuple[Library, dict[str, str]]) -> None:
    library, ids = history
    assert library.blame("b.py", 1, 1) == [(1, ids["more open work"])]


def test_a_merge_has_no_subject(repo: Repo) -> None:
    repo.commit({"a": "1\n"}, "base")
    repo.git("checkout", "-q", "-b", "side")
    repo.commit({"secret/x": "1\n"}, "side")
    repo.git("checkout", "-q", "main")
    repo.commit({"a": "2\n"}, "main")
    repo.git("merge", "-q", "-m", "merge of the SECRET", "side")
    library, git = looking(repo)
    with git:
        assert sorted(commit.subject for commit in library.log("", 9)) == ["", "", "base", "main"]


def test_what_there_was_at_the_beginning_is_what_can_be_seen(repo: Repo) -> None:
    repo.commit({"a.py": "x\n"})
    library, git = looking(repo)
    with git:
        library.prepare()
        repo.commit({"later.py": "x\n"})
        assert [path for path in ("a.py", "later.py") if library.visible(path)] == ["a.py"]
