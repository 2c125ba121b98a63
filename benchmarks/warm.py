"""What a second run costs: requests and seconds when nothing, one file, the branch or a name has changed.

    python benchmarks/warm.py [--repo DIR] [--from main] [--to feature] [--runs 5]

The installed command reviews a range of a private copy of a repository against the mock server of
tests/harness, with a home of its own. Without `--repo` a small repository is made. Seconds are medians of
whole processes, ratios are to the first run. Bars: no request but for the one changed file; 1.5 s.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR")
_GIT = ("git", "-c", "user.name=bench", "-c", "user.email=bench@example.invalid")
_SMALL = 30  # files of the repository that is made when none is given


@dataclass(frozen=True, slots=True)
class Row:
    """One situation. `seconds` is the median of `times` runs; requests and units are of the first of them."""

    what: str
    requests: int
    units: int
    of_units: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Bench:
    """A copy of the repository, a home, and a mock server that logs what it is asked."""

    repo: Path
    home: Path
    url: str
    log: Path
    base: str
    head: str

    def git(self, *args: str) -> str:
        argv = [*_GIT, "-C", str(self.repo), *args]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def requests(self) -> int:
        rows = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return sum(not row.get("side") for row in rows)

    def row(self, what: str, head: str, runs: int = 1) -> Row:
        taken: list[tuple[int, int, int, float]] = []
        for _ in range(runs):
            before = self.requests()
            seconds, report = self._run(head)
            total = sum(file["units"] for file in report["files"])
            sent = total - report["usage"]["cached_units"]
            taken.append((self.requests() - before, sent, total, seconds))
        requests, units, of_units, _ = taken[0]
        return Row(what, requests, units, of_units, statistics.median(each[3] for each in taken))

    def _run(self, head: str) -> tuple[float, dict[str, object]]:
        argv = [str(Path(sys.executable).parent / "review-agent"), "run", str(self.repo)]
        argv += ["--from", self.base, "--to", head, "--base-url", self.url, "--format", "json"]
        state = {f"XDG_{kind}_HOME": str(self.home / kind.lower()) for kind in ("STATE", "CONFIG", "CACHE")}
        env = {name: os.environ[name] for name in _KEPT if name in os.environ}
        started = time.perf_counter()
        done = subprocess.run(
            argv, env={**env, "HOME": str(self.home), **state}, capture_output=True, check=False, cwd="/"
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(done.stderr.decode())
        return seconds, json.loads(done.stdout)


def measure(bench: Bench, runs: int) -> Iterator[Row]:
    yield bench.row("first run", bench.head)
    yield bench.row("second run", bench.head, runs)
    merge_base = bench.git("merge-base", bench.base, bench.head)
    changed = bench.git("diff", "--name-only", "--diff-filter=M", merge_base, bench.head).splitlines()
    tree = bench.git("rev-parse", f"{bench.head}^{{tree}}")
    bench.git(
        "branch", "bench-other", bench.git("commit-tree", tree, "-p", merge_base, "-m", "the same change")
    )
    yield bench.row("same change, another branch", "bench-other", runs)
    bench.git("checkout", "-q", "-f", "-b", "bench-renamed", bench.head)
    file = Path(changed[0])
    bench.git("mv", str(file), str(file.with_name(f"renamed_{file.name}")))
    bench.git("commit", "-q", "-m", "renamed")
    yield bench.row("one file renamed", "bench-renamed", runs)
    bench.git("checkout", "-q", "-f", "-b", "bench-changed", bench.head)
    with (bench.repo / file).open("a", encoding="utf-8") as text:
        text.write("\n\n# one more line\n")
    bench.git("commit", "-q", "-a", "-m", "changed")
    yield bench.row("one file changed", "bench-changed")


def make_small(path: Path) -> None:
    """`main`, and `feature` that changes every file."""
    path.mkdir()
    git = [*_GIT, "-C", str(path)]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    for value, branch in ((0, ""), (7, "feature")):
        if branch:
            subprocess.run([*git, "checkout", "-q", "-b", branch], check=True)
        for number in range(_SMALL):
            body = (f"def f{number}_{at}(value):\n    return value + {at + value}\n" for at in range(40))
            (path / f"module_{number}.py").write_text("\n".join(body))
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "c"], check=True)


@contextmanager
def serving(log: Path) -> Iterator[str]:
    """The address of a mock model server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    argv = [sys.executable, str(ROOT / "tests/harness/mock_llm.py"), "--port", str(port), "--log", str(log)]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for attempt in range(100):
            try:
                urllib.request.urlopen(f"{url}/api/version", timeout=1).close()
                break
            except OSError:
                if attempt == 99:
                    raise
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(10)


def rows(repo: Path | None, base: str, head: str, runs: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy = folder / "repo"
        if repo is None:
            make_small(copy)
        else:
            shutil.copytree(repo, copy, symlinks=True)
        with serving(folder / "log.jsonl") as url:
            yield from measure(Bench(copy, folder / "home", url, folder / "log.jsonl", base, head), runs)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", type=Path)
    parser.add_argument("--from", dest="base", default="main")
    parser.add_argument("--to", dest="head", default="feature")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    print("| what | requests | units sent | seconds | ratio |")
    print("|---|---|---|---|---|")
    first = 0.0
    for row in rows(args.repo, args.base, args.head, args.runs):
        first = first or row.seconds
        units = f"{row.units} of {row.of_units}"
        ratio = f"{row.seconds / first:.2f}"
        print(f"| {row.what} | {row.requests} | {units} | {row.seconds:.2f} | {ratio} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
