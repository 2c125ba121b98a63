"""kill -9 of reviews with an agent: at the points where it writes, and at random moments.

What is tried of every review is tried here, too (`kills.py`). On top of it: no candidate that was judged when a process died is
judged again, the judgements in the end are those of a review that nothing broke, and no program outlives its review.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bench import Bench, Stored, Tally, make_bench, side_by_side
from claude_scripts import OURS, reviewer
from driver import Cli
from failing import REFUSED, ROWS, SUMMARY, make_place
from hybrid import programs, two_at_a_time
from kills import Blow, run_trial
from scripted_claude import Asked, Calls, Reply, ScriptedClaude

from review_agent.agent.cases import case_key
from review_agent.agent.reports.json_report import from_json
from review_agent.checkpoints.store import Store

# At which visit to die: what leaves is the prompt and the list of candidates, the rest comes with every judgement.
POINTS = {"egress_noted": 2, "call_noted": 5, "verdict_written": 5, "state_saved": 3}
FILES = 12
THINKING = 0.08  # seconds an answer of the agent's model takes
ADDED = {
    "path": "m00.py", "start_line": 18, "end_line": 18, "quote": "def f0_4(x):", "title": "跨文件的问题", "category": "bug",
    "severity": "high", "confidence": 0.9, "explanation": "与 m03.py 一起看才看得出。", "suggestion": "",
}  # fmt: skip
_JUDGES = reviewer(
    refute=("m01.py", "m03.py", "m07.py"), add=ADDED, summary=SUMMARY, at_once=1, analyze=False
)


@dataclass
class Judge:
    """Judges by what it is shown: each session is a fresh one to it. `said`: the file of each judgement it called for,
    whether or not the call came to its end. `unheard`: those of a program whose review had died, which it learns by the
    call before: that one failed.
    """

    said: list[str] = field(default_factory=list)
    unheard: list[str] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Reply:
        time.sleep(THINKING)
        reply = _JUDGES(asked)
        calls = reply.calls if isinstance(reply, Calls) else []
        orphaned = bool(asked.results) and asked.results[-1][2]
        told = [_shown(asked)[given["id"]] for name, given in calls if name == OURS + "judge_finding"]
        (self.unheard if orphaned else self.said).extend(told)
        return reply


def _shown(asked: Asked) -> dict[str, str]:
    """Id of each candidate in this session -> its file."""
    pages = [text for _, text, failed in asked.results if not failed and text.startswith('{"candidates"')]
    return {row["id"]: row["path"] for text in pages for row in json.loads(text)["candidates"]}


@dataclass
class AgentBench(Bench):
    """A bench whose reviews have an agent. `cuts`: judgements called for, and candidates judged, at each kill."""

    claude: ScriptedClaude
    judge: Judge
    cuts: list[tuple[int, set[str]]] = field(default_factory=list)

    @property
    def cli(self) -> Cli:
        scripted = {"ANTHROPIC_API_KEY": "sk-dummy", "ANTHROPIC_BASE_URL": self.claude.url}
        return Cli(self.home, {**scripted, "REVIEW_AGENT_CHECKPOINT_INTERVAL": "2"})

    def new_home(self, name: str) -> AgentBench:
        home = self.folder / name
        home.mkdir()
        return AgentBench(self.folder, self.server, self.tree, home, self.claude, self.judge)

    def args(self, *more: str | Path, out: Path | None = None) -> tuple[str | Path, ...]:
        return super().args("--mode", "hybrid", *more, out=out)

    def report(self) -> str:
        """What the review came to: findings with what was said of them, coverage, verdict, summary."""
        if not self.out.exists():
            return ""
        report = json.loads(self.out.read_text("utf-8"))
        kept = ("verdict", "verdict_reason", "coverage", "summary", "findings", "files")
        return json.dumps({name: report[name] for name in kept}, ensure_ascii=False, indent=1)

    def stored(self) -> Stored:
        """After a kill: the program must be gone, too."""
        end = time.monotonic() + 10
        while (left := programs(self.claude.url)) and time.monotonic() < end:
            time.sleep(0.02)
        stored = super().stored()
        self.cuts.append((len(self.judge.said), self._judged()))
        return replace(stored, problems=(*stored.problems, *(f"outlives its review: {one}" for one in left)))

    def _judged(self) -> set[str]:
        """Keys of the candidates that are judged in the store as it is."""
        copy = self.folder / f"{self.home.name}-copy" / "store.sqlite3"
        if not copy.exists():
            return set()
        with Store(copy) as store:
            works = store._db.read("SELECT DISTINCT work FROM verdicts")
            keys = [key for (work,) in works for key in store.judged(work)]
        return {key.removeprefix("judge:") for key in keys if key.startswith("judge:")}


@contextmanager
def agent_benches(folder: Path) -> Iterator[tuple[list[AgentBench], str, float]]:
    """Two that share a tree, the report of a review that nothing broke, and its seconds."""
    with ExitStack() as closing:
        made: list[AgentBench] = []
        for number in range(2):
            plain = make_bench(folder / f"agent{number}", FILES, latency=0.02)
            closing.callback(plain.server.stop)
            judge = Judge()
            claude = closing.enter_context(ScriptedClaude(judge))
            tree = made[0].tree if made else plain.tree
            made.append(AgentBench(plain.folder, plain.server, tree, plain.home, claude, judge))
        alone = made[0].new_home("unbroken")
        started = time.monotonic()
        done = alone.cli.run(*alone.args())
        assert done.returncode == 0, done.stderr.decode()
        seconds, report = time.monotonic() - started, alone.report()
        judged = [one for one in json.loads(report)["findings"] if one["reason"]]
        assert (len(judged), SUMMARY in report, ADDED["title"] in report) == (FILES, True, True)
        yield made, report, seconds


def agent_trial(bench: AgentBench, name: str, unbroken: str, blows: Iterator[Blow]) -> Tally:
    own: list[AgentBench] = []
    since, asked = len(bench.judge.said), len(bench.claude.asked)
    unheard = len(bench.judge.unheard)

    class Remembering(AgentBench):
        def new_home(self, name: str) -> AgentBench:
            own.append(super().new_home(name))
            return own[-1]

    folder = (bench.folder, bench.server, bench.tree, bench.home)
    tally = run_trial(Remembering(*folder, bench.claude, bench.judge), name, unbroken, blows)
    (made,) = own
    places = _places(made.out.read_text("utf-8"))
    cuts = [(had, {places[key] for key in judged}) for had, judged in made.cuts]
    kills = cuts[:-1]  # the last look is at the end
    for had, judged in kills:
        again = judged & set(bench.judge.said[had:])
        tally.expect(not again, f"{name}: judged again: {again}")
        tally.seen["killed with judgements" if judged else "killed without judgements"] += 1
    said = bench.judge.said[since:]
    for path in places.values():
        open_when_killed = sum(path not in judged for _, judged in kills)
        times = said.count(path)
        tally.expect(1 <= times <= 1 + open_when_killed, f"{name}: {path} was judged {times} times")
    tally.expect(cuts[-1][1] == set(places.values()), f"{name}: not all is judged")
    unheard = len(bench.judge.unheard) - unheard
    tally.expect(unheard <= len(kills), f"{name}: {unheard} calls failed in {len(kills)} kills")
    tally.seen["agent requests"] += len(bench.claude.asked) - asked
    tally.seen["judgements"] += len(said)
    return tally


def _places(report: str) -> dict[str, str]:
    """Key of each candidate -> its file."""
    found = (one.finding for one in from_json(report).verdicts)
    return {case_key(one): one.path for one in found if one.source == "model"}


def at_points(benches: Sequence[AgentBench], unbroken: str, *, first: bool) -> Tally:
    """For each point one review, which dies there at a later visit; with `first` at its first one before."""

    def lane(bench: AgentBench, points: Sequence[str]) -> Tally:
        tally = Tally()
        for point in points:
            blows = [*([Blow(point)] if first else []), Blow(f"{point}:{POINTS[point]}")]
            one = agent_trial(bench, f"at-{point}", unbroken, iter(blows))
            one.expect(one.seen["at a point"] >= 1, f"{point}: never visited")
            tally.add(one)
        return tally

    points = list(POINTS)
    return side_by_side([partial(lane, bench, points[number::2]) for number, bench in enumerate(benches)])


def at_random(benches: Sequence[AgentBench], unbroken: str, kills: int, seconds: float) -> Tally:
    """At least `kills` kills, while an agent may be at work: at moments from a third of a review on."""

    def lane(bench: AgentBench, seed: int) -> Tally:
        chance, tally = random.Random(seed), Tally()
        while tally.seen["kills"] < -(-kills // 2):
            blows = [Blow(after=chance.uniform(0.35, 1.0) * seconds) for _ in range(chance.randint(2, 4))]
            tally.add(agent_trial(bench, f"random-{seed}-{tally.cases}", unbroken, iter(blows)))
        return tally

    return side_by_side([partial(lane, bench, number) for number, bench in enumerate(benches)])


def endings(folder: Path) -> Tally:
    """After every failure of the agent's endpoint the run goes on; `tests/cli` looks at each failure itself."""
    tally = Tally()
    with make_place(folder) as place:
        jobs: dict[str, Callable[[], object]] = {
            kind: partial(place.attempt, kind, go_on=True) for kind in ROWS
        }
        for kind, tried in two_at_a_time(jobs).items():
            tally.cases += 1
            tally.seen["resume afterwards"] += 1
            failed, resumed = tried.failed, tried.resumed
            tally.expect(failed.code == 4, f"{kind}: exit code {failed.code}")
            tally.expect(failed.report["verdict_reason"] == ROWS[kind].reason, f"{kind}: another reason")
            before = 0 if kind == REFUSED else 2
            tally.expect(
                len(tried.first) == before + ROWS[kind].asked, f"{kind}: {len(tried.first)} requests"
            )
            tally.expect(resumed.code == 0, f"{kind}: resume ends with {resumed.code}")
            tally.expect(resumed.report["summary"] == SUMMARY, f"{kind}: no summary")
            tally.expect(len(tried.judged) == len(set(tried.judged)) == 3, f"{kind}: judged {tried.judged}")
            tally.expect(tried.local[1] == 2, f"{kind}: a unit was asked again")
            tally.expect(not tried.left, f"{kind}: left {tried.left}")
    return tally
