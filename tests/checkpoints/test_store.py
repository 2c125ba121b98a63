"""The run store: what is acknowledged stays, a bad file is set aside, two processes share it."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from review_agent.agent.errors import StoreError
from review_agent.checkpoints.store import VERSION, Store, default_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store.sqlite3"


def filled(path: Path, rows: int = 30) -> Path:
    with Store(path) as store:
        store.start_run("20260101-000000-aaaaaa", "/repo", "tree", "{}")
        for at in range(rows):
            store.finish_unit("20260101-000000-aaaaaa", f"key{at}", f"{at}.py", "payload " * 60)
    return path


def test_what_is_finished_is_found_by_its_key_in_any_run(path: Path) -> None:
    with Store(path) as store:
        store.start_run("one", "/repo", "tree", "{}")
        store.finish_unit("one", "k1", "a.py", "first")
        store.finish_unit("one", "k1", "b.py", "second")
        store.finish_unit("two", "k2", "a.py", "other")
    with Store(path) as store:
        assert store.analyses(["k1", "k2", "k3"]) == {"k1": "second", "k2": "other"}
        assert (store.units_of("one"), store.units_of("two"), store.units_of("three")) == (2, 1, 0)
        assert store.analyses([]) == {}
        assert len(store.analyses([f"k{at}" for at in range(2000)])) == 2


def test_runs_are_listed_newest_first_and_by_repository(path: Path) -> None:
    with Store(path) as store:
        for run, repository in [("a", "/one"), ("b", "/two"), ("c", "/one")]:
            store.start_run(run, repository, "tree", '{"x": 1}')
        assert [row.run_id for row in store.runs()] == ["c", "b", "a"]
        assert [row.run_id for row in store.runs(limit=1)] == ["c"]
        assert [row.run_id for row in store.runs(repository="/one")] == ["c", "a"]
        store.finish_run("a", "stopped", "report")
        row = store.run("a")
        assert (row.status, row.report, row.request, row.label) == ("stopped", "report", '{"x": 1}', "tree")
        store.start_run("a", "/one", "tree", "{}")
        assert (store.run("a").status, store.run("a").created) == ("running", row.created)


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("20260101-1", "20260101-11"),
        ("20260101-11", "20260101-11"),
        ("2026", None),
        ("x", None),
        ("", None),
        ("%", None),
    ],
)
def test_a_run_is_named_by_a_unique_start(path: Path, prefix: str, found: str | None) -> None:
    with Store(path) as store:
        for run in ("20260101-11", "20260102-11", "20260102-11-2"):
            store.start_run(run, "/repo", "tree", "{}")
        assert store.run("20260102-11").run_id == "20260102-11"
        if found:
            assert store.run(prefix).run_id == found
        else:
            with pytest.raises(StoreError, match=r"run_(unknown|ambiguous)"):
                store.run(prefix)


def test_names_that_are_not_utf8(path: Path) -> None:
    with Store(path) as store:
        store.start_run("r", "/re\udcffpo", "tree", "{}")
        store.finish_unit("r", "k", "a\udcff.py", "p")
        assert [row.run_id for row in store.runs(repository="/re\udcffpo")] == ["r"]
        with pytest.raises(StoreError, match="run_unknown"):
            store.run("\udcff")


# --- files and folders ---


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_may_read(path: Path) -> None:
    old = os.umask(0)
    try:
        with Store(path) as store:
            store.finish_unit("r", "k", "p", "x")
            assert mode(path.parent) == 0o700
            assert {mode(file) for file in path.parent.iterdir()} == {0o600}
    finally:
        os.umask(old)


@pytest.mark.parametrize("name", ["file/store", "file/no/such/store", "n" * 300])
def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="store_unusable") as caught:
        Store(tmp_path / name)
    assert caught.value.fields["path"] == str(tmp_path / name)
    assert caught.value.fields["detail"]


def test_a_folder_and_a_planted_link_are_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    victim.chmod(0o644)
    link = tmp_path / "link"
    link.symlink_to(victim)
    for place in (link, tmp_path):
        with pytest.raises(StoreError, match="store_unusable"):
            Store(place)
    assert (victim.read_bytes(), mode(victim), link.is_symlink()) == (b"precious", 0o644, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="store_unusable"):
        Store(tmp_path / "store")


def _truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "random": lambda data: bytes(range(256)) * 40,
    "text": lambda data: b"not a database\n" * 40,
    "wrong header": lambda data: b"SQLite format 9\0" + data[16:],
    "truncated": _truncated,
    "truncated in a page": lambda data: data[:5000],
    "pages lost": lambda data: data[:4096] + bytes(len(data) - 4096),
    "page overwritten": lambda data: data[:8192] + b"\xff" * 4096 + data[12288:],
    "header only": lambda data: data[:100],
}


def meet(store: Store) -> None:
    """Go where the damage may be: it is found when it is met, not when the store is opened."""
    store.runs()
    store.analyses([f"key{at}" for at in range(30)])
    store.units_of("20260101-000000-aaaaaa")
    with suppress(StoreError):  # of a transaction one cannot say that it was done
        store.start_run("20260101-000000-aaaaaa", "/repo", "tree", "{}")
        store.finish_run("20260101-000000-aaaaaa", "finished", "{}")
        store.prune(0)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_bad_file_is_set_aside_never_deleted(path: Path, damage: str) -> None:
    bad = DAMAGE[damage](filled(path).read_bytes())
    for number in (1, 2):
        path.write_bytes(bad)
        with Store(path) as store:
            meet(store)
            store.finish_unit("r", "k", "a.py", "p")
            assert store.set_aside == path.with_name(f"{path.name}.corrupt-{number}")
            assert store.analyses([f"key{at}" for at in range(30)]) == {}
        assert path.with_name(f"{path.name}.corrupt-{number}").read_bytes() == bad
    with Store(path) as store:
        assert store.analyses(["k"]) == {"k": "p"}


@pytest.mark.parametrize("content", [b"", None])
def test_an_empty_file_is_a_new_store(path: Path, content: bytes | None) -> None:
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    with Store(path) as store:
        assert store.runs() == []
    assert sorted(file.name for file in path.parent.iterdir()) == ["seal.key", path.name]


def test_a_newer_store_is_left_alone(path: Path) -> None:
    filled(path, 1)
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={VERSION + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="store_newer") as caught:
        Store(path)
    assert caught.value.fields["version"] == VERSION + 1
    assert path.read_bytes() == before


def test_another_programs_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.executescript(f"CREATE TABLE theirs (x); PRAGMA user_version={VERSION};")
    db.close()
    with pytest.raises(StoreError, match="store_unusable"):
        Store(path)
    assert path.exists()


def test_one_unreadable_row_does_not_spoil_the_store(path: Path) -> None:
    filled(path, 3)
    db = sqlite3.connect(path)
    db.execute("UPDATE analyses SET payload=CAST(x'7bff7d' AS TEXT) WHERE key='key1'")
    db.commit()
    db.close()
    with Store(path) as store:
        found = store.analyses(["key0", "key1", "key2"])
    assert found == {"key0": "payload " * 60, "key2": "payload " * 60}


def test_values_of_other_types_spoil_nothing(path: Path) -> None:
    """Flipped bits, and files that somebody planted, do not keep to the types of the columns."""
    filled(path, 3)
    with Store(path) as store:
        store.memorise({"m": "memo"})
        store.note_egress("20260101-000000-aaaaaa", ["row"])
    db = sqlite3.connect(path)
    db.executescript(
        "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql=replace(sql, 'STRICT', '') WHERE "
        "name IN ('runs', 'analyses'); UPDATE sqlite_schema SET sql=replace(sql, 'STRICT,', '') WHERE "
        "name='egress'; UPDATE sqlite_schema SET sql=replace(sql, 'STRICT,', '') WHERE name='memos';"
    )
    db.close()
    db = sqlite3.connect(path)
    db.execute("UPDATE runs SET created=x'ff', updated='x', label=x'00ff', seal=x'ff'")
    db.execute("UPDATE analyses SET payload=x'ff', used='x', seal=7.5 WHERE key='key1'")
    db.execute("UPDATE memos SET payload=x'ff'")
    db.execute("UPDATE egress SET number='many', row=x'ff'")
    db.commit()
    db.close()
    with Store(path) as store:
        (row,) = store.runs()
        assert (row.created, row.updated, row.intact) == (0.0, 0.0, False)
        assert store.unfinished("/repo", "") == []
        assert sorted(store.analyses(["key0", "key1", "key2"])) == ["key0", "key2"]
        assert store.memos(["m"]) == {}
        assert store.egress(row.run_id)[1] is False
        store.note_egress(row.run_id, ["another"])
        assert store.check().unsealed == 4
        store.used(["key1"])
        store.prune(0)


# --- processes ---

WRITE = """
import sys
from pathlib import Path
from review_agent.checkpoints.store import Store
store = Store(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    store.finish_unit(sys.argv[2], f"{sys.argv[2]}-{number}", f"{number}.py", "p" * 500)
    print(number, flush=True)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", WRITE, str(path), name, str(count)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/")


