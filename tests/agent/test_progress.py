"""What is seen on stderr: how long it will take, signs of life, and nothing that spoils a log."""

from __future__ import annotations

import asyncio
import io
import random
import re

import pytest
from scripted import unit, virtually

from review_agent.agent.models import Analysis, Category, Finding, ReviewUnit, Severity
from review_agent.agent.progress import HEARTBEAT_SECONDS, Forecast, Progress, duration

SIZES = {
    "two sizes": [5000, 2500] * 5,
    "falling": [5200, 4400, 3600, 2800, 2000, 1200],
    "rising": [1200, 2000, 2800, 3600, 4400, 5200],
    "one small": [800, 5000, 5000, 5000, 5000],
    "one large": [5200, 900, 900, 900, 900],
    "equal": [4000] * 8,
    "by chance": [random.Random(5).randint(600, 5200) for _ in range(30)],
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0], ids=["constant", "half and half", "by token"])
def test_after_two_requests_the_forecast_is_right(sizes: list[int], share: float) -> None:
    mean = sum(sizes) / len(sizes)
    seconds = [60 * (1 - share) + 60 * share * size / mean for size in sizes]
    forecast = Forecast(len(sizes), sum(sizes))
    for at in range(2):
        forecast.record(sizes[at], sum(seconds[: at + 1]))
    assert forecast.left() == pytest.approx(sum(seconds[2:]), rel=0.3)


def test_a_forecast_needs_an_answer_and_ends_at_zero() -> None:
    forecast = Forecast(2, 200)
    assert forecast.left() is None
    forecast.record(100, 8.0)
    assert forecast.left() == pytest.approx(8.0)
    forecast.record(100, 16.0)
    assert forecast.left() == 0


def test_answers_at_the_same_moment_are_no_trouble() -> None:
    forecast = Forecast(8, 8000)
    for _ in range(4):
        forecast.record(1000, 20.0)
    assert forecast.left() == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("seconds", "chinese", "english"),
    [
        (0.4, "0 秒", "0 s"),
        (45, "45 秒", "45 s"),
        (59.4, "59 秒", "59 s"),
        (59.6, "1 分 00 秒", "1 min 00 s"),
        (725, "12 分 05 秒", "12 min 05 s"),
        (3599.7, "1 小时 00 分", "1 h 00 min"),
        (12_000, "3 小时 20 分", "3 h 20 min"),
        (200_000, "55 小时 33 分", "55 h 33 min"),
    ],
)
def test_durations(seconds: float, chinese: str, english: str) -> None:
    assert (duration(seconds, "zh-CN"), duration(seconds, "en")) == (chinese, english)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def some(path: str = "a.py", title: str = "title", line: int = 3) -> Finding:
    return Finding("ai/bug", Category.BUG, Severity.HIGH, 0.9, path, line, line, title, "")


def test_lines_of_a_run_in_a_log() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, "en", clock=clock, meter=lambda: 1234)
    parts = [unit("a.py", "x" * 2489), unit("b.py", "x" * 2489), unit("c.py", "x" * 2489)]
    progress.planned(3, 1, [[part] for part in parts], sum(part.tokens for part in parts))
    clock.now += 30
    progress.request_done([Analysis(parts[0])], [some(), some(line=0)])
    clock.now += 30
    progress.request_done([Analysis(parts[1], failure="engine_stalled")], [])
    assert stream.getvalue().splitlines() == [
        "Plan: 3 files, 3 requests, about 2997 tokens; 1 units reused from earlier runs",
        "Found [high] a.py:3 title",
        "Found [high] a.py title",
        "Progress 1/3 requests, 1 files, 2 findings, 1234 tokens used, 30 s elapsed, about 1 min 00 s left",
        "Could not review b.py: model server sent nothing for too long",
        "Progress 2/3 requests, 2 files, 2 findings, 1234 tokens used, 1 min 00 s elapsed, about 30 s left",
    ]


def test_a_fast_server_does_not_flood_a_log() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, "zh-CN", clock=clock)
    parts = [unit(f"{at}.py", "x") for at in range(100)]
    progress.planned(100, 0, [[part] for part in parts], 0)
    for part in parts:
        clock.now += 0.1
        progress.request_done([Analysis(part)], [])
    assert 4 <= stream.getvalue().count("进度") <= 10
    assert "100/100" in stream.getvalue().splitlines()[-1]


@pytest.mark.parametrize("live", [False, True])
def test_what_comes_from_outside_is_shown_as_text(live: bool) -> None:
    stream = io.StringIO()
    progress = Progress(stream, "zh-CN", live=live)
    progress.finding(some("a\x1b[2J\n.py", "\x1b]0;x\x07 two\nlines ::error::x \u202e"))
    progress.request_done([Analysis(unit("b\r\x9b.py", "x"), failure="truncated")], [])
    assert len(stream.getvalue().splitlines()) == 2
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", stream.getvalue())


async def beating(progress: Progress, seconds: float) -> None:
    heart = asyncio.ensure_future(progress.beat())
    await asyncio.sleep(seconds)
    heart.cancel()
    await asyncio.gather(heart, return_exceptions=True)
    progress.close()


def run_beating(*, live: bool, seconds: float, quiet: bool = False, planned: bool = True) -> str:
    stream = io.StringIO()
    part: ReviewUnit = unit("a.py", "x")

    async def run() -> None:
        loop = asyncio.get_running_loop()
        progress = Progress(stream, "en", live=live, quiet=quiet, clock=loop.time)
        if planned:
            progress.planned(1, 0, [[part]], part.tokens)
        await beating(progress, seconds)

    virtually(run())
    return stream.getvalue()


def test_a_log_gets_a_sign_of_life_four_times_a_minute() -> None:
    text = run_beating(live=False, seconds=HEARTBEAT_SECONDS * 4 + 1)
    assert [line.split(", ")[4] for line in text.splitlines()[1:]] == [
        f"{passed} elapsed" for passed in ("15 s", "30 s", "45 s", "1 min 00 s")
    ]
    assert "\r" not in text
    assert "\x1b" not in text


def test_a_terminal_gets_one_line_that_is_written_over_and_cleared() -> None:
    text = run_beating(live=True, seconds=10.5)
    plan, status = text.split("\n")
    assert plan.startswith("Plan: ")
    assert status.count("\r\x1b[2KReviewing 0/1 requests") == 10
    assert status.endswith("\r\x1b[2K")


@pytest.mark.parametrize("live", [False, True])
def test_quiet_says_nothing(live: bool) -> None:
    assert run_beating(live=live, seconds=100, quiet=True) == ""
    assert run_beating(live=live, seconds=100, planned=False) == ""


@pytest.mark.parametrize("live", [False, True])
def test_a_closed_terminal_does_not_end_the_review(live: bool) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    async def run() -> None:
        progress = Progress(Closed(), "en", live=live, clock=asyncio.get_running_loop().time)
        part = unit("a.py", "x")
        progress.planned(1, 0, [[part]], part.tokens)
        await beating(progress, 61)
        progress.request_done([Analysis(part)], [some()])
        progress.close()

    virtually(run())
