"""Judgements, snapshots and calls of tools outlive kill -9 and a full disk; no judgement is made twice."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from bench import ELSEWHERE

from review_agent.agent.errors import StoreError
from review_agent.checkpoints.store import Store

KEYS = [f"key{at}" for at in range(12)]
AGENT = """
import sys
from pathlib import Path
from review_agent.checkpoints.store import Store
keys = [f"key{at}" for at in range(12)]
with Store(Path(sys.argv[1])) as store:
    store.start_run("run", "/repo", "tree", "{}", "target")
    known = store.judged("work")
    for turn, key in enumerate(keys):
        if key in known:
            continue
        print("asked", key, flush=True)
        store.note_egress("run", [key])
        store.note_call("run", key)
        if store.judge("work", key, "run", turn, f"{key} by {sys.argv[2]}"):
            print("judged", key, flush=True)
        store.save_state("work", "run", turn, key)
"""


def agent(path: Path, name: str, fault: str) -> tuple[int, list[str], list[str]]:
    """A process that judges what is not judged yet: exit code, what it asked about, what was acknowledged."""
    done = subprocess.run(
        [sys.executable, "-c", AGENT, str(path), name],
        env={**os.environ, "REVIEW_AGENT_FAULT": fault},
        capture_output=True,
        cwd="/",
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    said = [line.split() for line in done.stdout.decode().splitlines()]
    asked, judged = ([key for word, key in said if word == wanted] for wanted in ("asked", "judged"))
    return done.returncode, asked, judged


@pytest.mark.parametrize("point", ELSEWHERE)
@pytest.mark.parametrize("visit", [1, 5])
def test_what_was_judged_before_a_kill_stays(tmp_path: Path, point: str, visit: int) -> None:
    path = tmp_path / "store"
    code, asked, judged = agent(path, "first", f"kill:{point}:{visit}")
    assert (code, len(asked)) == (-9, visit)
    with Store(path) as store:
        kept = store.judged("work")
        assert set(judged) <= kept.keys() <= set(asked)
        assert (store.egress("run"), store.calls("run")[1]) == ((asked, True), True)
        assert store.calls("run")[0] in (asked, asked[:-1])
        assert store.check().sound
    code, again, _ = agent(path, "second", "")
    assert (code, again) == (0, [key for key in KEYS if key not in kept])
    with Store(path) as store:
        assert store.judged("work") == {key: kept.get(key, f"{key} by second") for key in KEYS}
        assert (store.state("work"), store.egress("run"), store.calls("run")[1]) == (
            (11, KEYS[-1]),
            ([*asked, *again], True),
            True,
        )


@dataclass
class Kept:
    """What the store has acknowledged."""

    judged: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    state: tuple[int, str] | None = None

    def fill(self, store: Store) -> None:
        """Until there is no room."""
        for turn in range(1000):
            text = f"{turn} " * 300
            store.note_call("run", text)
            self.calls.append(text)
            assert store.judge("work", f"key{turn}", "run", turn, text)
            self.judged[f"key{turn}"] = text
            store.save_state("work", "run", turn, text)
            self.state = (turn, text)

    def is_in(self, store: Store) -> bool:
        found = Kept(store.judged("work"), store.calls("run")[0], store.state("work"))
        return found == self and store.calls("run")[1]


@pytest.mark.parametrize("pages", [40, 60, 100])
def test_a_full_disk_takes_nothing_that_was_acknowledged(tmp_path: Path, pages: int) -> None:
    """The file may not grow beyond some pages: SQLite's own error of a full disk, at any write."""

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        db = sqlite3.connect(*args, **options)
        db.execute(f"PRAGMA max_page_count={pages}")
        return db

    path, kept = tmp_path / "store", Kept()
    with Store(path, connect=connect) as store:
        store.start_run("run", "/repo", "tree", "{}")
        with pytest.raises(StoreError, match="store_full"):
            kept.fill(store)
        assert len(kept.calls) > 3
        assert kept.is_in(store)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA page_count").fetchone()[0] <= pages
    with Store(path) as store:  # with room again
        assert kept.is_in(store)
        assert store.judge("work", "last", "run", 1, "text")
        store.note_call("run", "last")
        assert (store.judged("work")["last"], store.calls("run")) == ("text", ([*kept.calls, "last"], True))
        assert store.check().sound
