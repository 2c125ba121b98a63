"""The whole of a review, without the command line: what is kept, what is reported, in which order."""

from __future__ import annotations

import asyncio
import io
import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import CLEAN, Reply, Scripted, answer, finding

from review_agent.agent.errors import EngineFault, StoreError
from review_agent.agent.models import (
    Change,
    EngineInfo,
    FileStatus,
    Report,
    SourceFile,
    TrustClass,
    VerdictWord,
)
from review_agent.agent.nothing import empty_report
from review_agent.agent.planner import Plan, make_plan
from review_agent.agent.progress import Progress
from review_agent.agent.reports.json_report import to_json
from review_agent.agent.review import Review
from review_agent.agent.settings import Settings
from review_agent.agent.target import Selection, Target
from review_agent.checkpoints.store import Claimed, Store
from review_agent.tools.backends import ChatRequest
from review_agent.tools.endpoints import Endpoint

ENGINE = EngineInfo("local", "scripted", "m", "digest")
TARGET = Target("tree", "/repo")


def source(path: str, lines: int = 60) -> SourceFile:
    text = tuple(f"{path[0]}_{number} = compute({number})" for number in range(lines))
    return SourceFile(path, "python", text, "", Change.WHOLE)


SELECTION = Selection(tuple(source(f"{name}.py") for name in "abcdefgh"), ())
SETTINGS = Settings(num_ctx=4096, lang="en")


def planned(store: Store | None = None, settings: Settings = SETTINGS) -> Plan:
    return make_plan(SELECTION, settings, model_key="digest", model_context=0, store=store)


async def reviewed(
    backend: Scripted, *, store: Store | None = None, settings: Settings = SETTINGS, stop_after: float = 0
) -> tuple[Report, str]:
    stream = io.StringIO()
    stop = asyncio.Event()
    if stop_after:
        asyncio.get_running_loop().call_later(stop_after, stop.set)
    plan = planned(store, settings)
    review = Review("r", plan, ENGINE, settings, TARGET, store, Progress(stream, "en"), stop)
    return await review.run(backend), stream.getvalue()


def paths_of(request: ChatRequest) -> list[str]:
    return re.findall(r"^File: (\S+)", request.messages[-1].content, re.M)


def talkative(seed: int) -> Scripted:
    """One finding for each file of a request, after a time that depends on the seed."""
    chance = random.Random(seed)

    def script(request: ChatRequest) -> Reply:
        said = [finding(f"{path[0]}_7 = compute(7)", path) for path in paths_of(request)]
        return Reply(answer(*said), seconds=chance.uniform(0, 0.02))

    return Scripted(script)


def steady(report: Report) -> object:
    return json.loads(to_json(replace(report, usage=replace(report.usage, seconds=0.0), created="")))


async def test_the_order_in_which_requests_finish_changes_nothing() -> None:
    parallel = replace(SETTINGS, concurrency=8)
    reports = [(await reviewed(talkative(seed), settings=parallel))[0] for seed in range(4)]
    reports.append((await reviewed(talkative(9)))[0])
    assert len(reports[0].verdicts) == 8
    assert all(steady(report) == steady(reports[0]) for report in reports)


