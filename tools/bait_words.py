"""The cues of bait in each language, read from `bait_words.toml`."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

# What `bait_text.fold` puts in place of text that has no words.
CHAT_TOKEN, EMPTY_FINDINGS, TOOL_RESULT, URL = "chattoken", "emptyfindings", "toolresult", "weburl"
FAKE_TURN, SECRET_NAME, BEACON = "faketurn", "secretname", "leakyimage"

_PART = re.compile(r"<([a-z]+|~?\d+)>")


@dataclass(frozen=True, slots=True)
class Language:
    """`anchors`: any bait of this language holds one of them. `cues`: one pattern for each kind of cue."""

    anchors: tuple[str, ...]
    cues: Mapping[str, re.Pattern[str]]


@cache
def languages() -> Mapping[str, Language]:
    text = files("review_agent.tools").joinpath("bait_words.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(plain_letters(text))
    parts: dict[str, str] = tables.pop("parts")
    for table in tables.values():
        table.setdefault("order", table["tell"])
    return {
        name: Language(
            tuple(table.pop("anchors")),
            {cue: re.compile("|".join(_expand(one, parts) for one in table[cue])) for cue in table},
        )
        for name, table in tables.items()
    }


def _expand(pattern: str, parts: Mapping[str, str]) -> str:
    """Replace `<part>`, `<3>` (at most three words) and `<~3>` (at most three characters) in a pattern."""

    def one(match: re.Match[str]) -> str:
        name = match[1]
        if name.startswith("~"):
            return rf"[^.;!?\u3002\x1e]{{0,{name[1:]}}}?"
        if name.isdigit():
            return rf"(?:[^\s.;!?\u3002\x1e]{{1,30}} ){{0,{name}}}?"
        return _expand(parts[name], parts)

    return _PART.sub(one, pattern)


def plain_letters(text: str) -> str:
    """Letters of European alphabets without their accents; kana and hangul stay whole."""
    if text.isascii():
        return text
    bare = (char for char in unicodedata.normalize("NFD", text) if not "\u0300" <= char <= "\u036f")
    return unicodedata.normalize("NFC", "".join(bare))
