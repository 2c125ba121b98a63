"""Eight processes on one store: all reviews of one tree end alike, and no unit is asked for twice."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench import Bench, Tally, acknowledged, crashes, make_bench, read_report, start, until

from review_agent.checkpoints.locks import RunLocks
from review_agent.checkpoints.store import Store

PROCESSES = 8
WAIT = 120.0
HELD = 120.0  # seconds a request, for the one that is to die
IN_FLIGHT = 4  # `--concurrency` of a bench, and its slots


def reviews(bench: Bench, unbroken: str, *, kill: bool) -> Tally:
    """Eight `run`s at once; with `kill` one of them dies while the others do what it is not at."""
    tally = Tally(cases=1)
    marks = bench.marks()
    made = len(bench.server.prompts())
    outs = [bench.home / f"report-{number}.json" for number in range(PROCESSES)]
    logs = [bench.home / f"log-{number}" for number in range(PROCESSES)]
    processes: list[subprocess.Popen[bytes]] = []
    victims = 1 if kill else 0
    if kill:
        bench.server.configure(latency=HELD, slots=2 * IN_FLIGHT)
    try:
        for log, out in zip(logs, outs, strict=True):
            processes.append(start(bench, log, *bench.args(out=out)))
            if kill and len(processes) == 1:
                until(lambda: len(bench.asked(made)) == IN_FLIGHT)
                bench.server.configure(latency=0.02)
        if kill:  # all have begun, and none can end: the first one is at some of the units
            until(lambda: len(_drivers(bench)) == PROCESSES)
            processes[0].kill()
        codes = [process.wait(WAIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
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
    in_flight = IN_FLIGHT * victims * _most_in_one(bench, made)
    tally.expect(len(twice) <= in_flight and max(asked.values()) <= 1 + victims, f"asked again: {twice}")
    tally.expect(asked.keys() == set(marks.values()), "a unit was never asked for")
    stored = bench.stored()
    tally.problems += [f"store: {problem}" for problem in stored.problems]
    kept = {
        marks[path] for path in stored.units
    }  # equal code that was known from the start is not noted again
    tally.expect(kept == set(marks.values()), "a unit is not stored")
    tally.expect(
        kept >= {marks[path] for text in said for path in acknowledged(text)}, "shown and not stored"
    )
    tally.seen["requests"] += len(bench.asked(made))
    tally.seen["units"] += len(asked)
    tally.seen["asked again after the kill" if kill else "asked again"] += len(twice)
    tally.seen["processes that asked"] += sum(bool(acknowledged(text)) for text in said)
    return tally


def _drivers(bench: Bench) -> list[int]:
    """The processes that have begun a run."""
    locks = RunLocks(bench.state / "locks")
    try:
        db = sqlite3.connect(f"file:{bench.state / 'store.sqlite3'}?mode=ro", uri=True)
        try:
            runs = [str(row[0]) for row in db.execute("SELECT run_id FROM runs")]
        finally:
            db.close()
    except sqlite3.Error:  # not there yet
        return []
    return [pid for pid in map(locks.driver, runs) if pid]


def _most_in_one(bench: Bench, made: int) -> int:
    return max(len(request) for request in bench.asked(made))


HAMMER = """
import random
import sys
import time
from pathlib import Path
from review_agent.checkpoints.locks import RunLocks
from review_agent.checkpoints.store import Store
run, keys = sys.argv[2], [f"key{at}" for at in range(int(sys.argv[3]))]
with Store(Path(sys.argv[1])) as store, store.locks.hold(run):
    store.start_run(run, "/repo", "tree", "{}", "target")
    while len(store.runs()) < 8:  # all begin together
        time.sleep(0.01)
    left = set(keys)
    while left:
        got = store.claim(run, random.sample(sorted(left), min(7, len(left))))
        left -= set(got.done)
        for key in sorted(got.mine):
            store.note_egress(run, [key])
            store.note_call(run, key)
            time.sleep(0.01)  # the model; without it one process has the lock nearly all the time
            store.finish_unit(run, key, f"{key}.py", f"payload of {key}")
            print(key, flush=True)
            left.discard(key)
    store.finish_run(run, "finished", "report")
    for key in random.sample(keys, len(keys)):  # all judge all
        if store.judge("work", key, run, 1, run):
            print("judged", key, flush=True)
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
    try:
        for process in processes[: 2 if kill else 0]:
            assert process.stdout is not None
            seen += [process.stdout.readline().decode().strip() for _ in range(2)]
            process.kill()
        for number, process in enumerate(processes):
            out, err = process.communicate(timeout=WAIT)
            seen += out.decode().split("\n")[:-1]
            tally.seen["processes that worked"] += bool(out)
            tally.expect(process.returncode in (0, -9), f"process {number}: {err.decode()[-400:]}")
    finally:
        for process in processes:
            process.kill()
    seen = [key for key in seen if key]
    judged = [key.removeprefix("judged ") for key in seen if key.startswith("judged ")]
    seen = [key for key in seen if not key.startswith("judged ")]
    with Store(path) as store:
        found = store.analyses([f"key{at}" for at in range(units)])
        tally.problems += store.check().problems
        rows = [row for number in range(PROCESSES) for row in store.egress(f"run{number}")[0]]
        called = [row for number in range(PROCESSES) for row in store.calls(f"run{number}")[0]]
        runs = [f"run{number}" for number in range(PROCESSES)]
        intact = all(store.egress(run)[1] and store.calls(run)[1] for run in runs)
        kept = store.judged("work")
    tally.expect(
        found == {f"key{at}": f"payload of key{at}" for at in range(units)}, f"{len(found)} of {units}"
    )
    tally.expect(len(seen) == len(set(seen)) and set(seen) <= found.keys(), "a unit was done twice, or lost")
    tally.expect(len(rows) - len(called) in range(3 if kill else 1), f"{len(called)} calls, not {len(rows)}")
    tally.expect(sorted(judged) == sorted(kept) and len(kept) == units, "judged twice, or not at all")
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
