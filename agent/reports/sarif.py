"""The report as SARIF 2.1.0, for code scanning. https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html

What is reported is a result; what was silenced on purpose is a suppressed result; the rest is left out.
"""

from __future__ import annotations

import json
from typing import TypeAlias
from urllib.parse import quote

from review_agent.agent.display import inline, json_text, path_text, terminal_text
from review_agent.agent.models import (
    Category,
    FileResult,
    FileStatus,
    Finding,
    Outcome,
    Report,
    Severity,
    Verdict,
    VerdictWord,
)
from review_agent.agent.reports import outline
from review_agent.agent.reports.outline import Words
from review_agent.agent.version import __version__

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json]"

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_FINGERPRINT = "reviewAgentFingerprint/v1"
_LEVEL = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.INFO: "note",
}
# GitHub sorts security alerts by this number (9.0 critical, 7.0 high, 4.0 medium, above 0 low).
_SECURITY_SEVERITY = {
    Severity.CRITICAL: "9.0",
    Severity.HIGH: "7.5",
    Severity.MEDIUM: "5.0",
    Severity.LOW: "3.0",
    Severity.INFO: "1.0",
}
_SILENCED = (Outcome.SUPPRESSED, Outcome.BASELINED)


def render_sarif(report: Report) -> str:
    words = Words(report.lang, text=inline, path=path_text, code=lambda text: f"`{text}`")
    verdicts = outline.in_order(report, Outcome.REPORTED, *_SILENCED)
    rules = _rules([verdict.finding for verdict in verdicts], words)
    ids = list(rules)
    log: Json = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "review-agent",
                        "version": __version__,
                        "rules": [rules[rule_id] for rule_id in ids],
                    }
                },
                "language": report.lang,
                "invocations": [_invocation(report, words)],
                "results": [_result(verdict, ids, words) for verdict in verdicts],
            }
        ],
    }
    return json_text(json.dumps(log, ensure_ascii=False, indent=2)) + "\n"


def _rules(findings: list[Finding], words: Words) -> dict[str, Json]:
    """Descriptors by rule id, in order of the id; each takes its level from its worst finding."""
    worst: dict[str, Finding] = {}
    for finding in findings:  # the worst come first
        worst.setdefault(inline(finding.rule_id), finding)
    return {rule_id: _rule(rule_id, worst[rule_id], words) for rule_id in sorted(worst)}


def _rule(rule_id: str, finding: Finding, words: Words) -> Json:
    category = words.term("category", finding.category)
    properties: dict[str, Json] = {"tags": [finding.category.value]}
    if finding.category is Category.SECURITY:
        properties["security-severity"] = _SECURITY_SEVERITY[finding.severity]
    return {
        "id": rule_id,
        "shortDescription": {"text": _plain(words.say("rule_description", category=category, rule=rule_id))},
        "defaultConfiguration": {"level": _LEVEL[finding.severity]},
        "properties": properties,
    }


def _result(verdict: Verdict, rule_ids: list[str], words: Words) -> Json:
    finding = verdict.finding
    rule_id = inline(finding.rule_id)
    result: dict[str, Json] = {
        "ruleId": rule_id,
        "ruleIndex": rule_ids.index(rule_id),
        "level": _LEVEL[finding.severity],
        "message": {"text": _message(finding, words)},
        "locations": _locations(finding.path, finding.start_line, finding.end_line),
        "properties": {
            "severity": finding.severity.value,
            "confidence": finding.confidence,
            "category": finding.category.value,
        },
    }
    if finding.fingerprint:
        result["partialFingerprints"] = {_FINGERPRINT: finding.fingerprint}
    if verdict.outcome in _SILENCED:
        result["suppressions"] = [_suppression(verdict, words)]
    return result


def _suppression(verdict: Verdict, words: Words) -> Json:
    outcome = words.term("outcome", verdict.outcome)
    return {
        "kind": "inSource" if verdict.reason == "inline_suppression" else "external",
        "status": "accepted",
        "justification": outline.why(verdict, words) or outcome,
    }


def _message(finding: Finding, words: Words) -> str:
    parts = [inline(finding.title), terminal_text(finding.message.strip())]
    if finding.suggestion.strip():
        parts.append(f"{words.say('suggestion')}: {terminal_text(finding.suggestion.strip())}")
    return _plain("\n\n".join(part for part in parts if part))


def _plain(message: str) -> str:
    """`[text](target)` is a link in the messages of SARIF, too."""
    return message.replace("](", "] (")


def _locations(path: str, start: int = 0, end: int = 0) -> list[Json]:
    if not path:
        return []
    physical: dict[str, Json] = {"artifactLocation": {"uri": _uri(path), "uriBaseId": "%SRCROOT%"}}
    if start > 0:
        physical["region"] = {"startLine": start, "endLine": max(start, end)}
    return [{"physicalLocation": physical}]


def _uri(path: str) -> str:
    """A relative reference of the path's bytes. A leading `/` would make it absolute."""
    try:
        raw = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = path.encode("utf-8", "surrogatepass")
    uri = quote(raw, safe="/")
    return f"%2F{uri[1:]}" if uri.startswith("/") else uri


def _invocation(report: Report, words: Words) -> Json:
    nothing = report.verdict_reason == "nothing_to_review"
    done = report.verdict not in (VerdictWord.INCOMPLETE, VerdictWord.NOT_REVIEWED) or nothing
    failed = sorted(
        (file for file in report.files if file.status is FileStatus.FAILED), key=lambda file: file.path
    )
    return {
        "executionSuccessful": done,
        "toolExecutionNotifications": [_notification(file, words) for file in failed],
    }


def _notification(file: FileResult, words: Words) -> Json:
    reason = words.reason(file.reason, file.fields)
    text = words.say("file_line", path=words.name(file.path), reason=reason)
    return {"level": "error", "message": {"text": _plain(text)}, "locations": _locations(file.path)}
