"""The report for GitLab's Code Quality. https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format

Only what is reported and names a file: GitLab has no place for the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter

from review_agent.agent.display import inline, json_text, path_text, terminal_text
from review_agent.agent.models import Finding, Outcome, Report, Severity
from review_agent.agent.reports import outline

_SEVERITY = {
    Severity.CRITICAL: "blocker",
    Severity.HIGH: "critical",
    Severity.MEDIUM: "major",
    Severity.LOW: "minor",
    Severity.INFO: "info",
}


def render_codequality(report: Report) -> str:
    seen: Counter[str] = Counter()
    entries = []
    for verdict in outline.in_order(report, Outcome.REPORTED):
        finding = verdict.finding
        if finding.path:
            entries.append(_entry(finding, seen[finding.fingerprint]))
            seen[finding.fingerprint] += 1
    return json_text(json.dumps(entries, ensure_ascii=False, indent=2)) + "\n"


def _entry(finding: Finding, nth: int) -> dict[str, object]:
    return {
        "description": _description(finding),
        "check_name": inline(finding.rule_id),
        "fingerprint": _fingerprint(finding, nth),
        "severity": _SEVERITY[finding.severity],
        "location": {"path": path_text(finding.path), "lines": {"begin": max(1, finding.start_line)}},
    }


def _description(finding: Finding) -> str:
    """One line: the widget shows no more."""
    parts = (inline(finding.title), inline(terminal_text(finding.message.strip())))
    return " — ".join(part for part in parts if part) or inline(finding.rule_id)


def _fingerprint(finding: Finding, nth: int) -> str:
    """GitLab shows one entry of each: the second place of the same code needs one of its own."""
    text = f"{finding.fingerprint or outline.place(finding)}\0{nth}" if nth or not finding.fingerprint else ""
    if not text:
        return inline(finding.fingerprint)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
