"""The state of each file, the verdict and the exit code."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted import unit

from review_agent.agent.coverage import cover, exit_code, file_results, judge
from review_agent.agent.models import (
    Analysis,
    Category,
    Change,
    Coverage,
    EngineInfo,
    FileResult,
    FileStatus,
    Finding,
    Note,
    Outcome,
    Report,
    Severity,
    SourceFile,
    Usage,
    Verdict,
    VerdictWord,
)
from review_agent.agent.units import Shape, build_units

REVIEWED, SKIPPED, FAILED = FileStatus.REVIEWED, FileStatus.SKIPPED, FileStatus.FAILED


def source(path: str, lines: int = 10, changed: frozenset[int] | None = None) -> SourceFile:
    return SourceFile(path, "python", ("x",) * lines, "", Change.MODIFIED, changed)


def state(file: SourceFile, failures: list[str | None] | None, missing: str = "not_finished") -> FileResult:
    """`failures`: one per unit of five lines, '' = reviewed, None = never answered; None = not planned."""
    if failures is None:
        (got,) = file_results([file], {}, {}, missing)
        return got
    parts = [unit(file.path, "x\nx\nx\nx\nx", at, first=1 + 5 * at) for at in range(len(failures))]
    known = {
        (part.path, part.index): Analysis(part, failure=failure)
        for part, failure in zip(parts, failures, strict=True)
        if failure is not None
    }
    (got,) = file_results([file], {file.path: parts}, known, missing)
    return got


@pytest.mark.parametrize(
    ("failures", "status", "reason", "reviewed"),
    [
        (["", ""], REVIEWED, "", 10),
        (["", "truncated"], FAILED, "truncated", 5),
        (["engine_stalled", "truncated"], FAILED, "engine_stalled", 0),
        (["", None], FAILED, "interrupted", 5),
        ([None, None], FAILED, "interrupted", 0),
        ([None, "truncated"], FAILED, "interrupted", 0),
        ([], SKIPPED, "no_lines", 0),
        (None, FAILED, "limit_max_files", 0),
    ],
)
def test_a_file_has_one_state(
    failures: list[str | None] | None, status: FileStatus, reason: str, reviewed: int
) -> None:
    got = state(source("a.py"), failures, missing="interrupted")
    assert (got.status, got.reason, got.reviewed_lines) == (status, reason, reviewed)
    assert got.changed_lines == (0 if status is SKIPPED else 10)


def test_lines_that_two_units_show_count_once() -> None:
    file = source("a.py", 10, frozenset({1, 2, 7}))
    parts = [replace(unit("a.py", "x", at), changed_lines=(1, 2, 7)) for at in range(3)]
    known = {(part.path, part.index): Analysis(part) for part in parts}
    (got,) = file_results([file], {"a.py": parts}, known, "")
    assert (got.changed_lines, got.reviewed_lines) == (3, 3)


def test_counts() -> None:
    files = [state(source(name), failures) for name, failures in [("a", [""]), ("b", ["", "x"]), ("c", [])]]
    files.append(FileResult("d", SKIPPED, "binary"))
    assert cover(files) == Coverage(4, 1, 2, 1, 20, 10)


def verdict(severity: Severity = Severity.MEDIUM, outcome: Outcome = Outcome.REPORTED) -> Verdict:
    return Verdict(Finding("ai/bug", Category.BUG, severity, 0.9, "a.py", 1, 1, "t", "m"), outcome)


HIDDEN = [verdict(outcome=outcome) for outcome in Outcome if outcome is not Outcome.REPORTED]
ISSUE = [verdict()]


@pytest.mark.parametrize(
    ("states", "verdicts", "stopped", "demo", "word", "reason"),
    [
        ({REVIEWED: 2}, [], "", False, VerdictWord.PASS, ""),
        ({REVIEWED: 2, SKIPPED: 3}, [], "", False, VerdictWord.PASS, ""),
        ({REVIEWED: 2}, HIDDEN, "", False, VerdictWord.PASS, ""),
        ({REVIEWED: 2}, ISSUE, "", False, VerdictWord.ISSUES, ""),
        ({REVIEWED: 2, FAILED: 1}, [], "", False, VerdictWord.INCOMPLETE, "some_failed"),
        ({REVIEWED: 2, FAILED: 1}, ISSUE, "", False, VerdictWord.INCOMPLETE, "some_failed"),
        (
            {REVIEWED: 2, FAILED: 1},
            [],
            "limit_max_tokens",
            False,
            VerdictWord.INCOMPLETE,
            "limit_max_tokens",
        ),
        ({REVIEWED: 2, FAILED: 1}, [], "interrupted", False, VerdictWord.INCOMPLETE, "interrupted"),
        ({FAILED: 2}, [], "", False, VerdictWord.NOT_REVIEWED, "all_failed"),
        ({FAILED: 2}, ISSUE, "", False, VerdictWord.NOT_REVIEWED, "all_failed"),
        ({FAILED: 2}, [], "engine_gave_up", False, VerdictWord.NOT_REVIEWED, "engine_gave_up"),
        ({}, [], "", False, VerdictWord.NOT_REVIEWED, "nothing_to_review"),
        ({SKIPPED: 5}, [], "", False, VerdictWord.NOT_REVIEWED, "nothing_to_review"),
        ({REVIEWED: 2}, [], "", True, VerdictWord.NOT_REVIEWED, "demo_model"),
        ({FAILED: 2}, ISSUE, "", True, VerdictWord.NOT_REVIEWED, "demo_model"),
    ],
)
def test_verdict_words(
    states: dict[FileStatus, int],
    verdicts: list[Verdict],
    stopped: str,
    demo: bool,
    word: VerdictWord,
    reason: str,
) -> None:
    coverage = cover(results(states))
    assert judge(coverage, verdicts, stopped=stopped, demo=demo) == (word, reason)


def results(states: dict[FileStatus, int], reason: str = "engine_fault") -> list[FileResult]:
    return [
        FileResult(
            f"{status}{at}",
            status,
            "" if status is REVIEWED else reason,
            changed_lines=0 if status is SKIPPED else 10,
            reviewed_lines=10 if status is REVIEWED else 0,
        )
        for status, count in states.items()
        for at in range(count)
    ]


def code(
    states: dict[FileStatus, int],
    verdicts: list[Verdict],
    fail_on: Severity | None = None,
    *,
    reason: str = "engine_fault",
    stopped: str = "",
    demo: bool = False,
) -> int:
    files = results(states, reason)
    coverage = cover(files)
    word, why = judge(coverage, verdicts, stopped=stopped, demo=demo)
    engine = EngineInfo("local", "ollama", "m", "")
    report = Report(
        "r", "t", "en", engine, word, why, coverage, "", tuple(verdicts), tuple(files), Usage()
    )  # fmt: skip
    return exit_code(report, fail_on)


CRITICAL = [verdict(Severity.CRITICAL)]
SOME = {REVIEWED: 2, FAILED: 1}


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        # 0: reviewed, nothing at or above --fail-on
        (0, code({REVIEWED: 2}, [])),
        (0, code({REVIEWED: 2}, CRITICAL, None)),
        (0, code({REVIEWED: 2}, ISSUE, Severity.HIGH)),
        (0, code({REVIEWED: 2}, HIDDEN, Severity.LOW)),
        (0, code({SKIPPED: 2}, [], Severity.LOW)),
        (0, code({}, [])),
        # 1: every unit failed
        (1, code({FAILED: 2}, [])),
        (1, code({FAILED: 2, SKIPPED: 1}, [], stopped="engine_gave_up")),
        (1, code({FAILED: 2}, [], stopped="engine_cannot_answer")),
        # 3: findings at or above --fail-on; wins over 4
        (3, code({REVIEWED: 2}, ISSUE, Severity.MEDIUM)),
        (3, code({REVIEWED: 2}, ISSUE, Severity.LOW)),
        (3, code({REVIEWED: 2}, CRITICAL, Severity.CRITICAL)),
        (3, code(SOME, ISSUE, Severity.LOW)),
        (3, code(SOME, ISSUE, Severity.LOW, reason="limit_max_files")),
        (3, code({FAILED: 2}, ISSUE, Severity.LOW, reason="limit_max_seconds", stopped="limit_max_seconds")),
        # 4: incomplete, or a limit stopped the run, however little was reviewed
        (4, code(SOME, [])),
        (4, code(SOME, ISSUE, None)),
        (4, code(SOME, ISSUE, Severity.CRITICAL)),
        (4, code(SOME, [], reason="limit_max_files")),
        (4, code({FAILED: 2}, [], reason="limit_max_seconds", stopped="limit_max_seconds")),
        (4, code({FAILED: 2}, [], reason="limit_max_tokens", stopped="limit_max_tokens")),
        (4, code({FAILED: 2}, [], reason="engine_stalled", stopped="limit_max_seconds")),
        # a demo run: 0 or 3, unless its engine never answered
        (0, code({REVIEWED: 2}, [], demo=True)),
        (0, code(SOME, [], demo=True)),
        (0, code({FAILED: 2}, [], reason="truncated", demo=True)),
        (0, code({FAILED: 2}, [], reason="limit_max_seconds", demo=True)),
        (0, code(SOME, [], reason="engine_fault", demo=True)),
        (1, code({FAILED: 2}, [], reason="engine_rejected", demo=True)),
        (0, code(SOME, [], reason="limit_max_files", demo=True)),
        (3, code(SOME, ISSUE, Severity.LOW, demo=True)),
    ],
)
def test_exit_codes(expected: int, got: int) -> None:
    assert got == expected


def test_a_line_of_which_only_the_beginning_was_shown_does_not_count() -> None:
    long = SourceFile("a.py", "python", ("x", "y" * 5000, "z"), "", Change.WHOLE)
    units = build_units(long, (), Shape(max_tokens=6000))
    analyses = {(one.path, one.index): Analysis(one) for one in units}
    (got,) = file_results([long], {"a.py": units}, analyses, "not_finished")
    assert (got.status, got.changed_lines, got.reviewed_lines) == (REVIEWED, 3, 2)
    assert got.notes == (Note("long_lines_cut", {"count": 1}),)
