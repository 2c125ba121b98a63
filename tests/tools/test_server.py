"""The tools of the agent as its program sees them: what each takes, and how a call ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jsonschema
import pytest

from review_agent.agent.models import Category, Severity
from review_agent.prompts import LANGS, say
from review_agent.tools.server import (
    MOST_CHARACTERS,
    TOOLS,
    Answered,
    full_name,
    handler,
    make_server,
    short_name,
)

FINDING: dict[str, Any] = {
    "path": "a",
    "quote": "q",
    "title": "t",
    "category": "bug",
    "severity": "low",
    "confidence": 0.5,
    "explanation": "e",
}
GOOD: dict[str, dict[str, Any]] = {
    "list_units": {},
    "get_candidates": {},
    "local_model_analyze": {"path": "a"},
    "read_lines": {"path": "a"},
    "search_code": {"pattern": "x"},
    "git_log": {},
    "git_blame": {"path": "a", "start_line": 1, "end_line": 1},
    "record_finding": FINDING,
    "judge_finding": {"id": "C1", "verdict": "refute", "reason": "r"},
    "submit_summary": {"summary": "s"},
    "run_command": {"command": "ls"},
}


# --- what they take


@pytest.mark.parametrize("tool", TOOLS)
def test_schemas_are_bounded(tool: str) -> None:
    """Nothing of any length, any size or any name."""
    schema = TOOLS[tool].schema
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(GOOD[tool], schema)
    assert schema["additionalProperties"] is False
    for one in schema["properties"].values():
        match one["type"]:
            case "string":
                assert "enum" in one or 0 < one["maxLength"] <= 20_000
            case "integer" | "number":
                assert one["minimum"] >= 0
                assert one["maximum"] <= 10_000_000
            case kind:
                assert kind == "boolean"


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        *((tool, {**good, "more": 1}) for tool, good in GOOD.items()),
        *(
            (tool, dict(list(good.items())[1:]))
            for tool, good in GOOD.items()
            if TOOLS[tool].schema["required"]
        ),
        ("list_units", {"start": -1}),
        ("list_units", {"start": 1.5}),
        ("list_units", {"start": True}),
        ("list_units", {"start": 1e308}),
        ("get_candidates", {"status": "mine"}),
        ("read_lines", {"path": ""}),
        ("read_lines", {"path": "x" * 1001}),
        ("read_lines", {"path": ["a"]}),
        ("read_lines", {"path": "a", "start_line": 0}),
        ("read_lines", {"path": "a", "end_line": 10**9}),
        ("search_code", {"pattern": "x" * 201}),
        ("search_code", {"pattern": "x", "regex": "yes"}),
        ("search_code", {"pattern": "x", "glob": "*" * 201}),
        ("git_log", {"count": 51}),
        ("git_log", {"count": 0}),
        ("local_model_analyze", {"code": "x" * 20_001, "language": "go"}),
        ("judge_finding", {**GOOD["judge_finding"], "verdict": "maybe"}),
        ("judge_finding", {**GOOD["judge_finding"], "reason": ""}),
        ("judge_finding", {**GOOD["judge_finding"], "id": "C" * 41}),
        ("record_finding", {**FINDING, "confidence": 1.1}),
        ("record_finding", {**FINDING, "confidence": "high"}),
        ("record_finding", {**FINDING, "category": "crime"}),
        ("record_finding", {**FINDING, "severity": "blocker"}),
        ("record_finding", {**FINDING, "replacement": "x" * 3001}),
        ("submit_summary", {"summary": "x" * 4001}),
        ("run_command", {"command": "x" * 2001}),
    ],
)
def test_what_is_out_of_bounds_does_not_get_in(tool: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(arguments, TOOLS[tool].schema)


def test_words_of_a_finding_are_ours() -> None:
    properties = TOOLS["record_finding"].schema["properties"]
    assert properties["category"]["enum"] == [str(word) for word in Category]
    assert properties["severity"]["enum"] == [str(word) for word in Severity]


def test_only_what_says_something_writes() -> None:
    """The program runs the others side by side, without asking."""
    writing = {name for name, tool in TOOLS.items() if not tool.read_only}
    assert writing == {"record_finding", "judge_finding", "submit_summary"}


@pytest.mark.parametrize("lang", LANGS)
def test_every_tool_is_described(lang: str) -> None:
    assert all(say(lang, "agent_tools", name) for name in TOOLS)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("mcp__review__git_log", "git_log"),
        ("mcp__other__git_log", "mcp__other__git_log"),
        ("git_log", "git_log"),
        ("Bash", "Bash"),
        ("mcp__review__mcp__review__git_log", "mcp__review__git_log"),
    ],
)
def test_names(name: str, short: str) -> None:
    assert short_name(name) == short
    assert short_name(full_name("x")) == "x"


# --- how a call ends


@dataclass
class Port:
    does: Callable[[], Answered] = lambda: Answered("done")
    why: str = ""
    seconds: float = 0.0
    refuses: Exception | None = None
    asked: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def refusal(self, tool: str, arguments: dict[str, Any]) -> str:
        self.asked.append(f"{tool} {threading.current_thread() is threading.main_thread()}")
        if self.refuses is not None:
            raise self.refuses
        return self.why

    async def call(self, tool: str, arguments: dict[str, Any]) -> Answered:
        self.asked.append(f"called {arguments}")
        try:
            await asyncio.sleep(self.seconds)
            return self.does()
        finally:
            self.ended.append(tool)


async def call(port: Port, seconds: float = 5.0, lang: str = "en") -> tuple[str, bool]:
    tool = replace(TOOLS["git_log"], seconds=seconds)
    result = await handler(tool, port, lang)({"count": 3})
    assert [part["type"] for part in result["content"]] == ["text"]
    return result["content"][0]["text"], result["is_error"]


async def test_the_rules_are_asked_again_inside_off_the_loop() -> None:
    port = Port()
    assert await call(port) == ("done", False)
    assert port.asked == ["git_log False", "called {'count': 3}"]
    port = Port(why="not this")
    assert await call(port) == ("not this", True)
    assert port.asked == ["git_log False"]


async def test_an_answer_that_is_an_error_says_so() -> None:
    assert await call(Port(does=lambda: Answered("no", error=True))) == ("no", True)


async def test_an_answer_is_cut_where_the_program_would_hide_it() -> None:
    text, _ = await call(Port(does=lambda: Answered("x" * 20_000)))
    assert len(text) == MOST_CHARACTERS


@pytest.mark.parametrize(("lang", "says"), [("en", "longer than"), ("zh-CN", "超过")])
async def test_a_slow_tool_is_stopped_and_told_of(lang: str, says: str) -> None:
    port = Port(seconds=60)
    started = time.monotonic()
    text, error = await call(port, 0.1, lang)
    assert (says in text, error) == (True, True)
    assert time.monotonic() - started < 5
    assert port.ended == ["git_log"]


async def test_a_tool_that_will_not_stop_is_left_behind() -> None:
    class Stubborn(Port):
        async def call(self, tool: str, arguments: dict[str, Any]) -> Answered:
            until = time.monotonic() + 2
            while time.monotonic() < until:
                try:
                    await asyncio.sleep(0.1)
                except asyncio.CancelledError:
                    continue
            return Answered("late")

    started = time.monotonic()
    text, error = await call(Stubborn(), 0.1)
    assert ("longer than" in text, error) == (True, True)
    assert time.monotonic() - started < 1.9
    await asyncio.sleep(1.2)  # to its end: nothing of it is left to this loop


def fails(exc: Exception) -> Callable[[], Answered]:
    def fail() -> Answered:
        raise exc

    return fail


@pytest.mark.parametrize(
    "exc",
    [
        RuntimeError("/home/me/secret ghp_x"),
        KeyError("hidden.py"),
        TimeoutError("hidden.py"),
        MemoryError("hidden.py"),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
async def test_what_breaks_inside_is_an_error_without_its_text(exc: Exception, inside: bool) -> None:
    text, error = await call(Port(does=fails(exc)) if inside else Port(refuses=exc))
    assert error
    assert text == say("en", "agent_answers", "tool_broke")


async def test_a_call_that_is_given_up_ends_its_tool() -> None:
    port = Port(seconds=60)
    task = asyncio.ensure_future(call(port, 60))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.1)
    assert port.ended == ["git_log"]


def test_the_server_has_the_tools_that_are_offered() -> None:
    config = make_server(Port(), ["git_log", "read_lines"], "en")
    assert (config["type"], config["name"]) == ("sdk", "review")
