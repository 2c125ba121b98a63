"""Fixtures: a mock server to start, the installed command, a copy of the demo repository."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driver import DEMO, Cli, Server, launch
from pushing import Desk, copied, make_desk, make_pushed


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
    home.mkdir(exist_ok=True)
    return Cli(home)


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A copy of the demo repository, outside any git repository."""
    return Path(shutil.copytree(DEMO, tmp_path / "demo"))


@pytest.fixture(scope="session")
def eval_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model that finds something wherever there is an `eval`. Who stops it, or changes it, starts another."""
    server = launch(tmp_path_factory.mktemp("eval-server"), review="eval")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _pushed(tmp_path_factory: pytest.TempPathFactory, eval_server: Server) -> Desk:
    folder = tmp_path_factory.mktemp("pushed")
    (folder / "home").mkdir()
    return make_pushed(Cli(folder / "home"), folder, eval_server)


@pytest.fixture
def desk(cli: Cli, eval_server: Server, tmp_path: Path) -> Desk:
    """A repository without commits and an empty remote."""
    return make_desk(cli, tmp_path, eval_server)


@pytest.fixture
def pushed_once(_pushed: Desk, tmp_path: Path) -> Desk:
    """The hook is installed, and `main` is at the other side."""
    return copied(_pushed, tmp_path)