async def test_what_is_finished_is_never_asked_again(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db") as store:
        first, _ = await reviewed(one := talkative(1), store=store)
        again, _ = await reviewed(two := talkative(2), store=store)
    assert len(one.requests) > 2
    assert two.requests == []
    assert again.usage.cached_units == 8
    assert [v.finding for v in again.verdicts] == [v.finding for v in first.verdicts]


class Locked(Store):
    """Somebody holds the file from the moment when a method is called the second time."""

    broken = ""
    calls = 0

    def _fail(self, name: str) -> None:
        self.calls += name == self.broken
        if name == self.broken and self.calls > 1:
            raise StoreError("store_busy", path="s.db", detail="database is locked")

    def claim(self, run_id: str, keys: Sequence[str]) -> Claimed:
        self._fail("claim")
        return super().claim(run_id, keys)

    def release(self, run_id: str, keys: Sequence[str]) -> None:
        self._fail("release")
        super().release(run_id, keys)


async def test_a_store_that_cannot_be_asked_ends_the_run_with_a_report(tmp_path: Path) -> None:
    with Locked(tmp_path / "s.db") as store:
        store.broken = "claim"
        report, log = await reviewed(talkative(1), store=store, settings=replace(SETTINGS, concurrency=1))
    assert (report.verdict, report.verdict_reason) == (VerdictWord.INCOMPLETE, "store_failed")
    assert 0 < report.coverage.files_reviewed < len(SELECTION.files)
    assert len(report.verdicts) == report.coverage.files_reviewed
    assert log.count("database is locked") == 1


async def test_what_cannot_be_released_costs_no_answer(tmp_path: Path) -> None:
    with Locked(tmp_path / "s.db") as store:
        store.broken, store.calls = "release", 1
        report, _ = await reviewed(Scripted(["no json"]), store=store)
    assert report.coverage.files_failed == len(SELECTION.files)
    assert report.verdict_reason != "store_failed"


@pytest.mark.parametrize("fault", [EngineFault("engine_stalled"), "no json"])
async def test_what_failed_is_not_kept_and_asked_again(tmp_path: Path, fault: Exception | str) -> None:
    def script(request: ChatRequest) -> str | Exception:
        return fault if "c.py" in paths_of(request) else CLEAN

    with Store(tmp_path / "s.db") as store:
        report, log = await reviewed(Scripted(script), store=store)
        failed = [file.path for file in report.files if file.status is FileStatus.FAILED]
        assert "c.py" in failed
        assert report.verdict is VerdictWord.INCOMPLETE
        assert "Could not review c.py" in log
        again, _ = await reviewed(backend := Scripted([CLEAN]), store=store)
    assert again.verdict is VerdictWord.PASS
    assert sorted(path for request in backend.requests for path in paths_of(request)) == failed


async def test_an_interrupted_split_request_keeps_what_it_had(tmp_path: Path) -> None:
    """All units of a request were cut; the first ones were asked again and answered when the run ended."""

    def script(request: ChatRequest) -> Reply:
        if len(paths_of(request)) > 1:
            text = answer(finding("a_7 = compute(7)", "a.py"), finding("x", "b.py", title="cut"))
            return Reply(text[: text.index("cut")], "length")
        return Reply(CLEAN, seconds=0.01 if len(backend.requests) < 4 else 30)

    backend = Scripted(script)
    settings = replace(SETTINGS, num_ctx=16384)
    with Store(tmp_path / "s.db") as store:
        report, _ = await reviewed(backend, store=store, settings=settings, stop_after=0.4)
        done = [file.path for file in report.files if file.status is FileStatus.REVIEWED]
        assert (len(done), report.verdict_reason) == (2, "interrupted")
        assert len(planned(store, settings).cached) == 2
    assert [v.finding.path for v in report.verdicts] == ["a.py"]


async def test_limits_end_the_run_and_are_named() -> None:
    slow = Scripted([Reply(CLEAN, seconds=0.2)])
    report, _ = await reviewed(slow, settings=replace(SETTINGS, max_seconds=1, concurrency=1))
    assert report.coverage.files_reviewed > 0
    settings = replace(SETTINGS, max_tokens=4000, concurrency=1)
    report, _ = await reviewed(Scripted([CLEAN]), settings=settings)
    assert report.verdict_reason == "limit_max_tokens"
    assert report.usage.prompt_tokens + report.usage.completion_tokens <= 4000
    assert {file.reason for file in report.files} == {"", "limit_max_tokens"}


@pytest.mark.parametrize(("trust", "rows"), [(TrustClass.LOOPBACK, 0), (TrustClass.LAN, 8)])
async def test_what_leaves_this_machine_is_in_the_ledger(trust: TrustClass, rows: int) -> None:
    backend = Scripted([CLEAN], endpoint=Endpoint("http://gpu-box:8000", trust))
    report, _ = await reviewed(backend)
    assert len(report.egress) == rows
    assert {row.host for row in report.egress} <= {"gpu-box:8000"}
    sizes = {row.path: row.bytes for row in report.egress}
    assert all(sizes[file.path] == sum(map(len, file.lines)) for file in SELECTION.files if rows)


def test_an_empty_target_is_not_a_clean_one() -> None:
    report = empty_report("r", TARGET, SETTINGS, Selection((), ()), ENGINE)
    assert (report.verdict, report.verdict_reason) == (VerdictWord.NOT_REVIEWED, "nothing_to_review")