def test_processes_that_meet_in_a_new_store_lose_nothing(path: Path) -> None:
    processes = [writer(path, f"w{number}", 20) for number in range(4)]
    errors = [process.communicate(timeout=60)[1].decode() for process in processes]
    assert errors == [""] * 4
    with Store(path) as store:
        assert [store.units_of(f"w{number}") for number in range(4)] == [20] * 4


def test_processes_that_meet_in_a_bad_store_set_it_aside_once(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"bad" * 1000)
    processes = [writer(path, f"w{number}", 5) for number in range(3)]
    assert [process.communicate(timeout=60)[1].decode() for process in processes] == [""] * 3
    with Store(path) as store:
        assert [store.units_of(f"w{number}") for number in range(3)] == [5] * 3
    assert len(list(path.parent.glob("*.corrupt-?"))) == 1


@pytest.mark.parametrize("acknowledged", [1, 25])
def test_what_was_acknowledged_survives_a_kill(path: Path, acknowledged: int) -> None:
    process = writer(path, "w", 100_000)
    assert process.stdout is not None
    seen = [int(process.stdout.readline()) for _ in range(acknowledged)]
    process.send_signal(signal.SIGKILL)
    seen += [int(row) for row in process.communicate()[0].split(b"\n")[:-1]]
    with Store(path) as store:
        found = store.analyses([f"w-{number}" for number in seen])
    assert len(found) == len(seen) >= acknowledged
    assert set(found.values()) == {"p" * 500}
    assert list(path.parent.glob("*.corrupt*")) == []


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/state")
    assert default_path("~/x/s.db") == Path("/home/u/x/s.db")
    assert default_path("/x/s.db") == Path("/x/s.db")
    if sys.platform == "linux":
        assert default_path() == Path("/home/u/state/review-agent/store.sqlite3")
