"""Runs a planned command line within bounds: argument lists, no shell, in the sandbox where there is one."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from review_agent.agent.errors import CommandRefused
from review_agent.tools.git import Calling
from review_agent.tools.programs import find_program, trusted_folders
from review_agent.tools.sandbox import Sandbox, find_sandbox
from review_agent.tools.shell import CommandGate, Process, Step

MAX_OUTPUT = 256 * 1024
MAX_COMPLAINT = 16 * 1024
# Memory of a program's own, file contents aside; the size of a file it writes (none), and of a core dump.
_LIMITS = ("--data=1073741824", "--fsize=0", "--core=0")
_TICK = 0.02  # seconds between looks at whether the processes have ended
_ENVIRONMENT = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "TERM": "dumb"}


@dataclass(frozen=True, slots=True)
class Ran:
    """`exit_code` is that of the last program; None when the command was ended by a bound."""

    exit_code: int | None
    stdout: bytes
    stderr: bytes
    truncated: bool
    timed_out: bool
    sandboxed: bool


class CommandRunner:
    """`run_command`: what the gate allows below `root`, for at most `timeout` seconds, one at a time."""

    def __init__(
        self,
        gate: CommandGate,
        root: Path,
        *,
        search: str,
        timeout: float,
        git: Calling | None = None,
        max_output: int = MAX_OUTPUT,
        sandboxed: bool = True,
    ) -> None:
        self._gate = gate
        self._root = Path(os.path.realpath(root))
        self._folders = trusted_folders(search, root)
        self._timeout = timeout
        limiter = find_program("prlimit", self._folders, self._root)  # of util-linux
        self._limited = [limiter, *_LIMITS, "--"] if limiter is not None else []
        self._git = git
        self._max_output = max_output
        readable = git.readable if git is not None else ()
        self._sandbox: Sandbox | None = (
            find_sandbox(self._root, self._search, hidden=[self._root / ".git"], readable=readable)
            if sandboxed
            else None
        )

    @property
    def _search(self) -> str:
        return os.pathsep.join(self._folders)

    @property
    def sandboxed(self) -> bool:
        return self._sandbox is not None

    def run(self, source: str) -> Ran:
        """Blocks until done. Raises CommandRefused. The exit code is the last step's, as in bash."""
        steps, prepared = self._prepared(source)
        with _Output(self._max_output, time.monotonic() + self._timeout) as output:
            code = 0
            for step, argvs in zip(steps, prepared, strict=True):
                if (step.after == "&&" and code) or (step.after == "||" and not code):
                    continue
                code = self._run_step(step, argvs, output)
                if output.ended:
                    break
            output.drain()
            return Ran(
                exit_code=None if output.ended else code,
                stdout=bytes(output.stdout),
                stderr=bytes(output.stderr),
                truncated=output.truncated,
                timed_out=output.timed_out,
                sandboxed=self.sandboxed,
            )

    def check(self, source: str) -> None:
        """Raises what `run` would, and starts nothing."""
        self._prepared(source)

    def _prepared(self, source: str) -> tuple[Sequence[Step], list[list[list[str]]]]:
        steps = self._gate.plan(source)
        prepared = [[self._argv(process) for process in step.processes] for step in steps]
        for folder in {step.folder for step in steps}:
            if not (self._root / folder).is_dir():
                raise CommandRefused("policy.path", path=folder, cause="not_found")
        return steps, prepared

    def _argv(self, process: Process) -> list[str]:
        name, *rest = process.argv
        program = find_program(name, self._folders, self._root)
        if program is None:
            raise CommandRefused("policy.not_installed", name=name)
        if name != "git":
            return [program, *rest]
        if self._git is None:
            raise CommandRefused("policy.no_repository")
        return [program, *self._git.options, *rest]

    def _run_step(self, step: Step, argvs: Sequence[Sequence[str]], output: _Output) -> int:
        folder = self._root / step.folder
        running: list[subprocess.Popen[bytes]] = []
        try:
            with ExitStack() as ends:
                source = ends.enter_context(open(os.devnull, "rb")).fileno()
                for at, (process, argv) in enumerate(zip(step.processes, argvs, strict=True)):
                    if at + 1 < len(argvs):
                        reader, writer = os.pipe()
                    else:
                        reader, writer = -1, os.dup(output.write_out)
                    ends.callback(os.close, writer)
                    running.append(self._start(process, argv, folder, source, writer, output.write_err))
                    source = reader
                    if reader >= 0:
                        ends.callback(os.close, reader)
            output.collect(running)
        finally:
            for one in running:
                _end(one)
        return running[-1].returncode

    def _start(
        self, process: Process, argv: Sequence[str], folder: Path, source: int, writer: int, errors: int
    ) -> subprocess.Popen[bytes]:
        out, err = writer, errors
        for redirect in process.redirects:
            match redirect:
                case "2>&1":
                    err = out
                case ">&2":
                    out = err
                case ">/dev/null":
                    out = subprocess.DEVNULL
                case "2>/dev/null":
                    err = subprocess.DEVNULL
                case "&>/dev/null":
                    out = err = subprocess.DEVNULL
        environment = {**_ENVIRONMENT, "PATH": self._search}
        if process.argv[0] == "git" and self._git is not None:
            environment = {**environment, **self._git.environment}
        line = self._sandbox.wrap(argv, folder) if self._sandbox is not None else list(argv)
        try:
            return subprocess.Popen(  # noqa: S603 - what the gate planned
                [*self._limited, *line],
                stdin=source,
                stdout=out,
                stderr=err,
                cwd=folder,
                env=environment,
                start_new_session=True,  # so that all of it can be ended
            )
        except OSError as exc:  # too many arguments, out of processes
            name = process.argv[0]
            raise CommandRefused("policy.not_started", name=name, detail=exc.strerror or "") from exc


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started. Its number is still its own: nobody has waited for it elsewhere."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass
class _Output:
    """What the programs of a run write, read as it comes and cut at `limit` bytes."""

    limit: int
    deadline: float
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    truncated: bool = False
    timed_out: bool = False

    def __enter__(self) -> _Output:
        self._out, self.write_out = os.pipe()
        self._err, self.write_err = os.pipe()
        self._selector = selectors.DefaultSelector()
        for end, kept, limit in (
            (self._out, self.stdout, self.limit),
            (self._err, self.stderr, MAX_COMPLAINT),
        ):
            os.set_blocking(end, False)
            self._selector.register(end, selectors.EVENT_READ, (kept, limit))
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for end in (self._out, self.write_out, self._err, self.write_err):
            os.close(end)

    @property
    def ended(self) -> bool:
        return self.truncated or self.timed_out

    def collect(self, running: Sequence[subprocess.Popen[bytes]]) -> None:
        """Read until every process has ended, the time is over or there is too much."""
        while any(process.poll() is None for process in running):
            self._read(_TICK)
            self.timed_out = time.monotonic() > self.deadline
            if self.ended:
                return

    def drain(self) -> None:
        while self._read(0):
            pass

    def _read(self, seconds: float) -> bool:
        got = False
        for key, _ in self._selector.select(seconds):
            kept, limit = key.data
            data = os.read(key.fd, 65536)
            got = got or bool(data)
            room = limit - len(kept)
            kept += data[:room]
            if len(data) > room and kept is self.stdout:
                self.truncated = True
        return got and not self.truncated
