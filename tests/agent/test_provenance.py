"""Beside what a finding was written, and whether its words may be told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import Scripted, analyzer, answer, finding, unit

from review_agent.agent.cache import freeze, thaw
from review_agent.agent.findings import Context
from review_agent.agent.models import Analysis, Candidate, Category, Change, Placed, Severity, SourceFile
from review_agent.agent.provenance import foreign_words, name_in, place_of
from review_agent.agent.target import Target

HERE, ELSEWHERE = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
UNIT = unit("a.py", "total = price * count")
CONTEXTS = {
    "a.py": Context(SourceFile("a.py", "python", ("total = price * count",), "", Change.WHOLE), (), str)
}


def placed(beside: tuple[str, ...] | None) -> Placed:
    said = Candidate("t", Category.BUG, Severity.LOW, 0.5, "total", "a.py", 1, 1, "why", "", "")
    return Placed(said, 1, 1, "", beside)


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        ((), True),
        ((name_in(HERE, "b.py"),), True),
        ((name_in(HERE, "caf\udce9 ü:x.py"),), True),
        ((name_in(HERE, "private/b.py"),), False),
        ((name_in(HERE, "b.py"), name_in(HERE, "private/b.py")), False),
        ((name_in(ELSEWHERE, "b.py"),), False),  # the same code stands in another repository, beside its own
        (("b.py",), False),
        (None, False),  # of a version that did not know
    ],
)
def test_words_are_told_only_where_all_that_stood_beside_may_be_seen(
    beside: tuple[str, ...] | None, told: bool
) -> None:
    asked: list[str] = []

    def visible(path: str) -> bool:
        asked.append(path)
        return not path.startswith("private/")

    analysis = Analysis(UNIT, (placed(beside),))
    found = foreign_words([analysis], CONTEXTS, HERE, visible, lambda _: False)
    assert found == (frozenset() if told else {("a.py", "t", "why")})
    assert "caf\udce9 ü:x.py" in asked or "caf" not in str(beside)


def test_words_of_a_model_that_was_shown_hidden_guidance_are_not_told() -> None:
    analysis = Analysis(UNIT, (placed(()),))
    assert foreign_words([analysis], CONTEXTS, HERE, lambda _: True, lambda _: True) == {("a.py", "t", "why")}


@pytest.mark.parametrize("beside", [None, (), (name_in(HERE, "b.py"), name_in(HERE, "\udce9.py"))])
def test_the_store_keeps_it(beside: tuple[str, ...] | None) -> None:
    known = thaw(freeze(Analysis(UNIT, (placed(beside),))), replace(UNIT, path="moved.py"))
    assert known is not None
    assert known.placed[0].beside == beside


def test_a_place_is_a_digest(tmp_path: Path) -> None:
    one, other = place_of(Target("tree", str(tmp_path))), place_of(Target("tree", str(tmp_path / "x")))
    assert one != other
    assert str(tmp_path) not in name_in(one, "a.py")


def beside(backend: Scripted, *units: object) -> dict[str, set[tuple[str, ...] | None]]:
    made = analyzer(backend)
    made.names = lambda unit: (f"at:{unit.path}", f"was:{unit.path}")
    found = asyncio.run(made.analyze(units))  # type: ignore[arg-type]
    return {one.unit.path: {placed.beside for placed in one.placed} for one in found}


def test_a_finding_knows_what_stood_in_its_request() -> None:
    first, second = unit("a.py", "total = price * count"), unit("b.py", "rest = total - count")
    both = answer(finding("total = price * count", "a.py"), finding("rest = total - count", "b.py"))
    nowhere = answer(finding("no such line", "b.py"))
    assert beside(Scripted([both]), first, second) == {
        "a.py": {("at:b.py", "was:b.py")},
        "b.py": {("at:a.py", "was:a.py")},
    }
    assert beside(Scripted([nowhere]), first, second)["b.py"] == {("at:a.py", "was:a.py")}
    assert beside(Scripted([both]), first)["a.py"] == {()}
    rest = replace(second, path="a.py", index=1)  # of the same file: elsewhere it may have gone on otherwise
    assert beside(Scripted([both]), first, rest)["a.py"] == {("at:a.py", "was:a.py")}
