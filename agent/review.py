"""The review: target → units → analyses → verdicts → report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from review_agent.agent.analyzer import Analyzer
from review_agent.agent.audit import Call, call_text, egress_text, sent
from review_agent.agent.cache import freeze
from review_agent.agent.coverage import LIMITS, cover, file_results, judge
from review_agent.agent.errors import EngineError, Stopped, StoreError
from review_agent.agent.findings import Gate, complete, decide, model_findings
from review_agent.agent.ledger import Ledger
from review_agent.agent.memos import Checks
from review_agent.agent.meter import Meter, added
from review_agent.agent.models import (
    Analysis,
    CloudUsage,
    Egress,
    EngineInfo,
    Finding,
    Note,
    Outcome,
    Report,
    ReviewUnit,
    SourceFile,
    Usage,
    Verdict,
)
from review_agent.agent.plan import pack
from review_agent.agent.planner import Plan
from review_agent.agent.progress import Progress
from review_agent.agent.provenance import name_in, place_of
from review_agent.agent.router import upgraded
from review_agent.agent.schedule import Gauge, Request, run_requests
from review_agent.agent.settings import Settings
from review_agent.agent.sharing import Analyze, Desk
from review_agent.agent.target import Target
from review_agent.agent.wording import sentence
from review_agent.checkpoints.faultpoint import faultpoint
from review_agent.checkpoints.store import Store
from review_agent.tools.backends import Backend

if TYPE_CHECKING:
    from review_agent.agent.verification import Verified
    from review_agent.tools.claude import Side


@dataclass
class Lane:
    """Requests for one engine. `ended` is why not all of them were answered: a key of `[reasons]`."""

    requests: Sequence[Request]
    analyzer: Analyzer | None
    ended: str = ""


@dataclass
class Review:
    """One run over a plan. `stop` is set by a signal; the time limit counts from `started`."""

    run_id: str
    plan: Plan
    engine: EngineInfo
    settings: Settings
    target: Target
    store: Store | None
    progress: Progress
    stop: asyncio.Event
    demo: bool = False
    fresh: bool = False
    notes: tuple[Note, ...] = ()
    agent: Side | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    store_failed: bool = False
    meter: Meter = field(default_factory=Meter)
    cloud_meter: Meter = field(default_factory=Meter)
    analyses: dict[tuple[str, int], Analysis] = field(default_factory=dict)
    stopped: str = ""
    started: float = field(default_factory=time.monotonic)  # the event loop's clock, too
    _lanes: tuple[Lane, ...] = ()
    _egress: list[Egress] = field(default_factory=list)
    _sent_before: tuple[Egress, ...] = ()
    _checked: list[tuple[Finding, str]] | None = None
    _verified: Verified | None = None
    _said: set[str] = field(default_factory=set)
    _place: str = ""

    def __post_init__(self) -> None:
        self.analyses.update(self.plan.cached)
        if self.store is not None:
            self._sent_before, intact = sent(self.store, self.run_id)
            self.notes = self.notes if intact else (*self.notes, Note("egress_damaged"))

    async def run(self, backend: Backend | None, cloud: Backend | None = None) -> Report:
        """Ask for every open unit, within the limits, and report whatever came of it.

        A unit is asked of the engine that it is routed to, and fails where there is none.
        """
        plan = self.plan
        self._set_limits()
        self.progress.meter = lambda: self.meter.counted + self.cloud_meter.counted
        self.progress.planned(len(plan.units), len(plan.cached), plan.requests, plan.prompt_tokens)
        self._note_use()
        self._lanes = self._make_lanes(backend, cloud)
        checking = asyncio.ensure_future(self._show_checks())
        warming = asyncio.ensure_future(_warm(self.agent is not None))
        heart = asyncio.ensure_future(self.progress.beat())
        driving = [asyncio.ensure_future(self._drive(lane)) for lane in self._lanes]
        try:
            await asyncio.gather(*driving)
            await self._take_over(backend)
            await checking
            await warming
            ended = next((lane.ended for lane in self._lanes if lane.ended), "")
            self.stopped = "store_failed" if self.store_failed else ended
            if self.agent is not None and not self.stopped:
                await self._verify(self.agent, backend)
        finally:
            tasks = (heart, checking, warming, *driving)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.progress.close()
        return self.report()

    def _set_limits(self) -> None:
        settings = self.settings
        self.meter.max_tokens = self.cloud_meter.max_tokens = settings.max_tokens
        self.meter.beside, self.cloud_meter.beside = self.cloud_meter, self.meter
        self.cloud_meter.max_own = settings.max_cloud_tokens

    def _make_lanes(self, backend: Backend | None, cloud: Backend | None) -> tuple[Lane, ...]:
        """An engine that nothing is asked of has none."""
        here = [request for request in self.plan.requests if not self.plan.to_cloud(request[0])]
        there = [request for request in self.plan.requests if self.plan.to_cloud(request[0])]
        lanes = (
            Lane(here, self._analyzer(backend) if backend is not None else None),
            Lane(there, self._cloud_analyzer(cloud) if cloud is not None else None),
        )
        return tuple(lane for lane in lanes if lane.requests)

    async def _drive(self, lane: Lane) -> None:
        """Side by side with the other lane, at a pace of its own; one that must end leaves the other be."""
        if lane.analyzer is None:
            far = self.plan.to_cloud(lane.requests[0][0])
            failure = "engine_unavailable" if far else "no_local_engine"
            for request in lane.requests:
                self._done(request, [Analysis(unit, failure=failure) for unit in request], 0.0)
            return
        limit = self.settings.max_seconds
        lane.ended = await run_requests(
            lane.requests,
            self._asking(lane.analyzer),
            self._done,
            gauge=Gauge(self.settings.concurrency),
            stop=self.stop,
            deadline=self.started + limit if limit else None,
        )

    async def _verify(self, side: Side, backend: Backend | None) -> None:
        """The agent's part. What it has said is kept, however it ends."""
        from review_agent.agent.served import asked
        from review_agent.agent.verification import Scene, verify

        limit, tokens = self.settings.max_seconds, self._tokens_left(side)
        if tokens is not None and tokens <= 0:
            self.stopped = "limit_max_tokens"
            return
        scene = Scene(
            side,
            self.plan,
            self.settings,
            self.target,
            self.environ,
            self.run_id,
            self.store,
            self.stop,
            self._analyzer(backend, of_plan=False) if backend is not None else None,
            analyses=self.analyses,
            keep_egress=self._keep_egress,
            keep_call=self._keep_call,
            on_found=self.progress.finding,
            progress=lambda key, fields: self.progress.line(key, **fields),
            deadline=self.started + limit if limit else 0.0,
            tokens=tokens or 0,
            fresh=self.fresh,
            ask=lambda: asked(side, backend, self.settings, self.environ),
        )
        try:
            self._verified = await verify(scene, self._verdicts())
        except StoreError as exc:
            self._store_failed(exc)
        except Stopped as exc:
            self.stopped = exc.key
        else:
            self._egress += self._verified.egress
            self.stopped = self._verified.why
        self.stopped = "store_failed" if self.store_failed else self.stopped

    def _tokens_left(self, side: Side) -> int | None:
        """For the agent; None = no limit."""
        settings = self.settings
        spent, cloud = self.meter.spent, self.cloud_meter.spent
        left = [settings.max_tokens - spent - cloud] if settings.max_tokens else []
        left += [settings.max_cloud_tokens - cloud] if settings.max_cloud_tokens and side.cloud else []
        return min(left) if left else None

    def _keep_call(self, call: Call) -> None:
        if self.store is None:
            return
        try:
            self.store.note_call(self.run_id, call_text(call))
        except StoreError as exc:
            self._store_failed(exc)

    async def _take_over(self, backend: Backend | None) -> None:
        """The local engine reviews what the cloud's budget had no room for."""
        full = next((lane for lane in self._lanes if lane.ended == "limit_max_cloud_tokens"), None)
        if full is None or backend is None:
            return
        units = [u for request in full.requests for u in request if (u.path, u.index) not in self.analyses]
        self.plan = self.plan.kept_here(units)
        full.ended = ""
        rest = Lane(pack(units, self.plan.asker, self.plan.budget), self._analyzer(backend))
        self._lanes = (*self._lanes, rest)
        await self._drive(rest)

    async def _show_checks(self) -> None:
        """The checks take seconds on a large tree; the server reads its first request meanwhile."""
        checks = Checks(list(self._files().values()), self.settings.lang, self.plan.memos)
        for finding in self._reported(await asyncio.to_thread(self._checks, checks)):
            self.progress.finding(finding)
        self.plan.memos.save()

    def _analyzer(self, backend: Backend, *, of_plan: bool = True) -> Analyzer:
        model, plan = self.engine.model, self.plan
        made = Analyzer(backend, model, plan.asker, plan.budget, self.meter, redact=plan.masker.mask_counted)
        return self._wired(made, of_plan=of_plan)

    def _cloud_analyzer(self, backend: Backend) -> Analyzer:
        plan = self.plan
        model, asker = self.engine.cloud_model, plan.cloud_asker or plan.asker
        return self._wired(
            Analyzer(
                backend,
                model,
                asker,
                plan.budget,
                self.cloud_meter,
                redact=plan.masker.mask_counted,
                cloud=True,
            )
        )

    def _wired(self, analyzer: Analyzer, *, of_plan: bool = True) -> Analyzer:
        """What an agent asks about is no unit of the plan, and nothing of the plan becomes of it."""
        if analyzer.leaves:
            host = analyzer.backend.endpoint.host
            analyzer.on_sent = Ledger(host, analyzer.model, self._egress, self._keep_egress).record
        analyzer.on_fault = self._complain
        if of_plan:
            analyzer.on_unit = self._keep
            analyzer.names = self._names
        return analyzer

    def _names(self, unit: ReviewUnit) -> list[str]:
        """Those of a unit's file, for the provenance of what is said beside it."""
        if not self._place:
            self._place = place_of(self.target)
        old = self.plan.contexts[unit.path].file.old_path
        return [name_in(self._place, path) for path in (unit.path, old) if path]

    def _asking(self, analyzer: Analyzer) -> Analyze:
        """How units are asked for: beside other runs on the same store, unless this one starts afresh."""
        if self.store is None or self.fresh:
            return analyzer.analyze
        desk = Desk(self.store, self.run_id, self.plan.keys, analyzer.analyze)

        async def shared(units: Sequence[ReviewUnit]) -> list[Analysis]:
            try:
                return await desk.analyze(units)
            except StoreError as exc:
                self._store_failed(exc)
                raise Stopped("store_failed") from exc

        return shared

    def _keep_egress(self, rows: list[Egress]) -> None:
        if self.store is None:
            return
        try:
            self.store.note_egress(self.run_id, [egress_text(row) for row in rows])
        except StoreError as exc:
            self._store_failed(exc)
            raise Stopped("store_failed") from exc

    def _store_failed(self, exc: StoreError) -> None:
        """Nothing more is asked for that could not be kept. What is known is reported all the same."""
        if not self.store_failed:
            self.progress.text(sentence(exc, self.settings.lang))
        self.store_failed = True
        self.stop.set()

    def _complain(self, fault: EngineError) -> None:
        """What the server said, once: files carry only the kind of failure."""
        text = self.plan.masker.mask(sentence(fault, self.settings.lang))  # a server may repeat what we sent
        if text not in self._said:
            self._said.add(text)
            self.progress.text(text)

    def _keep(self, analysis: Analysis) -> None:
        """Durable before it counts. A unit may come twice: on its own, and with its request."""
        spot = (analysis.unit.path, analysis.unit.index)
        if self.analyses.get(spot) is analysis:
            return
        self.analyses[spot] = analysis
        if self.store is None or analysis.failure or self.store_failed:
            return
        try:
            self.store.finish_unit(self.run_id, self.plan.keys[spot], spot[0], freeze(analysis))
        except StoreError as exc:
            self._store_failed(exc)

    def _done(self, request: Request, analyses: list[Analysis], seconds: float) -> None:
        faultpoint("request_answered")
        for analysis in analyses:
            self._keep(analysis)
        self.progress.request_done(analyses, self._reported(model_findings(analyses, self.plan.contexts)))

    def _reported(self, found: list[tuple[Finding, str]]) -> list[Finding]:
        verdicts = decide(found, self._files(), self._gate())
        return [verdict.finding for verdict in verdicts if verdict.outcome is Outcome.REPORTED]

    def _note_use(self) -> None:
        """So that `runs prune` keeps what is still of use. No run fails for it."""
        if self.store is not None and self.plan.cached:
            with suppress(StoreError):
                self.store.used(sorted({self.plan.keys[spot] for spot in self.plan.cached}))

    def _checks(self, checks: Checks | None = None) -> list[tuple[Finding, str]]:
        """Findings of the checks that need no model; computed once."""
        if self._checked is None:
            checks = checks or Checks(list(self._files().values()), self.settings.lang, self.plan.memos)
            self._checked = [
                (complete(finding, self.plan.contexts[finding.path]), "") for finding in checks.run()
            ]
        return self._checked

    def _files(self) -> dict[str, SourceFile]:
        return {path: context.file for path, context in self.plan.contexts.items()}

    def _gate(self) -> Gate:
        return Gate(self.settings.min_severity, self.settings.min_confidence, self.demo)

    def _verdicts(self) -> list[Verdict]:
        """What becomes of every finding that is known now, the agent's own and its judgements among them."""
        plan = self.plan
        ordered = [
            self.analyses[(unit.path, unit.index)]
            for path in sorted(plan.units)
            for unit in plan.units[path]
            if (unit.path, unit.index) in self.analyses
        ]
        found = model_findings(ordered, plan.contexts) + self._checks()
        if self._verified is None:
            return decide(found, self._files(), self._gate())
        verdicts = decide(found + self._verified.found, self._files(), self._gate())
        return self._verified.judged(verdicts)

    def report(self) -> Report:
        """The report of what is known now."""
        plan, verified = self.plan, self._verified
        verdicts = self._verdicts()
        known = {**self._unanswered(), **self.analyses}
        missing = self.stopped or "not_finished"
        ways = {
            spot: upgraded(way, self.analyses[spot]) if spot in self.analyses else way
            for spot, way in plan.routes.items()
        }
        results = file_results(plan.files, plan.units, known, missing, ways)
        files = sorted([*results, *plan.skipped], key=lambda file: file.path)
        coverage = cover(files)
        limit = next((file.reason for file in results if file.reason in LIMITS), "")
        word, reason = judge(coverage, verdicts, stopped=self.stopped or limit, demo=self.demo)
        return Report(
            run_id=self.run_id,
            target=self.target.label(),
            lang=self.settings.lang,
            engine=self._engine(),
            verdict=word,
            verdict_reason=reason,
            coverage=coverage,
            # A model that saw one request cannot speak for the whole; the agent can.
            summary=verified.summary if verified is not None else "",
            verdicts=tuple(verdicts),
            files=tuple(files),
            usage=self._usage(),
            egress=(*self._sent_before, *self._egress),
            notes=(*plan.notes, *self.notes, *self._notes_of_agent()),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )

    def _notes_of_agent(self) -> tuple[Note, ...]:
        if self._verified is not None:
            return self._verified.notes
        return (Note("agent_not_begun"),) if self.agent is not None and self.stopped else ()

    def _engine(self) -> EngineInfo:
        """Who did it: the agent counts where it was asked, whatever came of it."""
        if self.agent is None or (self._verified is not None and self._verified.fell_back):
            return self.engine
        return replace(self.engine, orchestrator="agent", agent_model=self.agent.model)

    def _unanswered(self) -> dict[tuple[str, int], Analysis]:
        """Units of lanes that ended early, as failed for the lane's own reason."""
        return {
            (unit.path, unit.index): Analysis(unit, failure=lane.ended)
            for lane in self._lanes
            if lane.ended
            for request in lane.requests
            for unit in request
        }

    def _cloud_usage(self) -> CloudUsage:
        """Of the units' analysis and of the agent together."""
        model, host = self.engine.cloud_model, self.engine.cloud_host
        used = self.cloud_meter.of_cloud(model, host)
        if self._verified is None or self.agent is None or not self.agent.cloud:
            return used
        return added(used, self._verified.usage, model, host)

    def _usage(self) -> Usage:
        """An agent on a local engine counts as that."""
        here = self._verified is not None and self.agent is not None and not self.agent.cloud
        agent = self._verified.usage if here and self._verified is not None else CloudUsage()
        return Usage(
            requests=self.meter.requests + agent.requests,
            prompt_tokens=self.meter.prompt_tokens + agent.read_tokens,
            completion_tokens=self.meter.completion_tokens + agent.completion_tokens,
            cached_units=len(self.plan.cached),
            seconds=round(time.monotonic() - self.started, 1),
            cloud=self._cloud_usage(),
        )


async def _warm(wanted: bool) -> None:
    """The SDK takes seconds to import; the pipeline waits for its server meanwhile."""
    if wanted:
        from review_agent.tools.claude import program

        await asyncio.to_thread(program)
