from __future__ import annotations

import pytest
from findings_of import finding, reported

from review_agent.agent.markers import key_line
from review_agent.agent.models import (
    Coverage,
    EngineInfo,
    FileResult,
    FileStatus,
    Finding,
    Report,
    Usage,
    VerdictWord,
)
from review_agent.agent.publication import Diff, Plan, Spot, Talk, commentable, plan, spot_of, talk

PATCH = "@@ -1,3 +1,4 @@ def f():\n a\n+b\n c\n d\n@@ -20,2 +21,3 @@\n x\n+y\n z"
LINES = {"a.py": (range(1, 5), range(21, 24))}
A, B = "aa" * 16, "bb" * 16


@pytest.mark.parametrize(
    ("patch", "hunks"),
    [
        (PATCH, (range(1, 5), range(21, 24))),
        (f"{PATCH}\n\\ No newline at end of file", (range(1, 5), range(21, 24))),
        ("@@ -0,0 +1 @@\n+x", (range(1, 2),)),
        ("@@ -1,2 +0,0 @@\n-x\n-y", ()),
        ("@@ -5 +5,0 @@\n-x", ()),
        ("@@ -1,3 +1,4 @@\n a\n+b", ()),  # cut
        ("no patch", ()),
        ("@@ -1 +1 @@\n-a\n+b\ud800", (range(1, 2),)),
        ("@@ -1,2 +1,2 @@\n a\x0cb\n-c\u2028\n+d", (range(1, 3),)),
    ],
)
def test_lines_that_take_comments(patch: str, hunks: tuple[range, ...]) -> None:
    assert commentable([("a.py", patch)]) == {"a.py": hunks}


def test_a_file_without_a_patch_takes_none() -> None:
    assert commentable([("large.py", None), ("empty.py", "")]) == {}


@pytest.mark.parametrize(
    ("path", "start", "end", "spot"),
    [
        ("a.py", 2, 2, Spot("a.py", 2, 2, True)),
        ("a.py", 1, 4, Spot("a.py", 1, 4, True)),
        ("a.py", 2, 0, Spot("a.py", 2, 2, True)),
        ("a.py", 3, 9, Spot("a.py", 3, 4, False)),
        ("a.py", 18, 22, Spot("a.py", 21, 22, False)),
        ("a.py", 3, 22, Spot("a.py", 3, 4, False)),
        ("a.py", 5, 20, None),
        ("a.py", 0, 0, None),
        ("b.py", 2, 2, None),
    ],
)
def test_where_a_comment_goes(path: str, start: int, end: int, spot: Spot | None) -> None:
    assert spot_of(finding(path, start, end_line=end), LINES) == spot


def report(*findings: Finding, **states: tuple[FileStatus, str]) -> Report:
    files = tuple(FileResult(f"{name}.py", status, reason) for name, (status, reason) in states.items())
    return Report(
        "r", "range", "en", EngineInfo("local", "", "", ""), VerdictWord.ISSUES, "", Coverage(), "",
        tuple(reported(*findings)), files, Usage(),
    )  # fmt: skip


def said(
    key: str,
    path: str = "a.py",
    *,
    resolved: bool = False,
    gone: bool = False,
    line: int | None = None,
    number: int = 1,
) -> Talk:
    top = "<!-- review-agent:gone -->\n" if gone else ""
    body = f"{top}x\n\n{key_line(key)}"
    name = f"T{key[:2]}{path}{line}{resolved}{number}"
    made = talk(name, number, path, body, resolved=resolved, line=line)
    assert made is not None
    return made


REVIEWED = (FileStatus.REVIEWED, "")
DIFF = Diff(LINES, frozenset({"a.py", "b.py"}))


def outline_of(planned: Plan) -> dict[str, int]:
    parts = ("inline", "apart", "known", "settled", "carried", "gone", "twice")
    return {part: len(getattr(planned, part)) for part in parts if getattr(planned, part)}


