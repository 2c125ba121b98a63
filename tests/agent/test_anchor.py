"""The quote decides where a finding stands; the line number only breaks ties."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from review_agent.agent.anchor import Anchor, place
from review_agent.agent.models import Candidate, Category, ReviewUnit, Severity, ShownLine


def unit(
    path: str, text: str, *, first: int = 1, changed: tuple[int, ...] = (), index: int = 0
) -> ReviewUnit:
    """Lines from `first` on; a line `~~` is a gap of 10 lines, a line `--x` the removed line `x`."""
    shown: list[ShownLine] = []
    number = first
    for line in text.splitlines():
        if line == "~~":
            shown.append(ShownLine(0, "", "…"))
            number += 10
        elif line.startswith("--"):
            shown.append(ShownLine(0, line[2:], "-"))
        else:
            shown.append(ShownLine(number, line, "+" if number in changed else " "))
            number += 1
    return ReviewUnit(path, index, "python", tuple(shown), changed, "", 0, "")


def candidate(quote: str, line: int = 0, path: str = "src/app.py") -> Candidate:
    return Candidate("t", Category.BUG, Severity.LOW, 0.5, quote, path=path, line_start=line, line_end=line)


def spot(anchor: Anchor | None) -> tuple[str, int, int, bool] | None:
    return anchor and (anchor.unit.path, anchor.start, anchor.end, anchor.exact)


APP = unit(
    "src/app.py",
    """\
import os

def read(path):
    handle = open(path, encoding="utf-8")
    text = handle.read()
--    handle.close()
    return text

def write(path, text):
    if not path:
        return None
    handle = open(path, "w")
    handle.write(text)
    if not text:
        return None
    total = sum(len(line) for line in text.splitlines() if line.strip())
~~
    audit(path)
    handle.write(text)
