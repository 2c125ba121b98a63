"""What an agent costs beside its model: bytes and tokens a turn, seconds until it asks, memory.

    python benchmarks/agent.py [--repo DIR] [--runs 3] [-- --from main --to feature --max-turns 200]

The installed command reviews a folder in mode hybrid, with the mock server of tests/harness as its local
engine, the bundled `claude` and a scripted Messages server, all on this machine, with a home and a dummy key
of their own. So what a model would take is not in the figures. Medians of whole runs; tokens are estimates.
What follows `--` is handed to `review-agent run`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "harness"), str(ROOT / "tests" / "cli")]

import claude_scripts  # noqa: E402
from driver import Cli, launch  # noqa: E402
from scripted_claude import Asked, ScriptedClaude  # noqa: E402

from review_agent.agent.tokens import estimate  # noqa: E402

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds from the start of the command, and from the start of the session; peaks in MiB."""

    first_request: float
    of_session: float
    turn: float
    whole: float
    claude_mib: float
    ours_mib: float
    sizes: tuple[int, ...]
    tokens: tuple[int, ...]


class Watch:
    """Peak resident memory of the program and of `review-agent`, looked at while it runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.claude = self.ours = 0
        self.started = 0.0  # when the program was first seen
        self._root = psutil.Process(process.pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            try:
                self.ours = max(self.ours, self._root.memory_info().rss)
                for child in self._root.children(recursive=True):
                    if child.name() == "claude":
                        self.started = self.started or time.time()
                        self.claude = max(self.claude, child.memory_info().rss)
            except psutil.Error:
                continue


def one(repo: Path, folder: Path, options: list[str]) -> Run:
    times: list[float] = []
    plan = claude_scripts.reviewer(refute=["auth"])

    def timed(asked: Asked) -> object:
        times.append(time.time())
        return plan(asked)

    local = launch(folder, review="def ")
    try:
        with ScriptedClaude(timed) as claude:  # type: ignore[arg-type]
            cli = Cli(folder / "home", env={"ANTHROPIC_API_KEY": "dummy", "ANTHROPIC_BASE_URL": claude.url})
            cli.home.mkdir()
            argv = cli.argv(
                "run", repo, "--mode", "hybrid", "--base-url", local.url, "--model", "mock:7b", *options
            )
            began = time.time()
            process = subprocess.Popen(
                argv,
                env=cli.environment(),
                cwd=cli.home,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            watch = Watch(process)
            said = process.communicate(timeout=600)[1]
            watch.close()
            if process.returncode not in (0, 3):
                raise SystemExit(said.decode())
            bodies = [json.dumps(asked.body, ensure_ascii=False) for asked in claude.asked]
            return Run(
                first_request=times[0] - began,
                of_session=times[0] - watch.started,
                turn=(times[-1] - times[0]) / max(1, len(times) - 1),
                whole=time.time() - began,
                claude_mib=watch.claude / _MIB,
                ours_mib=watch.ours / _MIB,
                sizes=tuple(len(body.encode()) for body in bodies),
                tokens=tuple(estimate(asked.text.split("\n")[0]) for asked in claude.asked),
            )
    finally:
        local.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", type=Path, default=ROOT / "examples" / "demo-repo")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("options", nargs="*")
    given = parser.parse_args()
    runs: list[Run] = []
    for _ in range(given.runs):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(one(given.repo.resolve(), Path(folder), given.options))
    first = runs[0]
    turns = len(first.sizes)

    def median(name: str) -> float:
        return statistics.median(getattr(run, name) for run in runs)

    rows = [
        ("turns", f"{turns}"),
        ("first request, bytes", f"{first.sizes[0]:,}"),
        ("last request, bytes", f"{first.sizes[-1]:,}"),
        ("more bytes a turn", f"{(first.sizes[-1] - first.sizes[0]) / max(1, turns - 1):,.0f}"),
        ("first request, tokens (estimate)", f"{first.tokens[0]:,}"),
        ("more tokens a turn (estimate)", f"{(first.tokens[-1] - first.tokens[0]) / max(1, turns - 1):,.0f}"),
        ("command to first request, s", f"{median('first_request'):.2f}"),
        ("program to first request, s", f"{median('of_session'):.2f}"),
        ("a turn without the model, s", f"{median('turn'):.2f}"),
        ("whole run, s", f"{median('whole'):.2f}"),
        ("peak memory of claude, MiB", f"{median('claude_mib'):.0f}"),
        ("peak memory of review-agent, MiB", f"{median('ours_mib'):.0f}"),
    ]
    for what, value in rows:
        print(f"{what:<36}{value:>12}")


if __name__ == "__main__":
    main()
