"""What the server of a fully local agent says of its model. Asks this machine and trusted hosts only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from review_agent.agent.engine import reach
from review_agent.agent.errors import EngineError
from review_agent.agent.settings import Settings
from review_agent.tools.backends import Backend
from review_agent.tools.backends.embedded import EmbeddedBackend
from review_agent.tools.backends.ollama import OllamaBackend
from review_agent.tools.claude import Side


@dataclass(frozen=True, slots=True)
class Served:
    """`context` in tokens, 0 = unknown. `tools`: False where the server says that the model cannot call any.

    `reloads`: the server would load the model anew for each turn between the agent and the analysis, and read
    the whole conversation again.
    """

    context: int = 0
    tools: bool = True
    reloads: bool = False


@asynccontextmanager
async def asked(
    side: Side, backend: Backend | None, settings: Settings, environ: Mapping[str, str]
) -> AsyncIterator[Served]:
    """Ask, and let the server keep the model for as long as this is open. What is not known is no error."""
    if side.cloud:
        yield Served()
    elif isinstance(backend, EmbeddedBackend) and not settings.agent_base_url:
        yield Served(backend.context)
    elif backend is not None and backend.endpoint == side.endpoint:
        yield await _known(backend, side.model, own=True)
    else:
        there = replace(settings, base_url=side.endpoint.url, backend="auto")
        try:
            server = await reach(there, environ)
        except EngineError:
            yield Served()
            return
        try:
            yield await _known(server, side.model, own=False)
        finally:
            await server.aclose()


async def _known(server: Backend, name: str, *, own: bool) -> Served:
    try:
        model = await server.describe(name)
        if not isinstance(server, OllamaBackend):  # no other says whether a model can call tools
            return Served(model.context)
        tools = not model.capabilities or "tools" in model.capabilities
        context = await server.default_context(model.name) if tools else model.context
        return Served(context, tools, reloads=own)
    except EngineError:
        return Served()
