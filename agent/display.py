"""The one output gate: text from outside leaves the program through one of these functions.

File names, code, model answers and messages of other programs may hold terminal escapes, text that
reorders the line, Markdown that links, mentions or loads images, and lines a CI runner would obey.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

# Whole categories: C0, DEL and C1 (Cc), bidi controls, zero-width and tag characters (Cf), surrogates (Cs),
# line and paragraph separators (Zl, Zp).
_FORBIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_SUSPECT = re.compile("[^ -~\u4e00-\u9fff\u3001-\u3029\uff01-\uff5e]")  # all others are surely fine
# What draws nothing and so can hide text, though it is a letter, a mark, a symbol or not assigned: joiner,
# fillers, selectors beyond emoji's, empty braille and note heads, what Unicode keeps for such characters.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\uffa0\ufff0-\ufff8\U0001d159\U000e0000-\U000e0fff]"
)

# What CI runners act on: `::name ...::` at the start of a printed line, `##[name]`, `##vso[name]` anywhere.
_LINE_COMMAND = re.compile(r"(?m)^([^\S\n]*):(?=:[\w-]+(?: [^\n]*)?::)")
_HASH_COMMAND = re.compile(r"#(?=#\w*\[)")


def is_forbidden(char: str) -> bool:
    """True when `char` must not reach a terminal as it is; newline and tab are for the caller to judge."""
    return unicodedata.category(char) in _FORBIDDEN or _INVISIBLE.match(char) is not None


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8 (surrogateescape)
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _replace(text: str, escape: Callable[[str], str], keep: str) -> str:
    def one(match: re.Match[str]) -> str:
        return escape(match[0]) if is_forbidden(match[0]) and match[0] not in keep else match[0]

    return _SUSPECT.sub(one, text)


def disarm(text: str) -> str:
    """Break what a CI runner would obey; for lines that are already wrapped, too."""
    return _HASH_COMMAND.sub(r"\\x23", _LINE_COMMAND.sub(r"\1\\x3a", text))


def terminal_text(text: str) -> str:
    """`text` with every control, format and invisible character but newline and tab as a visible escape."""
    return disarm(_replace(text, _escape, "\n\t"))


def inline(text: str) -> str:
    """As `terminal_text`, on one line: runs of newlines and tabs become one space."""
    return terminal_text(re.sub(r"[\r\n\t]+", " ", text))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns of equal width; a Chinese character takes two cells."""
    from rich.cells import cell_len

    cells = [[inline(cell) for cell in row] for row in rows]  # before the widths are taken
    widths = [max(cell_len(row[at]) for row in cells) for at in range(len(cells[0]))]
    return [
        "  ".join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def path_text(text: str) -> str:
    """As `inline`, but newlines and tabs stay visible: two file names never look the same."""
    return disarm(_replace(text, _escape, ""))


def json_text(text: str) -> str:
    """JSON text, same value, with forbidden characters as `\\uXXXX`: always encodable, safe to print.

    Only for finished JSON documents: there such characters stand inside strings only.
    """
    return _HASH_COMMAND.sub(r"\\u0023", _replace(text, _json_escape, "\n"))


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


# Markdown. Forges find mentions, issue numbers and addresses after backslashes are gone, so those do not stop
# them; inside a code span nothing is found. So plain words stay, any other ASCII run becomes a code span.
# What already is in backticks stays one span, where it stands alone: two spans that touch would read as one.
_RUN = re.compile(r"""`[^`]+`(?=[,.;:!?)"']*(?![!-~]))|[!-~]+""")
_QUOTED = re.compile(r"`([^`]+)`")
_PLAIN = re.compile(r"(?:[A-Za-z0-9]+(?:['-][A-Za-z0-9]+)*%?|-+|)")
_ISSUE = re.compile(r"(?i:\bgh-\d)")
# A dot between words makes a link for some renderers, also with non-ASCII words around it.
_INNER_DOT = re.compile(r"\.(?=\S)")
_LINE_START = re.compile(r"""^(?:(\d+)(?=[.)])|(?=[^\w\s`("'\\]))""", re.ASCII)


def markdown_text(text: str) -> str:
    """`text` as Markdown prose of words and code spans: no link, mention, HTML, heading, list or table.

    Line breaks stay; meant for the start of a line or the inside of one, and for table cells after `inline`.
    """
    lines = terminal_text(text).replace("\t", " ").split("\n")
    return "\n".join(_markdown_line(line.strip()) for line in lines).strip("\n")


def _markdown_line(line: str) -> str:
    marked = _RUN.sub(_markdown_run, line)
    # Only ASCII punctuation can be escaped and only it begins a block; other scripts are left alone.
    if marked[:1].isascii():
        marked = _LINE_START.sub(lambda match: f"{match[1] or ''}\\", marked, count=1)
    return marked


def _markdown_run(match: re.Match[str]) -> str:
    body = match[0].lstrip("(\"'")
    core = body.rstrip(",.;:!?)\"'")
    head, tail = match[0][: -len(body)] if body else match[0], body[len(core) :]
    cut = tail.rfind(")") + 1 if core.count("(") > core.count(")") else 0
    core, tail = core + tail[:cut], tail[cut:]  # `call()` keeps its brackets
    quoted = _QUOTED.fullmatch(core)
    if quoted or not _PLAIN.fullmatch(core) or _ISSUE.search(core):
        core = code_span(quoted[1] if quoted else core)
    after = match.string[match.end() : match.end() + 1]
    return head + core + _INNER_DOT.sub(r"\\.", tail + after)[: -1 if after else None]


def code_span(text: str) -> str:
    """`text` as inline code on one line. A `|` stands outside of the code: a table would split there."""
    return r"\|".join(_span(part) if part else "" for part in path_text(text).split("|"))


def _span(text: str) -> str:
    fence = "`" * (_longest_run(text) + 1)
    # Markdown takes one space off both ends, unless there is nothing but spaces.
    pad = " " if text.strip(" ") and (text[0] in "` " or text[-1] in "` ") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def code_block(text: str, lang: str = "") -> str:
    """`text` as a fenced block, no newline after the fence. `lang` keeps only what an info string needs."""
    body = terminal_text(text)
    fence = "`" * max(3, _longest_run(body) + 1)
    return f"{fence}{re.sub(r'[^A-Za-z0-9_+#.-]', '', lang)}\n{body}\n{fence}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
