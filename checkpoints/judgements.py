"""What an agent has come to: judgements, of which the first stays, and the newest snapshot of its state."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from review_agent.checkpoints.ledger import MOST, Read
from review_agent.checkpoints.seal import Seals

_VERDICT = "work, key, number, run_id, turn, payload, seal"
_STATE = "work, run_id, turn, payload, seal"


def judge(
    db: sqlite3.Connection, seals: Seals, work: str, key: str, run_id: str, turn: int, payload: str
) -> bool:
    """Whether this is the first judgement of the key that can be believed; only then it is written."""
    sql = f"SELECT {_VERDICT} FROM verdicts WHERE work=? AND key=?"  # noqa: S608
    if any(_holds(seals, "verdicts", row) for row in db.execute(sql, (work, key)).fetchall()):
        return False
    sql = f"SELECT max(CAST(number AS INTEGER)) FROM verdicts WHERE work=? AND number<{MOST}"  # noqa: S608
    number = (db.execute(sql, (work,)).fetchone()[0] or 0) + 1
    seal = seals.mark("verdicts", work, key, number, run_id, turn, payload)
    values = (work, key, number, run_id, turn, payload, seal)
    db.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    return True


def judged(read: Read, seals: Seals, work: str) -> dict[str, str]:
    rows = read(f"SELECT {_VERDICT} FROM verdicts WHERE work=? ORDER BY number", [work])  # noqa: S608
    return {str(row[1]): str(row[5]) for row in rows if _holds(seals, "verdicts", row)}


def save_state(db: sqlite3.Connection, seals: Seals, work: str, run_id: str, turn: int, payload: str) -> None:
    values = (work, run_id, turn, payload)
    seal = seals.mark("agent_states", *values)
    db.execute("INSERT OR REPLACE INTO agent_states VALUES (?, ?, ?, ?, ?)", (*values, seal))


def state(read: Read, seals: Seals, work: str) -> tuple[int, str] | None:
    for row in read(f"SELECT {_STATE} FROM agent_states WHERE work=?", [work]):  # noqa: S608
        if _holds(seals, "agent_states", row):
            return int(row[2]), str(row[3])
    return None


def _holds(seals: Seals, table: str, row: Sequence[Any]) -> bool:
    *values, seal = row
    return seals.holds(str(seal), table, *values)
