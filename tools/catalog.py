"""The models we know of: sizes, sources and licences, as package data. The file's order is best first."""

from __future__ import annotations

import datetime
import re
import tomllib
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict


class CatalogModel(BaseModel):
    """One row of catalog.toml. `hf` and `modelscope` are GGUF repositories, '' where none is known.

    Memory goes by `parameters_b`, speed by `active_b` (both in 10^9).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    parameters_b: float
    active_b: float
    size_gb: float
    context: int
    kv_bytes_per_token: int
    ollama: str
    hf: str = ""
    modelscope: str = ""
    quant: str
    license: str
    commercial: bool
    demo: bool = False
    note: str
    source: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of the model file, about."""
        return round(self.size_gb * 1e9)


class Catalog(BaseModel):
    """The whole file. `as_of` is when its facts were gathered; a row's `source` names keys of `sources`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: datetime.date
    sources: dict[str, str]
    models: tuple[CatalogModel, ...]


@cache
def load() -> Catalog:
    text = (files(__package__) / "catalog.toml").read_text(encoding="utf-8")
    return Catalog.model_validate(tomllib.loads(text))


def find(name: str) -> CatalogModel | None:
    """The model called `qwen2.5-coder-7b` or `qwen2.5-coder:7b`; `:latest` means nothing."""
    wanted = re.sub(r":latest$", "", name.strip().lower()).replace(":", "-")
    for model in load().models:
        if wanted in (model.name, model.ollama.replace(":", "-")):
            return model
    return None
