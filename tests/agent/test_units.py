"""Units: what a model sees of a file, and that every line under review is in one of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from review_agent.agent.models import Change, Hunk, Removed, ReviewUnit, ShownLine, SourceFile, Symbol
from review_agent.agent.tokens import estimate
from review_agent.agent.units import MAX_LINE, Shape, build_units, enclosing, halves, render

SHAPE = Shape(max_tokens=4000, context=2)
LINES = tuple(f"line {number}" for number in range(1, 101))


def source(
    lines: tuple[str, ...] = LINES,
    changed: set[int] | None = None,
    hunks: tuple[Hunk, ...] = (),
    known: set[int] | None = None,
    encoding: str = "utf-8",
) -> SourceFile:
    return SourceFile(
        "a.py", "python", lines, "", Change.WHOLE if changed is None else Change.MODIFIED,
        None if changed is None else frozenset(changed), hunks, encoding,
        known=None if known is None else frozenset(known),
    )  # fmt: skip


def removal(before: int, *lines: bytes) -> Hunk:
    """A hunk without context that only removes."""
    return Hunk(before, len(lines), before - 1, 0, (), frozenset(), (Removed(before, lines),))


def text(unit: ReviewUnit) -> list[str]:
    return [render(line) for line in unit.shown]


def numbers(unit: ReviewUnit) -> list[int]:
    return [line.number for line in unit.shown if line.number]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (ShownLine(7, "x = 1", "+"), "    7 + x = 1"),
        (ShownLine(123456, "x", " "), "123456   x"),
        (ShownLine(0, "gone", "-"), "      - gone"),
        (ShownLine(0, "", "…"), "      …"),
    ],
)
def test_render(line: ShownLine, shown: str) -> None:
    assert render(line) == shown


def test_a_whole_small_file_is_one_unit() -> None:
    (unit,) = build_units(source(("a", "", "b")), (), SHAPE)
    assert text(unit) == ["    1   a", "    2   ", "    3   b"]
    assert (unit.changed_lines, unit.first_line, unit.last_line) == ((1, 2, 3), 1, 3)
    assert unit.tokens == sum(estimate(line) for line in text(unit))


def test_a_change_is_shown_with_its_surroundings() -> None:
    hunk = Hunk(9, 3, 9, 3, (b"line 9", b"line 10", b"line 11"), frozenset({10}), (Removed(10, (b"old",)),))
    (unit,) = build_units(source(changed={10}, hunks=(hunk,)), (), SHAPE)
    assert text(unit) == [
        "      …",
        "    8   line 8",
        "    9   line 9",
        "      - old",
        "   10 + line 10",
        "   11   line 11",
        "   12   line 12",
    ]
    assert unit.changed_lines == (10,)


def test_changes_far_apart_have_a_gap_between_them() -> None:
    (unit,) = build_units(source(changed={10, 50}), (), replace(SHAPE, context=1))
    assert text(unit) == [
        "      …", "    9   line 9", "   10 + line 10", "   11   line 11",
        "      …", "   49   line 49", "   50 + line 50", "   51   line 51",
    ]  # fmt: skip


def test_a_changed_header_does_not_show_the_definition_before_it() -> None:
    symbols = [Symbol("f", "function", 1, 9), Symbol("g", "function", 10, 20)]
    hunk = Hunk(10, 1, 10, 1, (b"line 10",), frozenset({10}), (Removed(10, (b"old",)),))
    (unit,) = build_units(source(changed={10}, hunks=(hunk,)), symbols, SHAPE)
    assert numbers(unit) == list(range(8, 21))


@pytest.mark.parametrize(
    ("before", "shown"),
    [
        (1, ["-x", " 1", " 2", " 3"]),
        (50, ["…", " 47", " 48", " 49", "-x", " 50", " 51", " 52"]),
        (101, ["…", " 98", " 99", " 100", "-x"]),
    ],
)
def test_a_pure_deletion_is_shown_between_its_neighbours(before: int, shown: list[str]) -> None:
    (unit,) = build_units(source(changed=set(), hunks=(removal(before, b"x"),)), (), SHAPE)
    assert [f"{line.mark}{line.number or line.text}" for line in unit.shown] == shown
    assert unit.changed_lines == ()


def test_a_deletion_among_unknown_lines_is_shown() -> None:
    hunks = (removal(5, b"x"), removal(9, b"y"))
    (unit,) = build_units(source(("",) * 20, set(), hunks, known=set()), (), SHAPE)
    assert text(unit) == ["      …", "      - x", "      …", "      - y"]
    (unit,) = build_units(source((), set(), (removal(1, b"x"),), known=set()), (), SHAPE)
    assert text(unit) == ["      - x"]


def test_unknown_lines_are_never_shown() -> None:
    (unit,) = build_units(source(changed={10}, known={9, 10, 11}), [Symbol("f", "function", 5, 20)], SHAPE)
    assert numbers(unit) == [9, 10, 11]


def test_many_removed_lines_are_cut() -> None:
    hunk = removal(10, *(b"gone" for _ in range(30)))
    (unit,) = build_units(source(changed=set(), hunks=(hunk,)), (), replace(SHAPE, removed_lines=3))
    assert [line.mark for line in unit.shown if not line.number] == ["…", "-", "-", "-", "…"]


def test_removed_lines_have_the_encoding_of_the_file() -> None:
    hunk = removal(1, "权限\r".encode("gb18030"))
    (unit,) = build_units(source(changed=set(), hunks=(hunk,), encoding="gb18030"), (), SHAPE)
    assert unit.shown[0].text == "权限"


# --- definitions


def test_a_short_definition_is_shown_whole_and_a_long_one_by_its_header() -> None:
    symbols = [
        Symbol("Big", "class", 5, 95),
        Symbol("small", "function", 40, 60),
        Symbol("other", "function", 70, 75),
    ]
    (unit,) = build_units(source(changed={50}), symbols, SHAPE)
    assert numbers(unit) == [5, 6, *range(40, 61)]
    assert unit.symbol == "Big.small"
    (unit,) = build_units(source(changed={80}), symbols, SHAPE)
    assert (numbers(unit), unit.symbol) == ([5, 6, *range(78, 83)], "Big")


def test_a_long_name_keeps_its_innermost_part() -> None:
    symbols = [Symbol(f"{'outer' * 10}{n}", "class", 1, 100 - n) for n in range(10)]
    (unit,) = build_units(source(changed={50}), [*symbols, Symbol("here", "function", 40, 60)], SHAPE)
    assert unit.symbol.startswith("…")
    assert unit.symbol.endswith(".here")
    assert len(unit.symbol) < 130


@pytest.mark.parametrize(
    ("start", "end", "name"),
    [(3, 3, "A.f"), (2, 6, "A"), (1, 20, ""), (8, 9, "A"), (15, 15, "B"), (4, 4, "A.f.g")],
)
def test_enclosing(start: int, end: int, name: str) -> None:
    rows = [("A", 1, 10), ("f", 2, 5), ("g", 4, 4), ("B", 12, 20)]
    assert enclosing([Symbol(name, "x", first, last) for name, first, last in rows], start, end) == name


def test_a_large_file_is_cut_where_outer_definitions_start() -> None:
    symbols = [Symbol(f"f{start}", "function", start, start + 19) for start in range(1, 101, 20)]
    symbols += [Symbol("inner", "function", start + 5, start + 18) for start in range(1, 101, 20)]
    symbols.sort(key=lambda symbol: symbol.start)
    cost = sum(estimate(render(ShownLine(1, line, " "))) for line in LINES[:20])
    units = build_units(source(), symbols, replace(SHAPE, max_tokens=cost + cost // 2))
    assert [(unit.first_line, unit.last_line, unit.symbol) for unit in units] == [
        (start, start + 19, f"f{start}") for start in range(1, 101, 20)
    ]
    assert [unit.index for unit in units] == list(range(5))


def test_a_unit_that_starts_inside_a_definition_repeats_its_header() -> None:
    units = build_units(source(), [Symbol("f", "function", 1, 100)], replace(SHAPE, max_tokens=300))
    assert len(units) > 2
    assert all(text(unit)[:2] == ["    1   line 1", "      …"] for unit in units[1:])
    assert [unit.changed_lines[0] for unit in units][1:] == [numbers(unit)[1] for unit in units[1:]]
    reviewed = [number for unit in units for number in unit.changed_lines]
    assert reviewed == list(range(1, 101)), "the repeated header counts once"


def test_parts_without_a_change_are_left_out() -> None:
    symbols = [Symbol("f", "function", 1, 60)]
    units = build_units(source(changed={58}), symbols, Shape(max_tokens=250, context=1, symbol_lines=100))
    assert [unit.changed_lines for unit in units] == [(58,)]


# --- size


@pytest.mark.parametrize("character", ["x", "文", "\t"])
@pytest.mark.parametrize("limit", [200, 700, 5000])
def test_a_huge_line_fits_a_unit(character: str, limit: int) -> None:
    lines = ("a", character * 100_000, "b")
    units = build_units(source(lines), [Symbol("f", "function", 1, 3)], replace(SHAPE, max_tokens=limit))
    assert [number for unit in units for number in unit.changed_lines] == [1, 2, 3]
    assert all(unit.tokens <= limit for unit in units)
    (cut,) = {line.text for unit in units for line in unit.shown if line.number == 2}
    assert cut == character * (len(cut) - len("…")) + "…"
    assert len(cut) <= MAX_LINE + 1


@st.composite
def files(draw: st.DrawFn) -> tuple[SourceFile, list[Symbol], Shape]:
    line = st.sampled_from(["", "x = 1", "    return '值'", "y" * 90, "z" * 3000])
    lines = tuple(draw(st.lists(line, min_size=1, max_size=120)))
    total = len(lines)
    number = st.integers(1, total)
    changed = draw(st.none() | st.sets(number))
    hunks = (
        [] if changed is None else [removal(at, b"gone") for at in sorted(draw(st.sets(number, max_size=5)))]
    )
    spans = [tuple(sorted(draw(st.tuples(number, number)))) for _ in range(draw(st.integers(0, 6)))]
    symbols = [
        Symbol(f"s{start}", "f", start, end) for start, end in sorted(spans, key=lambda s: (s[0], -s[1]))
    ]
    shape = Shape(draw(st.integers(200, 3000)), draw(st.integers(1, 80)), draw(st.integers(0, 8)))
    return source(lines, changed, tuple(hunks)), symbols, shape


@settings(max_examples=200, deadline=2000, database=None)
@given(files())
def test_every_line_under_review_is_shown_within_the_limit(
    case: tuple[SourceFile, list[Symbol], Shape],
) -> None:
    file, symbols, shape = case
    units = build_units(file, symbols, shape)
    wanted = list(range(1, len(file.lines) + 1)) if file.changed is None else sorted(file.changed)
    assert [number for unit in units for number in unit.changed_lines] == wanted
    marked = [line.number for unit in units for line in unit.shown if line.mark == "+"]
    assert marked == ([] if file.changed is None else wanted)
    removed = [line for unit in units for line in unit.shown if line.mark == "-"]
    assert len(removed) == len(file.hunks)
    for unit in units:
        assert unit.tokens == sum(estimate(render(line)) for line in unit.shown) <= shape.max_tokens
        body = numbers(unit)
        assert set(unit.changed_lines) <= set(body)


@settings(max_examples=100, deadline=2000, database=None)
@given(files())
def test_halves_show_the_same_lines(case: tuple[SourceFile, list[Symbol], Shape]) -> None:
    for unit in build_units(*case):
        parts = halves(unit)
        assert tuple(line for part in parts for line in part.shown) == unit.shown
        assert tuple(number for part in parts for number in part.changed_lines) == unit.changed_lines
        assert len(parts) in (1, 2)
        if len(parts) == 2:
            assert all(part.tokens < unit.tokens for part in parts)
            assert len({unit.digest, *(part.digest for part in parts)}) > 1


def test_halves_are_cut_at_a_blank_line() -> None:
    lines = [f"line {number}" for number in range(1, 21)]
    lines[11] = ""
    (unit,) = build_units(source(tuple(lines)), (), SHAPE)
    assert [len(part.shown) for part in halves(unit)] == [11, 9]


@pytest.mark.parametrize("count", [1, 7])
def test_a_small_unit_is_not_cut(count: int) -> None:
    (unit,) = build_units(source(LINES[:count]), (), SHAPE)
    assert halves(unit) == (unit,)


def test_a_unit_of_removed_lines_is_cut_too() -> None:
    hunk = removal(1, *(b"gone" for _ in range(12)))
    (unit,) = build_units(source((), set(), (hunk,), known=set()), (), SHAPE)
    assert [len(part.shown) for part in halves(unit)] == [6, 6]


# --- digests


def one(file: SourceFile) -> ReviewUnit:
    (unit,) = build_units(file, (), SHAPE)
    return unit


def test_moved_and_renamed_code_has_the_same_digest() -> None:
    hunk = Hunk(9, 1, 9, 1, (b"",), frozenset(), (Removed(10, (b"old",)),))
    before = source(changed={10}, hunks=(hunk,))
    shifted = Hunk(12, 1, 12, 1, (b"",), frozenset(), (Removed(13, (b"old",)),))
    after = source(("new", "new", "new", *LINES), {13}, (shifted,))
    assert one(before).digest == one(replace(after, path="b.py")).digest


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(source((*LINES[:9], "line X", *LINES[10:]), {10}), id="changed-line"),
        pytest.param(source((*LINES[:8], "line X", *LINES[9:]), {10}), id="context"),
        pytest.param(source(changed={10, 11}), id="mark"),
        pytest.param(source(changed={10}, hunks=(removal(10, b"gone"),)), id="removed-line"),
        pytest.param(replace(source(changed={10}), language="go"), id="language"),
        pytest.param(source(changed={10}, known=set(range(9, 100))), id="less-shown"),
    ],
)
def test_any_visible_difference_is_another_digest(other: SourceFile) -> None:
    assert one(source(changed={10})).digest != one(other).digest


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (("a", "b"), ("a\x001\x00 \x00b",)),
        (("a 1   1 b",), ("a", "b")),
        (("a1   b",), ("a", "b")),
        (("a", "", "b"), ("a", "b", "")),
        (("ab", "c"), ("a", "bc")),
    ],
)
def test_text_cannot_pretend_to_be_several_lines(left: tuple[str, ...], right: tuple[str, ...]) -> None:
    assert one(source(left)).digest != one(source(right)).digest
