"""`runs list|show|prune`: what the store knows, and what it is to forget."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping

import click

from review_agent.agent.cli import make_command, make_group
from review_agent.agent.errors import UsageError
from review_agent.checkpoints.store import Pruned, RunRow, Store
from review_agent.prompts import say

KEEP_DAYS = 90
INTERRUPTED, DAMAGED = "interrupted", "damaged"


def command(lang: str) -> click.Command:
    @click.pass_obj
    def list_runs(environ: Mapping[str, str], /) -> int:
        from review_agent.agent.display import inline

        with opened(environ) as store:
            rows = store.runs()
            if not rows:
                click.echo(say(lang, "runs", "none"), err=True)
            for row in rows:
                status, units = status_of(row, store), store.units_of(row.run_id)
                click.echo(inline(_line(row, status, units, lang)))
        return 0

    @click.pass_obj
    def show(environ: Mapping[str, str], /, run: str) -> int:
        from review_agent.agent.display import inline

        with opened(environ) as store:
            row = store.run(run, believed=False)
            units, status = store.units_of(row.run_id), status_of(row, store)
        fields = {
            "run": inline(row.run_id),
            "status": say(lang, "runs", status),
            "repository": inline(row.repository),
            "target": inline(row.label),
            "created": _time(row.created),
            "updated": _time(row.updated),
            "units": units,
            "verdict": _verdict(row, lang),
        }
        click.echo(say(lang, "runs", "details", **fields))
        if status == DAMAGED:
            click.echo(inline(say(lang, "errors", "run_unreadable", run=row.run_id)))
        elif status in ("stopped", "partial", INTERRUPTED):
            click.echo(say(lang, "progress", "resume", command=f"review-agent resume {row.run_id}"))
        return 0

    @click.pass_obj
    def prune(environ: Mapping[str, str], /, keep_days: int | None, everything: bool, dry_run: bool) -> int:
        if everything and keep_days is not None:
            raise UsageError("prune_all_or_days")
        days = KEEP_DAYS if keep_days is None else keep_days
        # A clock may have been wrong: "all" means those of tomorrow, too.
        before = math.inf if everything else time.time() - days * 86400
        with opened(environ) as store:
            click.echo(_pruned(store.prune(before, dry_run=dry_run), lang, dry_run=dry_run))
        return 0

    argument: list[click.Parameter] = [click.Argument(["run"], metavar="RUN")]
    return make_group(
        lang,
        "runs",
        [
            _named(make_command(lang, "runs-list", [], list_runs), "list"),
            _named(make_command(lang, "runs-show", argument, show), "show"),
            _named(make_command(lang, "runs-prune", _prune_options(lang), prune), "prune"),
        ],
    )


def _prune_options(lang: str) -> list[click.Parameter]:
    days = say(lang, "help", "keep_days", days=KEEP_DAYS)
    return [
        click.Option(["--keep-days"], type=click.IntRange(min=0, max=36500), metavar="N", help=days),
        click.Option(["--all", "everything"], is_flag=True, help=say(lang, "help", "prune_all")),
        click.Option(["--dry-run"], is_flag=True, help=say(lang, "help", "dry_run")),
    ]


def _pruned(done: Pruned, lang: str, *, dry_run: bool) -> str:
    from review_agent.tools.download import amount

    sizes = {"before": amount(done.before), "after": amount(done.after)}
    key = "would_prune" if dry_run else "pruned"
    text = say(lang, "runs", key, runs=done.runs, units=done.analyses, **sizes)
    return f"{text}\n{say(lang, 'runs', 'prune_driven', runs=done.driven)}" if done.driven else text


def _named(command: click.Command, name: str) -> click.Command:
    command.name = name
    return command


def opened(environ: Mapping[str, str]) -> Store:
    from review_agent.agent.config import user_config_file
    from review_agent.agent.session import Trusted, load_settings, open_store

    store = open_store(load_settings({}, environ, Trusted()).settings, environ)
    if store is None:
        raise UsageError("checkpoints_off", file=str(user_config_file()))
    return store


def status_of(row: RunRow, store: Store) -> str:
    """What to call a run. A run whose process died could not write that down."""
    if not row.intact:
        return DAMAGED
    return INTERRUPTED if row.status == "running" and not store.locks.held(row.run_id) else row.status


def _line(row: RunRow, status: str, units: int, lang: str) -> str:
    return say(
        lang,
        "runs",
        "row",
        run=row.run_id,
        status=say(lang, "runs", status),
        updated=_time(row.updated),
        units=units,
        verdict=_verdict(row, lang),
        target=row.label,
        repository=row.repository,
    )


def _verdict(row: RunRow, lang: str) -> str:
    """The verdict of a run's report, from the text alone: a list must not parse megabytes."""
    found = re.search(r'^  "verdict": "(\w+)"', row.report[:4000], re.M)
    return say(lang, "verdict", found.group(1)) if found else "-"


def _time(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # a damaged row
        return "-"
