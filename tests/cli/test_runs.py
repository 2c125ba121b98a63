"""`runs list|show|prune`: the state that a run is really in, and what goes when it is old."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from driver import Cli, Server

from review_agent.checkpoints.store import Store

OLD, NEW = "20200101-000000-aaaaaa", "20260101-000000-bbbbbb"
DAY = 86400.0


def store_of(cli: Cli) -> Path:
    return cli.home / "state" / "review-agent" / "store.sqlite3"


@contextmanager
def altered(cli: Cli) -> Iterator[sqlite3.Connection]:
    with sqlite3.connect(store_of(cli)) as db:
        yield db
    db.close()


@pytest.fixture
def filled(cli: Cli) -> Cli:
    """An old run of 200 units and a new one of 1, both with a report."""
    with Store(store_of(cli)) as store:
        for run, units in ((OLD, 200), (NEW, 1)):
            store.start_run(run, "/repo", "tree", "{}")
            for at in range(units):
                store.finish_unit(run, f"{run}-{at}", f"{at}.py", "payload " * 200)
            store.finish_run(run, "finished", '{\n  "verdict": "pass"\n}')
    with altered(cli) as db:
        db.execute("UPDATE runs SET updated=? WHERE run_id=?", (time.time() - 91 * DAY, OLD))
        db.execute("UPDATE analyses SET used=? WHERE key LIKE ?", (time.time() - 91 * DAY, f"{OLD}%"))
    return cli


def listed(cli: Cli, *args: str) -> str:
    done = cli.run("runs", *args)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize(
    ("args", "left"),
    [
        ((), [NEW]),
        (("--keep-days", "92"), [NEW, OLD]),
        (("--keep-days", "90"), [NEW]),
        (("--keep-days", "0"), []),
        (("--all",), []),
        (("--all", "--dry-run"), [NEW, OLD]),
        (("--dry-run",), [NEW, OLD]),
    ],
)
def test_prune_forgets_what_is_old(filled: Cli, args: tuple[str, ...], left: list[str]) -> None:
    listed(filled, "prune", *args)
    with Store(store_of(filled)) as store:
        assert [row.run_id for row in store.runs()] == left
        assert len(store.analyses([f"{OLD}-0", f"{NEW}-0"])) == len(left)


def test_prune_says_what_went_and_gives_the_space_back(filled: Cli) -> None:
    before = store_of(filled).stat().st_size
    told = listed(filled, "prune", "--dry-run")
    assert "会删除 1 次运行、200 个单元" in told
    told = listed(filled, "prune", "--lang", "en")
    assert "Deleted 1 runs and the results of 200 units" in told
    assert "KB to " in told
    assert store_of(filled).stat().st_size < before / 3


def test_prune_leaves_a_run_alone_that_is_being_driven(filled: Cli) -> None:
    with Store(store_of(filled)) as store, store.locks.hold(OLD):
        told = listed(filled, "prune", "--all")
        assert "已删除 1 次运行、1 个单元" in told
        assert "另有 1 次" in told
        assert [row.run_id for row in store.runs()] == [OLD]
        assert store.units_of(OLD) == 200
        assert list(store.analyses([f"{OLD}-0", f"{NEW}-0"])) == [f"{OLD}-0"]


def test_a_run_of_tomorrow_goes_with_all(filled: Cli) -> None:
    with altered(filled) as db:
        db.execute("UPDATE runs SET updated=?", (time.time() + 9 * DAY,))
        db.execute("UPDATE analyses SET used=?", (time.time() + 9 * DAY,))
    assert "0 次运行、0 个单元" in listed(filled, "prune")
    assert "2 次运行、201 个单元" in listed(filled, "prune", "--all")


@pytest.mark.parametrize(
    "args",
    [("--keep-days", "x"), ("--keep-days", "-1"), ("--keep-days",), ("--all", "--keep-days", "1"), ("x",)],
)
def test_a_wrong_use_is_2_and_forgets_nothing(filled: Cli, args: tuple[str, ...]) -> None:
    done = filled.run("runs", "prune", *args)
    assert (done.returncode, done.stdout) == (2, b"")
    with Store(store_of(filled)) as store:
        assert len(store.runs()) == 2


def test_prune_of_no_store_at_all(cli: Cli) -> None:
    assert "0 次运行" in listed(cli, "prune", "--all")


# --- the state of a run


def begin(cli: Cli) -> None:
    with Store(store_of(cli)) as store:
        store.start_run(OLD, "/repo", "tree", "{}")


def test_a_run_in_progress_and_one_whose_process_died(cli: Cli) -> None:
    begin(cli)
    with Store(store_of(cli)) as store, store.locks.hold(OLD):
        assert "进行中" in listed(cli, "list")
        assert "进行中" in listed(cli, "show", OLD)
        assert "resume" not in listed(cli, "show", OLD)
    assert "已中断" in listed(cli, "list")
    assert "已中断" in listed(cli, "show", OLD)
    assert f"review-agent resume {OLD}" in listed(cli, "show", OLD)


def test_a_killed_run_is_interrupted(cli: Cli, start_server: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "one.py").write_text("def one():\n    return 1\n")
    server = start_server(latency=20)
    process = cli.start("run", tmp_path / "tree", "--base-url", server.url)
    try:
        assert process.stderr is not None
        while line := process.stderr.readline().decode():
            if line.startswith("计划"):
                break
        assert "进行中" in listed(cli, "list")
    finally:
        process.kill()
        process.communicate()
    assert "已中断" in listed(cli, "list")


@pytest.mark.parametrize(
    "change",
    [
        "status='finished'",
        "report='{}'",
        "seal=''",
        "label='other'",
        "repository='/elsewhere'",
        "label=CAST(x'ff1b5b' AS TEXT), updated=1e300",
    ],
)
def test_a_row_that_was_changed_is_said_to_be_damaged(cli: Cli, change: str) -> None:
    begin(cli)
    with altered(cli) as db:
        db.execute(f"UPDATE runs SET {change}")
    told = listed(cli, "list")
    assert "记录损坏" in told
    assert "\x1b" not in told
    told = listed(cli, "show", OLD)
    assert "记录损坏" in told
    assert "请重新运行" in told
    assert "review-agent resume" not in told
    assert cli.run("resume", OLD).returncode == 1


def test_resume_picks_the_newest_run_that_is_as_it_was_written(cli: Cli, tmp_path: Path) -> None:
    """A planted row would choose the server that is asked, and the file that the report replaces."""
    repository, target = str(tmp_path.resolve()), tmp_path / "victim"
    with Store(store_of(cli)) as store:
        store.start_run(OLD, repository, "tree", "{}")
        store.start_run(NEW, repository, "tree", json.dumps({"outputs": [["json", str(target)]]}))
    with altered(cli) as db:
        db.execute("UPDATE runs SET seal='' WHERE run_id=?", (NEW,))
    done = cli.run("resume", cwd=tmp_path)
    assert (done.returncode, OLD in done.stderr.decode()) == (1, True)  # whose request holds nothing
    with altered(cli) as db:
        db.execute("DELETE FROM runs WHERE run_id=?", (OLD,))
    done = cli.run("resume", cwd=tmp_path)
    assert (done.returncode, "没有未完成的运行" in done.stderr.decode()) == (1, True)


def test_resume_finds_a_run_behind_many_later_ones(cli: Cli, tmp_path: Path) -> None:
    with Store(store_of(cli)) as store:
        store.start_run(OLD, str(tmp_path.resolve()), "tree", "{}")
        for at in range(60):
            store.start_run(f"{NEW}{at}", str(tmp_path.resolve()), "tree", "{}")
            store.finish_run(f"{NEW}{at}", "finished", "{}")
    assert OLD in cli.run("resume", cwd=tmp_path).stderr.decode()
