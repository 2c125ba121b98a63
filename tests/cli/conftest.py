"""Fixtures: a mock server to start, the installed command, a copy of the demo repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driver import DEMO, ROOT, Cli, Server, free_port


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(**options: object) -> Server:
        port = free_port()
        log, dump = tmp_path / f"log-{port}.jsonl", tmp_path / f"dump-{port}"
        argv = [sys.executable, str(ROOT / "tests" / "harness" / "mock_llm.py"), "--port", str(port)]
        argv += ["--log", str(log), "--dump", str(dump)]
        for name, value in options.items():
            argv += [f"--{name.replace('_', '-')}", str(value)]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        server = Server(f"http://127.0.0.1:{port}", log, dump, process)
        servers.append(server)
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{server.url}/api/version", timeout=1).close()
                return server
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("the mock server did not start")

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
