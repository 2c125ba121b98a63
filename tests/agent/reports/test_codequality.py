from __future__ import annotations

import json
from dataclasses import replace

import pytest

from review_agent.agent.models import Category, Finding, Outcome, Severity, Verdict
from review_agent.agent.reports import render

FINDING = Finding(
    rule_id="ai/bug",
    category=Category.BUG,
    severity=Severity.LOW,
    confidence=0.5,
    path="a b/支付.py",
    start_line=3,
    end_line=5,
    title="标题",
    message="第一行\n第二行",
    fingerprint="ab12",
)


def entries(make, *verdicts: Verdict) -> list[dict]:
    return json.loads(render(make(verdicts=verdicts), "codequality"))


def reported(*findings: Finding) -> list[Verdict]:
    return [Verdict(finding, Outcome.REPORTED) for finding in findings]


def test_an_entry_has_all_that_gitlab_asks_for(make) -> None:
    assert entries(make, *reported(FINDING)) == [
        {
            "description": "标题 — 第一行 第二行",
            "check_name": "ai/bug",
            "fingerprint": "ab12",
            "severity": "minor",
            "location": {"path": "a b/支付.py", "lines": {"begin": 3}},
        }
    ]


@pytest.mark.parametrize(
    ("severity", "word"),
    list(zip(Severity, ["blocker", "critical", "major", "minor", "info"], strict=True)),
)
def test_severities(make, severity: Severity, word: str) -> None:
    (entry,) = entries(make, *reported(replace(FINDING, severity=severity)))
    assert entry["severity"] == word


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.REPORTED])
def test_what_is_not_reported_is_left_out(make, outcome: Outcome) -> None:
    assert entries(make, Verdict(FINDING, outcome)) == []


@pytest.mark.parametrize(
    ("changes", "places"),
    [({"path": ""}, []), ({"start_line": 0, "end_line": 0}, [1]), ({"title": "", "message": ""}, [3])],
)
def test_a_file_is_needed_and_a_line_is_not(make, changes: dict, places: list[int]) -> None:
    found = entries(make, *reported(replace(FINDING, **changes)))
    assert [entry["location"]["lines"]["begin"] for entry in found] == places
    assert all(entry["description"] for entry in found)


def test_fingerprints_are_unique_and_the_same_in_the_next_run(make) -> None:
    same = [replace(FINDING, start_line=line, end_line=line) for line in (3, 30, 300)]
    bare = [replace(FINDING, fingerprint="", start_line=line) for line in (7, 8)]
    first = [entry["fingerprint"] for entry in entries(make, *reported(*same, *bare))]
    again = [entry["fingerprint"] for entry in entries(make, *reported(*reversed(same), *bare))]
    assert len(set(first)) == 5
    assert first == again
    assert "ab12" in first


def test_nothing_found_is_an_empty_list(make) -> None:
    assert render(make(verdicts=()), "codequality") == "[]\n"
