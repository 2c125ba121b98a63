"""Model servers. One protocol, one module per wire protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from review_agent.tools.endpoints import Endpoint

CLOUD_CONTEXT = 200_000  # tokens; the least that current models of the cloud have


@dataclass(frozen=True, slots=True)
class Message:
    role: str  # "system", "user" or "assistant"
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question. `schema` is the answer's JSON schema; `num_ctx` counts prompt and answer, in tokens."""

    model: str
    messages: tuple[Message, ...]
    schema: dict[str, object] = field(hash=False)
    num_ctx: int
    max_answer: int
    prompt_estimate: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer, as it comes."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """End of an answer. `finish` is "stop" or "length"; token counts are 0 when the server did not say.

    Prompt tokens that a server kept from earlier requests, or keeps for later ones, are counted apart.
    """

    finish: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """An installed model. `size` in bytes, `context` in tokens, 0 = unknown; `remote` = runs elsewhere."""

    name: str
    digest: str = ""
    size: int = 0
    context: int = 0
    parameters: float = 0.0
    capabilities: frozenset[str] = frozenset()
    remote: bool = False
    loaded: bool = False


class Backend(Protocol):
    """A model server. Errors are `EngineError`s; cancelling the task that reads `chat` ends the request."""

    name: str
    endpoint: Endpoint

    async def models(self) -> list[ModelInfo]:
        """Installed models, without asking for details of each."""

    async def describe(self, model: str) -> ModelInfo:
        """Details of one model. Raises ModelMissing."""

    def chat(self, request: ChatRequest) -> AsyncIterator[Delta | Done]:
        """Stream one answer; the last item is `Done`. A stream that ends without it raises EngineFault."""

    async def aclose(self) -> None: ...
