"""Fixtures: a mock server to start, the installed command, a copy of the demo repository."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driver import DEMO, Cli, Server, launch


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(**options: object) -> Server:
        servers.append(launch(tmp_path, **options))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    home = tmp_path / "home"
    home.mkdir()
    return Cli(home)


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A copy of the demo repository, outside any git repository."""
    return Path(shutil.copytree(DEMO, tmp_path / "demo"))
