"""Which commits of a push are new to the other side, in real repositories."""

from __future__ import annotations

from pathlib import Path

import pytest
from gitrepo import Repo, make_repo, opened

from review_agent.agent.push_range import LAST_COMMITS, SMALL_HISTORY, Span, spans
from review_agent.agent.pushed import ZERO, Push, PushedRef
from review_agent.tools.git import EMPTY_TREES

EMPTY = EMPTY_TREES["sha1"]
ELSEWHERE = "e" * 40  # a commit of the other side that was never fetched


def seen(repo: Repo, name: str, commit: str) -> None:
    """As a fetch from the remote leaves it."""
    repo.git("update-ref", f"refs/remotes/{name}", commit)


def planned(repo: Repo, *refs: tuple[str, str, str], remote: str = "origin") -> list[tuple[str, str, str]]:
    """(base, head, the key that says why) for (remote ref, local, remote) of each."""
    lines = tuple(PushedRef("x", local, ref, old) for ref, local, old in refs)
    with opened(repo) as repository:
        return [short(span) for span in spans(repository, Push(remote, lines))]


def short(span: Span) -> tuple[str, str, str]:
    return span.base, span.head, span.how or span.skip or span.problem


MAIN = "refs/heads/main"


def test_an_update(repo: Repo) -> None:
    first, second = repo.commit({"a": "1"}), repo.commit({"a": "2"})
    seen(repo, "origin/main", first)
    assert planned(repo, (MAIN, second, first)) == [(first, second, "update")]


def test_nothing_new(repo: Repo) -> None:
    first = repo.commit({"a": "1"})
    seen(repo, "origin/main", first)
    assert planned(repo, ("refs/heads/x", first, ZERO), ("refs/tags/v", first, ZERO)) == [
        ("", first, "nothing_new"),
        ("", first, "tag_known"),
    ]


def test_what_was_merged_in_and_is_there_already_is_not_reviewed_again(repo: Repo) -> None:
    root = repo.commit({"a": "1"})
    repo.git("switch", "-q", "-c", "topic")
    old = repo.commit({"topic": "1"})
    repo.git("switch", "-q", "main")
    main = repo.commit({f"m{number}": "1" for number in range(9)})
    repo.git("switch", "-q", "topic")
    repo.git("merge", "-q", "--no-edit", "main")
    head = repo.commit({"topic": "2"})
    seen(repo, "origin/main", main)
    seen(repo, "origin/topic", old)
    assert root
    assert planned(repo, ("refs/heads/topic", head, old)) == [(main, head, "update")]


@pytest.mark.parametrize(("old_is_here", "how"), [(True, "forced"), (False, "forced_unknown")])
def test_a_forced_push(repo: Repo, old_is_here: bool, how: str) -> None:
    fork = repo.commit({"a": "1"})
    old = repo.commit({"a": "2"})
    repo.git("reset", "-q", "--hard", fork)
    new = repo.commit({"a": "3"})
    seen(repo, "origin/other", fork)
    assert planned(repo, (MAIN, new, old if old_is_here else ELSEWHERE)) == [(fork, new, how)]


def test_a_new_remote_starts_from_what_others_have(repo: Repo) -> None:
    first, second = repo.commit({"a": "1"}), repo.commit({"a": "2"})
    seen(repo, "upstream/main", first)
    assert planned(repo, (MAIN, second, ZERO), remote="fork") == [(first, second, "new_elsewhere")]


def test_of_stacked_branches_each_brings_its_own(repo: Repo) -> None:
    main, one, two = (repo.commit({"a": str(number)}) for number in range(3))
    seen(repo, "origin/main", main)
    refs = [("refs/tags/v", two, ZERO), ("refs/heads/one", one, ZERO), ("refs/heads/two", two, ZERO)]
    assert planned(repo, *refs) == [(main, one, "new"), (one, two, "new"), ("", two, "tag_known")]


def test_a_first_push(repo: Repo) -> None:
    head = repo.commit({"a": "1"})
    assert planned(repo, (MAIN, head, ZERO)) == [(EMPTY, head, "first")]


def test_a_history_of_its_own(repo: Repo) -> None:
    first = repo.commit({"a": "1"})
    seen(repo, "origin/main", first)
    repo.git("switch", "-q", "--orphan", "pages")
    head = repo.commit({"b": "1"})
    assert planned(repo, ("refs/heads/pages", head, ZERO)) == [(EMPTY, head, "unrelated")]


def test_a_first_push_of_much(repo: Repo) -> None:
    many = {f"f{number}": "1" for number in range(SMALL_HISTORY + 1)}
    first = repo.commit(many)
    assert planned(repo, (MAIN, first, ZERO)) == [("", "", "first_too_big")]
    commits = [repo.commit({"a": str(number)}) for number in range(LAST_COMMITS + 3)]
    assert planned(repo, (MAIN, commits[-1], ZERO)) == [
        (commits[-1 - LAST_COMMITS], commits[-1], "first_last")
    ]


def test_a_shallow_clone(repo: Repo, tmp_path: Path) -> None:
    commits = [repo.commit({"a": str(number)}) for number in range(4)]
    for depth, expected in (("1", ("", "", "too_shallow")), ("3", (commits[1], commits[3], "shallow"))):
        place = tmp_path / depth
        repo.git("clone", "-q", "--depth", depth, f"file://{repo.path}", place)
        clone = Repo(place)
        clone.git("remote", "remove", "origin")
        assert planned(clone, (MAIN, commits[3], ZERO)) == [expected]


def test_objects_that_are_no_commits_or_not_here(repo: Repo) -> None:
    repo.commit({"a": "1"})
    blob = repo.git("rev-parse", "HEAD:a").strip()
    repo.git("tag", "-a", "-m", "x", "v", blob)
    tag = repo.git("rev-parse", "v").strip()
    refs = [("refs/tags/b", blob, ZERO), ("refs/tags/v", tag, ZERO), ("refs/heads/gone", ELSEWHERE, ZERO)]
    assert planned(repo, *refs, ("refs/heads/x", ZERO, ELSEWHERE)) == [
        ("", "", "object_missing"),
        ("", "", "deleted"),
        ("", "", "no_commit"),
        ("", "", "no_commit"),
    ]


def test_an_annotated_tag_is_its_commit(repo: Repo) -> None:
    first, second = repo.commit({"a": "1"}), repo.commit({"a": "2"})
    seen(repo, "origin/main", first)
    repo.git("tag", "-a", "-m", "x", "v")
    tag = repo.git("rev-parse", "v").strip()
    assert tag != second
    assert planned(repo, ("refs/tags/v", tag, ZERO)) == [(first, second, "tag")]


def test_a_remote_named_like_the_start_of_another(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "other")
    first, second = repo.commit({"a": "1"}), repo.commit({"a": "2"})
    seen(repo, "origin/main", first)
    seen(repo, "origin2/main", second)
    assert planned(repo, (MAIN, second, ZERO)) == [(first, second, "new")]
