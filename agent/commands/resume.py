"""`resume`: go on with a run that was stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from review_agent.agent.cli import make_command
from review_agent.agent.commands.options import output_options
from review_agent.agent.errors import StoreError, UsageError
from review_agent.prompts import say

LIMIT_OPTIONS = ("max_files", "max_seconds", "max_tokens", "max_cloud_tokens")


def command(lang: str) -> click.Command:
    params: list[click.Parameter] = [
        click.Argument(["run"], required=False, metavar="[RUN]"),
        *output_options(lang),
        *(
            click.Option([f"--{name.replace('_', '-')}", name], metavar="N", help=say(lang, "config", name))
            for name in LIMIT_OPTIONS
        ),
        click.Option(["--format", "format"], metavar="FORMAT", help=say(lang, "config", "format")),
        click.Option(["--lang", "lang"], metavar="zh-CN|en", help=say(lang, "config", "lang")),
    ]
    return make_command(lang, "resume", params, _callback)


@click.pass_obj
def _callback(environ: Mapping[str, str], /, **given: object) -> int:
    from review_agent.agent.commands.run import execute, make_job
    from review_agent.agent.config import user_config_file
    from review_agent.agent.session import (
        Trusted,
        load_settings,
        open_store,
        recorded,
        repository_key,
        trusting,
    )
    from review_agent.agent.target import Target

    settings = load_settings({}, environ, Trusted()).settings
    store = open_store(settings, environ)
    if store is None:
        raise UsageError("checkpoints_off", file=str(user_config_file()))
    with store:
        if given["run"]:
            row = store.run(str(given["run"]))
        else:
            here = repository_key(trusting(Target("tree", str(Path.cwd())), environ))
            rows = store.unfinished(here)
            if not rows:
                raise StoreError("nothing_to_resume", path=here)
            row = rows[0]
    asked = recorded(row)
    # Going on is the point: the limits that stopped the run hold no longer, unless they are given again.
    flags: dict[str, object] = {name: v for name, v in asked.flags.items() if name not in LIMIT_OPTIONS}
    flags.update({name: given[name] for name in LIMIT_OPTIONS if given[name] is not None})
    flags.update({name: given[name] for name in ("format", "lang") if given[name]})
    own_outputs = given["output"] or given["out"] or given["format"]
    job = make_job(asked.target(), flags, environ, given=given, run_id=row.run_id, fresh=asked.fresh)
    if asked.allowed is not None and tuple(asked.allowed) != job.target.allowed:
        then, now = (", ".join(given) or "[]" for given in (asked.allowed, job.target.allowed))
        raise UsageError("resume_allowed_differs", then=then, now=now)
    job = replace(job, pushed=asked.pushed)
    if not own_outputs and asked.outputs:
        job = replace(job, outputs=asked.outputs)
    return asyncio.run(execute(job))
