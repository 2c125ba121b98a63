"""Torn logs: the store opens with a prefix of the commits."""

from __future__ import annotations

from pathlib import Path

import logs

STEP = 7 * logs.STEP  # falls into every part of a frame; `all_faults.py` does every 512 bytes


def test_a_torn_write_ahead_log(tmp_path: Path) -> None:
    found = logs.torn_wal(tmp_path, STEP)
    assert found.problems == []
    assert found.cases > 500


def test_a_torn_rollback_journal(tmp_path: Path) -> None:
    found = logs.torn_journal(tmp_path, STEP)
    assert found.problems == []
    assert found.cases > 80
