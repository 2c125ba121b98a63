"""The private folder of a session with the `claude` program, and the script that starts the program."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from review_agent.agent.errors import EngineFault

LAUNCHER = Path(__file__).with_name("claude_launch.py")
PID_VARIABLE = "REVIEW_AGENT_PID"  # where the script notes the program's process id


def make_folder() -> Path:
    """An empty folder. Raises EngineFault where none can be made."""
    try:
        return Path(tempfile.mkdtemp(prefix="review-agent-", dir=_parent()))
    except OSError as exc:
        raise EngineFault("agent.no_folder", folder=_parent(), detail=str(exc)) from exc


def _parent() -> str:
    """Where the folder of a session is made. The model is told its path, so not below the user's home, which
    holds a name, where there is another place.
    """
    usual, other = tempfile.gettempdir(), "/tmp"  # noqa: S108 - mkdtemp makes a folder that is ours alone
    below_home = Path(usual).resolve().is_relative_to(Path.home().resolve())
    return other if below_home and os.access(other, os.W_OK | os.X_OK) else usual


def runs_programs(folder: Path) -> bool:
    """Whether a program may lie there: not on a file system that is mounted `noexec`."""
    return not os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0)


def put_launcher(folder: Path, can_run: Callable[[Path], bool] = runs_programs) -> Path:
    """A script that starts `claude_launch.py`: the SDK takes one path, and a path may hold spaces.

    It lies in `folder`, else in our state folder. Raises EngineFault where programs may lie in neither.
    The SDK keeps the process id to itself; a process keeps it over each `exec`.
    """
    words = shlex.join([sys.executable, "-I", "-S", str(LAUNCHER)])
    text = f'#!/bin/sh\necho $$ > "${PID_VARIABLE}"\nexec {words} "$@"\n'
    if can_run(folder):
        return _write(folder / "claude", text)
    from platformdirs import user_state_path

    other = user_state_path("review-agent")
    try:
        other.mkdir(mode=0o700, parents=True, exist_ok=True)
        if can_run(other):  # its text is the same each time: runs share it
            return _write(other / f"claude-{hashlib.sha256(text.encode()).hexdigest()[:16]}", text)
    except OSError as exc:
        raise EngineFault("agent.no_folder", folder=other, detail=str(exc)) from exc
    raise EngineFault("agent.noexec", folder=folder.parent, other=other)


def _write(script: Path, text: str) -> Path:
    """Whole or not at all: another run may be about to start it."""
    handle, name = tempfile.mkstemp(prefix=".claude-", dir=script.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).chmod(0o700)
    return Path(name).replace(script)
