"""What goes to a forge: text from outside stays words and code, and fits."""

from __future__ import annotations

import re

import pytest
from findings_of import finding, reported
from hostile_text import HOSTILE, PARSERS, commands, forbidden, kinds
from hypothesis import given, settings
from hypothesis import strategies as st

from review_agent.agent.markers import Checkpoint, checkpoint_of, is_gone, is_summary, key_of
from review_agent.agent.models import (
    Coverage,
    EngineInfo,
    FileResult,
    FileStatus,
    Finding,
    Outcome,
    Report,
    Usage,
    Verdict,
    VerdictWord,
)
from review_agent.agent.publication import Closing, Placing, Plan, Spot
from review_agent.agent.remarks import LIMIT, farewell, remark, summary

KEY = "ab" * 16
MARK = Checkpoint("1" * 40, "2" * 40, "3" * 32)
GITHUB_LIMIT = 65_536
OURS = {
    "heading_open", "heading_close", "paragraph_open", "paragraph_close", "bullet_list_open", "bullet_list_close",
    "list_item_open", "list_item_close", "fence", "inline", "text", "text_special", "softbreak", "code_inline",
    "strong_open", "strong_close", "html_block",
}  # fmt: skip
FINDINGS = st.builds(
    lambda path, **text: finding(path, 1, **text),
    HOSTILE,
    rule_id=HOSTILE,
    title=HOSTILE,
    message=HOSTILE,
    suggestion=HOSTILE,
    replacement=HOSTILE,
    exact=st.booleans(),
)


def placing(found: Finding, whole: bool = True) -> Placing:
    return Placing(KEY, found, Spot(found.path, 1, 1, whole))


def report(*findings: Finding, **changes: object) -> Report:
    given: dict[str, object] = {
        "run_id": "r", "target": "range", "lang": "zh-CN", "engine": EngineInfo("local", "", "", ""),
        "verdict": VerdictWord.ISSUES, "verdict_reason": "", "coverage": Coverage(), "summary": "",
        "verdicts": tuple(reported(*findings)), "files": (), "usage": Usage(), **changes,
    }  # fmt: skip
    return Report(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)
@settings(max_examples=30, deadline=None)
@given(found=FINDINGS)
def test_a_comment_holds_our_structure_and_ends_with_its_name(parser, found: Finding) -> None:
    text = remark(placing(found), Verdict(found, Outcome.REPORTED), "zh-CN")
    body = text.removesuffix(f"<!-- review-agent:f={KEY} -->")
    assert body != text
    assert kinds(parser.parse(body)) <= OURS - {"html_block", "heading_open", "bullet_list_open"}
    assert key_of(text) == KEY
    assert commands(text) == []
    assert forbidden(text, "\n\t") == []


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)
@settings(max_examples=30, deadline=None)
@given(found=FINDINGS, text=HOSTILE)
def test_a_summary_holds_our_structure(parser, found: Finding, text: str) -> None:
    made = report(found, summary=text, files=(FileResult(text, FileStatus.FAILED, text),))
    body = summary(
        made, Plan((), (found,), (), (), (), ()), refused=[found], closing=Closing(denied=1), checkpoint=MARK
    )
    assert checkpoint_of(body) == MARK
    rest = body.split("\n", 2)[2]
    assert kinds(parser.parse(rest)) <= OURS - {"html_block"}
    assert commands(body) == []
    assert forbidden(body, "\n\t") == []


def test_nothing_is_longer_than_github_takes() -> None:
    huge = finding(
        title="\U000e0001" * 9000,
        message="\U000e0001" * 9000,
        suggestion="`" * 9000,
        replacement="x" * 90_000,
    )
    text = remark(placing(huge), Verdict(huge, Outcome.REPORTED), "zh-CN")
    assert len(text) <= GITHUB_LIMIT
    assert key_of(text) == KEY
    gone = farewell(text, "1" * 40, "zh-CN")
    assert len(gone) <= GITHUB_LIMIT
    assert is_gone(gone)
    assert key_of(gone) == KEY
    many = [finding(line=n, title="很长" * 400) for n in range(1, 400)]
    body = summary(
        report(*many), Plan((), tuple(many), (), (), (), ()), refused=[], closing=Closing(), checkpoint=MARK
    )
    assert LIMIT - 3000 < len(body) <= GITHUB_LIMIT
    assert is_summary(body)
    assert "完整报告" in body.rstrip().splitlines()[-1]


@pytest.mark.parametrize(
    ("exact", "whole", "fence"),
    [(True, True, "```suggestion"), (True, False, "```"), (False, True, "```")],
)
def test_a_click_replaces_just_the_lines(exact: bool, whole: bool, fence: str) -> None:
    found = finding(replacement="a = 1\n```\n", exact=exact)
    text = remark(placing(found, whole), Verdict(found, Outcome.REPORTED), "en")
    (opened,) = re.findall(r"(?m)^`{3,}\w*$", text.split("a = 1")[0])
    assert opened == fence.replace("```", "````")


def test_both_languages_speak() -> None:
    found = finding(suggestion="s", replacement="x")
    verdict = Verdict(found, Outcome.REPORTED)
    assert "建议" in remark(placing(found), verdict, "zh-CN")
    assert "建议" not in remark(placing(found), verdict, "en")
