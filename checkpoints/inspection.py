"""A look at a store that neither makes nor mends one: may a run use it, is all of it as it was written?"""

from __future__ import annotations

import errno
import os
import shlex
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from review_agent.agent.errors import StoreError
from review_agent.checkpoints.database import VERSION, is_damage
from review_agent.checkpoints.ledger import cut
from review_agent.checkpoints.rows import Checked
from review_agent.checkpoints.seal import Seals, known_seals

_WAIT_SECONDS = 5.0
_PROBLEMS = 20
# A damaged schema that is not UTF-8 makes Python raise the last one in the place of SQLite's own.
_FAULTS = (sqlite3.Error, OSError, UnicodeDecodeError)
# What a seal covers, by table: the columns in their order, the seal last.
SEALED = {
    "runs": "run_id, status, repository, label, target, request, report, seal",
    "analyses": "key, payload, seal",
    "memos": "key, payload, seal",
    "egress": "run_id, number, row, seal",
    "calls": "run_id, number, row, seal",
    "heads": "ledger, run_id, last, seal",
    "verdicts": "work, key, number, run_id, turn, payload, seal",
    "agent_states": "work, run_id, turn, payload, seal",
}
_WITHOUT_HEADS = 2
_SEALED_THEN = ("runs", "analyses", "memos", "egress")


def trouble(path: Path) -> StoreError | None:
    """Why a run could not use this store, or would have to set it aside ("store_is_damaged"), if so.

    Where there is none, why none could be made.
    """
    try:
        if path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if not path.exists():
            _can_make(path)
            return None
        if not path.is_file():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(path, os.R_OK | os.W_OK) or not os.access(path.parent, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        with closing(_opened(path)) as db:
            version = _version(db)
            if version:
                db.execute("SELECT 1 FROM runs, run_units, analyses LIMIT 0")
    except OSError as exc:
        return StoreError("store_unusable", path=str(path), detail=exc.strerror or "")
    except sqlite3.Error as exc:
        if isinstance(exc, sqlite3.DatabaseError) and is_damage(exc):
            return damaged(path, str(exc))
        return StoreError("store_unusable", path=str(path), detail=str(exc))
    return StoreError("store_newer", path=str(path), version=version) if version > VERSION else None


def damaged(path: Path, detail: str) -> StoreError:
    command = f"mv {shlex.quote(str(path))} {shlex.quote(f'{path}.bad')}"
    return StoreError("store_is_damaged", path=str(path), detail=detail, command=command)


def inspect(path: Path, home: Path, cache_key: str = "") -> Checked:
    """Read the whole of an existing store: its structure, and every seal.

    Raises StoreError where it cannot be read at all.
    """
    try:
        with closing(_opened(path)) as db:
            seals, version = known_seals(home, cache_key), _version(db)
            if version == VERSION:
                return examine(db, seals)
            if version == _WITHOUT_HEADS:
                return examine(db, seals, _SEALED_THEN)
            return Checked(problems=tuple(structure(db)))  # an older one has no seals yet
    except sqlite3.Error as exc:
        if isinstance(exc, sqlite3.DatabaseError) and is_damage(exc):
            return Checked(problems=(str(exc),))
        raise StoreError("store_unusable", path=str(path), detail=str(exc)) from exc


def examine(db: sqlite3.Connection, seals: Seals, tables: Collection[str] = SEALED) -> Checked:
    """What `inspect` says, of an open database. One row is in memory at a time."""
    problems = structure(db)
    counts = dict.fromkeys(tables, 0)
    unsealed = shortened = 0
    for table in tables:
        columns = SEALED[table]
        try:
            for *values, seal in _each(db, f"SELECT {columns} FROM {table}"):  # noqa: S608 - from the table above
                counts[table] += 1
                unsealed += not seals.holds(str(seal), table, *values)
        except _FAULTS as exc:
            problems.append(f"{table}: {exc}")
    if "heads" in tables:
        try:
            shortened = cut(db)
        except _FAULTS as exc:
            problems.append(f"heads: {exc}")
    return Checked(**counts, unsealed=unsealed, cut=shortened, problems=tuple(problems[:_PROBLEMS]))


def structure(db: sqlite3.Connection) -> list[str]:
    """What SQLite's own integrity check finds; [] when all is well."""
    try:
        rows = db.execute(f"PRAGMA integrity_check({_PROBLEMS})").fetchall()
    except _FAULTS as exc:
        return [str(exc)]
    return [str(row[0]) for row in rows if row[0] != "ok"]


def _each(db: sqlite3.Connection, sql: str) -> Iterator[tuple[str, ...]]:
    yield from db.execute(sql)


def _opened(path: Path) -> sqlite3.Connection:
    """For reading, and only what is there. Not `mode=ro`: that would leave the log's files behind."""
    uri = f"file:{quote(str(path.absolute()))}?mode=rw"
    db = sqlite3.connect(uri, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)
    db.text_factory = lambda data: data.decode("utf-8", "replace")
    return db


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _can_make(path: Path) -> None:
    """Raises OSError where no store could be made."""
    nearest = next(folder for folder in path.parents if folder.exists())
    if not nearest.is_dir():
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    longest = os.pathconf(nearest, "PC_NAME_MAX")
    if any(len(os.fsencode(part)) > longest for part in path.parts):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
