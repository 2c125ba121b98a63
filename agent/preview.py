"""`run --preview`: what a run would do. Asks the server for its models, never a model for an answer."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from review_agent.agent.cloud import cloud_place, effective_mode
from review_agent.agent.display import inline, terminal_text
from review_agent.agent.engine import Engine, confine, open_engine
from review_agent.agent.errors import EngineError
from review_agent.agent.forecast import forecast
from review_agent.agent.models import CloudUsage, EngineInfo, ReviewUnit, Route
from review_agent.agent.planner import Plan, make_plan, narrowed
from review_agent.agent.progress import duration
from review_agent.agent.router import ANSWER_TOKENS, Capabilities, Spot, routes
from review_agent.agent.session import model_key, open_store
from review_agent.agent.settings import Settings
from review_agent.agent.target import Target, select
from review_agent.agent.wording import sentence, worded
from review_agent.checkpoints.store import Store
from review_agent.prompts import say
from review_agent.tools import endpoints
from review_agent.tools.prices import cost
from review_agent.tools.prices import load as prices
from review_agent.tools.redact import mask

if TYPE_CHECKING:
    from review_agent.agent.commands.run import Job

# (prompt tokens read a second, answer tokens written a second): a laptop's CPU, and a fast GPU
_SLOW, _FAST = (100.0, 8.0), (1000.0, 60.0)
_ANSWER_TOKENS = 250


async def preview(job: Job) -> int:
    """Print the plan on stdout. Works without an engine too; then nothing counts as known.

    Of the engines only the local one is asked, for its models: from here on no other can be reached.
    """
    settings = job.settings
    reason = ""
    engine: Engine | None = None
    local = effective_mode(settings) == "local"
    here = replace(settings, mode="local", orchestrator=settings.orchestrator if local else "direct")
    if settings.backend == "anthropic":  # nothing of it is on this machine
        endpoints.confine(())
        reason = say(settings.lang, "preview_cloud", "no_local_engine")
    else:
        confine(here, job.environ)
        try:
            engine = await open_engine(here, job.environ)
            await engine.aclose()
        except EngineError as exc:
            reason = sentence(exc, settings.lang)
    selection, target = select(job.target, max_file_size=settings.max_file_size)
    info = engine.info if engine is not None else EngineInfo("local", "", "", "")
    store = open_store(settings, job.environ) if engine is not None else None
    try:
        plan = make_plan(
            narrowed(selection, settings),
            settings,
            model_key=model_key(info),
            model_context=engine.model.context if engine is not None else 0,
            store=store,
            of_run="(none)" if job.fresh else "",
            guidance=job.guidance,
            demo=engine is not None and engine.demo,
        )
        speed = _known_speed(store, info) if store is not None else None
    finally:
        if store is not None:
            store.close()
    lines = _Lines(plan, settings, job.environ)
    text = "\n".join(
        [*lines.head(target, info, reason), *lines.files(), *lines.totals(speed), *lines.cloud()]
    )
    sys.stdout.write(terminal_text(mask(text)) + "\n")
    return 0


def _known_speed(store: Store, info: EngineInfo) -> float | None:
    """Seconds a request of the last run with this model that asked at least two."""
    from review_agent.agent.errors import StoreError
    from review_agent.agent.reports.json_report import from_json

    for row in store.runs(limit=20):
        if not row.report:
            continue
        try:
            report = from_json(row.report)
        except StoreError:
            continue
        if report.engine.model == info.model and report.usage.requests >= 2:
            return report.usage.seconds / report.usage.requests
    return None


class _Lines:
    """The plan as text."""

    def __init__(self, plan: Plan, settings: Settings, environ: Mapping[str, str]) -> None:
        self._plan = plan
        self._settings = settings
        self._lang = settings.lang
        self._mode = effective_mode(settings)
        away = self._mode != "local"
        # Whether engines answer is told above; routes are those of a run in which they do.
        has = Capabilities(self._mode, local=settings.backend != "anthropic", cloud=away)
        self._ways = routes(plan.files, plan.units, settings, has)
        first = _opening(settings) if away and settings.orchestrator != "direct" else None
        self._forecast = forecast(plan, self._ways, max_turns=settings.max_turns, opening=first)
        self._host = self._model = ""
        if away:
            endpoint, self._model = cloud_place(settings, environ)
            self._host = endpoint.host

    def head(self, target: Target, info: EngineInfo, reason: str) -> Iterator[str]:
        yield self._say("title")
        yield self._say("target", target=inline(target.label()))
        what = say(self._lang, "modes", self._mode)
        yield say(self._lang, "route_command", "mode", mode=self._mode, what=what)
        if reason:
            yield self._say("no_engine", reason=reason)
        else:
            yield self._say("engine", backend=info.backend, model=info.model)

    def files(self) -> Iterator[str]:
        """A row for each route of each file, and for each file that will not be reviewed."""
        plan, lang = self._plan, self._lang
        for order, (path, units) in enumerate(plan.units.items(), start=1):
            for way, tokens in _by_route(units, self._ways).items():
                row = {
                    "order": order,
                    "lines": plan.contexts[path].file.changed_count,
                    "units": len(tokens),
                    "tokens": sum(tokens),
                    "route": say(lang, "route_kinds", way.kind),
                    "path": inline(path),
                    "reason": worded(way.reason, lang),
                }
                yield say(
                    lang, *(("preview", "row") if self._mode == "local" else ("preview_cloud", "row")), **row
                )
        for file in plan.files[len(plan.units) :]:
            yield self._skipped(file.path, "limit_max_files")
        for result in plan.skipped:
            yield self._skipped(result.path, result.reason)

    def _skipped(self, path: str, reason: str) -> str:
        return self._say("skipped", path=inline(path), reason=say(self._lang, "reasons", reason))

    def totals(self, speed: float | None) -> Iterator[str]:
        known = self._forecast
        low, high = _seconds(known.local, known.local_tokens, speed)
        yield self._say(
            "totals",
            files=len(self._plan.units),
            units=sum(len(units) for units in self._plan.units.values()),
            cached=known.cached,
            requests=known.local,
            tokens=known.local_tokens,
            low=duration(low, self._lang),
            high=duration(high, self._lang),
        )
        yield self._say("basis_history" if speed is not None else "basis_default")

    def cloud(self) -> Iterator[str]:
        """What is asked of the endpoint that is paid for; nothing in local mode."""
        known, lang = self._forecast, self._lang
        if self._mode == "local":
            return
        for kind, share in known.shares.items():
            route = say(lang, "route_kinds", kind)
            if share.units:
                yield say(lang, "preview_cloud", "share", route=route, units=share.units, tokens=share.tokens)
        yield say(lang, "preview_cloud", "side", host=inline(self._host), model=inline(self._model))
        if self._settings.max_cloud_tokens:
            yield say(lang, "preview_cloud", "budget", tokens=self._settings.max_cloud_tokens)
        if self._mode == "cloud":
            asked = known.cloud
            yield say(
                lang,
                "preview_cloud",
                "analysis",
                requests=asked.requests,
                prompt=asked.prompt_tokens,
                completion=asked.completion_tokens,
                answer=ANSWER_TOKENS,
                cost=self._cost(asked),
            )
        if known.agent is None:
            return
        few, many = known.agent
        agent = {"few": few.turns, "many": many.turns, "low": _tokens(few), "high": _tokens(many)}
        yield say(lang, "preview_cloud", "agent", **agent, cost=self._cost(few, many))

    def _cost(self, *usages: CloudUsage) -> str:
        """One sum, or the least and the most."""
        sums = [cost(self._model, self._host, usage) for usage in usages]
        known = [f"{dollars:.2f}" for dollars in sums if dollars is not None]
        if len(known) < len(sums):
            return say(self._lang, "preview_cloud", "cost_unknown")
        day = prices().as_of.isoformat()
        return say(self._lang, "preview_cloud", "cost", dollars="–".join(known), day=day)

    def _say(self, key: str, **fields: object) -> str:
        return say(self._lang, "preview", key, **fields)


def _opening(settings: Settings) -> int:
    """Tokens of an agent's first request, in the cloud."""
    from review_agent.agent.orchestrator import system_prompt
    from review_agent.agent.room import opening
    from review_agent.tools.server import TOOLS

    tools = [name for name in TOOLS if name != "run_command" and name in (settings.tools or TOOLS)]
    return opening(system_prompt(settings.lang, settings.system_prompt), tools, settings.lang)


def _by_route(units: Sequence[ReviewUnit], ways: Mapping[Spot, Route]) -> dict[Route, list[int]]:
    found: dict[Route, list[int]] = {}
    for unit in units:
        found.setdefault(ways[unit.path, unit.index], []).append(unit.tokens)
    return found


def _tokens(usage: CloudUsage) -> int:
    return usage.prompt_tokens + usage.cache_read_tokens + usage.cache_write_tokens + usage.completion_tokens


def _seconds(requests: int, tokens: int, speed: float | None) -> tuple[float, float]:
    """The least and the most that the local engine will take."""
    if speed is not None:
        return 0.7 * speed * requests, 1.5 * speed * requests
    times = [tokens / read + requests * _ANSWER_TOKENS / write for read, write in (_FAST, _SLOW)]
    return times[0], times[1]
