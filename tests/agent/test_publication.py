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


def said(key: str, path: str = "a.py", *, resolved: bool = False, gone: bool = False) -> Talk:
    top = "<!-- review-agent:gone -->\n" if gone else ""
    made = talk(f"T{key[:2]}", 1, path, f"{top}x\n\n{key_line(key)}", resolved=resolved)
    assert made is not None
    return made


REVIEWED = (FileStatus.REVIEWED, "")
DIFF = Diff(LINES, frozenset({"a.py"}))


def outline_of(planned: Plan) -> dict[str, int]:
    parts = ("inline", "apart", "known", "settled", "carried", "gone")
    return {part: len(getattr(planned, part)) for part in parts if getattr(planned, part)}


@pytest.mark.parametrize(
    ("talks", "outcome"),
    [
        ([], {"inline": 1}),
        ([said(A)], {"known": 1}),
        ([said(A, resolved=True)], {"settled": 1}),
        ([said(A, resolved=True), said(A)], {"known": 1}),
        ([said(A, resolved=True, gone=True)], {"inline": 1}),  # it came back
        ([said(A, gone=True)], {"inline": 1}),
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


def test_other_conversations_are_not_ours() -> None:
    assert talk("T", 1, "a.py", "just words", resolved=False) is None
