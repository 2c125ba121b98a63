from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from review_agent.agent.models import EngineInfo, Note, VerdictWord
from review_agent.agent.reports import render
from review_agent.agent.reports.wrap import wrap

LOCAL = EngineInfo("local", "ollama", "qwen2.5-coder:7b", "")
CLOUD = EngineInfo("cloud", "anthropic", "claude", "")


@pytest.mark.parametrize(
    ("verdict", "reason", "first"),
    [
        (VerdictWord.PASS, "", "审查结论：通过"),
        (VerdictWord.ISSUES, "", "审查结论：有问题"),
        (VerdictWord.INCOMPLETE, "limit_max_seconds", "审查结论：未完成（达到时间上限）"),
        (VerdictWord.NOT_REVIEWED, "nothing_to_review", "审查结论：未审查（没有需要审查的内容）"),
        (VerdictWord.NOT_REVIEWED, "all_failed", "审查结论：未审查（所有文件都审查失败）"),
    ],
)
@pytest.mark.parametrize("fmt", ["terminal", "markdown"])
def test_the_verdict_comes_first_and_only_a_pass_is_called_one(make, fmt, verdict, reason, first) -> None:
    text = render(make(verdict=verdict, verdict_reason=reason), fmt)
    line = text.split("\n")[0 if fmt == "terminal" else 2]
    assert line.strip("*") == first
    assert ("通过" in text) is (verdict is VerdictWord.PASS)


@pytest.mark.parametrize("fmt", ["terminal", "markdown"])
def test_a_demo_says_so_before_anything_else(make, fmt: str) -> None:
    lines = render(make(notes=(Note("demo_model"),)), fmt).split("\n")
    assert "演示模型" in (lines[0] if fmt == "terminal" else lines[2])
    assert "演示模型" not in render(make(), fmt)


@pytest.mark.parametrize(
    ("engine", "keep_egress", "present"),
    [(LOCAL, False, True), (LOCAL, True, False), (CLOUD, False, False), (CLOUD, True, False)],
)
@pytest.mark.parametrize("fmt", ["terminal", "markdown"])
def test_nothing_left_is_said_only_of_a_local_run_with_an_empty_ledger(
    make, fmt, engine, keep_egress, present
) -> None:
    report = make(engine=engine) if keep_egress else make(engine=engine, egress=())
    assert ("无：本次没有代码离开本机" in render(report, fmt)) is present


@pytest.mark.parametrize("width", [20, 40, 80, 120])
@pytest.mark.parametrize("lang", ["zh-CN", "en"])
def test_no_line_is_wider_than_asked_nor_a_runner_command(make, lang: str, width: int) -> None:
    # A line that had to be disarmed after wrapping is three cells longer.
    for line in render(make(lang=lang), "terminal", width=width).splitlines():
        assert cell_len(line) <= width + 3 * ("\\x3a" in line)
        assert not line.strip().startswith("::")
        assert line == line.rstrip()
        assert not [char for char in line if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


@pytest.mark.parametrize("before", range(70, 81))
def test_wrapping_makes_no_runner_command(make, before: int) -> None:
    text = render(make(summary="x" * before + "::set-output name=a::b"), "terminal")
    assert not re.search(r"(?m)^\s*::set-output", text)
    assert "set-output" in text


def test_colour_changes_nothing_but_colour(make) -> None:
    plain, coloured = render(make(), "terminal"), render(make(), "terminal", color=True)
    assert "\x1b[1;31m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


@pytest.mark.parametrize("name", ["NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM"])
def test_the_environment_changes_nothing(make, monkeypatch, name: str) -> None:
    before = render(make(), "terminal", color=True)
    monkeypatch.setenv(name, "1")
    assert render(make(), "terminal", color=True) == before


def test_the_worst_come_first_and_failures_before_skips(make) -> None:
    text = render(make(), "terminal")
    order = [
        "1. 致命",
        "2. 严重",
        "3. 中等",
        "4. 提示",
        "没有审查完的文件",
        "未报告的问题",
        "按规则跳过",
        "用量",
        "出网清单",
    ]
    assert sorted(order, key=text.index) == order
    assert "   > 12 |" in text
    assert "     11 |" in text


@pytest.mark.parametrize(
    ("text", "width", "rows"),
    [
        ("一二三四", 4, ["一二", "三四"]),
        ("一二，三", 5, ["一", "二，", "三"]),
        ("一（二三", 4, ["一", "（二", "三"]),
        ("ab cd ef", 5, ["ab cd", "ef"]),
        ("请看 src/a.py 处", 12, ["请看", "src/a.py 处"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("a\n\nb", 9, ["a", "", "b"]),
        ("", 9, [""]),
        ("    a b", 6, ["    a", "b"]),
    ],
)
def test_wrap(text: str, width: int, rows: list[str]) -> None:
    assert wrap(text, width) == rows


@given(st.text(st.sampled_from("ab .,，。（）一二\n“”:")), st.integers(6, 20))
def test_wrap_loses_nothing_but_spaces(text: str, width: int) -> None:
    rows = wrap(text, width)
    assert "".join("".join(rows).split()) == "".join(text.split())
    assert all(cell_len(row) <= width for row in rows)
