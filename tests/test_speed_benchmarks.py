"""The benchmarks that need no data of others still run. Counts are compared, times are not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def table(*argv: str) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / argv[0]), *argv[1:]], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


def test_a_warm_run_sends_what_changed() -> None:
    rows = table("warm.py", "--runs", "1")
    assert {what: row[:2] for what, row in rows.items()} == {
        "what": ["requests", "units sent"],
        "first run": ["10", "30 of 30"],
        "second run": ["0", "0 of 30"],
        "same change, another branch": ["0", "0 of 30"],
        "one file renamed": ["0", "0 of 30"],
        "one file changed": ["1", "1 of 30"],
    }


def test_a_store_of_many_units_is_pruned(tmp_path: Path) -> None:
    rows = table("store.py", "--units", "2000", "--folder", str(tmp_path))
    assert len(rows) > 12
    assert " 0 units" not in rows["prune, 90 days"][0]
    before, after = rows["prune, all"][0].rpartition("; ")[2].split(" to ")
    assert float(before.split()[0]) > 0.5 > float(after.split()[0])
