"""The run store: what was reviewed, by content, and the runs that did it. One transaction per finished unit.

An analysis is keyed by content, so that later runs, other branches and moved files find it again. Every row
that is believed carries a seal (see `seal`); one without is as good as absent.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from review_agent.agent.errors import StoreError
from review_agent.checkpoints import judgements, ledger
from review_agent.checkpoints.batches import marks, parts
from review_agent.checkpoints.database import VERSION, Connect, Database
from review_agent.checkpoints.faultpoint import faultpoint
from review_agent.checkpoints.inspection import examine
from review_agent.checkpoints.locks import RunLocks
from review_agent.checkpoints.pruning import forget
from review_agent.checkpoints.rows import Checked, Claimed, Pruned, RunRow
from review_agent.checkpoints.seal import Seals, load_seals

__all__ = ["VERSION", "Checked", "Claimed", "Pruned", "RunRow", "Store", "default_path"]

_ADOPT_SECONDS = 7 * 86400.0  # an older run is another one's business
_TOUCH_AFTER = 86400.0  # seconds; the time of last use is kept by the day
_RUN_COLUMNS = "run_id, created, updated, status, repository, label, target, request, report, seal"


class _Undone(Exception):
    """Ends a transaction that was only to count."""


class Store:
    """An open store. Close it, or use `with`. `home` is the user's state folder, where the seals' key is."""

    def __init__(
        self, path: Path, *, home: Path | None = None, cache_key: str = "", connect: Connect = sqlite3.connect
    ) -> None:
        self.path = path
        home = home if home is not None else path.parent
        # Called late, so that a place that cannot hold a store is what is complained of.
        self._load_seals: Callable[[], Seals] = partial(load_seals, home, cache_key)
        self._db = Database(path, connect, upgrade=self._believe if path.parent == home else None)
        try:
            self._seals: Seals = self._load_seals()
            self.locks = RunLocks(path.with_name("locks"))
        except BaseException:
            self._db.close()
            raise
        self._begun: dict[str, tuple[str, str, str, str]] = {}
        faultpoint("store_opened")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    @property
    def set_aside(self) -> Path | None:
        """The file that a damaged store was renamed to, when that happened."""
        return self._db.set_aside

    # --- runs ---

    def start_run(self, run_id: str, repository: str, label: str, request: str, target: str = "") -> None:
        """`target` is a digest of what is reviewed and how: equal for runs that would do the same."""
        self._begun[run_id] = (_plain(repository), _plain(label), target, request)
        with self._db.transaction() as db:
            ledger.begin(db, self._seals, run_id)
            self._insert_run(db, run_id)
        faultpoint("run_begun")

    def _insert_run(self, db: sqlite3.Connection, run_id: str) -> None:
        now = time.time()
        repository, label, target, request = self._begun[run_id]
        seal = self._run_seal(run_id, "running", repository, label, target, request, "")
        db.execute(
            "INSERT INTO runs (run_id, created, updated, status, repository, label, target, request, seal) "
            "VALUES (?, ?, ?, 'running', ?, ?, ?, ?, ?) ON CONFLICT (run_id) DO UPDATE SET "
            "updated=excluded.updated, status='running', repository=excluded.repository, "
            "label=excluded.label, target=excluded.target, request=excluded.request, report='', "
            "seal=excluded.seal",
            (run_id, now, now, repository, label, target, request, seal),
        )

    def _restore_run(self, db: sqlite3.Connection, run_id: str) -> None:
        """Where the store was set aside since the run began, or somebody took its row."""
        sql = "SELECT count(*) FROM runs WHERE run_id=?"
        if run_id in self._begun and not db.execute(sql, (run_id,)).fetchone()[0]:
            self._insert_run(db, run_id)

    def _run_seal(self, *values: str) -> str:
        return self._seals.mark("runs", *values)

    def finish_run(self, run_id: str, status: str, report: str) -> None:
        faultpoint("run_finish")
        with self._db.transaction() as db:
            self._restore_run(db, run_id)
            sql = f"SELECT {_RUN_COLUMNS} FROM runs WHERE run_id=?"  # noqa: S608
            for row in db.execute(sql, (run_id,)).fetchall():
                repository, label, target, request = (str(value) for value in row[4:8])
                seal = self._run_seal(run_id, status, repository, label, target, request, report)
                db.execute(
                    "UPDATE runs SET status=?, report=?, updated=?, seal=? WHERE run_id=?",
                    (status, report, time.time(), seal, run_id),
                )
            db.execute("DELETE FROM claims WHERE owner=?", (run_id,))
        faultpoint("run_finished")

    def runs(self, limit: int = 50, repository: str | None = None) -> list[RunRow]:
        """Newest first."""
        where = "WHERE repository=?" if repository is not None else ""
        values = [_plain(repository)] if repository is not None else []
        rows = self._db.read(
            f"SELECT {_RUN_COLUMNS} FROM runs {where} ORDER BY updated DESC, rowid DESC LIMIT ?",  # noqa: S608
            [*values, limit],
        )
        return [self._run_row(row) for row in rows]

    def unfinished(self, repository: str, target: str | None = None) -> list[RunRow]:
        """Runs of a repository that did not end, newest first.

        With `target` those that would do the same, that did not come to every file, and not long ago.

        Only rows that are as they were written: what a run asked for says where its report goes.
        """
        where = "repository=? AND status!='finished'"
        values: list[str | float] = [_plain(repository)]
        if target is not None:
            where = f"{where} AND target=? AND status!='partial' AND updated>?"
            values = [*values, target, time.time() - _ADOPT_SECONDS]
        rows = self._db.read(
            f"SELECT {_RUN_COLUMNS} FROM runs WHERE {where} ORDER BY updated DESC, rowid DESC LIMIT 20",  # noqa: S608
            values,
        )
        return [row for row in map(self._run_row, rows) if row.intact]

    def run(self, prefix: str, *, believed: bool = True) -> RunRow:
        """The run of this id or unique start of one. Raises StoreError("run_unknown" or "run_ambiguous"), and
        "run_unreadable" for a row that is not as it was written, unless it need not be believed.
        """
        rows = self._db.read(
            f"SELECT {_RUN_COLUMNS} FROM runs WHERE substr(run_id, 1, ?) = ? LIMIT 3",  # noqa: S608
            [len(_plain(prefix)), _plain(prefix)],
        )
        exact = [row for row in rows if row[0] == prefix]
        if len(exact or rows) != 1:
            raise StoreError("run_ambiguous" if rows else "run_unknown", run=prefix)
        row = self._run_row((exact or rows)[0])
        if believed and not row.intact:
            raise StoreError("run_unreadable", run=row.run_id)
        return row

    def _run_row(self, row: tuple[Any, ...]) -> RunRow:
        """A damaged row may hold anything, in any column."""
        created, updated = (value if isinstance(value, float) else 0.0 for value in row[1:3])
        run_id, status, *texts, seal = (str(value) for value in (row[0], *row[3:]))
        intact = self._seals.holds(seal, "runs", run_id, status, *texts)
        repository, label, target, request, report = texts
        return RunRow(run_id, created, updated, status, repository, label, target, request, report, intact)

    # --- analyses ---

    def finish_unit(self, run_id: str, key: str, path: str, payload: str) -> None:
        """Durable when this returns."""
        now = time.time()
        faultpoint("unit_begin")
        with self._db.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO analyses (key, created, used, payload, seal) VALUES (?, ?, ?, ?, ?)",
                (key, now, now, payload, self._seals.mark("analyses", key, payload)),
            )
            db.execute(
                "INSERT OR REPLACE INTO run_units VALUES (?, ?, ?, ?)", (run_id, key, _plain(path), now)
            )
            db.execute("DELETE FROM claims WHERE key=?", (key,))
            faultpoint("unit_written")
        faultpoint("unit_committed")

    def analyses(self, keys: Sequence[str], of_run: str = "") -> dict[str, str]:
        """Payloads of the keys that are stored; with `of_run`, only of units that this run finished."""
        found: dict[str, str] = {}
        for part in parts(keys):
            sql = f"SELECT key, payload, seal FROM analyses WHERE key IN ({marks(part)})"  # noqa: S608
            values = list(part)
            if of_run:
                sql += " AND key IN (SELECT key FROM run_units WHERE run_id = ?)"
                values.append(of_run)
            found.update(self._believed("analyses", self._db.read(sql, values)))
        return found

    def _believed(self, table: str, rows: Iterable[tuple[Any, ...]]) -> dict[str, str]:
        return {
            str(key): str(payload)
            for key, payload, seal in rows
            if self._seals.holds(str(seal), table, str(key), str(payload))
        }

    def used(self, keys: Sequence[str]) -> None:
        """Note that these are still of use, so that `prune` keeps them."""
        now = time.time()
        with self._db.transaction() as db:
            for part in parts(keys):
                db.execute(
                    f"UPDATE analyses SET used=? WHERE used<? AND key IN ({marks(part)})",  # noqa: S608
                    (now, now - _TOUCH_AFTER, *part),
                )

    def units_of(self, run_id: str) -> int:
        rows = self._db.read("SELECT count(*) FROM run_units WHERE run_id=?", [run_id])
        return int(rows[0][0]) if rows else 0

    # --- who is at what ---

    def claim(self, run_id: str, keys: Sequence[str]) -> Claimed:
        """Take what nobody has done and nobody alive is doing. What is taken is freed by `finish_unit`,
        `release`, or the end of this process.
        """
        done: dict[str, str] = {}
        busy: set[str] = set()
        with self._db.transaction() as db:
            for part in parts(keys):
                holes = marks(part)
                rows = db.execute(f"SELECT key, payload, seal FROM analyses WHERE key IN ({holes})", part)  # noqa: S608
                done.update(self._believed("analyses", rows.fetchall()))
                held = db.execute(f"SELECT key, owner FROM claims WHERE key IN ({holes})", part).fetchall()  # noqa: S608
                alive = {
                    owner: owner != run_id and self.locks.held(owner) for owner in {row[1] for row in held}
                }
                busy |= {str(key) for key, owner in held if alive[owner]} - done.keys()
            mine = frozenset(keys) - done.keys() - busy
            now = time.time()
            db.executemany(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", [(key, run_id, now) for key in mine]
            )
        faultpoint("claim_taken")
        return Claimed(mine, done, frozenset(busy))

    def release(self, run_id: str, keys: Sequence[str]) -> None:
        """Give up what was claimed and not finished."""
        with self._db.transaction() as db:
            for part in parts(keys):
                db.execute(
                    f"DELETE FROM claims WHERE owner=? AND key IN ({marks(part)})",  # noqa: S608
                    (run_id, *part),
                )

    # --- the ledgers: what left this machine, and what tools were called ---

    def note_egress(self, run_id: str, rows: Sequence[str]) -> None:
        """Written down before it is sent. `rows` are the caller's JSON."""
        self._note("egress", run_id, rows)
        faultpoint("egress_noted")

    def egress(self, run_id: str) -> tuple[list[str], bool]:
        """What a run has sent, in order, and whether it is as it was written, with no row missing."""
        return self._noted("egress", run_id)

    def note_call(self, run_id: str, row: str) -> None:
        """A call of a tool. Durable when this returns."""
        self._note("calls", run_id, [row])
        faultpoint("call_noted")

    def calls(self, run_id: str) -> tuple[list[str], bool]:
        """As `egress`."""
        return self._noted("calls", run_id)

    def _note(self, name: str, run_id: str, rows: Sequence[str]) -> None:
        with self._db.transaction() as db:
            ledger.append(db, self._seals, name, run_id, rows, begun=run_id in self._begun)
            self._restore_run(db, run_id)  # what was noted can be found by its run

    def _noted(self, name: str, run_id: str) -> tuple[list[str], bool]:
        before = self.set_aside
        rows, intact = ledger.entries(self._db.read, self._seals, name, run_id)
        return rows, intact and self.set_aside == before

    # --- what an agent has come to ---

    def judge(self, work: str, key: str, run_id: str, turn: int, payload: str) -> bool:
        """Keep a judgement, durable when this returns. The first of a key stays: False behind it."""
        with self._db.transaction() as db:
            fresh = judgements.judge(db, self._seals, work, key, run_id, turn, payload)
        faultpoint("verdict_written")
        return fresh

    def judged(self, work: str) -> dict[str, str]:
        """Judgements by key, in the order written."""
        return judgements.judged(self._db.read, self._seals, work)

    def save_state(self, work: str, run_id: str, turn: int, payload: str) -> None:
        """The newest snapshot takes the place of the one before. Durable when this returns."""
        with self._db.transaction() as db:
            judgements.save_state(db, self._seals, work, run_id, turn, payload)
        faultpoint("state_saved")

    def state(self, work: str) -> tuple[int, str] | None:
        """The turn and the payload of the newest snapshot."""
        return judgements.state(self._db.read, self._seals, work)

    # --- what was computed from content alone ---

    def memos(self, keys: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for part in parts(keys):
            rows = self._db.read(f"SELECT key, payload, seal FROM memos WHERE key IN ({marks(part)})", part)  # noqa: S608
            found.update(self._believed("memos", rows))
        return found

    def memorise(self, memos: Mapping[str, str]) -> None:
        now = time.time()
        with self._db.transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO memos VALUES (?, ?, ?, ?)",
                [
                    (key, now, payload, self._seals.mark("memos", key, payload))
                    for key, payload in memos.items()
                ],
            )

    # --- upkeep ---

    def prune(self, before: float, *, dry_run: bool = False) -> Pruned:
        """Forget runs last touched, and analyses last used, before a time; give the space back.

        Runs that a process is at stay, and so do the analyses that a run which stays has made. With `dry_run`
        only count. Raises StoreError where there is no room to work in; then what was to go is gone, and the
        file is as large as before.
        """
        size = self._db.size
        pruned = Pruned(0, 0, 0, size, size)
        with suppress(_Undone), self._db.transaction() as db:
            pruned = forget(db, self.locks, before, size)
            if dry_run:
                raise _Undone
        if dry_run:
            return pruned
        self._db.vacuum()
        self.locks.tidy()
        return replace(pruned, after=self._db.size)

    def check(self) -> Checked:
        """Read everything: the file's structure, and every seal."""
        return examine(self._db.connection, self._seals)

    def _believe(self, db: sqlite3.Connection, version: int) -> None:
        """In the user's own state folder the rows of older versions are believed, once."""
        self._seals = self._load_seals()
        if version == 1:
            self._seal_first_version(db)
        ledger.number_all(db, self._seals)

    def _seal_first_version(self, db: sqlite3.Connection) -> None:
        """It had no seals."""
        for key, payload in db.execute("SELECT key, payload FROM analyses").fetchall():
            seal = self._seals.mark("analyses", str(key), str(payload))
            db.execute("UPDATE analyses SET seal=? WHERE key=?", (seal, key))
        for row in db.execute(f"SELECT {_RUN_COLUMNS} FROM runs").fetchall():  # noqa: S608
            run_id, _, _, status, *rest = (str(value) for value in row[:-1])
            seal = self._run_seal(run_id, status, *rest)
            db.execute("UPDATE runs SET seal=? WHERE run_id=?", (seal, run_id))


def _plain(name: str) -> str:
    """A file name that SQLite can hold: bytes that are not UTF-8 are written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def default_path(checkpoint_path: str = "") -> Path:
    """Where the store lives: the platform's state directory unless the user's configuration names a file."""
    if checkpoint_path:
        path = Path(checkpoint_path).expanduser()
        return path / "store.sqlite3" if path.is_dir() or checkpoint_path.endswith("/") else path
    return state_folder() / "store.sqlite3"


def state_folder() -> Path:
    from platformdirs import user_state_path

    return user_state_path("review-agent")
