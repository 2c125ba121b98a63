"""Every `claude` process of these tests lives in a place of its own and knows nothing of the machine's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from converse import Place

_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "CI")


@pytest.fixture(autouse=True)
def _bare_environment(_private_home: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK hands the whole environment on to the CLI: no key, address or proxy of the machine may be in it."""
    home = os.environ["HOME"]
    for name in list(os.environ):
        if name not in _KEPT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", home)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path)
