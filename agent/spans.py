"""Line ranges as text: "3-9,12"."""

from __future__ import annotations

from collections.abc import Iterable


def span(start: int, end: int) -> str:
    return str(start) if end <= start else f"{start}-{end}"


def of_lines(numbers: Iterable[int]) -> str:
    """The text of a set of line numbers."""
    return joined(str(number) for number in numbers)


def joined(texts: Iterable[str]) -> str:
    """Several such texts as one, sorted; ranges that touch become one, what is no number is left out."""
    ranges: list[tuple[int, int]] = []
    for part in ",".join(texts).split(","):
        first, _, last = part.partition("-")
        if _number(first) and (not last or _number(last)):
            ranges.append((int(first), int(last or first)))
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return ",".join(span(low, high) for low, high in merged)


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
