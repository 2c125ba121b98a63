"""One run of git: an environment of ours, bounded time and output, nothing left behind.

GitPython is the process runner.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from review_agent.agent.errors import GitError
from review_agent.tools.programs import find_program, trusted_folders

if TYPE_CHECKING:
    from git import Git

_CHUNK = 1024 * 1024
_MAX_COMPLAINT = 64 * 1024  # bytes of stderr that are kept
_IMPORTING = threading.Lock()
_SETTINGS = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ALLOW_PROTOCOL": "none",  # a git that knows no GIT_NO_LAZY_FETCH has no way to fetch either
    "LANG": "C",
    "LC_ALL": "C",
    "LANGUAGE": "C",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one git command may take: seconds, and bytes of output."""

    seconds: float = 120.0
    output: int = 512 * 1024 * 1024


USUAL = Bounds()


@dataclass(frozen=True, slots=True)
class Program:
    """git, and `env` that starts it with nothing but `variables`. Both are absolute paths."""

    git: str
    env: str
    variables: tuple[str, ...]

    def argv(self, args: Sequence[str]) -> list[str]:
        # GitPython adds its `env` to the whole of this process's variables, and to take those out of
        # `os.environ` meanwhile would take them from other threads too. `env -i` starts from nothing.
        return [self.env, "-i", *self.variables, self.git, *args]


def program(reviewed: Path, private: Path) -> Program:
    """The git of the caller's PATH, never one of the reviewed repository. Raises GitError("git_missing")."""
    folders = trusted_folders(os.environ.get("PATH", os.defpath), reviewed)
    git, env = (find_program(name, folders, reviewed) for name in ("git", "env"))
    if git is None or env is None or "=" in git:  # `env` would take it for a variable
        raise GitError("git_missing")
    home = str(private)
    variables = {"PATH": os.pathsep.join(folders), "HOME": home, "TMPDIR": home, **_SETTINGS}
    return Program(git, env, tuple(f"{name}={value}" for name, value in variables.items()))


def execute(
    program: Program, args: Sequence[str], folder: Path, stdin: bytes | None, bounds: Bounds, command: str
) -> tuple[int, bytes, str]:
    """Exit code, stdout and the start of stderr. Raises GitError past the bounds and where git cannot start.

    `command` names it in errors.
    """
    runner = _runner(program.git)(str(folder))
    try:
        with _stdin(stdin) as source:
            # A session of its own: no terminal to ask on, and one group to end with all that it started.
            running = runner.execute(
                program.argv(args), istream=source, as_process=True, start_new_session=True
            )
    except OSError as exc:
        raise GitError("git_failed", command=command, detail=exc.strerror or "") from exc
    process = running.proc
    if process is None:  # never, by GitPython's own words; its type allows it
        raise GitError("git_failed", command=command, detail="")
    try:
        out, err = _read(process, bounds, command)
    finally:
        _end(process)
    return process.returncode, out, err.decode(errors="replace")


def _read(process: subprocess.Popen[bytes], bounds: Bounds, command: str) -> tuple[bytes, bytes]:
    """Both streams to their end, and git to its own."""
    deadline = time.monotonic() + bounds.seconds
    out: list[bytes] = []
    err = b""
    size = 0
    with selectors.DefaultSelector() as streams:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                streams.register(stream, selectors.EVENT_READ)
        while streams.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise GitError("git_too_slow", command=command, seconds=round(bounds.seconds, 1))
            for key, _ in streams.select(left):
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    streams.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    err += chunk[: _MAX_COMPLAINT - len(err)]
                else:
                    out.append(chunk)
                    size += len(chunk)
                    if size > bounds.output:
                        raise GitError("git_too_much_output", command=command)
    try:
        process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as exc:
        raise GitError("git_too_slow", command=command, seconds=round(bounds.seconds, 1)) from exc
    return b"".join(out), err


def _end(process: subprocess.Popen[bytes]) -> None:
    """git and whatever it started are gone after this; its pipes are closed."""
    if process.returncode is None:  # not waited for, so its number cannot be another's yet
        with suppress(ProcessLookupError, PermissionError):  # what macOS says of a group that has just ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _runner(git: str) -> type[Git]:
    """GitPython's command class. On its import GitPython runs `git version`: the git we name, not PATH's."""
    if "git.cmd" not in sys.modules:
        with _IMPORTING, _variable("GIT_PYTHON_GIT_EXECUTABLE", git):
            _load()
    return _load()


def _load() -> type[Git]:
    try:
        from git import Git
    except ImportError as exc:
        raise GitError("git_missing") from exc
    return Git


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


@contextmanager
def _stdin(data: bytes | None) -> Iterator[BinaryIO]:
    if data is None:
        with open(os.devnull, "rb") as source:
            yield source
        return
    with tempfile.TemporaryFile() as source:
        source.write(data)
        source.seek(0)
        yield source
