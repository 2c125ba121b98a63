"""The audit of a run: what left this machine and which tools were called, row by row, out of the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from review_agent.agent.models import Egress
from review_agent.agent.reports.masked import masked_egress
from review_agent.checkpoints.store import Store
from review_agent.tools.redact import mask

DIGEST_CHARS = 16
_MOST_CHARS = 500  # of a text that a model or a server chose


def _short(text: object) -> object:
    """What a model calls a tool may be as long as it likes."""
    return text[:_MOST_CHARS] if isinstance(text, str) else text


_Text = Annotated[str, BeforeValidator(_short)]


class Call(BaseModel):
    """A call of a tool by the agent. `turn` is the agent's; `reason` says why it was denied, '' = it was not.

    `unknown` is a tool that we do not have.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    time: _Text
    turn: int = Field(ge=0)
    tool_use_id: _Text
    tool: _Text
    arguments_sha256: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{DIGEST_CHARS}}}$")]
    decision: Literal["allowed", "denied", "unknown"]
    reason: _Text
    error: bool
    seconds: float = Field(ge=0, allow_inf_nan=False)
    bytes_out: int = Field(ge=0)


_EGRESS: TypeAdapter[Egress] = TypeAdapter(Egress)
_CALL: TypeAdapter[Call] = TypeAdapter(Call)
_Row = TypeVar("_Row", Egress, Call)


@dataclass(frozen=True, slots=True)
class Audit:
    """`..._intact`: every row is there, can be read, and is as it was written."""

    run_id: str
    egress: tuple[Egress, ...]
    calls: tuple[Call, ...]
    egress_intact: bool
    calls_intact: bool

    @property
    def intact(self) -> bool:
        return self.egress_intact and self.calls_intact


def read_audit(store: Store, run_id: str) -> Audit:
    egress, egress_intact = sent(store, run_id)
    calls, calls_intact = called(store, run_id)
    return Audit(run_id, egress, calls, egress_intact, calls_intact)


def sent(store: Store, run_id: str) -> tuple[tuple[Egress, ...], bool]:
    """What a run has sent so far, and whether that is all of it."""
    return _rows(_EGRESS, *store.egress(run_id))


def called(store: Store, run_id: str) -> tuple[tuple[Call, ...], bool]:
    """The tools that a run's agent has called so far, and whether that is all of them."""
    return _rows(_CALL, *store.calls(run_id))


def _rows(adapter: TypeAdapter[_Row], texts: Sequence[str], intact: bool) -> tuple[tuple[_Row, ...], bool]:
    found: list[_Row] = []
    for text in texts:
        try:
            # Not `validate_json`: it refuses the lone surrogates that file names may hold.
            found.append(adapter.validate_python(json.loads(text)))
        except (ValueError, RecursionError):  # ValidationError is a ValueError
            intact = False
    return tuple(found), intact


def egress_text(row: Egress) -> str:
    """A row as the store keeps it."""
    return json.dumps(asdict(row))


def call_text(call: Call) -> str:
    """A row as the store keeps it."""
    return json.dumps(call.model_dump())


def arguments_digest(arguments: Mapping[str, object]) -> str:
    """Equal for equal arguments, whatever their order."""
    text = json.dumps(arguments, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARS]


def masked_audit(audit: Audit) -> Audit:
    """The same without what looks like a secret: names of files and answers of servers may hold some."""
    return replace(
        audit,
        run_id=mask(audit.run_id),
        egress=tuple(masked_egress(row) for row in audit.egress),
        calls=tuple(_masked_call(call) for call in audit.calls),
    )


def _masked_call(call: Call) -> Call:
    values = call.model_dump().items()
    return call.model_copy(
        update={name: mask(value) if isinstance(value, str) else value for name, value in values}
    )


def document(audit: Audit) -> dict[str, object]:
    """For machines."""
    return {
        "run_id": audit.run_id,
        "intact": {"egress": audit.egress_intact, "calls": audit.calls_intact},
        "egress": [asdict(row) for row in audit.egress],
        "calls": [call.model_dump() for call in audit.calls],
    }


@dataclass(frozen=True, slots=True)
class Total:
    """`path` is None for all that went to a host."""

    host: str
    path: str | None
    count: int
    bytes: int
    redactions: int


def totals(rows: Sequence[Egress]) -> list[Total]:
    """Of each host, and its files behind it; hosts and files by name."""
    found: dict[tuple[str, str | None], Total] = {}
    for row in rows:
        for path in (None, row.path):
            before = found.get((row.host, path), Total(row.host, path, 0, 0, 0))
            found[row.host, path] = replace(
                before,
                count=before.count + 1,
                bytes=before.bytes + row.bytes,
                redactions=before.redactions + row.redactions,
            )
    return sorted(found.values(), key=lambda total: (total.host, total.path is not None, total.path or ""))
