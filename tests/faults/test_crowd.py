"""Eight processes on one store: nothing lost, nothing done twice."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import crowd
from bench import Bench, side_by_side

Whole = tuple[list[str], float]


def test_eight_reviews_of_one_tree(benches: list[Bench], unbroken: Whole) -> None:
    found = side_by_side(
        [
            partial(crowd.reviews, bench.new_home(f"crowd-{kill}"), report, kill=kill)
            for bench, report, kill in zip(benches, unbroken[0], (False, True), strict=True)
        ]
    )
    assert found.problems == []
    assert found.seen["asked again"] == 0


def test_eight_processes_hammer_the_store(tmp_path: Path) -> None:
    found = crowd.hammering(tmp_path, 80, kill=True)
    assert found.problems == []
    assert found.seen["processes that worked"] > 2
