"""JSON values out of a model's text: whole, in pieces or repaired, with bounded time, memory and depth."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import SupportsIndex

MAX_REPAIR = 30_000  # characters json-repair sees
REPAIR_STEPS = 400_000  # characters it may look at, again and again, before it is stopped
_SCAN_STEPS = 6_000_000  # characters that failed attempts to decode may cost
_MAX_PARTS = 6000

_OPENING = re.compile(r"[{\[]")
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_LOOSE = re.compile(
    r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)'
    r"|'(?P<single>(?:[^'\\]++|\\.)*+)(?:'|\\?\Z)"
    r"|(?P<comma>,)(?=\s*[}\]])"
    r"|(?<=[{,\s])(?P<key>[A-Za-z_]\w*+)(?=\s*:)"
    r"|\b(?P<literal>None|True|False)\b",
    re.DOTALL,
)
_LITERALS = {"None": "null", "True": "true", "False": "false"}
_THINK = re.compile(r"<(?:think|thinking|thought|reasoning)>|\[THINK\]|◁think▷", re.IGNORECASE)
_THOUGHT = re.compile(r"</(?:think|thinking|thought|reasoning)>|\[/THINK\]|◁/think▷", re.IGNORECASE)
_ANSWER_FOLLOWS = re.compile(r"\s*(?:[{\[]|```)|[ \t]*\n")


class _Exhausted(Exception):
    pass


_STUMBLES = (
    *(_Exhausted, RecursionError, ValueError, LookupError, TypeError),
    *(AttributeError, AssertionError, ArithmeticError, NameError),
)


@dataclass(frozen=True, eq=False)
class Part:
    """A JSON value found in a text, at [start, end)."""

    value: object
    start: int
    end: int


def decode(text: str) -> object:
    """The value of a text that is JSON from end to end; None when it is not."""
    try:
        value: object = _DECODER.decode(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return value


def scan(text: str) -> Iterator[Part]:
    """The JSON objects and lists in a text, in order. Where one is broken, the whole ones inside it."""
    left, at, parts = _SCAN_STEPS, 0, 0
    while left > 0 and parts < _MAX_PARTS and (found := _OPENING.search(text, at)):
        start = found.start()
        try:
            value, at = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as exc:
            # Besides what was read: the error counts the lines before it.
            seen = len(text) if exc.msg.startswith("Unterminated") else exc.pos
            left -= seen - start + exc.pos // 16 + 50
            at = start + 1
        except RecursionError:
            left -= 5000
            at = start + 1
        else:
            parts += 1
            yield Part(value, start, at)


def tidy(text: str) -> str:
    """Python's quotes and literals, bare keys and needless commas as JSON has them; strings stay."""
    first = _first_bracket(text)
    return text[:first] + _LOOSE.sub(_tidied, text[first:])


def _tidied(found: re.Match[str]) -> str:
    if (single := found["single"]) is not None:
        plain = re.sub(r"\\x([0-9a-fA-F]{2})", r"\\u00\1", single.replace("\\'", "'"))
        return '"' + re.sub(r'(\\.)|"', lambda quote: quote[1] or '\\"', plain, flags=re.DOTALL) + '"'
    if found["key"]:
        return f'"{found["key"]}"'
    if found["literal"]:
        return _LITERALS[found["literal"]]
    return "" if found["comma"] else found[0]


def repair(text: str, steps: list[int]) -> object:
    """What json-repair reads in the text's beginning, or None. Calls with the same `steps` share them."""
    from json_repair import repair_json

    try:
        repaired = repair_json(_Metered(text[:MAX_REPAIR], steps), return_objects=True, skip_json_loads=True)
        return decode(json.dumps(repaired))  # frees the strings of their meter
    except _STUMBLES:
        # A third party's parser on text that nobody wrote it for: where it stumbles there is no repair.
        return None


def is_closed(text: str) -> bool:
    """Whether all brackets are closed: strings left out or, where the quoting is broken, with them."""
    bare = _STRING.sub("", text)
    opened = (part.count("{") + part.count("[") - part.count("}") - part.count("]") for part in (bare, text))
    return min(opened) <= 0


def without_reasoning(text: str) -> tuple[str, bool]:
    """The text without reasoning, and whether that ended. A tag inside a line of JSON is quoted code."""
    ended = True
    for _ in range(50):
        first = _first_bracket(text)
        opening = next((tag for tag in _THINK.finditer(text) if _is_outside(text, tag.start(), first)), None)
        if opening is None:
            break
        closing = _THOUGHT.search(text, opening.end())
        ended = closing is not None
        text = text[: opening.start()] + (text[closing.end() :] if closing else "")
    first = _first_bracket(text)
    ends = [
        tag.end()
        for tag in _THOUGHT.finditer(text)
        if _is_outside(text, tag.start(), first) or _ANSWER_FOLLOWS.match(text, tag.end())
    ]
    return (text[ends[-1] :] if ends else text), ended


def _first_bracket(text: str) -> int:
    found = _OPENING.search(text)
    return found.start() if found else len(text)


def _is_outside(text: str, at: int, first: int) -> bool:
    return at <= first or text[max(0, at - 20) : at].rstrip(" \t").endswith("\n")


class _Metered(str):
    """A text that can be looked at only so often: bounds the time of a parser that goes back and back."""

    steps: list[int]

    def __new__(cls, text: str, steps: list[int]) -> _Metered:
        self = super().__new__(cls, text)
        self.steps = steps
        return self

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        found = super().__getitem__(key)
        self.steps[0] -= 1 + len(found) // 4
        if self.steps[0] < 0:
            raise _Exhausted
        return _Metered(found, self.steps) if isinstance(key, slice) else found

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def __add__(self, other: str) -> str:
        return _Metered(super().__add__(other), self.steps)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The last of equal keys counts, but an empty one erases nothing."""
    found: dict[str, object] = {}
    for key, value in pairs:
        if value or not found.get(key):
            found[key] = value
    return found


def _integer(digits: str) -> int:
    return int(digits) if len(digits) < 20 else -1  # Python refuses to read thousands of digits


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, strict=False)
