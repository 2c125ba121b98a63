"""`report RUN`: render a run's report again, without a model."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import replace

import click

from review_agent.agent.cli import make_command
from review_agent.agent.commands.options import output_options, outputs_of
from review_agent.agent.errors import UsageError
from review_agent.agent.models import Note, Report
from review_agent.checkpoints.store import RunRow, Store
from review_agent.prompts import LANGS, say


def command(lang: str) -> click.Command:
    params: list[click.Parameter] = [
        click.Argument(["run"], metavar="RUN"),
        *output_options(lang),
        click.Option(["--format", "format"], metavar="FORMAT", help=say(lang, "config", "format")),
        click.Option(["--lang", "lang"], metavar="zh-CN|en", help=say(lang, "config", "lang")),
    ]
    return make_command(lang, "report", params, _callback)


@click.pass_obj
def _callback(environ: Mapping[str, str], /, **given: object) -> int:
    from review_agent.agent.config import user_config_file
    from review_agent.agent.output import check_outputs, write_outputs
    from review_agent.agent.reports.json_report import from_json
    from review_agent.agent.session import Trusted, load_settings, open_store

    outputs = outputs_of(given, str(given["format"] or "terminal"))
    check_outputs(outputs)
    wanted = given["lang"]
    if wanted is not None and wanted not in LANGS:
        raise UsageError("lang_unknown", lang=wanted)
    store = open_store(load_settings({}, environ, Trusted()).settings, environ)
    if store is None:
        raise UsageError("checkpoints_off", file=str(user_config_file()))
    with store:
        row = store.run(str(given["run"]))
        report = from_json(row.report) if row.report else rebuild(row, store, environ)
    if wanted is not None:
        report = replace(report, lang=str(wanted))
    write_outputs(report, outputs)
    return 0


def rebuild(row: RunRow, store: Store, environ: Mapping[str, str]) -> Report:
    """The report of a run that died before it could write one, from its finished units."""
    from review_agent.agent.cloud import effective_mode
    from review_agent.agent.lanes import cloud_lane, router_of
    from review_agent.agent.planner import make_plan, narrowed
    from review_agent.agent.progress import Progress
    from review_agent.agent.review import Review
    from review_agent.agent.session import load_settings, read_trusted, recorded, trusting
    from review_agent.agent.target import select

    asked = recorded(row)
    asked_for = trusting(asked.target(), environ)
    trusted = read_trusted(asked_for)
    settings = load_settings(dict(asked.flags), environ, trusted).settings
    selection, target = select(asked_for, max_file_size=settings.max_file_size)
    plan = make_plan(
        narrowed(selection, settings),
        settings,
        model_key=asked.model_key,
        model_context=asked.model_context,
        store=store,
        of_run=row.run_id if asked.fresh else "",
        guidance=trusted.guidance,
        guidance_path=trusted.guidance_path,
        demo=asked.demo,
        router=router_of(settings, mode=effective_mode(settings)) if asked.cloud_key else None,
        cloud=cloud_lane(asked.cloud_key, trusted.guidance, trusted.guidance_path, settings),
    )
    silent = Progress(sys.stderr, settings.lang, quiet=True)
    review = Review(
        row.run_id, plan, asked.engine_info(), settings, target, store, silent, asyncio.Event(),
        demo=asked.demo, notes=(Note("partial_report"),),
    )  # fmt: skip
    return review.report()
