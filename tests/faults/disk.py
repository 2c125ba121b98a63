"""A full disk: the state folder on a small tmpfs (in a mount namespace of its own), or files that may not grow."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess

from bench import Bench, Stored, Tally, acknowledged, crashes

STEP = 64 * 1024
MOST = 2 * 1024 * 1024
_HAN = re.compile("[\u4e00-\u9fff]")
_INCOMPLETE, _NOTHING = 4, 1


def have_bwrap() -> bool:
    """Whether bubblewrap is here and may make namespaces."""
    probe = ["bwrap", "--dev-bind", "/", "/", "--size", "65536", "--tmpfs", "/tmp", "true"]
    return shutil.which("bwrap") is not None and subprocess.run(probe, capture_output=True).returncode == 0


def on_small_disk(bench: Bench, size: int, unbroken: str) -> Tally:
    """The state folder on a tmpfs of `size` bytes; what is left on it is copied out, to go on with more room."""
    small, saved = bench.home / "state", bench.home / "saved"
    small.mkdir()
    saved.mkdir()
    inner = [
        "sh",
        "-c",
        'report="$1"; shift; "$@"; code=$?; cp -r "$XDG_STATE_HOME/." "$report"; exit $code',
        "sh",
    ]
    argv = ["bwrap", "--die-with-parent", "--dev-bind", "/", "/", "--size", str(size), "--tmpfs", str(small)]
    argv += ["--", *inner, str(saved), *bench.cli.argv(*bench.args())]
    done = subprocess.run(argv, cwd=bench.tree, env=bench.cli.environment(), capture_output=True, timeout=120)
    shutil.rmtree(small)
    shutil.move(saved, small)
    return _judge(bench, done, f"tmpfs of {size >> 10} KiB", unbroken)


def with_file_limit(bench: Bench, size: int, unbroken: str) -> Tally:
    """No file may grow beyond `size` bytes. The report is small enough."""
    done = subprocess.run(
        bench.cli.argv(*bench.args()),
        cwd=bench.tree,
        env=bench.cli.environment(),
        capture_output=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    return _judge(bench, done, f"file limit of {size >> 10} KiB", unbroken)


def _judge(bench: Bench, done: subprocess.CompletedProcess[bytes], what: str, unbroken: str) -> Tally:
    tally = Tally(cases=1)
    said = done.stderr.decode("utf-8", "replace")
    code = done.returncode
    tally.problems += crashes(said)
    tally.expect(code in (0, _NOTHING, _INCOMPLETE), f"exit code {code}: {said[-400:]}")
    stored = bench.stored()
    tally.problems += [f"store: {problem}" for problem in stored.problems]
    tally.expect(acknowledged(said) <= stored.units.keys() | _not_kept(said), f"lost: {said[-300:]}")
    tally.seen[f"exit {code}"] += 1
    tally.seen["units kept"] += len(stored.units)
    report = bench.report()
    if code == 0:
        tally.expect(report == unbroken, "another report")
    else:
        last = [line for line in said.splitlines() if "store.sqlite3" in line or "seal.key" in line]
        tally.expect(bool(last) and bool(_HAN.search(last[-1])), f"no clear message: {said[-400:]}")
    tally.expect(code != _NOTHING or not stored.units, "gave up though units were stored")
    if code == _INCOMPLETE:
        tally.expect('"verdict": "incomplete"' in report, "no report of what is known")
        tally.expect("store_failed" in report, "the report does not say why")
    _go_on(bench, stored, tally, unbroken)
    tally.problems = [f"{what}: {problem}" for problem in tally.problems]
    return tally


def _not_kept(said: str) -> set[str]:
    """Nothing is excused: a finding is shown when its unit is stored, or after the store was said to fail."""
    _, failed, after = said.partition("store.sqlite3")
    return acknowledged(after) if failed else set()


def _go_on(bench: Bench, before: Stored, tally: Tally, unbroken: str) -> None:
    """With room again the review ends as if nothing had been, and asks for nothing that was stored."""
    marks = bench.marks()
    made = len(bench.server.prompts())
    args = ("resume",) if before.unfinished else bench.args()
    bench.out.unlink(missing_ok=True)
    done = bench.cli.run(*args, cwd=bench.tree, timeout=120)
    tally.expect(
        done.returncode == 0, f"{args[0]}: exit code {done.returncode}: {done.stderr.decode()[-300:]}"
    )
    tally.expect(bench.report() == unbroken, f"{args[0]}: another report")
    again = {marks[path] for path in before.units} & set().union(*bench.asked(made))
    tally.expect(not again, f"{args[0]}: asked again {again}")
    tally.seen[f"{args[0]} afterwards"] += 1


def sizes(bench: Bench, unbroken: str, kinds: dict[str, list[int]]) -> Tally:
    """`kinds` are sizes in bytes by "tmpfs" or "limit"."""
    tally = Tally()
    for kind, steps in kinds.items():
        for size in steps:
            own = bench.new_home(f"{kind}-{size}")
            tally.add((on_small_disk if kind == "tmpfs" else with_file_limit)(own, size, unbroken))
    return tally
