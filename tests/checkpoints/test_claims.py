"""Claims: what a run may take, while others live, after their death, and after its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_locks import driver

from review_agent.checkpoints.store import Claimed, Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as store:
        yield store


def claimed(mine: str = "", done: dict[str, str] | None = None, busy: str = "") -> Claimed:
    return Claimed(frozenset(mine), done or {}, frozenset(busy))


def test_nothing_is_taken_twice_while_its_owner_lives(store: Store) -> None:
    with store.locks.hold("one"), store.locks.hold("two"):
        assert store.claim("one", "abc") == claimed("abc")
        assert store.claim("two", "bcd") == claimed("d", busy="bc")
        store.finish_unit("one", "b", "b.py", "B")
        assert store.claim("two", "bcd") == claimed("d", {"b": "B"}, "c")
        store.release("one", ["c"])
        assert store.claim("two", "abcd") == claimed("cd", {"b": "B"}, "a")


def test_what_is_finished_is_done_for_everybody(store: Store) -> None:
    store.finish_unit("one", "a", "a.py", "A")
    assert store.claim("two", "a") == store.claim("one", "a") == claimed(done={"a": "A"})


def test_the_claims_of_a_dead_run_are_free(store: Store, tmp_path: Path) -> None:
    with driver(tmp_path / "locks", "other") as process:
        store.claim("other", "ab")
        assert store.claim("me", "abc") == claimed("c", busy="ab")
        process.kill()
        process.wait(10)
        assert store.claim("me", "abc") == claimed("abc")


def test_a_run_that_goes_on_has_its_own_old_claims(store: Store) -> None:
    with store.locks.hold("me"):
        store.claim("me", "ab")
    with store.locks.hold("me"):
        assert store.claim("me", "abc") == claimed("abc")


def test_nobody_releases_what_is_anothers(store: Store) -> None:
    with store.locks.hold("one"), store.locks.hold("two"):
        store.claim("one", "ab")
        store.release("two", "ab")
        assert store.claim("two", "ab") == claimed(busy="ab")


def test_the_end_of_a_run_frees_its_claims_and_no_others(store: Store) -> None:
    with store.locks.hold("one"), store.locks.hold("two"), store.locks.hold("three"):
        store.start_run("one", "/repo", "tree", "{}")
        store.claim("one", "ab")
        store.claim("two", "cd")
        store.finish_run("one", "stopped", "{}")
        assert store.claim("three", "abcd") == claimed("ab", busy="cd")


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 2000])
def test_many_at_once(store: Store, count: int) -> None:
    keys = [f"key{at}" for at in range(count)]
    with store.locks.hold("one"), store.locks.hold("two"):
        assert store.claim("one", keys) == Claimed(frozenset(keys), {}, frozenset())
        assert store.claim("two", keys) == Claimed(frozenset(), {}, frozenset(keys))


TAKE = """
import sys
from pathlib import Path
from review_agent.checkpoints.store import Store
path, run = Path(sys.argv[1]), sys.argv[2]
with Store(path) as store, store.locks.hold(run):
    sys.stdin.readline()
    for at in range(40):
        if store.claim(run, [f"key{at}"]).mine:
            print(at, flush=True)
            store.finish_unit(run, f"key{at}", "a.py", run)
"""


def test_processes_share_the_work(path: Path) -> None:
    argv = [sys.executable, "-c", TAKE, str(path)]
    workers = [
        subprocess.Popen([*argv, f"w{at}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
        for at in range(4)
    ]
    said = [worker.communicate(b"go\n", timeout=60)[0].split() for worker in workers]
    done = sorted(int(number) for numbers in said for number in numbers)
    assert done == list(range(40))
    with Store(path) as store:
        assert len(store.analyses([f"key{at}" for at in range(40)])) == 40
