"""Where the agent of a run is, and what leads there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted import HERE, Scripted

from review_agent.agent.engine import Engine
from review_agent.agent.errors import EndpointRefused, UsageError
from review_agent.agent.models import EngineInfo, TrustClass
from review_agent.agent.settings import Settings
from review_agent.agent.sides import agent_side
from review_agent.tools.backends import ModelInfo

ENGINE = Engine(Scripted(["{}"]), ModelInfo("local:7b"), EngineInfo("local", "scripted", "local:7b", ""))
AGENT = Settings(orchestrator="agent")


@pytest.mark.parametrize("orchestrator", ["auto", "direct"])
async def test_in_local_mode_there_is_none_unless_asked_for(orchestrator: str) -> None:
    settings = replace(AGENT, orchestrator=orchestrator, agent_base_url="http://127.0.0.1:5")  # type: ignore[arg-type]
    assert await agent_side(settings, {}, ENGINE) is None


@pytest.mark.parametrize(
    ("settings", "environ", "url", "trust", "model", "key"),
    [
        (AGENT, {}, HERE.url, TrustClass.LOOPBACK, "local:7b", "local"),
        (replace(AGENT, verify_model="big:32b"), {}, HERE.url, TrustClass.LOOPBACK, "big:32b", "local"),
        (
            replace(AGENT, agent_base_url="http://localhost:5/v1"), {}, "http://localhost:5/v1", TrustClass.LOOPBACK,
            "local:7b", "local",
        ),
        (
            replace(AGENT, agent_base_url="http://gpu-box:5", allowed_hosts=("gpu-box",), api_key_env="BOX"),
            {"BOX": "secret", "ANTHROPIC_API_KEY": "not this"}, "http://gpu-box:5", TrustClass.LAN, "local:7b", "secret",
        ),
        # Variables that are meant for the cloud lead nowhere.
        (
            AGENT, {"ANTHROPIC_BASE_URL": "https://evil.example", "ANTHROPIC_API_KEY": "k", "ANTHROPIC_MODEL": "m"},
            HERE.url, TrustClass.LOOPBACK, "local:7b", "local",
        ),
    ],
)  # fmt: skip
async def test_where_a_local_agent_is(
    settings: Settings, environ: dict[str, str], url: str, trust: TrustClass, model: str, key: str
) -> None:
    side = await agent_side(settings, environ, ENGINE)
    assert side is not None
    assert (side.endpoint.url, side.endpoint.trust, side.model, side.key) == (url, trust, model, key)
    assert (side.auth, side.cloud) == ("api_key", False)


@pytest.mark.parametrize("url", ["https://api.anthropic.com", "http://gpu-box:5", "http://10.1.2.3:8080"])
async def test_a_local_agent_is_nowhere_else(url: str) -> None:
    with pytest.raises(EndpointRefused) as caught:
        await agent_side(replace(AGENT, agent_base_url=url), {}, ENGINE)
    assert (caught.value.key, caught.value.exit_code) == ("agent.endpoint_not_local", 2)


async def test_a_tool_that_does_not_exist_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        await agent_side(replace(AGENT, tools=("read_line",)), {}, ENGINE)
    assert caught.value.fields["near"] == "read_lines"
