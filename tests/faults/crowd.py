"""Eight processes on one store: all reviews of one tree end alike, and no unit is asked for twice."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench import Bench, Tally, acknowledged, crashes, make_bench, read_report, start, until

from review_agent.checkpoints.store import Store

PROCESSES = 8
WAIT = 180.0


def reviews(bench: Bench, unbroken: str, *, kill: bool) -> Tally:
    """Eight `run`s at once; with `kill` one of them dies when a third of the units is done."""
    tally = Tally(cases=1)
    marks = bench.marks()
    made = len(bench.server.prompts())
    outs = [bench.home / f"report-{number}.json" for number in range(PROCESSES)]
    logs = [bench.home / f"log-{number}" for number in range(PROCESSES)]
    processes = [start(bench, log, *bench.args(out=out)) for log, out in zip(logs, outs, strict=True)]
    victims = 0
    if kill:
        until(lambda: len(bench.asked(made)) > len(marks) // 3)
        chance = random.Random(PROCESSES)
        order = chance.sample(range(PROCESSES), PROCESSES)
        # One that is at work, not one that waits for the others.
        victim = max(order, key=lambda at: len(acknowledged(logs[at].read_text("utf-8"))))
        processes[victim].kill()
        victims = 1
    codes = [process.wait(WAIT) for process in processes]
    said = [log.read_text("utf-8") for log in logs]
    for text in said:
        tally.problems += crashes(text)
    tally.expect(
        Counter(codes) == Counter([0] * (PROCESSES - victims) + [-9] * victims), f"exit codes {codes}"
    )
    reports = [read_report(out) for out, code in zip(outs, codes, strict=True) if code == 0]
    tally.expect(all(report == unbroken for report in reports), "the reports differ")
    asked = Counter(mark for request in bench.asked(made) for mark in request)
    twice = {mark: times for mark, times in asked.items() if times > 1}
    # A killed process had at most as many requests in flight as `--concurrency` allows.
    in_flight = 4 * victims * _most_in_one(bench, made)
    tally.expect(len(twice) <= in_flight and max(asked.values()) <= 1 + victims, f"asked again: {twice}")
    tally.expect(asked.keys() == set(marks.values()), "a unit was never asked for")
    stored = bench.stored()
    tally.problems += [f"store: {problem}" for problem in stored.problems]
    # Of two files with equal code, one may have been known before any run came to it.
    tally.expect({marks[path] for path in stored.units} == set(marks.values()), "a unit is not stored")
    known = set().union(*(acknowledged(text) for text in said))
    tally.expect(known <= stored.units.keys(), "a unit that was shown is not stored")
    tally.seen["requests"] += len(bench.asked(made))
    tally.seen["units"] += len(asked)
    tally.seen["asked again after the kill" if kill else "asked again"] += len(twice)
    tally.seen["processes that asked"] += sum(bool(acknowledged(text)) for text in said)
    return tally


def _most_in_one(bench: Bench, made: int) -> int:
    return max(len(request) for request in bench.asked(made))


HAMMER = """
import sys
from pathlib import Path
from review_agent.checkpoints.store import Store
run, keys = sys.argv[2], [f"key{at}" for at in range(int(sys.argv[3]))]
with Store(Path(sys.argv[1])) as store, store.locks.hold(run):
    store.start_run(run, "/repo", "tree", "{}", "target")
    left = set(keys)
    while left:
        got = store.claim(run, sorted(left)[:7])
        left -= set(got.done)
        for key in sorted(got.mine):
            store.note_egress(run, [key])
            store.finish_unit(run, key, f"{key}.py", f"payload of {key}")
            print(key, flush=True)
            left.discard(key)
    store.finish_run(run, "finished", "report")
"""


def hammering(folder: Path, units: int, *, kill: bool) -> Tally:
    """Eight processes take units off one pile, by the store alone; with `kill` two of them die on the way."""
    tally = Tally(cases=1)
    path = folder / f"hammer-{kill}" / "store"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(path), f"run{number}", str(units)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
        )
        for number in range(PROCESSES)
    ]
    seen: list[str] = []
    for process in processes[: 2 if kill else 0]:
        assert process.stdout is not None
        seen += [process.stdout.readline().decode().strip() for _ in range(2)]
        process.kill()
    for number, process in enumerate(processes):
        out, err = process.communicate(timeout=WAIT)
        seen += out.decode().split("\n")[:-1]
        tally.seen["processes that worked"] += bool(out)
        tally.expect(process.returncode in (0, -9), f"process {number}: {err.decode()[-400:]}")
    seen = [key for key in seen if key]
    with Store(path) as store:
        found = store.analyses([f"key{at}" for at in range(units)])
        tally.problems += store.check().problems
        rows = [row for number in range(PROCESSES) for row in store.egress(f"run{number}")[0]]
        intact = all(store.egress(f"run{number}")[1] for number in range(PROCESSES))
    tally.expect(
        found == {f"key{at}": f"payload of key{at}" for at in range(units)}, f"{len(found)} of {units}"
    )
    tally.expect(len(seen) == len(set(seen)) and set(seen) <= found.keys(), "a unit was done twice, or lost")
    doubled = [key for key, times in Counter(rows).items() if times > 1]
    tally.expect(intact and len(doubled) <= (2 if kill else 0), f"begun twice: {doubled}")
    tally.seen["units"] += units
    return tally


def crowds(folder: Path, times: int) -> Tally:
    """Each kind `times` times, on a server with four slots."""
    tally = Tally()
    bench = make_bench(folder)
    try:
        unbroken, _ = bench.unbroken()
        for number in range(times):
            for kill in (False, True):
                tally.add(reviews(bench.new_home(f"crowd-{number}-{kill}"), unbroken, kill=kill))
    finally:
        bench.server.stop()
    return tally