--    legacy(handle)
--    handle.flush()""",
    changed=(5, 13, 16),
)
OTHER = unit(
    "src/other.py",
    "import sys\n\ndef shout(text):\n    return text.upper()\n\nlog.info(text)\n}\n",
    changed=(3,),
)


@pytest.mark.parametrize(
    ("quote", "line", "expected"),
    [
        ("    text = handle.read()", 5, (5, 5, True)),
        ("    text = handle.read()", 900, (5, 5, True)),  # the number is not believed
        ("text=handle . read( )", 0, (5, 5, True)),
        ("    5 + " + "    text = handle.read()", 0, (5, 5, True)),
        ("    6     return text", 0, (6, 6, True)),
        ("+    text = handle.read()", 0, (5, 5, True)),
        ("5: text = handle.read()", 0, (5, 5, True)),
        ("```python\ntext = handle.read()\n```", 0, (5, 5, True)),
        ("`text = handle.read()`", 0, (5, 5, True)),
        ("text = handle.read()\\n    return text", 0, (5, 6, True)),
        ("open(path, encoding=“utf-8”)", 0, (4, 4, True)),
        ("sum(len(line) for line", 0, (15, 15, True)),
        ("def write(path, text):\n\n\n    if not path:", 0, (8, 9, True)),
        (
            "    8   def write(path, text):\n    9       if not path:\n   10           return None",
            0,
            (8, 10, True),
        ),
        ("def write(path, text): if not path: return None", 0, (8, 10, True)),
        ("def write(path, text):\n    ...\n    handle.write(text)", 0, (8, 8, False)),
        ("def write(path, text):\n    if path is None:\n        raise", 0, (8, 8, False)),
        (
            "something else entirely\n    total = sum(len(line) for line in text.splitlines()",
            0,
            (15, 15, False),
        ),
        ("total = sum(len(line) for line in texts.splitlines() if line)", 0, (15, 15, False)),
        ("audit(path)", 0, (26, 26, True)),
        ("lines_that(were, never, shown)", 5, None),
        ("", 5, None),
        ("  \n ", 5, None),
        ("...", 5, None),
        # several places
        ("handle.write(text)", 0, (12, 12, True)),
        ("handle.write(text)", 26, (27, 27, True)),
        ("handle.write(text)", 13, (12, 12, True)),
        ("return None", 0, None),
        ("return None", 11, (10, 10, True)),
        ("return None", 200, None),
        ("   27 +     handle.write(text)", 12, (27, 27, True)),  # the number is part of what was copied
        # removed lines
        ("handle.close()", 0, (6, 6, False)),
        ("      - handle.close()", 0, (6, 6, False)),
        ("-    handle.close()", 0, (6, 6, False)),
        ("text = handle.read()\n-    handle.close()\n return text", 0, (5, 6, False)),
        ("legacy(handle)\nhandle.flush()", 0, (27, 27, False)),
        # a gap parts what stands next to each other
        (
            "total = sum(len(line) for line in text.splitlines() if line.strip())\naudit(path)",
            0,
            (15, 15, False),
        ),
    ],
)
def test_quote_decides(quote: str, line: int, expected: tuple[int, int, bool] | None) -> None:
    assert spot(place(candidate(quote, line), [OTHER, APP])) == (expected and ("src/app.py", *expected))


def test_a_line_that_stands_in_two_units_is_one_place_of_the_unit_that_changes_it() -> None:
    text = "first = load()\nsecond = load()\n"
    context, changing = unit("a.py", text, first=5), unit("a.py", text, first=5, changed=(6,), index=1)
    found = place(candidate("second = load()", path="a.py"), [context, changing])
    assert found == Anchor(changing, 6, 6, exact=True)


def test_changed_lines_win_when_no_line_is_said_and_on_equal_distance() -> None:
    both = unit("a.py", "x = compute(1)\na\nb\nc\nx = compute(1)\n", changed=(5,))
    for line in (0, 3):
        assert spot(place(candidate("x = compute(1)", line, path=""), [both])) == ("a.py", 5, 5, True)
    plain = unit("a.py", "x = compute(1)\na\nb\nc\nx = compute(1)\n")
    assert spot(place(candidate("x = compute(1)", path=""), [plain])) == ("a.py", 1, 1, True)


@pytest.mark.parametrize(
    "path",
    [
        *("src/app.py", "a/src/app.py", "b/src/app.py", "./src/app.py", "src\\app.py", "/src/app.py"),
        *("/home/me/repo/src/app.py", "app.py", "`src/app.py`", "src/app.py:12", "SRC/App.py"),
    ],
)
def test_path_forms(path: str) -> None:
    twin = unit("lib/twin.py", "    text = handle.read()\n")
    assert spot(place(candidate("text = handle.read()", path=path), [twin, APP])) == (
        "src/app.py",
        5,
        5,
        True,
    )


@pytest.mark.parametrize(
    ("quote", "path", "expected"),
    [
        ("text = handle.read()", "", ("src/app.py", 5)),
        ("text = handle.read()", "no/such/file.py", ("src/app.py", 5)),
        ("text = handle.read()", "../../etc/passwd", ("src/app.py", 5)),
        (
            "return text",
            "src/other.py",
            ("src/other.py", 4),
        ),  # part of a line, but in the file that was named
        ("return text.upper()", "src/app.py", ("src/other.py", 4)),  # fits one other place
        ("twice(1, 2)", "", None),  # in two files
        ("twice(1, 2)", "nowhere.py", None),
        ("twice(1, 2)", "src/app.py", None),
        ("twice(1, 2)", "x.py", None),  # the name of two files
        ("twice(1, 2)", "two/x.py", ("two/x.py", 1)),
        ("}", "src/app.py", None),
        ("audit(path)\nnever(shown)", "", ("src/app.py", 26)),
    ],
)
def test_path_restricts(quote: str, path: str, expected: tuple[str, int] | None) -> None:
    units = [APP, OTHER, unit("one/x.py", "twice(1, 2)"), unit("two/x.py", "twice(1, 2)")]
    found = place(candidate(quote, path=path), units)
    assert (found and (found.unit.path, found.start)) == expected


def test_a_removed_line_that_nothing_numbered_follows_is_reported_at_the_line_before() -> None:
    tail = unit("a.py", "keep(1)\n--drop(everything)\n~~\nfar(away)")
    assert spot(place(candidate("drop(everything)", path="a.py"), [tail])) == ("a.py", 1, 1, False)


def test_a_file_of_removed_lines_only_has_no_place() -> None:
    assert place(candidate("drop(everything)", path="a.py"), [unit("a.py", "--drop(everything)")]) is None


def test_a_long_range_is_cut() -> None:
    lines = "\n".join(f"call({number})" for number in range(60))
    assert spot(place(candidate(lines, path="a.py"), [unit("a.py", lines)])) == ("a.py", 1, 30, True)


@pytest.mark.parametrize(
    "quote",
    ["(" * 2000, "\n".join("handle.write(texts[0])" for _ in range(90)), "\ud800" * 50],
    ids=["brackets", "repetition", "surrogates"],
)
def test_hostile_quotes_take_little_time(quote: str) -> None:
    big = unit("a.py", "\n".join(["handle.write(text)"] * 2000 + ["(" * 20_000]))
    began = time.process_time()
    place(candidate(quote, path="a.py"), [big])
    assert time.process_time() - began < 2


# --- replay: reviewers' comments on real pull requests, as a model would say them ---


def _hunk_lines(patch: str) -> dict[str, set[int]]:
    shown: dict[str, set[int]] = {}
    path = ""
    for line in patch.splitlines():
        if line.startswith("+++ "):
            path = line[6:].strip().strip('"')
        elif found := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            start, count = int(found[1]), int(found[2] or 1)
            shown.setdefault(path, set()).update(range(max(1, start - 20), start + count + 20))
    return shown


def _units(pull: dict[str, object]) -> dict[str, ReviewUnit]:
    shown = _hunk_lines(str(pull["patch"]))
    units: dict[str, ReviewUnit] = {}
    for entry in pull["files"]:  # type: ignore[attr-defined]
        if not isinstance(entry["head"], str):
            continue
        lines = entry["head"].split("\n")
        changed = set(entry["added_lines"])
        rows: list[ShownLine] = []
        for number in sorted(shown.get(entry["path"], set())):
            if number <= len(lines):
                if rows and rows[-1].number != number - 1:
                    rows.append(ShownLine(0, "", "…"))
                rows.append(ShownLine(number, lines[number - 1], "+" if number in changed else " "))
        units[entry["path"]] = ReviewUnit(
            entry["path"], 0, "", tuple(rows), tuple(sorted(changed)), "", 0, ""
        )
    return units


def _disguises(exact: Candidate, position: int) -> Iterator[tuple[str, Candidate]]:
    line = exact.line_start
    yield "exact", exact
    for off in (1, -1, 5, -5, 20, -20):
        yield "line off", replace(exact, line_start=max(1, line + off), line_end=max(1, line + off))
    yield "diff position", replace(exact, line_start=position, line_end=position)
    for path in (f"a/{exact.path}", f"b/{exact.path}", f"./{exact.path}", exact.path.replace("/", "\\")):
        yield "path form", replace(exact, path=path)
    yield "blanks", replace(exact, quote=re.sub(r"[ \t]+", " ", exact.quote.replace("\n", "\n\n")))
    yield "blanks", replace(exact, quote="\n".join(f"\t{row.strip()}  " for row in exact.quote.split("\n")))
    yield "line missing", replace(exact, line_start=0, line_end=0)
    yield "path missing", replace(exact, path="")


def test_replayed_comments_find_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    bench = os.environ.get("REVIEW_AGENT_BENCH")
    if not bench:
        pytest.skip("REVIEW_AGENT_BENCH is not set: no pull requests to replay")
    score: dict[str, list[bool]] = {}
    not_shown = strange = 0
    for file in sorted(Path(bench, "aacr-prs", "prs").glob("*.json")):
        pull = json.loads(file.read_text(encoding="utf-8"))
        units = _units(pull)
        for golden in pull["golden"]:
            unit_, start, end = units.get(golden["path"]), golden["from_line"], golden["to_line"]
            rows = [line for line in unit_.shown if start <= line.number <= end][:6] if unit_ else []
            if not unit_ or not any(row.text.strip() for row in rows):
                not_shown += 1
                continue
            exact = replace(
                candidate("\n".join(row.text for row in rows), start, golden["path"]), line_end=end
            )
            position = next(index for index, row in enumerate(unit_.shown, 1) if row.number == rows[0].number)
            for name, said in _disguises(exact, position):
                found = place(said, list(units.values()))
                hits = score.setdefault(name, [])
                if found is None:
                    hits.append(False)
                    continue
                hits.append(found.unit.path == golden["path"] and found.start <= end and found.end >= start)
                strange += not {found.start, found.end} <= {line.number for line in found.unit.shown}
    rate = sum(map(sum, score.values())) / sum(map(len, score.values()))
    with capsys.disabled():
        each = ", ".join(f"{name} {sum(hits)}/{len(hits)}" for name, hits in score.items())
        print(f"\nanchor accuracy {rate:.4f} ({each}; not shown {not_shown}; outside the diff {strange})")
    assert rate >= 0.95
    assert strange == 0
