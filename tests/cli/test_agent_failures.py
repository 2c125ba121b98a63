"""Every way in which the agent's endpoint can fail, in the middle of a review by the installed command.

Each ends the run soon, after few requests, with exit code 4 and a reason that says what to do; what the pipeline found and what
was judged is in the report; and `resume` finishes with the endpoint well again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pytest
from failing import REFUSED, ROWS, SUMMARY, Tried, make_place
from hybrid import two_at_a_time
from scripted_claude import FAULTS

# One of each kind; `tests/faults/all_faults.py failures` goes on after every one.
GOES_ON = ("hang", "400", "429", "cut", "empty", "max_tokens", REFUSED)


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Tried]]:
    with make_place(tmp_path_factory.mktemp("failing")) as place:
        yield two_at_a_time({kind: partial(place.attempt, kind, go_on=kind in GOES_ON) for kind in ROWS})


def test_no_failure_is_left_out() -> None:
    assert set(ROWS) == {*FAULTS, REFUSED}


@pytest.mark.parametrize("kind", ROWS)
def test_a_failure_ends_the_run_soon_with_a_reason(kind: str, tried: dict[str, Tried]) -> None:
    row, failed = ROWS[kind], tried[kind].failed
    assert (failed.code, failed.report["verdict"]) == (4, "incomplete"), failed.said
    assert failed.report["verdict_reason"] == row.reason
    assert failed.seconds < row.seconds
    before = 0 if kind == REFUSED else 2
    assert len(tried[kind].first) == before + row.asked
    assert tried[kind].left == []
    reason = failed.notes["agent_stopped"]["reason"]
    assert re.search(row.words, reason)
    last = failed.said.strip().splitlines()[-2:]
    assert reason in last[0]
    assert failed.resume == failed.report["run_id"]
    for text in (failed.shown, failed.markdown):
        assert "智能体没有做完复核" in text


@pytest.mark.parametrize("kind", ROWS)
def test_what_was_known_is_reported(kind: str, tried: dict[str, Tried]) -> None:
    failed = tried[kind].failed
    coverage = failed.report["coverage"]
    assert (coverage["files_reviewed"], coverage["files_failed"]) == (3, 0)
    reasons = [one["reason"].partition("：")[0] for one in failed.findings]
    judged = [] if kind == REFUSED else ["复核确认属实"] * 2
    assert (sorted(reasons), {one["outcome"] for one in failed.findings}) == (
        sorted(["", "", "", *judged][-3:]),
        {"reported"},
    )


@pytest.mark.parametrize("kind", GOES_ON)
def test_the_run_goes_on_where_it_was(kind: str, tried: dict[str, Tried]) -> None:
    failed, resumed = tried[kind].failed, tried[kind].resumed
    assert resumed is not None
    assert (resumed.code, resumed.report["verdict"]) == (0, "issues"), resumed.said
    assert resumed.report["run_id"] == failed.report["run_id"]
    assert resumed.report["summary"] == SUMMARY
    assert [one["reason"] for one in resumed.findings] == ["复核确认属实：脚本：属实。"] * 3
    assert len(tried[kind].judged) == len(set(tried[kind].judged)) == 3
    assert "agent_stopped" not in resumed.notes
    assert tried[kind].local[1] == 2  # the agent's own two questions, and no unit again
