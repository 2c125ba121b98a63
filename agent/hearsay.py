"""What a local model said, on its way to an agent's: which code it repeats, and whether it may go at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from review_agent.agent.library import Library
from review_agent.agent.models import Finding, SourceFile
from review_agent.agent.provenance import Words, words_of
from review_agent.agent.quoting import repeated
from review_agent.agent.replies import Row
from review_agent.agent.router import has_secret
from review_agent.agent.spans import of_lines
from review_agent.prompts import say

Lines = tuple[str, str]  # a path, and lines of that file as in "3-9,12"


@dataclass(frozen=True)
class Hearsay:
    """`foreign`: words that were written with code before the model that may not be seen. `guidance` is what
    it was shown beside any code.

    `leaves` False = nothing leaves this machine: then all may be said, and nothing is written down.
    """

    library: Library
    lang: str
    leaves: bool = True
    foreign: frozenset[Words] = frozenset()
    guidance: SourceFile | None = None

    def withheld(self, finding: Finding) -> bool:
        return self.leaves and words_of(finding) in self.foreign

    def check(
        self, rows: Sequence[tuple[str, Row, Iterable[int]]], fields: Sequence[str]
    ) -> list[tuple[Row, list[Lines]]]:
        """Rows as they may leave, with the code that is in each, of its own file first.

        Given are the file of a row ("" = none), the row, and the lines of the file that it quotes; its
        `fields` are a model's words. Those that repeat a line of a hidden file are withheld: the last gate.
        """
        if not self.leaves:
            return [(row, []) for _, row, _ in rows]
        texts = [(path, "\0".join(str(row[name]) for name in fields if name in row)) for path, row, _ in rows]
        seen, unseen = self.library.apart()
        if self.guidance is not None:
            hidden = self.library.hides(self.guidance.path, has_secret(self.guidance))
            (unseen if hidden else seen).append(self.guidance)
        found = repeated(texts, seen, unseen)
        checked: list[tuple[Row, list[Lines]]] = []
        for (path, row, quoted), said in zip(rows, found, strict=True):
            goes = self.silenced(row, fields) if said.hidden else row
            spots = set() if said.hidden else set(said.spots)
            spots |= {(path, number) for number in quoted}
            checked.append((goes, _by_file(path, spots)))
        return checked

    def silenced(self, row: Row, fields: Sequence[str]) -> Row:
        """The row without a model's words; the last of them says why."""
        words = dict.fromkeys((name for name in fields if name in row), "")
        return {**row, **words, fields[-1]: say(self.lang, "agent_egress", "words_withheld")}


def _by_file(path: str, spots: Iterable[tuple[str, int]]) -> list[Lines]:
    lines: dict[str, list[int]] = {path: []} if path else {}
    for where, number in spots:
        lines.setdefault(where, []).append(number)
    first = path or min(lines, default="")
    return [
        (where, of_lines(filter(None, numbers)))
        for where, numbers in sorted(lines.items(), key=lambda item: (item[0] != first, item[0]))
    ]
