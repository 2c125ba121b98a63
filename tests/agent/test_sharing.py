"""Runs on one store take turns: nothing is asked twice, nothing waits for a dead one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from scripted import unit, virtually

from review_agent.agent.cache import freeze
from review_agent.agent.models import Analysis, ReviewUnit
from review_agent.agent.schedule import Gauge, run_requests
from review_agent.agent.sharing import Desk
from review_agent.checkpoints.store import Store

UNITS = tuple(unit(f"{name}.py", f"{name} = 1") for name in "abcd")
KEYS = {(one.path, one.index): f"key of {one.path}" for one in UNITS}


class Model:
    """Answers after a moment; says what it was asked. `failing` paths get no usable answer."""

    def __init__(self, failing: Sequence[str] = ()) -> None:
        self.asked: list[str] = []
        self._failing = failing

    async def ask(self, units: Sequence[ReviewUnit]) -> list[Analysis]:
        self.asked += [one.path for one in units]
        await asyncio.sleep(1)
        return [Analysis(one, failure="answer_empty" if one.path in self._failing else "") for one in units]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


def paths(analyses: Sequence[Analysis]) -> list[str]:
    return [analysis.unit.path for analysis in analyses]


def test_what_is_done_is_taken_over_and_what_is_being_done_is_left(path: Path) -> None:
    with Store(path) as mine, Store(path) as other, other.locks.hold("other"):
        other.claim("other", [KEYS["a.py", 0], KEYS["b.py", 0]])
        other.finish_unit("other", KEYS["a.py", 0], "a.py", freeze(Analysis(UNITS[0])))
        model = Model()
        got = asyncio.run(Desk(mine, "mine", KEYS, model.ask).analyze(UNITS))
        assert (paths(got), model.asked) == (["a.py", "c.py", "d.py"], ["c.py", "d.py"])
        assert [analysis.cached for analysis in got] == [True, False, False]


def test_the_work_of_a_dead_run_is_done_again(path: Path) -> None:
    with Store(path) as store:
        with store.locks.hold("dead"):
            store.claim("dead", list(KEYS.values()))
        model = Model()
        assert paths(asyncio.run(Desk(store, "mine", KEYS, model.ask).analyze(UNITS))) == model.asked
        assert len(model.asked) == 4


def test_what_failed_is_free_for_others(path: Path) -> None:
    with Store(path) as store, store.locks.hold("mine"):
        asyncio.run(Desk(store, "mine", KEYS, Model(["b.py"]).ask).analyze(UNITS[:2]))
        claimed = store.claim("other", [KEYS["a.py", 0], KEYS["b.py", 0]])
        # What was answered stays claimed until it is stored.
        assert (claimed.mine, claimed.busy) == ({KEYS["b.py", 0]}, {KEYS["a.py", 0]})


def test_what_was_broken_off_is_free_for_others(path: Path) -> None:
    async def begin_and_stop(desk: Desk) -> None:
        task = asyncio.ensure_future(desk.analyze(UNITS))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with Store(path) as store, store.locks.hold("mine"):
        asyncio.run(begin_and_stop(Desk(store, "mine", KEYS, Model().ask)))
        assert store.claim("other", list(KEYS.values())).busy == frozenset()


def test_equal_code_is_asked_about_once(path: Path) -> None:
    keys = {(one.path, one.index): "one key" for one in UNITS}
    done: list[str] = []
    model = Model()
    with Store(path) as store:
        desk = Desk(store, "mine", keys, model.ask)

        def keep(request: tuple[ReviewUnit, ...], analyses: list[Analysis], _: float) -> None:
            for analysis in analyses:
                store.finish_unit("mine", "one key", analysis.unit.path, freeze(analysis))
                done.append(analysis.unit.path)

        async def all_of_them() -> str:
            requests = [UNITS[:2], UNITS[2:]]
            stop = asyncio.Event()
            return await run_requests(requests, desk.analyze, keep, gauge=Gauge(2), stop=stop, deadline=None)

        assert virtually(all_of_them()) == ""
    assert (model.asked, sorted(done)) == (["a.py"], ["a.py", "b.py", "c.py", "d.py"])


@pytest.mark.parametrize(
    ("seconds", "stopped", "reason"), [(3.0, 0.0, "limit_max_seconds"), (0.0, 2.0, "interrupted")]
)
def test_waiting_for_another_run_ends_in_time(
    path: Path, seconds: float, stopped: float, reason: str
) -> None:
    with Store(path) as mine, Store(path) as other, other.locks.hold("other"):
        other.claim("other", list(KEYS.values()))

        async def wait() -> tuple[str, float]:
            loop = asyncio.get_running_loop()
            stop = asyncio.Event()
            began = loop.time()
            if stopped:
                loop.call_later(stopped, stop.set)
            got = await run_requests(
                [UNITS],
                Desk(mine, "mine", KEYS, Model().ask).analyze,
                lambda *_: None,
                gauge=Gauge(1),
                stop=stop,
                deadline=began + seconds if seconds else None,
            )
            return got, loop.time() - began

        got, took = virtually(wait())
    assert got == reason
    assert took == pytest.approx(seconds or stopped, abs=0.6)
