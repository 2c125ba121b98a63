from __future__ import annotations

import pytest

from review_agent.agent.replacements import lines_of, replaces


@pytest.mark.parametrize(
    ("quote", "replacement", "lines", "fits"),
    [
        ("a = 1", "a = 2", ["a = 1"], True),
        ("a = 1\n", "a = 2\n", ["a = 1"], True),
        ("    a = 1", "    a = 2", ["    a = 1"], True),
        ("a = 1", "    a = 2", ["    a = 1"], True),
        ("if x:\n    y()", "if x and z:\n    y()\n    z()", ["if x:", "    y()"], True),
        ("a = 1\n\nb = 2", "c = 3", ["a = 1", "", "b = 2"], True),
        ("f(a)", "f(b)", ["x = f(a)"], False),  # half a line
        ("a = 1", "a = 2", ["    a = 1"], False),  # the indentation got lost
        ("a = 1", "\ta = 2", ["    a = 1"], False),
        ("a = 1", "a = 2", ["a = 1", "b = 1"], False),  # more lines than were quoted
        ("a = 1\nb = 1", "a = 2", ["a = 1"], False),
        ("a = 1", "a = 1", ["a = 1"], False),  # nothing new
        ("a = 1", "", ["a = 1"], False),
        ("a = 1", " \n", ["a = 1"], False),
        ("a = 1", "a = '\u202e1'", ["a = 1"], False),  # would not be shown as it is
        ("a = 1", "a = 2\x1b[2J", ["a = 1"], False),
        ("a = 1", "##[add-path]x", ["a = 1"], False),
        ("a = 1", "a = 2", [], False),
        ("", "a = 2", [""], False),
    ],
)
def test_what_can_stand_in_for_lines(quote: str, replacement: str, lines: list[str], fits: bool) -> None:
    assert replaces(quote, replacement, lines) is fits


@pytest.mark.parametrize(
    ("replacement", "lines"),
    [("", []), ("\n \n", []), ("\n  a\n\n  b\n\n", ["  a", "", "  b"]), ("a\r\nb\r\n", ["a", "b"])],
)
def test_lines(replacement: str, lines: list[str]) -> None:
    assert lines_of(replacement) == lines
