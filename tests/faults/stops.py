"""Signals, a server that dies, and locks: through the real command, one scenario a function."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
from bench import Bench, Tally, acknowledged, crashes, make_bench, start, until
from driver import launch

WAIT = 120.0
SLOW, HELD = 0.4, 60.0  # seconds a request: until there are results, and from then on
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class Running:
    """A `run` that has shown a few results, and whose open requests are held: however slow the machine is,
    what comes next falls among them.
    """

    def __init__(self, bench: Bench, *more: str) -> None:
        bench.server.configure(latency=SLOW)
        self.bench = bench
        self.log = bench.home / "log"
        self.process = start(bench, self.log, *bench.args(*more))
        until(lambda: len(acknowledged(self.said)) >= 5 or self.process.poll() is not None)
        bench.server.configure(latency=HELD)
        self.run_id = bench.stored().runs[0].run_id

    @property
    def said(self) -> str:
        return self.log.read_text("utf-8")

    def ended(self) -> int:
        try:
            return self.process.wait(WAIT)
        finally:
            self.process.kill()
            self.bench.server.configure(latency=0.0)


def one_signal(bench: Bench, unbroken: str, number: signal.Signals) -> Tally:
    """A partial report, the exit code, the lock let go, the requests ended, and `resume` goes on."""
    tally = Tally(cases=1)
    running = Running(bench)
    running.process.send_signal(number)
    code = running.ended()
    tally.expect(code == CODES[number], f"exit code {code}")
    tally.problems += crashes(running.said)
    report = json.loads(bench.out.read_text("utf-8"))
    tally.expect(report["verdict"] == "incomplete", f"verdict {report['verdict']}")
    tally.expect(report["coverage"]["files_reviewed"] >= 5, "what was done is not in the report")
    tally.expect(f"review-agent resume {running.run_id}" in running.said, "does not say how to go on")
    tally.expect(not list(bench.state.glob("locks/*")), "the lock is left")
    until(lambda: bench.server.in_flight() == 0, 20)
    _resumed(bench, running, tally, unbroken)
    return _named(tally, number.name)


def two_signals(bench: Bench, unbroken: str, second: signal.Signals) -> Tally:
    """The second one ends the process at once, without a report. Both wait for it when it wakes."""
    tally = Tally(cases=1)
    running = Running(bench)
    process = running.process
    if second is signal.SIGINT:  # two equal ones that wait are one
        process.send_signal(signal.SIGINT)
        until(lambda: "Ctrl-C" in running.said or process.poll() is not None)
        process.send_signal(second)
    else:
        process.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        for number in (signal.SIGINT, second, signal.SIGCONT):
            process.send_signal(number)
    code = running.ended()
    # Of two that wait the system may hand over either first; the second one gives the code.
    tally.expect(code in (CODES[signal.SIGINT], CODES[second]), f"exit code {code}")
    tally.expect(second is signal.SIGINT or not bench.out.exists(), "did not end at once")
    tally.problems += crashes(running.said)
    _resumed(bench, running, tally, unbroken)
    return _named(tally, f"INT, then {second.name}")


def _resumed(bench: Bench, running: Running, tally: Tally, unbroken: str) -> None:
    stored = bench.stored()
    tally.problems += [f"store: {problem}" for problem in stored.problems]
    tally.expect(acknowledged(running.said) <= stored.units.keys(), "a unit that was shown is not stored")
    made = len(bench.server.prompts())
    done = bench.cli.run("resume", running.run_id, cwd=bench.tree, timeout=WAIT)
    tally.expect(done.returncode == 0, f"resume: {done.returncode}: {done.stderr.decode()[-300:]}")
    tally.expect(bench.report() == unbroken, "resume: another report")
    marks = bench.marks()
    again = {marks[path] for path in stored.units} & set().union(*bench.asked(made))
    tally.expect(not again, f"resume: asked again {again}")
    tally.expect(json.loads(bench.out.read_text("utf-8"))["run_id"] == running.run_id, "resume: another run")


def _named(tally: Tally, name: str) -> Tally:
    tally.problems = [f"{name}: {problem}" for problem in tally.problems]
    return tally


def server_dies(folder: Path, *, comes_back: bool) -> Tally:
    """Killed among the requests. It comes back at once, or after the run has given up."""
    tally = Tally(cases=1)
    bench = make_bench(folder)
    try:
        unbroken, _ = bench.unbroken()
        running = Running(bench)
        bench.server.process.kill()
        bench.server.process.wait(10)
        stored = bench.stored()  # what was answered before the death may be stored a little later
        again = folder / "again"
        again.mkdir()
        port = int(bench.server.url.rpartition(":")[2])
        if not comes_back:
            code = running.process.wait(WAIT)
            tally.expect(code == 4, f"exit code {code}: {running.said[-300:]}")
            tally.expect('"verdict": "incomplete"' in bench.report(), "no report of what is known")
            stored = bench.stored()
        bench.server = launch(again, port, slots=4, latency=0.02, review="*")
        if comes_back:
            code = running.process.wait(WAIT)
        tally.problems += crashes(running.said)
        tally.seen[f"exit {code}"] += 1
        if code != 0:
            done = bench.cli.run("resume", cwd=bench.tree, timeout=WAIT)
            tally.expect(done.returncode == 0, f"resume: {done.returncode}: {done.stderr.decode()[-300:]}")
        tally.expect(bench.report() == unbroken, "another report")
        marks = bench.marks()
        asked = [mark for request in bench.asked() for mark in request]
        twice = {marks[path] for path in stored.units} & set(asked)
        tally.expect(not twice, f"asked again though stored: {twice}")
        tally.expect(len(asked) == len(set(asked)), "the new server was asked something twice")
    finally:
        bench.server.stop()
    return _named(tally, "server comes back" if comes_back else "server stays away")


# --- locks ---


def busy(bench: Bench, unbroken: str) -> Tally:
    """A run that is being driven is refused; when its driver is dead it is taken over at once."""
    tally = Tally(cases=1)
    running = Running(bench)
    done = bench.cli.run("resume", running.run_id, cwd=bench.tree)
    said = done.stderr.decode()
    tally.expect(done.returncode == 1, f"exit code {done.returncode}")
    tally.expect(f"正由另一个进程（{running.process.pid}）进行" in said, f"does not say who: {said}")
    tally.expect(running.process.poll() is None, "the run ended before it could be in the way")
    running.process.kill()
    running.ended()
    _resumed(bench, running, tally, unbroken)
    return _named(tally, "busy")


def adopted(bench: Bench, unbroken: str) -> Tally:
    """`run` goes on with what was killed, and says so."""
    tally = Tally(cases=1)
    running = Running(bench)
    running.process.kill()
    running.ended()
    done = bench.cli.run(*bench.args(), timeout=WAIT)
    tally.expect(f"接着未完成的运行 {running.run_id}" in done.stderr.decode(), "does not say that it goes on")
    tally.expect(json.loads(bench.out.read_text("utf-8"))["run_id"] == running.run_id, "another run")
    tally.expect(bench.report() == unbroken, "another report")
    return _named(tally, "adopted")


def fresh(bench: Bench, unbroken: str) -> Tally:
    """`--fresh` goes on with nothing, not even with a run that would do the same."""
    tally = Tally(cases=1)
    running = Running(bench, "--fresh")
    running.process.kill()
    running.ended()
    made = len(bench.server.prompts())
    done = bench.cli.run(*bench.args("--fresh"), timeout=WAIT)
    tally.expect("接着未完成的运行" not in done.stderr.decode(), "goes on all the same")
    tally.expect(json.loads(bench.out.read_text("utf-8"))["run_id"] != running.run_id, "the same run")
    tally.expect(set().union(*bench.asked(made)) == set(bench.marks().values()), "not everything was asked")
    own = bench.report().replace(
        "示例问题：m04.py", "示例问题：m01.py"
    )  # equal code, asked for by itself here
    tally.expect(own == unbroken, "another report")
    return _named(tally, "fresh")


SCENARIOS: dict[str, Callable[[Bench, str], Tally]] = {
    "INT": lambda bench, unbroken: one_signal(bench, unbroken, signal.SIGINT),
    "TERM": lambda bench, unbroken: one_signal(bench, unbroken, signal.SIGTERM),
    "HUP": lambda bench, unbroken: one_signal(bench, unbroken, signal.SIGHUP),
    "INT-INT": lambda bench, unbroken: two_signals(bench, unbroken, signal.SIGINT),
    "INT-TERM": lambda bench, unbroken: two_signals(bench, unbroken, signal.SIGTERM),
    "busy": busy,
    "adopted": adopted,
    "fresh": fresh,
}


def scenarios(bench: Bench, unbroken: str, names: tuple[str, ...], label: str = "") -> Tally:
    tally = Tally()
    for name in names:
        tally.add(SCENARIOS[name](bench.new_home(f"{name}{label}"), unbroken))
    return tally
