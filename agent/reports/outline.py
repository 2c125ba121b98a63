"""What a report says and in which order: shared by the renderers that people read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

from review_agent.agent.models import (
    CloudUsage,
    Egress,
    FileStatus,
    Finding,
    Note,
    Outcome,
    Report,
    Severity,
    Verdict,
    VerdictWord,
)
from review_agent.agent.spans import joined
from review_agent.prompts import messages

_NAMES_SHOWN = 3
_EGRESS_SHOWN = 200
_CODE = re.compile(r"(`[^`]*`)")


class Ready(str):
    """Text that went through the medium's gate already."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Words:
    """Catalogue sentences for one medium: `text` gates prose, `path` file names, `code` what is in backticks.

    A sentence of ours always comes out: an unknown key shows as itself, a field that is missing as `…`.
    """

    lang: str
    text: Callable[[str], str]
    path: Callable[[str], str]
    code: Callable[[str], str]

    def say(self, key: str, **fields: object) -> Ready:
        return self.sentence(("report",), key, fields)

    def term(self, table: str, key: str) -> Ready:
        return self.sentence((table,), key, {})

    def note(self, note: Note) -> Ready:
        return self.sentence(("notes", "reasons"), note.key, note.fields)

    def reason(self, key: str, fields: Mapping[str, object] | None = None) -> Ready:
        return self.sentence(("reasons", "notes"), key, fields or {})

    def name(self, path: str) -> Ready:
        return Ready(self.path(path)) if path else self.say("no_path")

    def join(self, items: Sequence[str]) -> Ready:
        return Ready(self.say("list_joiner").join(self._gated(item) for item in items))

    def sentence(self, tables: tuple[str, ...], key: str, fields: Mapping[str, object]) -> Ready:
        known = messages(self.lang)
        template = next((known[table][key] for table in tables if key in known.get(table, {})), None)
        if template is None:
            return Ready(self.text(key))
        pieces = _CODE.split(template)
        return Ready(
            "".join(
                self.code(_fill(piece.strip("`"), fields, str))
                if piece.startswith("`")
                else _fill(piece, fields, self._gated)
                for piece in pieces
            )
        )

    def _gated(self, value: object) -> str:
        return str(value) if isinstance(value, Ready | int) else self.text(str(value))


def _fill(template: str, fields: Mapping[str, object], gate: Callable[[object], str]) -> str:
    filled = ""
    for literal, name, _, _ in Formatter().parse(template):
        filled += literal
        if name is not None:
            filled += gate(fields.get(name, Ready("…")))
    return filled


def is_demo(report: Report) -> bool:
    return any(note.key == "demo_model" for note in report.notes)


def in_order(report: Report, *outcomes: Outcome) -> list[Verdict]:
    """Verdicts of these outcomes by severity, path and line."""
    chosen = [verdict for verdict in report.verdicts if verdict.outcome in outcomes]
    return sorted(chosen, key=lambda verdict: _place(verdict.finding))


def _place(finding: Finding) -> tuple[int, str, int, int, str, str]:
    return (
        finding.severity.rank,
        finding.path,
        finding.start_line,
        finding.end_line,
        finding.rule_id,
        finding.title,
    )


def chapters(report: Report, words: Words) -> list[tuple[Ready, list[tuple[int, Verdict]]]]:
    """Headings with the reported findings under them, numbered through: first those that have a line."""
    reported = in_order(report, Outcome.REPORTED)
    chosen = []
    number = 1
    for key, findings in (
        ("findings", [verdict for verdict in reported if verdict.finding.start_line > 0]),
        ("unplaced", [verdict for verdict in reported if verdict.finding.start_line <= 0]),
    ):
        if findings:
            chosen.append((words.say(key, count=len(findings)), list(enumerate(findings, start=number))))
        number += len(findings)
    return chosen


def sections(report: Report, words: Words) -> list[tuple[Ready, list[Ready]]]:
    """Headings with the lines under them, for all that is no reported finding; empty ones are left out."""
    missed, not_placed, wrong = failed(report, words), unanchored(report, words), refuted(report, words)
    hidden = sum(verdict.outcome is not Outcome.REPORTED for verdict in report.verdicts)
    skips = sum(file.status is FileStatus.SKIPPED for file in report.files)
    every = [
        (words.say("unanchored", count=len(not_placed)), not_placed),
        (words.say("refuted", count=len(wrong)), wrong),
        (words.say("failed", count=len(missed)), missed),
        (words.say("not_reported", count=hidden), not_reported(report, words)),
        (words.say("skipped", count=skips), skipped(report, words)),
        (words.say("file_notes"), file_notes(report, words)),
        (words.say("notes"), [words.note(note) for note in report.notes]),
        (words.say("usage"), usage(report, words)),
        (words.say("egress"), egress(report, words)),
    ]
    return [(heading, lines) for heading, lines in every if lines]


