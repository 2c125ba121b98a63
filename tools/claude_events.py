"""What happens in a session with the `claude` program, read from the messages of the SDK."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_CUT = "token limit"  # in what the program says to a model whose answer was cut


@dataclass(frozen=True, slots=True)
class Tokens:
    prompt: int = 0
    cache_read: int = 0
    cache_write: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.cache_read + self.cache_write + self.completion


@dataclass(frozen=True, slots=True)
class Called:
    """A tool call as the model made it. `name` is as it came; `ours` says whether such a tool exists."""

    id: str
    name: str
    arguments: dict[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Turn:
    """One more answer of the model, or more of the same one (equal `number`)."""

    number: int
    text: str = ""
    calls: tuple[Called, ...] = ()
    tokens: Tokens = Tokens()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """A tool call came to an end. `text` is what the model reads."""

    id: str
    error: bool
    text: str


@dataclass(frozen=True, slots=True)
class Retrying:
    attempt: int
    most: int
    status: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """The session's end. `why` is '' where the model came to its end by itself.

    Else one of: max_turns, api (with the HTTP `status`, 0 = none), interrupted, fault. `detail` is what the
    program said.
    """

    why: str
    status: int = 0
    detail: str = ""
    text: str = ""
    tokens: Tokens = Tokens()  # of the whole session; zero where it is not known


@dataclass(frozen=True, slots=True)
class Pushed:
    """The program itself has asked the model to go on: its answer was `cut` by the limit, or empty."""

    cut: bool


Event = Turn | Ended | Retrying | Pushed | Result


class Reading:
    """Turns the SDK's messages into events. Turns are counted by the ids of the model's messages."""

    def __init__(self) -> None:
        self._turn = 0
        self._message = ""

    def events(self, message: object) -> list[Event]:
        from claude_agent_sdk import AssistantMessage, ResultMessage, SystemMessage, UserMessage

        if isinstance(message, AssistantMessage):
            return [self._assistant(message)]
        if isinstance(message, UserMessage):
            return [*_ended(message.content), *_pushed(message.content)]
        if isinstance(message, ResultMessage):
            return [_result(message)]
        if isinstance(message, SystemMessage) and message.subtype == "api_retry":
            data = message.data
            return [
                Retrying(
                    int(data.get("attempt") or 0),
                    int(data.get("max_retries") or 0),
                    int(data.get("error_status") or 0),
                    float(data.get("retry_delay_ms") or 0) / 1000,
                )
            ]
        return []

    def _assistant(self, message: Any) -> Turn:
        from claude_agent_sdk import TextBlock, ToolUseBlock

        fresh = not message.message_id or message.message_id != self._message
        if fresh:
            self._turn += 1
            self._message = message.message_id or ""
        calls = tuple(
            Called(block.id, block.name, dict(block.input))
            for block in message.content
            if isinstance(block, ToolUseBlock)
        )
        text = "".join(block.text for block in message.content if isinstance(block, TextBlock))
        tokens = _tokens(message.usage or {}) if fresh else Tokens()
        return Turn(self._turn, text, calls, tokens, message.error or "")


def _tokens(usage: Mapping[str, Any]) -> Tokens:
    def count(name: str) -> int:
        value = usage.get(name)
        return value if isinstance(value, int) and value > 0 else 0

    return Tokens(
        count("input_tokens"),
        count("cache_read_input_tokens"),
        count("cache_creation_input_tokens"),
        count("output_tokens"),
    )


def _ended(content: object) -> list[Ended]:
    from claude_agent_sdk import ToolResultBlock

    blocks = content if isinstance(content, list) else []
    return [
        Ended(block.tool_use_id, bool(block.is_error), _text_of(block.content))
        for block in blocks
        if isinstance(block, ToolResultBlock)
    ]


def _pushed(content: object) -> list[Pushed]:
    from claude_agent_sdk import TextBlock

    blocks = content if isinstance(content, list) else []
    texts = [block.text for block in blocks if isinstance(block, TextBlock)]
    return [Pushed(any(_CUT in text for text in texts))] if texts else []


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def _result(message: Any) -> Result:
    detail = " ".join([*(message.errors or []), message.result or ""]).strip()[:500]
    used = _tokens(message.usage or {})
    status = int(message.api_error_status or 0)
    if message.subtype == "error_max_turns" or message.terminal_reason == "max_turns":
        return Result("max_turns", detail=detail, tokens=used)
    if str(message.terminal_reason or "").startswith("aborted"):
        return Result("interrupted", detail=detail, tokens=used)
    if message.is_error:
        return Result("api", status, detail, tokens=used)
    if message.subtype != "success":
        return Result("fault", status, detail, tokens=used)
    return Result("", text=message.result or "", tokens=used)
