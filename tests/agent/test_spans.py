"""Line ranges as text."""

from __future__ import annotations

import random

import pytest

from review_agent.agent.spans import joined, of_lines, span


@pytest.mark.parametrize(("start", "end", "text"), [(3, 9, "3-9"), (3, 3, "3"), (3, 0, "3"), (0, 0, "0")])
def test_span(start: int, end: int, text: str) -> None:
    assert span(start, end) == text


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([4], "4"),
        ([3, 1, 2], "1-3"),
        ([1, 3, 5, 6], "1,3,5-6"),
        ([2, 2, 2], "2"),
        (range(1, 10), "1-9"),
    ],
)
def test_of_lines(numbers: list[int], text: str) -> None:
    assert of_lines(numbers) == text


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        ([], ""),
        (["", ""], ""),
        (["3-9", "12"], "3-9,12"),
        (["12", "3-9"], "3-9,12"),
        (["1-3", "4-6"], "1-6"),
        (["1-3", "5-6"], "1-3,5-6"),
        (["1-9", "2-3"], "1-9"),
        (["2-3,7", "4"], "2-4,7"),
        (["x", "1-y", "z-2", "-", "5"], "5"),
        (["-3", "1--2", "1-2-3"], ""),
        (["\u0661", "\u00b2", " 1", "+1", "1e3"], ""),  # digits of other scripts, and what only int() takes
        (["9" * 5000, "1-" + "9" * 5000, "2"], "2"),
    ],
)
def test_joined(texts: list[str], text: str) -> None:
    assert joined(texts) == text


def test_any_lines_come_back() -> None:
    chance = random.Random(6)
    for _ in range(200):
        numbers = {chance.randrange(1, 60) for _ in range(chance.randrange(1, 40))}
        parts = [of_lines(chance.sample(sorted(numbers), k=len(numbers))) for _ in range(2)]
        text = joined([*parts, of_lines(sorted(numbers)[:3])])
        read = {
            n
            for part in text.split(",")
            for low, _, high in [part.partition("-")]
            for n in range(int(low), int(high or low) + 1)
        }
        assert read == numbers
