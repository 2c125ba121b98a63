"""How the tools of an agent answer: sentences of the catalogue, and pages of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from review_agent.agent.outbox import Letter, Outbox, dump
from review_agent.prompts import say as sentence
from review_agent.tools.server import MOST_CHARACTERS, Answered

ROOM = MOST_CHARACTERS - 400  # for what stands around a list
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """A row of a list, where it stands in it, and the lines of a file that it is about ('' = of none).

    `also` are lines of other files that are in it; `redactions` were made in it before.
    """

    at: int
    row: Row
    path: str = ""
    lines: str = ""
    also: tuple[tuple[str, str], ...] = ()
    redactions: int = 0


@dataclass(frozen=True)
class Replies:
    lang: str
    outbox: Outbox

    def say(self, key: str, **fields: object) -> str:
        """A sentence of `[agent]`, or of another table: "table.key"."""
        table, _, name = key.rpartition(".")
        return sentence(self.lang, table or "agent", name, **fields)

    def ok(self, key: str, **fields: object) -> Answered:
        return Answered(self.say(key, **fields))

    def no(self, key: str, **fields: object) -> Answered:
        return Answered(self.say(key, **fields), error=True)

    def letter(self) -> Letter:
        return Letter(self.outbox)

    def page(
        self, letter: Letter, name: str, items: Iterable[Item], *, beyond: int | None = None, **more: object
    ) -> Answered:
        """As many rows as fit; `next` is where the first that does not stands, else `beyond`."""
        rows, left = self._fill(letter, items)
        following = left if left is not None else beyond
        return Answered(letter.send(dump({name: rows, "next": following, **more})))

    def list(self, letter: Letter, name: str, items: Iterable[Item], **more: object) -> Answered:
        """As many rows as fit; `cut` tells that there are more."""
        rows, left = self._fill(letter, items)
        return Answered(letter.send(dump({name: rows, "cut": left is not None, **more})))

    def _fill(self, letter: Letter, items: Iterable[Item]) -> tuple[tuple[Row, ...], int | None]:
        rows: tuple[Row, ...] = ()
        room = ROOM
        before = letter.redactions
        for item in items:
            row = fitting(_cleaned(letter, item.row))
            text = dump(row)
            room -= len(text) + 2
            if room < 0 and rows:
                letter.redactions = before
                return rows, item.at
            rows = (*rows, row)
            if item.path:
                letter.cover(item.path, item.lines, text)
            for path, lines in item.also:
                letter.cover(path, lines, "")
            letter.redactions += item.redactions
            before = letter.redactions
        return rows, None


def _cleaned(letter: Letter, row: Row) -> Row:
    return {name: letter.clean(value) if isinstance(value, str) else value for name, value in row.items()}


def fitting(row: Row) -> Row:
    """The row, its longest texts cut so that it fits into an answer."""
    while len(dump(row)) > ROOM - 2:
        texts = {name: value for name, value in row.items() if isinstance(value, str)}
        longest = max(texts, key=lambda name: len(dump(texts[name])))
        row = {**row, longest: texts[longest][: len(texts[longest]) // 2]}
    return row
