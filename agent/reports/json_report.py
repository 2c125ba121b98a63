"""The JSON report (`schema_version` 1): complete, so that a stored one can be shown again in any format."""

from __future__ import annotations

import json
import math
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from review_agent.agent.display import inline, json_text
from review_agent.agent.errors import StoreError
from review_agent.agent.models import (
    Category,
    Coverage,
    Egress,
    EngineInfo,
    Evidence,
    FileResult,
    FileStatus,
    Finding,
    Note,
    Outcome,
    Report,
    Severity,
    Usage,
    Verdict,
    VerdictWord,
)
from review_agent.agent.reports import outline
from review_agent.agent.reports.outline import Words

SCHEMA_VERSION: Literal[1] = 1

FieldValue: TypeAlias = str | int | float | bool | None
Count: TypeAlias = Annotated[int, Field(ge=0)]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Note(_Stored):
    key: str
    fields: dict[str, FieldValue]


class _Finding(_Stored):
    """One verdict: `id` is its place in the report, `reason` the sentence for `reason_key`."""

    id: str
    fingerprint: str
    rule_id: str
    category: Category
    severity: Severity
    confidence: float
    path: str
    start_line: Count
    end_line: Count
    title: str
    message: str
    suggestion: str
    replacement: str
    evidence: tuple[Evidence, ...]
    source: str
    outcome: Outcome
    reason: str
    reason_key: str
    symbol: str
    reason_fields: dict[str, FieldValue] = {}
    exact: bool = False


class _File(_Stored):
    """`reason` is the sentence for `reason_key` and its `fields`."""

    path: str
    status: FileStatus
    reason: str
    route: str
    units: Count
    reason_key: str
    fields: dict[str, FieldValue]
    changed_lines: Count
    reviewed_lines: Count
    notes: tuple[_Note, ...]


class _Report(_Stored):
    """Field order is the order in the file; after `egress` stands what only we need to show it again."""

    schema_version: Literal[1]
    run_id: str
    target: str
    engine: EngineInfo
    verdict: VerdictWord
    coverage: Coverage
    summary: str
    findings: tuple[_Finding, ...]
    files: tuple[_File, ...]
    usage: Usage
    egress: tuple[Egress, ...]
    lang: Literal["zh-CN", "en"]
    verdict_reason: str
    notes: tuple[_Note, ...]
    created: str


def to_json(report: Report) -> str:
    """The report as JSON text, always encodable; equal reports give equal bytes."""
    words = Words(report.lang, text=inline, path=inline, code=lambda text: f"`{text}`")
    stored = _Report(
        schema_version=SCHEMA_VERSION,
        run_id=report.run_id,
        target=report.target,
        engine=report.engine,
        verdict=report.verdict,
        coverage=report.coverage,
        summary=report.summary,
        findings=tuple(_finding(n, verdict, words) for n, verdict in enumerate(report.verdicts, start=1)),
        files=tuple(_file(file, words) for file in report.files),
        usage=report.usage,
        egress=report.egress,
        lang="en" if report.lang == "en" else "zh-CN",
        verdict_reason=report.verdict_reason,
        notes=_notes(report.notes),
        created=report.created,
    )
    # Not `model_dump_json`: it refuses the lone surrogates that file names may hold.
    return json_text(json.dumps(stored.model_dump(mode="python"), ensure_ascii=False, indent=2)) + "\n"


def _finding(number: int, verdict: Verdict, words: Words) -> _Finding:
    finding = verdict.finding
    return _Finding(
        id=f"F{number}",
        fingerprint=finding.fingerprint,
        rule_id=finding.rule_id,
        category=finding.category,
        severity=finding.severity,
        confidence=finding.confidence,
        path=finding.path,
        start_line=finding.start_line,
        end_line=finding.end_line,
        title=finding.title,
        message=finding.message,
        suggestion=finding.suggestion,
        replacement=finding.replacement,
        evidence=finding.evidence,
        source=finding.source,
        outcome=verdict.outcome,
        reason=outline.why(verdict, words),
        reason_key=verdict.reason,
        reason_fields=_fields(verdict.fields),
        symbol=finding.symbol,
        exact=finding.exact,
    )


def _file(file: FileResult, words: Words) -> _File:
    return _File(
        path=file.path,
        status=file.status,
        reason=words.reason(file.reason, file.fields) if file.reason else "",
        route=file.route,
        units=file.units,
        reason_key=file.reason,
        fields=_fields(file.fields),
        changed_lines=file.changed_lines,
        reviewed_lines=file.reviewed_lines,
        notes=_notes(file.notes),
    )


def _notes(notes: tuple[Note, ...]) -> tuple[_Note, ...]:
    return tuple(_Note(key=note.key, fields=_fields(note.fields)) for note in notes)


def _fields(fields: dict[str, object]) -> dict[str, FieldValue]:
    """Fields are only ever shown; what JSON has no word for is kept as it would show."""
    return {
        key: value if value is None or isinstance(value, str | int | float) else str(value)
        for key, value in fields.items()
    }


def from_json(text: str) -> Report:
    """The report that `to_json` wrote. Raises StoreError for anything else."""
    try:
        stored = _Report.model_validate(json.loads(text, parse_float=_finite, parse_constant=_finite))
    except (ValueError, RecursionError) as exc:  # ValidationError is a ValueError
        raise StoreError("report_unreadable") from exc
    return Report(
        run_id=stored.run_id,
        target=stored.target,
        lang=stored.lang,
        engine=stored.engine,
        verdict=stored.verdict,
        verdict_reason=stored.verdict_reason,
        coverage=stored.coverage,
        summary=stored.summary,
        verdicts=tuple(_verdict(item) for item in stored.findings),
        files=tuple(_file_result(item) for item in stored.files),
        usage=stored.usage,
        egress=stored.egress,
        notes=_loaded(stored.notes),
        created=stored.created,
    )


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _verdict(stored: _Finding) -> Verdict:
    finding = Finding(
        rule_id=stored.rule_id,
        category=stored.category,
        severity=stored.severity,
        confidence=stored.confidence,
        path=stored.path,
        start_line=stored.start_line,
        end_line=stored.end_line,
        title=stored.title,
        message=stored.message,
        suggestion=stored.suggestion,
        replacement=stored.replacement,
        source=stored.source,
        symbol=stored.symbol,
        evidence=stored.evidence,
        fingerprint=stored.fingerprint,
        exact=stored.exact,
    )
    return Verdict(finding, stored.outcome, stored.reason_key, dict(stored.reason_fields))


def _file_result(stored: _File) -> FileResult:
    return FileResult(
        path=stored.path,
        status=stored.status,
        reason=stored.reason_key,
        route=stored.route,
        units=stored.units,
        changed_lines=stored.changed_lines,
        reviewed_lines=stored.reviewed_lines,
        fields=dict(stored.fields),
        notes=_loaded(stored.notes),
    )


def _loaded(notes: tuple[_Note, ...]) -> tuple[Note, ...]:
    return tuple(Note(note.key, dict(note.fields)) for note in notes)
