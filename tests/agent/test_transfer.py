"""The lines of a download where there is no terminal."""

from __future__ import annotations

import io

import pytest

from review_agent.agent.transfer import Transfer


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_line_now_and_then(clock: Clock) -> None:
    stream = io.StringIO()
    with Transfer(stream, "zh-CN", clock=clock) as transfer:
        for second in range(61):
            clock.now = 100.0 + second
            transfer.advance("m", 500_000_000 + second * 5_000_000, 1_000_000_000)
    assert stream.getvalue().splitlines() == [
        "已下载 575.0 MB / 1.0 GB（57%），5.0 MB/s，预计剩余 1 分 25 秒",
        "已下载 650.0 MB / 1.0 GB（65%），5.0 MB/s，预计剩余 1 分 10 秒",
        "已下载 725.0 MB / 1.0 GB（72%），5.0 MB/s，预计剩余 55 秒",
        "已下载 800.0 MB / 1.0 GB（80%），5.0 MB/s，预计剩余 40 秒",
    ]


@pytest.mark.parametrize(
    ("done", "total", "line"),
    [(10, 0, "Downloaded 10 B"), (0, 10, "Downloaded 0 B / 10 B (0%), 0 B/s, about unknown left")],
)
def test_what_is_not_known(clock: Clock, done: int, total: int, line: str) -> None:
    stream = io.StringIO()
    transfer = Transfer(stream, "en", clock=clock)
    transfer.advance("m", 0, total)
    clock.now += 20
    transfer.advance("m", done, total)
    assert stream.getvalue() == line + "\n"


def test_waiting_is_told_now_and_then() -> None:
    stream = io.StringIO()
    transfer = Transfer(stream, "zh-CN")
    for half in range(80):
        transfer.waiting(half / 2)
    assert stream.getvalue().splitlines() == ["仍在获取，已用 15 秒", "仍在获取，已用 30 秒"]


def test_a_closed_terminal_ends_nothing() -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    Transfer(Gone(), "zh-CN").say("demo")
