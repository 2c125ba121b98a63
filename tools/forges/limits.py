"""How long to wait for a forge that has had enough.

https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""

from __future__ import annotations

from collections.abc import Mapping

TOTAL = 60.0  # seconds of waiting for one command, all requests together
USUAL = 60.0  # what GitHub asks for where it names no time
MOST_TRIES = 6
_QUICKLY = "submitted too quickly"


def wait_for(status: int, headers: Mapping[str, str], message: str, *, now: float) -> float | None:
    """Seconds until a limited request may be sent again; None: the answer is no limit."""
    after = _number(headers.get("retry-after", ""))
    spent = headers.get("x-ratelimit-remaining", "") == "0"
    if status == 422 and _QUICKLY in message.lower():  # comments in a minute are counted apart
        return after if after is not None else USUAL
    if status not in (403, 429):
        return after if status == 503 else None
    if after is not None:
        return after
    if spent:
        reset = _number(headers.get("x-ratelimit-reset", ""))
        return max(0.0, reset - now) + 1 if reset is not None else USUAL
    return USUAL if status == 429 or "rate limit" in message.lower() else None


def _number(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 12 else None


class Waiting:
    """The time for waiting that is left."""

    def __init__(self) -> None:
        self._left = TOTAL
        self._tries = 0

    def take(self, asked: float | None) -> float | None:
        """Seconds to wait now, those asked for or a growing number; None: too long, or too often."""
        self._tries += 1
        seconds = asked if asked is not None else float(2 ** (self._tries - 1)) / 2
        if seconds > self._left or self._tries > MOST_TRIES:
            return None
        self._left -= seconds
        return seconds
