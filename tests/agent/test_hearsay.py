"""What a local model said, as it may go to an agent's."""

from __future__ import annotations

from typing import Any

import pytest
from findings_of import finding

from review_agent.agent.hearsay import Hearsay
from review_agent.agent.library import Library
from review_agent.agent.models import Change, SourceFile
from review_agent.agent.provenance import words_of
from review_agent.prompts import LANGS

LINES = {
    "a.py": ("total = price * count", "rest = total - discount(price)", "x = 1"),
    "b.py": ("def shipping(order, weight):",),
    "private/p.py": ("margin = secret_margin(order)",),
}
FILES = {path: SourceFile(path, "python", lines, "", Change.WHOLE) for path, lines in LINES.items()}
LIBRARY = Library(FILES, lambda path, _secret: "hidden" if path.startswith("private/") else "")
SAID = ("title", "explanation")


def row(explanation: str, title: str = "t") -> dict[str, Any]:
    return {"id": "C1", "title": title, "explanation": explanation, "quote": "x = 1"}


@pytest.mark.parametrize(
    ("path", "title", "explanation", "quoted", "lines"),
    [
        ("a.py", "t", "wrong", [3], {"a.py": "3"}),
        ("a.py", "t", "wrong", [], {"a.py": ""}),
        ("a.py", "t", "see total = price * count", [3], {"a.py": "1,3"}),
        ("a.py", "total = price * count", "rest = total - discount(price)", [3], {"a.py": "1-3"}),
        ("a.py", "t", "as in def shipping(order, weight):", [3], {"a.py": "3", "b.py": "1"}),
        ("", "t", "as in def shipping(order, weight):", [], {"b.py": "1"}),
        ("", "t", "wrong", [], {}),
        ("a.py", "total = price", "* count", [], {"a.py": ""}),  # not in one of its texts
    ],
)
def test_the_ledger_is_told_each_line(
    path: str, title: str, explanation: str, quoted: list[int], lines: dict[str, str]
) -> None:
    given = row(explanation, title)
    ((goes, parts),) = Hearsay(LIBRARY, "en").check([(path, given, quoted)], SAID)
    assert goes == given
    assert dict(parts) == lines
    assert [where for where, _ in parts][:1] == [path or "b.py"][: len(parts)]  # its own file first


@pytest.mark.parametrize(("path", "hidden"), [("AGENTS.md", False), ("private/AGENTS.md", True)])
def test_guidance_that_is_repeated(path: str, hidden: bool) -> None:
    guidance = SourceFile(path, "markdown", ("Orders are", "never negative here."), "", Change.WHOLE)
    given = row("for: never negative here.")
    ((goes, parts),) = Hearsay(LIBRARY, "en", guidance=guidance).check([("a.py", given, [3])], SAID)
    assert ("never" in str(goes)) is not hidden
    assert dict(parts) == {"a.py": "3"} | ({} if hidden else {path: "2"})


@pytest.mark.parametrize("lang", LANGS)
def test_the_last_gate(lang: str) -> None:
    given = row(
        "like margin = secret_margin(order), see total = price * count", "like margin=secret_margin(order)"
    )
    ((goes, parts),) = Hearsay(LIBRARY, lang).check([("a.py", given, [3])], SAID)
    assert "margin" not in str(goes)
    assert (goes["title"], goes["quote"]) == ("", "x = 1")
    assert len(goes["explanation"]) > 20
    assert parts == [("a.py", "3")]


def test_where_nothing_leaves_all_is_told() -> None:
    given = row("like margin = secret_margin(order)")
    hearsay = Hearsay(LIBRARY, "en", leaves=False, foreign=frozenset({words_of(finding())}))
    assert hearsay.check([("a.py", given, [3])], SAID) == [(given, [])]
    assert not hearsay.withheld(finding())


def test_foreign_words_are_withheld_by_what_they_say_of_which_file() -> None:
    hearsay = Hearsay(LIBRARY, "en", foreign=frozenset({words_of(finding())}))
    assert hearsay.withheld(finding(line=7))
    assert not hearsay.withheld(finding(title="other"))
    assert not hearsay.withheld(finding(path="b.py"))
