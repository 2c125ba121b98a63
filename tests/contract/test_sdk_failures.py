"""What becomes of a run when the server fails: how the SDK says so, after how many requests, and how soon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from claude_agent_sdk import AssistantMessage
from converse import Place, Talk, converse
from scripted_claude import FAULTS, Asked, Fault, Reply, ScriptedClaude, Text

BOUNDS = {
    "CLAUDE_CODE_MAX_RETRIES": "1",
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
    "API_TIMEOUT_MS": "3000",
    "CLAUDE_ENABLE_BYTE_WATCHDOG": "1",
    "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": "5000",  # the CLI waits 10 s at least
}
# kind: (requests, HTTP status in the result, error of the last message, words of the result)
FAILED = {
    "400": (1, 400, "unknown", "400"),
    "401": (2, 401, "authentication_failed", "Failed to authenticate"),
    "404": (2, 404, "model_not_found", "issue with the selected model"),
    "429": (2, 429, "rate_limit", "429"),
    "429_retry_after_3600": (1, 429, "rate_limit", "429"),
    "500": (2, 500, "server_error", "500"),
    "529": (2, 529, "server_error", "529"),
    "html": (1, None, "unknown", "without receiving any events"),
    "malformed": (1, None, "unknown", "JSON"),
    "cut": (2, None, "server_error", "ECONNRESET"),
    "error_event": (1, 529, "unknown", "Overloaded"),
    "max_tokens": (4, None, "max_output_tokens", "output token maximum"),
    "refusal": (2, None, "invalid_request", "flagged"),
}
SLOW = {
    "stall": (1, None, "unknown", "Stream idle timeout"),
    "hang": (2, None, "server_error", "timed out"),
}


def said(claude: ScriptedClaude, talk: Talk) -> tuple[int, bool, int | None, str | None, str]:
    """(requests, whether it failed, status, error of the last message, text)."""
    errors = [one.error for one in talk.messages if isinstance(one, AssistantMessage)]
    assert talk.result is not None
    assert talk.error is None  # nothing is raised, and the subtype says "success": is_error is what counts
    assert talk.result.subtype == "success"
    result = talk.result
    return len(claude.asked), result.is_error, result.api_error_status, errors[-1], result.result or ""


def told(claude: ScriptedClaude, talk: Talk, expected: tuple[int, int | None, str, str]) -> None:
    requests, status, error, words = expected
    found = said(claude, talk)
    assert found[:4] == (requests, True, status, error)
    assert words in found[4]


def test_each_fault_has_a_row() -> None:
    assert set(FAILED) | set(SLOW) | {"empty"} == set(FAULTS)


@pytest.mark.parametrize("kind", FAILED)
async def test_a_failure_is_told_in_seconds(place: Place, kind: str) -> None:
    with ScriptedClaude(lambda asked: Fault(kind, after=2)) as claude:
        talk = await converse(claude, place, env=BOUNDS)
    told(claude, talk, FAILED[kind])
    assert talk.seconds < 10
    assert len(talk.retries) == (1 if kind in {"401", "429", "500", "529", "cut"} else 0)


async def test_a_server_that_falls_silent_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a stream, and before it; both at once, for it takes a while.

    In the middle only the watchdog over bytes helps: it is on unless somebody's environment says otherwise.
    """
    monkeypatch.setenv("CLAUDE_ENABLE_BYTE_WATCHDOG", "0")

    async def one(kind: str) -> tuple[ScriptedClaude, Talk]:
        with ScriptedClaude(lambda asked: Fault(kind, after=2)) as claude:
            (tmp_path / kind).mkdir()
            return claude, await converse(claude, Place.make(tmp_path / kind), env=BOUNDS)

    for (claude, talk), kind in zip(await asyncio.gather(*(one(kind) for kind in SLOW)), SLOW, strict=True):
        told(claude, talk, SLOW[kind])
        assert talk.seconds < 20


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
