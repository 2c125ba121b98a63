"""Numbered ledgers of a run: rows that are only ever added, each with its seal, and how many there are.

A row that is changed, planted or taken out of the middle is known by its seal or by the gap. One cut off the
end is known by the ledger's head: the sealed number of its last row, written in the same transaction. Heads
are made when a run begins, and never again: a ledger whose head is lost stays known for it.

Whether a run is known is asked of its table: a damaged index can hide one, and SQLite would not notice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from review_agent.checkpoints.seal import Seals

LEDGERS = ("egress", "calls")
# A number that nobody comes to by counting is damage, and behind it there may be no other.
MOST = 1 << 62

Read = Callable[[str, Sequence[str]], list[tuple[Any, ...]]]


def begin(db: sqlite3.Connection, seals: Seals, run_id: str) -> None:
    """Heads of empty ledgers, for a run that begins; none where something of it is there already."""
    if db.execute("SELECT count(*) FROM runs NOT INDEXED WHERE run_id=?", (run_id,)).fetchone()[0]:
        return
    for ledger in LEDGERS:
        sql = f"SELECT (SELECT count(*) FROM {ledger} WHERE run_id=?) + "  # noqa: S608
        sql += "(SELECT count(*) FROM heads WHERE ledger=? AND run_id=?)"
        if not db.execute(sql, (run_id, ledger, run_id)).fetchone()[0]:
            _put_head(db, seals, ledger, run_id, 0)


def append(
    db: sqlite3.Connection, seals: Seals, ledger: str, run_id: str, rows: Sequence[str], *, begun: bool
) -> None:
    """Add rows at the end. `begun` says that this process has begun the run: then its head was there once."""
    # A damaged number may be no number.
    sql = f"SELECT max(CAST(number AS INTEGER)) FROM {ledger} WHERE run_id=? AND number<{MOST}"  # noqa: S608
    last = int(db.execute(sql, (run_id,)).fetchone()[0] or 0)
    heads = db.execute(
        "SELECT last, seal FROM heads WHERE ledger=? AND run_id=?", (ledger, run_id)
    ).fetchall()
    if heads:
        headed = _holds(seals, ledger, run_id, *heads[0])
        last = max(last, int(heads[0][0])) if headed else last
    else:
        known = db.execute("SELECT count(*) FROM runs NOT INDEXED WHERE run_id=?", (run_id,)).fetchone()[0]
        headed = not (last or known or begun)
    for number, row in enumerate(rows, start=last + 1):
        seal = seals.mark(ledger, run_id, number, row)
        db.execute(f"INSERT INTO {ledger} VALUES (?, ?, ?, ?)", (run_id, number, row, seal))  # noqa: S608
    if headed:
        _put_head(db, seals, ledger, run_id, last + len(rows))


def entries(read: Read, seals: Seals, ledger: str, run_id: str) -> tuple[list[str], bool]:
    """The rows in their order, and whether they are as they were written, and all of them."""
    # One statement sees one moment: another process may be adding rows.
    sql = (
        "SELECT known.found, heads.last, heads.seal, rows.number, rows.row, rows.seal "  # noqa: S608
        "FROM (SELECT count(*) AS found FROM runs NOT INDEXED WHERE run_id=?) AS known "
        f"LEFT JOIN heads ON heads.ledger=? AND heads.run_id=? LEFT JOIN {ledger} AS rows ON rows.run_id=? "
        "ORDER BY rows.number"
    )
    found = read(sql, (run_id, ledger, run_id, run_id))
    rows = [tuple(row[3:]) for row in found if row[3] is not None]
    known, last, head_seal = found[0][:3] if found else (0, None, None)
    intact = all(
        number == at and seals.holds(str(seal), ledger, run_id, number, str(row))
        for at, (number, row, seal) in enumerate(rows, start=1)
    )
    if last is None:
        intact = intact and not rows and not known
    else:
        intact = intact and last == len(rows) and _holds(seals, ledger, run_id, last, head_seal)
    return [str(row) for _, row, _ in rows], intact


def cut(db: sqlite3.Connection) -> int:
    """How many ledgers have another number of rows than their heads say, or no head."""
    return sum(_cut(db, ledger) for ledger in LEDGERS)


def _cut(db: sqlite3.Connection, ledger: str) -> int:
    heads = dict(db.execute("SELECT run_id, last FROM heads WHERE ledger=?", (ledger,)).fetchall())
    rows = dict(db.execute(f"SELECT run_id, count(*) FROM {ledger} GROUP BY run_id").fetchall())  # noqa: S608
    runs = {row[0] for row in db.execute("SELECT run_id FROM runs NOT INDEXED").fetchall()}
    return sum(heads.get(run) != rows.get(run, 0) for run in {*heads, *rows, *runs})


def number_all(db: sqlite3.Connection, seals: Seals) -> None:
    """Heads for ledgers that were written before there were any: what is there is believed to be all."""
    for ledger in LEDGERS:
        sql = f"SELECT run_id FROM runs UNION SELECT run_id FROM {ledger}"  # noqa: S608
        for run_id in _texts(db, sql):
            sql = f"SELECT count(*) FROM {ledger} WHERE run_id=?"  # noqa: S608
            _put_head(db, seals, ledger, run_id, db.execute(sql, (run_id,)).fetchone()[0])


def _put_head(db: sqlite3.Connection, seals: Seals, ledger: str, run_id: str, last: int) -> None:
    seal = seals.mark("heads", ledger, run_id, last)
    db.execute("INSERT OR REPLACE INTO heads VALUES (?, ?, ?, ?)", (ledger, run_id, last, seal))


def _holds(seals: Seals, ledger: str, run_id: str, last: object, seal: object) -> bool:
    return isinstance(last, int) and seals.holds(str(seal), "heads", ledger, run_id, last)


def _texts(db: sqlite3.Connection, sql: str) -> Iterator[str]:
    yield from [str(row[0]) for row in db.execute(sql).fetchall()]
