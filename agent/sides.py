"""The endpoint and the model of a run's agent."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from review_agent.agent.errors import EndpointRefused, UsageError
from review_agent.agent.models import TrustClass
from review_agent.agent.settings import Settings
from review_agent.tools.endpoints import Endpoint, make_endpoint

if TYPE_CHECKING:
    from review_agent.agent.engine import Engine
    from review_agent.tools.claude import Side

_NO_KEY = "local"  # the program wants one; a server on this machine asks for none


def check_tools(settings: Settings) -> None:
    """Raises UsageError for a name in `tools` that is none of ours."""
    from review_agent.tools.server import TOOLS

    for name in settings.tools:
        if name not in TOOLS:
            near = difflib.get_close_matches(name, TOOLS, n=1)
            raise UsageError(
                "agent.no_such_tool", name=name[:60], near=near[0] if near else "-", known=", ".join(TOOLS)
            )


async def agent_side(settings: Settings, environ: Mapping[str, str], engine: Engine) -> Side | None:
    """None for a run without an agent: `direct`, and `auto` in local mode.

    In local mode it is the local engine's own endpoint, unless the user names another one on this machine or
    of `allowed_hosts`. Raises EndpointRefused for any other.
    """
    if settings.orchestrator == "direct":
        return None
    from review_agent.tools.claude import Side

    check_tools(settings)
    if engine.cloud is not None:
        cloud = engine.cloud
        return Side(cloud.endpoint, cloud.model, cloud.key, cloud.auth, cloud=True)
    if settings.orchestrator != "agent" or engine.backend is None:
        return None
    endpoint, key = await _local(settings, environ, engine)
    return Side(endpoint, settings.verify_model or engine.model.name, key, cloud=False)


def named_endpoint(settings: Settings) -> Endpoint | None:
    """Where the user wants the agent of a run in local mode; None = nowhere in particular.

    Raises EndpointRefused for what is neither on this machine nor of `allowed_hosts`.
    """
    if settings.orchestrator != "agent" or not settings.agent_base_url:
        return None
    endpoint = make_endpoint(settings.agent_base_url, settings.allowed_hosts)
    if endpoint.trust is TrustClass.CLOUD:
        raise EndpointRefused("agent.endpoint_not_local", url=endpoint.url, host=endpoint.host)
    return endpoint


async def _local(settings: Settings, environ: Mapping[str, str], engine: Engine) -> tuple[Endpoint, str]:
    from review_agent.tools.backends.embedded import EmbeddedBackend

    named = environ.get(settings.api_key_env, "") if settings.api_key_env else ""
    if (there := named_endpoint(settings)) is not None:
        return there, named or _NO_KEY
    if isinstance(engine.backend, EmbeddedBackend):  # one that we start ourselves
        return await engine.backend.serving()
    if engine.backend is None:
        raise EndpointRefused("agent.endpoint_not_local", url="-", host="-")
    return engine.backend.endpoint, named or _NO_KEY
