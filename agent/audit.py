"""The audit of an agent's tool calls."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Call(BaseModel):
    """One call of a tool, as the store keeps it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    time: str
    turn: int
    tool_use_id: str
    tool: str
    arguments_sha256: str
    decision: Literal["allowed", "denied", "unknown"]
    reason: str = ""
    error: bool = False
    seconds: float = 0.0
    bytes_out: int = 0
