"""Gated text stays text wherever it is put: at the start of a line, within one, in a list, a table, beside others."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hostile_text import HOSTILE, PARSERS, TEXT, commands, forbidden, kinds
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from review_agent.agent.display import (
    code_block,
    code_span,
    inline,
    json_text,
    markdown_text,
    path_text,
    terminal_text,
)

PARSER = PARSERS["typographer"]
PROSE = {"paragraph_open", "paragraph_close", "inline", "text", "softbreak", "code_inline", "text_special"}
LIST = {"bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"}
TABLE = {
    f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th", "td") for end in ("open", "close")
}
STRONG = {"strong_open", "strong_close"}
HEADING = {"heading_open", "heading_close"}

GATES = {"terminal": (terminal_text, "\n\t"), "inline": (inline, ""), "path": (path_text, "")}


def one_line(text: str) -> str:
    return markdown_text(inline(text))


# --- terminals


@pytest.mark.parametrize(("gate", "kept"), GATES.values(), ids=GATES)
@settings(max_examples=300)
@given(text=HOSTILE)
def test_a_gate_passes_once_and_stays(gate, kept: str, text: str) -> None:
    shown = gate(text)
    assert forbidden(shown, kept) == []
    assert commands(shown) == []
    assert gate(shown) == shown  # what is gated twice does not change
    assert len(shown) <= 10 * len(text)  # ten characters are the longest escape
    shown.encode("utf-8")


# Drawn as nothing, but letters, marks, symbols or not assigned to those who ask for their category.
INVISIBLE = ["\u034f", "\u115f", "\u17b4", "\u180b", "\u2065", "\u2800", "\u3164", "\uffa0", "\ufff0", "\U000e0000",
             "\U000e0100", "\U000e01f0", "\U000e0fff", "\U0001d159"]  # fmt: skip


@pytest.mark.parametrize("char", INVISIBLE, ids=ascii)
def test_what_draws_nothing_is_shown(char: str) -> None:
    assert unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    for gate in (terminal_text, inline, path_text, markdown_text, code_span, code_block):
        assert char not in gate(f"a{char}b")


NAMES = st.text(st.sampled_from("a#[: \n\t\r\x1b\x85\udc85\u202e\u200b\ud800"), max_size=4)


@settings(max_examples=300)
@given(names=st.lists(NAMES, unique=True))
def test_two_names_never_look_the_same(names: list[str]) -> None:
    """But for a backslash, which stays itself, and a byte that is no character beside that character."""
    names = [name.replace("\udc85", "\x86") for name in names]
    assert len({path_text(name) for name in names}) == len(set(names))


@given(
    value=st.recursive(HOSTILE, lambda inner: st.lists(inner) | st.dictionaries(HOSTILE, inner), max_leaves=8)
)
def test_a_json_document_keeps_its_value(value: object) -> None:
    shown = json_text(json.dumps(value, ensure_ascii=False, indent=2))
    assert json.loads(shown) == value
    assert forbidden(shown, "\n") == []
    assert commands(shown) == []


# --- Markdown

SPAN = st.builds(code_span, TEXT.filter(bool))
LINE = st.builds(one_line, TEXT)
GATED = st.one_of(SPAN, LINE)
# What stands between two values in sentences of ours.
BETWEEN = st.sampled_from([" ", ", ", "、", "：", ": ", "（", "）", "，", "; ", " (", ") "])


@settings(max_examples=300)
@given(text=TEXT)
def test_at_the_start_of_a_line(text: str) -> None:
    for shown in (markdown_text(text), one_line(text), code_span(text)):
        assert kinds(PARSER.parse(shown)) <= PROSE
        assert kinds(PARSER.parse(f"{shown}\n{shown}")) <= PROSE
        assert kinds(PARSER.parse(f"前文\n{shown}\n后文")) <= PROSE


@settings(max_examples=300)
@given(parts=st.lists(GATED, min_size=1, max_size=4), between=BETWEEN)
def test_within_a_line_beside_others(parts: list[str], between: str) -> None:
    joined = between.join(parts)
    assert kinds(PARSER.parse(f"看 {joined} 处")) <= PROSE
    assert kinds(PARSER.parse(f"看：{joined}。")) <= PROSE
    # Between `**` of ours, at the ends of which a value may stand only with a space or mark in between.
    tokens = PARSER.parse(f"## 一 {joined}\n\n**二 {joined} 三**\n")
    assert kinds(tokens) <= PROSE | STRONG | HEADING
    assert [token.type for token in tokens].count("heading_open") == 1


@settings(max_examples=300)
@given(texts=st.lists(GATED, min_size=1, max_size=3))
def test_in_a_list(texts: list[str]) -> None:
    tokens = PARSER.parse("".join(f"- {text}\n" for text in texts) + "- end\n")
    assert kinds(tokens) <= PROSE | LIST
    assert [token.type for token in tokens].count("list_item_open") == len(texts) + 1


@settings(max_examples=300)
@given(texts=st.lists(GATED, min_size=3, max_size=3))
def test_in_a_table(texts: list[str]) -> None:
    tokens = PARSER.parse("| a | b | c |\n|---|---|---|\n| {} | {} | {} |\n| x | y | end |\n".format(*texts))
    assert kinds(tokens) <= PROSE | TABLE
    assert [token.type for token in tokens].count("td_open") == 6
    assert [token.content for token in tokens if token.type == "inline"][-3:] == ["x", "y", "end"]


@settings(max_examples=200)
@given(text=TEXT, lang=TEXT, after=TEXT)
def test_beside_a_block(text: str, lang: str, after: str) -> None:
    tokens = PARSER.parse(f"{markdown_text(text)}\n\n{code_block(text, lang)}\n\n{markdown_text(after)}\n")
    assert kinds(tokens) <= PROSE | {"fence"}
    blocks = [token for token in tokens if token.type == "fence"]
    assert [block.content for block in blocks] == [terminal_text(text) + "\n"]


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)
@settings(max_examples=200)
@given(text=TEXT)
def test_no_parser_reads_a_command(parser: MarkdownIt, text: str) -> None:
    """Neither in the Markdown text, which CI prints as it is, nor in what a renderer makes of it."""
    for shown in (markdown_text(text), code_span(text), code_block(text)):
        assert commands(shown) == []
