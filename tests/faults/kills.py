"""kill -9: at every fault point, and at random moments. Every trial goes on until the review ends."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import Bench, Stored, Tally, acknowledged, crashes, start

MOST_STARTS = 40  # a trial that needs more does not go on
WAIT = 120.0


@dataclass(frozen=True)
class Blow:
    """How one process is to die: at a fault point, or after some seconds."""

    point: str = ""
    after: float = 0.0


def trial(bench: Bench, unbroken: str, blows: Iterator[Blow]) -> Tally:
    """Start, kill, start again, alternating `run` and `resume`, until the blows or the work run out."""
    tally = Tally(cases=1)
    cuts: list[tuple[int, Stored]] = []  # requests made, and what was stored, at each kill
    known: set[str] = set()
    for number in range(MOST_STARTS):
        going_on = bool(cuts) and cuts[-1][1].unfinished and number % 2 == 1
        args = ("resume",) if going_on else bench.args()
        blow = next(blows, None)
        log = bench.home / f"log-{number}"
        code = _one(bench, args, log, blow)
        said = log.read_text("utf-8")
        known |= acknowledged(said)
        tally.problems += crashes(said)
        tally.seen["resume" if going_on else "run"] += 1
        if code != -9:
            tally.expect(code == 0, f"exit code {code}: {said[-600:]}")
            tally.expect(bench.report() == unbroken, f"another report after {len(cuts)} kills")
            break
        stored = bench.stored()
        cuts.append((len(bench.server.prompts()) - _base(bench), stored))
        _look(bench, unbroken, stored, known, tally)
        if blow is not None and blow.point:
            tally.seen["at a point"] += 1
    else:
        tally.problems.append(f"did not end after {MOST_STARTS} starts")
    _look(bench, unbroken, bench.stored(), known, tally)
    _count(bench, cuts, tally)
    return tally


def _base(bench: Bench) -> int:
    return int((bench.home / "base").read_text())


def _one(bench: Bench, args: tuple[str | Path, ...], log: Path, blow: Blow | None) -> int:
    point = f"kill:{blow.point}" if blow is not None and blow.point else ""
    process = start(bench, log, *args, REVIEW_AGENT_FAULT=point)
    try:
        return process.wait(WAIT if blow is None or blow.point else blow.after)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(WAIT)


def _look(bench: Bench, unbroken: str, stored: Stored, known: set[str], tally: Tally) -> None:
    tally.problems += [f"store: {problem}" for problem in stored.problems]
    tally.expect(known <= stored.units.keys(), f"lost: {known - stored.units.keys()}")
    tally.expect(bench.report() in ("", unbroken), "a report that is not the whole one")


def _count(bench: Bench, cuts: list[tuple[int, Stored]], tally: Tally) -> None:
    """No unit that was stored when a process died is in a later request; the others at most once more."""
    marks = bench.marks()
    asked = bench.asked(_base(bench))
    stored_at = [{marks[path] for path in stored.units} for _, stored in cuts]
    for (made, _), stored in zip(cuts, stored_at, strict=True):
        again = stored & set().union(*asked[made:]) if asked[made:] else set()
        tally.expect(not again, f"asked again though stored: {again}")
    for mark in set(marks.values()):
        times = sum(mark in request for request in asked)
        open_when_killed = sum(mark not in stored for stored in stored_at)
        tally.expect(1 <= times <= 1 + open_when_killed, f"unit {mark} asked {times} times")
    whole = set(marks.values())
    for stored in stored_at:
        phase = "all" if stored == whole else "some" if stored else "none"
        tally.seen[f"killed with {phase} stored"] += 1
    tally.seen["kills"] += len(cuts)
    tally.seen["requests"] += len(asked)


def run_trial(bench: Bench, name: str, unbroken: str, blows: Iterator[Blow]) -> Tally:
    own = bench.new_home(name)
    (own.home / "base").write_text(str(len(bench.server.prompts())))
    tally = trial(own, unbroken, blows)
    tally.problems = [f"{name}: {problem}" for problem in tally.problems]
    return tally


def at_points(bench: Bench, unbroken: str, points: tuple[str, ...], middle: int) -> Tally:
    """One trial for each point: dies at its first visit, then at the `middle`-th or the first that comes."""
    tally = Tally()
    for point in points:
        wanted = Tally()
        wanted.add(run_trial(bench, f"at-{point}", unbroken, iter([Blow(point), Blow(f"{point}:{middle}")])))
        wanted.expect(wanted.seen["at a point"] >= 1, f"{point}: never visited")
        tally.add(wanted)
    return tally


def at_random(bench: Bench, unbroken: str, kills: int, seconds: float, seed: int) -> Tally:
    """At least `kills` kills, at moments up to the length of an unbroken run; several in one review."""
    chance = random.Random(seed)
    tally = Tally()
    while tally.seen["kills"] < kills:
        blows = [Blow(after=chance.uniform(0.1, 1.0) * seconds) for _ in range(chance.randint(2, 6))]
        tally.add(run_trial(bench, f"random-{seed}-{tally.cases}", unbroken, iter(blows)))
    return tally
