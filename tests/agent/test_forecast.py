"""What a plan would ask of each route, and the rough range of an agent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from review_agent.agent.forecast import AGENT_READS, AGENT_WRITES, Share, agent_usage, forecast
from review_agent.agent.models import Analysis, Change, Route, RouteKind, SourceFile
from review_agent.agent.planner import Plan, make_plan
from review_agent.agent.router import ANSWER_TOKENS
from review_agent.agent.settings import Settings
from review_agent.agent.target import Selection

OPENING = 3000
NAMES = ("a.py", "b.py", "c.py")
LOCAL = Route(RouteKind.LOCAL, "routes.usual", visible=True)
HYBRID = Route(RouteKind.HYBRID, "routes.security", visible=True)
CLOUD = Route(RouteKind.CLOUD, "routes.mode_cloud", visible=True)


@pytest.fixture(scope="module")
def plan() -> Plan:
    files = tuple(SourceFile(name, "python", ("x = 1",) * 20, "", Change.WHOLE) for name in NAMES)
    return make_plan(Selection(files, ()), Settings(), model_key="m", model_context=8192, store=None)


def ways(*routes: Route) -> dict[tuple[str, int], Route]:
    return {(name, 0): way for name, way in zip(NAMES, routes, strict=True)}


def cost_of(plan: Plan, *names: str) -> int:
    return sum(plan.asker.piece_cost(plan.units[name][0]) for name in names) + plan.budget.overhead


@pytest.mark.parametrize(
    ("routes", "here", "away"),
    [
        ((LOCAL, LOCAL, LOCAL), NAMES, ()),
        ((LOCAL, HYBRID, LOCAL), NAMES, ()),
        ((LOCAL, CLOUD, HYBRID), ("a.py", "c.py"), ("b.py",)),
        ((CLOUD, CLOUD, CLOUD), (), NAMES),
    ],
)
def test_each_side_is_asked_about_its_units(
    plan: Plan, routes: tuple[Route, ...], here: tuple[str, ...], away: tuple[str, ...]
) -> None:
    known = forecast(plan, ways(*routes), max_turns=50)
    assert (known.local, known.local_tokens) == ((1, cost_of(plan, *here)) if here else (0, 0))
    assert (known.cloud.requests, known.cloud.prompt_tokens) == (
        (1, cost_of(plan, *away)) if away else (0, 0)
    )
    assert known.cloud.completion_tokens == ANSWER_TOKENS * len(away)
    assert known.agent is None


def test_shares_are_of_routes(plan: Plan) -> None:
    tokens = plan.units["a.py"][0].tokens
    known = forecast(plan, ways(HYBRID, HYBRID, CLOUD), max_turns=50, opening=OPENING)
    assert known.shares == {
        RouteKind.LOCAL: Share(),
        RouteKind.CLOUD: Share(1, tokens),
        RouteKind.HYBRID: Share(2, 2 * tokens),
    }


def test_what_is_known_is_asked_of_the_cloud_only(plan: Plan) -> None:
    cached = {(name, 0): Analysis(plan.units[name][0]) for name in NAMES}
    known = forecast(replace(plan, cached=cached), ways(LOCAL, HYBRID, CLOUD), max_turns=50, opening=OPENING)
    assert (known.cached, known.local, known.local_tokens, known.cloud.requests) == (2, 0, 0, 1)
    assert known.shares[RouteKind.HYBRID] == Share()


@pytest.mark.parametrize(("max_turns", "turns"), [(50, (5, 50)), (5, (5, 5)), (3, (3, 3)), (1, (1, 1))])
def test_an_agent_takes_few_turns_or_all_of_them(plan: Plan, max_turns: int, turns: tuple[int, int]) -> None:
    known = forecast(plan, ways(LOCAL, HYBRID, CLOUD), max_turns=max_turns, opening=OPENING)
    shown = 2 * plan.units["a.py"][0].tokens
    assert known.agent == tuple(agent_usage(number, opening=OPENING, shown=shown) for number in turns)


@pytest.mark.parametrize(
    ("turns", "again"),
    [(1, 0), (2, OPENING + AGENT_READS + 50), (3, 2 * OPENING + 3 * AGENT_READS + 100)],
)
def test_each_turn_reads_again_what_was_said(turns: int, again: int) -> None:
    usage = agent_usage(turns, opening=OPENING, shown=100)
    assert usage.cache_read_tokens == again
    assert usage.cache_write_tokens == OPENING + turns * AGENT_READS + 100
    assert (usage.requests, usage.turns, usage.completion_tokens) == (turns, turns, turns * AGENT_WRITES)
