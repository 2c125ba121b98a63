"""A work tree with a remote and a mock model: real `git push`, and what its user sees."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from driver import Cli, Server

CLEAN = "def double(number: int) -> int:\n    return number * 2\n"
FAULTY = "def run(text: str) -> object:\n    return eval(text)\n"
SKIP = {"REVIEW_AGENT_SKIP": "1"}
_DATE = "2026-01-01T00:00:00Z"
_GITCONFIG = """[user]
name = t
email = t@example.invalid
[init]
defaultBranch = main
[protocol "file"]
allow = always
[advice]
detachedHead = false
"""
# What differs between two equal pushes, and what belongs to git's version or to a slow machine.
_VOLATILE = (
    (re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}"), "<run>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<commit>"),
    (re.compile(r"(?<= )\+?\b[0-9a-f]{7,10}(\.{2,3})[0-9a-f]{7,10}\b"), r"<old>\1<new>"),
    (re.compile(r"用时 [0-9 分秒]+秒"), "用时 <n> 秒"),
    (re.compile(r"约 \d+ token"), "约 <n> token"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "<server>"),
    (re.compile(r"(?m)^仍在进行.*\n"), ""),
    (re.compile(r"(?m)[ \t]+$"), ""),
)


@dataclass(frozen=True)
class Pushed:
    """One command as its user saw it. `cpu` counts the seconds of all processes, `asked` the model's requests."""

    code: int
    seen: str
    seconds: float
    cpu: float
    asked: int


@dataclass
class Desk:
    """Somebody's machine: `tree` is where they stand, with a bare repository as `origin`."""

    cli: Cli
    tree: Path
    bare: Path
    server: Server | None
    env: dict[str, str] = field(default_factory=dict)
    transcript: list[str] = field(default_factory=list)

    def environment(self, **extra: str) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{self.cli.environment()['PATH']}"
        url = {"REVIEW_AGENT_BASE_URL": self.server.url} if self.server else {}
        dates = {"GIT_AUTHOR_DATE": _DATE, "GIT_COMMITTER_DATE": _DATE}
        return {**self.cli.environment(), "PATH": path, **dates, **url, **self.env, **extra}

    def git(self, *args: str | Path, at: Path | None = None, **extra: str) -> str:
        done = subprocess.run(
            ["git", *map(str, args)], cwd=at or self.tree, env=self.environment(**extra), capture_output=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def commit(self, message: str = "c", **files: str) -> str:
        """Write `<name>.py` for each of `files` and commit; returns the id."""
        for name, text in files.items():
            (self.tree / f"{name}.py").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def see(self, *argv: str, at: Path | None = None, shown: str = "", **extra: str) -> Pushed:
        """Run a command of the user's, and put it into the transcript."""
        before, asked, began = _cpu(), self.asked(), time.monotonic()
        done = subprocess.run(
            [*argv], cwd=at or self.tree, env=self.environment(**extra), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
        )  # fmt: skip
        seconds, cpu = time.monotonic() - began, _cpu() - before
        text = done.stdout.decode()
        for mark in ("Traceback", "程序内部错误"):
            assert mark not in text, text
        told = " ".join([f"{name}={value}" for name, value in extra.items()] + [shown or " ".join(argv)])
        self.transcript.append(f"$ {told}\n{text}（退出码 {done.returncode}）\n")
        print(f"{self.transcript[-1]}（{seconds:.1f} 秒，处理器 {cpu:.2f} 秒）\n")
        return Pushed(done.returncode, text, seconds, cpu, self.asked() - asked)

    def push(self, *args: str, at: Path | None = None, **extra: str) -> Pushed:
        return self.see("git", "push", *args, at=at, **extra)

    def hook(self, *args: str, at: Path | None = None, **extra: str) -> Pushed:
        argv = self.cli.argv("hook", *args)
        return self.see(*argv, at=at, shown=" ".join(["review-agent", "hook", *args]), **extra)

    def asked(self) -> int:
        return len(self.server.requests()) if self.server else 0

    def remote(self, ref: str) -> str:
        """The commit of a ref at the other side; '' where it is not there."""
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", ref], cwd=self.bare, env=self.environment(),
            capture_output=True,
        )  # fmt: skip
        return done.stdout.decode().strip()

    def masked(self) -> str:
        text = "\n".join(self.transcript)
        for place, name in ((self.tree, "<repo>"), (self.bare, "<remote>"), (self.cli.home, "<home>")):
            text = text.replace(str(place), name)
        for pattern, instead in _VOLATILE:
            text = pattern.sub(instead, text)
        return text


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def make_desk(cli: Cli, folder: Path, server: Server | None) -> Desk:
    """An empty repository on branch `main`, with an empty remote."""
    (cli.home / ".gitconfig").write_text(_GITCONFIG)
    desk = Desk(cli, folder / "tree", folder / "remote.git", server)
    desk.tree.mkdir()
    desk.git("init", "-q", "--bare", desk.bare, at=folder)
    desk.git("init", "-q")
    desk.git("remote", "add", "origin", desk.bare)
    return desk


def make_pushed(cli: Cli, folder: Path, server: Server | None) -> Desk:
    """The hook is installed, and `main` is at the other side."""
    desk = make_desk(cli, folder, server)
    desk.commit(clean=CLEAN)
    desk.git("push", "-q", "-u", "origin", "main")
    assert desk.hook("install").code == 0
    return desk


def copied(desk: Desk, folder: Path) -> Desk:
    """The same in another folder: what a desk costs to make is paid once."""
    shutil.copytree(desk.tree.parent, folder, dirs_exist_ok=True, symlinks=True)
    cli = Cli(folder / desk.cli.home.name)
    copy = Desk(cli, folder / desk.tree.name, folder / desk.bare.name, desk.server, dict(desk.env))
    copy.git("remote", "set-url", "origin", copy.bare)
    return copy


def script(path: Path, text: str, mode: int = 0o755) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path.read_bytes()