def tally(report: Report, words: Words) -> Ready:
    counts = Counter(verdict.finding.severity for verdict in in_order(report, Outcome.REPORTED))
    parts = [
        words.say("tally_part", severity=words.term("severity", severity), count=counts[severity])
        for severity in Severity
        if counts[severity]
    ]
    if not parts:
        return words.say("tally_none")
    return words.say("tally", count=counts.total(), parts=words.join(parts))


def not_reported(report: Report, words: Words) -> list[Ready]:
    """A line for each outcome but "reported", in the order of `Outcome`: how many, and why."""
    lines = []
    for outcome in Outcome:
        reasons = Counter(verdict.reason for verdict in report.verdicts if verdict.outcome is outcome)
        if outcome is Outcome.REPORTED or not reasons:
            continue
        why = [
            words.say("reason_count", reason=words.reason(key), count=count)
            for key, count in sorted(reasons.items())
            if key
        ]
        lines.append(
            words.say(
                "not_reported_line" if why else "not_reported_plain",
                outcome=words.term("outcome", outcome),
                count=reasons.total(),
                reasons=words.join(why),
            )
        )
    return lines


def unanchored(report: Report, words: Words) -> list[Ready]:
    """One line for each finding whose code was not found: kept, but not part of the verdict."""
    return [
        words.say(
            "unanchored_line",
            severity=words.term("severity", verdict.finding.severity),
            path=words.name(verdict.finding.path),
            title=verdict.finding.title,
            reason=words.reason(verdict.reason or "quote_not_shown"),
        )
        for verdict in in_order(report, Outcome.UNANCHORED)
    ]


def refuted(report: Report, words: Words) -> list[Ready]:
    """One line for each finding that was judged wrong, with the reason that was given."""
    return [
        words.say(
            "refuted_line",
            severity=words.term("severity", verdict.finding.severity),
            place=words.name(place(verdict.finding)),
            title=verdict.finding.title,
            reason=why(verdict, words),
        )
        for verdict in in_order(report, Outcome.REFUTED)
    ]


def why(verdict: Verdict, words: Words) -> Ready:
    """The reason of an outcome, and what was said of it; '' where there is none."""
    if not verdict.reason:
        return Ready("")
    reason = words.reason(verdict.reason, verdict.fields)
    said = verdict.fields.get("said")
    return words.say("reason_said", reason=reason, said=said) if said else reason


def skipped(report: Report, words: Words) -> list[Ready]:
    """A line for each reason, the most frequent first: how many files, and the first names."""
    groups: dict[str, list[str]] = {}
    for file in sorted(report.files, key=lambda file: file.path):
        if file.status is FileStatus.SKIPPED:
            groups.setdefault(words.reason(file.reason, file.fields), []).append(file.path)
    return [
        words.say(
            "skipped_line" if len(paths) <= _NAMES_SHOWN else "skipped_more",
            reason=reason,
            count=len(paths),
            names=words.join([words.name(path) for path in paths[:_NAMES_SHOWN]]),
        )
        for reason, paths in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    ]


def failed(report: Report, words: Words) -> list[Ready]:
    """A line for each file that could not be reviewed, by path."""
    files = sorted(report.files, key=lambda file: file.path)
    return [
        words.say("file_line", path=words.name(file.path), reason=words.reason(file.reason, file.fields))
        for file in files
        if file.status is FileStatus.FAILED
    ]


def file_notes(report: Report, words: Words) -> list[Ready]:
    files = sorted(report.files, key=lambda file: file.path)
    return [
        words.say("file_line", path=words.name(file.path), reason=words.note(note))
        for file in files
        for note in file.notes
    ]


def about(verdict: Verdict, words: Words) -> list[Ready]:
    """Confidence, who found it when it was not the model that read the file, and what a second look said."""
    finding = verdict.finding
    facts_of = [words.say("confidence", confidence=Ready(f"{finding.confidence:.2f}"))]
    if finding.source != "model":
        facts_of.append(words.say("source_agent" if finding.source == "agent" else "source_check"))
    if said := why(verdict, words):
        facts_of.append(said)
    return facts_of


def place(finding: Finding) -> str:
    """`path`, `path:3` or `path:3-5`."""
    if finding.start_line <= 0:
        return finding.path
    if finding.end_line <= finding.start_line:
        return f"{finding.path}:{finding.start_line}"
    return f"{finding.path}:{finding.start_line}-{finding.end_line}"


def excerpt(finding: Finding) -> list[tuple[str, str]]:
    """(gutter, code) of the evidence; `>` marks the lines the finding is about, `…` stands between pieces."""
    last = max((piece.start_line + len(piece.lines) - 1 for piece in finding.evidence), default=0)
    width = len(str(last))
    rows: list[tuple[str, str]] = []
    for piece in finding.evidence:
        if rows:
            rows.append((f"  {'…':>{width}} |", ""))
        for number, line in enumerate(piece.lines, start=piece.start_line):
            marked = finding.start_line <= number <= max(finding.start_line, finding.end_line)
            rows.append((f"{'>' if marked else ' '} {number:>{width}} |", line.expandtabs(4)))
    return rows


