"""The SQLite file under the store: opened for its owner only, migrated, set aside when it is damaged."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from review_agent.agent.errors import StoreError

VERSION = 3
BUSY_SECONDS = 10.0
_TABLES = {
    "runs": """CREATE TABLE runs (
        run_id TEXT PRIMARY KEY, created REAL NOT NULL, updated REAL NOT NULL, status TEXT NOT NULL,
        repository TEXT NOT NULL, label TEXT NOT NULL, target TEXT NOT NULL, request TEXT NOT NULL,
        report TEXT NOT NULL DEFAULT '', seal TEXT NOT NULL DEFAULT '') STRICT""",
    "analyses": """CREATE TABLE analyses (
        key TEXT PRIMARY KEY, created REAL NOT NULL, used REAL NOT NULL, payload TEXT NOT NULL,
        seal TEXT NOT NULL) STRICT""",
    "run_units": """CREATE TABLE run_units (
        run_id TEXT NOT NULL, key TEXT NOT NULL, path TEXT NOT NULL, finished REAL NOT NULL,
        PRIMARY KEY (run_id, key, path)) STRICT, WITHOUT ROWID""",
    "claims": """CREATE TABLE claims (
        key TEXT PRIMARY KEY, owner TEXT NOT NULL, since REAL NOT NULL) STRICT, WITHOUT ROWID""",
    "egress": """CREATE TABLE egress (
        run_id TEXT NOT NULL, number INTEGER NOT NULL, row TEXT NOT NULL, seal TEXT NOT NULL,
        PRIMARY KEY (run_id, number)) STRICT, WITHOUT ROWID""",
    "memos": """CREATE TABLE memos (
        key TEXT PRIMARY KEY, used REAL NOT NULL, payload TEXT NOT NULL, seal TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
    "verdicts": """CREATE TABLE verdicts (
        work TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, run_id TEXT NOT NULL,
        turn INTEGER NOT NULL, payload TEXT NOT NULL, seal TEXT NOT NULL,
        PRIMARY KEY (work, key)) STRICT, WITHOUT ROWID""",
    "agent_states": """CREATE TABLE agent_states (
        work TEXT PRIMARY KEY, run_id TEXT NOT NULL, turn INTEGER NOT NULL, payload TEXT NOT NULL,
        seal TEXT NOT NULL) STRICT, WITHOUT ROWID""",
    "calls": """CREATE TABLE calls (
        run_id TEXT NOT NULL, number INTEGER NOT NULL, row TEXT NOT NULL, seal TEXT NOT NULL,
        PRIMARY KEY (run_id, number)) STRICT, WITHOUT ROWID""",
    "heads": """CREATE TABLE heads (
        ledger TEXT NOT NULL, run_id TEXT NOT NULL, last INTEGER NOT NULL, seal TEXT NOT NULL,
        PRIMARY KEY (ledger, run_id)) STRICT, WITHOUT ROWID""",
}
_INDEXES = (
    "CREATE INDEX runs_by_time ON runs (updated)",
    "CREATE INDEX units_by_key ON run_units (key)",
    "CREATE INDEX analyses_by_use ON analyses (used)",
)
# Version 1 had no seals, no claims, no ledger. The store seals its rows, where it may believe them.
_FROM_1 = (
    "ALTER TABLE runs ADD COLUMN target TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE runs ADD COLUMN seal TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE analyses ADD COLUMN used REAL NOT NULL DEFAULT 0",
    "ALTER TABLE analyses ADD COLUMN seal TEXT NOT NULL DEFAULT ''",
    "UPDATE analyses SET used = created",
    *(_TABLES[name] for name in ("claims", "egress", "memos")),
    *_INDEXES[1:],
)
# Version 2 knew no agent, and did not number the ends of its ledgers.
_FROM_2 = tuple(_TABLES[name] for name in ("verdicts", "agent_states", "calls", "heads"))
_STEPS = {0: (*_TABLES.values(), *_INDEXES), 1: (*_FROM_1, *_FROM_2), 2: _FROM_2}
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "afs", "afpfs", "webdav", "ceph", "glusterfs"}
    | {"lustre", "gpfs", "beegfs", "ocfs2", "vboxsf", "drvfs"}
)
_OCTAL = re.compile(r"\\([0-7]{3})")  # how spaces and the like stand in mountinfo

