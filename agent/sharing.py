"""Runs that meet on one store share the work: no unit is asked for by two of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from review_agent.agent.cache import thaw
from review_agent.agent.errors import StoreError
from review_agent.agent.models import Analysis, ReviewUnit
from review_agent.checkpoints.store import Store

Analyze = Callable[[Sequence[ReviewUnit]], Awaitable[list[Analysis]]]


@dataclass
class Desk:
    """Takes units off a common pile. What is done meanwhile is taken over; what somebody is at is left.

    Equal code in two places is one piece of work, too.
    """

    store: Store
    run_id: str
    keys: Mapping[tuple[str, int], str]
    ask: Analyze
    _asked: set[str] = field(default_factory=set)

    async def analyze(self, units: Sequence[ReviewUnit]) -> list[Analysis]:
        """Analyses of those units that nobody is at, in their order. Raises what `ask` raises."""
        keys = [self.keys[(unit.path, unit.index)] for unit in units]
        claimed = self.store.claim(self.run_id, sorted(set(keys) - self._asked))
        got: dict[int, Analysis] = {}
        mine: list[int] = []
        for at, (unit, key) in enumerate(zip(units, keys, strict=True)):
            known = thaw(claimed.done[key], unit) if key in claimed.done else None
            if known is not None:
                got[at] = known
            elif key not in claimed.busy and key not in self._asked:
                self._asked.add(key)
                mine.append(at)
        try:
            if mine:
                got |= zip(mine, await self.ask([units[at] for at in mine]), strict=True)
        finally:
            self._asked -= {keys[at] for at in mine}
            left = {keys[at] for at in mine if at not in got or got[at].failure}
            if left:
                with suppress(StoreError):  # the end of this process frees them, too
                    self.store.release(self.run_id, sorted(left))
        return [got[at] for at in sorted(got)]
