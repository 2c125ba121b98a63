from __future__ import annotations

from pathlib import Path

import pytest
from findings_of import finding, reported

from review_agent.agent.errors import UsageError
from review_agent.agent.models import Coverage, EngineInfo, Finding, Report, Severity, Usage, VerdictWord
from review_agent.agent.runner import (
    MAX_SUMMARY,
    MOST,
    add_summary,
    as_annotations,
    as_command,
    is_runner,
    write_outputs,
)


def report(*findings: Finding) -> Report:
    return Report(
        "r", "range", "en", EngineInfo("local", "", "", ""), VerdictWord.ISSUES, "", Coverage(), "",
        tuple(reported(*findings)), (), Usage(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("severity", "level"),
    list(zip(Severity, ["error", "error", "warning", "notice", "notice"], strict=True)),
)
def test_levels(severity: Severity, level: str) -> None:
    ((line,), more) = as_annotations(report(finding(severity=severity)))
    assert line == f"::{level} title=title,file=a.py,line=1,endLine=1::title%0Amessage of title"
    assert more == 0


def test_ten_of_each_and_the_worst_first() -> None:
    many = [finding(line=n, severity=severity) for severity in Severity for n in range(1, 9)]
    lines, more = as_annotations(report(*many))
    kinds = [line.split(" ")[0] for line in lines]
    assert kinds == ["::error"] * MOST + ["::warning"] * 8 + ["::notice"] * MOST
    assert more == len(many) - len(lines)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"path": "", "line": 0}, "::error title=t::t%0Am"),
        ({"path": "a.py", "line": 0}, "::error title=t,file=a.py::t%0Am"),
        ({"path": "a,b:c%\n.py"}, "::error title=t,file=a%2Cb%3Ac%25\\x0a.py,line=1,endLine=1::t%0Am"),
        ({"title": "a,b::c"}, "::error title=a%2Cb%3A%3Ac,file=a.py,line=1,endLine=1::a,b::c%0Am"),
        (
            {"message": "m\n::set-output name=x::y\r\n\x1b[2J"},
            "::error title=t,file=a.py,line=1,endLine=1::t%0Am%0A\\x3a:set-output name=x::y\\x0d%0A\\x1b[2J",
        ),
        ({"suggestion": "s"}, "::error title=t,file=a.py,line=1,endLine=1::t%0Am%0As"),
    ],
)
def test_text_cannot_leave_its_command(changes: dict[str, object], line: str) -> None:
    given = {"title": "t", "message": "m", **changes}
    found = finding(str(given.pop("path", "a.py")), int(str(given.pop("line", 1))), **given)
    assert as_annotations(report(found))[0] == [line]


def test_outputs_are_lines_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "output"
    file.write_text("before=1\n")
    rows = [("a", 1), ("b", "3/4"), ("c", "x\ny=2"), ("d", "汉字"), ("E", "x"), ("f\n", "x"), ("g", "")]
    write_outputs({"GITHUB_OUTPUT": str(file)}, rows)
    assert file.read_text() == "before=1\na=1\nb=3/4\ng=\n"


def test_no_runner_no_files(tmp_path: Path) -> None:
    write_outputs({}, [("a", 1)])
    assert not add_summary({}, "x", "cut")
    assert not is_runner({"GITHUB_ACTIONS": "1"})
    with pytest.raises(UsageError):
        write_outputs({"GITHUB_OUTPUT": str(tmp_path)}, [("a", 1)])


def test_a_summary_is_cut_between_characters(tmp_path: Path) -> None:
    file = tmp_path / "step"
    assert add_summary({"GITHUB_STEP_SUMMARY": str(file)}, "汉" * MAX_SUMMARY, "cut")
    data = file.read_bytes()
    assert len(data) <= MAX_SUMMARY + 1
    head, rest = data[:9].decode(), data[9:].decode()
    assert head == "**cut**\n\n"
    assert set(rest) == {"汉", "\n"}


def test_a_sentence_of_ours_is_one_command() -> None:
    assert as_command("notice", "50 %\r\n::error::x") == "::notice title=review-agent::50 %25%0D%0A::error::x"
