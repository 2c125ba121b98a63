from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from review_agent.agent.reports import render

PARSER = MarkdownIt("gfm-like")


@pytest.mark.parametrize("lang", ["zh-CN", "en"])
def test_hostile_text_adds_no_structure(make, lang: str) -> None:
    tokens = PARSER.parse(render(make(lang=lang), "markdown"))
    inner = {child.type for token in tokens for child in token.children or []}
    assert inner <= {"text", "text_special", "softbreak", "strong_open", "strong_close", "code_inline"}
    kinds = [token.type for token in tokens]
    assert not {"table_open", "html_block", "blockquote_open", "ordered_list_open", "hr", "code_block"} & set(
        kinds
    )
    assert [token.tag for token in tokens if token.type == "heading_open"].count("h1") == 1
    assert kinds.count("fence") == 3 + 3  # excerpts and replacements of three findings
    # Every `**` of ours is read as one, whatever stands next to it.
    assert "**" not in "".join(
        child.content for token in tokens for child in token.children or [] if child.type == "text"
    )


def test_an_empty_report_has_its_verdict_and_ledger(make) -> None:
    text = render(make(verdicts=(), files=(), notes=(), egress=(), summary=""), "markdown")
    assert [line for line in text.split("\n") if line.startswith("## ")] == ["## 用量", "## 出网清单"]
