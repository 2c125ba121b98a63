"""Texts: prompts, report templates and every sentence a user reads, per language. No logic."""

from __future__ import annotations

import hashlib
import tomllib
from functools import cache
from importlib.resources import files

LANGS = ("zh-CN", "en")
DEFAULT_LANG = "zh-CN"


def load(name: str) -> str:
    """Text of `templates/<name>`."""
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


@cache
def messages(lang: str) -> dict[str, dict[str, str]]:
    """All sentences of one language, as {table: {key: format string}}; each file holds whole tables."""
    folder = files(__package__) / "messages" / lang
    tables: dict[str, dict[str, str]] = {}
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        tables.update(tomllib.loads(entry.read_text(encoding="utf-8")))
    return tables


def say(lang: str, table: str, key: str, /, **fields: object) -> str:
    """The sentence `[table] key` with its `{fields}` filled in.

    A missing key or field is a programming error; it shows as the key or `…`, so a message is never lost.
    """
    template = messages(lang).get(table, {}).get(key)
    return template.format_map(_Fields(fields)) if template is not None else key


class _Fields(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "…"


def digest(*names: str) -> str:
    """Content digest of templates: part of the cache key, so that a changed prompt is asked anew."""
    return hashlib.sha256("\0".join(load(name) for name in names).encode()).hexdigest()[:16]
