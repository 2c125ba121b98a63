"""A report in a few lines, for who waits at `git push`."""

from __future__ import annotations

from review_agent.agent.display import inline
from review_agent.agent.models import Outcome, Report
from review_agent.agent.progress import duration
from review_agent.agent.wording import worded
from review_agent.prompts import say

MOST_FINDINGS = 20
_TITLE = 120  # characters


def result_of(report: Report) -> dict[str, object]:
    """The fields of `[hook] result`."""
    verdict = say(report.lang, "verdict", report.verdict)
    if report.verdict_reason:
        reason = worded(report.verdict_reason, report.lang)
        verdict = say(report.lang, "hook", "verdict_because", verdict=verdict, reason=reason)
    coverage = report.coverage
    return {
        "verdict": verdict,
        "reviewed": coverage.files_reviewed,
        "failed": coverage.files_failed,
        "skipped": coverage.files_skipped,
        "seconds": duration(report.usage.seconds, report.lang),
    }


def findings_of(report: Report) -> tuple[list[dict[str, object]], int]:
    """The fields of `[hook] finding` for the worst of the reported ones, and how many more there are."""
    found = [verdict.finding for verdict in report.verdicts if verdict.outcome is Outcome.REPORTED]
    rows: list[dict[str, object]] = [
        {
            "severity": say(report.lang, "severity", finding.severity),
            "place": inline(f"{finding.path}:{finding.start_line}" if finding.start_line else finding.path),
            "title": inline(finding.title)[:_TITLE],
        }
        for finding in found[:MOST_FINDINGS]
    ]
    return rows, len(found) - len(rows)
