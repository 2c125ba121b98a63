"""What a plan would ask of each route, and of the endpoint that is paid for. Pure; asks nobody.

Estimates of the cloud are on the dear side: no discount for what its cache would serve of the prompts of
units. How many turns an agent takes nobody knows before, so of those there is only a rough range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from review_agent.agent.models import CloudUsage, ReviewUnit, Route, RouteKind
from review_agent.agent.plan import pack
from review_agent.agent.planner import Plan
from review_agent.agent.router import ANSWER_TOKENS, Spot

# Of a turn of an agent, in tokens: what it adds to read besides code, as `benchmarks/agent.py` measures, and
# what it writes: three times what the agent of that script does, which judges twice a turn in few words.
AGENT_READS, AGENT_WRITES = 450, 300
AGENT_FEW_TURNS = 5


@dataclass(frozen=True, slots=True)
class Share:
    """What one route gets, as far as it is not known already."""

    units: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Forecast:
    """`local` and `cloud` are the requests for units; an agent comes on top, between `agent[0]` and `[1]`."""

    shares: Mapping[RouteKind, Share]
    cached: int
    local: int
    local_tokens: int
    cloud: CloudUsage
    agent: tuple[CloudUsage, CloudUsage] | None


def forecast(
    plan: Plan, ways: Mapping[Spot, Route], *, max_turns: int, opening: int | None = None
) -> Forecast:
    """What `plan` would ask by the routes `ways`. `opening`: tokens of the first request of an agent in the
    cloud, None = there is none.
    """
    spots = [(unit, ways[unit.path, unit.index].kind) for units in plan.units.values() for unit in units]
    # What is known is known of the local model.
    fresh = [
        (unit, kind)
        for unit, kind in spots
        if kind is RouteKind.CLOUD or (unit.path, unit.index) not in plan.cached
    ]
    shares = {kind: _share([unit for unit, its in fresh if its is kind]) for kind in RouteKind}
    here = [unit for unit, kind in fresh if kind is not RouteKind.CLOUD]
    away = [unit for unit, kind in fresh if kind is RouteKind.CLOUD]
    seen = sum(unit.tokens for unit, kind in spots if kind is not RouteKind.LOCAL)
    turns = (min(AGENT_FEW_TURNS, max_turns), max_turns)
    agent = tuple(agent_usage(number, opening=opening, shown=seen) for number in turns) if opening else ()
    requests, tokens = _asked(plan, here)
    cloud_requests, cloud_tokens = _asked(plan, away)
    return Forecast(
        shares,
        cached=len(spots) - len(fresh),
        local=requests,
        local_tokens=tokens,
        cloud=CloudUsage(cloud_requests, cloud_tokens, completion_tokens=ANSWER_TOKENS * len(away)),
        agent=(agent[0], agent[1]) if agent else None,
    )


def _share(units: Sequence[ReviewUnit]) -> Share:
    return Share(len(units), sum(unit.tokens for unit in units))


def _asked(plan: Plan, units: Sequence[ReviewUnit]) -> tuple[int, int]:
    """Requests for units, and the tokens of their prompts."""
    requests = len(pack(units, plan.asker, plan.budget))
    return requests, sum(map(plan.asker.piece_cost, units)) + plan.budget.overhead * requests


def agent_usage(turns: int, *, opening: int, shown: int) -> CloudUsage:
    """What an agent of so many turns uses that begins with `opening` tokens and reads `shown` tokens of code.

    Each turn reads all of those before it again, out of the server's cache.
    """
    read = opening + AGENT_READS * turns + shown
    again = sum(opening + AGENT_READS * before for before in range(1, turns)) + shown * (turns - 1) // 2
    return CloudUsage(
        requests=turns,
        cache_read_tokens=again,
        cache_write_tokens=read,
        completion_tokens=AGENT_WRITES * turns,
        turns=turns,
    )
