"""Expressions of an agent: what they find, and that none takes long."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from review_agent.tools.patterns import PatternError, matcher


@pytest.mark.parametrize(
    ("pattern", "regex", "text", "found"),
    [
        ("a.c", False, "xa.cx", True),
        ("a.c", False, "abc", False),
        ("[", False, "a[0]", True),
        ("a.c", True, "xabcx", True),
        (r"\bid\b", True, "valid", False),
        (r"(?i)密码|Passwd", True, "PASSWD = 1", True),
        ("密码", True, "用户密码", True),
        ("^x$", True, "x", True),
        ("^x$", True, "xx", False),
        (r"\x00", True, "a\0b", True),
        ("x", True, "\udcff x", True),  # of a name that is not UTF-8
        ("\ud800x", True, "x", False),
    ],
)
def test_what_matches(pattern: str, regex: bool, text: str, found: bool) -> None:
    assert matcher(pattern, regex=regex)(text) is found


@pytest.mark.parametrize(
    "pattern",
    ["[", "(", "a{2000}", "(?R)", "(?=a)", r"(a)\1", r"\p{Foo}", r"\L<x>", "((a{1000}){1000}){1000}", "*"],
)
def test_what_cannot_be_used_says_why(pattern: str) -> None:
    with pytest.raises(PatternError, match=r"\w+"):
        matcher(pattern, regex=True)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "(a|aa)+$b",
        "(?:" * 60 + "a" + "+)" * 60 + "b",
        "(?:a?){30}a{30}b",
        "((((a{,9}){,9}){,9}){,9})*b",
        "(.*x){5}y",
        "[^b]{900}b",
    ],
)
def test_no_expression_takes_long(pattern: str) -> None:
    started = time.monotonic()
    with suppress(PatternError):  # it may be refused as well
        assert not matcher(pattern, regex=True)("a" * 200_000)
    assert time.monotonic() - started < 2
