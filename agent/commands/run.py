"""`run`: review a tree or a change."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from review_agent.agent.cli import make_command
from review_agent.agent.commands.options import (
    flags_of,
    output_options,
    outputs_of,
    setting_options,
    target_options,
)
from review_agent.agent.commands.targets import target_of
from review_agent.agent.coverage import LIMITS
from review_agent.agent.engine import Engine
from review_agent.agent.errors import EngineError, StoreError, UsageError
from review_agent.agent.models import EngineInfo, Note, Report
from review_agent.agent.progress import Progress
from review_agent.agent.settings import Settings
from review_agent.agent.target import Selection, Target
from review_agent.agent.wording import sentence
from review_agent.checkpoints.store import Store
from review_agent.prompts import say

if TYPE_CHECKING:
    from review_agent.agent.review import Review

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@dataclass(frozen=True, slots=True)
class Job:
    """One review as asked: everything that `run` and `resume` hand over.

    `pushed` names the ref of a push that it is for; with `reports` it says little, and adds its report there.
    """

    target: Target
    settings: Settings
    flags: Mapping[str, object]
    outputs: list[tuple[str, str]]
    environ: Mapping[str, str]
    guidance: str = ""
    guidance_path: str = ""
    notes: tuple[Note, ...] = ()
    run_id: str = ""
    fresh: bool = False
    pushed: str = ""
    reports: list[Report] | None = None


def command(lang: str) -> click.Command:
    params: list[click.Parameter] = [
        click.Argument(["path"], required=False, metavar="[PATH]"),
        *target_options(lang),
        *setting_options(lang),
        *output_options(lang),
        click.Option(["--preview"], is_flag=True, help=say(lang, "help", "preview")),
        click.Option(["--fresh"], is_flag=True, help=say(lang, "help", "fresh")),
        click.Option(["--pr", "pr"], metavar="N", help=say(lang, "publish_help", "run_pr")),
        click.Option(["--repo", "repo"], metavar="OWNER/NAME", help=say(lang, "publish_help", "repo")),
        click.Option(["--full"], is_flag=True, help=say(lang, "publish_help", "full")),
    ]
    return make_command(lang, "run", params, _callback)


@click.pass_obj
def _callback(environ: Mapping[str, str], /, **given: object) -> int:
    target = target_of(given, environ)
    flags = flags_of(given)
    if str(flags.get("model", "")).endswith(".gguf"):  # `resume` may be called from another folder
        flags["model"] = str(Path(str(flags["model"])).expanduser().absolute())
    if target.kind == "tree" and not given["preview"]:
        _preflight(flags, environ)
    job = make_job(target, flags, environ, given=given, fresh=bool(given["fresh"]))
    if given["preview"]:
        from review_agent.agent.preview import preview

        return asyncio.run(preview(job))
    return asyncio.run(execute(job))


def _preflight(flags: Mapping[str, object], environ: Mapping[str, str]) -> None:
    """A tree needs an engine, and what the repository says cannot choose one: so ask first, read later."""
    from review_agent.agent.engine import preflight
    from review_agent.agent.session import Trusted, load_settings

    preflight(load_settings(flags, environ, Trusted()).settings, environ)


def make_job(
    target: Target,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    given: Mapping[str, object],
    fresh: bool = False,
    run_id: str = "",
) -> Job:
    from review_agent.agent.config import planned
    from review_agent.agent.output import check_outputs
    from review_agent.agent.session import load_settings, read_trusted, trusting

    target = trusting(target, environ)
    trusted = read_trusted(target)
    loaded = load_settings(flags, environ, trusted)
    outputs = outputs_of(given, loaded.settings.format)
    check_outputs(outputs)
    return Job(
        target,
        loaded.settings,
        flags,
        outputs,
        environ,
        trusted.guidance,
        trusted.guidance_path,
        (*loaded.notes, *trusted.notes, *planned(loaded)),
        run_id,
        fresh,
    )


async def execute(job: Job) -> int:
    """The whole of a run: select, choose the engine, review, write reports. Returns the exit code."""
    from review_agent.agent.coverage import exit_code
    from review_agent.agent.engine import confine, open_engine
    from review_agent.agent.increment import note_of, settle
    from review_agent.agent.nothing import empty_report
    from review_agent.agent.planner import narrowed
    from review_agent.agent.session import new_run_id
    from review_agent.agent.target import select

    started = asyncio.get_running_loop().time()
    settings = job.settings
    brief = job.reports is not None
    progress = Progress(sys.stderr, settings.lang, live=sys.stderr.isatty(), brief=brief)
    opened: Engine | EngineError
    confine(settings, job.environ)
    try:
        opened = await open_engine(settings, job.environ)
    except EngineError as exc:
        if job.target.kind == "tree":
            raise
        opened = exc  # a change with nothing to review needs no engine
    _tell_retries(progress)
    try:
        progress.line("reading")
        asked_for = job.target
        if isinstance(opened, Engine):
            asked_for = settle(asked_for, _review_key(opened, job), gated=settings.fail_on is not None)
        selection, target = select(asked_for, max_file_size=settings.max_file_size)
        selection = narrowed(selection, settings)
        selection = replace(selection, notes=(*note_of(target), *job.notes, *selection.notes))
        if not selection.files:
            info = opened.info if isinstance(opened, Engine) else EngineInfo("local", "", "", "")
            report = empty_report(job.run_id or new_run_id(), target, settings, selection, info)
            _end_empty(job, target, opened, report, progress)
            _publish(report, job, progress)
            return exit_code(report, settings.fail_on)
        if isinstance(opened, EngineError):
            raise opened
        progress.line("planning", files=len(selection.files))
        return await _review(job, target, selection, opened, progress, started)
    finally:
        if isinstance(opened, Engine):
            await opened.aclose()


async def _review(
    job: Job, target: Target, selection: Selection, engine: Engine, progress: Progress, started: float
) -> int:
    from review_agent.agent.cloud import effective_mode
    from review_agent.agent.coverage import exit_code
    from review_agent.agent.lanes import cloud_lane, router_of
    from review_agent.agent.planner import make_plan
    from review_agent.agent.review import Review
    from review_agent.agent.session import model_key, new_run_id, open_store, repository_key, target_digest
    from review_agent.agent.sides import agent_side

    settings = job.settings
    _announce(job, engine, progress)
    run_id = new_run_id()
    with ExitStack() as closing:
        store = open_store(settings, job.environ)
        if store is not None:
            closing.enter_context(store)
            asked = _asked(job, target, engine)
            run_id = _take_run(store, job, target, asked, closing, progress)
        plan = make_plan(
            selection,
            settings,
            model_key=model_key(engine.info),
            model_context=engine.model.context,
            store=store,
            of_run=run_id if job.fresh else "",
            guidance=job.guidance,
            guidance_path=job.guidance_path,
            demo=engine.demo,
            router=router_of(settings, mode=effective_mode(settings), local=engine.backend is not None),
            cloud=cloud_lane(engine.cloud_key, job.guidance, job.guidance_path, settings),
        )
        if store is not None:
            store.start_run(run_id, repository_key(target), target.label(), asked, target_digest(asked))
            _tell_set_aside(store, progress)
        stop = asyncio.Event()
        caught = _catch_signals(stop, progress)
        demo_note = (Note("demo_model", {"model": engine.model.name}),) if engine.demo else ()
        review = Review(
            run_id, plan, engine.info, settings, target, store, progress, stop,
            demo=engine.demo, fresh=job.fresh, notes=(*demo_note, *engine.notes), environ=job.environ,
            started=started,
        )  # fmt: skip
        review.agent = await agent_side(settings, job.environ, engine)
        report = await _run(review, engine, settings)
        _release_signals()
        if store is not None and not review.store_failed:
            _finish(store, report, progress, stopped=bool(review.stopped))
        _publish_kept(report, job, progress, kept=store is not None and not review.store_failed)
        if (report.coverage.files_failed or review.stopped) and store is not None:
            if reason := review.stopped or next((f.reason for f in report.files if f.reason in LIMITS), ""):
                progress.line("stopped", reason=say(settings.lang, "reasons", reason))
            if not (review.store_failed and store.set_aside):  # a new store does not know the run
                progress.line("resume", command=f"review-agent resume {run_id}")
        return caught[0] if caught else exit_code(report, settings.fail_on)


async def _run(review: Review, engine: Engine, settings: Settings) -> Report:
    """Both engines, as far as there are any."""
    if engine.cloud is None or not any(review.plan.to_cloud(request[0]) for request in review.plan.requests):
        return await review.run(engine.backend)
    cloud = engine.cloud.open(settings)
    try:
        return await review.run(engine.backend, cloud)
    finally:
        await cloud.aclose()


def _announce(job: Job, engine: Engine, progress: Progress) -> None:
    """Say what was chosen. Raises UsageError when the prompt does not fit the model's context."""
    from review_agent.agent.plan import choose_context, smallest_context
    from review_agent.agent.prompt import Asker

    settings = job.settings
    context = choose_context(engine.model.context, settings.num_ctx or None)
    least = smallest_context(Asker(settings.lang, job.guidance, brief=engine.demo))
    if context < least:
        raise UsageError("context_too_small", context=context, least=least)
    for note in engine.notes:
        progress.text(say(settings.lang, "notes", note.key, **note.fields))
    if engine.backend is not None:
        progress.line("engine", backend=engine.info.backend, model=engine.info.model, context=context)
    if engine.cloud is not None:
        progress.line("cloud", host=engine.info.cloud_host, model=engine.info.cloud_model)


