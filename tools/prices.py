"""What the cloud costs, by list prices that are package data. No price is guessed."""

from __future__ import annotations

import datetime
import re
import tomllib
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict

from review_agent.agent.models import CloudUsage

_DATED = re.compile(r"-20\d{6}$")  # a snapshot costs what its model does


class Price(BaseModel):
    """US dollars for 10^6 tokens. `cache_write` is for the cache of five minutes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float
    output: float
    cache_read: float
    cache_write: float
    source: tuple[str, ...]


class Prices(BaseModel):
    """The whole file. `as_of` is when its prices were looked up; `host` is whose prices they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: datetime.date
    host: str
    sources: dict[str, str]
    models: dict[str, Price]


@cache
def load() -> Prices:
    text = (files(__package__) / "prices.toml").read_text(encoding="utf-8")
    return Prices.model_validate(tomllib.loads(text))


def price_of(model: str, host: str) -> Price | None:
    """The price of a model at a host (`Endpoint.host`); None where no list price is known.

    A compatible endpoint may serve another model under the same name, at its own price.
    """
    prices = load()
    if host.lower().removesuffix(":443") != prices.host:
        return None
    return prices.models.get(_DATED.sub("", model))


def cost(model: str, host: str, usage: CloudUsage) -> float | None:
    """US dollars for all of `usage`; None where no price is known."""
    price = price_of(model, host)
    if price is None:
        return None
    dollars = (
        usage.prompt_tokens * price.input
        + usage.completion_tokens * price.output
        + usage.cache_read_tokens * price.cache_read
        + usage.cache_write_tokens * price.cache_write
    )
    return dollars / 1e6
