"""The report for reviewdog. https://github.com/reviewdog/reviewdog/tree/master/proto/rdf

Only what is reported and names a file: reviewdog has no place for the rest. Ranges are of whole lines.
"""

from __future__ import annotations

import json
from typing import TypeAlias

from review_agent.agent.display import inline, json_text, markdown_text, path_text
from review_agent.agent.models import Finding, Outcome, Report, Severity
from review_agent.agent.replacements import is_shown_as_is, lines_of
from review_agent.agent.reports import outline
from review_agent.agent.reports.outline import Words

Json: TypeAlias = "str | int | list[Json] | dict[str, Json]"

_SEVERITY = {
    Severity.CRITICAL: "ERROR",
    Severity.HIGH: "ERROR",
    Severity.MEDIUM: "WARNING",
    Severity.LOW: "INFO",
    Severity.INFO: "INFO",
}


def render_rdjson(report: Report) -> str:
    words = Words(report.lang, text=inline, path=path_text, code=lambda text: f"`{text}`")
    findings = [verdict.finding for verdict in outline.in_order(report, Outcome.REPORTED)]
    result: dict[str, Json] = {"source": {"name": "review-agent"}}
    if findings:  # the worst comes first
        result["severity"] = _SEVERITY[findings[0].severity]
    result["diagnostics"] = [_diagnostic(finding, words) for finding in findings if finding.path]
    return json_text(json.dumps(result, ensure_ascii=False, indent=2)) + "\n"


def _diagnostic(finding: Finding, words: Words) -> Json:
    location: dict[str, Json] = {"path": path_text(finding.path)}
    diagnostic: dict[str, Json] = {
        "message": _message(finding, words),
        "location": location,
        "severity": _SEVERITY[finding.severity],
        "code": {"value": inline(finding.rule_id)},
    }
    if finding.start_line > 0:
        location["range"] = _range(finding)
        text = "\n".join(lines_of(finding.replacement))
        if finding.exact and is_shown_as_is(text):  # a report from a file says `exact` of anything
            diagnostic["suggestions"] = [{"range": _range(finding), "text": text}]
    return diagnostic


def _range(finding: Finding) -> Json:
    """Without columns both lines are meant from end to end."""
    return {
        "start": {"line": finding.start_line},
        "end": {"line": max(finding.start_line, finding.end_line)},
    }


def _message(finding: Finding, words: Words) -> str:
    """Markdown: reviewdog makes comments of it."""
    parts = [markdown_text(inline(finding.title)), markdown_text(finding.message)]
    if finding.suggestion.strip():
        parts.append(f"**{words.say('suggestion')}** {markdown_text(finding.suggestion)}")
    return "\n\n".join(part for part in parts if part)
