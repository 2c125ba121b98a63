"""Stored analyses: what is known again, what is a miss, and what a bad row may do (nothing)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from review_agent.agent.cache import FORMAT, freeze, thaw, unit_key
from review_agent.agent.models import (
    Analysis,
    Candidate,
    Category,
    Change,
    Placed,
    ReviewUnit,
    Severity,
    SourceFile,
)
from review_agent.agent.prompt import Asker
from review_agent.agent.units import Shape, build_units

CODE = [
    "import os",
    "",
    "def load(name):",
    "    path = os.path.join('data', name)",
    "    return open(path).read()",
]


def build(path: str = "a.py", lines: list[str] | None = None, language: str = "python") -> ReviewUnit:
    """The unit of a change to the last lines of a file."""
    text = tuple(lines or CODE)
    changed = frozenset(range(len(text) - 1, len(text) + 1))
    file = SourceFile(path, language, text, "", Change.MODIFIED, changed)
    (got,) = build_units(file, (), Shape(max_tokens=4000, context=3))
    return got


def candidate(title: str = "path is not checked", **more: object) -> Candidate:
    return replace(Candidate(title, Category.SECURITY, Severity.HIGH, 0.9, "open(path).read()"), **more)


UNIT = build()
ANALYSIS = Analysis(
    UNIT, (Placed(candidate(path="a.py"), 4, 5), Placed(candidate("?"), 0, 0, "quote_not_shown")), "s"
)


def key(unit: ReviewUnit, *, asker: Asker | None = None, model: str = "m1", rules: str = "") -> str:
    return unit_key(unit, prompt=(asker or Asker("en")).version, model=model, rules=rules)


@pytest.mark.parametrize("path", ["a.py", "renamed/b.py", "x\udcff.py"])
@pytest.mark.parametrize("moved", [0, 7])
def test_moved_and_renamed_code_is_known_with_its_lines_and_path(path: str, moved: int) -> None:
    shown = tuple(replace(line, number=line.number + moved) for line in UNIT.shown)
    unit = replace(UNIT, path=path, shown=shown)
    got = thaw(freeze(ANALYSIS), unit)
    assert got is not None
    assert [(p.start, p.end, p.candidate.path, p.reason) for p in got.placed] == [
        (4 + moved, 5 + moved, path, ""),
        (0, 0, path, "quote_not_shown"),
    ]
    assert (got.unit, got.summary, got.failure, got.cached) == (unit, "s", "", True)


def test_neither_name_nor_lines_added_far_above_change_the_key() -> None:
    far = [f"before_{at} = {at}" for at in range(30)]
    one, two = build("a.py", [*far, *CODE]), build("b.py", [*["# new"] * 7, *far, *CODE])
    assert one.first_line + 7 == two.first_line
    assert key(one) == key(two)


CHANGES: dict[str, Callable[[], str]] = {
    "code": lambda: key(build(lines=[*CODE[:-1], CODE[-1] + "  "])),
    "language": lambda: key(build(language="ruby")),
    "marks": lambda: key(build(lines=[*CODE[:-1], CODE[-1], ""])),
    "model": lambda: key(UNIT, model="m2"),
    "rules": lambda: key(UNIT, rules="[R1] no globals"),
    "report language": lambda: key(UNIT, asker=Asker("zh-CN")),
    "guidance": lambda: key(UNIT, asker=Asker("en", "be kind")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_shapes_an_answer_is_part_of_the_key(change: str) -> None:
    assert CHANGES[change]() != key(UNIT)


def test_a_rule_for_other_files_costs_nothing() -> None:
    asker = Asker("en", rules=((("*.go",), "[R1] go only"),))
    assert asker.rules_for("a.py") == ""
    assert asker.version == Asker("en").version


def stored(**changes: object) -> str:
    data = json.loads(freeze(ANALYSIS))
    first = data["placed"][0]
    for name, value in changes.items():
        (first["candidate"] if name in first["candidate"] else first if name in first else data)[name] = value
    return json.dumps(data)


def test_the_unchanged_row_is_a_hit() -> None:
    assert thaw(stored(), UNIT) is not None


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "null",
        "[]",
        "{}",
        "{" * 50_000,
        "\x00",
        "\ud800",
        freeze(ANALYSIS)[:-1],
        stored(format=FORMAT + 1),
        stored(format=FORMAT - 1),
        stored(placed=None),
        stored(summary=3),
        stored(category="new"),
        stored(severity="worst"),
        stored(confidence=1.5),
        stored(confidence=-0.1),
        stored(confidence=float("nan")),
        stored(confidence=float("inf")),
        stored(title=None),
        stored(start=99, end=99),
        stored(start=10**30, end=10**30),
        stored(start=3, end=99),
        stored(start=3, end=1),
        stored(start=-1, end=4),
        stored(start=0, end=4),
        stored(start="x"),
        stored(candidate=[]),
    ],
)
def test_a_row_that_cannot_be_trusted_is_a_miss(payload: str) -> None:
    assert thaw(payload, UNIT) is None


@given(st.text(max_size=300))
@example("{}")
def test_any_text_is_a_miss(payload: str) -> None:
    assert thaw(payload, UNIT) is None


@given(at=st.integers(0, 10_000), byte=st.characters())
def test_one_wrong_character_never_breaks_out(at: int, byte: str) -> None:
    row = freeze(ANALYSIS)
    at %= len(row)
    got = thaw(row[:at] + byte + row[at + 1 :], UNIT)
    numbers = {0, *(line.number for line in UNIT.shown)}
    assert got is None or all({p.start, p.end} <= numbers and p.candidate.path == "a.py" for p in got.placed)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["format", "summary", "placed", "candidate", "start"]), inner)
        ),
    )
)
@settings(max_examples=40)
def test_any_json_is_read_without_a_crash(data: object) -> None:
    thaw(json.dumps(data), UNIT)


@given(title=st.text(), quote=st.text(), confidence=st.floats(0, 1))
def test_what_was_frozen_thaws_the_same(title: str, quote: str, confidence: float) -> None:
    placed = Placed(candidate(title, quote=quote, confidence=confidence, path="a.py"), 3, 4)
    got = thaw(freeze(Analysis(UNIT, (placed,), title)), UNIT)
    assert got == Analysis(UNIT, (placed,), title, cached=True)
