"""The last mask before a report leaves: whatever any part of the program put into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from review_agent.agent.models import Egress, EngineInfo, Evidence, FileResult, Finding, Note, Report, Verdict
from review_agent.tools.redact import mask


def masked(report: Report) -> Report:
    """The same report without what looks like a secret, names of files included."""
    return replace(
        report,
        run_id=mask(report.run_id),
        target=mask(report.target),
        engine=_engine(report.engine),
        summary=mask(report.summary),
        verdicts=tuple(_verdict(verdict) for verdict in report.verdicts),
        files=tuple(_file(file) for file in report.files),
        egress=tuple(masked_egress(row) for row in report.egress),
        notes=_notes(report.notes),
    )


def _engine(engine: EngineInfo) -> EngineInfo:
    return replace(
        engine,
        backend=mask(engine.backend),
        model=mask(engine.model),
        cloud_host=mask(engine.cloud_host),
        cloud_model=mask(engine.cloud_model),
    )


def _verdict(verdict: Verdict) -> Verdict:
    return replace(
        verdict,
        finding=_finding(verdict.finding),
        reason=mask(verdict.reason),
        fields=_fields(verdict.fields),
    )


def _finding(finding: Finding) -> Finding:
    return replace(
        finding,
        rule_id=mask(finding.rule_id),
        path=mask(finding.path),
        title=mask(finding.title),
        message=mask(finding.message),
        suggestion=mask(finding.suggestion),
        replacement=mask(finding.replacement),
        exact=finding.exact and mask(finding.replacement) == finding.replacement,
        symbol=mask(finding.symbol),
        evidence=tuple(_evidence(piece) for piece in finding.evidence),
    )


def _evidence(piece: Evidence) -> Evidence:
    """All lines at once: a key stands on several."""
    lines = tuple(mask("\n".join(piece.lines)).split("\n"))
    whole = len(lines) == len(piece.lines)  # no line, or one that holds others, is left as it is
    return replace(piece, lines=lines if whole else tuple(mask(line) for line in piece.lines))


def _file(file: FileResult) -> FileResult:
    return replace(
        file,
        path=mask(file.path),
        reason=mask(file.reason),
        fields=_fields(file.fields),
        notes=_notes(file.notes),
    )


def masked_egress(row: Egress) -> Egress:
    return replace(
        row,
        time=mask(row.time),
        host=mask(row.host),
        path=mask(row.path),
        model=mask(row.model),
        lines=mask(row.lines),
    )


def _notes(notes: tuple[Note, ...]) -> tuple[Note, ...]:
    return tuple(Note(mask(note.key), _fields(note.fields)) for note in notes)


def _fields(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: mask(value) if isinstance(value, str) else value for name, value in fields.items()}