Connect = Callable[..., sqlite3.Connection]


class Database:
    """An open database. Errors of SQLite come out as StoreError; a damaged file is set aside and made anew.

    `connect` stands for `sqlite3.connect`, so that a test can make any statement fail. `remote` says whether
    a path lies where several machines can meet. `upgrade` is called in the transaction that upgrades an older
    file, with its version, when the tables are there. `set_aside` names the file that a damaged one was
    renamed to.
    """

    def __init__(
        self,
        path: Path,
        connect: Connect = sqlite3.connect,
        remote: Callable[[Path], bool] | None = None,
        upgrade: Callable[[sqlite3.Connection, int], None] | None = None,
    ) -> None:
        self.path = path
        self._remote = remote or on_network
        self._upgrade = upgrade
        self.set_aside: Path | None = None
        self._connector = connect
        self._db = self._open()

    def close(self) -> None:
        self._db.close()

    def read(self, sql: str, values: Sequence[str | int | float] = ()) -> list[tuple[Any, ...]]:
        """All rows; none where the file turns out to be damaged and was set aside. Raises StoreError."""
        try:
            return self._rows(sql, values)
        except sqlite3.Error as exc:
            self._rescue(exc)
        except OSError as exc:
            raise self._error(exc) from exc
        try:
            return self._rows(sql, values)
        except (sqlite3.Error, OSError) as exc:
            raise self._error(exc) from exc

    def _rows(self, sql: str, values: Sequence[str | int | float]) -> list[tuple[Any, ...]]:
        with _legible():
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Durable when the block has ended. Raises StoreError, and then nothing of it is there."""
        try:
            with _legible():
                try:
                    self._db.execute("BEGIN IMMEDIATE")
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    # SQLite itself may have rolled back, on a full disk for one; and it may be too ill to.
                    with suppress(sqlite3.Error):
                        if self._db.in_transaction:
                            self._db.execute("ROLLBACK")
                    raise
        except sqlite3.Error as exc:
            before = self.set_aside
            self._rescue(exc)
            if self.set_aside == before:  # the file is sound after all, or another process was faster
                raise self._error(exc) from exc
            raise StoreError("store_damaged", path=str(self.path), aside=str(self.set_aside)) from exc
        except OSError as exc:
            raise self._error(exc) from exc

    def vacuum(self) -> None:
        """Give free space back to the file system. Raises StoreError, for want of room to work for one."""
        try:
            with _legible():
                self._db.execute("VACUUM")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (sqlite3.Error, OSError) as exc:
            raise self._error(exc) from exc

    @property
    def connection(self) -> sqlite3.Connection:
        """For reading past the rescue of a damaged file."""
        return self._db

    @property
    def size(self) -> int:
        """Bytes on disk, the log and its index among them."""
        names = (self.path.with_name(self.path.name + suffix) for suffix in ("", "-wal", "-shm"))
        return sum(name.stat().st_size for name in names if name.exists())

    # --- opening ---

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                return self._connect()
            except sqlite3.DatabaseError as exc:
                if not is_damage(exc):
                    raise
            return self._replace(self._connect)
        except (sqlite3.Error, OSError) as exc:
            raise self._error(exc) from exc

    def _replace(self, again: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
        """A new file in the place of a damaged one."""
        from filelock import FileLock

        with FileLock(f"{self.path}.lock"):  # of two processes that find it bad, one sets it aside
            try:
                return again()
            except sqlite3.DatabaseError as exc:
                if not is_damage(exc):
                    raise
            self._rename()
            return self._connect()

    def _rescue(self, exc: sqlite3.Error) -> None:
        """After a failed statement: begin anew where the file is damaged, else raise a StoreError."""
        if not isinstance(exc, sqlite3.DatabaseError) or not is_damage(exc):
            raise self._error(exc) from exc
        self._db.close()
        try:
            self._db = self._replace(self._connect_checked)
        except (sqlite3.Error, OSError) as second:
            raise self._error(second) from second

    def _connect_checked(self) -> sqlite3.Connection:
        db = self._connect()
        try:
            with _legible():
                if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                    raise sqlite3.DatabaseError("malformed")
        except BaseException:
            db.close()
            raise
        return db

    def _connect(self) -> sqlite3.Connection:
        self._claim()
        db = self._connector(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            with _legible():
                os.chmod(self.path, 0o600)
                # A byte that is not UTF-8 spoils one row, not the whole store.
                db.text_factory = lambda data: data.decode("utf-8", "replace")
                _set_journal(db, "TRUNCATE" if self._remote(self.path) else "WAL")
                db.execute("PRAGMA synchronous=FULL")
                self._migrate(db)
                db.execute(f"SELECT 1 FROM {', '.join(_TABLES)} LIMIT 0")  # noqa: S608 - else it is another's
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
        found = db.execute("PRAGMA user_version").fetchone()[0]
        ours = db.execute(
            "SELECT count(*) FROM sqlite_schema WHERE name IN ('runs', 'run_units')"
        ).fetchone()[0]
        if (ours == 2) != (found > 0) and ours:
            raise sqlite3.DatabaseError("malformed")  # ours, but for its header
        for statement in _STEPS.get(found, ()):
            db.execute(statement)
        if found in (1, 2) and self._upgrade is not None:
            self._upgrade(db, found)
        db.execute(f"PRAGMA user_version={VERSION}")
        db.execute("COMMIT")

    def _rename(self) -> None:
        """A bad file is renamed, never deleted."""
        names = (self.path.with_name(f"{self.path.name}.corrupt-{number}") for number in count(1))
        aside = next(name for name in names if not name.exists())
        for suffix in ("", "-wal", "-shm", "-journal"):
            bad = self.path.with_name(self.path.name + suffix)
            if bad.exists():
                bad.rename(aside.with_name(aside.name + suffix))
        self.set_aside = aside

    def _error(self, exc: Exception) -> StoreError:
        detail = exc.strerror or "" if isinstance(exc, OSError) else str(exc)
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        full = code == sqlite3.SQLITE_FULL or getattr(exc, "errno", 0) in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EFBIG,
        )
        key = "store_full" if full else "store_busy" if code == sqlite3.SQLITE_BUSY else "store_unusable"
        return StoreError(key, path=str(self.path), detail=detail)


@contextmanager
def _legible() -> Iterator[None]:
    """Where SQLite quotes a damaged schema that is not UTF-8, Python raises this instead of the error."""
    try:
        yield
    except UnicodeDecodeError as exc:
        raise sqlite3.DatabaseError("malformed") from exc


def is_damage(exc: sqlite3.DatabaseError) -> bool:
    """Whether the file itself is bad; not a full disk, a lock, or a file that may not be written."""
    if isinstance(exc, sqlite3.OperationalError):
        return "malformed" in str(exc)
    return not isinstance(exc, sqlite3.ProgrammingError | sqlite3.IntegrityError)


def _set_journal(db: sqlite3.Connection, mode: str) -> None:
    """SQLite does not wait for a lock here: two processes that open a new store together would fail."""
    for _ in range(100):
        try:
            db.execute(f"PRAGMA journal_mode={mode}")
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
        time.sleep(0.05)
    db.execute(f"PRAGMA journal_mode={mode}")


def on_network(path: Path, mounts: str | None = None) -> bool:
    """Whether a file lies on a network file system, where WAL's shared memory does not work.

    `mounts` is the text of `/proc/self/mountinfo`. https://sqlite.org/wal.html: "does not work over a network
    filesystem".
    """
    if mounts is None:
        if not sys.platform.startswith("linux"):
            return _on_network_elsewhere(path)
        try:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return False
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]).rstrip("/")
        if (real == point or real.startswith(f"{point}/")) and len(point) >= len(best):
            best, kind = point, after.split(" ", 1)[0]
    return _is_network(kind)


def _on_network_elsewhere(path: Path) -> bool:
    import psutil

    real = os.path.realpath(path)
    inside = [
        part
        for part in psutil.disk_partitions(all=True)
        if real == part.mountpoint or real.startswith(part.mountpoint.rstrip("/") + "/")
    ]
    return _is_network(max(inside, key=lambda part: len(part.mountpoint)).fstype) if inside else False


def _is_network(kind: str) -> bool:
    return kind in _NETWORK or kind in (
        "fuse.sshfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.glusterfs",
        "fuse.cephfs",
    )
