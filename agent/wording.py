"""Errors as sentences."""

from __future__ import annotations

from review_agent.agent.errors import ReviewError
from review_agent.prompts import messages, say


def sentence(exc: ReviewError, lang: str) -> str:
    """What an error says: its key in `[errors]`, else in `[reasons]`; or `table.key` where it has a dot."""
    table, dot, key = exc.key.rpartition(".")
    if not dot:
        table = "errors" if exc.key in messages(lang)["errors"] else "reasons"
    return say(lang, table, key, **exc.fields)
