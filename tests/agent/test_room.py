"""How much of a conversation a context still holds, and what a first request takes of it."""

from __future__ import annotations

import pytest

from review_agent.agent.room import LEAST_ANSWER, MOST_ANSWER, RESULT, Room, opening
from review_agent.tools.server import TOOLS


@pytest.mark.parametrize(
    ("context", "answer"),
    [(0, MOST_ANSWER), (4096, LEAST_ANSWER), (16384, 2048), (32768, MOST_ANSWER), (262144, MOST_ANSWER)],
)
def test_an_answer_is_an_eighth_within_bounds(context: int, answer: int) -> None:
    assert Room(context).answer == answer


@pytest.mark.parametrize(
    ("context", "used", "cramped", "full"),
    [
        (8192, 8192 - 1024 - RESULT, False, False),
        (8192, 8192 - 1024 - RESULT + 1, True, False),
        (8192, 8192 - 1024, True, False),
        (8192, 8192 - 1024 + 1, True, True),
        (0, 10**9, False, False),  # unknown
    ],
)
def test_when_nothing_more_fits(context: int, used: int, cramped: bool, full: bool) -> None:
    room = Room(context, used)
    assert (room.cramped, room.full) == (cramped, full)


def test_what_is_said_takes_room() -> None:
    room = Room(8192)
    room.add("x" * 300)
    assert room.used == 121  # 3 characters a token, and a fifth more
    assert room.least == 121 + 1024 + RESULT


def test_a_first_request_takes_what_its_tools_take() -> None:
    everything = opening("Review.", sorted(TOOLS), "zh-CN")
    assert 2000 < everything < 3500
    assert opening("Review.", ["submit_summary"], "zh-CN") < 700
    assert opening("Review." * 100, sorted(TOOLS), "zh-CN") > everything + 200
