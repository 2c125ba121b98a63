"""The in-process MCP server `review`: which tools an agent has, what they take, and how a call ends.

What the tools do is the port's business. A call never raises: the agent reads that it failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from review_agent.agent.models import Category, Severity
from review_agent.prompts import say

if TYPE_CHECKING:
    from claude_agent_sdk import McpSdkServerConfig, SdkMcpTool

NAME = "review"
PREFIX = f"mcp__{NAME}__"
# The CLI puts a longer answer into a file that the agent cannot read, and calls that no error.
MOST_CHARACTERS = 8000
_LETTING_GO = 1.0  # seconds that a tool has to end in when its time is over


@dataclass(frozen=True, slots=True)
class Answered:
    """What a call gave: text for the agent, and whether it is an error."""

    text: str
    error: bool = False


class ReviewPort(Protocol):
    """The review as the tools see it. `arguments` have passed the tool's schema."""

    def refusal(self, tool: str, arguments: dict[str, Any]) -> str:
        """Why a call is against the rules, as a sentence; '' = it is not. Called in a thread."""

    async def call(self, tool: str, arguments: dict[str, Any]) -> Answered:
        """Do it. The text is at most `MOST_CHARACTERS` long."""


def _object(required: Iterable[str] = (), **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _text(most: int, least: int = 0) -> dict[str, Any]:
    return {"type": "string", "minLength": least, "maxLength": most}


_PATH = _text(1000, 1)
_LINE = {"type": "integer", "minimum": 1, "maximum": 10_000_000}
_SKIP = {"type": "integer", "minimum": 0, "maximum": 1_000_000}
_ID = _text(40, 1)
_CHOICE = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Tool:
    """`name` without the server's prefix; its description is `[agent_tools] <name>`. Times are in seconds."""

    name: str
    schema: dict[str, Any] = field(hash=False)
    read_only: bool = True
    seconds: float = 60.0


TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool("list_units", _object(start=_SKIP)),
        Tool(
            "get_candidates",
            _object(start=_SKIP, status={**_CHOICE, "enum": ["open", "all"]}),
        ),
        Tool(
            "local_model_analyze",
            _object(
                path=_PATH,
                start_line=_LINE,
                end_line=_LINE,
                code=_text(20_000, 1),
                language=_text(40, 1),
            ),
            seconds=900.0,
        ),
        Tool("read_lines", _object(("path",), path=_PATH, start_line=_LINE, end_line=_LINE)),
        Tool(
            "search_code",
            _object(
                ("pattern",),
                pattern=_text(200, 1),
                regex={"type": "boolean"},
                glob=_text(200, 1),
                start=_SKIP,
            ),
        ),
        Tool("git_log", _object(path=_PATH, count={"type": "integer", "minimum": 1, "maximum": 50})),
        Tool(
            "git_blame",
            _object(("path", "start_line", "end_line"), path=_PATH, start_line=_LINE, end_line=_LINE),
        ),
        Tool(
            "record_finding",
            _object(
                ("path", "quote", "title", "category", "severity", "confidence", "explanation"),
                path=_PATH,
                start_line=_LINE,
                end_line=_LINE,
                quote=_text(2000, 1),
                title=_text(200, 1),
                category={**_CHOICE, "enum": [str(item) for item in Category]},
                severity={**_CHOICE, "enum": [str(item) for item in Severity]},
                confidence={"type": "number", "minimum": 0, "maximum": 1},
                explanation=_text(3000, 1),
                suggestion=_text(2000),
                replacement=_text(3000),
            ),
            read_only=False,
        ),
        Tool(
            "judge_finding",
            _object(
                ("id", "verdict", "reason"),
                id=_ID,
                verdict={**_CHOICE, "enum": ["confirm", "refute"]},
                reason=_text(1000, 1),
            ),
            read_only=False,
        ),
        Tool("submit_summary", _object(("summary",), summary=_text(4000, 1)), read_only=False),
        Tool("run_command", _object(("command",), command=_text(2000, 1)), seconds=300.0),
    )
}


def full_name(tool: str) -> str:
    """The name that an agent calls a tool by."""
    return PREFIX + tool


def short_name(name: str) -> str:
    """The tool that an agent means; a name that is none of ours stays as it is."""
    return name.removeprefix(PREFIX)


def make_server(port: ReviewPort, offered: Iterable[str], lang: str) -> McpSdkServerConfig:
    """The server with the tools of these names."""
    from claude_agent_sdk import create_sdk_mcp_server

    return create_sdk_mcp_server(NAME, "1", [_tool(TOOLS[name], port, lang) for name in offered])


def _tool(tool: Tool, port: ReviewPort, lang: str) -> SdkMcpTool[Any]:
    from claude_agent_sdk import SdkMcpTool, ToolAnnotations

    return SdkMcpTool(
        tool.name,
        say(lang, "agent_tools", tool.name),
        tool.schema,
        handler(tool, port, lang),
        ToolAnnotations(readOnlyHint=tool.read_only, openWorldHint=False),
    )


def handler(tool: Tool, port: ReviewPort, lang: str) -> Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]:
    """What the SDK calls. The rules are asked again here: the last layer, whatever let the call through."""

    async def answer(arguments: dict[str, Any]) -> Answered:
        if why := await asyncio.to_thread(port.refusal, tool.name, arguments):
            return Answered(why, error=True)
        return await port.call(tool.name, arguments)

    async def handle(arguments: dict[str, Any]) -> dict[str, Any]:
        answering = asyncio.ensure_future(answer(arguments))
        try:
            await asyncio.wait({answering}, timeout=tool.seconds)
        finally:
            answering.cancel()  # unless it is done
        await asyncio.wait({answering}, timeout=_LETTING_GO)
        if not answering.done() or answering.cancelled():
            slow = say(lang, "agent", "tool_slow", seconds=int(tool.seconds))
            return _result(Answered(slow, error=True))
        if answering.exception() is not None:  # may name paths and what was asked: the port tells the user
            return _result(Answered(say(lang, "agent_answers", "tool_broke"), error=True))
        return _result(answering.result())

    return handle


def _result(answer: Answered) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": answer.text[:MOST_CHARACTERS]}], "is_error": answer.error}
