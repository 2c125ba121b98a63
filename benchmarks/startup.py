"""How long the installed command takes to start, and to say that no model server answers.

    python benchmarks/startup.py [--runs 15]

The ratio is that of medians, of runs in turn with `python -c pass`, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Timing:
    """Medians in seconds. `lines` are what the command wrote to stderr without a server."""

    python: float
    version: float
    absent: float
    exit_code: int
    lines: tuple[str, ...]

    @property
    def ratio(self) -> float:
        return self.version / self.python


def installed() -> str:
    return str(Path(sys.executable).parent / "review-agent")


def _environment(home: Path) -> dict[str, str]:
    """A home of its own: neither the user's configuration nor their runs."""
    state = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("STATE", "CONFIG", "CACHE")}
    return {**{name: os.environ[name] for name in _KEPT if name in os.environ}, "HOME": str(home), **state}


def _timed(argv: list[str], env: dict[str, str]) -> tuple[float, subprocess.CompletedProcess[str]]:
    started = time.perf_counter()
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
    return time.perf_counter() - started, done


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(runs: int) -> Timing:
    with tempfile.TemporaryDirectory() as folder:
        env = _environment(Path(folder))
        tree = Path(folder) / "tree"
        tree.mkdir()
        (tree / "app.py").write_text("print('hello')\n")
        url = f"http://127.0.0.1:{_closed_port()}"
        review = [installed(), "run", str(tree), "--base-url", url]
        python, version, absent = [], [], []
        for _ in range(runs):
            python.append(_timed([sys.executable, "-c", "pass"], env)[0])
            version.append(_timed([installed(), "--version"], env)[0])
        for _ in range(max(1, runs // 3)):
            seconds, done = _timed(review, env)
            absent.append(seconds)
    lines = tuple(done.stderr.strip().split("\n"))
    return Timing(
        statistics.median(python),
        statistics.median(version),
        statistics.median(absent),
        done.returncode,
        lines,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=15)
    timing = measure(parser.parse_args().runs)
    print("| what | median | against the bar |")
    print("|---|---|---|")
    print(f"| `python -c pass` | {timing.python * 1000:.0f} ms | |")
    version = f"{timing.version * 1000:.0f} ms | {timing.ratio:.2f} times python, at most 3"
    print(f"| `review-agent --version` | {version} |")
    print(f"| no server, until exit {timing.exit_code} | {timing.absent * 1000:.0f} ms | at most 1000 ms |")
    for line in timing.lines:
        print(f"    {line}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
