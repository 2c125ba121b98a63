"""kill -9 of a review with an agent: the same in the end, nothing judged twice, nothing asked again, nothing left running."""

from __future__ import annotations

from pathlib import Path

from agents import POINTS, agent_benches, at_points, at_random
from bench import ELSEWHERE


def test_the_points_are_those_that_the_other_suites_leave_out() -> None:
    assert sorted(POINTS) == sorted(ELSEWHERE)


def test_a_kill_where_the_agent_writes_and_at_random_moments(tmp_path: Path) -> None:
    with agent_benches(tmp_path) as (benches, unbroken, seconds):
        found = at_points(benches, unbroken, first=False)
        found.add(at_random(benches, unbroken, 4, seconds))
    assert found.problems == []
    assert found.seen["kills"] >= len(POINTS) + 4
    assert found.seen["killed with judgements"] >= 2