def verdict_line(report: Report, words: Words) -> Ready:
    verdict = words.term("verdict", report.verdict)
    if report.verdict_reason and report.verdict is not VerdictWord.PASS:
        return words.say("verdict_because", verdict=verdict, reason=words.reason(report.verdict_reason))
    return words.say("verdict", verdict=verdict)


def facts(report: Report, words: Words) -> list[Ready]:
    """The lines under the verdict: coverage and counts, then what was reviewed and by whom."""
    c = report.coverage
    counts = {"selected": c.files_selected, "reviewed": c.files_reviewed}
    return [
        words.say("coverage", **counts, skipped=c.files_skipped, failed=c.files_failed),
        words.say("coverage_lines", lines=c.changed_lines, done=c.changed_lines_reviewed),
        tally(report, words),
        words.say("target", target=_target(report.target, words)),
        *_engine(report, words),
        _orchestrator(report, words),
        words.say(
            "run_created" if report.created else "run",
            run=report.run_id,
            created=report.created,
        ),
    ]


def _engine(report: Report, words: Words) -> list[Ready]:
    engine = report.engine
    line = words.say(
        "engine_digest" if engine.model_digest else "engine",
        mode=words.say(f"mode_{engine.mode}"),
        backend=engine.backend,
        model=engine.model,
        digest=engine.model_digest.removeprefix("sha256:")[:12],
    )
    if not engine.cloud_host:
        return [line]
    return [line, words.say("cloud", host=engine.cloud_host, model=engine.cloud_model)]


def _orchestrator(report: Report, words: Words) -> Ready:
    engine = report.engine
    cloud = engine.mode == "cloud" and engine.orchestrator == "direct"
    key = "direct_cloud" if cloud else engine.orchestrator
    return words.say(f"orchestrator_{key}", model=engine.agent_model)


def usage(report: Report, words: Words) -> list[Ready]:
    used = report.usage
    line = words.say(
        "usage_line",
        requests=used.requests,
        prompt=used.prompt_tokens,
        completion=used.completion_tokens,
        cached=used.cached_units,
        seconds=Ready(f"{used.seconds:.1f}"),
    )
    return [line, _usage_cloud(used.cloud, words)] if used.cloud.requests else [line]


def _usage_cloud(used: CloudUsage, words: Words) -> Ready:
    known = used.cost is not None
    return words.say(
        "usage_cloud",
        requests=used.requests,
        prompt=used.prompt_tokens,
        read=used.cache_read_tokens,
        write=used.cache_write_tokens,
        completion=used.completion_tokens,
        cost=words.say("cost", dollars=Ready(f"{used.cost:.4f}")) if known else words.say("cost_unknown"),
    )


def egress(report: Report, words: Words) -> list[Ready]:
    """The ledger by file; an empty one says that nothing left only where nothing could."""
    if not report.egress:
        return [words.say("egress_none_local" if report.engine.mode == "local" else "egress_none")]
    total = words.say(
        "egress_total",
        count=len(report.egress),
        bytes=sum(row.bytes for row in report.egress),
        run=report.run_id,
    )
    groups: dict[tuple[str, str, str], list[Egress]] = {}
    for row in report.egress:
        groups.setdefault((row.host, row.model, row.path), []).append(row)
    shown = sorted(groups.items())[:_EGRESS_SHOWN]
    lines = [_egress_line(rows, words) for _, rows in shown]
    if len(groups) > len(shown):
        lines.append(words.say("egress_more", count=len(groups) - len(shown), run=report.run_id))
    return [total, *lines]


def _egress_line(rows: Sequence[Egress], words: Words) -> Ready:
    """All that went of one file to one model."""
    first = rows[0]
    path = words.name(first.path) if first.path else words.say("egress_no_file")
    if lines := joined(row.lines for row in rows):
        path = words.say("egress_lines", path=path, lines=lines)
    return words.say(
        "egress_line",
        host=first.host,
        path=path,
        bytes=sum(row.bytes for row in rows),
        count=len(rows),
        redactions=sum(row.redactions for row in rows),
        model=first.model,
    )


def _target(target: str, words: Words) -> str:
    """`kind` or `kind:which`, as `Target.label` writes it, in the report's words."""
    kind, _, which = target.partition(":")
    if kind not in _TARGETS:
        return words.name(target)
    if which and kind in _WITH_FOLDER:
        return words.say(f"target_{kind}_in", which=words.name(which))
    return words.say(f"target_{kind}", which=words.name(which))


_WITH_FOLDER = frozenset({"tree", "working", "staged"})
_TARGETS = _WITH_FOLDER | {"range", "commit", "diff"}
