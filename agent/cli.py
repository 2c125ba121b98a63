"""The command line: commands are found by name and imported when used; the one place that prints errors."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import pairwise

import click

from review_agent.agent.errors import ReviewError
from review_agent.agent.wording import sentence
from review_agent.prompts import DEFAULT_LANG, LANGS, say

COMMANDS = {
    "run": "review_agent.agent.commands.run",
    "resume": "review_agent.agent.commands.resume",
    "runs": "review_agent.agent.commands.runs",
    "report": "review_agent.agent.commands.report",
    "publish": "review_agent.agent.commands.publish",
    "audit": "review_agent.agent.commands.audit",
    "doctor": "review_agent.agent.commands.doctor",
    "models": "review_agent.agent.commands.models",
    "config": "review_agent.agent.commands.config_cli",
    "policy": "review_agent.agent.commands.policy",
    "route": "review_agent.agent.commands.route",
    "hook": "review_agent.agent.commands.hook",
}
INTERRUPTED = 130


class Localised(click.Command):
    """A command whose help is written in one language. Option texts come from `[help]`."""

    lang = DEFAULT_LANG

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        prefix = say(self.lang, "help", "usage_prefix")
        formatter.write_usage(ctx.command_path, " ".join(self.collect_usage_pieces(ctx)), prefix=prefix)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = (param.get_help_record(ctx) for param in self.get_params(ctx))
        self.write_table(formatter, "options_title", [row for row in records if row and row[1]])

    def write_table(self, formatter: click.HelpFormatter, title: str, rows: list[tuple[str, str]]) -> None:
        formatter.write_paragraph()
        formatter.write(say(self.lang, "help", title) + "\n")
        with formatter.indentation():
            formatter.write_dl(rows)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.help = say(self.lang, "help", "help")
        return option


class LocalisedGroup(Localised, click.Group):
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        Localised.format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, self.summary_of(name)) for name in self.list_commands(ctx)]
        self.write_table(formatter, "commands_title", rows)

    def summary_of(self, name: str) -> str:
        command = self.commands.get(name)
        return (command.help or "").split("\n", 1)[0] if command is not None else ""


class Root(LocalisedGroup):
    """The top command. Its sub-commands are imported only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = import_module(module).command(self.lang)
        return command

    def summary_of(self, name: str) -> str:
        return say(self.lang, "help", f"command_{name}").split("\n", 1)[0]


def make_command(lang: str, name: str, params: list[click.Parameter], callback: object) -> Localised:
    """A localised command `name`; its help is `[help] command_<name>`."""
    if not any(param.name == "lang" for param in params):
        params = [*params, _lang_option(lang, hidden=True)]
    command = Localised(
        name,
        params=params,
        callback=callback,  # type: ignore[arg-type]
        help=say(lang, "help", f"command_{name.replace('-', '_')}"),
        options_metavar=say(lang, "help", "options_metavar"),
    )
    command.lang = lang
    return command


def make_group(lang: str, name: str, commands: Sequence[click.Command]) -> LocalisedGroup:
    group = LocalisedGroup(
        name,
        commands={command.name or "": command for command in commands},
        help=say(lang, "help", f"command_{name}"),
        options_metavar=say(lang, "help", "options_metavar"),
        subcommand_metavar=say(lang, "help", "subcommand_metavar"),
    )
    group.lang = lang
    return group


