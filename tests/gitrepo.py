"""A git repository for a test: real git, in an environment that nothing of the user's machine reaches."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from review_agent.tools.git import Repository, find

NAME = ("-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "protocol.file.allow=always")


@dataclass(frozen=True)
class Repo:
    path: Path

    def git(self, *args: str | bytes | Path, ok: tuple[int, ...] = (0,), **env: str) -> str:
        """stdout of one git command in this repository, decoded like a file name."""
        done = subprocess.run(
            ["git", *NAME, *args],
            cwd=self.path,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        assert done.returncode in ok, done.stderr.decode(errors="replace")
        return os.fsdecode(done.stdout)

    def write(self, path: str, data: str | bytes) -> Path:
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data.encode() if isinstance(data, str) else data)
        return target

    def commit(self, files: dict[str, str | bytes] | None = None, message: str = "c") -> str:
        """Write `files`, commit everything there is; returns the commit id."""
        for path, data in (files or {}).items():
            self.write(path, data)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def diff(self, *args: str) -> bytes:
        return os.fsencode(self.git("diff", *args))


def make_repo(path: Path, *options: str) -> Repo:
    path.mkdir(parents=True, exist_ok=True)
    repo = Repo(path)
    repo.git("init", "-q", "-b", "main", *options)
    return repo


def opened(repo: Repo) -> Repository:
    location = find(repo.path)
    assert location is not None
    return Repository(location)