def _asked(job: Job, target: Target, engine: Engine) -> str:
    from review_agent.agent.session import record

    return record(
        target,
        job.flags,
        job.outputs,
        engine=engine.info,
        model_context=engine.model.context,
        demo=engine.demo,
        fresh=job.fresh,
        cloud_key=engine.cloud_key,
        pushed=job.pushed,
        review_key=_review_key(engine, job),
    )


def _take_run(
    store: Store, job: Job, target: Target, asked: str, closing: ExitStack, progress: Progress
) -> str:
    """The id of the run to drive, locked until the end: the one to resume, an unfinished one that would do
    the same, or a new one. Raises StoreError where another process drives the one to resume.
    """
    from review_agent.agent.session import new_run_id, repository_key, target_digest

    if job.run_id:
        closing.enter_context(store.locks.hold(job.run_id))
        return job.run_id
    same = [] if job.fresh else store.unfinished(repository_key(target), target_digest(asked))
    for row in same:
        try:
            closing.enter_context(store.locks.hold(row.run_id))
        except StoreError as exc:
            if exc.key != "run_busy":
                raise
            progress.line("beside", run=row.run_id, pid=exc.fields["pid"])
            continue
        progress.line("adopted", run=row.run_id, units=store.units_of(row.run_id))
        return row.run_id
    run_id = new_run_id()
    closing.enter_context(store.locks.hold(run_id))
    return run_id


