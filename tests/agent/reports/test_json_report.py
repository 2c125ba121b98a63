from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from review_agent.agent.errors import StoreError, UsageError
from review_agent.agent.models import (
    Coverage,
    EngineInfo,
    FileResult,
    FileStatus,
    Note,
    Report,
    Usage,
    VerdictWord,
)
from review_agent.agent.reports import FORMATS, render
from review_agent.agent.reports.json_report import from_json, to_json
from review_agent.prompts import say

KEYS = {
    "": "schema_version run_id target engine verdict coverage summary findings files usage egress",
    "engine": "mode backend model model_digest orchestrator",
    "coverage": "files_selected files_reviewed files_skipped files_failed "
    "changed_lines changed_lines_reviewed",
    "findings": "id fingerprint rule_id category severity confidence path start_line end_line title "
    "message suggestion replacement evidence source outcome reason",
    "files": "path status reason route units",
    "usage": "requests prompt_tokens completion_tokens cached_units seconds",
    "egress": "time host path bytes redactions model",
}


@pytest.mark.parametrize(("part", "keys"), KEYS.items())
def test_keys_and_their_order(make, part: str, keys: str) -> None:
    stored = json.loads(to_json(make()))
    found = stored[part] if part else stored
    expected = keys.split()
    for item in found if isinstance(found, list) else [found]:
        assert list(item)[: len(expected)] == expected


def test_every_verdict_is_kept_with_its_reason(make) -> None:
    findings = json.loads(to_json(make()))["findings"]
    assert len(findings) == len(make().verdicts)
    assert [f["id"] for f in findings] == [f"F{n}" for n in range(1, len(findings) + 1)]
    low = next(f for f in findings if f["outcome"] == "low_confidence")
    assert (low["reason"], low["reason_key"]) == ("低于设定的最低置信度", "below_min_confidence")
    assert findings[2]["evidence"][0]["start_line"] == 11


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("lang", ["zh-CN", "en"])
def test_a_stored_report_renders_identically(make, lang: str, fmt: str) -> None:
    report = make(lang=lang)
    assert render(from_json(to_json(report)), fmt) == render(report, fmt)


def test_nothing_is_lost(make) -> None:
    assert from_json(to_json(make())) == make()


@given(text=st.text(), byte=st.integers(0x80, 0xFF))
def test_any_file_name_survives(text: str, byte: int) -> None:
    path = f"{text}{chr(0xDC00 + byte)}"
    file = FileResult(path, FileStatus.SKIPPED, "binary", notes=(Note("x", {"path": path, "n": 1}),))
    report = Report(
        run_id="r",
        target=text,
        lang="en",
        engine=EngineInfo("local", "ollama", "m", ""),
        verdict=VerdictWord.NOT_REVIEWED,
        verdict_reason="nothing_to_review",
        coverage=Coverage(),
        summary=text,
        verdicts=(),
        files=(file,),
        usage=Usage(),
    )
    stored = to_json(report)
    assert from_json(stored.encode("utf-8").decode("utf-8")) == report
    for fmt in FORMATS:
        render(report, fmt).encode("utf-8")


def _with(make, **changes: object) -> str:
    return json.dumps({**json.loads(to_json(make())), **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"lang": "../../etc"},
        {"verdict": "clean"},
        {"engine": None},
        {"findings": [{"id": "F1"}]},
        {"files": {}},
        {"notes": [{"key": "x", "fields": {"a": [1]}}]},
        {"usage": {"seconds": float("nan")}},
    ],
)
def test_a_changed_report_is_refused(make, changes: dict[str, object]) -> None:
    with pytest.raises(StoreError) as caught:
        from_json(_with(make, **changes))
    assert caught.value.key == "report_unreadable"


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "{", "[" * 100_000, "1" * 5000, '{"a": 1e999}'])
def test_text_that_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(StoreError):
        from_json(text)


def test_a_field_we_do_not_know_is_ignored(make) -> None:
    assert from_json(_with(make, later="x")) == make()


def test_an_unknown_format_is_refused(make) -> None:
    with pytest.raises(UsageError) as caught:
        render(make(), "pdf")
    assert "pdf" in say("en", "errors", caught.value.key, **caught.value.fields)
