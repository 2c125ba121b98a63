from __future__ import annotations

import pytest

from review_agent.tools.forges.limits import MOST_TRIES, TOTAL, USUAL, Waiting, wait_for

SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."


@pytest.mark.parametrize(
    ("status", "headers", "message", "seconds"),
    [
        (429, {"retry-after": "7"}, "", 7),
        (429, {}, "", USUAL),
        (403, {"retry-after": "3"}, SECONDARY, 3),
        (403, {}, SECONDARY, USUAL),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1030"}, "API rate limit exceeded", 31),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "5"}, "", 1),
        (403, {"x-ratelimit-remaining": "0"}, "", USUAL),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"}, "", USUAL),
        (403, {"x-ratelimit-remaining": "41"}, "Resource not accessible by integration", None),
        (403, {"retry-after": "-1"}, "", None),
        (403, {"retry-after": "1e9"}, "", None),
        (401, {"retry-after": "7"}, "", None),
        (422, {}, "rate limit", None),
        (503, {"retry-after": "2"}, "", 2),
        (503, {}, "", None),
        (200, {"x-ratelimit-remaining": "0"}, "", None),
    ],
)
def test_how_long_to_wait(status: int, headers: dict[str, str], message: str, seconds: float | None) -> None:
    assert wait_for(status, headers, message, now=1000.0) == seconds


def test_all_waiting_together_is_bounded() -> None:
    waiting = Waiting()
    assert waiting.take(TOTAL - 1) == TOTAL - 1
    assert waiting.take(2) is None
    assert waiting.take(1) == 1
    assert waiting.take(0.1) is None


def test_tries_are_bounded() -> None:
    waiting = Waiting()
    taken = [waiting.take(0.0) for _ in range(MOST_TRIES + 1)]
    assert taken == [0.0] * MOST_TRIES + [None]


def test_without_a_time_waits_grow() -> None:
    waiting = Waiting()
    assert [waiting.take(None) for _ in range(4)] == [0.5, 1.0, 2.0, 4.0]
