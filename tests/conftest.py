"""Fixtures of every test: a private home, and a git repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from gitrepo import Repo, make_repo
from hypothesis import HealthCheck, settings

# A busy machine is slow, not wrong; and the same commit must give the same result twice.
settings.register_profile(
    "project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def _private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes what the user has: no configuration, no state, no variables of git or ours."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("GIT_", "XDG_", "REVIEW_AGENT_")) and name not in _OURS:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    for kind in ("CONFIG", "CACHE", "STATE", "DATA"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


# where the tests' own data is, and whether to write the golden files anew
_OURS = ("REVIEW_AGENT_CORPUS", "REVIEW_AGENT_BENCH", "REVIEW_AGENT_UPDATE_GOLDEN")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """An empty repository on branch `main`."""
    return make_repo(tmp_path / "repo")
