"""Torn logs: the write-ahead log, or the rollback journal, cut or zeroed at every 512 bytes after each commit."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import Tally

from review_agent.agent.errors import StoreError
from review_agent.checkpoints.store import Store

STEP = 512
COMMITS = 12
TEAR: dict[str, Callable[[bytes, int], bytes]] = {
    "cut": lambda data, at: data[:at],
    "zeroed": lambda data, at: data[:at] + bytes(len(data) - at),
}


def payload(at: int) -> str:
    return f"analysis {at} " * (40 + 60 * at)


def _write(store: Store, at: int) -> None:
    """One commit; in turn one of each kind."""
    kind = at % 4
    if kind == 0:
        store.finish_unit("run", f"key{at}", f"{at}.py", payload(at))
    elif kind == 1:
        store.judge("work", f"key{at}", "run", at, payload(at))
    elif kind == 2:
        store.note_call("run", payload(at))
    else:
        store.save_state(f"work{at}", "run", at, payload(at))


def _written(store: Store, tally: Tally, what: str) -> dict[int, str]:
    """What is there of the commits, by their numbers."""
    keys = [f"key{at}" for at in range(COMMITS)]
    found = {int(key[3:]): text for key, text in {**store.analyses(keys), **store.judged("work")}.items()}
    rows, intact = store.calls("run")
    tally.expect(intact, f"{what}: the ledger is not whole")
    found.update({2 + 4 * at: text for at, text in enumerate(rows)})
    states = {at: store.state(f"work{at}") for at in range(3, COMMITS, 4)}
    found.update({at: state[1] for at, state in states.items() if state is not None and state[0] == at})
    return found


def torn_wal(folder: Path, step: int = STEP) -> Tally:
    """Database and log as they are after each commit; from a torn log a prefix of the commits comes back."""
    tally = Tally()
    path = folder / "live" / "store.sqlite3"
    with Store(path) as store:
        store.start_run("run", "/repo", "tree", "{}")
        for at in range(COMMITS):
            _write(store, at)
            base, log = path.read_bytes(), path.with_name("store.sqlite3-wal").read_bytes()
            for name, tear in TEAR.items():
                most = -1
                for cut in range(0, len(log) + 1, step):
                    files = {"": base, "-wal": tear(log, cut)}
                    units = _opened(folder, path.parent, files, tally, f"{name} at {cut} after {at}")
                    tally.expect(units >= most, f"{name} at {cut} after {at}: fewer commits in a longer log")
                    most = max(most, units)
                whole = _opened(folder, path.parent, {"": base, "-wal": log}, tally, "whole")
                tally.expect(whole == at + 1, f"{whole} of {at + 1} commits in the whole log")
    return tally


def torn_journal(folder: Path, step: int = STEP) -> Tally:
    """A process dies in the middle of a commit: the file is half new, the journal torn.

    What SQLite has synced of the journal before it touches the file is never torn; so the file is as it was
    where the journal is not whole, and a mixture where it is.
    """
    tally = Tally()
    path = folder / "live" / "store.sqlite3"
    seen: list[tuple[bytes, bytes]] = []

    def connect(*args: Any, **kwargs: Any) -> Any:
        return _Rollback(sqlite3.connect(*args, **kwargs), path, seen)

    with Store(path, connect=connect) as store:
        store.start_run("run", "/repo", "tree", "{}")
        for at in range(COMMITS):
            before = path.read_bytes()
            seen.clear()
            _write(store, at)
            after = path.read_bytes()
            tally.expect(bool(seen), "no journal was seen")
            for journal in [journal for _, journal in seen]:
                for name, tear in TEAR.items():
                    for cut in range(0, len(journal) + 1, step):
                        files = {"": before, "-journal": tear(journal, cut)}
                        units = _opened(folder, path.parent, files, tally, f"{name} at {cut} before {at}")
                        tally.expect(units == at, f"{name} at {cut}: {units} commits, not {at}")
                half = before[: len(before) // 2] + after[len(before) // 2 : len(before)]
                units = _opened(folder, path.parent, {"": half, "-journal": journal}, tally, f"half of {at}")
                tally.expect(units == at, f"half written with its journal: {units} commits, not {at}")
    return tally


class _Rollback:
    """A connection in TRUNCATE mode that keeps the journal as it is just before a commit."""

    def __init__(self, real: sqlite3.Connection, path: Path, seen: list[tuple[bytes, bytes]]) -> None:
        self.__dict__.update(real=real, path=path, seen=seen)

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self.real.execute("PRAGMA cache_spill=0")
            self.seen.append((self.path.read_bytes(), synced(self.path)))
        done: sqlite3.Cursor = self.real.execute(sql.replace("mode=WAL", "mode=TRUNCATE"), *args)
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.real, name, value)


def synced(path: Path) -> bytes:
    """The journal with the count of its pages filled in, as the sync before a commit does."""
    journal = bytearray(path.with_name(f"{path.name}-journal").read_bytes())
    sector, page = (int.from_bytes(journal[at : at + 4], "big") for at in (20, 24))
    if len(journal) > sector:
        journal[:8] = bytes.fromhex("d9d505f920a163d7")
        journal[8:12] = ((len(journal) - sector) // (page + 8)).to_bytes(4, "big")
    return bytes(journal)


def _opened(folder: Path, home: Path, files: dict[str, bytes], tally: Tally, what: str) -> int:
    """How many commits a store shows that is made of these files; it must be a prefix."""
    tally.cases += 1
    place = folder / "torn"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for suffix, data in files.items():
        (place / f"store.sqlite3{suffix}").write_bytes(data)
    try:
        with Store(place / "store.sqlite3", home=home) as store:
            tally.expect(store.set_aside is None, f"{what}: set aside")
            checked = store.check()
            tally.expect(not checked.problems and not checked.unsealed, f"{what}: {checked}")
            known = _written(store, tally, what)
    except StoreError as exc:
        tally.problems.append(f"{what}: {exc}")
        return -1
    prefix = {at: payload(at) for at in range(len(known))}
    tally.expect(known == prefix, f"{what}: no prefix of the commits: {sorted(known)}")
    return len(known)
