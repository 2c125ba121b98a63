"""What of a pushed commit the other side has already, asked of a repository."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from review_agent.tools.git import Repository

_MOST_TIPS = 5000  # they are given to one command; who has more branches misses some, and reviews more


def remote_tips(repo: Repository, remote: str = "") -> list[str]:
    """Commits that the branches of a remote were last seen at; of every remote where it is ''."""
    out = repo.run("for-each-ref", "--format=%(objectname) %(refname)", "refs/remotes/")
    rows = (line.split(" ", 1) for line in out.decode("utf-8", "surrogateescape").splitlines())
    prefix = f"refs/remotes/{remote}/" if remote else "refs/remotes/"
    return list(dict.fromkeys(row[0] for row in rows if len(row) == 2 and row[1].startswith(prefix)))


def leads_to(repo: Repository, ids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(kind, id) of the object that each is, or is a tag of. Those that are not here are left out."""
    wanted = list(dict.fromkeys(ids))
    if not wanted:
        return {}
    asked = "".join(f"{each}^{{}}\n" for each in wanted)
    rows = repo.run("cat-file", "--batch-check", stdin=asked.encode()).decode().splitlines()
    found = zip(wanted, (row.split(" ") for row in rows), strict=True)
    return {each: (row[1], row[0]) for each, row in found if len(row) == 3}


def commits(repo: Repository, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that are commits and are here."""
    known = leads_to(repo, ids)
    return [each for each in dict.fromkeys(ids) if known.get(each) == ("commit", each)]


def missing(repo: Repository, heads: Iterable[str], tips: Sequence[str]) -> set[str]:
    """Those of `heads` that none of `tips` has in its history: in one go, a push may name thousands."""
    wanted = set(heads)
    if not wanted or not tips:
        return wanted
    asked = "".join(f"{each}\n" for each in (*sorted(wanted), *(f"^{tip}" for tip in tips)))
    return wanted & set(repo.run("rev-list", "--stdin", stdin=asked.encode()).decode().split())


def bases(repo: Repository, head: str, tips: Sequence[str]) -> list[str]:
    """The best common ancestors of `head` and all of `tips` together: [head] when they have all of it.

    [] = they have nothing of it. `tips` are ids of commits that are here.
    """
    if not tips:
        return []
    out = repo.run("merge-base", "--all", "--end-of-options", head, *tips[:_MOST_TIPS], ok=(0, 1))
    return out.decode().split()


def contains(repo: Repository, head: str, commit: str) -> bool:
    """Whether `commit` is `head` or an ancestor of it."""
    return bases(repo, head, [commit]) == [commit]


def changed_files(repo: Repository, base: str, head: str) -> int:
    """How many paths differ between two commits or trees."""
    out = repo.run(
        "diff-tree", "-r", "--name-only", "-z", "--no-renames", "--end-of-options", base, head, "--"
    )
    return out.count(b"\0")


def back(repo: Repository, head: str, count: int) -> str | None:
    """The commit `count` steps before `head`, or the oldest there is; None where there is none before it."""
    steps = ("rev-list", "--first-parent", f"--max-count={int(count) + 1}")
    found = repo.run(*steps, "--end-of-options", head, "--").decode().split()
    return found[-1] if len(found) > 1 else None
