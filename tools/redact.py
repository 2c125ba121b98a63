"""Secrets masked out of text that is shown or sent: `<secret:KIND>` stands where the value stood."""

from __future__ import annotations

from review_agent.tools.secrets import find_secrets

_ROUNDS = 16


def mask(text: str) -> str:
    """Same text, same number of lines, no secret. Masking masked text changes nothing."""
    return mask_counted(text)[0]


def mask_counted(text: str) -> tuple[str, int]:
    """The masked text, and how many secrets were masked."""
    count = 0
    # Again until nothing is found: `token>` of a mark may make a secret of what stands behind it.
    for _ in range(_ROUNDS):
        lines = text.split("\n")
        hits = find_secrets(lines)
        if not hits:
            break
        count += len(hits)
        for hit in reversed(hits):
            line = lines[hit.line - 1]
            lines[hit.line - 1] = f"{line[: hit.start]}<secret:{hit.kind}>{line[hit.end :]}"
        text = "\n".join(lines)
    return text, count
