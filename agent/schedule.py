"""Runs requests side by side, within the limits, until done or told to stop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from review_agent.agent.errors import Stopped
from review_agent.agent.models import Analysis, ReviewUnit

Request = tuple[ReviewUnit, ...]
LATER_SECONDS = 0.5  # between looks at what another run is doing


@dataclass
class Gauge:
    """How many requests may be in flight. With `fixed` 0 it finds out what the server serves in parallel.

    A server with one slot takes twice as long per request when asked twice at once; one with free slots does
    not. So the number doubles while the time per request grows by less than half, else it falls back.
    """

    fixed: int = 0
    most: int = 8
    allowed: int = field(init=False)
    _before: float = 0.0  # time per request with half as many in flight
    _settled: bool = False
    _seen: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.allowed = self.fixed or 1

    def finished(self, seconds: float, in_flight: int, *, of_server: bool = True) -> None:
        """`seconds` should be for requests of equal size. What another run did says nothing of the server."""
        if self.fixed or self._settled or in_flight < self.allowed or not of_server:
            return
        self._seen.append(seconds)
        late = self._seen[self.allowed // 2 :]  # the first ones to end did not meet the full number
        if len(late) < self.allowed:
            return
        self._seen = []
        mean = sum(late) / len(late)
        if self._before and mean > 1.5 * self._before:
            self.allowed, self._settled = max(1, self.allowed // 2), True
            return
        self._before = mean
        self._settled = self.allowed == self.most
        self.allowed = min(self.most, self.allowed * 2)


async def run_requests(
    requests: Sequence[Request],
    analyze: Callable[[Request], Awaitable[list[Analysis]]],
    done: Callable[[Request, list[Analysis], float], None],
    *,
    gauge: Gauge,
    stop: asyncio.Event,
    deadline: float | None,
) -> str:
    """Feed every request to `analyze` and each result to `done`, in the order they finish.

    Units that an answer leaves out (somebody else is at them) are asked about again when all else is done.
    `deadline` is a time of the running loop's clock. Returns '' when all were answered, else why not all
    were: a key of `[reasons]`. Nothing is left running on return.
    """
    loop = asyncio.get_running_loop()
    waiting = deque(requests)
    later: list[Request] = []
    running: dict[asyncio.Task[list[Analysis]], tuple[Request, float]] = {}
    usual = sum(map(_tokens, requests)) / max(1, len(requests))
    stopper = asyncio.ensure_future(stop.wait())
    reason = ""
    try:
        while (waiting or running or later) and not reason:
            if not waiting and not running:
                if reason := await _pause(stopper, deadline):
                    break
                waiting.extend(later)
                later = []
            while waiting and len(running) < gauge.allowed:
                request = waiting.popleft()
                running[asyncio.ensure_future(analyze(request))] = (request, loop.time())
            in_flight = len(running)
            await _any({*running, stopper}, deadline)
            ended = [task for task in running if task.done()]
            for task in ended:
                request, started = running.pop(task)
                try:
                    analyses = task.result()
                except Stopped as exc:
                    reason = exc.key
                    continue
                answered, rest = _parted(request, analyses)
                later += [rest] if rest else []
                if not answered:
                    continue
                seconds = loop.time() - started
                asked = not all(one.cached for one in analyses)
                gauge.finished(_evened(seconds, answered, usual), in_flight, of_server=asked)
                done(answered, analyses, seconds)
            if stopper.done():
                reason = "interrupted"
            elif not ended and not reason:
                reason = "limit_max_seconds"
    finally:
        stopper.cancel()
        for task in running:
            task.cancel()
        await asyncio.gather(stopper, *running, return_exceptions=True)
    return reason


async def _any(tasks: set[asyncio.Task[Any]], deadline: float | None) -> None:
    """Wait until one of the tasks has ended, or the time is over."""
    left = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
    await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)


def _evened(seconds: float, request: Request, usual: float) -> float:
    """The time of a request as if it had the usual size, in tokens.

    Part of the time goes with the size, part does not; half and half is never far off.
    """
    return 2 * seconds / (1 + _tokens(request) / max(1.0, usual))


async def _pause(stopper: asyncio.Task[Literal[True]], deadline: float | None) -> str:
    """Wait a little; why the run must end now, if it must."""
    now = asyncio.get_running_loop().time()
    left = LATER_SECONDS if deadline is None else min(LATER_SECONDS, max(0.0, deadline - now))
    await asyncio.wait({stopper}, timeout=left)
    if stopper.done():
        return "interrupted"
    return "limit_max_seconds" if deadline is not None and now + left >= deadline else ""


def _parted(request: Request, analyses: Sequence[Analysis]) -> tuple[Request, Request]:
    """The units of a request that were answered, and the others."""
    spots = {(analysis.unit.path, analysis.unit.index) for analysis in analyses}
    answered = tuple(unit for unit in request if (unit.path, unit.index) in spots)
    return answered, tuple(unit for unit in request if (unit.path, unit.index) not in spots)


def _tokens(request: Request) -> int:
    return sum(unit.tokens for unit in request)
