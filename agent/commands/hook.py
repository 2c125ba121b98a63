"""`hook install|uninstall|run`: review what is pushed, before it is."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from review_agent.agent.cli import language, make_command, make_group
from review_agent.agent.commands.options import flags_of, setting_options
from review_agent.prompts import load, say

if TYPE_CHECKING:
    from review_agent.agent.settings import OnError, Settings
    from review_agent.tools.git_hooks import Place

HOOKS = ("pre-push",)
_RUN_SETTINGS = frozenset({"max_seconds", "fail_on", "max_files", "max_tokens", "lang"})


def command(lang: str) -> click.Command:
    path: list[click.Parameter] = [click.Argument(["path"], required=False, default=".", metavar="[PATH]")]
    pushed: list[click.Parameter] = [
        click.Argument(["hook"], type=click.Choice(HOOKS), metavar="|".join(HOOKS)),
        click.Argument(["remote"], required=False, default="", metavar="[REMOTE]"),
        click.Argument(["url"], required=False, default="", metavar="[URL]"),
        *setting_options(lang, _RUN_SETTINGS),
    ]
    commands = [
        make_command(lang, "install", path, _install),
        make_command(lang, "uninstall", path, _uninstall),
        make_command(lang, "run", pushed, _run),
    ]
    for each in commands:
        each.help = say(lang, "help", f"command_hook_{each.name}")
    return make_group(lang, "hook", commands)


@click.pass_obj
def _run(environ: Mapping[str, str], /, hook: str, remote: str, url: str, **given: object) -> int:
    lang = language(sys.argv[1:], environ)
    if environ.get("REVIEW_AGENT_SKIP") == "1":  # `main` has asked, where the words stand as git is told
        _say(lang, "skipped")
        return 0
    lines = ""
    if sys.stdin is not None and not sys.stdin.isatty():
        lines = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    if not lines.strip() and "PRE_COMMIT_REMOTE_BRANCH" not in environ:
        if not remote:  # git always names one
            _say(lang, "nothing_given")
        return 0  # everything is up to date
    from review_agent.agent.commands.hook_run import pre_push

    return pre_push(remote or url, lines, flags_of(given), environ, lang=lang)


@click.pass_obj
def _install(environ: Mapping[str, str], /, path: str) -> int:
    from review_agent.agent.session import Trusted, load_settings
    from review_agent.tools.git_hooks import install, place_of

    settings = load_settings({}, environ, Trusted()).settings
    lang = settings.lang
    place = place_of(_folder(path), environ)
    _reviewable(place, settings)
    program = _program(place, environ)
    done = install(place, script(program, place, lang, settings.on_error))
    _say(lang, str(done), path=place.hook)
    if os.path.lexists(place.kept):
        _say(lang, "kept", path=place.kept)
    if place.in_tree:
        _say(lang, "in_tree", folder=place.folder)
    if place.shared:
        _say(lang, "shared", folder=place.folder)
    _say(lang, "next_step")
    return 0


@click.pass_obj
def _uninstall(environ: Mapping[str, str], /, path: str) -> int:
    from review_agent.agent.session import Trusted, load_settings
    from review_agent.tools.git_hooks import place_of, uninstall

    lang = load_settings({}, environ, Trusted()).settings.lang
    place = place_of(_folder(path), environ)
    _say(lang, str(uninstall(place)), path=place.hook)
    if os.path.lexists(place.kept):
        _say(lang, "kept_left", path=place.kept)
    return 0


def _reviewable(place: Place, settings: Settings) -> None:
    """Raise GitError where each push would only be told that it cannot be reviewed."""
    from review_agent.agent.errors import GitError
    from review_agent.agent.target import Target

    if place.top is None:
        raise GitError("hook.bare", path=str(place.common))
    location = Target("tree", str(place.top), allowed=settings.allowed_directories).repository()
    if location is None or location.common.resolve() != place.common:
        raise GitError("hook.other_repository", git_dir=str(place.common))


def _folder(path: str) -> Path:
    from review_agent.agent.errors import UsageError

    if not os.path.isdir(path):
        raise UsageError("path_not_folder" if os.path.lexists(path) else "path_missing", path=path)
    return Path(path)


def _say(lang: str, key: str, **fields: object) -> None:
    from review_agent.agent.display import inline

    click.echo(inline(say(lang, "hook", key, **fields)), err=True)


def script(program: str, place: Place, lang: str, on_error: OnError) -> bytes:
    """The hook that git runs. `program` is the absolute path of the console script."""
    from review_agent.tools.git_hooks import KEPT, MARK, signed

    failed = say(lang, "hook", f"script_failed_{on_error}", program=program)
    fields = {
        "@WRITTEN@": say(lang, "hook", "script_written"),
        "@PROGRAM@": shlex.quote(program),
        "@KEPT@": KEPT,
        "@IF_KEPT@": '[ -f "$kept" ]' if place.husky else '[ -x "$kept" ]',
        "@RUN_KEPT@": 'sh -e "$kept"' if place.husky else '"$kept"',
        "@KEPT_FAILED@": shlex.quote(say(lang, "hook", "script_kept_failed", kept=KEPT)),
        "@SKIPPED@": shlex.quote(say(lang, "hook", "skipped")),
        "@FAILED@": shlex.quote(failed),
        "@ON_FAILURE@": "1" if on_error == "block" else "0",
    }
    lines = [line for line in load("pre-push.sh").splitlines(keepends=True) if line != "@MARK@\n"]
    # In one go: what one field holds is not looked at for others.
    text = re.sub("|".join(fields), lambda found: fields[found[0]], "".join(lines))
    assert MARK not in text  # noqa: S101 - else it would not know itself again
    return signed(text.encode("utf-8", "surrogateescape"))


def _program(place: Place, environ: Mapping[str, str]) -> str:
    """The installed command, never one that a branch of the repository could bring."""
    from review_agent.agent.errors import UsageError

    called = Path(sys.argv[0])
    candidates = [
        called.absolute() if called.name == "review-agent" else None,
        Path(sysconfig.get_path("scripts")) / "review-agent",
        Path(shutil.which("review-agent", path=environ.get("PATH")) or "/"),
    ]
    found = next(
        (path for path in candidates if path is not None and path.is_file() and os.access(path, os.X_OK)),
        None,
    )
    if found is None:
        raise UsageError("hook.program_unknown")
    for top in filter(None, (place.top, place.common)):
        for path in (found.absolute(), found.resolve()):
            if path.is_relative_to(top):
                raise UsageError("hook.program_in_tree", program=str(found), top=str(top))
    return str(found.absolute())
