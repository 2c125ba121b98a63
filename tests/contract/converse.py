"""One conversation of the real Claude Agent SDK and its bundled CLI with a scripted server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    ClaudeSDKError,
    HookMatcher,
    Message,
    ResultMessage,
    SystemMessage,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
    create_sdk_mcp_server,
    tool,
)

Hook = Callable[[Any, str | None, Any], Awaitable[Any]]

NOTE = "mcp__review__note"
SERVER, OUTER_LIMIT = "review", 45.0  # seconds: no conversation here may take longer
STRICT = {"restricted": None, "permission-prompts": "none", "no-session-persistence": None}


class Server(Protocol):
    url: str


@dataclass
class Address:
    """A server in another process."""

    url: str


@dataclass(frozen=True)
class Place:
    """Where a CLI lives: its home, its configuration, the folder it is started in."""

    home: Path
    config: Path
    cwd: Path

    @classmethod
    def make(cls, root: Path) -> Place:
        place = cls(root / "claude-home", root / "claude-config", root / "claude-cwd")
        for folder in (place.home, place.config, place.cwd):
            folder.mkdir(mode=0o700, exist_ok=True)
        return place

    def environment(self, claude: Server) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "CLAUDE_CONFIG_DIR": str(self.config),
            "ANTHROPIC_BASE_URL": claude.url,
            "ANTHROPIC_API_KEY": "dummy",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_SIMPLE": "0",
            "CLAUDE_CODE_MAX_RETRIES": "0",
            "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": "1",
            "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        }


@dataclass
class Tools:
    """An in-process MCP server with one tool, `note`, which keeps what it was given and says so."""

    notes: list[dict[str, Any]] = field(default_factory=list)
    act: Callable[[dict[str, Any]], Awaitable[str]] | None = None

    def server(self) -> Any:
        schema = {
            "type": "object",
            "properties": {"text": {"type": "string", "maxLength": 100}},
            "required": ["text"],
            "additionalProperties": False,
        }

        @tool("note", "Keep a note.", schema)
        async def note(given: dict[str, Any]) -> dict[str, Any]:
            self.notes.append(given)
            said = await self.act(given) if self.act else f"kept {given['text']}"
            return {"content": [{"type": "text", "text": said}]}

        return create_sdk_mcp_server(SERVER, "1", [note])

    @property
    def texts(self) -> list[str]:
        return [note["text"] for note in self.notes]


@dataclass
class Talk:
    """What came out: the messages, how it ended, and how long it took."""

    messages: list[Message] = field(default_factory=list)
    error: ClaudeSDKError | None = None
    seconds: float = 0.0
    timed_out: bool = False

    @property
    def result(self) -> ResultMessage | None:
        return next((one for one in reversed(self.messages) if isinstance(one, ResultMessage)), None)

    @property
    def calls(self) -> list[ToolUseBlock]:
        said = [one for one in self.messages if isinstance(one, AssistantMessage)]
        return [block for one in said for block in one.content if isinstance(block, ToolUseBlock)]

    @property
    def results(self) -> dict[str, ToolResultBlock]:
        """By the id of the call."""
        told = [
            one for one in self.messages if isinstance(one, UserMessage) and isinstance(one.content, list)
        ]
        return {
            block.tool_use_id: block
            for one in told
            for block in one.content
            if isinstance(block, ToolResultBlock)
        }

    @property
    def retries(self) -> list[Mapping[str, Any]]:
        told = [one for one in self.messages if isinstance(one, SystemMessage)]
        return [one.data for one in told if one.subtype == "api_retry"]


def before_tools(hook: Hook, **more: Any) -> dict[str, Any]:
    """The hook before each tool, fail-closed unless `more` says otherwise."""
    how: dict[str, Any] = {"on_failure": "block", "timeout": 10} | more
    return {"PreToolUse": [HookMatcher(hooks=[hook], **how)]}


def denial(reason: str, word: str = "deny") -> dict[str, Any]:
    return {
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": word,
            "permissionDecisionReason": reason,
        }
    }


async def converse(
    claude: Server,
    place: Place,
    ours: Tools | None = None,
    *,
    prompt: str = "Go.",
    limit: float = OUTER_LIMIT,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> Talk:
    """One prompt, until its result. `env` and `options` go over those that review-agent stands on."""
    talk, started = Talk(), time.monotonic()
    given: dict[str, Any] = {
        "cwd": place.cwd,
        "setting_sources": [],
        "strict_mcp_config": True,
        "verbatim_prompts": True,
        "system_prompt": {"type": "custom", "prompt": "You review code.", "snapshot": False},
        "tools": [],
        "allowed_tools": [f"mcp__{SERVER}"],
        "permission_mode": "dontAsk",
        "extra_args": STRICT,
        "mcp_servers": {SERVER: (ours or Tools()).server()},
        "model": "claude-scripted",
        "max_turns": 20,
        "thinking": {"type": "disabled"},
        "stderr": lambda line: None,
        "env": place.environment(claude) | dict(env or {}),
    } | options
    try:
        async with asyncio.timeout(limit), ClaudeSDKClient(ClaudeAgentOptions(**given)) as client:
            await client.query(prompt)
            async for message in client.receive_response():
                talk.messages.append(message)
    except ClaudeSDKError as error:
        talk.error = error
    except TimeoutError:
        talk.timed_out = True
    talk.seconds = time.monotonic() - started
    return talk


def running_clis() -> list[psutil.Process]:
    """The CLIs that this process started and that still run."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "claude" in child.name()
    ]
