"""One review to break: a generated tree, a mock server, a private home, and the report of the unbroken run."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent
# for `all_faults.py`, which is no test
sys.path[:0] = [str(FOLDER.parent / name) for name in (".", "cli", "harness")]

from driver import Cli, Server, launch, steady  # noqa: E402

from review_agent.checkpoints.store import RunRow, Store  # noqa: E402

# Points of what the benches do not do: nothing leaves this machine, and there is no agent.
ELSEWHERE = ("egress_noted", "call_noted", "verdict_written", "state_saved")
MARK = re.compile(r"# unit-(\d+)")
_SAID = re.compile(r"^发现 \[.*?\] (\w+\.py):", re.M)
FAULTY = ("Traceback", "程序内部错误", "Internal error (")


@dataclass
class Tally:
    """What a part of the suite did: `seen` are its figures, `problems` what must not be there."""

    cases: int = 0
    problems: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        self.cases += other.cases
        self.problems += other.problems
        self.seen += other.seen

    def expect(self, good: bool, problem: str) -> None:
        if not good:
            self.problems.append(problem)


def make_tree(root: Path, files: int = 30) -> Path:
    """`files` Python files of one unit each; every third is so small that it shares a request. Two are equal."""
    root.mkdir(parents=True)
    for number in range(files):
        mark = 1 if number == 4 else number  # a copy of another file is no work of its own
        size = 3 if number % 3 == 2 else 11
        body = "".join(
            f"def f{mark}_{at}(x):\n    y = x + {mark * 100 + at}\n    return y * {at}\n\n"
            for at in range(size)
        )
        (root / f"m{number:02}.py").write_text(f"# unit-{mark}\n{body}")
    return root


@dataclass(frozen=True)
class Stored:
    """A store as a dead process left it, read from a copy. `units` are path -> payload."""

    problems: tuple[str, ...]
    units: dict[str, str]
    runs: list[RunRow]

    @property
    def unfinished(self) -> bool:
        return any(row.status != "finished" for row in self.runs)


def read_store(folder: Path, scratch: Path) -> Stored:
    """Look into the store of a state folder without touching it."""
    if scratch.exists():
        shutil.rmtree(scratch)
    if not (folder / "store.sqlite3").exists():
        return Stored((), {}, [])
    shutil.copytree(folder, scratch)
    with Store(scratch / "store.sqlite3") as store:
        checked = store.check()
        aside = () if store.set_aside is None else ("set aside",)
        unsealed = () if checked.unsealed == 0 else (f"{checked.unsealed} rows unsealed",)
        rows = store._db.read("SELECT DISTINCT path, key FROM run_units")
        known = store.analyses([key for _, key in rows])
        units = {path: known[key] for path, key in rows if key in known}
        lost = () if len(units) == len(rows) else ("a finished unit without its analysis",)
        return Stored((*checked.problems, *aside, *unsealed, *lost), units, store.runs())


@dataclass
class Bench:
    """`folder` holds everything of one review. Several may share a server if they do not run at once."""

    folder: Path
    server: Server
    tree: Path
    home: Path

    @property
    def cli(self) -> Cli:
        return Cli(self.home)

    @property
    def state(self) -> Path:
        return self.home / "state" / "review-agent"

    @property
    def out(self) -> Path:
        return self.home / "report.json"

    def new_home(self, name: str) -> Bench:
        """The same review by a user who has no store yet."""
        home = self.folder / name
        home.mkdir()
        return Bench(self.folder, self.server, self.tree, home)

    def args(self, *more: str | Path, out: Path | None = None) -> tuple[str | Path, ...]:
        """A `run` that makes many small requests. It writes its report to `out` of the bench, or the one given."""
        engine = ("--backend", "ollama", "--base-url", self.server.url, "--model", "mock:7b")
        limits = ("--num-ctx", "2048", "--concurrency", "4")
        return ("run", self.tree, *engine, *limits, "--out", f"json={out or self.out}", *more)

    def marks(self) -> dict[str, str]:
        """Path -> the mark in its code, by which a prompt tells what it asks about."""
        return {path.name: MARK.findall(path.read_text())[0] for path in self.tree.iterdir()}

    def asked(self, since: int = 0) -> list[set[str]]:
        """The marks in each request from number `since` on (0 = the first)."""
        return [set(MARK.findall(prompt)) for prompt in self.server.prompts()[since:]]

    def report(self) -> str:
        """The report without ids, times and usage; '' when there is none. Raises on half a report."""
        return read_report(self.out)

    def stored(self) -> Stored:
        return read_store(self.state, self.folder / f"{self.home.name}-copy")

    def unbroken(self) -> tuple[str, float]:
        """The report to compare with, and the seconds it took."""
        alone = self.new_home("unbroken")
        started = time.monotonic()
        done = alone.cli.run(*alone.args())
        assert done.returncode == 0, done.stderr.decode()
        seconds = time.monotonic() - started
        report = alone.report()
        assert len(json.loads(report)["findings"]) == len(self.marks())
        return report, seconds


def make_bench(folder: Path, files: int = 30, **server: object) -> Bench:
    """Start a server. The caller stops it."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {"slots": 4, "latency": 0.04, "review": "*", **server}
    home = folder / "home"
    home.mkdir()
    return Bench(folder, launch(folder, **options), make_tree(folder / "tree", files), home)


def read_report(path: Path) -> str:
    if not path.exists():
        return ""
    return json.dumps(steady(json.loads(path.read_text("utf-8"))), ensure_ascii=False, indent=1)


def until(ready: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.02)


def acknowledged(stderr: str) -> set[str]:
    """Files whose findings the process has shown: it shows none before they are stored."""
    return set(_SAID.findall(stderr))


def start(bench: Bench, log: Path, *args: str | Path, **env: str) -> subprocess.Popen[bytes]:
    """The command with its messages in a file, where they outlive it."""
    with log.open("wb") as stream:
        return subprocess.Popen(
            bench.cli.argv(*args),
            cwd=bench.tree,
            env=bench.cli.environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stream,
            preexec_fn=_heeds_ctrl_c,  # noqa: PLW1509 - it takes no lock
        )


def _heeds_ctrl_c() -> None:
    """A shell's background jobs ignore SIGINT, and hand that on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def crashes(log: str) -> list[str]:
    return [f"{mark} in the messages: {log[-600:]}" for mark in FAULTY if mark in log]


def side_by_side(jobs: Sequence[Callable[[], Tally]]) -> Tally:
    """Every job in a thread of its own. They share no bench."""
    tally = Tally()
    with ThreadPoolExecutor(len(jobs)) as pool:
        for part in [pool.submit(job) for job in jobs]:
            tally.add(part.result())
    return tally
