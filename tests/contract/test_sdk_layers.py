"""The layers between a model that does as it is told and the machine: each taken away alone, and the next one denies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from claude_scripts import obedient
from converse import STRICT, Place, before_tools, converse, denial
from scripted_claude import ScriptedClaude

BUILT_IN = ["Bash", "Read", "Write", "WebFetch", "Glob"]
WITHOUT_RESTRICTED: dict[str, str | None] = {"permission-prompts": "none"}
HARMLESS = {"read inside"}  # of a folder that is empty but for what the test put there


async def only_ours(call: Any, call_id: str | None, context: Any) -> dict[str, Any]:
    return {} if call["tool_name"].startswith("mcp__review__") else denial("not ours")


HOOK = before_tools(only_ours)


@pytest.mark.parametrize(
    ("layers", "ran"),
    [
        ({"hooks": HOOK}, set()),
        ({"hooks": HOOK, "tools": BUILT_IN, "allowed_tools": BUILT_IN, "extra_args": {}}, set()),
        ({}, set()),
        ({"tools": BUILT_IN}, HARMLESS),
        ({"tools": BUILT_IN, "extra_args": WITHOUT_RESTRICTED}, HARMLESS),
        ({"tools": BUILT_IN, "permission_mode": "default"}, HARMLESS),
        (
            {"tools": BUILT_IN, "allowed_tools": BUILT_IN, "extra_args": WITHOUT_RESTRICTED},
            {"run", "write inside", "write outside", "read inside", "read outside", "list outside"},
        ),
    ],
    ids=[
        "all",
        "only the hook",
        "only absent tools, dontAsk and restricted",
        "only dontAsk and restricted",
        "only dontAsk",
        "only restricted and no prompts",
        "none",
    ],
)
async def test_one_layer_is_enough(
    place: Place, tmp_path: Path, layers: dict[str, Any], ran: set[str]
) -> None:
    outside, inside, mark = tmp_path / "outside.txt", place.cwd / "inside.txt", tmp_path / "mark"
    outside.write_text("OUTSIDE")
    inside.write_text("INSIDE")
    with ScriptedClaude([]) as elsewhere:
        actions: dict[str, tuple[str, dict[str, Any]]] = {
            "run": ("Bash", {"command": f"touch {mark}"}),
            "write inside": ("Write", {"file_path": str(place.cwd / "new"), "content": "x"}),
            "write outside": ("Write", {"file_path": str(tmp_path / "new"), "content": "x"}),
            "read inside": ("Read", {"file_path": str(inside)}),
            "read outside": ("Read", {"file_path": str(outside)}),
            "list outside": ("Glob", {"pattern": f"{tmp_path}/outside*"}),
            "fetch": ("WebFetch", {"url": elsewhere.url, "prompt": "x"}),
        }
        with ScriptedClaude(obedient(list(actions.values()))) as claude:
            await converse(claude, place, **({"tools": [], "extra_args": STRICT} | layers))
        assert elsewhere.everything == []
    results = claude.asked[-1].results
    assert {name for name, (_, _, failed) in zip(actions, results, strict=True) if not failed} == ran
    assert mark.exists() == ("run" in ran)
    assert (tmp_path / "new").exists() == ("write outside" in ran)
    assert ("OUTSIDE" in claude.asked[-1].text.replace(str(tmp_path), "")) == ("read outside" in ran)
