"""Errors of SQLite at every k-th statement, row fetched and commit of a scripted session with the store."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from bench import Tally

from review_agent.agent.errors import StoreError
from review_agent.checkpoints.store import Store

MOST = 2000  # no session has so many statements


def _sqlite(kind: type[sqlite3.Error], text: str, code: int) -> Callable[[], Exception]:
    def make() -> Exception:
        error = kind(text)
        error.sqlite_errorcode = code
        return error

    return make


ERRORS: dict[str, Callable[[], Exception]] = {
    "io": _sqlite(sqlite3.OperationalError, "disk I/O error", sqlite3.SQLITE_IOERR),
    "full": _sqlite(sqlite3.OperationalError, "database or disk is full", sqlite3.SQLITE_FULL),
    "busy": _sqlite(sqlite3.OperationalError, "database is locked", sqlite3.SQLITE_BUSY),
    "readonly": _sqlite(
        sqlite3.OperationalError, "attempt to write a readonly database", sqlite3.SQLITE_READONLY
    ),
    "malformed": _sqlite(sqlite3.DatabaseError, "database disk image is malformed", sqlite3.SQLITE_CORRUPT),
    "os": lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
}


@dataclass
class Failing:
    """Makes connections whose `at`-th step fails: that one, or that one and all after it. 0 = never.

    With `done` the step is carried out, and only then reported as failed.
    """

    error: Callable[[], Exception]
    at: int
    lasting: bool
    done: bool = False
    steps: int = 0
    raised: int = 0

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        return _Connection(sqlite3.connect(*args, **kwargs), self)

    def step(self, work: Callable[[], Any]) -> Any:
        self.steps += 1
        if self.at and (self.steps == self.at or (self.lasting and self.steps > self.at)):
            self.raised += 1
            if self.done:
                work()
            raise self.error()
        return work()


class _Connection:
    def __init__(self, real: sqlite3.Connection, failing: Failing) -> None:
        self.__dict__.update(real=real, failing=failing)

    def execute(self, *args: Any) -> _Cursor:
        return _Cursor(self.failing.step(lambda: self.real.execute(*args)), self.failing)

    def executemany(self, *args: Any) -> _Cursor:
        return _Cursor(self.failing.step(lambda: self.real.executemany(*args)), self.failing)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.real, name, value)


@dataclass
class _Cursor:
    real: sqlite3.Cursor
    failing: Failing

    @property
    def rowcount(self) -> int:
        return self.real.rowcount

    def __iter__(self) -> Any:
        return iter(self.fetchall())

    def fetchall(self) -> Any:
        return self.failing.step(self.real.fetchall)

    def fetchone(self) -> Any:
        return self.failing.step(self.real.fetchone)


@dataclass
class Acknowledged:
    """What the store has said it holds."""

    units: dict[str, str] = field(default_factory=dict)
    egress: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    verdicts: dict[str, str] = field(default_factory=dict)
    state: tuple[int, str] | None = None
    tried: tuple[int, str] | None = None  # reported as failed, a snapshot may be there all the same
    report: str = ""
    begun: bool = False

    def missing(self, store: Store) -> Iterator[str]:
        units = store.analyses(sorted(self.units))
        yield from (f"unit {key}" for key, payload in self.units.items() if units.get(key) != payload)
        for name, noted, (rows, intact) in (
            ("egress", self.egress, store.egress("run")),
            ("calls", self.calls, store.calls("run")),
        ):
            # A row that was reported as failed may be there too: a ledger says rather too much.
            left = iter(rows)
            if not all(row in left for row in noted) or not intact:
                yield f"{name} {rows} {intact}"
        judged = store.judged("work")
        yield from (f"judgement {key}" for key, text in self.verdicts.items() if judged.get(key) != text)
        if self.state is not None and store.state("work") not in (self.state, self.tried):
            yield f"state {store.state('work')}"
        if self.begun and [row.run_id for row in store.runs() if row.intact] != ["run"]:
            yield "the run"
        if self.report and store.run("run").report != self.report:
            yield "the report"


def session(store: Store, seen: Acknowledged) -> Iterator[None]:
    """Every method that a review uses, in its order; a step of the generator is one call."""
    seen.report = ""  # a run that goes on has none until it ends
    store.start_run("run", "/repo", "tree", "{}", "target")
    seen.begun = True
    yield
    keys = [f"key{at}" for at in range(6)]
    store.analyses(keys)
    yield
    for at in range(0, 6, 2):
        mine = store.claim("run", keys[at : at + 2]).mine
        yield
        row = f'{{"row": {at}}}'
        store.note_egress("run", [row])
        seen.egress.append(row)
        yield
        for key in sorted(mine):
            payload = f"payload of {key} " * 90
            store.finish_unit("run", key, f"{key}.py", payload)
            seen.units[key] = payload
            yield
        row = f'{{"call": {at}}}'
        store.note_call("run", row)
        seen.calls.append(row)
        yield
        _judge(store, seen, f"key{at}", at)
        yield
        seen.tried = (at, f"state at {at}")
        store.save_state("work", "run", *seen.tried)
        seen.state = seen.tried
        yield
    store.release("run", keys)
    yield
    store.used(keys)
    yield
    store.memorise({"memo": "text"})
    yield
    store.finish_run("run", "finished", "report")
    seen.report = "report"
    yield
    store.egress("run")
    store.calls("run")
    store.judged("work")
    store.state("work")
    store.memos(["memo"])
    store.units_of("run")
    store.unfinished("/repo", "target")
    yield
    store.prune(1.0)  # nothing is that old
    yield
    store.check()


def _judge(store: Store, seen: Acknowledged, key: str, turn: int) -> None:
    """Another judgement each time, of which the first stays: one that was reported as failed, too, if it was made."""
    judgement = f"judgement {next(_JUDGEMENTS)} of {key}"
    if store.judge("work", key, "run", turn, judgement):
        seen.verdicts[key] = judgement
    else:
        seen.verdicts.setdefault(key, store.judged("work")[key])


_JUDGEMENTS = count(1)


def broken_session(path: Path, failing: Failing, *, on: bool) -> tuple[Acknowledged, list[str]]:
    """A session against a failing connection; with `on` once more after an error, with the same open store.

    Returns what was acknowledged, and problems: whatever came out that is no StoreError.
    """
    seen = Acknowledged()
    problems: list[str] = []
    store: Store | None = None
    for last in (False, True) if on else (True,):
        errors = failing.raised
        try:
            store = store or Store(path, connect=failing.connect)
            for _ in session(store, seen):
                pass
        except StoreError as exc:
            if "None" in str(exc.fields.values()):
                problems.append(f"a message about nothing: {exc.fields}")
            if failing.raised == errors:
                problems.append(f"an error after the error: {exc.fields}")
        except Exception as exc:  # noqa: BLE001 - this is what must not happen
            problems.append(f"{type(exc).__name__}: {exc}")
        if store is not None and last:
            store.close()
    return seen, problems


def every_step(folder: Path, errors: tuple[str, ...] = tuple(ERRORS), stride: int = 1) -> Tally:
    """Fail at each step, once and lastingly, before and after it was carried out; then look with a sound disk."""
    tally = Tally()
    for name in errors:
        for lasting, done in ((False, False), (True, False), (False, True)):
            if name == "malformed" and lasting:
                continue  # that is what damage looks like, see damage.py
            for at in range(1 + stride // 2, MOST, stride):
                path = folder / f"{name}-{lasting}-{done}-{at}" / "store"
                failing = Failing(ERRORS[name], at, lasting, done)
                seen, problems = broken_session(path, failing, on=not lasting)
                problems += _afterwards(path, seen)
                tally.cases += 1
                tally.seen["acknowledged"] += len(seen.units)
                tally.problems += [f"{name} {lasting=} {done=} at {at}: {problem}" for problem in problems]
                shutil.rmtree(path.parent)
                if not failing.raised:
                    break
            else:
                tally.problems.append(f"{name}: the session has no end")
    return tally


def _afterwards(path: Path, seen: Acknowledged) -> Iterator[str]:
    with Store(path) as store:
        yield from store.check().problems
        if store.set_aside or list(path.parent.glob("*.corrupt*")):
            yield "a sound file was set aside"
        yield from (f"lost {what}" for what in seen.missing(store))
        again = Acknowledged(units=dict(seen.units), verdicts=dict(seen.verdicts))
        for _ in session(store, again):
            pass
        again.egress, again.calls = [], []
        yield from (f"not done again: {what}" for what in again.missing(store))
