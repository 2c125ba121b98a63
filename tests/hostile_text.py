"""Text that tries: strategies for hypothesis, and what Markdown parsers must not find in it."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

FORBIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}

PARSERS = {
    "commonmark": MarkdownIt("commonmark"),
    "tables": MarkdownIt("commonmark").enable(["table", "strikethrough"]),
    "linkify": MarkdownIt("gfm-like"),
    "typographer": MarkdownIt("gfm-like", {"typographer": True, "html": True}),
}

# Pieces that mean something to a renderer, a terminal or a CI runner, so that hypothesis meets them often.
_MARKS = [
    "[",
    "]",
    "(",
    ")",
    "<",
    ">",
    "!",
    "#",
    "##",
    "-",
    "+",
    "*",
    "_",
    "~~",
    "`",
    "```",
    "~~~",
    "|",
    "\\",
    "$x$",
    ":",
    ":-",
    "---",
    "===",
    "&",
    "&lt;",
    "@",
    "@bob",
    "#1",
    "GH-1",
    "1.",
    "2)",
    ".",
    "/",
    "//",
    "://",
]
_LINKS = [
    "中",
    "例子",
    "http:",
    "http://a.cn",
    "https://例子.中国",
    "www.a.cn",
    "пример.рф",
    "a@b.cn",
    "mailto:a@b.cn",
    "ftp://x.y",
    "[a](http://x)",
    "![a](b)",
    "<b>",
    "<a@b.cn>",
    "<http://x.y>",
    "[x]:",
    "[^1]",
    "foo.py",
    ".com",
    "README.md",
    "xn--p1ai",
    '"t"',
    "'t'",
    "`a`",
    "`@x`",
    "`[a](b)`",
    "``a``",
    "<!--",
    "-->",
    "<details>",
    "</p>",
    "<?php",
    "<![CDATA[",
    "[x][y]",
    "javascript:alert(1)",
    "data:text/html,x",
    "//a.cn",
    "a.cn/b?c=d#e",
    "&#60;",
    "\\[a](b)",
    "\\<",
    "\\`",
    "](",
    ")[",
    "*a*",
    "**b**",
    "__c__",
    "~~d~~",
    "^a^",
    "==b==",
    ":smile:",
    "$$x$$",
    "org/repo#1",
    "0123456789abcdef0123456789abcdef01234567",
]
_COMMANDS = ["::set-output", "::", "##[add-path]", "##vso[task.complete]x", "/close", "\x1b[31m", "\x1b]0;x\x07", "\x9b1m", "\u202e",
             "\u200b", "\u2028", "\r", "\x0b", "\x0c", "\x85", "\x00", "\x7f", "\U000e0041", "\ufeff", "`a b`"]  # fmt: skip
PIECES = st.sampled_from([*_MARKS, *_LINKS, *_COMMANDS])
TEXT = st.one_of(
    st.text(),
    st.lists(st.one_of(PIECES, st.sampled_from([" ", "\n", "\n\n", "    ", "\t", "  \n"])), max_size=12).map(
        "".join
    ),
)
SURROGATES = st.text(st.characters())  # every code point, halves of pairs too
HOSTILE = st.one_of(TEXT, SURROGATES)


def kinds(tokens: list[Token]) -> set[str]:
    return {token.type for token in tokens} | {
        child.type for token in tokens for child in token.children or []
    }


def forbidden(text: str, kept: str = "") -> list[str]:
    return [char for char in text if unicodedata.category(char) in FORBIDDEN and char not in kept]


def commands(text: str) -> list[str]:
    """Lines that a CI runner would obey, as GitHub and Azure read them."""
    lines = text.replace("\r", "\n").split("\n")
    return [line for line in lines if "##[" in line or "##vso[" in line or _is_command(line.strip())]


def _is_command(line: str) -> bool:
    word, colons, _ = line.removeprefix("::").partition("::")
    name = word.split(" ")[0]
    return line.startswith("::") and bool(colons and name) and all(c.isalnum() or c in "-_" for c in name)
