"""Which scripts of sed are sure to print only."""

from __future__ import annotations

import pytest

from review_agent.tools.sed_script import only_prints


@pytest.mark.parametrize(
    "script",
    [
        "5p",
        "1,20p",
        "$p",
        "$=",
        "0~3d",
        "1,3!d",
        "10,20p;20q",
        "q1",
        "/x/p",
        "/x/I,+3p",
        "/a/,/b/{=;p}",
        "5{p;q}",
        "{{p}}",
        "/a\\/b/p",
        "s/x/y/",
        "s/x//2g",
        "s|^\\./||",
        "s,a,b,;s,c,d,",
        "s/[[:space:]]*$//",
        "s/[]a]/x/",
        "s/[^]]/x/",
        "s/a;b/c;d/",
        "s/\\(a\\)/\\1\\//",
        "y/abc/xyz/",
        "y/a\\/b/x,y/",
        " 1 p ; 2 p ",
        "",
    ],
)
def test_only_prints(script: str) -> None:
    assert only_prints(script)


@pytest.mark.parametrize(
    "script",
    [
        "w out",
        "1w out",
        "$!w out",
        "/x/w out",
        "{w out",
        "p;w out",
        "e id",
        "1e id",
        "r in",
        "R in",
        "W out",
        "s/x/y/e",
        "s/x/y/w out",
        "s/x/y/gw out",
        "s|x|y|e",
        # an escaped delimiter is no end, so what looks like a second command is the flags of the first
        "s/.*/id #\\/g;/e#/p",
        "s/a/b\\/g;s/w out/x/",
        "s|a|b\\|g;s|w out|x|",
        "y/a/b\\/;y/w out/x/",
        "/a\\/p;/w out/p",
        # a bracket may hold the delimiter for one sed and not for another
        "s/[/]/x/e",
        "/[/]e#/p",
        "s/[]/w x/]/y/",
        "s/a[/b/;s/]e#/c/",
        "s/[a\\]/]/x/",
        "s|[|]|x|",
        # a character by its number
        "s/\\x2fw out/b/",
        "s/\\o057w/b/",
        "s/\\d047w/b/",
        "s/\\cow/b/",
        # would not end
        ":a;ba",
        "b",
        "t",
        "G;D",
        # text that goes on, or is not closed
        "a\\",
        "a text",
        "s/x/y",
        "s/x/y\\",
        "s",
        "s/",
        "sxaxbx",
        "s;a;b;",
        "p p",
        "{p",
        "p}",
        "}{",
        "p\nw out",
        "s/a/b\nw out/",
        "#n",
        "1,",
        ",5p",
        "F",
        "l",
        "h",
    ],
)
def test_anything_else_is_not_understood(script: str) -> None:
    assert not only_prints(script)


@pytest.mark.parametrize(
    "script", ["s/" + "[^a]" * 900, "/" + "\\a" * 1900, "{" * 3900, "s/" + "[[:a:]" * 600]
)
def test_long_scripts_take_no_time(script: str) -> None:
    assert not only_prints(script)  # an exponential reading would not come back
