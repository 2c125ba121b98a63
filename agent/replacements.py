"""When the new code that a model offers can stand in for lines of a file as it is."""

from __future__ import annotations

from collections.abc import Sequence

from review_agent.agent.display import terminal_text
from review_agent.tools.redact import has_mark


def replaces(quote: str, replacement: str, lines: Sequence[str]) -> bool:
    """Whether `replacement` takes the place of `lines`, whole ones: the quote covers them end to end, and
    the new code begins as far from the margin as the old.

    A quote of half a line, or code that lost its indentation, would break the file for who accepts it.
    """
    quoted = [line.strip() for line in quote.strip("\r\n").splitlines()]
    new = lines_of(replacement)
    return (
        bool(new and lines and new[0].strip() and lines[0].strip())
        and quoted == [line.strip() for line in lines]
        and _margin(new[0]) == _margin(lines[0])
        and [line.rstrip() for line in new] != [line.rstrip() for line in lines]
        and is_shown_as_is(replacement)
    )


def is_shown_as_is(replacement: str) -> bool:
    """Whether who accepts it gets just this code: nothing is escaped, and no mask stands for a secret."""
    return terminal_text(replacement) == replacement.replace("\r\n", "\n") and not has_mark(replacement)


def lines_of(replacement: str) -> list[str]:
    """Its lines without the blank ones around them."""
    return replacement.strip("\r\n").splitlines() if replacement.strip() else []


def _margin(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
