"""What the user sees on stderr while a model is fetched: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from review_agent.agent.display import inline, terminal_text
from review_agent.agent.progress import duration
from review_agent.prompts import say
from review_agent.tools.download import amount

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LINE_SECONDS = 15.0
WAIT_SECONDS = 15.0


class Transfer:
    """Use as a context. `clock` counts seconds; `live` allows a bar that is drawn over."""

    def __init__(
        self,
        stream: TextIO,
        lang: str,
        *,
        live: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lang = lang
        self._stream, self._live, self._clock = stream, live, clock
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._first: tuple[float, int] | None = None  # when bytes began to come, and what was there before
        self._said = self._waited = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def say(self, key: str, **fields: object) -> None:
        """One sentence of `[models]`."""
        with suppress(OSError):  # a terminal that was closed must not end the download
            self._stream.write(terminal_text(say(self.lang, "models", key, **fields)) + "\n")
            self._stream.flush()

    def result(self, key: str, **fields: object) -> None:
        """One sentence of `[models]` on stdout."""
        print(terminal_text(say(self.lang, "models", key, **fields)), flush=True)

    def advance(self, name: str, done: int, total: int) -> None:
        """`total` 0 = not known yet."""
        now = self._clock()
        if self._first is None:
            self._first, self._said = (now, done), now
        if self._live:
            self._draw(name, done, total)
        elif now - self._said >= LINE_SECONDS:
            self._said = now
            self._line(done, total, now)

    def waiting(self, seconds: float) -> None:
        """A sign of life where no bytes can be counted."""
        if seconds - self._waited >= WAIT_SECONDS:
            self._waited = seconds
            self.say("wheel_wait", elapsed=duration(seconds, self.lang))

    def _line(self, done: int, total: int, now: float) -> None:
        if not total:
            self.say("progress_unknown", done=amount(done))
            return
        began, before = self._first or (now, done)
        speed = (done - before) / (now - began) if now > began else 0.0
        left = (
            duration((total - done) / speed, self.lang)
            if speed > 0
            else say(self.lang, "progress", "unknown")
        )
        self.say(
            "progress",
            done=amount(done),
            total=amount(total),
            percent=done * 100 // total,
            speed=f"{amount(round(speed))}/s",
            left=left,
        )

    def _draw(self, name: str, done: int, total: int) -> None:
        if self._bar is None or self._task is None:
            self._bar = _new_bar(self._stream)
            self._bar.start()
            self._task = self._bar.add_task(inline(name), total=total or None)
        self._bar.update(self._task, completed=done, total=total or None)


def _new_bar(stream: TextIO) -> Bar:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
    )
