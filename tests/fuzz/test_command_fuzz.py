"""5,000 mutants of the corpus; `python tests/fuzz/command_fuzz.py` tries ten times as many."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from command_fuzz import corpus, fuzz, make_place, run

# They would end the driver with everything else in its sandbox, or go on for ever.
UNFIT = ("kill ", ":(){", "tail -f", "cat /dev/zero")


@pytest.fixture(autouse=True)
def _bubblewrap() -> None:
    probe = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
    try:
        works = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        works = False
    if not works and os.environ.get("CI") != "true":
        pytest.skip("bubblewrap does not work here")
    assert works, "bubblewrap does not work here"


def test_nothing_accepted_does_harm() -> None:
    outcome = fuzz(5000)
    print(outcome.table())
    assert outcome.escapes == []
    assert outcome.slow == []
    assert outcome.ran == outcome.accepted > 500


def test_the_oracle_sees_attacks(tmp_path: Path) -> None:
    """What the gate refuses, bash does: so a gate that let it through would be caught."""
    for kind in ("bash", "ours"):
        make_place(tmp_path / kind, hostile=kind == "ours")
    attacks = [attack for attack in corpus("deny", "commands.jsonl") if not attack.startswith(UNFIT)]
    rows = run(attacks, tmp_path)
    assert len(rows) == len(attacks)
    assert [row["cmd"] for row in rows if row["ours"]] == []
    assert sum(bool(row["bash"]) for row in rows) > len(attacks) / 2
