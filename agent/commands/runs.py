"""`runs list|show`: what the store knows."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

import click

from review_agent.agent.cli import make_command, make_group
from review_agent.agent.errors import UsageError
from review_agent.checkpoints.store import RunRow, Store
from review_agent.prompts import say


def command(lang: str) -> click.Command:
    @click.pass_obj
    def list_runs(environ: Mapping[str, str], /) -> int:
        from review_agent.agent.display import inline

        with _store(environ) as store:
            rows = store.runs()
            if not rows:
                click.echo(say(lang, "runs", "none"), err=True)
            for row in rows:
                click.echo(inline(_line(row, store.units_of(row.run_id), lang)))
        return 0

    @click.pass_obj
    def show(environ: Mapping[str, str], /, run: str) -> int:
        from review_agent.agent.display import inline

        with _store(environ) as store:
            row = store.run(run)
            units = store.units_of(row.run_id)
        fields = {
            "run": row.run_id,
            "status": say(lang, "runs", row.status),
            "repository": inline(row.repository),
            "target": inline(row.label),
            "created": _time(row.created),
            "updated": _time(row.updated),
            "units": units,
            "verdict": _verdict(row, lang),
        }
        click.echo(say(lang, "runs", "details", **fields))
        if row.status != "finished":
            click.echo(say(lang, "progress", "resume", command=f"review-agent resume {row.run_id}"))
        return 0

    argument: list[click.Parameter] = [click.Argument(["run"], metavar="RUN")]
    return make_group(
        lang,
        "runs",
        [
            _named(make_command(lang, "runs-list", [], list_runs), "list"),
            _named(make_command(lang, "runs-show", argument, show), "show"),
        ],
    )


def _named(command: click.Command, name: str) -> click.Command:
    command.name = name
    return command


def _store(environ: Mapping[str, str]) -> Store:
    from review_agent.agent.config import user_config_file
    from review_agent.agent.session import Trusted, load_settings, open_store

    store = open_store(load_settings({}, environ, Trusted()).settings, environ)
    if store is None:
        raise UsageError("checkpoints_off", file=str(user_config_file()))
    return store


def _line(row: RunRow, units: int, lang: str) -> str:
    return say(
        lang,
        "runs",
        "row",
        run=row.run_id,
        status=say(lang, "runs", row.status),
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
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
