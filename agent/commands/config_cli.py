"""`config init|show|check`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from review_agent.agent.cli import make_command, make_group
from review_agent.agent.commands import config
from review_agent.prompts import say


def command(lang: str) -> click.Command:
    def path_argument() -> click.Parameter:
        return click.Argument(["path"], required=False, default=".", metavar="[PATH]")

    def user_switch() -> click.Parameter:
        return click.Option(["--user"], is_flag=True, help=say(lang, "help", "user"))

    @click.pass_obj
    def show(environ: Mapping[str, str], /, path: str) -> int:
        from review_agent.agent.session import load_settings, read_trusted, trusting
        from review_agent.agent.target import make_target

        trusted = read_trusted(trusting(make_target(Path(path)), environ))
        click.echo(config.show(load_settings({}, environ, trusted), lang), nl=False)
        return 0

    def init(path: str, user: bool) -> int:
        click.echo(config.init(_file(path, user), user=user, lang=lang))
        return 0

    def check(path: str, user: bool) -> int:
        click.echo(config.check(_file(path, user), user=user, lang=lang))
        return 0

    commands = [
        make_command(lang, "config-show", [path_argument()], show),
        make_command(lang, "config-init", [path_argument(), user_switch()], init),
        make_command(lang, "config-check", [path_argument(), user_switch()], check),
    ]
    for one in commands:
        one.name = (one.name or "").removeprefix("config-")
    return make_group(lang, "config", commands)


def _file(path: str, user: bool) -> Path:
    from review_agent.agent.config import user_config_file
    from review_agent.agent.session import CONFIG_NAME

    if user:
        return user_config_file()
    given = Path(path)
    return given / CONFIG_NAME if given.is_dir() else given
