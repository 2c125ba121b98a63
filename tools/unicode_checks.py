"""Characters that make code read otherwise than it runs: direction marks, invisible ones, look-alike letters.

https://trojansource.codes and https://www.unicode.org/reports/tr55/
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from review_agent.agent.models import Severity, SourceFile

BIDI, INVISIBLE, HOMOGLYPH = "bidi", "invisible", "homoglyph"


@dataclass(frozen=True, slots=True)
class Oddity:
    """One line with characters of one kind; `code_points` as in `U+202E`, each once."""

    kind: str
    line: int
    severity: Severity
    confidence: float
    code_points: str


_PROSE = frozenset({"markdown", "restructuredtext", "asciidoc", "text", "latex", "tex"})
_DATA = frozenset({"json", "yaml", "toml", "xml", "html", "csv", "po", "properties", "ini"})
_PROSE_SUFFIXES = (".md", ".markdown", ".rst", ".txt", ".adoc", ".tex", ".po", ".pot", ".srt", ".vtt")
_DATA_SUFFIXES = (
    ".json",
    ".yml",
    ".yaml",
    ".xml",
    ".html",
    ".htm",
    ".csv",
    ".tsv",
    ".properties",
    ".xliff",
    ".strings",
)

_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")
_OPENS = {"\u202a": "\u202c", "\u202b": "\u202c", "\u202d": "\u202c", "\u202e": "\u202c"} | dict.fromkeys(
    "\u2066\u2067\u2068", "\u2069"
)
_OVERRIDES = "\u202d\u202e"
_MARKS = "\u200e\u200f\u061c"
_RTL = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")

# C0 without tab, CR, VT and FF, which old code has; C1 without NEL.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f\x80-\x84\x86-\x9f\xad\u115f\u1160\u180e\u200b-\u200d\u2060\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
)
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_JOINERS = "\u200c\u200d"
_FILLERS = "\u115f\u1160\u3164\uffa0"
# Scripts whose spelling needs joiners, and those written without spaces, which need places to break a line.
_JOINING_SCRIPTS = re.compile(
    "[\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefc]"
)
_SPACELESS_SCRIPTS = re.compile("[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3040-\u30ff\u4e00-\u9fff]")
_EMOJI_MODIFIERS = re.compile("[\ufe0f\U0001f3fb-\U0001f3ff\u20e3]")

# Letters of other scripts drawn as Latin ones. Greek letters of formulas (α, ρ, ν, τ, μ) are left out.
_CYRILLIC = "аеорсухіјѕһԁԛԝѵӏ" + "АВЕКМНОРСТУХІЈЅҮԌԚԜ"
_GREEK = "ο" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ"
_CONFUSABLE = frozenset(_CYRILLIC + _GREEK)
_HAS_CONFUSABLE = re.compile(f"[{_CYRILLIC}{_GREEK}]")
_WORD = re.compile(r"[^\W\d]\w*")


def unicode_oddities(file: SourceFile) -> Iterator[Oddity]:
    """At most one oddity per line and kind, in line order."""
    code = not _is_prose(file) and not _is_data(file)
    for number, line in enumerate(file.lines, start=1):
        if line.isascii() and line.isprintable():
            continue
        text = line.removeprefix("\ufeff") if number == 1 else line
        for found in (_bidi(text, number, code), _invisible(text, number, code)):
            if found:
                yield found
        if not _is_prose(file) and (found := _homoglyph(text, number)):
            yield found


def _is_prose(file: SourceFile) -> bool:
    return file.language in _PROSE or file.path.lower().endswith(_PROSE_SUFFIXES)


def _is_data(file: SourceFile) -> bool:
    return file.language in _DATA or file.path.lower().endswith(_DATA_SUFFIXES)


def code_points(chars: list[str]) -> str:
    """`U+200B U+2060`: the first eight different ones."""
    return " ".join(f"U+{ord(char):04X}" for char in list(dict.fromkeys(chars))[:8])


def _bidi(line: str, number: int, code: bool) -> Oddity | None:
    found = _BIDI.findall(line)
    if not found:
        return None
    right_to_left = bool(_RTL.search(line))
    if any(char in _OVERRIDES for char in found) or not _balanced(found):
        severity = Severity.HIGH if code else Severity.MEDIUM
    elif right_to_left or (not code and all(char in _MARKS for char in found)):
        return None  # honest right-to-left text
    elif all(char in _MARKS for char in found):
        severity = Severity.LOW
    else:
        severity = Severity.MEDIUM if code else Severity.LOW
    return Oddity(BIDI, number, severity, 1.0, code_points(found))


def _balanced(controls: list[str]) -> bool:
    """Every embedding and isolate is closed on its line; what stays open would reorder the code behind it."""
    waiting: list[str] = []
    for char in controls:
        if char in _OPENS:
            waiting.append(_OPENS[char])
        elif char not in _MARKS:
            if not waiting or waiting[-1] != char:
                return False
            waiting.pop()
    return not waiting


def _invisible(line: str, number: int, code: bool) -> Oddity | None:
    if not _INVISIBLE.search(line):
        return None
    text = _FLAG.sub("", line)
    odd = [match for match in _INVISIBLE.finditer(text) if not _is_honest(text, match.start())]
    if not odd:
        return None
    chars = [match.group() for match in odd]
    selectors = sum(bool(_SELECTORS.match(char)) for char in chars)
    if any("\U000e0000" <= char <= "\U000e007f" for char in chars) or selectors >= 8:
        severity = Severity.HIGH  # text for machines that no reader sees
    elif code and any(_in_word(text, match.start()) for match in odd):
        severity = Severity.HIGH
    elif any(char == "\x1b" or char in _FILLERS for char in chars):
        severity = Severity.MEDIUM
    else:
        severity = Severity.LOW
    return Oddity(INVISIBLE, number, severity, 0.9, code_points(chars))


def _in_word(text: str, at: int) -> bool:
    """The character is (part of) a name: `a<U+200B>dmin`, or an invisible letter."""
    if text[at] in _FILLERS:
        return True
    before, after = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
    ascii_name = before.isascii() and after.isascii() and (before.isalnum() or before == "_")
    return (
        unicodedata.category(text[at]) == "Cf"
        and text[at] != "\xad"
        and ascii_name
        and (after.isalnum() or after == "_")
    )


def _is_honest(text: str, at: int) -> bool:
    """Emoji, and scripts that are written with joiners, selectors or break marks."""
    char = text[at]
    before = text[at - 1] if at else ""
    after = text[at + 1 : at + 2]
    if char in _JOINERS:
        emoji = bool(before) and (_is_symbol(before) or bool(_EMOJI_MODIFIERS.match(before)))
        return bool(before) and (emoji or bool(_JOINING_SCRIPTS.match(before)))
    if _SELECTORS.match(char):
        return bool(before) and (
            _is_symbol(before) or before in "0123456789#*" or "CJK" in unicodedata.name(before, "")
        )
    if char == "\u200b":
        return (
            bool(_SPACELESS_SCRIPTS.match(before) or _SPACELESS_SCRIPTS.match(after))
            and not (before + after).isascii()
        )
    return False


def _is_symbol(char: str) -> bool:
    return not char.isascii() and unicodedata.category(char) in ("So", "Sm", "Sk", "Po", "Pd", "Sc", "No")


def _homoglyph(line: str, number: int) -> Oddity | None:
    if not _HAS_CONFUSABLE.search(line):
        return None
    names = _WORD.findall(line)
    sentence = any(not _latin(name) and len(name) > 1 and not name.isascii() for name in names)
    odd: list[str] = []
    for name in names:
        foreign = [char for char in name if char.isalpha() and not char.isascii()]
        if not foreign or not _latin(name) or not all(char in _CONFUSABLE for char in foreign):
            continue
        # `JSONа`: a Latin word with the ending of the sentence's language.
        inflected = sentence and re.fullmatch(r"[A-Za-z0-9]{2,}[^\x00-\x7f]{1,4}", name)
        if not inflected:
            odd += foreign
    return Oddity(HOMOGLYPH, number, Severity.MEDIUM, 0.9, code_points(odd)) if odd else None


def _latin(name: str) -> bool:
    return any(char.isascii() and char.isalpha() for char in name)
