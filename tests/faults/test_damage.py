"""Damaged and foreign stores: no wrong reuse, no crash."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import damage
from bench import Bench, side_by_side

Whole = tuple[list[str], float]


def test_flipped_bytes(tmp_path: Path) -> None:
    found = damage.flips(tmp_path, 200)
    assert found.problems == []
    assert (found.seen["header bytes"], found.seen["random bytes"]) == (100, 200)
    assert found.seen["set aside"] > 20
    assert found.seen["found again"] > 30_000  # most of what is sound is still of use


def test_a_changed_value_in_each_table(tmp_path: Path) -> None:
    found = damage.rows(tmp_path)
    assert found.problems == []
    assert found.cases == 3 * sum(map(len, damage.ROWS.values()))


def test_the_command_line_with_damaged_and_foreign_stores(benches: list[Bench], unbroken: Whole) -> None:
    for bench in benches:
        bench.server.configure(latency=0.0)
    broken = benches[0].new_home("damaged")
    found = side_by_side(
        [partial(damage.commands, broken, unbroken[0][0], 2), partial(damage.carried, benches[1])]
    )
    for bench in benches:
        bench.server.configure(latency=0.04)
    assert found.problems == []
    assert found.cases == 2 + 7
