"""Requests side by side: how many, until when, and what is left when the run ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from scripted import unit, virtually

from review_agent.agent.errors import Stopped, StoreError
from review_agent.agent.models import Analysis
from review_agent.agent.schedule import Gauge, Request, run_requests


class Server:
    """Serves `slots` requests at once, in the order they came; `seconds` is the time of each."""

    def __init__(self, slots: int, seconds: Sequence[float]) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._seconds = dict(enumerate(seconds))
        self.now = self.most = self.served = 0

    async def analyze(self, request: Request) -> list[Analysis]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            async with self._slots:
                await asyncio.sleep(self._seconds[request[0].index])
                self.served += 1
                return [Analysis(part) for part in request]
        finally:
            self.now -= 1


def requests(count: int, tokens: Sequence[int] = ()) -> list[Request]:
    sizes = tokens or [1000] * count
    return [(unit("a.py", "x" * int(size * 2.5), index=at),) for at, size in enumerate(sizes)]


def serve(
    slots: int, seconds: Sequence[float], gauge: Gauge, tokens: Sequence[int] = ()
) -> tuple[Server, list[int], float]:
    async def run() -> tuple[Server, list[int], float]:
        server = Server(slots, seconds)
        order: list[int] = []
        reason = await run_requests(
            requests(len(seconds), tokens),
            server.analyze,
            lambda request, _analyses, _seconds: order.append(request[0].index),
            gauge=gauge,
            stop=asyncio.Event(),
            deadline=None,
        )
        assert reason == ""
        return server, order, asyncio.get_running_loop().time()

    return virtually(run())


@pytest.mark.parametrize(("slots", "allowed"), [(1, {1}), (2, {2}), (4, {4}), (8, {8}), (64, {8})])
def test_the_number_of_requests_follows_the_server(slots: int, allowed: set[int]) -> None:
    gauge = Gauge()
    chance = random.Random(slots)
    server, order, seconds = serve(slots, [chance.uniform(9, 11) for _ in range(60)], gauge)
    assert gauge.allowed in allowed
    assert sorted(order) == list(range(60))
    assert server.most <= 8
    assert seconds < 600 / min(slots, 8) * 1.5 + 40


@pytest.mark.parametrize("law", ["constant", "by token", "half and half"])
@pytest.mark.parametrize(("slots", "most"), [(1, 2), (2, 4), (4, 8)])
def test_sizes_do_not_lead_it_astray(slots: int, most: int, law: str) -> None:
    """A start that is slow (the model is loaded) and requests of very different sizes."""
    good = 0
    for seed in range(20):
        chance = random.Random(seed)
        tokens = [chance.choice([5000, 4500, 3500, 2000]) for _ in range(40)]
        share = {"constant": 0.0, "by token": 1.0, "half and half": 0.5}[law]
        seconds = [10 * (1 - share) + share * size / 350 for size in tokens]
        seconds[0] += 15 if seed % 3 == 0 else 0
        gauge = Gauge()
        serve(slots, seconds, gauge, tokens)
        good += slots <= gauge.allowed <= most or gauge.allowed == slots
    assert good >= 15


@pytest.mark.parametrize("fixed", [1, 3, 12])
def test_a_number_that_was_asked_for_stays(fixed: int) -> None:
    gauge = Gauge(fixed)
    server, _, _ = serve(2, [10.0] * 30, gauge)
    assert gauge.allowed == server.most == fixed


def test_results_come_as_they_finish_and_all_come() -> None:
    _, order, _ = serve(8, [9, 1, 5, 3, 7, 2], Gauge(6))
    assert order == [1, 5, 3, 2, 4, 0]


async def limited(
    *, seconds: Sequence[float], deadline: float | None = None, stop_at: float | None = None
) -> tuple[str, int, int, float]:
    """The reason, the requests done and running at the end, and when it ended."""
    server, stop, got = Server(2, seconds), asyncio.Event(), 0

    def done(*_: object) -> None:
        nonlocal got
        got += 1

    if stop_at is not None:
        asyncio.get_running_loop().call_later(stop_at, stop.set)
    reason = await run_requests(
        requests(len(seconds)), server.analyze, done, gauge=Gauge(2), stop=stop, deadline=deadline
    )
    return reason, got, server.now, asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, ("", 6, 0, 30.0)),
        ({"deadline": 25.0}, ("limit_max_seconds", 4, 0, 25.0)),
        ({"deadline": 0.0}, ("limit_max_seconds", 0, 0, 0.0)),
        ({"deadline": 1e9}, ("", 6, 0, 30.0)),
        ({"stop_at": 15.0}, ("interrupted", 2, 0, 15.0)),
        ({"stop_at": 5.0, "deadline": 7.0}, ("interrupted", 0, 0, 5.0)),
    ],
)
def test_a_run_ends_in_time_with_nothing_left_running(
    limits: dict[str, float], expected: tuple[str, int, int, float]
) -> None:
    assert virtually(limited(seconds=[10.0] * 6, **limits)) == expected


def test_a_silent_server_is_left_at_the_deadline() -> None:
    assert virtually(limited(seconds=[1e9] * 3, deadline=60.0)) == ("limit_max_seconds", 0, 0, 60.0)


@pytest.mark.parametrize("error", [Stopped("limit_max_tokens"), StoreError("store_unusable"), KeyError("x")])
def test_what_an_analysis_raises_ends_the_run_and_the_others(error: Exception) -> None:
    cancelled: list[int] = []
    done: list[int] = []

    async def analyze(request: Request) -> list[Analysis]:
        at = request[0].index
        try:
            await asyncio.sleep(at)
        except asyncio.CancelledError:
            cancelled.append(at)
            raise
        if at == 2:
            raise error
        return [Analysis(part) for part in request]

    async def run() -> str:
        return await run_requests(
            requests(9),
            analyze,
            lambda request, *_: done.append(request[0].index),
            gauge=Gauge(4),
            stop=asyncio.Event(),
            deadline=None,
        )

    if isinstance(error, Stopped):
        assert virtually(run()) == "limit_max_tokens"
    else:
        with pytest.raises(type(error)):
            virtually(run())
    assert (done, sorted(cancelled)) == ([0, 1], [3, 4, 5])


def test_a_result_that_cannot_be_kept_ends_the_run() -> None:
    async def run() -> None:
        server = Server(4, [1.0, 9.0, 9.0])

        def done(*_: object) -> None:
            raise StoreError("store_unusable")

        with pytest.raises(StoreError):
            await run_requests(
                requests(3), server.analyze, done, gauge=Gauge(3), stop=asyncio.Event(), deadline=None
            )
        assert server.now == 0

    virtually(run())
