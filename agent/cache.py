"""Analyses as stored text, and the key they are found by again.

The key covers the unit's shown code, the prompt, the rules for its path and the model; neither path nor
absolute line numbers, so moved and renamed code hits. Lines are stored relative to the unit's first line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from review_agent.agent.models import Analysis, Candidate, Placed, ReviewUnit

FORMAT = 1


@dataclass(frozen=True)
class _Stored:
    format: int
    summary: str
    placed: tuple[Placed, ...]


_ADAPTER = TypeAdapter(_Stored)


def unit_key(unit: ReviewUnit, *, prompt: str, model: str, rules: str = "") -> str:
    """`prompt` is the prompt's version, `model` its digest (or name, where the server gives no digest)."""
    parts = (str(FORMAT), unit.digest, prompt, model, rules)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def freeze(analysis: Analysis) -> str:
    unit = analysis.unit
    stored = _Stored(
        FORMAT, analysis.summary, tuple(_shift(p, 1 - unit.first_line, "") for p in analysis.placed)
    )
    return _ADAPTER.dump_json(stored).decode()


def thaw(payload: str, unit: ReviewUnit) -> Analysis | None:
    """The stored analysis for this unit; None when the row cannot be trusted, which makes it a miss."""
    try:
        stored = _ADAPTER.validate_json(payload)
    except ValidationError:
        return None
    placed = tuple(_shift(p, unit.first_line - 1, unit.path) for p in stored.placed)
    if stored.format != FORMAT or not _fits(placed, unit):
        return None
    return Analysis(unit, placed, stored.summary, cached=True)


def _shift(placed: Placed, by: int, path: str) -> Placed:
    candidate: Candidate = replace(placed.candidate, path=path)
    if placed.start == 0:
        return replace(placed, candidate=candidate)
    return replace(placed, candidate=candidate, start=placed.start + by, end=placed.end + by)


def _fits(placed: Sequence[Placed], unit: ReviewUnit) -> bool:
    numbers = {line.number for line in unit.shown}
    return all(
        0 <= p.candidate.confidence <= 1  # not so for NaN
        and (p.start == p.end == 0 or ({p.start, p.end} <= numbers and 0 < p.start <= p.end))
        for p in placed
    )
