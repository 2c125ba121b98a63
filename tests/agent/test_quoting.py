"""Which lines of which files stand in what a model said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from review_agent.agent.models import Change, Hunk, Removed, SourceFile
from review_agent.agent.quoting import LEAST, repeated


def file(path: str, *lines: str) -> SourceFile:
    return SourceFile(path, "python", lines, "", Change.WHOLE)


A = file("a.py", "import os", "total = price * count", "    return total - discount(price)", "x = 1")
B = file("b.py", "total = price * count", "def shipping(order, weight):")
PRIVATE = file("p.py", "total = price * count", "margin = secret_margin(order)")
GONE = Hunk(1, 1, 1, 1, (b"x",), frozenset({1}), (Removed(1, (b"was = taken_out_here(1)",)),))
CHANGED = replace(file("c.py", "now = something_else(2)"), hunks=(GONE,))


@pytest.mark.parametrize(
    ("path", "text", "spots", "hidden"),
    [
        ("a.py", "nothing of the code", [], False),
        ("a.py", "see `total = price * count`.", [("a.py", 2)], False),
        ("a.py", "see total=price  *\ncount", [("a.py", 2)], False),  # whatever its blanks
        ("b.py", "see total = price * count", [("b.py", 1)], False),  # its own before another's
        ("c.py", "see total = price * count", [("a.py", 2), ("b.py", 1)], False),
        ("", "see total = price * count", [("a.py", 2), ("b.py", 1)], False),
        ("a.py", "def shipping(order, weight): but not return total", [("b.py", 2)], False),
        ("a.py", "import os; x = 1", [], False),  # too short to tell where it comes from
        ("c.py", "before: was = taken_out_here(1)", [("c.py", 0)], False),
        ("a.py", "margin = secret_margin(order)", [], True),
        ("a.py", "margin=secret_margin( order )", [], True),
        ("a.py", "margin = secret_margin", [], False),  # not all of it
    ],
)
def test_whole_lines_are_known_again(
    path: str, text: str, spots: list[tuple[str, int]], hidden: bool
) -> None:
    (found,) = repeated([(path, text)], [A, B, CHANGED], [PRIVATE])
    assert (sorted(found.spots), found.hidden) == (spots, hidden)


def test_each_text_by_itself() -> None:
    texts = [("a.py", "total = price * count"), ("a.py", ""), ("b.py", "margin = secret_margin(order)")]
    found = repeated(texts, [A, B], [PRIVATE])
    assert [one.spots for one in found] == [(("a.py", 2),), (), ()]
    assert [one.hidden for one in found] == [False, False, True]


def test_lines_that_are_not_known_cannot_be_repeated() -> None:
    part = replace(A, known=frozenset({3}))
    (found,) = repeated([("a.py", "total = price * count\nreturn total - discount(price)")], [part], [])
    assert found.spots == (("a.py", 3),)


def test_the_shortest_line_that_tells() -> None:
    for length, spots in ((LEAST - 1, ()), (LEAST, (("s.py", 1),))):
        (found,) = repeated([("s.py", f"see {'y' * length}.")], [file("s.py", "y" * length)], [])
        assert found.spots == spots
