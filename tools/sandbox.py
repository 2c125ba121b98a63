"""bubblewrap round a program that we start: it sees the repository, read-only, and system programs.

No network, no home, no `/proc`, no environment but ours, an empty `/tmp`; it ends with us.
https://github.com/containers/bubblewrap
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/home/linuxbrew",
    "/opt/homebrew",
)
_SETTINGS = (
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/magic",
)
_PROBE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`root` is what may be read; `hidden` are folders and files in it that must look empty.

    `readable` can be read besides, also where it lies in something hidden.
    """

    program: str
    root: Path
    hidden: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()

    def wrap(self, argv: Sequence[str], folder: Path) -> list[str]:
        """The command line that runs `argv`, its program as an absolute path, in `folder`."""
        options = [
            "--unshare-all",
            "--die-with-parent",
            "--new-session",
            "--cap-drop",
            "ALL",
            "--hostname",
            "review",
        ]
        for place in (*_SYSTEM, *_SETTINGS):
            options += _shown(Path(place))
        options += ["--dev-bind", "/dev/null", "/dev/null", "--tmpfs", "/tmp"]  # noqa: S108 - a name inside
        for path in _outermost([self.root, Path(argv[0])]):
            options += ["--ro-bind", str(path), str(path)]
        for path in self.hidden:
            if path.is_dir() and not path.is_symlink():
                options += ["--tmpfs", str(path)]
            elif path.exists():
                options += ["--ro-bind", "/dev/null", str(path)]
        for path in _outermost(self.readable):  # some of it in what was hidden
            options += ["--ro-bind", str(path), str(path)]
        for path in self.hidden:
            if path.is_dir() and not path.is_symlink():
                options += ["--remount-ro", str(path)]
        return [self.program, *options, "--chdir", str(folder), "--", *argv]


def _shown(place: Path) -> list[str]:
    if place.is_symlink():  # `/bin` is a link to `usr/bin`: the same link there
        return ["--symlink", os.readlink(place), str(place)]
    return ["--ro-bind-try", str(place), str(place)]


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Without those that lie in a system folder or in another one of them."""
    found: list[Path] = []
    for path in sorted(set(paths), key=lambda path: len(path.parts)):
        if not any(path.is_relative_to(outer) for outer in [*found, *map(Path, _SYSTEM)]):
            found.append(path)
    return found


def find_sandbox(
    root: Path, search: str, *, hidden: Iterable[Path] = (), readable: Iterable[Path] = ()
) -> Sandbox | None:
    """A sandbox that works here, found by running a program in it; None where there is none.

    `search` is a PATH. Containers and distributions that forbid user namespaces have bwrap, and it fails.
    """
    if not sys.platform.startswith("linux"):
        return None
    program, control = shutil.which("bwrap", path=search), shutil.which("true", path=search)
    if program is None or control is None:
        return None
    sandbox = Sandbox(program, root, tuple(hidden), tuple(readable))
    try:
        done = subprocess.run(  # noqa: S603 - `true`
            sandbox.wrap([control], root),
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return sandbox if done.returncode == 0 else None
