"""The price list: every row says where its numbers are from, and what is not in it has no price."""

from __future__ import annotations

from typing import get_args

import pytest
from anthropic.types import Model

from review_agent.agent.models import CloudUsage
from review_agent.tools.prices import Price, cost, load, price_of

HOST = "api.anthropic.com"
USED = CloudUsage(
    requests=3,
    prompt_tokens=1_000_000,
    cache_read_tokens=2_000_000,
    cache_write_tokens=100_000,
    completion_tokens=50_000,
)


@pytest.mark.parametrize("name", load().models)
def test_a_row_is_whole(name: str) -> None:
    price = load().models[name]
    assert 0 < price.cache_read < price.input < price.cache_write < price.output
    assert price.cache_write == pytest.approx(1.25 * price.input)
    assert price.source
    assert set(price.source) <= set(load().sources)


def test_every_model_is_one_that_the_client_names() -> None:
    known, _ = get_args(Model)
    assert set(load().models) <= set(get_args(known))


def test_every_source_is_used() -> None:
    assert {key for price in load().models.values() for key in price.source} == set(load().sources)


@pytest.mark.parametrize(
    ("model", "host", "dollars"),
    [
        ("claude-sonnet-5-5", HOST, 2.0 + 0.2 + 0.25 + 0.5),
        ("claude-sonnet-5-5", f"{HOST}:443", 2.0 + 0.2 + 0.25 + 0.5),
        ("claude-haiku-4-5-20251001", HOST, 1.0 + 0.2 + 0.125 + 0.25),
        ("claude-opus-5-5", "API.Anthropic.com", 4.0 + 0.4 + 0.5 + 1.0),
        ("claude-haiku-5-5", HOST, None),
        ("claude-sonnet-5-5", "127.0.0.1:8080", None),
        ("claude-sonnet-5-5", f"{HOST}.example", None),
        ("claude-sonnet-5-5", f"{HOST}:8443", None),
        ("qwen3-coder", HOST, None),
        ("", HOST, None),
    ],
)
def test_cost(model: str, host: str, dollars: float | None) -> None:
    assert cost(model, host, USED) == (None if dollars is None else pytest.approx(dollars))
    assert isinstance(price_of(model, host), Price) is (dollars is not None)


def test_nothing_used_costs_nothing() -> None:
    assert cost("claude-sonnet-5-5", HOST, CloudUsage()) == 0
