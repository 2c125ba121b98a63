"""What review-agent stands on: the Claude Agent SDK's tools, hooks and permissions, with the bundled CLI."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
from claude_agent_sdk import create_sdk_mcp_server, tool
from converse import NOTE, OUTER_LIMIT, STRICT, Place, Tools, before_tools, converse, denial, running_clis
from mcp.server import Server
from mcp.types import CallToolResult, ListToolsResult, TextContent
from mcp.types import Tool as McpTool
from scripted_claude import Calls, ScriptedClaude, Text

BUILT_IN = {"Bash", "Read", "Write", "Edit", "Agent", "WebFetch"}


def note(text: str) -> tuple[str, dict[str, Any]]:
    return (NOTE, {"text": text})


def came_back(claude: ScriptedClaude) -> dict[str, tuple[str, bool]]:
    """What the model was told of each call, by the text of the note: (text, whether it failed)."""
    last = claude.asked[-1]
    told = {call: (text, failed) for call, text, failed in last.results}
    return {given["text"]: told[call] for call, name, given in last.called if name == NOTE}


async def test_an_in_process_tool_is_called_and_its_result_comes_back(place: Place) -> None:
    tools = Tools()
    with ScriptedClaude([Calls([note("一")])]) as claude:
        talk = await converse(claude, place, tools)
    assert tools.notes == [{"text": "一"}]
    assert came_back(claude) == {"一": ("kept 一", False)}
    assert talk.result is not None
    assert (talk.result.subtype, talk.result.is_error, talk.error) == ("success", False, None)


async def test_arguments_that_do_not_fit_the_schema_do_not_reach_the_tool(place: Place) -> None:
    tools = Tools()
    wrong: list[tuple[str, dict[str, Any]]] = [
        (NOTE, {"text": 3}),
        (NOTE, {"text": "x" * 101}),
        (NOTE, {}),
        (NOTE, {"text": "a", "more": 1}),
    ]
    with ScriptedClaude([Calls(wrong)]) as claude:
        await converse(claude, place, tools)
    assert tools.notes == []
    assert [failed for _, _, failed in claude.asked[-1].results] == [True] * 4


# --- the hook before a tool

BROKEN = ("raises", "returns nothing", "wrong case")  # hooks that fail


async def hook(call: Any, call_id: str | None, context: Any) -> dict[str, Any]:
    match call["tool_input"].get("text"):
        case "denied":
            return denial("no")
        case "raises":
            raise RuntimeError("broken")
        case "returns nothing":
            return None  # type: ignore[return-value]
        case "wrong case":
            return denial("no", "Deny")
    return {}


@pytest.mark.parametrize(
    ("how", "ran"),
    [({}, ["fine"]), ({"on_failure": "continue"}, [*BROKEN, "fine"])],
    ids=["fail-closed", "fail-open"],
)
async def test_only_a_hook_that_blocks_on_failure_denies_when_it_fails(
    place: Place, how: dict[str, Any], ran: list[str]
) -> None:
    tools, words = Tools(), ["denied", *BROKEN, "fine"]
    with ScriptedClaude([Calls([note(word) for word in words])]) as claude:
        await converse(claude, place, tools, hooks=before_tools(hook, **how))
    assert tools.texts == ran
    assert [word for word, (_, failed) in came_back(claude).items() if not failed] == ran


async def test_a_hook_that_takes_too_long_denies(place: Place) -> None:
    async def slow(call: Any, call_id: str | None, context: Any) -> dict[str, Any]:
        await asyncio.sleep(20)
        return {}

    tools = Tools()
    with ScriptedClaude([Calls([note("late")])]) as claude:
        talk = await converse(claude, place, tools, hooks=before_tools(slow, timeout=1))
    assert (tools.notes, came_back(claude)["late"][1]) == ([], True)
    assert talk.seconds < 18


@pytest.mark.parametrize(
    ("extra", "env", "denies"),
    [
        (STRICT, {}, True),
        ({**STRICT, "bare": None}, {}, False),
        (STRICT, {"CLAUDE_CODE_SIMPLE": "1"}, False),
    ],
    ids=["ours", "bare", "simple"],
)
async def test_bare_switches_hooks_off(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    extra: dict[str, str | None],
    env: dict[str, str],
    denies: bool,
) -> None:
    """Why review-agent refuses `--bare` and sets CLAUDE_CODE_SIMPLE itself: one that is inherited gives way to ours."""
    monkeypatch.setenv("CLAUDE_CODE_SIMPLE", "1")
    asked: list[str] = []

    async def deny(call: Any, call_id: str | None, context: Any) -> dict[str, Any]:
        asked.append(call["tool_name"])
        return denial("no")

    tools = Tools()
    with ScriptedClaude([Calls([note("x")])]) as claude:
        await converse(claude, place, tools, hooks=before_tools(deny), extra_args=extra, env=env)
    assert (tools.texts, asked) == (([], [NOTE]) if denies else (["x"], []))


# --- which tools there are


async def test_no_built_in_tool_is_offered(place: Place) -> None:
    with ScriptedClaude([]) as claude:
        await converse(claude, place)
    assert claude.asked[0].tools == {NOTE}


async def test_by_default_there_are_tools_that_run_code(place: Place) -> None:
    with ScriptedClaude([]) as claude:
        await converse(claude, place, tools=None, extra_args={})
    assert claude.asked[0].tools >= BUILT_IN


async def test_a_call_to_a_tool_that_is_not_there_shows_in_the_stream_only(place: Place) -> None:
    """No hook hears of it: an audit has to read the stream, too."""
    heard: list[str] = []

    async def listen(call: Any, call_id: str | None, context: Any) -> dict[str, Any]:
        heard.append(call["tool_name"])
        return {}

    unknown: list[tuple[str, dict[str, Any]]] = [
        ("Bash", {"command": "id"}),
        ("mcp__other__x", {"a": 1}),
        ("mcp__review__nope", {"path": "a.py"}),
    ]
    with ScriptedClaude([Calls([*unknown, note("known")])]) as claude:
        talk = await converse(claude, place, hooks=before_tools(listen))
    assert [(call.name, call.input) for call in talk.calls] == [*unknown, note("known")]
    assert heard == [NOTE]
    answers = [talk.results[call.id] for call in talk.calls]
    assert [answer.is_error for answer in answers] == [True, True, True, None]
    assert all(
        "No such tool available: " + name in str(answer.content)
        for (name, _), answer in zip(unknown, answers, strict=False)
    )
    assert talk.result is not None
    assert talk.result.permission_denials == []


@pytest.mark.parametrize(("allowed", "ran"), [([NOTE], ["x"]), (["mcp__review__other"], [])])
async def test_only_an_allowed_tool_runs(place: Place, allowed: list[str], ran: list[str]) -> None:
    tools = Tools()
    with ScriptedClaude([Calls([note("x")])]) as claude:
        talk = await converse(claude, place, tools, allowed_tools=allowed)
    assert tools.texts == ran
    assert talk.result is not None
    denied = [one["tool_name"] for one in talk.result.permission_denials or []]
    assert denied == ([] if ran else [NOTE])


async def test_a_server_of_our_own_is_told_the_id_of_the_call(place: Place) -> None:
    """The SDK's `tool` hands on the arguments only; a server that is written out sees the request's metadata."""
    seen: list[object] = []

    async def list_tools(context: Any, params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[McpTool(name="note", description="x", input_schema={"type": "object"})])

    async def call_tool(context: Any, params: Any) -> CallToolResult:
        seen.append(dict(params.meta)["claudecode/toolUseId"])
        return CallToolResult(content=[TextContent(type="text", text="well")])

    server: Any = Server("review", on_list_tools=list_tools, on_call_tool=call_tool)
    ours = {"review": {"type": "sdk", "name": "review", "instance": server}}
    with ScriptedClaude([Calls([note("x")])]) as claude:
        talk = await converse(claude, place, mcp_servers=ours)
    assert seen == [talk.calls[0].id] == [claude.asked[-1].results[0][0]]


# --- sizes


async def test_a_request_with_ten_tools_is_small(place: Place) -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "additionalProperties": False}

    @tool("t0", "A line that says what the tool does.", schema)
    async def nothing(given: dict[str, Any]) -> dict[str, Any]:
        return {"content": []}

    ten = [
        tool(f"t{number}", "A line that says what the tool does.", schema)(nothing.handler)
        for number in range(10)
    ]
    with ScriptedClaude([]) as claude:
        await converse(claude, place, mcp_servers={"review": create_sdk_mcp_server("review", "1", ten)})
    assert len(claude.asked[0].tools) == 10
    assert int(claude.asked[0].headers["content-length"]) < 5_000


@pytest.mark.parametrize(("size", "whole"), [(8_000, True), (160_000, False)])
async def test_what_a_tool_says_reaches_the_model_whole_up_to_a_limit(
    place: Place, size: int, whole: bool
) -> None:
    async def much(given: dict[str, Any]) -> str:
        return "码" * size

    with ScriptedClaude([Calls([note("x")])]) as claude:
        await converse(claude, place, Tools(act=much))
    text, failed = came_back(claude)["x"]
    assert (text == "码" * size, failed) == (whole, False)


# --- ends


async def test_max_turns_ends_a_loop(place: Place) -> None:
    with ScriptedClaude(lambda asked: Calls([note(str(asked.number))])) as claude:
        talk = await converse(claude, place, max_turns=3)
    assert len(claude.asked) == 3
    assert talk.result is not None
    assert (talk.result.subtype, talk.result.is_error) == ("error_max_turns", True)
    assert talk.error is None  # nothing is raised: who reads the messages looks at the result


async def test_a_deadline_cancels_the_tool_and_leaves_no_process(place: Place) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(given: dict[str, Any]) -> str:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return "late"

    with ScriptedClaude([Calls([note("x")])]) as claude:
        talk = asyncio.create_task(converse(claude, place, Tools(act=wait)))
        await asyncio.wait_for(started.wait(), OUTER_LIMIT)
        assert len(running_clis()) == 1
        talk.cancel()
        async with asyncio.timeout(15):
            await asyncio.wait([talk])
    assert (talk.cancelled(), cancelled.is_set(), running_clis()) == (True, True, [])


async def test_a_cli_that_is_killed_in_a_tool_ends_the_run_in_seconds(place: Place) -> None:
    async def kill(given: dict[str, Any]) -> str:
        (cli,) = running_clis()
        cli.send_signal(signal.SIGKILL)
        await asyncio.sleep(60)
        return "late"

    with ScriptedClaude([Calls([note("x")])]) as claude:
        talk = await converse(claude, place, Tools(act=kill))
    assert (talk.result, talk.timed_out) == (None, False)
    assert talk.error is not None
    assert getattr(talk.error, "exit_code", None) == -signal.SIGKILL
    assert talk.seconds < 30


# --- what is left behind, and what is told


@pytest.mark.parametrize(("extra", "kept"), [(STRICT, 0), ({}, 1)], ids=["ours", "default"])
async def test_no_transcript_is_written(place: Place, extra: dict[str, str | None], kept: int) -> None:
    with ScriptedClaude([Text("MARKER-IN-THE-ANSWER")]) as claude:
        await converse(claude, place, prompt="MARKER-IN-THE-PROMPT", extra_args=extra)
    files = [file for root in (place.home, place.config) for file in root.rglob("*") if file.is_file()]
    holding = [file for file in files if b"MARKER-IN-THE" in file.read_bytes()]
    assert len([file for file in holding if file.suffix == ".jsonl"]) == kept
    assert len(holding) == kept


async def test_the_model_is_told_little_of_the_machine(place: Place) -> None:
    """The environment message: the folder, the system, the date; so the folder must be one that says nothing."""
    with ScriptedClaude([]) as claude:
        await converse(claude, place)
    (environment,) = [one["content"] for one in claude.asked[0].body["messages"] if one["role"] == "system"]
    assert f"Primary working directory: {place.cwd}\n" in environment
    assert "Is a git repository: false" in environment
    said = claude.asked[0].text
    assert str(place.home) not in said
    assert str(place.config) not in said
    assert os.uname().nodename not in said
