"""kill -9: the store opens, what was shown is there, the report is the same, nothing is asked twice."""

from __future__ import annotations

from functools import partial

import kills
from bench import ELSEWHERE, Bench, side_by_side

from review_agent.checkpoints.faultpoint import POINTS

HERE = tuple(point for point in POINTS if point not in ELSEWHERE)  # see test_egress.py, test_judging.py
Whole = tuple[list[str], float]


def test_a_kill_at_every_fault_point(benches: list[Bench], unbroken: Whole) -> None:
    found = side_by_side(
        [
            partial(kills.at_points, bench, report, HERE[number::2], 7)
            for number, (bench, report) in enumerate(zip(benches, unbroken[0], strict=True))
        ]
    )
    assert found.problems == []
    assert found.cases == len(HERE)


def test_kills_at_random_moments(benches: list[Bench], unbroken: Whole) -> None:
    found = side_by_side(
        [
            partial(kills.at_random, bench, report, 12, unbroken[1], number)
            for number, (bench, report) in enumerate(zip(benches, unbroken[0], strict=True))
        ]
    )
    assert found.problems == []
    assert found.seen["kills"] >= 24
