"""What the store answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunRow:
    """`status` is running, finished, stopped (some files were not tried) or partial (all were, some failed).

    `request` and `report` are the caller's JSON.

    `intact` says whether the row is as it was written.
    """

    run_id: str
    created: float
    updated: float
    status: str
    repository: str
    label: str
    target: str
    request: str
    report: str
    intact: bool = True


@dataclass(frozen=True, slots=True)
class Claimed:
    """What became of keys that a run asked for: its own to do, done already, being done by other runs."""

    mine: frozenset[str]
    done: Mapping[str, str]
    busy: frozenset[str]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went, or would go. A process is at `driven` old runs, which stayed. Sizes are bytes on disk."""

    runs: int
    analyses: int
    driven: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Checked:
    """What a full check saw. `unsealed` counts rows that are not believed; they do no harm.

    `cut` counts ledgers from which rows are missing.
    """

    runs: int = 0
    analyses: int = 0
    memos: int = 0
    egress: int = 0
    calls: int = 0
    heads: int = 0
    verdicts: int = 0
    agent_states: int = 0
    unsealed: int = 0
    cut: int = 0
    problems: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        return not self.unsealed and not self.cut and not self.problems
