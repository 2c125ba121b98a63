"""Errors of SQLite at every statement: only StoreError comes out, what was acknowledged is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import statements


@pytest.mark.parametrize(
    ("error", "stride"), [("io", 7), ("full", 11), ("busy", 11), ("malformed", 9), ("os", 11)]
)
def test_an_error_at_every_statement(tmp_path: Path, error: str, stride: int) -> None:
    found = statements.every_step(tmp_path, (error,), stride)
    assert found.problems == []
    assert found.cases * stride > 300  # about 200 steps, failing in two or three ways
    assert found.seen["acknowledged"] > found.cases
