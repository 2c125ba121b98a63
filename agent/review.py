"""The review: target → units → analyses → verdicts → report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from review_agent.agent.analyzer import Analyzer, Meter, Sent
from review_agent.agent.cache import freeze
from review_agent.agent.coverage import LIMITS, cover, file_results, judge
from review_agent.agent.errors import EngineError, Stopped, StoreError
from review_agent.agent.findings import Gate, complete, decide, model_findings
from review_agent.agent.memos import Checks
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
    RouteKind,
    SourceFile,
    TrustClass,
    Usage,
    Verdict,
)
from review_agent.agent.planner import Plan
from review_agent.agent.progress import Progress
from review_agent.agent.schedule import Gauge, Request, run_requests
from review_agent.agent.settings import Settings
from review_agent.agent.sharing import Analyze, Desk
from review_agent.agent.target import Selection, Target
from review_agent.agent.wording import sentence
from review_agent.checkpoints.faultpoint import faultpoint
from review_agent.checkpoints.store import Store
from review_agent.tools.backends import Backend

if TYPE_CHECKING:
    from review_agent.agent.audit import Call
    from review_agent.agent.verification import Verified
    from review_agent.tools.claude import Side

_EGRESS = TypeAdapter(Egress)


@dataclass
class Ledger:
    """What went to an endpoint that is not this machine."""

    host: str
    model: str
    rows: list[Egress] = field(default_factory=list)
    keep: Callable[[list[Egress]], None] = lambda _: None  # durable when it returns

    def record(self, sent: Sent) -> None:
        """Called before anything is sent: what cannot be written down does not leave."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        rows = [
            Egress(now, self.host, path, size, sent.redactions if at == 0 else 0, self.model)
            for at, (path, size) in enumerate(zip(sent.paths, sent.sizes, strict=True))
        ]
        self.keep(rows)
        self.rows += rows


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
    analyses: dict[tuple[str, int], Analysis] = field(default_factory=dict)
    stopped: str = ""
    started: float = field(default_factory=time.monotonic)  # the event loop's clock, too
    _ledger: Ledger | None = None
    _sent_before: tuple[Egress, ...] = ()
    _checked: list[tuple[Finding, str]] | None = None
    _verified: Verified | None = None
    _said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.analyses.update(self.plan.cached)
        if self.store is not None:
            self._sent_before, intact = _sent(self.store, self.run_id)
            self.notes = self.notes if intact else (*self.notes, Note("egress_damaged"))

    async def run(self, backend: Backend) -> Report:
        """Ask for every open unit, within the limits, and report whatever came of it."""
        plan, settings = self.plan, self.settings
        self.meter.max_tokens = settings.max_tokens
        deadline = self.started + settings.max_seconds if settings.max_seconds else None
        self.progress.meter = lambda: self.meter.prompt_tokens + self.meter.completion_tokens
        self.progress.planned(len(plan.units), len(plan.cached), plan.requests, plan.prompt_tokens)
        self._note_use()
        analyzer = self._analyzer(backend)
        checking = asyncio.ensure_future(self._show_checks())
        warming = asyncio.ensure_future(_warm(self.agent is not None))
        heart = asyncio.ensure_future(self.progress.beat())
        try:
            self.stopped = await run_requests(
                plan.requests,
                self._asking(analyzer),
                self._done,
                gauge=Gauge(settings.concurrency),
                stop=self.stop,
                deadline=deadline,
            )
            await checking
            await warming
            if self.agent is not None and not self.stopped and not self.store_failed:
                self._verified = await self._verify(self.agent, analyzer, deadline)
            self.stopped = "store_failed" if self.store_failed else self.stopped
        finally:
            heart.cancel()
            checking.cancel()
            warming.cancel()
            await asyncio.gather(heart, checking, warming, return_exceptions=True)
            self.progress.close()
        return self.report()

    async def _verify(self, side: Side, analyzer: Analyzer, deadline: float | None) -> Verified | None:
        """The agent's part. What it has said is kept, however it ends."""
        from review_agent.agent.verification import Scene, verify

        scene = Scene(
            side,
            self.plan,
            self.settings,
            self.target,
            self.environ,
            self.run_id,
            self.store,
            self.stop,
            analyzer,
            hides=self._hides(side),
            route=lambda _: str(RouteKind.HYBRID if side.cloud else RouteKind.LOCAL),
            keep_egress=self._keep_egress,
            keep_call=self._keep_call,
            on_found=self.progress.finding,
            progress=lambda key, fields: self.progress.line(key, **fields),
            deadline=deadline or 0.0,
            tokens=self._tokens_left(side),
        )
        try:
            verified = await verify(scene, self._verdicts())
        except (StoreError, Stopped) as exc:
            if isinstance(exc, StoreError):
                self._store_failed(exc)
            return None
        self.stopped = self.stopped or verified.why
        return verified

    def _tokens_left(self, side: Side) -> int:
        """For the agent; 0 = no limit."""
        settings = self.settings
        left = [settings.max_tokens - self.meter.spent] if settings.max_tokens else []
        left += [settings.max_cloud_tokens] if settings.max_cloud_tokens and side.cloud else []
        return max(1, min(left)) if left else 0

    def _hides(self, side: Side) -> Callable[[str, bool], str]:
        from review_agent.agent.router import Policy

        if not side.cloud and side.endpoint.trust is TrustClass.LOOPBACK:
            return lambda _path, _secret: ""
        policy = Policy(self.settings.local_only, self.settings.cloud_allowed)
        return lambda path, secret: policy.hidden(path, has_secret=secret)

    def _keep_call(self, call: Call) -> None:
        if self.store is None:
            return
        try:
            self.store.note_call(self.run_id, call.model_dump_json())
        except StoreError as exc:
            self._store_failed(exc)

    async def _show_checks(self) -> None:
        """The checks take seconds on a large tree; the server reads its first request meanwhile."""
        checks = Checks(list(self._files().values()), self.settings.lang, self.plan.memos)
        for finding in self._reported(await asyncio.to_thread(self._checks, checks)):
            self.progress.finding(finding)
        self.plan.memos.save()

    def _analyzer(self, backend: Backend) -> Analyzer:
        plan = self.plan
        analyzer = Analyzer(
            backend, self.engine.model, plan.asker, plan.budget, self.meter, redact=plan.masker.mask_counted
        )
        if backend.endpoint.trust is not TrustClass.LOOPBACK:
            self._ledger = Ledger(backend.endpoint.host, self.engine.model, keep=self._keep_egress)
            analyzer.on_sent = self._ledger.record
        analyzer.on_fault = self._complain
        analyzer.on_unit = self._keep
        return analyzer

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
            self.store.note_egress(self.run_id, [_EGRESS.dump_json(row).decode() for row in rows])
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
        results = file_results(plan.files, plan.units, self.analyses, self.stopped or "not_finished")
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
            egress=(
                *self._sent_before,
                *(self._ledger.rows if self._ledger is not None else ()),
                *(verified.egress if verified is not None else ()),
            ),
            notes=(*plan.notes, *self.notes, *(verified.notes if verified is not None else ())),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )

    def _engine(self) -> EngineInfo:
        """Who did it: the agent counts where it was asked, whatever came of it."""
        if self.agent is None or (self._verified is not None and self._verified.fell_back):
            return self.engine
        return replace(self.engine, orchestrator="agent", agent_model=self.agent.model)

    def _usage(self) -> Usage:
        return Usage(
            requests=self.meter.requests,
            prompt_tokens=self.meter.prompt_tokens,
            completion_tokens=self.meter.completion_tokens,
            cached_units=len(self.plan.cached),
            seconds=round(time.monotonic() - self.started, 1),
            cloud=self._verified.usage if self._verified is not None else CloudUsage(),
        )


async def _warm(wanted: bool) -> None:
    """The SDK takes seconds to import; the pipeline waits for its server meanwhile."""
    if wanted:
        from review_agent.tools.claude import program

        await asyncio.to_thread(program)


def _sent(store: Store, run_id: str) -> tuple[tuple[Egress, ...], bool]:
    """What this run sent before it was interrupted, and whether that is all of it."""
    rows, intact = store.egress(run_id)
    found: list[Egress] = []
    for row in rows:
        try:
            found.append(_EGRESS.validate_json(row))
        except ValidationError:
            intact = False
    return tuple(found), intact


def empty_report(
    run_id: str, target: Target, settings: Settings, selection: Selection, engine: EngineInfo
) -> Report:
    """The report of a target with nothing to review."""
    files = tuple(sorted(selection.skipped, key=lambda file: file.path))
    coverage = cover(files)
    word, reason = judge(coverage, (), stopped="", demo=False)
    return Report(
        run_id=run_id,
        target=target.label(),
        lang=settings.lang,
        engine=engine,
        verdict=word,
        verdict_reason=reason,
        coverage=coverage,
        summary="",
        verdicts=(),
        files=files,
        usage=Usage(),
        notes=selection.notes,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
