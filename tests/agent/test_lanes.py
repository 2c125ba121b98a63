"""Two engines side by side: who is asked about what, what is known of whom, and what becomes of limits."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import CLEAN, Reply, Scripted, answer, finding

from review_agent.agent.analyzer import ranges
from review_agent.agent.errors import EngineFault, OtherForm, Stopped
from review_agent.agent.lanes import BudgetRouter, cloud_lane, router_of
from review_agent.agent.meter import Meter
from review_agent.agent.models import (
    Change,
    EngineInfo,
    Report,
    ReviewUnit,
    Route,
    RouteKind,
    SourceFile,
    TrustClass,
)
from review_agent.agent.planner import CloudLane, Plan, Spot, make_plan
from review_agent.agent.progress import Progress
from review_agent.agent.review import Review
from review_agent.agent.router import Capabilities
from review_agent.agent.settings import Settings
from review_agent.agent.target import Selection, Target
from review_agent.checkpoints.store import Store
from review_agent.tools.backends import ChatRequest, Done
from review_agent.tools.endpoints import Endpoint

SETTINGS = Settings(num_ctx=4096, lang="en", concurrency=1)
ENGINE = EngineInfo("cloud", "scripted", "here", "digest", cloud_host="127.0.0.1:9", cloud_model="there")
GATEWAY = Endpoint("http://127.0.0.1:9", TrustClass.LOOPBACK)  # which may hand on what it gets
FAR = frozenset({"b.py", "d.py", "f.py"})
SECRET = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"


def source(path: str, lines: int = 60) -> SourceFile:
    text = tuple(f"{path[0]}_{number} = compute({number})" for number in range(lines))
    return SourceFile(path, "python", text, "", Change.WHOLE)


FILES = tuple(source(f"{name}.py") for name in "abcdef")


def router(files: Sequence[SourceFile], units: Mapping[str, Sequence[ReviewUnit]]) -> Mapping[Spot, Route]:
    kinds = {path: RouteKind.CLOUD if path in FAR else RouteKind.LOCAL for path in units}
    kinds["a.py"] = RouteKind.HYBRID
    return {(u.path, u.index): Route(kinds[u.path], "r") for pieces in units.values() for u in pieces}


def planned(
    store: Store | None = None,
    settings: Settings = SETTINGS,
    model: str = "there",
    files: Sequence[SourceFile] = FILES,
) -> Plan:
    lane = CloudLane(f"anthropic:{model}", "be kind")
    return make_plan(
        Selection(tuple(files), ()), settings, model_key="digest", model_context=0, store=store,
        guidance="be strict", guidance_path="AGENTS.md", router=router, cloud=lane,
    )  # fmt: skip


async def reviewed(
    here: Scripted | None, there: Scripted | None, *, store: Store | None = None, settings: Settings = SETTINGS,
    files: Sequence[SourceFile] = FILES,
) -> tuple[Report, Review]:  # fmt: skip
    stream = io.StringIO()
    plan = planned(store, settings, files=files)
    review = Review(
        "r", plan, ENGINE, settings, Target("tree", "/repo"), store, Progress(stream, "en"), asyncio.Event()
    )
    return await review.run(here, there), review


def local(*script: Reply | str | Exception) -> Scripted:
    return Scripted(script or (CLEAN,))


def cloud(*script: Reply | str | Exception) -> Scripted:
    return Scripted(script or (CLEAN,), name="anthropic", endpoint=GATEWAY)


def paths_of(requests: Sequence[ChatRequest]) -> set[str]:
    return {
        path
        for request in requests
        for path in re.findall(r"^File: (\S+)", request.messages[-1].content, re.M)
    }


def states(report: Report) -> dict[str, str]:
    return {file.path: file.reason or str(file.status) for file in report.files}


# --- the plan ---


def test_no_request_has_units_of_both() -> None:
    plan = planned()
    kinds = [{plan.to_cloud(unit) for unit in request} for request in plan.requests]
    assert all(len(kind) == 1 for kind in kinds)
    assert {True, False} == {kind.pop() for kind in kinds}
    asked = [unit.path for request in plan.requests for unit in request]
    assert sorted(asked) == sorted(file.path for file in FILES)


def test_what_is_known_is_of_the_model_that_a_unit_is_routed_to(tmp_path: Path) -> None:
    one, other = planned(), planned(model="other")
    differing = {spot[0] for spot in one.keys if one.keys[spot] != other.keys[spot]}
    assert differing == FAR


async def test_answers_are_kept_by_lane(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db") as store:
        await reviewed(local(), cloud(), store=store)
        assert len(planned(store).cached) == len(FILES)
        assert {path for path, _ in planned(store, model="other").cached} == {f.path for f in FILES} - FAR


def test_the_cloud_has_guidance_of_its_own_and_one_schema_for_all() -> None:
    plan = planned()
    assert plan.cloud_asker is not None
    assert "be kind" in plan.cloud_asker.system()
    assert "be strict" not in plan.cloud_asker.system()
    schemas = {json.dumps(plan.cloud_asker.schema(request)) for request in plan.requests}
    assert len(schemas) == 1 < len({json.dumps(plan.asker.schema(request)) for request in plan.requests})
    assert "enum" not in json.loads(schemas.pop())["properties"]["findings"]["items"]["properties"]["path"]


# --- the review ---


async def test_each_engine_is_asked_about_its_own() -> None:
    here, there = local(), cloud()
    report, _ = await reviewed(here, there)
    assert paths_of(there.requests) == FAR
    assert paths_of(here.requests) == {file.path for file in FILES} - FAR
    assert ({request.model for request in here.requests}, {request.model for request in there.requests}) == (
        {"here"},
        {"there"},
    )
    routes = {file.path: file.route for file in report.files}
    assert routes == {
        "a.py": "hybrid",
        **dict.fromkeys(("c.py", "e.py"), "local"),
        **dict.fromkeys(FAR, "cloud"),
    }


async def test_findings_of_the_cloud_find_their_file_without_an_enum() -> None:
    there = cloud(answer(finding("d_7 = compute(7)", "d.py")))
    report, _ = await reviewed(local(), there)
    assert [(v.finding.path, v.finding.start_line) for v in report.verdicts] == [("d.py", 8)]


async def test_what_goes_to_the_cloud_is_masked_and_listed_even_on_this_machine() -> None:
    files = (replace(FILES[0], lines=(f'token = "{SECRET}"',)), FILES[1])  # the cloud has but b.py
    there = cloud()
    report, _ = await reviewed(
        local(), there, files=(*files, replace(FILES[3], lines=(f'repeat("{SECRET}")', "x = 1")))
    )
    assert SECRET not in "\n".join(request.messages[-1].content for request in there.requests)
    rows = {row.path: row for row in report.egress}
    assert set(rows) == {"b.py", "d.py", "AGENTS.md"}
    assert (rows["b.py"].lines, rows["d.py"].lines, rows["AGENTS.md"].lines) == ("1-60", "1-2", "1")
    assert rows["b.py"].bytes == sum(map(len, FILES[1].lines))
    assert rows["AGENTS.md"].bytes == len("be kind")
    assert {(row.host, row.model) for row in report.egress} == {("127.0.0.1:9", "there")}
    assert sum(row.redactions for row in report.egress) == 1


async def test_usage_of_the_cloud_stands_apart() -> None:
    class Cached(Scripted):
        async def chat(self, request):  # type: ignore[no-untyped-def]
            async for event in super().chat(request):
                yield (
                    replace(event, cache_read_tokens=100, cache_write_tokens=10)
                    if isinstance(event, Done)
                    else event
                )

    there = Cached([Reply(CLEAN, prompt_tokens=7, completion_tokens=3)], endpoint=GATEWAY)
    report, _ = await reviewed(local(Reply(CLEAN, prompt_tokens=50, completion_tokens=5)), there)
    count = len(there.requests)
    used = report.usage.cloud
    assert (used.requests, used.prompt_tokens, used.completion_tokens) == (count, 7 * count, 3 * count)
    assert (used.cache_read_tokens, used.cache_write_tokens, used.cost) == (100 * count, 10 * count, None)
    assert report.usage.prompt_tokens == 50 * report.usage.requests > 0


async def test_without_a_local_engine_its_units_fail_and_go_nowhere() -> None:
    there = cloud()
    report, _ = await reviewed(None, there)
    assert paths_of(there.requests) == FAR
    assert states(report) == {f.path: "reviewed" if f.path in FAR else "no_local_engine" for f in FILES}


async def test_without_the_cloud_its_units_fail_and_are_not_asked_here() -> None:
    here = local()
    report, _ = await reviewed(here, None)
    assert not paths_of(here.requests) & FAR
    assert {states(report)[path] for path in FAR} == {"engine_unavailable"}


@pytest.mark.parametrize("dead", ["here", "there"])
async def test_an_engine_that_gives_up_leaves_the_other_be(dead: str) -> None:
    broken = EngineFault("engine_stalled")
    here = local(broken) if dead == "here" else local()
    there = cloud(broken) if dead == "there" else cloud()
    files = tuple(source(f"{name}.py", 100) for name in "abcdef")
    report, _ = await reviewed(here, there, files=files)
    its = FAR if dead == "there" else {file.path for file in FILES} - FAR
    assert {path for path, state in states(report).items() if state != "reviewed"} == its
    assert {states(report)[path] for path in its} <= {"engine_stalled", "engine_gave_up"}


async def test_each_unit_fails_for_the_reason_of_its_own_engine() -> None:
    files = tuple(source(f"{name}.py", 100) for name in "acefghijkbd")
    here = local(*[EngineFault("engine_stalled")] * 3)
    report, _ = await reviewed(here, cloud(Stopped("interrupted")), files=files)
    reasons = {path: state for path, state in states(report).items() if state != "engine_stalled"}
    assert {state for path, state in reasons.items() if path in FAR} == {"interrupted"}
    assert {state for path, state in reasons.items() if path not in FAR} == {"engine_gave_up"}


async def test_what_the_budget_of_the_cloud_has_no_room_for_is_asked_here(tmp_path: Path) -> None:
    files = tuple(source(f"{name}.py", 100) for name in "abcdef")
    settings = replace(SETTINGS, max_cloud_tokens=5000)
    with Store(tmp_path / "s.db") as store:
        report, review = await reviewed(
            here := local(), there := cloud(), store=store, settings=settings, files=files
        )
        assert set(states(report).values()) == {"reviewed"}
        assert 0 < len(paths_of(there.requests)) < len(FAR)
        assert paths_of(here.requests) & FAR == FAR - paths_of(there.requests)
        assert review.cloud_meter.counted <= 5000
        routes = {file.path: file.route for file in report.files}
        assert {path for path, route in routes.items() if route == "cloud"} == paths_of(there.requests)
        # What the local model said is known as the local model's.
        again = make_plan(
            Selection(files, ()),
            SETTINGS,
            model_key="digest",
            model_context=0,
            store=store,
            guidance="be strict",
        )
        assert {path for path, _ in again.cached} == paths_of(here.requests)


async def test_the_budget_of_the_cloud_without_a_local_engine() -> None:
    files = tuple(source(f"{name}.py", 100) for name in "bdf")
    report, _ = await reviewed(None, cloud(), settings=replace(SETTINGS, max_cloud_tokens=5000), files=files)
    assert set(states(report).values()) == {"reviewed", "limit_max_cloud_tokens"}
    assert report.verdict_reason == "limit_max_cloud_tokens"


async def test_a_form_that_is_refused_is_asked_otherwise_at_once_and_written_down() -> None:
    there = cloud(OtherForm("engine_status"), OtherForm("engine_status"), CLEAN)
    report, _ = await reviewed(local(), there, files=FILES[1:2])
    assert states(report) == {"b.py": "reviewed"}
    assert [row.path for row in report.egress] == ["b.py", "AGENTS.md"] * 3


# --- meters ---


@pytest.mark.parametrize(
    ("own", "other", "more", "stopped"),
    [
        (Meter(max_tokens=100, prompt_tokens=60), Meter(prompt_tokens=39), 1, ""),
        (Meter(max_tokens=100, prompt_tokens=60), Meter(prompt_tokens=40), 1, "limit_max_tokens"),
        (Meter(max_tokens=100, prompt_tokens=60), Meter(pending=41), 0, "limit_max_tokens"),
        (Meter(max_own=100, cache_read_tokens=50, cache_write_tokens=40), Meter(prompt_tokens=999), 10, ""),
        (
            Meter(max_own=100, cache_read_tokens=50, cache_write_tokens=40),
            Meter(),
            11,
            "limit_max_cloud_tokens",
        ),
        (Meter(), Meter(prompt_tokens=10**9), 10**9, ""),
    ],
)
def test_limits(own: Meter, other: Meter, more: int, stopped: str) -> None:
    own.beside = other
    if stopped:
        with pytest.raises(Stopped, match=stopped):
            own.check(more)
    else:
        own.check(more)


@pytest.mark.parametrize(
    ("done", "prompt"),
    [(Done("stop", 5), 5), (Done("stop"), 40), (Done("stop", 0, 0, 9), 0)],
)
def test_what_a_server_does_not_tell_is_estimated(done: Done, prompt: int) -> None:
    meter = Meter()
    meter.count(done, asked=40, written=4)
    assert (meter.prompt_tokens, meter.completion_tokens) == (prompt, 4)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((), ""), ((3,), "3"), ((3, 4, 5), "3-5"), ((9, 3, 5, 4, 12, 4), "3-5,9,12"), (range(1, 61), "1-60")],
)
def test_ranges(numbers: Sequence[int], text: str) -> None:
    assert ranges(numbers) == text


# --- what goes where ---


def test_the_budget_goes_on_from_batch_to_batch() -> None:
    settings = Settings(mode="cloud", max_cloud_tokens=1000)
    unit = ReviewUnit("a.py", 0, "python", (), (), "", 300, "d")
    made = BudgetRouter(settings, Capabilities("cloud", local=True, cloud=True))
    kinds = [made((FILES[0],), {"a.py": (unit,)})["a.py", 0].kind for _ in range(3)]
    assert kinds == [RouteKind.CLOUD, RouteKind.LOCAL, RouteKind.LOCAL]


def test_in_local_mode_nothing_is_routed() -> None:
    assert router_of(Settings(), mode="local") is None
    assert cloud_lane("", "text", "AGENTS.md", Settings()) is None


@pytest.mark.parametrize(
    ("text", "settings", "goes"),
    [
        ("be kind", Settings(), True),
        ("be kind", Settings(local_only=("AGENTS.md",)), False),
        ("be kind", Settings(local_only=("*.md",)), False),
        ("be kind", Settings(cloud_allowed=("src/**",)), False),
        ("be kind", Settings(cloud_allowed=("*.md",)), True),
        (f"token = '{SECRET}'", Settings(), False),
    ],
)
def test_guidance_goes_where_its_file_may(text: str, settings: Settings, goes: bool) -> None:
    lane = cloud_lane("k", text, "AGENTS.md", settings)
    assert lane is not None
    assert lane.guidance == (text if goes else "")
