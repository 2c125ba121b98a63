"""The command gate: judges a command line of the model, and runs the allowed ones without a shell."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from review_agent.agent.errors import CommandRefused, FileRefused
from review_agent.tools.command_rules import arguments, rule_of
from review_agent.tools.command_special import special
from review_agent.tools.files import FileGate
from review_agent.tools.shell_grammar import Command, Operator, Pipeline, Redirect, Word, parse

_MAX_MATCHES = 1000  # of all globs of a command line
_MAX_LOOKS = 100_000  # names looked at for them: `*/../*/../*` goes round and round
_MAX_PARTS = 30
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Process:
    """One program to start: `argv` with the bare name first, no shell in between."""

    argv: tuple[str, ...]
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """Processes joined by pipes. `folder` is where they run, relative to the root, "" for the root itself."""

    after: Operator
    processes: tuple[Process, ...]
    folder: str = ""


class CommandGate:
    """Which command lines may run below the root of `files`. `blocked` are texts that refuse any."""

    def __init__(self, files: FileGate, blocked: Sequence[str] = ()) -> None:
        self._files = files
        self._blocked = [_squeezed(text) for text in blocked if text.strip()]

    def plan(self, source: str) -> tuple[Step, ...]:
        """What running `source` would start. Raises CommandRefused with the reason as its key."""
        for text in self._blocked:
            if text in _squeezed(source):
                raise CommandRefused("policy.blocked", text=text)
        steps: list[Step] = []
        effort = _Effort()
        folder, before = "", None
        moving = True
        for pipeline in parse(source):
            if self._is_cd(pipeline):  # only at the start, so that there is one place to be
                alone = len(pipeline.commands) == 1 and not pipeline.commands[0].redirects
                if not moving or not alone or pipeline.after not in ("", "&&"):
                    raise CommandRefused("policy.cd_place")
                folder, before = self._entered(pipeline.commands[0], folder), folder
                continue
            if moving and before is not None and pipeline.after != "&&":
                if pipeline.after != ";" or before:
                    raise CommandRefused("policy.cd_place")
            elif moving:
                before = None
            moving = False
            if before is not None:  # behind `;`, bash would go on where it was, had there been no such folder
                self._step(pipeline, _View(self._files, before, effort), first=not steps)
            view = _View(self._files, folder, effort)
            steps.append(self._step(pipeline, view, first=not steps))
        if not steps:
            raise CommandRefused("policy.cd_alone")
        return tuple(steps)

    def _step(self, pipeline: Pipeline, view: _View, *, first: bool) -> Step:
        processes = [
            self._process(command, view, piped=at > 0) for at, command in enumerate(pipeline.commands)
        ]
        return Step("" if first else pipeline.after, tuple(processes), view.folder)

    def _process(self, command: Command, view: _View, *, piped: bool) -> Process:
        name = command.words[0]
        if name.text == "[":
            return self._process(_as_test(command), view, piped=piped)
        if name.pattern or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name.text):
            raise CommandRefused("policy.command", name=name.text)
        rule = rule_of(name.text)
        words = [text for word in command.words[1:] for text in view.expand(word)]
        if words == ["--version"] and not rule.special:
            return Process((rule.name, *words), command.redirects)
        check = special if rule.special else arguments
        return Process(
            (*(rule.runs or (rule.name,)), *check(rule, words, view, piped=piped)), command.redirects
        )

    @staticmethod
    def _is_cd(pipeline: Pipeline) -> bool:
        return any(command.words[0].text == "cd" for command in pipeline.commands)

    def _entered(self, command: Command, folder: str) -> str:
        words = [word.text for word in command.words[1:] if word.text != "--"]
        if len(words) != 1 or words[0].startswith("-") or any(word.pattern for word in command.words):
            raise CommandRefused("policy.cd_place")
        view = _View(self._files, folder, _Effort())
        view.check(words[0])
        return view.inside(words[0])


def _as_test(command: Command) -> Command:
    """`[ -f x ]` as `test -f x`, which is a program everywhere."""
    *words, last = command.words[1:]
    if last.text != "]":
        raise CommandRefused("policy.syntax")
    return Command((Word("test"), *words), command.redirects)


@dataclass
class _Effort:
    """What the globs of a command line have cost so far."""

    matches: int = 0
    looks: int = 0

    def add(self, pattern: str, *, matches: int = 0, looks: int = 0) -> None:
        self.matches += matches
        self.looks += looks
        if self.matches > _MAX_MATCHES or self.looks > _MAX_LOOKS:
            raise CommandRefused("policy.too_many_matches", pattern=pattern, limit=_MAX_MATCHES)


class _View:
    """Paths as a program sees them that runs in `folder`."""

    def __init__(self, files: FileGate, folder: str, effort: _Effort) -> None:
        self._files = files
        self._effort = effort
        self.folder = folder

    def inside(self, path: str) -> str:
        return path if path.startswith("/") or not self.folder else f"{self.folder}/{path}"

    def check(self, path: str) -> None:
        if not path:
            raise CommandRefused("policy.path", path=path, cause="not_found")
        try:
            self._files.check(self.inside(path))
        except FileRefused as exc:
            raise CommandRefused("policy.path", path=path, cause=exc.key) from exc

    def check_all(self) -> None:
        try:
            self._files.check("")
        except FileRefused as exc:
            raise CommandRefused("policy.path", path=".", cause=exc.key) from exc

    def expand(self, word: Word) -> list[str]:
        """The names that a glob matches, as bash gives them; the word itself when there are none."""
        if not word.pattern or word.text.startswith("-"):
            return [word.text]
        found: list[str] = []
        base, parts = "/" if word.text.startswith("/") else "", _components(word.pattern)
        if len(parts) > _MAX_PARTS:
            raise CommandRefused("policy.too_many_matches", pattern=word.text, limit=_MAX_MATCHES)
        for name in self._matches(base, parts, word.text):
            self._effort.add(word.text, matches=1)
            found.append(name)
        found.sort()
        return [f"./{name}" if name.startswith("-") else name for name in found] or [word.text]

    def _matches(self, base: str, patterns: Sequence[str], asked: str) -> Iterator[str]:
        if not patterns:
            if self._stands(base, asked):
                yield base
            return
        pattern, rest = patterns[0], patterns[1:]
        if not _GLOB.search(pattern):
            yield from self._matches(f"{base}{pattern}{'/' if rest else ''}", rest, asked)
            return
        only_folders = bool(rest) or asked.endswith("/")
        match = re.compile(fnmatch.translate(pattern.replace("[^", "[!"))).match
        for name in self._names(base, asked):
            plain = name.removesuffix("/")
            if not match(plain) or (plain.startswith(".") and not pattern.startswith(".")):
                continue
            if not only_folders:
                yield base + plain
            elif name.endswith("/"):
                yield from self._matches(f"{base}{plain}/", rest, asked)

    def _stands(self, path: str, asked: str) -> bool:
        """Whether a name that we put together is there. One that may not be read counts, to be refused."""
        self._effort.add(asked, looks=10 + 10 * path.count("/"))
        try:
            self._files.git_mode(self.inside(path))
        except FileRefused as exc:
            return exc.key != "not_found"
        return True

    def _names(self, base: str, asked: str) -> list[str]:
        try:
            names = self._files.list(self.inside(base or "."))
        except FileRefused:
            names = []
        self._effort.add(
            asked, looks=10 + 10 * base.count("/") + len(names)
        )  # each folder on the way is opened
        return names


def _components(pattern: str) -> list[str]:
    """The parts of a glob between slashes; neighbours that are plain names are one part."""
    parts: list[str] = []
    plain = False
    for part in filter(None, pattern.split("/")):
        was_plain, plain = plain, not _GLOB.search(part)
        if was_plain and plain:
            parts[-1] += f"/{part}"
        else:
            parts.append(part)
    return parts


def _squeezed(text: str) -> str:
    return " ".join(text.casefold().split())


__all__ = ["Command", "CommandGate", "Process", "Step"]
