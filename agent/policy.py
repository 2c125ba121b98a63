"""What tools may read and run in a reviewed folder, by the user's settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from review_agent.agent.errors import CommandRefused, FileRefused
from review_agent.agent.settings import Settings
from review_agent.agent.wording import sentence
from review_agent.prompts import say
from review_agent.tools.files import FileGate
from review_agent.tools.git import Calling
from review_agent.tools.shell import CommandGate
from review_agent.tools.shell_run import CommandRunner


def file_gate(root: Path, settings: Settings) -> FileGate:
    allowed = [Path(entry).expanduser() for entry in settings.allowed_directories]
    return FileGate(root, max_file_size=settings.max_file_size, allowed_directories=allowed)


def command_gate(root: Path, settings: Settings) -> CommandGate:
    return CommandGate(file_gate(root, settings), settings.blocked_commands)


def command_runner(
    root: Path, settings: Settings, environ: Mapping[str, str], git: Calling | None
) -> CommandRunner:
    """Raises CommandRefused where the user has not allowed commands."""
    if not settings.allow_commands:
        raise CommandRefused("policy.commands_off")
    return CommandRunner(
        command_gate(root, settings),
        root,
        search=environ.get("PATH", os.defpath),
        timeout=settings.bash_timeout,
        git=git,
    )


def refusal(exc: CommandRefused | FileRefused, lang: str) -> str:
    """Why, as a sentence. A path's reason is one of `[reasons]`."""
    if isinstance(exc, FileRefused):
        return say(lang, "policy", "path_refused", path=exc.fields.get("path", ""), why=sentence(exc, lang))
    if cause := exc.fields.get("cause"):
        why = say(lang, "reasons", str(cause))
        return say(lang, "policy", "path", path=exc.fields.get("path", ""), why=why)
    return sentence(exc, lang)
