"""What leaves for an agent's model: masked, and in the ledger before it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from review_agent.agent.models import Egress


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

    def send(self, text: str, parts: Sequence[Leaving] = ()) -> str:
        """The text as it may leave. What is in no part counts as a row without a path."""
        if not self.host:
            return text
        masked, hidden = self.mask(text)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        rest = max(0, len(masked.encode("utf-8", "replace")) - sum(part.bytes for part in parts))
        every = [*parts, *([Leaving("", "", rest)] if rest else [])]
        rows = [
            Egress(
                now,
                self.host,
                part.path,
                part.bytes,
                hidden if at == 0 else 0,
                self.model,
                part.lines,
                self.turn,
            )
            for at, part in enumerate(every)
        ]
        self.keep(rows)
        self.rows += rows
        return masked
