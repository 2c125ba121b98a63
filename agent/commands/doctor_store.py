"""What `doctor --verify` says of the run store."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from review_agent.prompts import say

if TYPE_CHECKING:
    from review_agent.checkpoints.rows import Checked


def check_lines(checked: Checked | None, lang: str) -> list[str]:
    """What was looked at, and what is wrong with the file's structure."""
    if checked is None:
        return []
    others = (
        checked.memos,
        checked.egress,
        checked.calls,
        checked.heads,
        checked.verdicts,
        checked.agent_states,
    )
    counts = {"runs": checked.runs, "analyses": checked.analyses, "rows": sum(others)}
    lines = [say(lang, "doctor", "checked" if checked.sound else "checked_bad", **counts)]
    return [*lines, *(say(lang, "doctor", "checked_problem", text=text) for text in checked.problems)]


def check_json(checked: Checked | None) -> dict[str, object] | None:
    return None if checked is None else {**asdict(checked), "problems": list(checked.problems)}
