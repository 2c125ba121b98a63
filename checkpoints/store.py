"""The run store: SQLite, WAL, `synchronous=FULL`, one transaction per finished unit.

An analysis is keyed by content, so that later runs, other branches and moved files find it again.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from review_agent.agent.errors import StoreError

VERSION = 1
_SCHEMA = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, created REAL NOT NULL, updated REAL NOT NULL, status TEXT NOT NULL,
    repository TEXT NOT NULL, label TEXT NOT NULL, request TEXT NOT NULL, report TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE analyses (
    key TEXT PRIMARY KEY, created REAL NOT NULL, payload TEXT NOT NULL
) STRICT;
CREATE TABLE run_units (
    run_id TEXT NOT NULL, key TEXT NOT NULL, path TEXT NOT NULL, finished REAL NOT NULL,
    PRIMARY KEY (run_id, key, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_by_time ON runs (updated);
"""


@dataclass(frozen=True, slots=True)
class RunRow:
    """`status` is running, finished or stopped; `request` and `report` are the caller's JSON."""

    run_id: str
    created: float
    updated: float
    status: str
    repository: str
    label: str
    request: str
    report: str


class Store:
    """An open store. Close it, or use `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                return self._connect()
            except sqlite3.DatabaseError as exc:
                if not _is_corrupt(exc):
                    raise
            from filelock import FileLock

            with FileLock(f"{self.path}.lock"):  # of two processes that find it bad, one sets it aside
                try:
                    return self._connect()
                except sqlite3.DatabaseError as exc:
                    if not _is_corrupt(exc):
                        raise
                self._set_aside()
                return self._connect()
        except sqlite3.Error as exc:
            raise StoreError("store_unusable", path=str(self.path), detail=str(exc)) from exc
        except OSError as exc:
            raise StoreError("store_unusable", path=str(self.path), detail=exc.strerror or "") from exc

    def _connect(self) -> sqlite3.Connection:
        self._claim()
        db = sqlite3.connect(self.path, timeout=10, isolation_level=None)
        try:
            os.chmod(self.path, 0o600)
            # A byte that is not UTF-8 spoils one row, not the whole store.
            db.text_factory = lambda data: data.decode("utf-8", "replace")
            _use_wal(db)
            db.execute("PRAGMA synchronous=FULL")
            self._migrate(db)
            if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("malformed")
            db.execute("SELECT 1 FROM runs, analyses, run_units LIMIT 0")  # else it is another program's
        except BaseException:
            db.close()
            raise
        return db

    def _claim(self) -> None:
        """Create the file for its owner only, and never write through a planted link."""
        if self.path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    def _migrate(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == VERSION:
            return
        if version > VERSION:
            raise StoreError("store_newer", path=str(self.path), version=version)
        db.execute("BEGIN IMMEDIATE")  # two processes may meet here; the second finds the work done
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in _SCHEMA.split(";"):
                if statement.strip():
                    db.execute(statement)
            db.execute(f"PRAGMA user_version={VERSION}")
        db.execute("COMMIT")

    def _set_aside(self) -> None:
        """A bad file is renamed, never deleted."""
        names = (self.path.with_name(f"{self.path.name}.corrupt-{number}") for number in count(1))
        aside = next(name for name in names if not name.exists())
        for suffix in ("", "-wal", "-shm"):
            bad = self.path.with_name(self.path.name + suffix)
            if bad.exists():
                bad.rename(aside.with_name(aside.name + suffix))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself may have rolled back, on a full disk for one
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as exc:
            raise StoreError("store_unusable", path=str(self.path), detail=str(exc)) from exc

    def start_run(self, run_id: str, repository: str, label: str, request: str) -> None:
        now = time.time()
        with self._transaction():
            self._db.execute(
                "INSERT INTO runs (run_id, created, updated, status, repository, label, request) "
                "VALUES (?, ?, ?, 'running', ?, ?, ?) "
                "ON CONFLICT (run_id) DO UPDATE SET updated=excluded.updated, status='running'",
                (run_id, now, now, _plain(repository), _plain(label), request),
            )

    def finish_unit(self, run_id: str, key: str, path: str, payload: str) -> None:
        """Durable when this returns."""
        now = time.time()
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO analyses VALUES (?, ?, ?)", (key, now, payload))
            self._db.execute(
                "INSERT OR REPLACE INTO run_units VALUES (?, ?, ?, ?)", (run_id, key, _plain(path), now)
            )

    def finish_run(self, run_id: str, status: str, report: str) -> None:
        with self._transaction():
            self._db.execute(
                "UPDATE runs SET status=?, report=?, updated=? WHERE run_id=?",
                (status, report, time.time(), run_id),
            )

    def analyses(self, keys: Sequence[str], of_run: str = "") -> dict[str, str]:
        """Payloads of the keys that are stored; with `of_run`, only of units that this run finished."""
        found: dict[str, str] = {}
        for at in range(0, len(keys), 500):
            part = keys[at : at + 500]
            marks = ",".join("?" * len(part))
            sql = f"SELECT key, payload FROM analyses WHERE key IN ({marks})"  # noqa: S608 - only marks
            values = list(part)
            if of_run:
                sql += " AND key IN (SELECT key FROM run_units WHERE run_id = ?)"
                values.append(of_run)
            rows = self._read(sql, values)
            found.update({str(key): str(payload) for key, payload in rows})
        return found

    def runs(self, limit: int = 50, repository: str | None = None) -> list[RunRow]:
        """Newest first."""
        where = "WHERE repository=?" if repository is not None else ""
        values = [_plain(repository)] if repository is not None else []
        rows = self._read(
            "SELECT run_id, created, updated, status, repository, label, request, report "  # noqa: S608
            f"FROM runs {where} ORDER BY updated DESC, rowid DESC LIMIT ?",
            [*values, limit],
        )
        return [_run_row(row) for row in rows]

    def run(self, prefix: str) -> RunRow:
        """The run of this id or unique start of one. Raises StoreError("run_unknown" or "run_ambiguous")."""
        rows = self._read(
            "SELECT run_id, created, updated, status, repository, label, request, report "
            "FROM runs WHERE substr(run_id, 1, ?) = ? LIMIT 3",
            [len(_plain(prefix)), _plain(prefix)],
        )
        exact = [row for row in rows if row[0] == prefix]
        if len(exact or rows) != 1:
            raise StoreError("run_ambiguous" if rows else "run_unknown", run=prefix)
        return _run_row((exact or rows)[0])

    def units_of(self, run_id: str) -> int:
        return int(self._read("SELECT count(*) FROM run_units WHERE run_id=?", [run_id])[0][0])

    def _read(self, sql: str, values: Sequence[str | int]) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise StoreError("store_unusable", path=str(self.path), detail=str(exc)) from exc


def _is_corrupt(exc: sqlite3.DatabaseError) -> bool:
    return not isinstance(exc, sqlite3.OperationalError) or "malformed" in str(exc)


def _use_wal(db: sqlite3.Connection) -> None:
    """SQLite does not wait for a lock here: two processes that open a new store together would fail."""
    for _ in range(100):
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
        time.sleep(0.05)
    db.execute("PRAGMA journal_mode=WAL")


def _plain(name: str) -> str:
    """A file name that SQLite can hold: bytes that are not UTF-8 are written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _run_row(row: tuple[Any, ...]) -> RunRow:
    return RunRow(*row)


def default_path(checkpoint_path: str = "") -> Path:
    """Where the store lives: the platform's state directory unless the user's configuration names a file."""
    if checkpoint_path:
        path = Path(checkpoint_path).expanduser()
        return path / "store.sqlite3" if path.is_dir() or checkpoint_path.endswith("/") else path
    from platformdirs import user_state_path

    return user_state_path("review-agent") / "store.sqlite3"
