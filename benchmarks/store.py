"""How the run store does with many units: open, look up, claim, write, check, prune.

    python benchmarks/store.py [--units 100000] [--folder DIR]

The rows are written in bulk, sealed as the store seals them. Times are medians, in one process, with the file
in the system's cache; `open` is also measured in processes of their own. Bars: open 100 ms, look-up 1 ms a
unit; `prune` gives the space back.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from review_agent.agent.cache import freeze
from review_agent.agent.models import Analysis, Candidate, Category, Placed, ReviewUnit, Severity, ShownLine
from review_agent.checkpoints.database import Database
from review_agent.checkpoints.seal import load_seals
from review_agent.checkpoints.store import Store

_WORDS = ("缺少", "检查", "返回", "值", "可能", "为空", "the", "index", "of", "order", "is", "not", "checked")
_A_RUN = 500  # units of one run
_DAY = 86400.0
_OPEN = """
import sys, time
from pathlib import Path
from review_agent.checkpoints.store import Store
started = time.perf_counter()
store = Store(Path(sys.argv[1]))
print(time.perf_counter() - started)
"""


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def payload_of(number: int) -> str:
    """An analysis as it is stored: none to three findings, 0.2 to 3 KB."""
    chance = random.Random(number)
    shown = tuple(ShownLine(line, f"line {line}", "+") for line in range(1, 40))
    unit = ReviewUnit("a.py", 0, "python", shown, tuple(range(1, 40)), "", 400, "")

    def words(count: int) -> str:
        return " ".join(chance.choices(_WORDS, k=count))

    placed = tuple(
        Placed(
            Candidate(
                words(6),
                Category.BUG,
                Severity.MEDIUM,
                0.7,
                words(8),
                "a.py",
                line,
                line,
                words(40),
                words(30),
            ),
            line,
            line,
        )
        for line in chance.sample(range(1, 40), chance.choice((0, 0, 1, 2, 3)))
    )
    return freeze(Analysis(unit, placed, words(20)))


def fill(path: Path, units: int) -> None:
    """Half of the units are a hundred days old, and so are the runs that made them; the rest are two."""
    Store(path).close()
    database, seals = Database(path), load_seals(path.parent)
    payloads = [payload_of(number) for number in range(1000)]
    now = time.time()

    def rows() -> Iterator[tuple[str, float, float, str, str]]:
        for number in range(units):
            key, payload = key_of(number), payloads[number % len(payloads)]
            when = now - (100 if number < units // 2 else 2) * _DAY
            yield key, when, when, payload, seals.mark("analyses", key, payload)

    def made() -> Iterator[tuple[str, str, str, float]]:
        for number in range(units):
            yield f"run{number // _A_RUN}", key_of(number), f"src/{number % _A_RUN}.py", now

    with database.transaction() as db:
        db.executemany("INSERT INTO analyses VALUES (?, ?, ?, ?, ?)", rows())
        db.executemany("INSERT INTO run_units VALUES (?, ?, ?, ?)", made())
    database.close()
    with Store(path) as store:
        for number in range(0, units, _A_RUN):
            run = f"run{number // _A_RUN}"
            store.start_run(run, "/repo", "tree", "{}", "target")
            store.finish_run(run, "finished", "{}")
    database = Database(path)
    with database.transaction() as db:
        for number in range(0, units // 2, _A_RUN):
            db.execute(
                "UPDATE runs SET updated=? WHERE run_id=?", (now - 100 * _DAY, f"run{number // _A_RUN}")
            )
    database.close()


def timed(call: Callable[[int], object], times: int) -> float:
    """Median in milliseconds."""
    took = []
    for at in range(times):
        started = time.perf_counter()
        call(at)
        took.append(time.perf_counter() - started)
    return statistics.median(took) * 1000


def opened_apart(path: Path) -> float:
    done = subprocess.run([sys.executable, "-c", _OPEN, str(path)], capture_output=True, check=True, cwd="/")
    return float(done.stdout) * 1000


def measure(path: Path, units: int) -> Iterator[tuple[str, str]]:
    chance = random.Random(1)

    def some(count: int) -> list[str]:
        return [key_of(chance.randrange(units)) for _ in range(count)]

    asked = {count: [some(count) for _ in range(20)] for count in (1, 100, 5000)}
    yield "open", f"{timed(lambda _: Store(path).close(), 20):.1f} ms"
    apart = statistics.median(opened_apart(path) for _ in range(7))
    yield "open, in a process of its own", f"{apart:.1f} ms"
    with Store(path) as store:
        for count, keys in asked.items():
            took = timed(lambda at, keys=keys: store.analyses(keys[at]), 20)  # type: ignore[misc]
            yield f"look up {count}", f"{took:.2f} ms, {took / count:.3f} ms a unit"
        run = "run0"
        took = timed(lambda at: store.analyses(asked[100][at], run), 20)
        yield "look up 100 of one run", f"{took:.2f} ms"
        store.start_run("now", "/repo", "tree", "{}", "target")
        with store.locks.hold("now"):
            took = timed(lambda at: store.claim("now", [f"new{at}-{number}" for number in range(8)]), 20)
            yield "claim 8 new ones", f"{took:.2f} ms"
            took = timed(lambda at: store.claim("now", asked[100][at]), 20)
            yield "claim 100 that are done", f"{took:.2f} ms"
            took = timed(lambda at: store.finish_unit("now", f"new{at}-0", "a.py", payload_of(at)), 20)
            yield "finish a unit (durable)", f"{took:.2f} ms"
        young = [key_of(chance.randrange(units // 2, units)) for _ in range(5000)]
        yield "note that 5000 are of use", f"{timed(lambda _: store.used(young), 1):.1f} ms"
        yield "list 50 runs", f"{timed(lambda _: store.runs(), 5):.2f} ms"
        yield "find an unfinished run", f"{timed(lambda _: store.unfinished('/repo', 'target'), 5):.2f} ms"
        yield "units of a run", f"{timed(lambda _: store.units_of(run), 5):.2f} ms"
        checked: list[object] = []
        yield "check all of it", f"{timed(lambda _: checked.append(store.check()), 1) / 1000:.1f} s"
    yield from _pruned(path, "prune, 90 days", time.time() - 90 * _DAY)
    yield from _pruned(path, "prune, all", time.time() + _DAY)


def _pruned(path: Path, what: str, before: float) -> Iterator[tuple[str, str]]:
    with Store(path) as store:
        started = time.perf_counter()
        done = store.prune(before)
        took = time.perf_counter() - started
    sizes = f"{done.before / 1e6:.1f} MB to {done.after / 1e6:.1f} MB"
    yield what, f"{took:.1f} s; {done.runs} runs, {done.analyses} units; {sizes}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--folder", help="where the store is made, default: the system's temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "store.sqlite3"
        fill(path, args.units)
        print(f"{args.units} units, {path.stat().st_size / 1e6:.1f} MB")
        print("| what | figure |")
        print("|---|---|")
        for what, figure in measure(path, args.units):
            print(f"| {what} | {figure} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
