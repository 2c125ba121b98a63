"""The state of each file, the coverage of the run, its verdict and its exit code."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from review_agent.agent.models import (
    Analysis,
    Coverage,
    FileResult,
    FileStatus,
    Note,
    Outcome,
    Report,
    ReviewUnit,
    Route,
    RouteKind,
    Severity,
    SourceFile,
    Verdict,
    VerdictWord,
)
from review_agent.agent.units import CUT

LIMITS = frozenset({f"limit_max_{what}" for what in ("files", "seconds", "tokens", "cloud_tokens", "turns")})
# The server, not the model, is why: no answer came.
ENGINE_FAILURES = frozenset(
    f"engine_{what}" for what in ("unavailable", "busy", "fault", "rejected", "stalled", "gave_up")
) | {"no_local_engine"}
OK, COULD_NOT, FINDINGS, INCOMPLETE = 0, 1, 3, 4


def file_results(
    files: Iterable[SourceFile],
    units: Mapping[str, Sequence[ReviewUnit]],
    analyses: Mapping[tuple[str, int], Analysis],
    missing: str,
    routes: Mapping[tuple[str, int], Route] | None = None,
) -> list[FileResult]:
    """The one state of each file. `missing` is the reason for units that were never answered."""
    results = [_result(file, units.get(file.path), analyses, missing) for file in files]
    kinds: dict[str, set[RouteKind]] = {}
    for (path, _), route in (routes or {}).items():
        kinds.setdefault(path, set()).add(route.kind)
    return [replace(result, route=_route(kinds.get(result.path, set()))) for result in results]


def _route(kinds: Collection[RouteKind]) -> str:
    """The route of a file: that which leads furthest, of those of its units."""
    furthest = (RouteKind.CLOUD, RouteKind.HYBRID, RouteKind.LOCAL)
    return next((kind for kind in furthest if kind in kinds), RouteKind.LOCAL).value


def _result(
    file: SourceFile,
    units: Sequence[ReviewUnit] | None,
    analyses: Mapping[tuple[str, int], Analysis],
    missing: str,
) -> FileResult:
    lines = _lines_under_review(file)
    if units is None:  # never planned: over --max-files
        return FileResult(
            file.path, FileStatus.FAILED, "limit_max_files", changed_lines=lines, notes=file.notes
        )
    if not units:
        return FileResult(file.path, FileStatus.SKIPPED, "no_lines", notes=file.notes)
    got = [analyses.get((unit.path, unit.index)) for unit in units]
    reasons = [(a.failure if a is not None else missing) for a in got]
    failure = next((reason for reason in reasons if reason), "")
    reviewed = {
        number
        for unit, reason in zip(units, reasons, strict=True)
        if not reason
        for number in unit.changed_lines
    }
    cut = _cut_lines(file, units)
    return FileResult(
        file.path,
        FileStatus.FAILED if failure else FileStatus.REVIEWED,
        failure,
        units=len(units),
        changed_lines=lines,
        reviewed_lines=min(lines, len(reviewed - cut)),
        notes=(*file.notes, Note("long_lines_cut", {"count": len(cut)})) if cut else file.notes,
    )


def _cut_lines(file: SourceFile, units: Sequence[ReviewUnit]) -> set[int]:
    """Lines under review of which only the beginning was shown: they do not count as reviewed."""
    return {
        line.number
        for unit in units
        for line in unit.shown
        if line.text.endswith(CUT) and line.number in unit.changed_lines
        if line.text != file.lines[line.number - 1]
    }


def _lines_under_review(file: SourceFile) -> int:
    return len(file.lines) if file.changed is None else len(file.changed)


def cover(files: Sequence[FileResult]) -> Coverage:
    count = {status: sum(1 for file in files if file.status is status) for status in FileStatus}
    return Coverage(
        files_selected=len(files),
        files_reviewed=count[FileStatus.REVIEWED],
        files_skipped=count[FileStatus.SKIPPED],
        files_failed=count[FileStatus.FAILED],
        changed_lines=sum(file.changed_lines for file in files),
        changed_lines_reviewed=sum(file.reviewed_lines for file in files),
    )


def judge(
    coverage: Coverage, verdicts: Sequence[Verdict], *, stopped: str, demo: bool
) -> tuple[VerdictWord, str]:
    """The verdict and its reason (a key of `[reasons]`, or ''). `stopped` is why the run ended early."""
    if demo:
        return VerdictWord.NOT_REVIEWED, "demo_model"
    if coverage.files_failed == 0 and coverage.files_reviewed == 0:
        return VerdictWord.NOT_REVIEWED, "nothing_to_review"
    if coverage.files_reviewed == 0 and coverage.changed_lines_reviewed == 0:
        return VerdictWord.NOT_REVIEWED, stopped or "all_failed"
    if coverage.files_failed or stopped:  # the agent may stop short where every file was reviewed
        return VerdictWord.INCOMPLETE, stopped or "some_failed"
    if any(verdict.outcome is Outcome.REPORTED for verdict in verdicts):
        return VerdictWord.ISSUES, ""
    return VerdictWord.PASS, ""


def exit_code(report: Report, fail_on: Severity | None) -> int:
    """3 wins over 4; a limit that stopped the run is 4, however little was reviewed, and so is an agent that
    did not finish.

    A demo run is 0 or 3, but not when its engine never answered: that was no run at all.
    """
    failed = [file for file in report.files if file.status is FileStatus.FAILED]
    demo = report.verdict_reason == "demo_model"
    limited = report.verdict_reason in LIMITS or any(file.reason in LIMITS for file in failed)
    reviewed = report.coverage.files_reviewed or report.coverage.changed_lines_reviewed
    counts = not demo or all(file.reason in ENGINE_FAILURES for file in failed)
    if failed and not reviewed and not limited and counts:
        return COULD_NOT
    if fail_on is not None and any(
        verdict.outcome is Outcome.REPORTED and verdict.finding.severity.at_least(fail_on)
        for verdict in report.verdicts
    ):
        return FINDINGS
    incomplete = failed or report.verdict is VerdictWord.INCOMPLETE
    return INCOMPLETE if incomplete and not demo else OK
