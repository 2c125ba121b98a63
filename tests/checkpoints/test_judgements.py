"""What an agent has come to outlives it: the first judgement of a key stays, and the newest snapshot."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from review_agent.checkpoints.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.sqlite3") as store:
        yield store


def alter(store: Store, sql: str) -> None:
    with sqlite3.connect(store.path) as db:
        db.execute(sql)
    db.close()


def test_the_first_judgement_stays(store: Store) -> None:
    assert store.judged("work") == {}
    assert store.judge("work", "b", "run1", 1, "first of b") is True
    assert store.judge("work", "a", "run1", 2, "first of a") is True
    assert store.judge("work", "b", "run2", 3, "second of b") is False
    assert store.judge("other", "b", "run2", 3, "of other work") is True
    with Store(store.path) as again:
        assert again.judge("work", "a", "run3", 1, "third") is False
        assert list(again.judged("work").items()) == [("b", "first of b"), ("a", "first of a")]
        assert again.judged("other") == {"b": "of other work"}


def test_judgements_come_in_the_order_written(store: Store) -> None:
    keys = [f"{at * 7 % 20:02}" for at in range(20)]
    for key in keys:
        store.judge("work", key, "run", 1, key)
    assert list(store.judged("work")) == keys


@pytest.mark.parametrize(
    "change",
    [
        "payload='x'",
        "key='c'",
        "work='x'",
        "number=7",
        "run_id='x'",
        "turn=9",
        "seal=''",
        "seal='é'",
        "payload=CAST(x'ff7b' AS TEXT)",
    ],
)
def test_a_judgement_that_was_altered_is_not_believed_and_replaced(store: Store, change: str) -> None:
    store.judge("work", "a", "run", 1, "of a")
    store.judge("work", "b", "run", 2, "of b")
    alter(store, f"UPDATE verdicts SET {change} WHERE key='a'")
    assert (store.judged("work"), store.judged("x")) == ({"b": "of b"}, {})
    assert store.judge("work", "a", "run", 3, "anew") is True
    assert list(store.judged("work").items()) == [("b", "of b"), ("a", "anew")]


def test_a_judgement_of_one_work_is_none_of_another(store: Store) -> None:
    store.judge("work", "a", "run", 1, "of a")
    alter(
        store, "INSERT INTO verdicts SELECT 'other', key, number, run_id, turn, payload, seal FROM verdicts"
    )
    assert store.judged("other") == {}


def test_a_number_without_end_stops_nothing(store: Store) -> None:
    store.judge("work", "a", "run", 1, "of a")
    alter(store, f"UPDATE verdicts SET number={(1 << 63) - 1}")
    assert store.judge("work", "b", "run", 2, "of b") is True
    assert store.judged("work") == {"b": "of b"}


def test_values_of_other_types_spoil_nothing(store: Store) -> None:
    """As flipped bits and planted files have them."""
    store.start_run("run", "/repo", "tree", "{}")
    for key in "abc":
        store.judge("work", key, "run", 1, f"of {key}")
    store.save_state("work", "run", 1, "one")
    store.note_egress("run", ["row"])
    store.note_call("run", "call")
    with sqlite3.connect(store.path) as db:
        db.execute("PRAGMA writable_schema=ON")
        db.execute("UPDATE sqlite_schema SET sql=replace(sql, 'STRICT,', '')")
    db.close()
    alter(store, "UPDATE verdicts SET number='many', turn=x'ff' WHERE key='a'")
    alter(store, "UPDATE verdicts SET payload=x'ff', number=7.5 WHERE key='b'")
    alter(store, "UPDATE agent_states SET turn=x'ff'")
    alter(store, "UPDATE heads SET last=x'ff' WHERE ledger='egress'")
    alter(store, "UPDATE heads SET last='many', seal=7.5 WHERE ledger='calls'")
    with Store(store.path) as again:
        assert (again.judged("work"), again.state("work")) == ({"c": "of c"}, None)
        again.note_egress("run", ["another"])
        again.note_call("run", "another")
        assert again.egress("run") == (["row", "another"], False)
        assert again.calls("run") == (["call", "another"], False)
        assert (again.check().unsealed, again.check().cut) == (5, 2)
        assert again.judge("work", "a", "run", 1, "anew") is True
        again.save_state("work", "run", 2, "two")
        assert (again.judged("work"), again.state("work")) == ({"c": "of c", "a": "anew"}, (2, "two"))


def test_the_newest_snapshot_counts(store: Store) -> None:
    assert store.state("work") is None
    store.save_state("work", "run1", 10, "ten")
    store.save_state("other", "run1", 99, "other")
    store.save_state("work", "run2", 3, "three")
    with Store(store.path) as again:
        assert (again.state("work"), again.state("other")) == ((3, "three"), (99, "other"))


@pytest.mark.parametrize("change", ["payload='x'", "work='x'", "run_id='x'", "turn=9", "seal=''", "seal='é'"])
def test_a_snapshot_that_was_altered_is_none(store: Store, change: str) -> None:
    store.save_state("work", "run", 1, "one")
    alter(store, f"UPDATE agent_states SET {change}")
    assert (store.state("work"), store.state("x")) == (None, None)
    store.save_state("work", "run", 2, "two")
    assert store.state("work") == (2, "two")


def test_another_users_judgements_are_not_believed(store: Store, tmp_path: Path) -> None:
    with Store(store.path, home=tmp_path / "attacker") as theirs:
        theirs.judge("work", "a", "run", 1, "refuted")
        theirs.save_state("work", "run", 1, "all done")
    assert (store.judged("work"), store.state("work")) == ({}, None)
    assert store.judge("work", "a", "run", 1, "ours") is True
    assert store.judged("work") == {"a": "ours"}
