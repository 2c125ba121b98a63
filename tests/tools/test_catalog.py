"""The catalogue: every row says where its numbers are from, and names lead to rows."""

from __future__ import annotations

import pytest

from review_agent.prompts import LANGS, messages
from review_agent.tools.catalog import CatalogModel, find, load

MODELS = load().models


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_row_is_whole(model: CatalogModel) -> None:
    assert model.active_b <= model.parameters_b
    assert 0.4 < model.size_gb / model.parameters_b < 0.8  # a 4-bit file
    assert model.source
    assert set(model.source) <= set(load().sources)
    for lang in LANGS:
        assert f"note_{model.note}" in messages(lang)["models"]


def test_every_source_is_used() -> None:
    assert {key for model in MODELS for key in model.source} == set(load().sources)


def test_names_and_tags_are_unique() -> None:
    assert len({model.name for model in MODELS}) == len(MODELS)
    assert len({model.ollama for model in MODELS}) == len(MODELS)


def test_what_is_not_for_companies_or_not_for_review() -> None:
    assert [model.name for model in MODELS if not model.commercial] == ["qwen2.5-coder-3b"]
    assert [model.name for model in MODELS if model.demo] == ["smollm2-135m"]


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("qwen2.5-coder-7b", "qwen2.5-coder-7b"),
        ("qwen2.5-coder:7b", "qwen2.5-coder-7b"),
        (" Qwen2.5-Coder:7B ", "qwen2.5-coder-7b"),
        ("devstral-small-2:24b", "devstral-small-2"),
        ("devstral-small-2", "devstral-small-2"),
        ("glm-4.7-flash:latest", "glm-4.7-flash"),
        ("smollm2:135m", "smollm2-135m"),
    ],
)
def test_a_model_is_found(asked: str, name: str) -> None:
    model = find(asked)
    assert model is not None
    assert model.name == name


@pytest.mark.parametrize(
    "asked", ["", "qwen", "qwen2.5-coder", "qwen2.5-coder:8b", "Qwen/Qwen2.5-Coder-7B", ":latest"]
)
def test_a_model_is_not_found(asked: str) -> None:
    assert find(asked) is None
