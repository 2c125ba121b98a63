"""Memos, and what is forgotten when it is old."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from review_agent.checkpoints.store import Store

DAY = 86400.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.sqlite3") as store:
        yield store


def alter(store: Store, sql: str, *values: object) -> None:
    with sqlite3.connect(store.path) as db:
        db.execute(sql, values)
    db.close()


def column(store: Store, sql: str) -> list[object]:
    with sqlite3.connect(store.path) as db:
        found = [row[0] for row in db.execute(sql)]
    db.close()
    return found


# --- memos


def test_memos_are_kept_and_replaced(store: Store) -> None:
    assert store.memos([]) == store.memos(["a"]) == {}
    store.memorise({"a": "1", "b": "2"})
    store.memorise({"b": "3", "c": "4"})
    store.memorise({})
    assert store.memos(["a", "b", "c", "d"]) == {"a": "1", "b": "3", "c": "4"}
    store.memorise({str(at): "x" for at in range(1500)})
    assert len(store.memos([str(at) for at in range(1500)])) == 1500


@pytest.mark.parametrize("sql", ["payload='2'", "seal=''", "key='b'", "seal=upper(seal)"])
def test_a_memo_that_was_altered_is_not_believed(store: Store, sql: str) -> None:
    store.memorise({"a": "1"})
    alter(store, f"UPDATE memos SET {sql}")
    assert store.memos(["a", "b"]) == {}


def test_an_analysis_is_no_memo(store: Store) -> None:
    store.finish_unit("r", "k", "a.py", "payload")
    alter(store, "INSERT INTO memos SELECT key, used, payload, seal FROM analyses")
    assert store.memos(["k"]) == {}


# --- prune


def run_of(store: Store, run: str, days: float, keys: str, used: float | None = None) -> None:
    """A run of some days ago, and its units, last used then or at another time."""
    store.start_run(run, "/repo", "tree", "{}")
    for key in keys:
        store.finish_unit(run, key, f"{key}.py", key.upper())
    store.note_egress(run, ["row"])
    store.note_call(run, "call")
    store.judge(run, "key", run, 1, "judgement")
    store.save_state(run, run, 1, "state")
    store.finish_run(run, "finished", "{}")
    alter(store, "UPDATE runs SET updated=? WHERE run_id=?", time.time() - days * DAY, run)
    for key in keys:
        when = time.time() - (days if used is None else used) * DAY
        alter(store, "UPDATE analyses SET used=? WHERE key=?", when, key)


def pruned(store: Store, days: float) -> tuple[int, int, int]:
    done = store.prune(time.time() - days * DAY)
    return done.runs, done.analyses, done.driven


def test_what_is_old_goes_with_all_its_rows(store: Store) -> None:
    run_of(store, "old", 100, "ab")
    run_of(store, "new", 1, "cd")
    assert pruned(store, 90) == (1, 2, 0)
    assert store.analyses("abcd") == {"c": "C", "d": "D"}
    assert [row.run_id for row in store.runs()] == ["new"]
    assert (store.units_of("old"), store.units_of("new")) == (0, 2)
    assert (store.egress("old"), store.egress("new")) == (([], True), (["row"], True))
    assert (store.calls("old"), store.calls("new")) == (([], True), (["call"], True))
    assert (store.judged("old"), store.judged("new")) == ({}, {"key": "judgement"})
    assert (store.state("old"), store.state("new")) == (None, (1, "state"))
    assert column(store, "SELECT DISTINCT run_id FROM heads") == ["new"]
    assert store.check().sound


def test_analyses_of_runs_that_are_kept_stay(store: Store) -> None:
    run_of(store, "old", 100, "ab")
    run_of(store, "new", 1, "bc", used=100)
    assert pruned(store, 90) == (1, 1, 0)
    assert store.analyses("abc") == {"b": "B", "c": "C"}


def test_analyses_that_were_used_lately_outlive_their_run(store: Store) -> None:
    run_of(store, "old", 100, "abc")
    store.used(["a", "b"])
    assert pruned(store, 90) == (1, 1, 0)
    assert store.analyses("abc") == {"a": "A", "b": "B"}


def test_a_run_that_is_driven_stays_with_its_analyses(store: Store) -> None:
    run_of(store, "old", 100, "ab")
    store.claim("old", ["x"])
    with store.locks.hold("old"):
        assert pruned(store, 90) == (0, 0, 1)
        assert store.analyses("ab") == {"a": "A", "b": "B"}
        with store.locks.hold("other"):
            assert store.claim("other", ["x"]).busy == {"x"}
    assert pruned(store, 90) == (1, 2, 0)


def test_old_memos_and_claims_of_nobody_go(store: Store) -> None:
    store.memorise({"a": "1", "b": "2"})
    alter(store, "UPDATE memos SET used=1 WHERE key='a'")
    store.claim("dead", ["x"])
    store.prune(time.time() - DAY)
    assert store.memos(["a", "b"]) == {"b": "2"}
    assert column(store, "SELECT key FROM claims") == []


def test_a_dry_run_counts_and_changes_nothing(store: Store) -> None:
    run_of(store, "old", 100, "ab")
    before = [column(store, f"SELECT count(*) FROM {name}") for name in ("runs", "analyses", "run_units")]
    done = store.prune(time.time(), dry_run=True)
    assert (done.runs, done.analyses, done.before) == (1, 2, done.after)
    after = [column(store, f"SELECT count(*) FROM {name}") for name in ("runs", "analyses", "run_units")]
    assert before == after
    assert pruned(store, 0) == (1, 2, 0)


def test_units_of_a_run_without_a_row_keep_nothing(store: Store) -> None:
    store.finish_unit("lost", "a", "a.py", "A")
    store.finish_unit("driven", "b", "b.py", "B")
    with store.locks.hold("driven"):
        assert store.prune(time.time() + 1).analyses == 1
        assert store.analyses("ab") == {"b": "B"}


@pytest.mark.parametrize("table", ["egress", "calls", "heads", "verdicts", "agent_states"])
def test_what_runs_without_a_row_left_behind_goes(store: Store, table: str) -> None:
    """The store was set aside under a run, which went on and then died."""
    for run in ("lost", "driven"):
        run_of(store, run, 1, "")
    alter(store, "DELETE FROM runs")
    with store.locks.hold("driven"):
        assert pruned(store, 90) == (0, 0, 0)
        assert {*column(store, f"SELECT run_id FROM {table}")} == {"driven"}


def test_a_run_that_a_damaged_index_hides_keeps_its_ledger(store: Store) -> None:
    """SQLite believes its indexes: here that of the runs' ids leads to an empty page."""
    run_of(store, "new", 1, "a")
    alter(store, "CREATE TABLE other (id TEXT PRIMARY KEY)")
    with sqlite3.connect(store.path) as db:
        db.execute("PRAGMA writable_schema=ON")
        root = "(SELECT rootpage FROM sqlite_schema WHERE name='sqlite_autoindex_other_1')"
        db.execute(f"UPDATE sqlite_schema SET rootpage={root} WHERE name='sqlite_autoindex_runs_1'")
    db.close()
    with Store(store.path) as again:
        again.prune(0.0)
        assert (again.egress("new"), again.calls("new")) == ((["row"], True), (["call"], True))
        alter(store, "DELETE FROM egress")
        alter(store, "DELETE FROM heads")
        assert again.egress("new") == ([], False)


def test_the_space_is_given_back(store: Store) -> None:
    for at in range(100):
        store.finish_unit("r", f"k{at}", "a.py", "payload " * 1500)
    done = store.prune(time.time() + 1)
    assert done.analyses == 100
    assert done.before > 1_000_000 > 100_000 > done.after


# --- used


def test_the_time_of_use_is_kept_by_the_day(store: Store) -> None:
    for key in "abc":
        store.finish_unit("r", key, "a.py", key)
    hour = time.time() - 3600
    alter(store, "UPDATE analyses SET used=? WHERE key='a'", hour)
    alter(store, "UPDATE analyses SET used=? WHERE key IN ('b', 'c')", time.time() - 2 * DAY)
    store.used(["a", "b", "none"])
    ages = [
        time.time() - float(str(used)) for used in column(store, "SELECT used FROM analyses ORDER BY key")
    ]
    assert [round(age / 3600) for age in ages] == [1, 0, 48]
    store.used([])
