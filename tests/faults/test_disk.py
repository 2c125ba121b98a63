"""A full disk: a clear message, the right exit code, nothing acknowledged lost, and it goes on with more room."""

from __future__ import annotations

import os
from functools import partial

import disk
import pytest
from bench import Bench, side_by_side

Whole = tuple[list[str], float]
KIB = 1024


def test_a_full_disk(benches: list[Bench], unbroken: Whole) -> None:
    if not disk.have_bwrap():
        assert os.environ.get("CI") != "true", "bubblewrap is missing or may not make namespaces"
        pytest.skip("bubblewrap is missing or may not make namespaces")
    found = side_by_side(
        [
            partial(disk.sizes, bench, report, {"tmpfs": [size * KIB for size in tmpfs]})
            for bench, report, tmpfs in zip(benches, unbroken[0], ([64, 320], [192]), strict=True)
        ]
    )
    assert found.problems == []
    assert (found.cases, found.seen["exit 0"]) == (3, 0)


def test_files_that_may_not_grow(benches: list[Bench], unbroken: Whole) -> None:
    found = side_by_side(
        [
            partial(disk.sizes, bench, report, {"limit": [size * KIB for size in limit]})
            for bench, report, limit in zip(benches, unbroken[0], ([64, 1024], [192]), strict=True)
        ]
    )
    assert found.problems == []
    assert (found.cases, found.seen["exit 0"]) == (3, 1)
