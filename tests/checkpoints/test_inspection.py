"""A look at a store: nothing is made or changed by it, and whatever is not as it was written is counted."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from review_agent.agent.errors import StoreError
from review_agent.checkpoints.inspection import inspect, trouble
from review_agent.checkpoints.rows import Checked
from review_agent.checkpoints.store import VERSION, Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with a row of each kind: 1 run, 40 units, 1 memo, 2 rows and 1 of the ledgers and their heads, 2 judgements,
    1 snapshot."""
    path = tmp_path / "state" / "store.sqlite3"
    with Store(path) as store:
        store.start_run("run", "/repo", "tree", "{}")
        for at in range(40):
            store.finish_unit("run", f"key{at}", f"{at}.py", "payload " * 60)
        store.memorise({"memo": "[]"})
        store.note_egress("run", ["one", "two"])
        store.note_call("run", "call")
        store.judge("work", "a", "run", 1, "of a")
        store.judge("work", "b", "run", 2, "of b")
        store.save_state("work", "run", 2, "state")
        store.finish_run("run", "finished", "{}")
    return path


WHOLE = Checked(runs=1, analyses=40, memos=1, egress=2, calls=1, heads=2, verdicts=2, agent_states=1)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_sound_store(path: Path) -> None:
    before = content(path.parent)
    checked = inspect(path, path.parent)
    assert (checked, checked.sound, trouble(path)) == (WHOLE, True, None)
    assert content(path.parent) == before
    with Store(path) as store:
        assert store.check() == WHOLE
        assert inspect(path, path.parent) == WHOLE  # while somebody has it open


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE analyses SET payload='x' WHERE key='key3'",
        "UPDATE analyses SET key='other' WHERE key='key3'",
        "UPDATE runs SET report='x'",
        "UPDATE runs SET status='stopped'",
        "UPDATE memos SET payload='x'",
        "UPDATE egress SET row='x' WHERE number=1",
        "UPDATE egress SET number=7 WHERE number=1",
        "UPDATE egress SET run_id='x' WHERE number=1",
        "UPDATE memos SET seal=''",
        "UPDATE calls SET row='x'",
        "UPDATE heads SET last=2 WHERE ledger='calls'",
        "UPDATE verdicts SET payload='x' WHERE key='a'",
        "UPDATE verdicts SET number=3 WHERE key='a'",
        "UPDATE agent_states SET turn=3",
    ],
)
def test_a_row_that_is_not_as_it_was_written_is_counted(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute(sql)
    db.close()
    checked = inspect(path, path.parent)
    assert (checked.unsealed, checked.problems, checked.sound) == (1, (), False)
    assert trouble(path) is None


def test_without_the_key_no_seal_holds_and_none_is_made(path: Path, tmp_path: Path) -> None:
    assert inspect(path, tmp_path).unsealed == 50
    (tmp_path / "seal.key").write_bytes(b"short")
    assert inspect(path, tmp_path).unsealed == 50
    assert (tmp_path / "seal.key").read_bytes() == b"short"


def test_the_shared_key_is_known_too(tmp_path: Path) -> None:
    with Store(tmp_path / "s", home=tmp_path / "home", cache_key="team") as store:
        store.memorise({"memo": "[]"})
    assert inspect(tmp_path / "s", tmp_path / "elsewhere", "team").sound
    assert not inspect(tmp_path / "s", tmp_path / "elsewhere", "other").sound


@pytest.mark.parametrize("at", [4096, 8192, 20480])
def test_a_damaged_page_is_found_and_nothing_is_set_aside(path: Path, at: int) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:at] + b"\xff" * 4096 + data[at + 4096 :])
    before = content(path.parent)
    assert inspect(path, path.parent).problems != ()
    assert content(path.parent) == before


@pytest.mark.parametrize("data", [b"not a database\n" * 400, b"SQLite format 9\0" + bytes(8000)])
def test_a_file_that_is_no_database(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    fault = trouble(path)
    assert fault is not None
    assert fault.key == "store_is_damaged"
    assert str(fault.fields["command"]).startswith("mv /")
    assert inspect(path, path.parent).problems != ()
    assert path.read_bytes() == data


def test_a_newer_store(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={VERSION + 1}")
    db.close()
    fault = trouble(path)
    assert fault is not None
    assert (fault.key, fault.fields["version"]) == ("store_newer", VERSION + 1)


@pytest.mark.parametrize("name", ["store", "deep/er/store"])
def test_where_there_is_none_none_is_made(tmp_path: Path, name: str) -> None:
    assert trouble(tmp_path / name) is None
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_made_where_nothing_is_to_be_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="store_unusable"):
        inspect(tmp_path / "store", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file/store", "file/no/such/store", "n" * 300, "folder", "link"])
def test_a_place_that_cannot_hold_one(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    fault = trouble(tmp_path / name)
    assert fault is not None
    assert (fault.key, bool(fault.fields["detail"])) == ("store_unusable", True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_may_not_be_written(path: Path) -> None:
    path.chmod(0o400)
    fault = trouble(path)
    assert fault is not None
    assert fault.key == "store_unusable"
