"""Expressions of GitHub's workflows, as far as our files write them.

Names with dots, strings, `==`, `!=`, `!`, `&&`, `||`, brackets, `contains`, `fromJSON` and the functions of a job's
state. What is not there is empty, strings are compared without case, as
https://docs.github.com/actions/reference/workflows-and-actions/expressions says. Anything else is a ValueError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<sign>==|!=|&&|\|\||[!(),])|(?P<name>[A-Za-z_][\w.-]*))")
_HOLE = re.compile(r"\$\{\{(.*?)\}\}", re.S)
STATES = {"success": True, "always": True, "failure": False, "cancelled": False}


def fill(text: str, context: Mapping[str, Any]) -> str:
    """A string with its `${{ }}` filled in."""
    return _HOLE.sub(lambda found: shown(evaluate(found[1], context)), text)


def holds(condition: str, context: Mapping[str, Any]) -> bool:
    """An `if:`, with or without `${{ }}` around it. Empty: yes."""
    inner = _HOLE.fullmatch(condition.strip())
    return not condition or bool(evaluate(inner[1] if inner else condition, context))


def shown(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def evaluate(text: str, context: Mapping[str, Any]) -> Any:
    reader = _Reader(text, context)
    value = reader.either()
    if reader.words:
        raise ValueError(f"{reader.words[0]!r} in {text!r}")
    return value


class _Reader:
    def __init__(self, text: str, context: Mapping[str, Any]) -> None:
        self.words: list[str] = []
        self.context = context
        at, text = 0, text.strip()
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise ValueError(text[at:])
            self.words.append(token[0].strip())
            at = token.end()

    def take(self, *wanted: str) -> str:
        return self.words.pop(0) if self.words and self.words[0] in wanted else ""

    def either(self) -> Any:
        value = self.both()
        while self.take("||"):
            other = self.both()
            value = value or other
        return value

    def both(self) -> Any:
        value = self.compared()
        while self.take("&&"):
            other = self.compared()
            value = value and other
        return value

    def compared(self) -> Any:
        value = self.single()
        if sign := self.take("==", "!="):
            same = shown(value).lower() == shown(self.single()).lower()
            return same == (sign == "==")
        return value

    def single(self) -> Any:
        if self.take("!"):
            return not self.single()
        if self.take("("):
            value = self.either()
            self.close()
            return value
        word = self.words.pop(0)
        if word.startswith("'"):
            return word[1:-1].replace("''", "'")
        return self.call(word) if self.take("(") else self.look_up(word)

    def call(self, name: str) -> Any:
        given = []
        while not self.take(")"):
            given.append(self.either())
            self.take(",")
        if name in STATES:
            return STATES[name]
        if name == "fromJSON":
            return json.loads(*given)
        if name == "contains":
            return shown(given[1]).lower() in [shown(item).lower() for item in given[0]]
        raise ValueError(name)

    def close(self) -> None:
        if not self.take(")"):
            raise ValueError("a bracket is not closed")

    def look_up(self, name: str) -> Any:
        value: Any = self.context
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value
