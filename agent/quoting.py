"""Which lines of which files a text repeats: what a model says of code may be code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from review_agent.agent.models import SourceFile

LEAST = 12  # characters without blanks: a shorter line does not tell where it comes from
_BLANKS = re.compile(r"\s+")

Spot = tuple[str, int]  # path and line number; 0 = a line that a change takes out


@dataclass(frozen=True, slots=True)
class Repeated:
    """Of one text: the whole lines that stand in it, whatever its blanks. `hidden`: one of a hidden file."""

    spots: tuple[Spot, ...] = ()
    hidden: bool = False


def repeated(
    texts: Sequence[tuple[str, str]], seen: Iterable[SourceFile], unseen: Iterable[SourceFile]
) -> list[Repeated]:
    """What each (path, text) repeats of the files that may be seen, and whether of those that may not.

    A line that stands in several files is one of the text's own file, else of all of them; one that may be
    seen somewhere is nobody's secret.
    """
    bare = [_BLANKS.sub("", text) for _, text in texts]
    starts = {text[at : at + LEAST] for text in bare for at in range(len(text) - LEAST + 1)}
    lines: dict[str, list[Spot]] = {}
    for line, spot in _lines(seen, starts):
        lines.setdefault(line, []).append(spot)
    secret = {line for line, _ in _lines(unseen, starts)} - lines.keys()
    return [
        Repeated(
            tuple(spot for line, spots in lines.items() if line in text for spot in _owned(spots, path)),
            any(line in text for line in secret),
        )
        for (path, _), text in zip(texts, bare, strict=True)
    ]


def _owned(spots: Sequence[Spot], path: str) -> Sequence[Spot]:
    return [spot for spot in spots if spot[0] == path] or spots


def _lines(files: Iterable[SourceFile], starts: set[str]) -> Iterator[tuple[str, Spot]]:
    """Lines without blanks that begin as something in the texts does."""
    for file in files:
        for number, text in _all(file):
            bare = _BLANKS.sub("", text)
            if bare[:LEAST] in starts:  # shorter ones never are
                yield bare, (file.path, number)


def _all(file: SourceFile) -> Iterator[tuple[int, str]]:
    for number, text in enumerate(file.lines, start=1):
        if file.known is None or number in file.known:
            yield number, text
    for hunk in file.hunks:
        for gone in hunk.removed:
            yield from ((0, line.decode(file.encoding, "replace")) for line in gone.lines)
