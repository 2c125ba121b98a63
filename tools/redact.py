"""Secrets masked out of text that is shown or sent: `<secret:KIND>` stands where the value stood."""

from __future__ import annotations

import re

from review_agent.tools.secrets import SecretHit, find_secrets

_MARK = re.compile(r"<secret:[a-z0-9-]+>")
_ROUNDS = 16


def mask(text: str) -> str:
    """Same text, same number of lines, no secret. Masking masked text changes nothing."""
    return mask_counted(text)[0]


def mask_counted(text: str) -> tuple[str, int]:
    """The masked text, and how many secrets were masked."""
    count = 0
    # Again until nothing is found: with one value gone, what stood beside it may read as the next.
    for _ in range(_ROUNDS):
        lines = text.split("\n")
        hits = [hit for hit in find_secrets(lines) if not _is_mark(lines[hit.line - 1], hit)]
        if not hits:
            break
        count += len(hits)
        for hit in reversed(hits):
            line = lines[hit.line - 1]
            lines[hit.line - 1] = f"{line[: hit.start]}<secret:{hit.kind}>{line[hit.end :]}"
        text = "\n".join(lines)
    return text, count


def _is_mark(line: str, hit: SecretHit) -> bool:
    return any(mark.start() <= hit.start and hit.end <= mark.end() for mark in _MARK.finditer(line))
