"""What becomes of a run when the server fails: how the SDK says so, after how many requests, and how soon."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from claude_agent_sdk import AssistantMessage
from converse import Place, Talk, converse
from scripted_claude import FAULTS, Asked, Fault, Reply, ScriptedClaude, Text

BOUNDS = {
    "CLAUDE_CODE_MAX_RETRIES": "1",
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
    "API_TIMEOUT_MS": "2000",
    "CLAUDE_ENABLE_BYTE_WATCHDOG": "1",
    "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": "5000",  # the CLI waits 10 s at least
}


class Row(NamedTuple):
    """How a failure is told: requests made, HTTP status, error of the last message, retries told, words of the result."""

    requests: int
    status: int | None
    error: str | None
    retries: int
    words: str


TABLE = {
    "400": Row(1, 400, "unknown", 0, "400"),
    "401": Row(2, 401, "authentication_failed", 1, "Failed to authenticate"),
    "404": Row(2, 404, "model_not_found", 0, "issue with the selected model"),
    "429": Row(2, 429, "rate_limit", 1, "429"),
    "429_retry_after_3600": Row(1, 429, "rate_limit", 0, "429"),
    "500": Row(2, 500, "server_error", 1, "500"),
    "529": Row(2, 529, "server_error", 1, "529"),
    "html": Row(1, None, "unknown", 0, "without receiving any events"),
    "malformed": Row(1, None, "unknown", 0, "JSON"),
    "cut": Row(2, None, "server_error", 1, "ECONNRESET"),
    "error_event": Row(1, 529, "unknown", 0, "Overloaded"),
    "max_tokens": Row(4, None, "max_output_tokens", 0, "output token maximum"),
    "refusal": Row(2, None, "invalid_request", 0, "flagged"),
    "stall": Row(1, None, "unknown", 0, "Stream idle timeout"),
    "hang": Row(2, None, "server_error", 1, "timed out"),
}
SLOW = ("stall", "hang")


def told(kind: str, claude: ScriptedClaude, talk: Talk) -> Row:
    """The row that was seen; its words are those of the table where the text has them, else the text."""
    result = talk.result
    assert result is not None, kind
    # nothing is raised, and the subtype says "success": is_error is what counts
    assert (talk.error, result.subtype, result.is_error) == (None, "success", True), kind
    errors = [one.error for one in talk.messages if isinstance(one, AssistantMessage)]
    text, words = result.result or "", TABLE[kind].words
    said = words if words in text else text
    return Row(len(claude.asked), result.api_error_status, errors[-1], len(talk.retries), said)


async def test_each_failure_is_told_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In two lanes, for those of a server that falls silent take a while.

    When it does so in the middle of a stream only the watchdog over bytes helps: it is on unless somebody's environment
    says otherwise.
    """
    assert {*TABLE, "empty"} == set(FAULTS)
    monkeypatch.setenv("CLAUDE_ENABLE_BYTE_WATCHDOG", "0")
    seen: dict[str, Row] = {}
    seconds: dict[str, float] = {}

    async def lane(kinds: Sequence[str]) -> None:
        for kind in kinds:
            with ScriptedClaude([Fault(kind, after=2)] * 20) as claude:
                (tmp_path / kind).mkdir()
                talk = await converse(claude, Place.make(tmp_path / kind), env=BOUNDS)
            seen[kind], seconds[kind] = told(kind, claude, talk), talk.seconds

    await asyncio.gather(lane(SLOW), lane([kind for kind in TABLE if kind not in SLOW]))
    assert seen == TABLE
    assert max(seconds.values()) < 30, seconds


async def test_an_empty_answer_is_no_failure_to_the_sdk(place: Place) -> None:
    """It is asked for once more; then it counts as a success that says nothing."""
    with ScriptedClaude(lambda asked: Fault("empty")) as claude:
        talk = await converse(claude, place, env=BOUNDS)
    assert talk.result is not None
    assert (len(claude.asked), talk.result.is_error, talk.result.result) == (2, False, "")


async def test_the_retries_are_what_one_variable_says(place: Place) -> None:
    """The table above has one; without the variable there would be ten, in three minutes."""
    with ScriptedClaude(lambda asked: Fault("500")) as claude:
        talk = await converse(claude, place, env=BOUNDS | {"CLAUDE_CODE_MAX_RETRIES": "0"})
    assert (len(claude.asked), talk.retries) == (1, [])


async def test_a_server_that_recovers_is_forgiven(place: Place) -> None:
    def script(asked: Asked) -> Reply:
        return Fault("529") if asked.number == 1 else Text("well")

    with ScriptedClaude(script) as claude:
        talk = await converse(claude, place, env=BOUNDS)
    assert talk.result is not None
    assert (talk.result.is_error, talk.result.result) == (False, "well")
