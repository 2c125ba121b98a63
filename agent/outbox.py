"""What leaves for an agent's model: masked, and in the ledger before it goes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from review_agent.agent.models import Egress
from review_agent.agent.spans import joined


@dataclass(frozen=True, slots=True)
class Leaving:
    """The lines of one file within an answer, for the ledger."""

    path: str
    lines: str
    bytes: int


@dataclass
class Outbox:
    """Masks what leaves and writes it down. `host` '' = nothing leaves: the model is on this machine."""

    host: str
    model: str
    mask: Callable[[str], tuple[str, int]]
    keep: Callable[[list[Egress]], None] = lambda _: None  # durable when it returns
    rows: list[Egress] = field(default_factory=list)
    turn: int = 0

    def send(self, text: str) -> str:
        """The text as it may leave."""
        letter = Letter(self)
        return letter.send(letter.clean(text))

    def record(self, size: int, parts: Sequence[Leaving], redactions: int) -> None:
        """Rows for one text of `size` bytes: one for each file, and one without a path for the rest."""
        if not self.host:
            return
        files: dict[str, Leaving] = {}
        for part in parts:
            before = files.get(part.path, Leaving(part.path, "", 0))
            lines = joined((before.lines, part.lines))
            files[part.path] = Leaving(part.path, lines, before.bytes + part.bytes)
        rest = size - sum(part.bytes for part in files.values())
        every = [*files.values(), *([Leaving("", "", rest)] if rest > 0 else [])]
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        rows = [
            Egress(
                now,
                self.host,
                each.path,
                each.bytes,
                redactions * (at == 0),
                self.model,
                each.lines,
                self.turn,
            )
            for at, each in enumerate(every)
        ]
        self.keep(rows)
        self.rows += rows


@dataclass
class Letter:
    """One text on its way. All of it goes through `clean`, before it is cut or put into JSON.

    A cut may leave half of a secret, which is none by its looks. In JSON a secret may be spelled another way,
    and a mask over it may take a quotation mark along.
    """

    outbox: Outbox
    redactions: int = 0
    parts: list[Leaving] = field(default_factory=list)

    def clean(self, text: str) -> str:
        """The same number of lines, without secrets."""
        if not self.outbox.host:
            return text
        masked, count = self.outbox.mask(text)
        self.redactions += count
        return masked

    def cover(self, path: str, lines: str, text: str) -> None:
        """This part of the text is about, or is, these lines of a file."""
        self.parts.append(Leaving(path, lines, size(text)))

    def send(self, text: str) -> str:
        """The text, in the ledger now."""
        text = readable(text)
        self.outbox.record(size(text), self.parts, self.redactions)
        return text


def dump(value: object) -> str:
    """As JSON that can be sent: a name that is not UTF-8 is an escape in it."""
    return readable(json.dumps(value, ensure_ascii=False))


def readable(text: str) -> str:
    """The text with lone surrogates as escapes; equal for all that can be sent as it is."""
    return text.encode("utf-8", "backslashreplace").decode()


def size(text: str) -> int:
    return len(readable(text).encode())
