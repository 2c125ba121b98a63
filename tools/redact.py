"""Secrets masked out of text that is shown or sent: `<secret:KIND>` stands where the value stood."""

from __future__ import annotations

import re
from collections.abc import Sequence

from review_agent.tools.secrets import find_secrets

_ROUNDS = 16
_MARK = re.compile(r"(<secret:[a-z-]+>)")
# A shorter value may be a part of words that have nothing to do with it.
_ALONE = 12
_SHORTEST = 6
_KEY_FRAME = re.compile(r"-----(?:BEGIN|END)[A-Z0-9 ]*-----")


def has_mark(text: str) -> bool:
    """Whether something was masked in it, or it only looks so: it is not what stands in a file."""
    return _MARK.search(text) is not None


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


class Masker:
    """Masks what looks like a secret and, wherever they are repeated, the secrets of texts it was shown.

    In code the name of a variable tells that a value is a password, and the lines around tell that letters
    are part of a key. Neither stands beside the value in a sentence, or behind the line numbers of a prompt.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] = {}  # value -> kind

    def learn(self, lines: Sequence[str], *, config: bool = False) -> bool:
        """Remember the secrets of a text, and whether it has any. `config` as in `find_secrets`."""
        hits = find_secrets(lines, config=config)
        for hit in hits:
            value = lines[hit.line - 1][hit.start : hit.end].strip()
            if len(value) >= _SHORTEST and not _KEY_FRAME.fullmatch(value):
                self._known.setdefault(value, hit.kind)
        return bool(hits)

    def mask(self, text: str) -> str:
        return self.mask_counted(text)[0]

    def mask_counted(self, text: str) -> tuple[str, int]:
        count = 0
        present = [value for value in self._known if value in text]
        for value in sorted(present, key=len, reverse=True):  # one may be a part of another
            parts = _MARK.split(text)
            pattern = re.escape(value) if len(value) >= _ALONE else rf"(?<!\w){re.escape(value)}(?!\w)"
            mark = f"<secret:{self._known[value]}>"
            for at in range(0, len(parts), 2):  # marks stand between
                parts[at], times = re.subn(pattern, mark, parts[at], flags=re.ASCII)
                count += times
            text = "".join(parts)
        text, more = mask_counted(text)
        return text, count + more
