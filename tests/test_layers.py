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
NOT_IN_AGENT = {"anthropic", "httpx", "httpx2", "subprocess", "sqlite3", "git", "socket", "urllib.request"}

# Who may have to do with a network at all. `socket` is where sockets are made and looked at, and nowhere else.
NETWORK = {
    "anthropic": {"tools/backends/anthropic.py"},
    "httpx2": {"tools/backends/anthropic.py", "tools/cloud_transport.py", "tools/endpoints.py"},
    "socket": {"tools/endpoints.py", "tools/tripwire.py"},
    "claude_agent_sdk": {"tools/claude.py", "tools/claude_events.py", "tools/server.py"},
    "httpx": {
        "tools/backends/listing.py", "tools/backends/ollama.py", "tools/backends/openai.py", "tools/backends/wire.py",
        "tools/download.py", "tools/endpoints.py", "tools/forges/github.py", "tools/hubs.py", "tools/ollama_pull.py", "tools/transport.py",
    },
}  # fmt: skip
NOBODY = {
    "_socket", "aiohttp", "asyncore", "ftplib", "http.client", "http.server",
    "httpcore", "httpcore2", "imaplib", "multiprocessing", "openai", "poplib", "requests", "smtplib", "socketserver", "ssl",
    "telnetlib", "urllib.request", "urllib3", "webbrowser", "websockets", "xmlrpc",
}  # fmt: skip
# Called under any name, as in `loop.create_connection(…)` and `httpx.AsyncClient(…)`.
CONNECTS = {
    "Anthropic", "AsyncAnthropic", "AsyncClient", "AsyncHTTPTransport", "Client", "HTTPTransport",
    "create_connection", "create_datagram_endpoint",
    "create_server", "create_unix_connection", "getaddrinfo", "gethostbyaddr", "gethostbyname", "getfqdn",
    "open_connection", "open_unix_connection", "start_server", "start_unix_server", "urlopen", "urlretrieve",
}  # fmt: skip


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


def ours() -> Iterator[tuple[str, Path]]:
    for room in ("agent", "tools", "prompts", "checkpoints"):
        for path in modules(room):
            yield path.relative_to(ROOT).as_posix(), path


def test_few_modules_have_to_do_with_a_network() -> None:
    users: dict[str, set[str]] = {name: set() for name in NETWORK}
    for where, path in ours():
        for name in imports(path):
            top = name.partition(".")[0]
            if where != "tools/backends/llama_child.py":  # a program of its own, which loads the engine
                assert name not in NOBODY, f"{where} imports {name}"
                assert top not in NOBODY, f"{where} imports {name}"
            if top in users:
                users[top].add(where)
    assert users == NETWORK


def calls(path: Path) -> set[str]:
    """Last names of what is called, and of what a class is made from; `httpx.get` and the like in full."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        called = (
            [node.func]
            if isinstance(node, ast.Call)
            else node.bases
            if isinstance(node, ast.ClassDef)
            else []
        )
        found |= {name.id for name in called if isinstance(name, ast.Name)}
        for name in called:
            if isinstance(name, ast.Attribute):
                found.add(name.attr)
                library = ast.unparse(name.value)
                if library in ("httpx", "httpx2") and name.attr.islower():
                    found.add(f"{library}.{name.attr}")
    return found


def test_connections_and_clients_are_made_in_one_place() -> None:
    users: dict[str, set[str]] = {}
    for where, path in ours():
        made = {name for name in calls(path) if name in CONNECTS or name.startswith(("httpx.", "httpx2."))}
        if made:
            users[where] = made
    assert users == {
        "tools/backends/anthropic.py": {"AsyncAnthropic"},  # over the HTTP client that it is given
        "tools/endpoints.py": {"AsyncClient", "AsyncHTTPTransport", "create_connection"},
        "tools/tripwire.py": {"getaddrinfo"},  # what a name of the user's own configuration means
    }
