"""What the user sees on stderr while a review runs: one line per event, and a status line on a terminal."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TextIO

from review_agent.agent.display import inline, terminal_text
from review_agent.agent.models import Analysis, Finding, ReviewUnit
from review_agent.prompts import say
from review_agent.tools.redact import mask

HEARTBEAT_SECONDS = 15.0
STATE_SECONDS = 2.0  # a fast server would flood a log with state lines

_AT_LENGTH = frozenset({"reading", "planning", "finding", "failed", "state", "stopped", "resume"})


@dataclass
class Forecast:
    """Time left, from what the requests so far took on the wall clock.

    A server's time goes partly with requests and partly with tokens: the share that goes with tokens is read
    off the times of single requests. While these do not tell, it is half.
    """

    requests: int
    tokens: int
    done_requests: int = 0
    done_tokens: int = 0
    elapsed: float = 0.0
    steps: list[tuple[int, float]] = field(default_factory=list)  # tokens and seconds of each request

    def record(self, tokens: int, elapsed: float) -> None:
        self.steps.append((tokens, elapsed - self.elapsed))
        self.done_requests += 1
        self.done_tokens += tokens
        self.elapsed = elapsed

    def left(self) -> float | None:
        """Seconds; None before the first answer."""
        if not self.done_requests or not self.done_tokens:
            return None
        by_request = self.elapsed / self.done_requests * (self.requests - self.done_requests)
        by_token = self.elapsed / self.done_tokens * max(0, self.tokens - self.done_tokens)
        share = self._token_share()
        return max(0.0, (1 - share) * by_request + share * by_token)

    def _token_share(self) -> float:
        """Least squares of the requests' seconds between `all take the same` (0) and `as the tokens` (1)."""
        same = self.elapsed / self.done_requests
        per_token = self.elapsed / self.done_tokens
        slack = 0.002 * same * same  # of two requests of nearly one size, chance would decide
        above = slack / 2 + sum((took - same) * (size * per_token - same) for size, took in self.steps)
        below = slack + sum((size * per_token - same) ** 2 for size, _ in self.steps)
        return min(1.0, max(0.0, above / below)) if below else 0.5


@dataclass
class Progress:
    """Writes to `stream` (stderr). `clock` counts seconds; `live` allows a line that is written over."""

    stream: TextIO
    lang: str
    live: bool = False
    quiet: bool = False
    brief: bool = False  # inside another program, which says itself what came of it
    clock: Callable[[], float] = time.monotonic
    meter: Callable[[], int] = lambda: 0
    _forecast: Forecast | None = None
    _started: float = 0.0
    _seen: set[str] = field(default_factory=set)
    _found: int = 0
    _said: float = 0.0
    _status: bool = False

    def line(self, key: str, **fields: object) -> None:
        """One sentence of `[progress]`."""
        if self.brief and key in _AT_LENGTH:
            return
        self.text(say(self.lang, "progress", key, **fields))

    def text(self, text: str) -> None:
        if self.quiet:
            return
        with suppress(OSError):  # a terminal that was closed must not end the review
            self._clear()
            self.stream.write(terminal_text(mask(text)) + "\n")
            self.stream.flush()

    def planned(self, files: int, cached: int, requests: Sequence[Sequence[ReviewUnit]], tokens: int) -> None:
        """`tokens` is the estimate of everything that will be sent."""
        code = sum(unit.tokens for request in requests for unit in request)
        self._forecast = Forecast(len(requests), code)
        self._started = self.clock()
        self.line("planned", files=files, requests=len(requests), tokens=tokens, cached=cached)

    def request_done(self, analyses: Sequence[Analysis], findings: Sequence[Finding]) -> None:
        """One request answered: its findings, then how far we are."""
        forecast = self._forecast
        for finding in findings:
            self.finding(finding)
        self._seen.update(analysis.unit.path for analysis in analyses)
        for path in dict.fromkeys(a.unit.path for a in analyses if a.failure):
            reason = next(a.failure for a in analyses if a.unit.path == path and a.failure)
            self.line("failed", path=inline(path), reason=say(self.lang, "reasons", reason))
        if forecast is not None:
            now = self.clock()
            forecast.record(sum(a.unit.tokens for a in analyses), now - self._started)
            early_or_last = forecast.done_requests <= 2 or forecast.done_requests == forecast.requests
            if not self.live and (early_or_last or now - self._said >= STATE_SECONDS):
                self._said = now
                self._state("state")

    def finding(self, finding: Finding) -> None:
        self._found += 1
        place = f"{finding.path}:{finding.start_line}" if finding.start_line else finding.path
        self.line(
            "finding",
            severity=say(self.lang, "severity", finding.severity),
            place=inline(place),
            title=inline(finding.title)[:120],
        )

    def _state(self, key: str) -> None:
        forecast = self._forecast
        if forecast is None:
            return
        self.line(
            key,
            done=forecast.done_requests,
            total=forecast.requests,
            files=len(self._seen),
            findings=self._found,
            tokens=self.meter(),
            elapsed=duration(self.clock() - self._started, self.lang),
            left=self._left(forecast),
        )

    def _left(self, forecast: Forecast) -> str:
        """The forecast, counted down since the last answer."""
        left = forecast.left()
        if left is None:
            return say(self.lang, "progress", "unknown")
        return duration(max(0.0, left - (self.clock() - self._started - forecast.elapsed)), self.lang)

    async def beat(self) -> None:
        """A sign of life while the server is silent; runs until cancelled."""
        while True:
            await asyncio.sleep(1.0 if self.live else HEARTBEAT_SECONDS)
            if self.live:
                self._draw()
            else:
                self._state("heartbeat")

    def _draw(self) -> None:
        forecast = self._forecast
        if forecast is None or self.quiet:
            return
        text = say(
            self.lang,
            "progress",
            "status",
            done=forecast.done_requests,
            total=forecast.requests,
            tokens=self.meter(),
            elapsed=duration(self.clock() - self._started, self.lang),
            left=self._left(forecast),
        )
        from rich.cells import set_cell_size

        columns = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be written over
        with suppress(OSError):
            self.stream.write("\r\x1b[2K" + set_cell_size(terminal_text(text), columns).rstrip())
            self.stream.flush()
        self._status = True

    def _clear(self) -> None:
        if self._status:
            self.stream.write("\r\x1b[2K")
            self._status = False

    def close(self) -> None:
        with suppress(OSError):
            self._clear()
            self.stream.flush()


def duration(seconds: float, lang: str) -> str:
    """'45 秒', '12 分 05 秒', '3 小时 20 分'."""
    whole = round(seconds)
    if whole < 60:
        return say(lang, "progress", "seconds", seconds=whole)
    if whole < 3600:
        return say(lang, "progress", "minutes", minutes=whole // 60, seconds=f"{whole % 60:02d}")
    return say(lang, "progress", "hours", hours=whole // 3600, minutes=f"{whole % 3600 // 60:02d}")
