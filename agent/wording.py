"""Errors as sentences."""

from __future__ import annotations

from review_agent.agent.errors import ReviewError
from review_agent.prompts import messages, say


def sentence(exc: ReviewError, lang: str) -> str:
    """What an error says: its key in `[errors]`, else in `[reasons]`; or `table.key` where it has a dot."""
    table = "errors" if exc.key in messages(lang)["errors"] else "reasons"
    return worded(exc.key, lang, table, **exc.fields)


def worded(key: str, lang: str, table: str = "reasons", /, **fields: object) -> str:
    """The sentence of a key: `table.key`, or a bare key of `table`."""
    named, _, bare = key.rpartition(".")
    return say(lang, named or table, bare, **fields)
