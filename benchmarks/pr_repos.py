"""Real pull requests as git repositories: a base and a head commit with the touched files."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENV = {
    "GIT_AUTHOR_NAME": "bench",
    "GIT_AUTHOR_EMAIL": "bench@example.invalid",
    "GIT_COMMITTER_NAME": "bench",
    "GIT_COMMITTER_EMAIL": "bench@example.invalid",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


@dataclass(frozen=True, slots=True)
class PullRequest:
    """One item of the set, with the repository made from it; `base` and `head` are commit ids."""

    item: dict[str, Any]
    root: Path
    base: str
    head: str

    @property
    def golden(self) -> list[dict[str, Any]]:
        return list(self.item["golden"])


def pull_requests(bench: Path, folder: Path) -> Iterator[PullRequest]:
    """Every item of `bench/aacr-prs`, made below `folder`."""
    for path in sorted((bench / "aacr-prs" / "prs").glob("*.json")):
        item = json.loads(path.read_text(encoding="utf-8"))
        yield make(item, folder / path.stem)


def make(item: dict[str, Any], root: Path) -> PullRequest:
    root.mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    for file in item["files"]:
        _put(root, file.get("old_path") or file["path"], file["base"])
    base = commit(root, "base")
    for file in item["files"]:
        for name in {file.get("old_path") or file["path"], file["path"]}:
            (root / name).unlink(missing_ok=True)
    for file in item["files"]:
        _put(root, file["path"], file["head"])
    return PullRequest(item, root, base, commit(root, "head"))


def _put(root: Path, name: str, text: object) -> None:
    if isinstance(text, str):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))


def commit(root: Path, message: str) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", message)
    return git(root, "rev-parse", "HEAD").strip()


def git(root: Path, *args: str) -> str:
    done = subprocess.run(
        ["git", "-c", "core.autocrlf=false", *args],
        cwd=root,
        env={**os.environ, **ENV},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout
