"""Expressions that somebody else wrote, over text of somebody else's: in linear time and bounded memory.

RE2 knows no look-around and no back reference. What other engines take for these, an expression of a hundred
characters uses to take minutes, or all memory already when it is compiled.
"""

from __future__ import annotations

from collections.abc import Callable

_MEMORY = 8 * 1024 * 1024  # bytes, for one expression


class PatternError(ValueError):
    """An expression that cannot be used; the text says why."""


def matcher(pattern: str, *, regex: bool) -> Callable[[str], bool]:
    """Whether a line holds the text, or matches the expression somewhere. Raises PatternError."""
    if not regex:
        return lambda text: pattern in text
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        compiled = re2.compile(_valid(pattern), options)
    except re2.error as exc:
        raise PatternError(_reason(exc)) from exc
    return lambda text: compiled.search(_valid(text)) is not None


def _valid(text: str) -> str:
    """Without lone surrogates, which RE2 cannot read."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _reason(exc: Exception) -> str:
    said = exc.args[0] if exc.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
