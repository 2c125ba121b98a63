"""Plans: the order of files, the split of a context window, and requests that fit it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from review_agent.agent.models import Change, FileResult, FileStatus, ReviewUnit, SourceFile, Symbol
from review_agent.agent.plan import (
    UNITS_PER_REQUEST,
    Budget,
    by_risk,
    choose_context,
    make_budget,
    pack,
    shape_for,
    smallest_context,
)
from review_agent.agent.planner import make_plan, narrowed
from review_agent.agent.prompt import Asker
from review_agent.agent.settings import Rule, Settings
from review_agent.agent.target import Selection
from review_agent.agent.units import build_units
from review_agent.prompts import LANGS

ASKER = Asker("zh-CN")


def source(path: str, *lines: str, language: str = "python", changed: set[int] | None = None) -> SourceFile:
    chosen = None if changed is None else frozenset(changed)
    return SourceFile(path, language, lines or ("x = 1",), "", Change.WHOLE, chosen)


# --- order


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (source("src/login.py"), source("src/colors.py")),
        (source("src/main.py"), source("src/colors.py")),
        (source("src/colors.py"), source("tests/test_colors.py")),
        (source("src/colors.py"), source("docs/login.md", language="markdown")),
        (source("src/b.py", "eval(x)"), source("src/a.py", "print(x)")),
        (source("src/b.py", *["x"] * 1000), source("src/a.py", "x")),
        (source("src/b.py", "eval(x)", "", changed={1}), source("src/a.py", "eval(x)", "", changed={2})),
        (source("src/a.py"), source("src/b.py")),  # the same risk: by name
    ],
)
def test_the_riskier_file_comes_first(first: SourceFile, second: SourceFile) -> None:
    assert by_risk([second, first], {}) == by_risk([first, second], {}) == [first, second]


def test_what_is_changed_often_comes_first() -> None:
    calm, busy = source("src/a.py"), source("src/b.py")
    assert by_risk([calm, busy], {"src/b.py": 9, "src/a.py": 1}) == [busy, calm]


def test_no_line_is_out_of_reach() -> None:
    assert (
        len(by_risk([source("a.py", changed=set()), SourceFile("b.py", "x", (), "", Change.WHOLE)], {})) == 2
    )


# --- the context window


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("guidance", ["", "规则" * 500, "x" * 20_000])
def test_the_smallest_context_leaves_room_and_one_less_does_not(lang: str, guidance: str) -> None:
    asker = Asker(lang, guidance)
    least = smallest_context(asker)
    assert least % 256 == 0
    assert make_budget(asker, least).pieces >= 400 > make_budget(asker, least - 256).pieces
    assert shape_for("src/a.py", asker, make_budget(asker, least)) is not None


@pytest.mark.parametrize(("num_ctx", "answer"), [(1024, 512), (8192, 2048), (32768, 4096), (200_000, 4096)])
def test_the_answer_has_its_share(num_ctx: int, answer: int) -> None:
    budget = make_budget(ASKER, num_ctx)
    assert budget == Budget(num_ctx, answer, ASKER.overhead())
    assert budget.pieces + budget.answer + budget.overhead == num_ctx


@pytest.mark.parametrize(
    ("model", "asked", "chosen"),
    [(32768, None, 8192), (4096, None, 4096), (0, None, 8192), (32768, 16384, 16384), (8192, 16384, 8192)],
)
def test_choose_context(model: int, asked: int | None, chosen: int) -> None:
    assert choose_context(model, asked) == chosen


# --- requests


def units_of(files: list[SourceFile], asker: Asker, budget: Budget) -> list[ReviewUnit]:
    found: list[ReviewUnit] = []
    for file in files:
        shape = shape_for(file.path, asker, budget)
        assert shape is not None
        found += build_units(file, [Symbol("名字" * 60, "function", 1, len(file.lines))], shape)
    return found


@pytest.mark.parametrize("num_ctx", [4096, 8192, 32768])
@pytest.mark.parametrize("rules", [(), (((), "规则" * 150),)])
def test_every_unit_is_in_one_request_that_fits(
    num_ctx: int, rules: tuple[tuple[tuple[str, ...], str], ...]
) -> None:
    chance = random.Random(1)
    asker = Asker("en", rules=rules)
    words = ["x = 1", "", "return 值", "y" * 200, "文" * 3000]
    files = [
        source(
            "长" * chance.randrange(60) + f"/{n}.py", *chance.choices(words, k=chance.choice([3, 30, 300]))
        )
        for n in range(40)
    ]
    budget = make_budget(asker, num_ctx)
    units = units_of(files, asker, budget)
    requests = pack(units, asker, budget)
    assert [unit for request in requests for unit in request] == units
    assert all(sum(asker.piece_cost(unit) for unit in request) <= budget.pieces for request in requests)
    assert all(len(request) <= UNITS_PER_REQUEST for request in requests)
    assert len(requests) < len(units)


def test_small_units_share_requests() -> None:
    budget = make_budget(ASKER, 8192)
    units = units_of([source(f"{n}.py") for n in range(20)], ASKER, budget)
    assert [len(request) for request in pack(units, ASKER, budget)] == [8, 8, 4]
    assert pack([], ASKER, budget) == []


def test_rules_and_names_take_from_the_room_for_code() -> None:
    budget = make_budget(ASKER, 4096)
    plain, long_name = shape_for("a.py", ASKER, budget), shape_for("x" * 600, ASKER, budget)
    assert plain is not None
    assert long_name is not None
    assert plain.max_tokens - long_name.max_tokens > 200
    assert shape_for("长" * 4000, ASKER, budget) is None
    assert shape_for("a.py", Asker("en", rules=(((), "x" * 9000),)), budget) is None


# --- plans


def plan_of(selection: Selection, **changes: object):
    settings = replace(Settings(), **changes)
    return make_plan(selection, settings, model_key="m", model_context=4096, store=None)


def test_a_plan_has_every_file_once() -> None:
    skipped = (FileResult("logo.png", FileStatus.SKIPPED, "binary"),)
    files = tuple(source(f"src/{n}.py", *["x = 1"] * 900) for n in range(5))
    long = source("长" * 4000 + ".py")
    plan = plan_of(Selection((*files, long), skipped))
    assert set(plan.files) == set(files)
    assert plan.skipped == (
        *skipped,
        FileResult(long.path, FileStatus.FAILED, "prompt_too_long", changed_lines=1),
    )
    assert plan.units.keys() == plan.contexts.keys() == {file.path for file in files}
    flat = [unit for path in plan.units for unit in plan.units[path]]
    assert [unit for request in plan.requests for unit in request] == flat
    assert plan.keys.keys() == {(unit.path, unit.index) for unit in flat}
    assert all(len(plan.units[file.path]) > 1 for file in files)


def test_the_file_limit_takes_the_riskiest() -> None:
    files = tuple(source(path) for path in ("src/a.py", "src/login.py", "src/b.py"))
    plan = plan_of(Selection(files, ()), max_files=1)
    assert (next(file.path for file in plan.files), list(plan.units)) == ("src/login.py", ["src/login.py"])
    assert len(plan.files) == 3


def test_rules_apply_to_their_paths() -> None:
    rule = Rule("R1", "没有注释的代码不能合并", paths=("src/**",))
    plan = plan_of(Selection((source("src/a.py"), source("lib/a.py")), ()), rules=(rule,))
    assert (plan.asker.rules_for("src/a.py"), plan.asker.rules_for("lib/a.py")) == (
        "[R1] 没有注释的代码不能合并", "",
    )  # fmt: skip
    assert plan.keys["src/a.py", 0] != plan.keys["lib/a.py", 0]


@pytest.mark.parametrize(
    ("settings", "kept", "reasons"),
    [
        ({}, ["src/a.py", "docs/b.md"], ["vendored", "!not_readable"]),
        ({"exclude": ("docs/",)}, ["src/a.py"], ["excluded", "vendored", "!not_readable"]),
        ({"include": ("*.py",)}, ["src/a.py"], ["not_included", "vendored", "!not_readable"]),
        (
            {"include": ("src/**",), "exclude": ("*.py",)},
            [],
            ["excluded", "not_included", "vendored", "excluded"],
        ),
        ({"exclude": ("secret.py",)}, ["src/a.py", "docs/b.md"], ["vendored", "excluded"]),
    ],
)
def test_narrowed_lists_what_it_leaves_out(
    settings: dict[str, tuple[str, ...]], kept: list[str], reasons: list[str]
) -> None:
    selection = Selection(
        (source("src/a.py"), source("docs/b.md")),
        (
            FileResult("vendor/x.go", FileStatus.SKIPPED, "vendored"),
            FileResult("src/secret.py", FileStatus.FAILED, "not_readable"),
        ),
    )
    found = narrowed(selection, replace(Settings(), **settings))
    assert [file.path for file in found.files] == kept
    assert [
        ("!" if result.status is FileStatus.FAILED else "") + result.reason for result in found.skipped
    ] == reasons
