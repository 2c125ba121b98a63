"""How long a hook may take, and what of a report it shows."""

from __future__ import annotations

import pytest
from findings_of import finding, reported

from review_agent.agent.commands.hook_run import MAX_SECONDS, PrePush
from review_agent.agent.config import load
from review_agent.agent.hook_text import MOST_FINDINGS, findings_of, result_of
from review_agent.agent.models import Coverage, EngineInfo, Outcome, Report, Usage, Verdict, VerdictWord


@pytest.mark.parametrize(
    ("environ", "flags", "seconds"),
    [
        ({}, {}, MAX_SECONDS),
        ({"REVIEW_AGENT_MAX_SECONDS": "7"}, {}, 7),
        ({"REVIEW_AGENT_MAX_SECONDS": "0"}, {}, 0),
        ({"REVIEW_AGENT_MAX_SECONDS": "7"}, {"max_seconds": "500"}, 500),
    ],
)
def test_seconds(environ: dict[str, str], flags: dict[str, object], seconds: int) -> None:
    loaded = load(flags=flags, environ=environ, user_file=None, repo_text=None, repo_name="")
    assert PrePush("origin", flags, environ, loaded).seconds == seconds


def report(*verdicts: Verdict, word: VerdictWord = VerdictWord.ISSUES, reason: str = "") -> Report:
    info = EngineInfo("local", "ollama", "m", "")
    coverage = Coverage(files_selected=4, files_reviewed=2, files_skipped=1, files_failed=1)
    usage = Usage(seconds=61.4)
    return Report("r", "range", "zh-CN", info, word, reason, coverage, "", tuple(verdicts), (), usage)


def test_the_worst_twenty_are_shown_and_the_others_counted() -> None:
    verdicts = reported(*(finding(line=number) for number in range(1, MOST_FINDINGS + 4)))
    rows, more = findings_of(report(*verdicts, Verdict(finding(), Outcome.REFUTED)))
    assert len(rows) == MOST_FINDINGS
    assert rows[0] == {"severity": "严重", "place": "a.py:1", "title": "title"}
    assert more == 3


def test_what_a_finding_says_stays_on_its_line() -> None:
    rows, _ = findings_of(report(*reported(finding(path="a\x1b[2J\n.py", line=0, title="x\n错误" * 99))))
    text = "".join(str(value) for value in rows[0].values())
    assert not {"\x1b", "\n"} & set(text)
    assert len(str(rows[0]["title"])) == 120


@pytest.mark.parametrize(
    ("reason", "verdict"), [("", "未完成"), ("limit_max_seconds", "未完成（达到时间上限）")]
)
def test_the_result(reason: str, verdict: str) -> None:
    result = result_of(report(word=VerdictWord.INCOMPLETE, reason=reason))
    assert result.pop("verdict") == verdict
    assert result == {"reviewed": 2, "failed": 1, "skipped": 1, "seconds": "1 分 01 秒"}
