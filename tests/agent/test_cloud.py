"""Where the cloud of a run is, with which model and key, and who chose it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from review_agent.agent.cloud import cloud_side, effective_mode
from review_agent.agent.errors import ConfigError, EndpointRefused, ReviewError, UsageError
from review_agent.agent.settings import Settings
from review_agent.agent.wording import sentence
from review_agent.prompts import LANGS

KEY = {"ANTHROPIC_API_KEY": "k"}
OFFICIAL, DEFAULT = "https://api.anthropic.com", "claude-sonnet-5-5"
ALL = {"ANTHROPIC_BASE_URL": "https://env.example", "ANTHROPIC_MODEL": "env-model", **KEY}


@pytest.mark.parametrize(
    ("settings", "environ", "url", "model"),
    [
        (Settings(mode="cloud"), KEY, OFFICIAL, DEFAULT),
        (Settings(mode="cloud"), ALL, "https://env.example", "env-model"),
        (Settings(mode="hybrid", agent_base_url="https://a.example/"), ALL, "https://a.example", "env-model"),
        (Settings(mode="hybrid", verify_model="v"), ALL, "https://env.example", "v"),
        # What is said of the local engine says nothing of the cloud …
        (Settings(mode="cloud", base_url="http://127.0.0.1:1", model="m"), KEY, OFFICIAL, DEFAULT),
        # … but for who has no other
        (Settings(backend="anthropic", base_url="https://b.example", model="m"), ALL, "https://b.example", "m"),
        (Settings(backend="anthropic", agent_base_url="https://a.example", verify_model="v", base_url="https://b.example", model="m"), ALL, "https://a.example", "v"),
        (Settings(backend="anthropic"), {**KEY, "ANTHROPIC_BASE_URL": " ", "ANTHROPIC_MODEL": ""}, OFFICIAL, DEFAULT),
    ],
)  # fmt: skip
def test_address_and_model(settings: Settings, environ: Mapping[str, str], url: str, model: str) -> None:
    side = cloud_side(settings, environ)
    assert (side.endpoint.url, side.model) == (url, model)


@pytest.mark.parametrize(
    ("environ", "key", "auth"),
    [
        ({"ANTHROPIC_API_KEY": "k"}, "k", "api_key"),
        ({"ANTHROPIC_AUTH_TOKEN": "t"}, "t", "auth_token"),
        ({"ANTHROPIC_API_KEY": "k", "ANTHROPIC_AUTH_TOKEN": "t"}, "k", "api_key"),
        ({"ANTHROPIC_API_KEY": " ", "ANTHROPIC_AUTH_TOKEN": "t\n"}, "t", "auth_token"),
    ],
)
def test_one_key_and_how_it_is_sent(environ: Mapping[str, str], key: str, auth: str) -> None:
    side = cloud_side(Settings(mode="cloud"), environ)
    assert (side.key, side.auth) == (key, auth)
    assert repr(side.key) not in repr(side)


@pytest.mark.parametrize(
    ("settings", "environ", "error", "key"),
    [
        (Settings(mode="cloud"), {}, ConfigError, "no_key"),
        (Settings(mode="hybrid"), {"OPENAI_API_KEY": "k"}, ConfigError, "no_key"),
        (Settings(backend="anthropic"), {"ANTHROPIC_API_KEY": ""}, ConfigError, "no_key"),
        (Settings(mode="cloud", agent_base_url="http://a.example"), KEY, EndpointRefused, "not_encrypted"),
        (Settings(mode="cloud"), {**KEY, "ANTHROPIC_BASE_URL": "http://a.example"}, EndpointRefused, "not_encrypted"),
        (Settings(mode="cloud", agent_base_url="http://127.0.0.1.example"), KEY, EndpointRefused, "not_encrypted"),
        (Settings(mode="cloud", agent_base_url="ftp://a"), KEY, ConfigError, "bad_url"),
        (Settings(mode="cloud"), {**KEY, "HTTPS_PROXY": "ftp://x"}, ConfigError, "proxy_unusable"),
    ],
)  # fmt: skip
def test_refusals(settings: Settings, environ: Mapping[str, str], error: type[ReviewError], key: str) -> None:
    with pytest.raises(error, match=key) as caught:
        cloud_side(settings, environ)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://localhost:1", "http://gpu-box", "https://a.example"]
)
def test_where_a_key_may_go_in_the_clear(url: str) -> None:
    settings = Settings(mode="cloud", agent_base_url=url, allowed_hosts=("gpu-box",))
    assert cloud_side(settings, KEY).endpoint.url == url


def test_who_has_no_key_is_told_both_variables_and_the_way_back() -> None:
    with pytest.raises(ConfigError) as caught:
        cloud_side(Settings(backend="anthropic"), {})
    for lang in LANGS:
        text = sentence(caught.value, lang)
        assert all(
            word in text
            for word in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "--mode local", "--backend anthropic")
        )


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        (Settings(), "local"),  # whatever keys there are
        (Settings(mode="local"), "local"),
        (Settings(mode="hybrid"), "hybrid"),
        (Settings(mode="cloud"), "cloud"),
        (Settings(backend="ollama"), "local"),
        (Settings(verify_model="claude-opus-5", agent_base_url=OFFICIAL), "local"),
        (Settings(backend="anthropic"), "cloud"),
        (Settings(backend="anthropic", mode="cloud"), "cloud"),
    ],
)
def test_modes(settings: Settings, mode: str) -> None:
    assert effective_mode(settings) == mode


@pytest.mark.parametrize("mode", ["local", "hybrid"])
def test_a_backend_of_the_cloud_contradicts_a_local_mode(mode: str) -> None:
    with pytest.raises(UsageError, match="backend_and_mode"):
        effective_mode(Settings(backend="anthropic", mode=mode))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        Settings(mode="cloud", verify_model="n"),
        Settings(mode="cloud", agent_base_url="https://b.example"),
        Settings(mode="cloud", agent_base_url="https://a.example/x"),
    ],
)
def test_answers_of_another_model_or_endpoint_do_not_count(other: Settings) -> None:
    def key(settings: Settings) -> str:
        return cloud_side(settings, KEY).model_key

    usual = Settings(mode="cloud", verify_model="m", agent_base_url="https://a.example")
    merged = Settings(
        mode="cloud",
        verify_model=other.verify_model or "m",
        agent_base_url=other.agent_base_url or "https://a.example",
    )
    assert key(usual) != key(merged)