def _tell_set_aside(store: Store, progress: Progress) -> None:
    if store.set_aside is not None:
        progress.line("store_set_aside", path=store.path, aside=store.set_aside)


def _finish(store: Store, report: Report, progress: Progress, *, stopped: bool) -> None:
    """A report that cannot be stored is still written where it was asked for."""
    from review_agent.agent.reports.json_report import to_json

    # In a `partial` run each file was tried. The next run of the same target is one of its own then, while
    # it goes on with a `stopped` one.
    untried = stopped or any(file.reason in LIMITS for file in report.files)
    status = "stopped" if untried else "partial" if report.coverage.files_failed else "finished"
    try:
        store.finish_run(report.run_id, status, to_json(report))
    except StoreError as exc:
        progress.text(sentence(exc, report.lang))


def _tell_retries(progress: Progress) -> None:
    """stamina would log its retries in English; the user gets a line of ours."""
    from stamina.instrumentation import RetryDetails, set_on_retry_hooks

    def hook(details: RetryDetails) -> None:
        progress.line("retry", seconds=round(details.wait_for, 1))

    set_on_retry_hooks([hook])


def _end_empty(
    job: Job, target: Target, engine: Engine | EngineError, report: Report, progress: Progress
) -> None:
    """A resumed run whose work has gone has come to its end; `publish` asks for that of a pull request."""
    from review_agent.agent.session import open_store, repository_key, target_digest

    new = target.pull and not job.run_id
    store = open_store(job.settings, job.environ) if new or job.run_id else None
    if store is None:
        return
    with store, store.locks.hold(report.run_id):
        if new and isinstance(engine, Engine):
            asked = _asked(job, target, engine)
            digest = target_digest(asked)
            store.start_run(report.run_id, repository_key(target), target.label(), asked, digest)
        _finish(store, report, progress, stopped=False)


def _review_key(engine: Engine, job: Job) -> str:
    from review_agent.agent.increment import review_key

    return review_key(engine.info, job.settings, job.guidance, engine.cloud_key)


def _publish_kept(report: Report, job: Job, progress: Progress, *, kept: bool) -> None:
    """As `_publish`; where a file cannot be written, with the command that gives the report again."""
    try:
        _publish(report, job, progress)
    except UsageError:
        if kept:
            progress.line("report_kept", command=f"review-agent report {report.run_id}")
        raise


def _publish(report: Report, job: Job, progress: Progress) -> None:
    from review_agent.agent.output import write_outputs

    if job.reports is not None:
        job.reports.append(report)
    for name in write_outputs(report, job.outputs):
        progress.line("report_written", path=name)


def _catch_signals(stop: asyncio.Event, progress: Progress) -> list[int]:
    """The first signal asks the run to stop; a second one ends the process. Returns the exit codes caught."""
    caught: list[int] = []

    def on_signal(number: signal.Signals) -> None:
        if caught:
            os._exit(SIGNALS[number])  # every finished unit is durable already
        caught.append(SIGNALS[number])
        progress.line("interrupting")
        stop.set()

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    return caught


def _release_signals() -> None:
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.remove_signal_handler(number)
