"""The catalogues: the same sentences in both languages, each in its own script."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from string import Formatter

import pytest

from review_agent import prompts
from review_agent.prompts import LANGS, messages

ROOT = Path(prompts.__file__).parent / "messages"
FILES = sorted(path.name for path in (ROOT / LANGS[0]).glob("*.toml"))

CJK = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
LATIN = re.compile(r"[A-Za-z][A-Za-z0-9_+#.-]*[A-Za-z0-9+#]|[A-Za-z]")
# Names of products, formats and units that a Chinese engineer writes in Latin letters, too.
NAMES = {
    *(
        "SARIF",
        "JSON",
        "JSONL",
        "Markdown",
        "HTML",
        "TOML",
        "XML",
        "YAML",
        "CSV",
        "GGUF",
        "UTF-8",
        "GBK",
        "ASCII",
        "Unicode",
    ),
    *(
        "Git",
        "git",
        "HEAD",
        "reftable",
        "LFS",
        "PR",
        "CI",
        "GitHub",
        "GitLab",
        "Gitee",
        "Gitea",
        "review-agent",
    ),
    *(
        "Ollama",
        "OpenAI",
        "Anthropic",
        "Claude",
        "Agent",
        "SDK",
        "MCP",
        "LM",
        "Studio",
        "vLLM",
        "llama.cpp",
        "token",
    ),
    *(
        "API",
        "URL",
        "HTTP",
        "HTTPS",
        "IP",
        "DNS",
        "ID",
        "SQL",
        "SQLite",
        "SSH",
        "PEM",
        "JWT",
        "shell",
        "Ctrl-C",
    ),
    *(
        "Python",
        "Linux",
        "macOS",
        "Windows",
        "WSL2",
        "CPU",
        "GPU",
        "KB",
        "MB",
        "GB",
        "KiB",
        "MiB",
        "GiB",
        "Decimal",
    ),
}
# Kinds of secrets are called by the names of the services they open.
NAMES_ONLY = {"secret_kinds"}
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*|REVIEW_AGENT_\w+|\.review-agent\.toml|[A-Z]+\.md")


def tables(lang: str, name: str) -> dict[str, dict[str, str]]:
    return tomllib.loads((ROOT / lang / name).read_text(encoding="utf-8"))


def sentences(lang: str, name: str) -> dict[tuple[str, str], str]:
    return {(table, key): text for table, rows in tables(lang, name).items() for key, text in rows.items()}


def fields(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}


def without_code(sentence: str) -> str:
    return re.sub(r"`[^`]*`|\{[^}]*\}", " ", sentence)


def test_the_same_files_in_both_languages() -> None:
    assert {
        lang: sorted(path.name for path in (ROOT / lang).glob("*.toml")) for lang in LANGS
    } == dict.fromkeys(LANGS, FILES)


@pytest.mark.parametrize("lang", LANGS)
def test_a_table_belongs_to_one_file(lang: str) -> None:
    names = [table for name in FILES for table in tables(lang, name)]
    assert sorted(names) == sorted(messages(lang))


@pytest.mark.parametrize("name", FILES)
def test_same_keys_same_order_same_fields(name: str) -> None:
    chinese, english = (sentences(lang, name) for lang in LANGS)
    assert list(chinese) == list(english)
    assert {key: fields(text) for key, text in chinese.items()} == {
        key: fields(text) for key, text in english.items()
    }


@pytest.mark.parametrize("name", FILES)
def test_english_has_no_chinese(name: str) -> None:
    assert {key: text for key, text in sentences("en", name).items() if CJK.search(text)} == {}


@pytest.mark.parametrize("name", FILES)
def test_chinese_has_no_english_but_names(name: str) -> None:
    found = {
        key: words
        for key, text in sentences("zh-CN", name).items()
        if key[0] not in NAMES_ONLY
        and (words := set(LATIN.findall(OPTION.sub(" ", without_code(text)))) - NAMES)
    }
    assert found == {}


@pytest.mark.parametrize("name", FILES)
def test_backticks_come_in_pairs(name: str) -> None:
    for lang in LANGS:
        assert [key for key, text in sentences(lang, name).items() if text.count("`") % 2] == []


@pytest.mark.parametrize("lang", LANGS)
def test_reasons_have_no_fields(lang: str) -> None:
    """They are said of files, verdicts and findings alike, and a verdict carries only the key."""
    assert [key for key, text in messages(lang)["reasons"].items() if fields(text)] == []
