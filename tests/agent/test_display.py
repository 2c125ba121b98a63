"""The output gate: hostile text in, harmless text out."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hostile_text import FORBIDDEN, PARSERS, SURROGATES, TEXT, kinds
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from review_agent.agent.display import (
    code_block,
    code_span,
    disarm,
    inline,
    json_text,
    markdown_text,
    path_text,
    terminal_text,
)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("正常 text", "正常 text"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\rb", r"a\x0db"),
        ("c1 \x9b31m", r"c1 \x9b31m"),
        ("\x7f", r"\x7f"),
        ("abc\u202egpj.exe", r"abc\u202egpj.exe"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("tag \U000e0041", r"tag \U000e0041"),
        ("hidden \u3164", r"hidden \u3164"),
        ("a\u2028b", r"a\u2028b"),
        ("caf\udce9.py", r"caf\xe9.py"),
        ("\ud800", r"\ud800"),
        ("a\tb\n", "a\tb\n"),
        ("::set-output name=a::b", r"\x3a:set-output name=a::b"),
        ("ok\n  ::error::x", "ok\n  \\x3a:error::x"),
        ("::std.move(a::b)", "::std.move(a::b)"),
        ("see ##[error]x", r"see \x23#[error]x"),
        ("##vso[task.setvariable variable=a]b", r"\x23#vso[task.setvariable variable=a]b"),
    ],
)
def test_terminal_text(raw: str, shown: str) -> None:
    assert terminal_text(raw) == shown


@pytest.mark.parametrize(
    ("raw", "one_line", "path"),
    [("a\nb", "a b", r"a\x0ab"), ("a\r\n\tb", "a b", r"a\x0d\x0a\x09b"), ("a  b", "a  b", "a  b")],
)
def test_one_line(raw: str, one_line: str, path: str) -> None:
    assert (inline(raw), path_text(raw)) == (one_line, path)


@given(st.one_of(TEXT, SURROGATES))
def test_nothing_forbidden_passes_to_a_terminal(text: str) -> None:
    for gate, kept in ((terminal_text, "\n\t"), (inline, ""), (path_text, ""), (markdown_text, "\n")):
        shown = gate(text)
        assert [char for char in shown if unicodedata.category(char) in FORBIDDEN and char not in kept] == []
        assert shown.encode("utf-8").decode("utf-8") == shown


@given(st.one_of(TEXT, SURROGATES))
def test_a_runner_finds_no_command(text: str) -> None:
    shown = terminal_text(text + "\n  ::add-mask::x\n##[group]")
    assert "##[" not in shown
    assert not any(line.strip().startswith("::add-mask::") for line in shown.splitlines())
    assert disarm(shown) == shown


@given(st.text())
def test_json_text_keeps_the_value(text: str) -> None:
    shown = json_text(json.dumps({"a": text, "##[x]": "\x9b\udcff\u202e\U000e0041\x7f"}, ensure_ascii=False))
    assert json.loads(shown) == {"a": text, "##[x]": "\x9b\udcff\u202e\U000e0041\x7f"}
    assert [char for char in shown if unicodedata.category(char) in FORBIDDEN] == []
    assert "##[" not in shown


ALLOWED = {"paragraph_open", "paragraph_close", "inline", "text", "softbreak", "code_inline", "text_special"}


def prose(tokens: list[Token]) -> str:
    return "".join(
        child.content for token in tokens for child in token.children or [] if child.type != "code_inline"
    )


@pytest.mark.parametrize(
    ("raw", "markdown"),
    [
        ("变量可能为空，请检查。", "变量可能为空，请检查。"),
        ("It may fail, see below.", "It may fail, see below."),
        ("call foo() now", "call `foo()` now"),
        ("[点我](http://evil.cn)", "`[`点我`](http://evil.cn)`"),
        ("![x](y)", "`![x](y)`"),
        ("<script>alert(1)</script>", "`<script>alert(1)</script>`"),
        ("请 @admin 看 #12", "请 `@admin` 看 `#12`"),
        ("fixes GH-12.", "fixes `GH-12`."),
        ("a@b.cn", "`a@b.cn`"),
        ("www.例子.cn", "www\\.例子`.cn`"),
        ("# 标题", "`#` 标题"),
        ("- 一\n- 二", "\\- 一\n\\- 二"),
        ("1. 一\n2) 二", "1\\. 一\n2\\) 二"),
        ("一\n---", "一\n\\---"),
        ("```\nx", "```` ``` ````\nx"),
        ("a|b", "`a`\\|`b`"),
        ("    code", "code"),
        ("/close", "`/close`"),
        ("用 `a` 和 (`b`)。", "用 `a` 和 (`b`)。"),
        ("用 `a b`, `@c`。", "用 `a b`, `@c`。"),
        ("`a``b`", "``` `a``b` ```"),
        ("::set-output name=a::b", "`\\x3a:set-output` `name=a::b`"),
    ],
)
def test_markdown_text(raw: str, markdown: str) -> None:
    assert markdown_text(raw) == markdown


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("http://a.cn", "link_open"),
        ("www.a.cn", "link_open"),
        ("пример.рф", "link_open"),
        ("a@b.cn", "link_open"),
        ("![a](b)", "image"),
        ("a <b>", "html_inline"),
        ("a|b\n-|-", "table_open"),
    ],
)
def test_the_parsers_would_see_it(raw: str, kind: str) -> None:
    assert kind in kinds(PARSERS["typographer"].parse(raw))


def test_markdown_text_takes_linear_time() -> None:
    assert markdown_text(")" * 200_000 + "x").endswith("x`")


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS.keys())
@given(text=TEXT)
def test_markdown_text_is_inert(parser: MarkdownIt, text: str) -> None:
    tokens = parser.parse("前文\n\n" + markdown_text(text) + "\n\n后文")
    assert kinds(tokens) <= ALLOWED
    words = prose(tokens)
    assert not set("@#<>[]&*_~|$") & set(words.replace("|", "", text.count("|")))
    assert "://" not in words


@given(text=TEXT)
def test_markdown_text_is_inert_in_a_table_cell_and_a_list(text: str) -> None:
    cell = markdown_text(inline(text))
    table = PARSERS["linkify"].parse(f"| a | b |\n| - | - |\n| {cell} | end |\n")
    assert [token.type for token in table].count("td_open") == 2
    assert next(token.content for token in reversed(table) if token.type == "inline") == "end"
    item = PARSERS["linkify"].parse(f"- {cell}\n- end\n")
    assert [token.type for token in item].count("list_item_open") == 2
    assert kinds(item) <= ALLOWED | {
        "bullet_list_open",
        "bullet_list_close",
        "list_item_open",
        "list_item_close",
    }


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS.keys())
@given(text=TEXT.filter(lambda text: "|" not in text and text))
def test_code_span_shows_exactly_the_text(parser: MarkdownIt, text: str) -> None:
    tokens = parser.parse(f"看 {code_span(text)} 处")
    assert [child.type for child in tokens[1].children or []] == ["text", "code_inline", "text"]
    assert (tokens[1].children or [])[1].content == path_text(text)


@pytest.mark.parametrize(
    ("raw", "markdown"),
    [
        ("", ""),
        ("a", "`a`"),
        ("a`b", "``a`b``"),
        (" ", "` `"),
        (" a", "`  a `"),
        ("`", "`` ` ``"),
        ("a|b", r"`a`\|`b`"),
        ("a\nb", r"`a\x0ab`"),
    ],
)
def test_code_span(raw: str, markdown: str) -> None:
    assert code_span(raw) == markdown


@given(text=TEXT)
def test_code_block_holds_the_whole_text(text: str) -> None:
    tokens = PARSERS["commonmark"].parse("前文\n\n" + code_block(text, "c++\n`x") + "\n\n后文")
    assert [token.type for token in tokens if token.type != "inline"] == [
        "paragraph_open",
        "paragraph_close",
        "fence",
        "paragraph_open",
        "paragraph_close",
    ]
    assert (tokens[3].info, tokens[3].content) == ("c++x", terminal_text(text) + "\n")