def language(argv: Sequence[str], environ: Mapping[str, str]) -> str:
    """The language of help and errors, before any configuration was read."""
    for at, word in enumerate(argv):
        if word == "--":
            break
        value = argv[at + 1] if word == "--lang" and at + 1 < len(argv) else word.removeprefix("--lang=")
        if word.startswith("--lang") and value in LANGS:
            return value
    wanted = environ.get("REVIEW_AGENT_LANG", "")
    return wanted if wanted in LANGS else DEFAULT_LANG


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command line; returns its exit code. Nothing a user does wrong ends in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a GBK terminal cannot show everything; it must not stop us
            stream.reconfigure(errors="backslashreplace")
    lang = language(argv, environ)
    root = Root(
        "review-agent",
        params=[_version_option(lang), _lang_option(lang)],
        help=say(lang, "help", "command_root"),
        options_metavar=say(lang, "help", "options_metavar"),
        subcommand_metavar=say(lang, "help", "subcommand_metavar"),
        no_args_is_help=True,
    )
    root.lang = lang
    code = guarded(
        lambda: root.main(list(argv), prog_name="review-agent", standalone_mode=False, obj=environ), lang
    )
    in_hook = any(pair == ("hook", "run") for pair in pairwise(argv))
    return min(code, 1) if in_hook else code  # git, and pre-commit, know no more than yes and no


def guarded(action: Callable[[], object], lang: str) -> int:
    """The exit code of an action. What goes wrong in it is said here, and is one, too."""
    try:
        result = action()
        return result if isinstance(result, int) else 0
    except ReviewError as exc:
        complain(sentence(exc, lang), lang)
        return exc.exit_code
    except click.exceptions.NoArgsIsHelpError as exc:
        click.echo(exc.ctx.get_help() if exc.ctx else "", err=True)
        return 2
    except click.ClickException as exc:
        complain(_usage_sentence(exc, lang), lang)
        return 2
    except (click.Abort, KeyboardInterrupt):
        complain(say(lang, "errors", "interrupted"), lang)
        return INTERRUPTED
    except Exception as exc:  # noqa: BLE001 - a fault of ours: one line, the failing exit code, no traceback
        complain(say(lang, "errors", "internal", kind=type(exc).__name__, detail=str(exc)[:300]), lang)
        return ReviewError.exit_code


def complain(text: str, lang: str) -> None:
    from review_agent.agent.display import terminal_text
    from review_agent.tools.redact import mask  # what other programs say may repeat what they were given

    click.echo(terminal_text(mask(say(lang, "errors", "prefix", text=text))), err=True)


def _version_option(lang: str) -> click.Option:
    def show(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            from review_agent.agent.version import __version__

            click.echo(f"review-agent {__version__}")
            ctx.exit()

    return click.Option(
        ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=show,
        help=say(lang, "help", "version"),
    )  # fmt: skip


def _lang_option(lang: str, *, hidden: bool = False) -> click.Option:
    """Accepted before and after every command; `language` has read it already."""
    return click.Option(
        ["--lang"], type=click.Choice(LANGS), metavar="|".join(LANGS), expose_value=False, hidden=hidden,
        help=say(lang, "config", "lang"),
    )  # fmt: skip


def _usage_sentence(exc: click.ClickException, lang: str) -> str:
    """click's own usage errors in our words."""
    if isinstance(exc, click.NoSuchOption):
        near = "、".join(exc.possibilities or ()) if lang == "zh-CN" else ", ".join(exc.possibilities or ())
        key = "no_such_option_near" if near else "no_such_option"
        return say(lang, "errors", key, option=exc.option_name, near=near)
    if isinstance(exc, click.MissingParameter):
        name = exc.param.human_readable_name if exc.param is not None else ""
        return say(lang, "errors", "missing_argument", name=name)
    if isinstance(exc, click.BadParameter):
        name = exc.param.opts[0] if exc.param is not None and exc.param.opts else ""
        return say(lang, "errors", "bad_parameter", name=name)
    if isinstance(exc, click.BadOptionUsage):
        return say(lang, "errors", "bad_option_usage", option=exc.option_name)
    message = exc.format_message()
    if extra := re.search(r"\((.*)\)$", message):
        return say(lang, "errors", "unexpected_argument", word=extra.group(1))
    words = message.rsplit("'", 2)
    return say(lang, "errors", "bad_usage", word=words[1] if len(words) == 3 else message)
