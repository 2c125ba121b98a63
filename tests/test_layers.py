"""Imports point one way, and each room keeps to its own tools (see CONTRIBUTING.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOTTOM = {"review_agent.agent.models", "review_agent.agent.errors"}
MAY_IMPORT = {
    "tools": ("review_agent.tools", "review_agent.prompts"),
    "prompts": ("review_agent.prompts",),
    "checkpoints": ("review_agent.checkpoints",),
}
NOT_IN_AGENT = {"httpx", "subprocess", "sqlite3", "git", "socket", "urllib.request"}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            yield node.module or ""


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_lower_rooms_do_not_import_upper_ones(room: str) -> None:
    assert modules(room)
    for path in modules(room):
        for name in imports(path):
            if name.startswith("review_agent"):
                assert name in BOTTOM or name.startswith(MAY_IMPORT[room]), f"{path} imports {name}"


@pytest.mark.parametrize("name", ["models.py", "errors.py"])
def test_the_bottom_imports_nothing_of_ours(name: str) -> None:
    assert not [found for found in imports(ROOT / "agent" / name) if found.startswith("review_agent")]


def test_agent_talks_to_the_outside_through_tools_only() -> None:
    for path in modules("agent"):
        for name in imports(path):
            assert name not in NOT_IN_AGENT, f"{path} imports {name}"


def test_nothing_but_commands_and_main_imports_the_command_line() -> None:
    for path in modules("agent"):
        if path.parent.name != "commands" and path.name != "main.py":
            assert "review_agent.agent.cli" not in set(imports(path)), path
