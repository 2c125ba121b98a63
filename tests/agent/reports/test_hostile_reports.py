"""Whole reports with hostile text in every field, in every format: what is ours stays, nothing is added."""

from __future__ import annotations

import json
import re

import pytest
from hostile_text import HOSTILE, PARSERS, commands, forbidden, kinds
from hypothesis import given, settings
from hypothesis import strategies as st

from review_agent.agent.models import (
    Category,
    Coverage,
    Egress,
    EngineInfo,
    Evidence,
    FileResult,
    FileStatus,
    Finding,
    Note,
    Outcome,
    Report,
    Severity,
    Usage,
    Verdict,
    VerdictWord,
)
from review_agent.agent.reports import outline, render
from review_agent.agent.reports.json_report import from_json
from review_agent.agent.reports.outline import Words
from review_agent.prompts import messages

TABLES = messages("en")
FIELDS = st.fixed_dictionaries(
    {
        name: HOSTILE
        for name in (
            "file",
            "name",
            "encoding",
            "model",
            "count",
            "commit",
            "path",
            "said",
            "detail",
            "reason",
        )
    }
)
NOTES = st.builds(Note, st.sampled_from(sorted(TABLES["notes"])) | HOSTILE, FIELDS)
LINES = st.integers(0, 30)
FINDINGS = st.builds(
    Finding,
    rule_id=HOSTILE,
    category=st.sampled_from(Category),
    severity=st.sampled_from(Severity),
    confidence=st.floats(0, 1),
    path=HOSTILE,
    start_line=LINES,
    end_line=LINES,
    title=HOSTILE,
    message=HOSTILE,
    suggestion=HOSTILE,
    replacement=HOSTILE,
    source=st.sampled_from(("model", "agent", "check")) | HOSTILE,
    symbol=HOSTILE,
    evidence=st.lists(
        st.builds(Evidence, st.integers(1, 30), st.lists(HOSTILE, max_size=3).map(tuple)), max_size=2
    ).map(tuple),
    fingerprint=HOSTILE,
)
REASONS = st.sampled_from(sorted(TABLES["reasons"])) | HOSTILE
FILES = st.builds(
    FileResult,
    HOSTILE,
    st.sampled_from(FileStatus),
    REASONS,
    route=HOSTILE,
    fields=FIELDS,
    notes=st.lists(NOTES, max_size=1).map(tuple),
)
REPORTS = st.builds(
    Report,
    run_id=HOSTILE,
    target=HOSTILE | st.builds("{}:{}".format, st.sampled_from(["tree", "range", "commit", "diff"]), HOSTILE),
    lang=st.sampled_from(["en", "zh-CN"]),
    engine=st.builds(
        EngineInfo, st.just("local") | HOSTILE, HOSTILE, HOSTILE, HOSTILE, st.just("direct") | HOSTILE
    ),
    verdict=st.sampled_from(VerdictWord),
    verdict_reason=REASONS,
    coverage=st.just(Coverage(3, 1, 1, 1, 20, 10)),
    summary=HOSTILE,
    verdicts=st.lists(
        st.builds(Verdict, FINDINGS, st.just(Outcome.REPORTED) | st.sampled_from(Outcome), REASONS, FIELDS),
        max_size=3,
    ).map(tuple),
    files=st.lists(FILES, max_size=3).map(tuple),
    usage=st.just(Usage(1, 2, 3, 4, 5.0)),
    egress=st.lists(
        st.builds(Egress, HOSTILE, HOSTILE, HOSTILE, st.integers(0), st.integers(0), HOSTILE), max_size=2
    ).map(tuple),
    notes=st.lists(NOTES, max_size=2).map(tuple),
    created=HOSTILE,
)
OURS = {
    "heading_open", "heading_close", "paragraph_open", "paragraph_close", "bullet_list_open", "bullet_list_close",
    "list_item_open", "list_item_close", "fence", "inline", "text", "text_special", "softbreak", "code_inline",
    "strong_open", "strong_close",
}  # fmt: skip


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)
@settings(max_examples=60)
@given(report=REPORTS)
def test_markdown_holds_only_our_structure(parser, report: Report) -> None:
    text = render(report, "markdown")
    tokens = parser.parse(text)
    assert kinds(tokens) <= OURS
    found = [token.type for token in tokens]
    bare = Words(report.lang, str, str, str)
    shown = [verdict.finding for _, rows in outline.chapters(report, bare) for _, verdict in rows]
    sections = outline.sections(report, bare)
    chapters = outline.chapters(report, bare)
    headings = 1 + bool(report.summary.strip()) + len(chapters) + len(shown) + len(sections)
    blocks = sum(bool(finding.evidence) + bool(finding.replacement.strip()) for finding in shown)
    assert found.count("heading_open") == headings
    assert found.count("fence") == blocks
    assert [token.tag for token in tokens if token.type == "heading_open"].count("h1") == 1
    assert commands(text) == []
    assert forbidden(text, "\n\t") == []


@settings(max_examples=120)
@given(report=REPORTS, width=st.integers(1, 120))
def test_a_terminal_gets_lines_and_nothing_else(report: Report, width: int) -> None:
    plain = render(report, "terminal", width=width)
    assert forbidden(plain, "\n\t") == []
    assert commands(plain) == []
    coloured = render(report, "terminal", width=width, color=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain  # our colours, and no escape besides


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)
@settings(max_examples=60)
@given(report=REPORTS)
def test_messages_that_become_comments_hold_words_and_code_only(parser, report: Report) -> None:
    for diagnostic in json.loads(render(report, "rdjson"))["diagnostics"]:
        found = kinds(parser.parse(diagnostic["message"]))
        assert found <= OURS - {
            "heading_open",
            "heading_close",
            "fence",
            "bullet_list_open",
            "list_item_open",
        }


@settings(max_examples=120)
@given(report=REPORTS)
def test_documents_for_programs_hold_no_control_character(report: Report) -> None:
    stored = render(report, "json")
    sarif = render(report, "sarif")
    others = [render(report, fmt) for fmt in ("codequality", "rdjson")]
    for text in (stored, sarif, *others):
        assert forbidden(text, "\n") == []
        assert commands(text) == []
        json.loads(text)
    assert from_json(stored).verdicts == report.verdicts
    for result in json.loads(sarif)["runs"][0]["results"]:
        message = result["message"]["text"]
        assert "](" not in message
        assert forbidden(message, "\n\t") == []
