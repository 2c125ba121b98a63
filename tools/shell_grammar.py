"""A command line as pipelines of words, for the part of bash that has no variables, substitutions or writes.

Read twice: by ast-grep's grammar of bash, of which only a few node kinds are let through, and by a tokeniser
of our own. Both must see the same words and operators, so nothing stands between them that one overlooks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from review_agent.agent.errors import CommandRefused

if TYPE_CHECKING:
    from ast_grep_py import SgNode

MAX_CHARS = 4000
MAX_WORDS = 300
_MAX_DEPTH = 40

Operator = Literal["", ";", "&&", "||"]
Redirect = Literal["2>&1", ">&2", ">/dev/null", "2>/dev/null", "&>/dev/null"]


@dataclass(frozen=True, slots=True)
class Word:
    """`text` is the word without its quotes. `pattern` is set when it is a glob: the same, quoted characters
    in brackets, as `fnmatch` takes it.
    """

    text: str
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """`after` is the operator between the pipeline before and this one."""

    after: Operator
    commands: tuple[Command, ...]


def parse(source: str) -> tuple[Pipeline, ...]:
    """The pipelines of a command line. Raises CommandRefused for whatever is not plainly harmless syntax."""
    _check_characters(source)
    tokens = list(_tokens(source))
    if len(tokens) > MAX_WORDS:
        raise CommandRefused("policy.too_long", limit=MAX_WORDS)
    if tokens != list(_flattened(source)):
        raise CommandRefused("policy.syntax")
    return _pipelines(tokens)


def _check_characters(source: str) -> None:
    if not source.strip(" "):
        raise CommandRefused("policy.empty")
    if len(source) > MAX_CHARS:
        raise CommandRefused("policy.too_long", limit=MAX_CHARS)
    for char in source:
        # Controls (newline and tab too), formats, surrogates, unassigned, odd spaces and separators.
        if char != " " and unicodedata.category(char)[0] in "CZ":
            raise CommandRefused("policy.character", code=f"U+{ord(char):04X}")


# --- our own tokeniser ---

_REDIRECTS: dict[str, Redirect] = {
    "2>&1": "2>&1",
    ">&2": ">&2",
    "1>&2": ">&2",
    **dict.fromkeys((">/dev/null", "1>/dev/null", ">>/dev/null", "1>>/dev/null"), ">/dev/null"),
    **dict.fromkeys(("2>/dev/null", "2>>/dev/null"), "2>/dev/null"),
    **dict.fromkeys(("&>/dev/null", "&>>/dev/null"), "&>/dev/null"),
}
_OPERATOR = re.compile(r"&&|\|\||[;|]")
_REDIRECT = re.compile(r"(?:[12]?>>?|&>>?) *(?:&[12]|/dev/null)(?=[ ;|&]|$)")
_SINGLE = re.compile(r"'[^']*'")
_DOUBLE = re.compile(r'"(?:[^"\\`$]|\\.|\$(?=[" |)]))*"')
_ESCAPE = re.compile(r"""\\[ ()!*?\[\].'"&;|<>#~^{}$`\\]""")
_BRACES = re.compile(r"@\{[\w./+-]*\}")  # HEAD@{1}; no comma, so no brace expansion
_PLAIN = re.compile(r"[\w./:=,+@%^!*?\[\]~-]")

Token = tuple[str, str]  # ("word", source text), ("operator", …) or ("redirect", without its spaces)


def _tokens(source: str) -> Iterator[Token]:
    at = 0
    while at < len(source):
        if source[at] == " ":
            at += 1
        elif match := _REDIRECT.match(source, at):
            yield "redirect", match[0].replace(" ", "")
            at = match.end()
        elif match := _OPERATOR.match(source, at):
            yield "operator", match[0]
            at = match.end()
        else:
            end = at
            for piece in _pieces(source, at):
                end += len(piece)
            if source[end : end + 1] in ("<", ">"):
                raise CommandRefused("policy.redirect", text=source[end:].split(" ", maxsplit=1)[0])
            if end < len(source) and source[end] not in " ;|&":
                raise CommandRefused("policy.character_unquoted", char=source[end])
            if end == at:
                raise CommandRefused("policy.operator", text=source[at : at + 2])
            yield "word", source[at:end]
            at = end


def _pieces(source: str, at: int) -> Iterator[str]:
    """The quoted strings, escapes and plain characters that make up the word at `at`."""
    while at < len(source):
        match = next(
            (
                found
                for form in (_SINGLE, _DOUBLE, _ESCAPE, _BRACES, _PLAIN)
                if (found := form.match(source, at))
            ),
            None,
        )
        if match is None:
            return
        yield match[0]
        at = match.end()


def _word(source: str) -> Word:
    if source[0] == "~" or re.search(r"[:=]~", source):
        raise CommandRefused("policy.home")
    text: list[str] = []
    pattern: list[str] = []
    glob = False
    for piece in _pieces(source, 0):
        plain = _unquoted(piece)
        text.append(plain)
        if piece in ("*", "?", "[", "]"):
            glob = glob or piece != "]"
            pattern.append(piece)
        else:
            pattern.append(re.sub(r"[*?\[]", r"[\g<0>]", plain))
    return Word("".join(text), "".join(pattern) if glob else "")


def _unquoted(piece: str) -> str:
    if piece[0] == "'":
        return piece[1:-1]
    if piece[0] == '"':
        return re.sub(r'\\([\\"$`])', r"\1", piece[1:-1])
    return piece[1:] if piece[0] == "\\" else piece


# --- the same out of the grammar's tree ---

_WORDS = frozenset({"word", "number", "concatenation", "raw_string", "string"})
_INSIDE = frozenset({"word", "number", "raw_string", "string", "string_content", '"', "$", "concatenation"})
_BRANCHES = frozenset({"program", "list", "pipeline", "redirected_statement", "command", "command_name"})
_OPERATORS = frozenset({"&&", "||", ";", "|"})


def _flattened(source: str) -> Iterator[Token]:
    from ast_grep_py import SgRoot

    yield from _flatten(SgRoot(source, "bash").root(), 0)


def _flatten(node: SgNode, depth: int) -> Iterator[Token]:
    kind = node.kind()
    if depth > _MAX_DEPTH:
        raise CommandRefused("policy.too_long", limit=_MAX_DEPTH)
    if kind in _WORDS:
        for inner in node.children():
            _check_inside(inner, depth)
        yield "word", node.text()
    elif kind == "file_redirect":
        yield "redirect", node.text().replace(" ", "")
    elif kind in _OPERATORS:
        yield "operator", kind
    elif kind == "test_command" and node.text().startswith("[ "):
        for child in node.children():
            yield from _flatten_test(child, depth + 1)
    elif kind in _BRANCHES:
        for child in node.children():
            yield from _flatten(child, depth + 1)
    else:
        raise CommandRefused("policy.construct", kind=kind)


def _flatten_test(node: SgNode, depth: int) -> Iterator[Token]:
    if node.kind() == "unary_expression" and depth <= _MAX_DEPTH:
        for child in node.children():
            yield from _flatten_test(child, depth + 1)
    elif node.kind() in ("[", "]", "!", "test_operator"):
        yield "word", node.text()
    else:
        yield from _flatten(node, depth)


def _check_inside(node: SgNode, depth: int) -> None:
    if node.kind() not in _INSIDE or depth > _MAX_DEPTH:
        raise CommandRefused("policy.construct", kind=node.kind())
    for child in node.children():
        _check_inside(child, depth + 1)


# --- structure ---


def _pipelines(tokens: Sequence[Token]) -> tuple[Pipeline, ...]:
    found: list[Pipeline] = []
    after: Operator = ""
    commands: list[Command] = []
    words: list[Word] = []
    redirects: list[Redirect] = []
    for kind, text in [*tokens, ("operator", "")]:
        if kind == "word":
            words.append(_word(text))
        elif kind == "redirect":
            redirects.append(_redirect(text))
        elif not words:
            if text or redirects or commands or after not in (";", ""):
                raise CommandRefused("policy.syntax")
        else:
            commands.append(Command(tuple(words), tuple(redirects)))
            words, redirects = [], []
            if text != "|":
                found.append(Pipeline(after, tuple(commands)))
                commands = []
                after = _operator(text)
    return tuple(found)


def _redirect(text: str) -> Redirect:
    if text not in _REDIRECTS:
        raise CommandRefused("policy.redirect", text=text)
    return _REDIRECTS[text]


def _operator(text: str) -> Operator:
    match text:
        case ";" | "&&" | "||":
            return text
        case _:
            return ""