@pytest.mark.parametrize(
    ("talks", "outcome"),
    [
        ([], {"inline": 1}),
        ([said(A)], {"known": 1}),
        ([said(A, resolved=True)], {"settled": 1}),
        ([said(A, resolved=True), said(A)], {"known": 1}),
        ([said(A, resolved=True, gone=True)], {"inline": 1}),  # it came back
        ([said(A, gone=True)], {"inline": 1, "gone": 1}),  # of the old one, its conversation is still open
        ([said(A, "b.py")], {"inline": 1, "carried": 1}),  # the same code elsewhere
        ([said(A, "left.py")], {"known": 1}),  # renamed, as far as can be told
        ([said(A, line=2, number=2), said(A, line=2)], {"known": 1, "twice": 1}),  # two publishers at once
    ],
)
def test_a_finding_is_said_once(talks: list[Talk], outcome: dict[str, int]) -> None:
    found = report(finding("a.py", 2, fingerprint=A), a=REVIEWED)
    assert outline_of(plan(found, DIFF, talks)) == outcome


@pytest.mark.parametrize(
    ("state", "diff", "talks", "outcome"),
    [
        (REVIEWED, DIFF, [said(B)], {"gone": 1}),
        (REVIEWED, DIFF, [said(B, resolved=True)], {}),
        (REVIEWED, DIFF, [said(B, gone=True)], {"gone": 1}),  # said, and not yet closed
        ((FileStatus.FAILED, "engine_fault"), DIFF, [said(B)], {"carried": 1}),
        ((FileStatus.SKIPPED, "too_large"), DIFF, [said(B)], {"carried": 1}),
        ((FileStatus.SKIPPED, "deleted"), DIFF, [said(B)], {"gone": 1}),
        (None, DIFF, [said(B)], {"carried": 1}),  # an earlier commit's, not looked at again
        (None, Diff({}, frozenset()), [said(B)], {"gone": 1}),  # the pull request touches it no more
        (None, Diff({}, frozenset(), complete=False), [said(B)], {"carried": 1}),
    ],
)
def test_a_conversation_ends_only_where_somebody_looked(
    state: tuple[FileStatus, str] | None, diff: Diff, talks: list[Talk], outcome: dict[str, int]
) -> None:
    states = {"a": state} if state else {}
    assert outline_of(plan(report(**states), diff, talks)) == outcome


def test_of_equal_code_the_one_that_is_gone_is_closed() -> None:
    talks = [said(A, line=2), said(A, line=22)]
    planned = plan(report(finding("a.py", 23, fingerprint=A), a=REVIEWED), DIFF, talks)
    assert outline_of(planned) == {"known": 1, "gone": 1}
    assert planned.gone == (talks[0],)


def test_equal_code_in_a_file_that_was_not_looked_at_keeps_its_conversation() -> None:
    """A report numbers equal findings over all files of its run: the next one names this one otherwise."""
    talks = [said(A, "a.py"), said(A, "b.py")]
    planned = plan(report(finding("b.py", 2, fingerprint=A), b=REVIEWED), DIFF, talks)
    assert outline_of(planned) == {"known": 1, "carried": 1}
    first = report(finding("a.py", 2, fingerprint=A), finding("b.py", 2, fingerprint=f"{A}-2"), a=REVIEWED)
    assert outline_of(plan(first, DIFF, talks)) == {"known": 2}


@pytest.mark.parametrize(("state", "outcome"), [(REVIEWED, {"gone": 1}), (None, {"carried": 1})])
def test_a_renamed_file_speaks_for_its_old_name(
    state: tuple[FileStatus, str] | None, outcome: dict[str, int]
) -> None:
    diff = Diff(LINES, frozenset({"a.py", "old.py"}), moved={"old.py": "a.py"})
    talks = [said(A, "old.py")]
    assert outline_of(plan(report(**({"a": state} if state else {})), diff, talks)) == outcome
    found = report(finding("a.py", 2, fingerprint=A), a=REVIEWED)
    assert outline_of(plan(found, diff, talks)) == {"known": 1}


def test_other_conversations_are_not_ours() -> None:
    assert talk("T", 1, "a.py", "just words", resolved=False) is None
