"""Fixtures: two benches that may be used side by side, and the report of a run that nothing broke."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench import Bench, make_bench


@pytest.fixture(scope="session")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Bench]]:
    made: list[Bench] = []
    try:
        for number in range(2):
            made.append(make_bench(tmp_path_factory.mktemp(f"bench{number}")))
        yield made
    finally:
        for bench in made:
            bench.server.stop()


@pytest.fixture(scope="session")
def unbroken(benches: list[Bench]) -> tuple[list[str], float]:
    """The report for each bench (their trees lie in different places), and the seconds of a run."""
    whole = [bench.unbroken() for bench in benches]
    return [report for report, _ in whole], whole[0][1]
