"""A real Ollama server for the tests here, made by `scripts/ollama-for-ci`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driver import ROOT, free_port
from real_ollama import Ollama, own_store

# Read here: tests get an environment without our variables.
DEMO_MODEL = "smollm2-135m"
MADE = os.environ.get("REVIEW_AGENT_OLLAMA", "")
HOW = "REVIEW_AGENT_OLLAMA is not set; `scripts/ollama-for-ci --json > FILE` makes the file it names"


@pytest.fixture(scope="session")
def made() -> dict[str, Any]:
    """What `scripts/ollama-for-ci --json` printed: argv, env, model, gguf, …"""
    if not MADE:
        pytest.skip(HOW)
    made = json.loads((ROOT / MADE).read_text())
    assert isinstance(made, dict)
    return made


@pytest.fixture(scope="module")
def ollama(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ollama]:
    """A server of this module's own, on a free port, with a home of its own and other names for its model."""
    server = started(made, tmp_path_factory.mktemp("ollama"))
    yield server
    server.stop()


def started(made: dict[str, Any], home: Path, **more: str) -> Ollama:
    """A server with `more` in its environment. The caller stops it."""
    port = free_port()
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")},
        **made["env"],
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(own_store(Path(made["env"]["OLLAMA_MODELS"]), home / "models")),
        "HOME": str(home),
        "OMP_WAIT_POLICY": "passive",
        **more,
    }
    server = Ollama(made["argv"], env, made["model"], f"http://127.0.0.1:{port}", home / "log")
    server.start()
    server.add_laconic()
    return server


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the demo model in it, fetched as a user would."""
    data = tmp_path_factory.mktemp("data")
    script = Path(sys.executable).parent / "review-agent"
    done = subprocess.run(
        [script, "models", "pull", DEMO_MODEL],
        env={**os.environ, "XDG_DATA_HOME": str(data)},  # the index is the machine's own
        cwd=data,
        capture_output=True,
        timeout=600,
        check=False,
    )
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"no package index to get the model from: {done.stderr.decode()[-300:]}")
    assert done.returncode == 0, done.stderr.decode()
    return data
