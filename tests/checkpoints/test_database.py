"""The file under the store: older ones are upgraded, and network file systems get a journal that works there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from review_agent.agent.errors import StoreError
from review_agent.checkpoints.database import VERSION, Database, on_network
from review_agent.checkpoints.inspection import inspect
from review_agent.checkpoints.rows import Checked
from review_agent.checkpoints.seal import load_seals
from review_agent.checkpoints.store import Store


def alter(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(sql)
        db.commit()


# --- version 1

FIRST = """
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
PRAGMA journal_mode=WAL;
INSERT INTO runs VALUES ('old', 1000.0, 2000.0, 'stopped', '/repo', 'tree', '{"x": 1}', '{"y": 2}');
INSERT INTO analyses VALUES ('k1', 1000.0, 'first'), ('k2', 1500.0, 'second');
INSERT INTO run_units VALUES ('old', 'k1', 'a.py', 1000.0), ('old', 'k2', 'b.py', 1500.0);
PRAGMA user_version=1;
"""


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A store as version 1 wrote it."""
    path = tmp_path / "store.sqlite3"
    db = sqlite3.connect(path)
    db.executescript(FIRST)
    db.close()
    return path


def test_a_store_of_version_1_is_believed_in_the_users_own_folder(first: Path) -> None:
    for _ in range(2):
        with Store(first) as store:
            assert store.analyses(["k1", "k2", "k3"]) == {"k1": "first", "k2": "second"}
            row = store.run("old")
            assert (row.status, row.request, row.report, row.target) == (
                "stopped",
                '{"x": 1}',
                '{"y": 2}',
                "",
            )
            assert store.units_of("old") == 2
            assert store.check().sound


def test_a_store_of_version_1_elsewhere_is_not_believed(first: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with Store(first, home=tmp_path / "home") as store:
            assert store.analyses(["k1", "k2"]) == {}
            assert [row.intact for row in store.runs()] == [False]
            assert store.claim("new", ["k1"]).mine == {"k1"}


def test_an_upgraded_store_is_as_good_as_a_new_one(first: Path) -> None:
    with Store(first) as store:
        store.start_run("new", "/repo", "tree", "{}", "target")
        store.finish_unit("new", "k3", "c.py", "third")
        store.finish_unit("new", "k1", "a.py", "anew")
        store.memorise({"m": "memo"})
        store.note_egress("new", ["row"])
        store.note_call("old", "call")
        assert (store.egress("new"), store.calls("old")) == ((["row"], True), (["call"], True))
        store.finish_run("new", "finished", "{}")
        assert store.analyses(["k1", "k2", "k3"]) == {"k1": "anew", "k2": "second", "k3": "third"}
        pruned = store.prune(3000.0)
        assert (pruned.runs, pruned.analyses) == (1, 1)
        assert store.analyses(["k1", "k2", "k3"]) == {"k1": "anew", "k3": "third"}
        assert store.check().sound


@pytest.mark.parametrize(
    "statement",
    ["ALTER TABLE analyses", "CREATE TABLE memos", "UPDATE analyses SET seal", "UPDATE runs SET seal"]
    + ["CREATE TABLE heads", "INSERT OR REPLACE INTO heads", "PRAGMA user_version=", "COMMIT"],
)
def test_an_upgrade_is_whole_or_not_at_all(first: Path, statement: str) -> None:
    class Failing(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:  # type: ignore[override]
            if sql.startswith(statement):
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *values)  # type: ignore[arg-type]

    def connect(*args: object, **options: object) -> sqlite3.Connection:
        return sqlite3.connect(*args, factory=Failing, **options)  # type: ignore[call-overload,no-any-return]

    with pytest.raises(StoreError, match="store_unusable"):
        Store(first, connect=connect)
    db = sqlite3.connect(first)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert len(db.execute("PRAGMA table_info(analyses)").fetchall()) == 3
    db.close()
    test_a_store_of_version_1_is_believed_in_the_users_own_folder(first)


# --- version 2

SECOND = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, created REAL NOT NULL, updated REAL NOT NULL, status TEXT NOT NULL,
    repository TEXT NOT NULL, label TEXT NOT NULL, target TEXT NOT NULL, request TEXT NOT NULL,
    report TEXT NOT NULL DEFAULT '', seal TEXT NOT NULL DEFAULT '') STRICT;
