"""One session with the bundled `claude` program through the Claude Agent SDK, as a stream of events.

Every option here is a guard, or keeps one working; docs/agent.md tells which, and tests/contract removes them
one by one. The SDK is imported when a session is made: it takes seconds.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from review_agent.agent.errors import EngineFault, UsageError
from review_agent.agent.models import TrustClass
from review_agent.prompts import say
from review_agent.tools.claude_events import Called, Event, Reading, Result, Turn
from review_agent.tools.endpoints import Endpoint
from review_agent.tools.server import NAME, ReviewPort, full_name, make_server
from review_agent.tools.session_folder import PID_VARIABLE, make_folder, put_launcher

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, McpSdkServerConfig

RETRIES = 2
START_SECONDS = 90.0
CLOSE_SECONDS = 15.0
_GUARD_SECONDS = 30.0
_PID = "pid"  # a file with the program's process id
# What the program needs of ours; a proxy and certificates only where it goes to the cloud.
_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM")
_KEPT_FOR_CLOUD = (
    "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
# What would lead it elsewhere or in other words. The launcher keeps these out; should it not, they are empty.
_SILENCED = (
    "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy", "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_UNIX_SOCKET", "CLAUDE_CODE_EXTRA_BODY",
    "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY",
    "NODE_OPTIONS", "BUN_OPTIONS", "BUN_INSPECT",
)  # fmt: skip

Guard = Callable[[str, dict[str, Any]], str]  # (tool, arguments) -> why not, '' = nothing against it


@dataclass(frozen=True, slots=True)
class Side:
    """The Anthropic-compatible endpoint of an agent. `key` goes there and nowhere else.

    `auth` is "api_key" (`x-api-key`) or "auth_token" (`Authorization: Bearer`). `cloud`: what is sent there
    may leave this machine, though the address itself be on it.
    """

    endpoint: Endpoint
    model: str
    key: str = field(repr=False)
    auth: str = "api_key"
    cloud: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """`idle`: seconds in which the endpoint may send nothing. `answer`: tokens of one answer, 0 = any."""

    turns: int
    idle: int = 120
    answer: int = 0


class Session:
    """One conversation. Close it (or use `async with`): it owns a process and a private folder."""

    def __init__(
        self,
        side: Side,
        port: ReviewPort,
        offered: Sequence[str],
        guard: Guard,
        *,
        system_prompt: str,
        lang: str,
        limits: Limits,
        environ: Mapping[str, str],
        on_guarded: Callable[[Called, str], None] = lambda _call, _why: None,
    ) -> None:
        self._side, self._limits = side, limits
        self._folder = make_folder()
        self._noise: list[str] = []
        self._seen: dict[str, asyncio.Event] = {}
        self.started = 0.0
        try:
            self.options = make_options(
                side,
                make_server(port, offered, lang),
                offered,
                self._hook(guard, on_guarded, lang),
                system_prompt=system_prompt,
                limits=limits,
                folder=self._folder,
                environ=environ,
                on_stderr=self._hear,
            )
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self) -> None:
        """Kill the program and what it may have started. It has nothing to save; left to itself it
        goes on asking for seconds.
        """
        import psutil

        with suppress(OSError, ValueError, psutil.Error):
            number = int((self._folder / _PID).read_text("ascii"))
            if psutil.Process(number).ppid() != os.getpid():  # it has ended, and the number is another's
                return
            leads = os.getpgid(number) == number  # not yet, in its first milliseconds
            (os.killpg if leads else os.kill)(number, signal.SIGKILL)

    async def run(self, prompt: str) -> AsyncGenerator[Event, None]:
        """Say `prompt` and yield what happens; the last event is a Result. Raises EngineFault for a program
        that cannot be started or that dies.
        """
        from claude_agent_sdk import ClaudeSDKClient, ClaudeSDKError, ResultMessage

        check_guards(self.options)
        self.started = time.monotonic()
        client = ClaudeSDKClient(self.options)
        reading = Reading()
        try:
            async with asyncio.timeout(START_SECONDS):
                await client.connect()
                await client.query(prompt)
            last: Result | None = None
            async for message in client.receive_messages():
                for event in reading.events(message):
                    if isinstance(event, Turn):
                        for call in event.calls:
                            self._event(call.id).set()
                    if isinstance(event, Result):
                        last = event
                    else:
                        yield event
                if isinstance(message, ResultMessage):
                    break
            if last is None:
                raise EngineFault("agent.program_died", detail=self._said())
            yield last
        except TimeoutError as exc:
            raise EngineFault("agent.program_slow", detail=self._said()) from exc
        except ClaudeSDKError as exc:
            raise EngineFault("agent.program_died", detail=self._said() or str(exc)[:300]) from exc
        finally:
            self._end()
            with suppress(ClaudeSDKError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await client.disconnect()

    def _hear(self, line: str) -> None:
        self._noise = [*self._noise[-5:], line[:300]]

    def _said(self) -> str:
        return " ".join(self._noise)[-300:]

    def _event(self, tool_use_id: str) -> asyncio.Event:
        return self._seen.setdefault(tool_use_id, asyncio.Event())

    def _hook(self, guard: Guard, on_guarded: Callable[[Called, str], None], lang: str) -> Any:
        """The guard as a PreToolUse hook: it returns nothing or a denial, and never allows."""

        async def pre_tool_use(given: Any, tool_use_id: str | None, _context: Any) -> dict[str, Any]:
            call = Called(str(tool_use_id or ""), str(given["tool_name"]), dict(given["tool_input"]))
            with suppress(TimeoutError):  # so that the turn it belongs to is known first
                async with asyncio.timeout(1):
                    await self._event(call.id).wait()
            # In a thread: it may have to look for secrets in a file. What it raises is a denial.
            asking = asyncio.ensure_future(asyncio.to_thread(guard, call.name, call.arguments))
            await asyncio.wait({asking})
            why = say(lang, "agent_answers", "tool_broke") if asking.exception() else asking.result()
            on_guarded(call, why)
            if not why:
                return {}
            return {
                "hookSpecificOutput": {
                    "hookEventName": "PreToolUse",
                    "permissionDecision": "deny",
                    "permissionDecisionReason": why,
                }
            }

        return pre_tool_use


def make_options(
    side: Side,
    server: McpSdkServerConfig,
    offered: Sequence[str],
    hook: Any,
    *,
    system_prompt: str,
    limits: Limits,
    folder: Path,
    environ: Mapping[str, str],
    on_stderr: Callable[[str], None],
) -> ClaudeAgentOptions:
    """Every guard of a session. `folder` is an empty one of ours: nothing of the repository is near."""
    from claude_agent_sdk import ClaudeAgentOptions, HookMatcher

    work, config = folder / "work", folder / "config"
    work.mkdir()
    config.mkdir()
    return ClaudeAgentOptions(
        tools=[],
        allowed_tools=[full_name(name) for name in offered],
        mcp_servers={NAME: server},
        strict_mcp_config=True,
        setting_sources=[],
        skills=[],
        permission_mode="dontAsk",
        verbatim_prompts=True,
        system_prompt={"type": "custom", "prompt": system_prompt, "snapshot": False},
        model=side.model,
        max_turns=limits.turns,
        thinking=None if side.cloud else {"type": "disabled"},
        cwd=work,
        add_dirs=[],
        cli_path=put_launcher(folder),
        env=environment(side, limits, folder, environ),
        extra_args={"restricted": None, "permission-prompts": "none", "no-session-persistence": None},
        hooks={"PreToolUse": [HookMatcher(hooks=[hook], on_failure="block", timeout=_GUARD_SECONDS)]},
        stderr=on_stderr,
    )


def check_guards(options: ClaudeAgentOptions) -> None:
    """Raises UsageError where the program would start without its hook, or with one that fails open."""
    matchers = (options.hooks or {}).get("PreToolUse") or []
    asked = any(one.matcher is None and one.hooks for one in matchers)  # about every tool
    closed = all(one.on_failure == "block" for one in matchers)
    simple = options.env.get("CLAUDE_CODE_SIMPLE")  # where it is not set, ours is handed on
    if "bare" in options.extra_args or simple != "0" or not asked or not closed:
        raise UsageError("agent.guards_off")


def environment(side: Side, limits: Limits, folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What the program gets to see. Everything else of our environment is kept from it."""
    names = (*_KEPT, *(_KEPT_FOR_CLOUD if side.endpoint.trust is TrustClass.CLOUD else ()))
    own = {name: environ[name] for name in names if name in environ}
    own |= {
        "HOME": str(folder),
        "GIT_CEILING_DIRECTORIES": str(folder),  # it asks git about the folder it stands in
        "CLAUDE_CONFIG_DIR": str(folder / "config"),
        "TMPDIR": str(folder),
        "ANTHROPIC_BASE_URL": side.endpoint.url.removesuffix("/v1"),
        "ANTHROPIC_API_KEY" if side.auth == "api_key" else "ANTHROPIC_AUTH_TOKEN": side.key,
        "ANTHROPIC_SMALL_FAST_MODEL": side.model,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "CLAUDE_CODE_SIMPLE": "0",
        "CLAUDE_CODE_MAX_RETRIES": str(RETRIES),
        "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
        "API_TIMEOUT_MS": str(limits.idle * 1000),
        "CLAUDE_ENABLE_BYTE_WATCHDOG": "1",
        "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": str(limits.idle * 1000),
        "MCP_TOOL_TIMEOUT": "1200000",  # ours are shorter
        "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": "1",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
    }
    if not side.cloud:
        own |= {"DISABLE_PROMPT_CACHING": "1", "CLAUDE_CODE_EFFORT_LEVEL": "unset"}
    if limits.answer:
        own |= {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(limits.answer)}
    kept = ",".join([*own, "PWD", "CLAUDE_AGENT_SDK_VERSION", "CLAUDE_CODE_SDK_READS_SESSION_STATE"])
    return (
        dict.fromkeys(_SILENCED, "")
        | own
        | {
            "REVIEW_AGENT_KEEP": kept,
            "REVIEW_AGENT_PROGRAM": str(program()),
            "REVIEW_AGENT_PARENT": str(os.getpid()),
            PID_VARIABLE: str(folder / _PID),
        }
    )


def program() -> Path:
    """The program that came with the SDK, never one that stands on PATH."""
    import claude_agent_sdk

    return Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
