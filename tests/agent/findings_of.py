"""Findings and verdicts for tests of what an agent is asked, and may say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from review_agent.agent.models import Category, Evidence, Finding, Outcome, Severity, Verdict


def finding(path: str = "a.py", line: int = 1, title: str = "title", **more: Any) -> Finding:
    made = Finding(
        rule_id="ai/bug",
        category=Category.BUG,
        severity=Severity.HIGH,
        confidence=0.9,
        path=path,
        start_line=line,
        end_line=line,
        title=title,
        message=f"message of {title}",
        evidence=(Evidence(line, (f"code of {path}:{line}",)),),
        fingerprint=f"{path}-{line}-{title}",
    )
    return replace(made, **more)


def reported(*findings: Finding) -> list[Verdict]:
    return [Verdict(each, Outcome.REPORTED) for each in findings]
