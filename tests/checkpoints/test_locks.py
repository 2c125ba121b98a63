"""Run locks: one driver a run, known by its process, and none after its death."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from review_agent.agent.errors import StoreError
from review_agent.checkpoints.locks import RunLocks

HOLD = """
import sys
from pathlib import Path
from review_agent.checkpoints.locks import RunLocks
with RunLocks(Path(sys.argv[1])).hold(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def driver(folder: Path, run: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that drives a run."""
    argv = [sys.executable, "-c", HOLD, str(folder), run]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def locks(tmp_path: Path) -> RunLocks:
    return RunLocks(tmp_path / "locks")


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "locks").iterdir())


def test_a_run_is_held_while_it_is_driven(locks: RunLocks, tmp_path: Path) -> None:
    assert not locks.held("r")
    with locks.hold("r"):
        assert (locks.held("r"), locks.held("other"), locks.driver("r")) == (True, False, os.getpid())
    assert (locks.held("r"), locks.driver("r"), names(tmp_path)) == (False, 0, [])


def test_a_run_is_never_driven_twice(locks: RunLocks, tmp_path: Path) -> None:
    with driver(tmp_path / "locks", "r") as process:
        assert (locks.held("r"), locks.driver("r")) == (True, process.pid)
        with pytest.raises(StoreError, match="run_busy") as caught, locks.hold("r"):
            pass
        assert caught.value.fields == {"run": "r", "pid": process.pid}
        with locks.hold("another"):
            pass
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)
    with locks.hold("r"):
        pass


def test_the_lock_of_a_dead_process_is_taken_over(locks: RunLocks, tmp_path: Path) -> None:
    with driver(tmp_path / "locks", "r") as process:
        process.kill()
        process.wait(10)
        assert names(tmp_path) == ["r.lock", "r.pid"]
        assert not locks.held("r")
        with locks.hold("r"):
            assert locks.driver("r") == os.getpid()
    assert names(tmp_path) == []


def test_a_look_at_a_run_does_not_keep_it_from_being_driven(locks: RunLocks, tmp_path: Path) -> None:
    """Whoever asks `held` has the lock for a moment."""
    (tmp_path / "locks").mkdir()
    looking = FileLock(tmp_path / "locks" / "r.lock", thread_local=False)
    looking.acquire()
    timer = threading.Timer(0.1, looking.release)
    timer.start()
    with locks.hold("r"):
        assert locks.driver("r") == os.getpid()
    timer.join()


def test_a_pid_that_cannot_be_read_is_unknown(locks: RunLocks, tmp_path: Path) -> None:
    with driver(tmp_path / "locks", "r"):
        (tmp_path / "locks" / "r.pid").write_text("nonsense")
        assert (locks.held("r"), locks.driver("r")) == (True, 0)
        with pytest.raises(StoreError) as caught, locks.hold("r"):
            pass
        assert caught.value.fields["pid"] == "?"


@pytest.mark.parametrize("run", ["../../evil", "a/b", "a\0b", "..", "长", "x y"])
def test_no_name_leaves_the_folder(locks: RunLocks, tmp_path: Path, run: str) -> None:
    with locks.hold(run):
        assert locks.held(run)
        assert len(names(tmp_path)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]


def test_a_place_that_cannot_hold_locks(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="store_unusable"), RunLocks(tmp_path / "file").hold("r"):
        pass


def test_tidy_removes_what_nobody_drives_any_more(locks: RunLocks, tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    folder.mkdir()
    for name in ("old.lock", "old.pid", "young.lock"):
        (folder / name).touch()
    with driver(folder, "driven"):
        for name in ("old.lock", "driven.lock"):
            os.utime(folder / name, (time.time() - 7200,) * 2)
        locks.tidy()
        assert names(tmp_path) == ["driven.lock", "driven.pid", "young.lock"]
        assert locks.held("driven")


def test_tidy_of_no_folder(locks: RunLocks) -> None:
    locks.tidy()
