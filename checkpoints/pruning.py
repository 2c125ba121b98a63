"""What goes when a run is forgotten."""

from __future__ import annotations

import sqlite3

from review_agent.checkpoints.batches import marks, parts
from review_agent.checkpoints.locks import RunLocks
from review_agent.checkpoints.rows import Pruned

_OF_RUNS = ("run_units", "egress", "calls", "heads", "verdicts", "agent_states")


def forget(db: sqlite3.Connection, locks: RunLocks, before: float, size: int) -> Pruned:
    """Delete runs last touched, and analyses last used, before a time. Runs that a process is at stay."""
    rows = [str(row[0]) for row in db.execute("SELECT run_id FROM runs WHERE updated<?", (before,))]
    old = [run_id for run_id in rows if not locks.held(run_id)]
    # Rows of runs without a row of their own: the store was set aside under a run that died later.
    sql = " UNION ".join(f"SELECT run_id FROM {table}" for table in _OF_RUNS)  # noqa: S608
    # Not by an index: a damaged one can hide a run, and its ledgers would go.
    known = {str(row[0]) for row in db.execute("SELECT run_id FROM runs NOT INDEXED")}
    lost = {str(row[0]) for row in db.execute(sql)} - known
    lost = {run_id for run_id in lost if not locks.held(run_id)}
    for part in parts([*old, *sorted(lost)]):
        for table in ("runs", *_OF_RUNS):
            db.execute(f"DELETE FROM {table} WHERE run_id IN ({marks(part)})", part)  # noqa: S608
    gone = db.execute(
        "DELETE FROM analyses WHERE used<? AND key NOT IN (SELECT key FROM run_units)", (before,)
    ).rowcount
    db.execute("DELETE FROM memos WHERE used<?", (before,))
    owners = [str(row[0]) for row in db.execute("SELECT DISTINCT owner FROM claims")]
    for owner in owners:
        if not locks.held(owner):
            db.execute("DELETE FROM claims WHERE owner=?", (owner,))
    return Pruned(len(old), gone, len(rows) - len(old), size, size)
