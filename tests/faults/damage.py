"""Damaged, planted and copied stores: what comes back is what was stored, or nothing; and nothing crashes."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench import Bench, Tally, crashes, read_store, start

from review_agent.agent.errors import StoreError
from review_agent.checkpoints.store import Store

RUNS, UNITS, CALLS = 3, 60, 10
PAGE = 4096
ROWS: dict[str, tuple[str, ...]] = {
    "analyses": ("key", "payload", "seal"),
    "runs": ("run_id", "status", "repository", "target", "request", "report", "seal"),
    "run_units": ("run_id", "key", "path"),
    "claims": ("key", "owner"),
    "egress": ("row", "seal", "number"),
    "memos": ("key", "payload", "seal"),
    "calls": ("row", "seal", "number"),
    "heads": ("ledger", "run_id", "last", "seal"),
    "verdicts": ("work", "key", "number", "run_id", "turn", "payload", "seal"),
    "agent_states": ("work", "run_id", "turn", "payload", "seal"),
}
# What picks a row where it is not `key`.
KEYS_OF = {"runs": "run_id", "egress": "number", "calls": "number", "heads": "run_id", "agent_states": "work"}


def payload(key: str) -> str:
    return f'{{"of": "{key}"}} ' * 25


def fill(path: Path) -> None:
    """A store of moderate size (about 250 KiB), its log written back into the file."""
    with Store(path) as store:
        for run in range(RUNS):
            store.start_run(f"run{run}", "/repo", "tree", f'{{"run": {run}}}', "target")
            for at in range(UNITS):
                key = f"{run}-{at:03}"
                store.finish_unit(f"run{run}", key, f"{at}.py", payload(key))
            store.note_egress(f"run{run}", [f'{{"row": {at}}}' for at in range(10)])
            store.memorise({f"memo{run}-{at}": payload(f"memo{run}-{at}") for at in range(10)})
            for at in range(CALLS):
                store.note_call(f"run{run}", f'{{"call": {at}}}')
                store.judge(f"work{run}", f"key{at}", f"run{run}", at, payload(f"key{at}"))
            store.save_state(f"work{run}", f"run{run}", 7, payload(f"work{run}"))
        store.finish_run("run0", "finished", "report " * 500)
        store.claim("run1", ["open1", "open2"])
    fold(path)


KEYS = [f"{run}-{at:03}" for run in range(RUNS) for at in range(UNITS)]
MEMOS = [f"memo{run}-{at}" for run in range(RUNS) for at in range(10)]
RUN_ROWS = {(f"run{run}", f'{{"run": {run}}}', "report " * 500 if run == 0 else "") for run in range(RUNS)}


def use(store: Store) -> list[Callable[[], list[str]]]:
    """Every method; each gives what is wrong with its answer."""

    def done(action: Callable[[], object]) -> Callable[[], list[str]]:
        def run() -> list[str]:
            action()
            return []

        return run

    def reused(found: dict[str, str]) -> list[str]:
        return [f"wrong reuse of {key}" for key, text in found.items() if text != payload(key)]

    def rows() -> list[str]:
        return [
            f"a run believed that is not as it was: {row}"
            for row in [*store.runs(), *store.unfinished("/repo", "target")]
            if row.intact and row.run_id != "run9" and (row.run_id, row.request, row.report) not in RUN_ROWS
        ]

    def ledgers() -> list[str]:
        """Said to be whole only with every row: but for the ledgers of a run that is no longer known."""
        known = any(row.run_id == "run1" for row in store.runs())
        return [
            f"a ledger said to be whole: {found}"
            for (found, intact), name, rows in (
                (store.egress("run1"), "row", 10),
                (store.calls("run1"), "call", CALLS),
            )
            if intact and found != [f'{{"{name}": {at}}}' for at in range(rows)] and (found or known)
        ]

    def states() -> list[str]:
        found = [(work, store.state(work)) for work in ("work0", "work1", "work2", "nope")]
        return [
            f"a wrong state of {work}" for work, state in found if state not in (None, (7, payload(work)))
        ]

    return [
        lambda: reused(store.analyses(KEYS)),
        lambda: reused(store.analyses(KEYS, "run1")),
        lambda: reused(store.memos(MEMOS)),
        rows,
        lambda: [] if store.run("run1").request == '{"run": 1}' else ["a request that is not as it was"],
        done(lambda: store.units_of("run1")),
        ledgers,
        lambda: reused(store.judged("work1")),
        states,
        lambda: reused(dict(store.claim("run2", [*KEYS[:20], "open1", "new"]).done)),
        done(lambda: store.note_egress("run2", ["{}"])),
        done(lambda: store.note_call("run2", "{}")),
        done(lambda: store.judge("work1", "key1", "run2", 9, payload("key1"))),
        done(lambda: store.judge("work1", "new", "run2", 9, payload("new"))),
        done(lambda: store.save_state("work2", "run2", 7, payload("work2"))),
        lambda: reused(store.judged("work1")),
        done(lambda: store.used(KEYS)),
        done(lambda: store.memorise({"m": "p"})),
        done(lambda: store.release("run2", ["new"])),
        done(lambda: store.start_run("run9", "/repo", "tree", "{}")),
        done(lambda: store.finish_unit("run9", "new", "new.py", payload("new"))),
        done(lambda: store.finish_run("run9", "finished", "report")),
        done(store.check),
        done(lambda: store.prune(1.0)),
    ]


def survey(path: Path, home: Path, tally: Tally, what: str) -> None:
    """Open a damaged store twice and use all of it: results or StoreError, and nothing wrong."""
    tally.cases += 1
    for _ in range(2):
        try:
            with Store(path, home=home) as store:
                known = 0
                for method in use(store):
                    try:
                        tally.problems += [f"{what}: {problem}" for problem in method()]
                    except StoreError as exc:
                        tally.seen[f"said {exc.key}"] += 1
                    known = known or len(store.analyses(KEYS))
                tally.seen["set aside" if store.set_aside else "opened"] += 1
                tally.seen["found again"] += known
        except StoreError as exc:
            tally.seen[f"not opened: {exc.key}"] += 1
        except Exception as exc:  # noqa: BLE001 - this is what must not happen
            tally.problems.append(f"{what}: {type(exc).__name__}: {exc}")


def flips(folder: Path, number: int, seed: int = 0) -> Tally:
    """The header's bytes, the first bytes of each page, and `number` random ones."""
    tally = Tally()
    home = folder / "home"
    fill(home / "store.sqlite3")
    sound = (home / "store.sqlite3").read_bytes()
    chance = random.Random(seed)
    headers = [(at, 0xFF) for at in range(100)] + [(at, 1 << chance.randrange(8)) for at in range(100)]
    pages = [(start + at, 0xFF) for start in range(0, len(sound), PAGE) for at in range(8)]
    anywhere = [(chance.randrange(len(sound)), chance.randrange(1, 256)) for _ in range(number)]
    if number < 1000:  # the fast part
        headers, pages = headers[:100], chance.sample(pages, 40)
    for number_of in range(number // 4):  # many bytes at once, now and then in one page alone
        most = PAGE if number_of % 2 else len(sound)
        data = bytearray(sound)
        for _ in range(chance.choice((2, 8, 200))):
            data[chance.randrange(most)] ^= chance.randrange(1, 256)
        survey(_placed(folder, bytes(data)), home, tally, f"many bytes, case {number_of}")
        tally.seen["many bytes at once"] += 1
    for kind, places in (("header", headers), ("page", pages), ("random", anywhere)):
        for at, bits in places:
            data = bytearray(sound)
            data[at] ^= bits
            survey(_placed(folder, bytes(data)), home, tally, f"{kind} byte {at} ^ {bits:#x}")
            tally.seen[f"{kind} bytes"] += 1
    return tally


def rows(folder: Path) -> Tally:
    """One value in one row of each table: another text, another row's text, a text that is not UTF-8."""
    tally = Tally()
    home = folder / "home"
    fill(home / "store.sqlite3")
    sound = (home / "store.sqlite3").read_bytes()
    others = (
        "'x' || substr({c}, 2)",
        "(SELECT {c} FROM {t} ORDER BY rowid DESC LIMIT 1)",
        "CAST(x'ff7b' AS TEXT)",
    )
    for table, columns in ROWS.items():
        key = KEYS_OF.get(table, "key")
        for column in columns:
            for other in others:
                value = other.format(c=column, t=table)
                path = _placed(folder, sound)
                db = sqlite3.connect(path)
                if table not in ("runs", "analyses"):  # those have row ids
                    value = value.replace("rowid", key)
                try:
                    db.execute(
                        f"UPDATE OR REPLACE {table} SET {column}={value} "
                        f"WHERE {key}=(SELECT {key} FROM {table} ORDER BY {key} LIMIT 1 OFFSET 1)"
                    )
                    db.commit()
                except sqlite3.IntegrityError:  # a number cannot become a text
                    tally.seen["refused by SQLite"] += 1
                finally:
                    db.close()
                survey(path, home, tally, f"{table}.{column}={value}")
    return tally


def _placed(folder: Path, data: bytes) -> Path:
    place = folder / "damaged"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    path = place / "store.sqlite3"
    path.write_bytes(data)
    return path


# --- through the command line ---


def commands(bench: Bench, unbroken: str, cases: int, seed: int = 0) -> Tally:
    """`runs list`, `report`, `resume` and `run` on damaged stores of a run that was killed: never a traceback."""
    tally = Tally()
    start(bench, bench.home / "log", *bench.args(), REVIEW_AGENT_FAULT="kill:unit_committed:15").wait(120)
    run = read_store(bench.state, bench.folder / "copy").runs[0].run_id
    fold(bench.state / "store.sqlite3")
    sound = (bench.state / "store.sqlite3").read_bytes()
    chance = random.Random(seed)
    for number in range(cases):
        data = bytearray(sound)
        for _ in range(chance.choice((1, 8, 200))):
            at = chance.randrange(100) if number % 4 == 0 else chance.randrange(len(sound))
            data[at] ^= chance.randrange(1, 256)
        what = f"case {number}"
        for args in (("runs", "list"), ("report", run, "--format", "json"), ("resume",), bench.args()):
            if args[0] != "run":  # the last one goes on with what the others left
                _put(bench.state, bytes(data))
            bench.out.unlink(missing_ok=True)
            code, said = _said(bench, *args)
            tally.problems += [f"{what} {args[0]}: {problem}" for problem in crashes(said)]
            # 4: the damage came to light when something was written; what was known is reported.
            known = code in (0, 1) or (code == 4 and "改名为" in said and "review-agent resume" not in said)
            tally.expect(known, f"{what} {args[0]}: exit code {code}: {said[-300:]}")
            tally.seen[f"{args[0]}: exit {code}"] += 1
        if code == 0:
            tally.expect(bench.report() == unbroken, f"{what}: another report")
        tally.cases += 1
    return tally


def _said(bench: Bench, *args: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        bench.cli.argv(*args), cwd=bench.tree, env=bench.cli.environment(), capture_output=True, timeout=120
    )
    return done.returncode, done.stderr.decode("utf-8", "replace")


def fold(path: Path) -> None:
    """Write the log back into the file."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def _put(state: Path, data: bytes) -> None:
    for name in state.glob("store.sqlite3*"):
        name.unlink()
    (state / "store.sqlite3").write_bytes(data)


# --- stores from elsewhere ---


def carried(bench: Bench) -> Tally:
    """A store that was planted in the tree, or copied from another machine, is believed only with its key."""
    tally = Tally()
    source, keyed = bench.new_home("source"), bench.new_home("keyed")
    units = len(set(bench.marks().values()))
    _requests(source)
    _requests(keyed, REVIEW_AGENT_CACHE_KEY="secret")
    for name, origin, key, believed in (
        ("another machine", source, "", False),
        ("another machine with a key", source, "secret", False),
        ("the same key", keyed, "secret", True),
        ("another key", keyed, "other", False),
        ("no key", keyed, "", False),
    ):
        home = bench.new_home(name.replace(" ", "-"))
        home.state.mkdir(parents=True)
        shutil.copy(origin.state / "store.sqlite3", home.state)
        _judge(tally, name, _requests(home, REVIEW_AGENT_CACHE_KEY=key), 0 if believed else units)
    home = bench.new_home("planted")
    inside = bench.tree / ".cache"
    shutil.copytree(source.state, inside)  # with the key beside it
    config = home.home / "config" / "review-agent" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'checkpoint_path = "{inside / "store.sqlite3"}"\n')
    try:
        _judge(tally, "planted in the tree", _requests(home), units)
        _judge(tally, "our own in the tree", _requests(home), 0)
    finally:
        shutil.rmtree(inside)
    return tally


def _judge(tally: Tally, what: str, asked: int, wanted: int) -> None:
    tally.cases += 1
    tally.expect(asked == wanted, f"{what}: {asked} units asked for, not {wanted}")


def _requests(bench: Bench, **env: str) -> int:
    """Units that a run asks for."""
    before = len(bench.server.prompts())
    bench.cli.run(*bench.args("--exclude", ".cache/**"), timeout=120, **env)
    return len(set().union(*bench.asked(before)))
