"""Signals, a server that dies, locks: the run ends as it should, and goes on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import stops
from bench import Bench, side_by_side

Whole = tuple[list[str], float]


def test_signals_and_locks(benches: list[Bench], unbroken: Whole) -> None:
    names = tuple(stops.SCENARIOS)
    found = side_by_side(
        [
            partial(stops.scenarios, bench, report, names[number::2])
            for number, (bench, report) in enumerate(zip(benches, unbroken[0], strict=True))
        ]
    )
    for bench in benches:
        bench.server.configure(latency=0.04)
    assert found.problems == []
    assert found.cases == len(names)


def test_a_server_that_dies(tmp_path: Path) -> None:
    found = side_by_side(
        [
            partial(stops.server_dies, tmp_path / "back", comes_back=True),
            partial(stops.server_dies, tmp_path / "away", comes_back=False),
        ]
    )
    assert found.problems == []
