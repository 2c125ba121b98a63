"""Named places at which a test makes the process die or the disk fail. Free when off: one global is read.

`REVIEW_AGENT_FAULT=kill:NAME[:N]` ends the process with SIGKILL at the N-th visit (default 1) of a place,
`error:NAME[:N]` raises an OSError there from that visit on. The names stand in POINTS.
"""

from __future__ import annotations

import errno
import os
import signal

POINTS = (
    "store_opened",
    "run_begun",
    "unit_begin",
    "unit_written",
    "unit_committed",
    "claim_taken",
    "egress_noted",
    "call_noted",
    "verdict_written",
    "state_saved",
    "request_answered",
    "run_finish",
    "run_finished",
    "report_begin",
    "report_written",
    "report_replaced",
)

_wanted = os.environ.get("REVIEW_AGENT_FAULT", "")
_visits: dict[str, int] = {}


def faultpoint(name: str) -> None:
    """Mark a place; does nothing unless this process was started to fail here."""
    if _wanted:
        _visit(name)


def _visit(name: str) -> None:
    action, _, rest = _wanted.partition(":")
    place, _, count = rest.partition(":")
    if place != name:
        return
    _visits[name] = _visits.get(name, 0) + 1
    if action == "kill" and _visits[name] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "error" and _visits[name] >= int(count or 1):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
