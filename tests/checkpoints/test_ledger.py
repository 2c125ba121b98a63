"""The numbered ledgers, of what was sent and of what tools were called: in order, whole, or known not to be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from review_agent.agent.errors import StoreError
from review_agent.checkpoints.inspection import inspect
from review_agent.checkpoints.store import Store

LEDGERS = ("egress", "calls")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.sqlite3") as store:
        yield store


def alter(store: Store, *statements: str) -> None:
    with sqlite3.connect(store.path) as db:
        for sql in statements:
            db.execute(sql)
    db.close()


def note(store: Store, ledger: str, run: str, *rows: str) -> None:
    if ledger == "egress":
        store.note_egress(run, rows)
    else:
        for row in rows:
            store.note_call(run, row)


def noted(store: Store, ledger: str, run: str) -> tuple[list[str], bool]:
    return store.egress(run) if ledger == "egress" else store.calls(run)


@pytest.mark.parametrize("ledger", LEDGERS)
@pytest.mark.parametrize("started", [False, True])
def test_a_ledger_keeps_its_order(store: Store, ledger: str, started: bool) -> None:
    if started:
        store.start_run("r", "/repo", "tree", "{}")
        assert noted(store, ledger, "r") == ([], True)
    note(store, ledger, "r", "b", "a")
    note(store, ledger, "other", "x")
    note(store, ledger, "r")
    note(store, ledger, "r", "c", *map(str, range(20)))
    for opened in (store, Store(store.path)):
        assert noted(opened, ledger, "r") == (["b", "a", "c", *map(str, range(20))], True)
        assert noted(opened, ledger, "other") == (["x"], True)
        assert noted(opened, ledger, "none") == ([], True)
    opened.close()
    assert store.check().sound
    (another,) = {*LEDGERS} - {ledger}
    assert noted(store, another, "r") == ([], True)


# What is done to the rows "one", "two", "three" of run `r`; what is left; and whether only the seal of one
# row tells of it, or also the number of rows.
ALTERED = {
    "first gone": ("DELETE FROM {t} WHERE number=1", ["two", "three"]),
    "middle gone": ("DELETE FROM {t} WHERE number=2", ["one", "three"]),
    "last gone": ("DELETE FROM {t} WHERE number=3", ["one", "two"]),
    "last two gone": ("DELETE FROM {t} WHERE number>1", ["one"]),
    "all gone": ("DELETE FROM {t}", []),
    "row": ("UPDATE {t} SET row='none' WHERE number=2", ["one", "none", "three"]),
    "seal": ("UPDATE {t} SET seal='' WHERE number=3", ["one", "two", "three"]),
    "no ascii": ("UPDATE {t} SET seal='é' WHERE number=3", ["one", "two", "three"]),
    "number": ("UPDATE {t} SET number=9 WHERE number=3", ["one", "two", "three"]),
    "negative": ("UPDATE {t} SET number=-1 WHERE number=3", ["three", "one", "two"]),
    "endless": (f"UPDATE {{t}} SET number={(1 << 63) - 1} WHERE number=3", ["one", "two", "three"]),
    "copied": (
        "INSERT INTO {t} SELECT run_id, 4, row, seal FROM {t} WHERE number=3",
        ["one", "two", "three", "three"],
    ),
    "planted": ("INSERT INTO {t} VALUES ('r', 4, 'planted', '')", ["one", "two", "three", "planted"]),
    "head gone": ("DELETE FROM heads", ["one", "two", "three"]),
    "head of another": ("UPDATE heads SET run_id='other'", ["one", "two", "three"]),
    "head higher": ("UPDATE heads SET last=4", ["one", "two", "three"]),
    "head's seal": ("UPDATE heads SET seal='é'", ["one", "two", "three"]),
}


@pytest.mark.parametrize("ledger", LEDGERS)
@pytest.mark.parametrize("case", ALTERED)
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_a_ledger_that_was_altered_is_known_for_it(
    store: Store, ledger: str, case: str, started: bool, again: bool
) -> None:
    sql, left = ALTERED[case]
    if started:
        store.start_run("r", "/repo", "tree", "{}")
    note(store, ledger, "r", "one", "two", "three")
    alter(store, sql.format(t=ledger))
    assert noted(store, ledger, "r") == (left, False)
    assert not store.check().sound
    with Store(store.path) as later:  # and it stays known, whatever is added behind
        if again:
            later.start_run("r", "/repo", "tree", "{}")
        note(later, ledger, "r", "four")
        found, intact = noted(later, ledger, "r")
        assert (sorted(found), intact) == (sorted([*left, "four"]), False)


@pytest.mark.parametrize("ledger", LEDGERS)
@pytest.mark.parametrize("last", [0, 1, 2])
@pytest.mark.parametrize("again", [False, True])
def test_an_end_that_is_cut_off_with_its_head_is_known(
    store: Store, ledger: str, last: int, again: bool
) -> None:
    """The number in the head is lowered, too, or the head goes with the rows: neither has a seal."""
    store.start_run("r", "/repo", "tree", "{}")
    note(store, ledger, "r", "one", "two", "three")
    lower = f"UPDATE heads SET last={last}" if last else "DELETE FROM heads"
    alter(store, f"DELETE FROM {ledger} WHERE number>{last}", lower)
    left = ["one", "two", "three"][:last]
    assert noted(store, ledger, "r") == (left, False)
    assert not store.check().sound
    with Store(store.path) as later:
        if again:
            later.start_run("r", "/repo", "tree", "{}")
        note(later, ledger, "r", "four")
        assert noted(later, ledger, "r") == ([*left, "four"], False)


@pytest.mark.parametrize("ledger", LEDGERS)
def test_a_head_does_not_count_for_the_other_ledger(store: Store, ledger: str) -> None:
    (another,) = {*LEDGERS} - {ledger}
    note(store, another, "r", "one")
    note(store, ledger, "r", "one", "two")
    alter(
        store,
        f"DELETE FROM {ledger} WHERE number=2",
        f"DELETE FROM heads WHERE ledger='{ledger}'",
        f"UPDATE heads SET ledger='{ledger}'",
    )
    assert noted(store, ledger, "r") == (["one"], False)


def test_a_ledger_that_was_cut_in_use_does_not_become_whole_again(store: Store) -> None:
    """The process that began the run is still there when rows and head go."""
    store.start_run("r", "/repo", "tree", "{}")
    store.note_egress("r", ["one"])
    alter(store, "DELETE FROM egress", "DELETE FROM heads", "DELETE FROM runs")
    store.note_egress("r", ["two"])
    assert (store.run("r").status, store.egress("r")) == ("running", (["two"], False))
    store.finish_run("r", "finished", "report")
    assert (store.run("r").report, store.egress("r")) == ("report", (["two"], False))


@pytest.mark.parametrize("ledger", LEDGERS)
def test_a_ledger_that_is_lost_while_it_is_read_is_not_an_empty_one(tmp_path: Path, ledger: str) -> None:
    path = tmp_path / "store"
    with Store(path) as store:
        store.start_run("r", "/repo", "tree", "{}")
        note(store, ledger, "r", *(f"{at} " * 500 for at in range(100)))
    data = path.read_bytes()
    middle = len(data) // 8192 * 4096
    path.write_bytes(data[:middle] + b"\xff" * (len(data) - middle))
    with Store(path) as store:
        assert noted(store, ledger, "r") == ([], False)
        assert store.set_aside is not None


def test_rows_that_could_not_be_noted_leave_the_head_alone(tmp_path: Path) -> None:
    class Failing(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:  # type: ignore[override]
            if sql.startswith("INSERT INTO egress") and "fail" in str(values):
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *values)  # type: ignore[arg-type]

    def connect(*args: object, **options: object) -> sqlite3.Connection:
        return sqlite3.connect(*args, factory=Failing, **options)  # type: ignore[call-overload,no-any-return]

    with Store(tmp_path / "store", connect=connect) as store:
        store.note_egress("r", ["one"])
        with pytest.raises(StoreError, match="store_unusable"):
            store.note_egress("r", ["two", "fail"])
        assert store.egress("r") == (["one"], True)
        store.note_egress("r", ["two"])
        assert store.egress("r") == (["one", "two"], True)


def test_a_ledger_is_read_as_of_one_moment(store: Store) -> None:
    """Another process may add rows between two statements; here it does so between any two."""
    with Store(store.path) as other:

        class Adding(sqlite3.Connection):
            def execute(self, sql: str, *values: object) -> sqlite3.Cursor:  # type: ignore[override]
                done = super().execute(sql, *values)  # type: ignore[arg-type]
                if "FROM egress" in sql or "heads" in sql:
                    other.note_egress("r", ["more"])
                return done

        def connect(*args: object, **options: object) -> sqlite3.Connection:
            return sqlite3.connect(*args, factory=Adding, **options)  # type: ignore[call-overload,no-any-return]

        other.note_egress("r", ["one"])
        with Store(store.path, connect=connect) as reading:
            assert [reading.egress("r")[1] for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("table", ["egress", "calls"])
def test_the_doctor_counts_ledgers_that_were_cut(store: Store, table: str) -> None:
    for run in ("r", "s"):
        store.start_run(run, "/repo", "tree", "{}")
        store.note_egress(run, ["one", "two"])
        store.note_call(run, "call")
    alter(store, f"DELETE FROM {table} WHERE run_id='r' AND number=(SELECT max(number) FROM {table})")
    for checked in (store.check(), inspect(store.path, store.path.parent)):
        assert (checked.unsealed, checked.cut, checked.problems, checked.sound) == (0, 1, (), False)
