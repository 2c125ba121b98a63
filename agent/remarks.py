"""The texts that go to a forge, as Markdown: nothing from outside in them is acted on."""

from __future__ import annotations

from collections.abc import Sequence

from review_agent.agent.display import code_block, code_span, inline, markdown_text
from review_agent.agent.markers import GONE, SUMMARY, Checkpoint, key_line
from review_agent.agent.models import Finding, Outcome, Report, Verdict
from review_agent.agent.publication import Closing, Placing, Plan
from review_agent.agent.replacements import is_shown_as_is, lines_of
from review_agent.agent.reports import outline
from review_agent.agent.reports.outline import Ready, Words
from review_agent.prompts import say

LIMIT = 60_000  # characters; GitHub takes 65,536
_FIELD = 4000


def _words(lang: str) -> Words:
    return Words(lang, text=_one_line, path=code_span, code=code_span)


def _one_line(text: str) -> str:
    return markdown_text(inline(text))


def remark(placing: Placing, verdict: Verdict, lang: str) -> str:
    """The comment on the lines of a finding, with its hidden name at the end."""
    words = _words(lang)
    finding = verdict.finding
    head = f"**{words.term('severity', finding.severity)}** {_one_line(finding.title[:_FIELD])}"
    parts = [head, markdown_text(finding.message[:_FIELD].strip())]
    if finding.suggestion.strip():
        parts.append(f"**{words.say('suggestion')}** {markdown_text(finding.suggestion[:_FIELD].strip())}")
    parts.append(_replacement(placing, words))
    parts.append(f"{code_span(finding.rule_id[:200])} {words.join(outline.about(verdict, words))}")
    text = "\n\n".join(part for part in parts if part)
    if len(text) > LIMIT:
        text = f"{head}\n\n{words.sentence(('publish',), 'cut', {})}"[:LIMIT]
    return f"{text}\n\n{key_line(placing.key)}"


def _replacement(placing: Placing, words: Words) -> str:
    """A suggestion that can be accepted by a click only where it replaces just the lines commented on."""
    finding = placing.finding
    new = "\n".join(lines_of(finding.replacement))
    if not new or len(new) > _FIELD:
        return ""
    if finding.exact and placing.spot.whole and is_shown_as_is(new):
        return code_block(new, "suggestion")
    return f"**{words.say('replacement')}**\n\n{code_block(new)}"


def farewell(body: str, commit: str, lang: str) -> str:
    """A comment on a finding that is not reported any more. What it said stays below."""
    line = say(lang, "publish", "gone", commit=f"`{commit[:12]}`")
    return f"{GONE}\n{line}\n\n{body}"[: LIMIT + 5000]


def review_body(count: int, lang: str) -> str:
    return say(lang, "publish", "review_body", count=count)


def summary(
    report: Report,
    plan: Plan,
    *,
    refused: Sequence[Finding],
    closing: Closing,
    checkpoint: Checkpoint | None,
) -> str:
    """The one comment that stands below the pull request, edited by each later run."""
    words = _words(report.lang)
    top = [SUMMARY, *([str(checkpoint)] if checkpoint else [])]
    lines = ["", f"## {words.say('title')}", ""]
    if outline.is_demo(report):
        lines += [f"**{words.say('demo_banner')}**", ""]
    lines += [f"**{outline.verdict_line(report, words)}**", ""]
    lines += [f"- {line.strip()}" for line in [*outline.facts(report, words), *_counts(plan, closing, words)]]
    if report.summary.strip():
        lines += ["", f"### {words.say('summary')}", "", markdown_text(report.summary[:_FIELD].strip())]
    chapters = [
        (words.sentence(("publish",), "apart", {"count": len(plan.apart)}), _listed(plan.apart, words)),
        (words.sentence(("publish",), "refused", {"count": len(refused)}), _listed(refused, words)),
        *outline.sections(report, words),
    ]
    for heading, rows in chapters:
        if rows:
            lines += ["", f"### {heading}", "", *(f"- {row.strip()}" for row in rows)]
    return "\n".join([*top, *_within(lines, words)]) + "\n"


def _counts(plan: Plan, closing: Closing, words: Words) -> list[Ready]:
    rows = {
        "new": len(plan.inline),
        "known": len(plan.known),
        "settled": len(plan.settled),
        "carried": len(plan.carried),
        "closed": closing.closed,
        "denied": closing.denied,
        "answered": closing.answered,
        "left": closing.left,
    }
    said = {key: {"count": count} for key, count in rows.items() if count}
    return [words.sentence(("publish",), f"count_{key}", fields) for key, fields in said.items()]


def _listed(findings: Sequence[Finding], words: Words) -> list[Ready]:
    return [
        words.sentence(
            ("publish",),
            "listed",
            {
                "severity": words.term("severity", finding.severity),
                "place": words.name(outline.place(finding) if finding.path else ""),
                "title": finding.title[:_FIELD],
            },
        )
        for finding in findings
    ]


def _within(lines: Sequence[str], words: Words) -> list[str]:
    """As many lines as GitHub takes; the last one says that there are more."""
    kept: list[str] = []
    room = LIMIT - 1000
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            return [*kept, "", words.sentence(("publish",), "cut", {})]
        kept.append(line)
    return kept


def verdict_of(report: Report, finding: Finding) -> Verdict:
    return next(
        (verdict for verdict in report.verdicts if verdict.finding is finding),
        Verdict(finding, Outcome.REPORTED),
    )
