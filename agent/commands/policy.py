"""`policy test`: whether a command or a path is allowed, and why; with `--run`, what a command gives."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from review_agent.agent.cli import make_command, make_group
from review_agent.agent.errors import CommandRefused, FileRefused, UsageError
from review_agent.prompts import say

if TYPE_CHECKING:
    from review_agent.tools.files import FileGate
    from review_agent.tools.shell import CommandGate
    from review_agent.tools.shell_run import CommandRunner, Ran

_MAX_BYTES = 64 * 1024 * 1024


def command(lang: str) -> click.Command:
    def option(name: str, metavar: str) -> click.Option:
        return click.Option(
            [f"--{name}", name],
            multiple=name != "commands",
            metavar=metavar,
            help=say(lang, "help", f"policy_{name}"),
        )

    params: list[click.Parameter] = [
        click.Argument(["path"], required=False, default=".", metavar="[PATH]"),
        option("command", "CMD"),
        click.Option(["--path", "paths"], multiple=True, metavar="P", help=say(lang, "help", "policy_path")),
        option("commands", "FILE|-"),
        click.Option(["--run", "execute"], is_flag=True, help=say(lang, "help", "policy_run")),
        click.Option(["--allow-commands"], is_flag=True, help=say(lang, "config", "allow_commands")),
    ]
    test = make_command(lang, "policy-test", params, _callback(lang))
    test.name = "test"
    return make_group(lang, "policy", [test])


@dataclass(frozen=True, slots=True)
class Question:
    id: str | int
    text: str
    is_path: bool = False


def _callback(lang: str) -> object:
    @click.pass_obj
    def test(environ: Mapping[str, str], /, **given: object) -> int:
        from review_agent.agent.display import json_text
        from review_agent.agent.policy import command_gate, command_runner, file_gate
        from review_agent.agent.session import load_settings, read_trusted, trusting
        from review_agent.agent.target import make_target
        from review_agent.tools.git import Repository

        questions = list(_questions(given))
        target = trusting(make_target(Path(str(given["path"]))), environ)
        flags = {"allow_commands": True} if given["allow_commands"] else {}
        settings = load_settings(flags, environ, read_trusted(target)).settings
        location = target.repository()
        root = location.root if location is not None else Path(target.root).resolve()
        judge = _Judge(file_gate(root, settings), command_gate(root, settings), lang)
        with ExitStack() as closing:
            if given["execute"]:
                repo = closing.enter_context(Repository(location)) if location is not None else None
                git = repo.calling() if repo is not None else None
                judge.runner = command_runner(root, settings, environ, git)
            for question in questions:
                click.echo(json_text(json.dumps(judge.answer(question), ensure_ascii=False)))
        return 0

    return test


def _questions(given: Mapping[str, object]) -> Iterator[Question]:
    asked = [*_texts(given["command"]), *_texts(given["paths"])]
    commands = len(_texts(given["command"]))
    for number, text in enumerate(asked, start=1):
        yield Question(str(number), text, is_path=number > commands)
    if given["commands"] is not None:
        yield from _read(str(given["commands"]))
    elif not asked:
        raise UsageError("policy.nothing_asked")


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def _read(name: str) -> Iterator[Question]:
    """Lines `{"id", "cmd"}`, empty ones passed over. Checked by hand: pydantic refuses lone surrogates."""
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as source:
            data = source.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise UsageError("policy.commands_unreadable", file=name, detail=exc.strerror or "") from exc
    if len(data) > _MAX_BYTES:  # a device has no end
        raise UsageError("policy.commands_too_large", file=name, limit=f"{_MAX_BYTES >> 20} MiB")
    for number, raw in enumerate(data.split(b"\n"), start=1):
        if not raw.strip():
            continue
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError) as exc:
            raise UsageError("policy.commands_form", file=name, line=number) from exc
        fits = (
            isinstance(line, dict)
            and isinstance(line.get("id"), str | int)
            and isinstance(line.get("cmd"), str)
        )
        if not fits:
            raise UsageError("policy.commands_form", file=name, line=number)
        yield Question(line["id"], line["cmd"])


@dataclass
class _Judge:
    files: FileGate
    commands: CommandGate
    lang: str
    runner: CommandRunner | None = None

    def answer(self, question: Question) -> dict[str, object]:
        from review_agent.agent.policy import refusal

        try:
            reason, more = self._path(question.text) if question.is_path else self._command(question.text)
        except (CommandRefused, FileRefused) as exc:
            return {"id": question.id, "verdict": "deny", "reason": refusal(exc, self.lang)}
        return {"id": question.id, "verdict": "allow", "reason": reason, **more}

    def _path(self, path: str) -> tuple[str, dict[str, object]]:
        if path.endswith("/"):
            self.files.list(path)
        else:
            self.files.read(path)
        return say(self.lang, "policy", "path_allowed"), {}

    def _command(self, source: str) -> tuple[str, dict[str, object]]:
        steps = self.commands.plan(source)
        programs = dict.fromkeys(_title(process.argv) for step in steps for process in step.processes)
        reason = say(self.lang, "policy", "allowed", programs=", ".join(programs))
        return reason, _outcome(self.runner.run(source)) if self.runner is not None else {}


def _outcome(ran: Ran) -> dict[str, object]:
    from review_agent.tools.redact import mask

    return {
        "exit_code": ran.exit_code,
        "stdout": mask(ran.stdout.decode("utf-8", "replace")),
        "stderr": mask(ran.stderr.decode("utf-8", "replace")),
        "truncated": ran.truncated,
        "timed_out": ran.timed_out,
        "sandbox": "bubblewrap" if ran.sandboxed else "none",
    }


def _title(argv: tuple[str, ...]) -> str:
    if argv[0] != "git":
        return argv[0]
    return f"git {next((word for word in argv[1:] if not word.startswith('-')), '')}".strip()