CREATE TABLE analyses (
    key TEXT PRIMARY KEY, created REAL NOT NULL, used REAL NOT NULL, payload TEXT NOT NULL,
    seal TEXT NOT NULL) STRICT;
CREATE TABLE run_units (
    run_id TEXT NOT NULL, key TEXT NOT NULL, path TEXT NOT NULL, finished REAL NOT NULL,
    PRIMARY KEY (run_id, key, path)) STRICT, WITHOUT ROWID;
CREATE TABLE claims (
    key TEXT PRIMARY KEY, owner TEXT NOT NULL, since REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE egress (
    run_id TEXT NOT NULL, number INTEGER NOT NULL, row TEXT NOT NULL, seal TEXT NOT NULL,
    PRIMARY KEY (run_id, number)) STRICT, WITHOUT ROWID;
CREATE TABLE memos (
    key TEXT PRIMARY KEY, used REAL NOT NULL, payload TEXT NOT NULL, seal TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
CREATE INDEX runs_by_time ON runs (updated);
CREATE INDEX units_by_key ON run_units (key);
CREATE INDEX analyses_by_use ON analyses (used);
PRAGMA journal_mode=WAL;
INSERT INTO run_units VALUES ('old', 'k1', 'a.py', 1000.0);
PRAGMA user_version=2;
"""


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A store as version 2 wrote it: two runs, one of them with three rows in its ledger."""
    path = tmp_path / "store.sqlite3"
    seals = load_seals(tmp_path)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SECOND)
        for run in ("old", "local"):
            texts = ("/repo", "tree", "target", "{}", "")
            seal = seals.mark("runs", run, "stopped", *texts)
            db.execute(
                "INSERT INTO runs VALUES (?, 1.0, 2.0, 'stopped', ?, ?, ?, ?, ?, ?)", (run, *texts, seal)
            )
        seal = seals.mark("analyses", "k1", "first")
        db.execute("INSERT INTO analyses VALUES ('k1', 1000.0, 1000.0, 'first', ?)", [seal])
        for number, row in enumerate(("one", "two", "three"), start=1):
            seal = seals.mark("egress", "old", number, row)
            db.execute("INSERT INTO egress VALUES ('old', ?, ?, ?)", (number, row, seal))
        db.commit()
    return path


def test_a_store_of_version_2_keeps_all_it_had(second: Path) -> None:
    for _ in range(2):
        with Store(second) as store:
            assert store.analyses(["k1"]) == {"k1": "first"}
            assert {row.run_id: row.intact for row in store.runs()} == {"old": True, "local": True}
            assert (store.egress("old"), store.egress("local")) == (
                (["one", "two", "three"], True),
                ([], True),
            )
            assert (store.calls("old"), store.calls("local")) == (([], True), ([], True))
            assert store.check().sound
    with Store(second) as store:
        store.start_run("old", "/repo", "tree", "{}", "target")
        store.note_egress("old", ["four"])
        store.note_call("old", "call")
        assert store.judge("work", "key", "old", 1, "judgement")
        store.save_state("work", "old", 1, "state")
        assert store.egress("old") == (["one", "two", "three", "four"], True)
        assert (store.judged("work"), store.state("work")) == ({"key": "judgement"}, (1, "state"))
        assert store.check() == Checked(2, 1, 0, 4, calls=1, heads=4, verdicts=1, agent_states=1)
    alter(second, "DELETE FROM egress WHERE number=4")
    with Store(second) as store:
        assert store.egress("old") == (["one", "two", "three"], False)


def test_a_ledger_of_version_2_with_a_gap_stays_known_for_it(second: Path) -> None:
    alter(second, "DELETE FROM egress WHERE number=2")
    with Store(second) as store:
        store.note_egress("old", ["four"])
        assert store.egress("old") == (["one", "three", "four"], False)
        assert (store.check().unsealed, store.check().cut) == (0, 1)


def test_ledgers_of_version_2_elsewhere_may_have_been_cut(second: Path, tmp_path: Path) -> None:
    """Who can write there can also call a store of this version one of the version before."""
    (tmp_path / "home").mkdir()
    (tmp_path / "seal.key").rename(tmp_path / "home" / "seal.key")
    with Store(second, home=tmp_path / "home") as store:
        assert store.analyses(["k1"]) == {"k1": "first"}  # each row still speaks for itself
        assert store.egress("old") == (["one", "two", "three"], False)
        store.start_run("new", "/repo", "tree", "{}", "target")
        store.note_egress("new", ["row"])
        assert store.egress("new") == (["row"], True)


def test_a_store_of_version_2_can_be_looked_at_before_it_is_upgraded(second: Path, tmp_path: Path) -> None:
    assert inspect(second, tmp_path) == Checked(runs=2, analyses=1, egress=3)
    alter(second, "UPDATE egress SET row='x' WHERE number=2")
    assert inspect(second, tmp_path).unsealed == 1
    with closing(sqlite3.connect(second)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)


@pytest.mark.parametrize("fixture", ["first", "second"])
def test_an_upgraded_store_has_the_tables_of_a_new_one(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    def made(path: Path) -> dict[str, set[str]]:
        """Names of columns by table and index."""
        with Store(path), closing(sqlite3.connect(path)) as db:
            names = [str(row[0]) for row in db.execute("SELECT name FROM sqlite_schema").fetchall()]
            return {name: {row[1] for row in db.execute(f"PRAGMA table_xinfo({name})")} for name in names}

    assert made(request.getfixturevalue(fixture)) == made(tmp_path / "new" / "store")


# --- journals


def journal(path: Path) -> str:
    db = sqlite3.connect(path)
    mode = str(db.execute("PRAGMA journal_mode").fetchone()[0])
    db.close()
    return mode


@pytest.mark.parametrize(("remote", "mode"), [(False, "wal"), (True, "delete")])
def test_the_journal_fits_the_file_system(tmp_path: Path, remote: bool, mode: str) -> None:
    """A rollback journal is no property of the file, so another connection sees the default one."""
    path = tmp_path / "store"
    database = Database(path, remote=lambda _: remote)
    assert database.read("PRAGMA journal_mode") == [("truncate" if remote else "wal",)]
    assert database.read("PRAGMA synchronous") == [(2,)]
    with database.transaction() as db:
        db.execute("INSERT INTO claims VALUES ('k', 'r', 1.0)")
    assert (path.with_name("store-wal").exists(), path.with_name("store-shm").exists()) == (
        not remote,
        not remote,
    )
    database.close()
    assert journal(path) == mode
    moved = Database(path, remote=lambda _: not remote)
    assert moved.read("SELECT key, owner FROM claims") == [("k", "r")]
    moved.close()
    assert VERSION == 3


MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:5 / /proc rw - proc proc rw
30 21 0:40 / /net rw,relatime - nfs4 server:/export rw,vers=4.2
31 30 8:2 / /net/local rw - xfs /dev/sdb1 rw
32 21 0:41 / /share\040with\040space rw shared:9 master:3 - cifs //server/share rw
33 21 0:42 / /mnt/c rw - 9p C:\134 rw
34 21 8:1 /home/u/real /bind rw - ext4 /dev/sda1 rw
35 21 0:40 /sub /bind-of-net rw - nfs4 server:/export rw
36 21 0:43 / /over rw - nfs server:/x rw
37 36 0:44 / /over rw - tmpfs tmpfs rw
38 21 0:45 / /数据 rw - nfs server:/y rw
39 21 0:46 / /ssh rw - fuse.sshfs u@h: rw
40 21 0:47 / /zip rw - fuse.archivemount x rw
41 21 0:48 / /back\134slash rw - nfs server:/z rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("/home/u/store", False),
        ("/net/home/store", True),
        ("/net", True),
        ("/network/store", False),
        ("/net/local/store", False),
        ("/share with space/store", True),
        ("/share/store", False),
        ("/mnt/c/Users/store", True),
        ("/bind/store", False),
        ("/bind-of-net/store", True),
        ("/over/store", False),
        ("/数据/store", True),
        ("/ssh/store", True),
        ("/zip/store", False),
        ("/back\\slash/store", True),
    ],
)
def test_network_file_systems_are_known_by_their_mounts(path: str, remote: bool) -> None:
    assert on_network(Path(path), MOUNTS) is remote


@pytest.mark.parametrize("mounts", ["", "nonsense", "1 2 3 / / rw -"])
def test_without_mounts_it_is_a_disk_of_this_machine(mounts: str) -> None:
    assert on_network(Path("/home/u/store"), mounts) is False
