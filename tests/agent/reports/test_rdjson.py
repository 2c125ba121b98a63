from __future__ import annotations

import json
from dataclasses import replace

import pytest

from review_agent.agent.models import Category, Finding, Outcome, Severity, Verdict
from review_agent.agent.reports import render

FINDING = Finding(
    rule_id="ai/bug",
    category=Category.BUG,
    severity=Severity.HIGH,
    confidence=0.5,
    path="a b/支付.py",
    start_line=3,
    end_line=5,
    title="标题",
    message="说明",
    suggestion="这样改",
    replacement="x = 1\ny = 2\n",
    exact=True,
)
RANGE = {"start": {"line": 3}, "end": {"line": 5}}


def result(make, *findings: Finding, outcome: Outcome = Outcome.REPORTED) -> dict:
    return json.loads(render(make(verdicts=[Verdict(each, outcome) for each in findings]), "rdjson"))


def test_a_diagnostic_is_complete(make) -> None:
    assert result(make, FINDING) == {
        "source": {"name": "review-agent"},
        "severity": "ERROR",
        "diagnostics": [
            {
                "message": "标题\n\n说明\n\n**建议** 这样改",
                "location": {"path": "a b/支付.py", "range": RANGE},
                "severity": "ERROR",
                "code": {"value": "ai/bug"},
                "suggestions": [{"range": RANGE, "text": "x = 1\ny = 2"}],
            }
        ],
    }


@pytest.mark.parametrize(
    ("severity", "word"),
    list(zip(Severity, ["ERROR", "ERROR", "WARNING", "INFO", "INFO"], strict=True)),
)
def test_severities(make, severity: Severity, word: str) -> None:
    found = result(make, replace(FINDING, severity=severity))
    assert (found["severity"], found["diagnostics"][0]["severity"]) == (word, word)


@pytest.mark.parametrize("changes", [{"exact": False}, {"start_line": 0, "end_line": 0}])
def test_no_suggestion_unless_it_fits_the_lines(make, changes: dict) -> None:
    (diagnostic,) = result(make, replace(FINDING, **changes))["diagnostics"]
    assert "suggestions" not in diagnostic
    assert ("range" in diagnostic["location"]) is ("start_line" not in changes)


def test_a_masked_replacement_is_no_suggestion(make) -> None:
    leaky = replace(FINDING, replacement="key = 'ghp_" + "a1B2c3D4e5F6" * 3 + "'")
    assert "suggestions" not in result(make, leaky)["diagnostics"][0]


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.REPORTED])
def test_what_is_not_reported_is_left_out(make, outcome: Outcome) -> None:
    assert result(make, FINDING, outcome=outcome) == {"source": {"name": "review-agent"}, "diagnostics": []}


def test_a_file_is_needed(make) -> None:
    assert result(make, replace(FINDING, path=""))["diagnostics"] == []
