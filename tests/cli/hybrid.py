"""A hybrid review by the installed command: the demo repository, a mock Ollama, and a scripted Claude."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
from claude_scripts import OURS
from driver import Cli, Server
from scripted_claude import Asked

T = TypeVar("T")
Finding = dict[str, Any]
# Planted in the demo: `Record` is harmless by itself; what makes it a race are the goroutines of main.go.
RACE: Finding = {
    "path": "worker/stats.go",
    "start_line": 27,
    "end_line": 28,
    "quote": "\tentry, ok := s.stores[storeID]\n\tif !ok {",
    "title": "多个协程同时写 map，没有加锁",
    "category": "bug",
    "severity": "high",
    "confidence": 0.9,
    "explanation": "main.go 的多个工作协程并发调用 `Record`，对 `stores` 的读写没有互斥。",
    "suggestion": "加 `sync.Mutex`。",
}


@dataclass(frozen=True)
class Done:
    """How a command ended. `report` is empty where none was written."""

    code: int
    said: str  # on stderr
    shown: str  # on stdout: the terminal report
    markdown: str
    report: dict[str, Any]
    seconds: float

    @property
    def findings(self) -> list[Finding]:
        return list(self.report["findings"])

    @property
    def judged(self) -> dict[str, tuple[str, str]]:
        """Id of each finding -> what became of it, and why."""
        return {one["id"]: (one["outcome"], one["reason"]) for one in self.findings}

    @property
    def notes(self) -> dict[str, dict[str, Any]]:
        return {note["key"]: note["fields"] for note in self.report["notes"]}

    @property
    def resume(self) -> str:
        """The run that the last line of the messages says to go on with."""
        found = re.search(r"review-agent resume (\S+)\s*$", self.said)
        return found[1] if found else ""


@dataclass
class Desk:
    """One user: a home with its configuration, and a folder for temporary files."""

    folder: Path
    local: Server
    tree: Path
    config: Mapping[str, object] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=lambda: {"ANTHROPIC_API_KEY": "sk-dummy"})

    def __post_init__(self) -> None:
        self.home, self.tmp = self.folder / "home", self.folder / "tmp"
        config = self.home / "config" / "review-agent"
        for folder in (config, self.tmp):
            folder.mkdir(parents=True)
        rows = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in self.config.items()]
        (config / "config.toml").write_text("".join(rows), encoding="utf-8")

    def cli(self, url: str) -> Cli:
        """With a scripted Claude behind `url`, and nothing of the machine's own."""
        return Cli(self.home, {**self.environ, "ANTHROPIC_BASE_URL": url, "TMPDIR": str(self.tmp)})

    def args(self, *more: str) -> tuple[str | Path, ...]:
        local = ("--base-url", self.local.url, "--model", "mock:7b")
        outputs = ("--out", f"json={self.folder}/r.json", "--out", f"markdown={self.folder}/r.md")
        return ("run", self.tree, "--mode", "hybrid", *local, "--format", "terminal", *outputs, *more)

    def run(self, url: str, *more: str, **environ: str) -> Done:
        return self.do(url, *self.args(*more), **environ)

    def do(self, url: str, *args: str | Path, **environ: str) -> Done:
        started = time.monotonic()
        done = self.cli(url).run(*args, timeout=120, **environ)
        return self.ended(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def start(self, url: str, *more: str) -> subprocess.Popen[bytes]:
        """In a group of processes of its own, as a terminal starts a command."""
        cli = self.cli(url)
        return subprocess.Popen(
            cli.argv(*self.args(*more)),
            cwd=self.home,
            env=cli.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )

    def ended(self, code: int, shown: bytes, said: bytes, seconds: float = 0.0) -> Done:
        report, markdown = self.folder / "r.json", self.folder / "r.md"
        texts = [path.read_text("utf-8") if path.exists() else "" for path in (report, markdown)]
        for path in (report, markdown):
            path.unlink(missing_ok=True)
        return Done(code, said.decode(), shown.decode(), texts[1], json.loads(texts[0] or "{}"), seconds)

    def audit(self, url: str, run: str) -> dict[str, Any]:
        done = self.cli(url).run("audit", run, "--json")
        assert done.returncode == 0, done.stderr.decode()
        audit: dict[str, Any] = json.loads(done.stdout)
        return audit

    def left(self, url: str) -> list[str]:
        """What is left of runs that went to `url`: processes, and folders of sessions."""
        return [*map(str, programs(url)), *(path.name for path in self.tmp.iterdir())]


def programs(url: str, name: str = "") -> list[psutil.Process]:
    """Processes of this machine whose environment names `url`: a command of ours, and what it has started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("ANTHROPIC_BASE_URL") == url and name in process.name():
                found.append(process)
        except psutil.Error:
            continue  # it has ended, or is another's
    return found


def kill_program(url: str) -> None:
    """kill -9 the agent's program, and nothing else."""
    for process in programs(url, "claude"):
        os.kill(process.pid, signal.SIGKILL)


def judgements(asked: list[Asked]) -> list[str]:
    """What was judged over several sessions: a mark of the candidate, each time it was judged with success."""
    found: dict[str, str] = {}  # by the id of the call: each request repeats those before it
    for one in asked:
        titles = {
            row["id"]: f"{row['path']}:{row['title']}"
            for call, text, failed in one.results
            if not failed and text.startswith('{"candidates"')
            for row in json.loads(text)["candidates"]
            if not row["local_only"]
        }
        answered = {call for call, _, failed in one.results if not failed}
        for call, name, given in one.called:
            if name == OURS + "judge_finding" and call in answered:
                found[call] = titles[given["id"]]
    return list(found.values())


def two_at_a_time(jobs: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """What each job returns. Each starts a program of 200 MB that keeps a core busy for seconds."""
    with ThreadPoolExecutor(2) as pool:
        doing = {name: pool.submit(job) for name, job in jobs.items()}
        return {name: future.result() for name, future in doing.items()}
