from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote_to_bytes

import jsonschema
import pytest

from review_agent.agent.models import Category, Finding, Outcome, Severity, Verdict, VerdictWord
from review_agent.agent.reports import render

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "data" / "sarif-schema-2.1.0.json").read_text(encoding="utf-8")
)


def run_of(report) -> dict:
    return json.loads(render(report, "sarif"))["runs"][0]


def finding(**changes) -> Finding:
    values = {
        "rule_id": "r",
        "category": Category.BUG,
        "severity": Severity.LOW,
        "confidence": 0.5,
        "path": "a.py",
    }
    return Finding(**{**values, "start_line": 1, "end_line": 1, "title": "t", "message": "m", **changes})


@pytest.mark.parametrize(
    "changes", [{}, {"lang": "en"}, {"verdicts": ()}, {"files": ()}, {"verdict": VerdictWord.PASS}]
)
def test_the_official_schema_accepts_it(make, changes) -> None:
    log = json.loads(render(make(**changes), "sarif"))
    jsonschema.Draft7Validator(SCHEMA).validate(log)


def test_the_official_schema_would_refuse_something(make) -> None:
    log = json.loads(render(make(), "sarif"))
    log["runs"][0]["results"][0]["level"] = "fatal"
    assert not jsonschema.Draft7Validator(SCHEMA).is_valid(log)


@pytest.mark.parametrize(
    ("severity", "level"),
    [
        (Severity.CRITICAL, "error"),
        (Severity.HIGH, "error"),
        (Severity.MEDIUM, "warning"),
        (Severity.LOW, "note"),
        (Severity.INFO, "note"),
    ],
)
def test_level(make, severity: Severity, level: str) -> None:
    run = run_of(make(verdicts=(Verdict(finding(severity=severity), Outcome.REPORTED),)))
    assert run["results"][0]["level"] == level
    assert run["results"][0]["properties"] == {"severity": severity, "confidence": 0.5, "category": "bug"}


@pytest.mark.parametrize(
    ("outcome", "reason", "suppressions"),
    [
        (Outcome.REPORTED, "", None),
        (Outcome.SUPPRESSED, "inline_suppression", ["inSource"]),
        (Outcome.SUPPRESSED, "too_many_in_file", ["external"]),
        (Outcome.BASELINED, "", ["external"]),
        *(
            (outcome, "", "left out")
            for outcome in Outcome
            if outcome not in ("reported", "suppressed", "baselined")
        ),
    ],
)
def test_results_by_outcome(make, outcome: Outcome, reason: str, suppressions) -> None:
    results = run_of(make(verdicts=(Verdict(finding(), outcome, reason),)))["results"]
    if suppressions == "left out":
        assert results == []
    elif suppressions is None:
        assert "suppressions" not in results[0]
    else:
        assert [item["kind"] for item in results[0]["suppressions"]] == suppressions


@pytest.mark.parametrize(
    ("category", "severities", "expected"),
    [
        (Category.SECURITY, ["low", "critical"], "9.0"),
        (Category.SECURITY, ["high"], "7.5"),
        (Category.SECURITY, ["medium"], "5.0"),
        (Category.SECURITY, ["low"], "3.0"),
        (Category.BUG, ["critical"], None),
    ],
)
def test_security_severity_is_of_the_worst_result(make, category, severities, expected) -> None:
    found = [finding(category=category, severity=Severity(word)) for word in severities]
    (rule,) = run_of(make(verdicts=tuple(Verdict(f, Outcome.REPORTED) for f in found)))["tool"]["driver"][
        "rules"
    ]
    assert rule["properties"].get("security-severity") == expected
    assert rule["properties"]["tags"] == [category]


@pytest.mark.parametrize(("lang", "text"), [("zh-CN", "缺陷类问题（r）"), ("en", "bug finding (r)")])
def test_rules_speak_the_language_of_the_report(make, lang: str, text: str) -> None:
    run = run_of(make(lang=lang, verdicts=(Verdict(finding(), Outcome.REPORTED),)))
    assert run["tool"]["driver"]["rules"][0]["shortDescription"]["text"] == text
    assert run["language"] == lang


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("a b/c#?.py", b"a b/c#?.py"),
        ("支付.py", "支付.py".encode()),
        ("caf\udce9", b"caf\xe9"),
        ("c:/x", b"c:/x"),
        ("//evil.example/x", b"//evil.example/x"),
        ("\ud800x", b"\xed\xa0\x80x"),
    ],
)
def test_uri_is_the_path_as_bytes(make, path: str, raw: bytes) -> None:
    result = run_of(make(verdicts=(Verdict(finding(path=path), Outcome.REPORTED),)))["results"][0]
    location = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert unquote_to_bytes(location["uri"]) == raw
    assert location["uriBaseId"] == "%SRCROOT%"
    assert not location["uri"].startswith("/")
    assert not set(location["uri"]) & set(" :#?\\")


@pytest.mark.parametrize(
    ("start", "end", "region"),
    [(0, 0, None), (3, 5, {"startLine": 3, "endLine": 5}), (3, 0, {"startLine": 3, "endLine": 3})],
)
def test_region(make, start: int, end: int, region) -> None:
    found = finding(start_line=start, end_line=end)
    result = run_of(make(verdicts=(Verdict(found, Outcome.REPORTED),)))["results"][0]
    assert result["locations"][0]["physicalLocation"].get("region") == region


@pytest.mark.parametrize(
    ("verdict", "reason", "successful"),
    [
        (VerdictWord.PASS, "", True),
        (VerdictWord.ISSUES, "", True),
        (VerdictWord.INCOMPLETE, "some_failed", False),
        (VerdictWord.NOT_REVIEWED, "all_failed", False),
        (VerdictWord.NOT_REVIEWED, "demo_model", False),
        (VerdictWord.NOT_REVIEWED, "nothing_to_review", True),
    ],
)
def test_execution_successful(make, verdict: VerdictWord, reason: str, successful: bool) -> None:
    (invocation,) = run_of(make(verdict=verdict, verdict_reason=reason))["invocations"]
    assert invocation["executionSuccessful"] is successful
    assert len(invocation["toolExecutionNotifications"]) == 2


def test_a_message_holds_no_link_and_a_fingerprint_key_of_ours(make) -> None:
    found = finding(message="[点我](http://evil.example)", fingerprint="ab12")
    result = run_of(make(verdicts=(Verdict(found, Outcome.REPORTED),)))["results"][0]
    assert "](" not in result["message"]["text"]
    assert result["partialFingerprints"] == {"reviewAgentFingerprint/v1": "ab12"}
