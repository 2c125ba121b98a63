"""Which way a model is fetched, by its name, the options and whether Ollama answers."""

from __future__ import annotations

import pytest

from review_agent.agent.errors import EndpointRefused, ModelUnavailable, ReviewError, UsageError
from review_agent.agent.pull import Asked, Way, choose, derived_name, is_store_name, may_take_ollama
from review_agent.tools.catalog import find

QWEN = "hf:Qwen/Qwen2.5-Coder-7B-Instruct-GGUF:Q4_K_M"
SHA = "a" * 64


@pytest.mark.parametrize(
    ("asked", "ollama", "way", "target", "name"),
    [
        (Asked("qwen2.5-coder-7b"), True, Way.OLLAMA, "qwen2.5-coder:7b", ""),
        (Asked("qwen2.5-coder:7b"), False, Way.HUB, QWEN, "qwen2.5-coder-7b"),
        (Asked("qwen2.5-coder:7b", "huggingface"), True, Way.HUB, QWEN, "qwen2.5-coder-7b"),
        (Asked("qwen2.5-coder-7b", "ollama"), True, Way.OLLAMA, "qwen2.5-coder:7b", ""),
        (Asked("qwen2.5-coder-7b", "auto", "mine"), True, Way.HUB, QWEN, "mine"),
        (Asked("qwen2.5-coder-7b", "auto", "", SHA), True, Way.HUB, QWEN, "qwen2.5-coder-7b"),
        (
            Asked("qwen2.5-coder-7b", "modelscope"),
            True,
            Way.HUB,
            "modelscope:Qwen/Qwen2.5-Coder-7B-Instruct-GGUF:Q4_K_M",
            "qwen2.5-coder-7b",
        ),
        (Asked("smollm2-135m"), True, Way.WHEEL, "smollm2-135m", "smollm2-135m"),
        (Asked("smollm2:135m"), False, Way.WHEEL, "smollm2-135m", "smollm2-135m"),
        (Asked("smollm2-135m", "ollama"), True, Way.OLLAMA, "smollm2:135m", ""),
        (Asked("mistral:7b"), True, Way.OLLAMA, "mistral:7b", ""),
        (Asked("mistral", "ollama"), True, Way.OLLAMA, "mistral", ""),
        (Asked("owner/repo:Q5_K_M"), True, Way.HUB, "owner/repo:Q5_K_M", ""),
        (Asked("owner/repo", "auto", "mine"), False, Way.HUB, "owner/repo", "mine"),
        (Asked("owner/repo", "modelscope"), False, Way.HUB, "modelscope:owner/repo", ""),
        (Asked("owner/repo", "huggingface"), False, Way.HUB, "hf:owner/repo", ""),
        (Asked("ms:owner/repo"), True, Way.HUB, "ms:owner/repo", ""),
        (Asked("hf:owner/repo", "huggingface"), True, Way.HUB, "hf:owner/repo", ""),
        (Asked("https://host/m.gguf"), True, Way.HUB, "https://host/m.gguf", ""),
    ],
)
def test_the_way(asked: Asked, ollama: bool, way: Way, target: str, name: str) -> None:
    plan = choose(asked, ollama=ollama)
    assert (plan.way, plan.target, plan.name) == (way, target, name)
    assert plan.entry == find(asked.name)


@pytest.mark.parametrize(
    ("asked", "open_choice"),
    [
        (Asked("qwen2.5-coder-7b"), True),
        (Asked("qwen2.5-coder-7b", "ollama"), False),
        (Asked("mistral:7b"), False),
    ],
)
def test_only_our_own_choice_of_ollama_is_open(asked: Asked, open_choice: bool) -> None:
    assert choose(asked, ollama=True).open_choice is open_choice


@pytest.mark.parametrize(
    ("asked", "error", "key"),
    [
        (Asked("qwen"), UsageError, "errors_pull.unknown_model"),
        (Asked("qwen2.5-coder-8b"), UsageError, "errors_pull.unknown_model_near"),
        (Asked(""), UsageError, "errors_pull.unknown_model"),
        (Asked("mistral", "huggingface"), UsageError, "errors_pull.unknown_model"),
        (Asked("mistral:7b"), ModelUnavailable, "errors_pull.ollama_needed"),
        (Asked("qwen2.5-coder-7b", "ollama"), ModelUnavailable, "errors_pull.ollama_needed"),
        (Asked("gpt-oss:120b-cloud"), EndpointRefused, "errors_pull.cloud_model"),
        (Asked("gpt-oss:120b-cloud", "ollama"), EndpointRefused, "errors_pull.cloud_model"),
        (Asked("hf:o/r", "modelscope"), UsageError, "errors_pull.from_conflict"),
        (Asked("https://h/m.gguf", "huggingface"), UsageError, "errors_pull.from_conflict"),
        (Asked("https://h/m.gguf", "ollama"), UsageError, "errors_pull.from_conflict"),
        (Asked("smollm2-135m", "huggingface"), UsageError, "errors_pull.no_repository"),
        (Asked("glm-4.7-flash", "modelscope"), UsageError, "errors_pull.no_repository"),
        (Asked("qwen2.5-coder-7b", "ollama", "mine"), UsageError, "errors_pull.not_with_ollama"),
        (Asked("mistral:7b", "auto", "", SHA), UsageError, "errors_pull.not_with_ollama"),
        (Asked("smollm2-135m", "auto", "real"), UsageError, "errors_pull.not_for_demo"),
        (Asked("o/r", "auto", "", "abc"), UsageError, "errors_pull.sha256_form"),
        (Asked("o/r", "auto", "../x"), UsageError, "errors_models.model_name_bad"),
        (Asked("o/r", "auto", "x.gguf"), UsageError, "errors_models.model_name_bad"),
    ],
)
def test_refusals(asked: Asked, error: type[ReviewError], key: str) -> None:
    with pytest.raises(error) as caught:
        choose(asked, ollama=False)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("asked", "may"),
    [
        (Asked("qwen2.5-coder-7b"), True),
        (Asked("qwen2.5-coder-7b", "auto", "mine"), False),
        (Asked("qwen2.5-coder-7b", "huggingface"), False),
        (Asked("smollm2-135m"), False),
        (Asked("smollm2-135m", "ollama"), True),
        (Asked("o/r"), False),
        (Asked("hf:o/r"), False),
        (Asked("mistral:7b"), True),
    ],
)
def test_ollama_is_asked_only_where_it_matters(asked: Asked, may: bool) -> None:
    assert may_take_ollama(asked) is may


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Qwen2.5-Coder-7B-Instruct-Q4_K_M.gguf", "qwen2.5-coder-7b-instruct-q4_k_m"),
        ("big-Q8_0-00001-of-00003.GGUF", "big-q8_0"),
        ("Modell+X.gguf", "modell-x"),
        ("x" * 200 + ".gguf", "x" * 80),
    ],
)
def test_names_from_files(file: str, name: str) -> None:
    assert derived_name(file) == name
    assert is_store_name(name)
