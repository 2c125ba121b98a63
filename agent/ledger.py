"""The ledger of requests for units: a row for each file of which something leaves this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from review_agent.agent.analyzer import Sent
from review_agent.agent.models import Egress


@dataclass
class Ledger:
    """What went to an endpoint that is not this machine."""

    host: str
    model: str
    rows: list[Egress] = field(default_factory=list)
    keep: Callable[[list[Egress]], None] = lambda _: None  # durable when it returns

    def record(self, sent: Sent) -> None:
        """Called before anything is sent: what cannot be written down does not leave."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        rows = [
            Egress(now, self.host, path, size, sent.redactions if at == 0 else 0, self.model, lines)
            for at, (path, size, lines) in enumerate(zip(sent.paths, sent.sizes, sent.lines, strict=True))
        ]
        self.keep(rows)
        self.rows += rows
