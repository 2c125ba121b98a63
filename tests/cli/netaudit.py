"""What a program does to the network, seen from outside: strace, a namespace without a network, a canary."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CALLS = "connect,sendto,sendmsg,sendmmsg,bind,socket,execve"
_SENT = re.compile(r"^(connect|sendto|sendmsg|sendmmsg|bind)\(")
_INET = re.compile(r'sin_port=htons\((\d+)\), sin_addr=inet_addr\("([\d.]+)"\)')
_INET6 = re.compile(r'sin6_port=htons\((\d+)\).*?inet_pton\(AF_INET6, "([^"]+)"')
_UNIX = re.compile(r'sa_family=AF_UNIX, sun_path=(@?"[^"]*")')
_SOCKET = re.compile(r"^socket\((\w+)")
_EXEC = re.compile(r'^execve\("([^"]+)".* = 0$')


@dataclass
class Trace:
    """`sent` and `bound` are (address, port) pairs; `unix` are paths connected to; `ran` are programs."""

    sent: set[tuple[str, int]] = field(default_factory=set)
    bound: set[tuple[str, int]] = field(default_factory=set)
    unix: set[str] = field(default_factory=set)
    families: set[str] = field(default_factory=set)
    ran: set[str] = field(default_factory=set)

    def read(self, line: str) -> None:
        if made := _SOCKET.match(line):
            self.families.add(made[1])
        elif started := _EXEC.match(line):
            self.ran.add(started[1])
        elif call := _SENT.match(line):
            self.unix |= set(_UNIX.findall(line))
            found = {(host, int(port)) for port, host in (*_INET.findall(line), *_INET6.findall(line))}
            if call[1] == "bind":
                self.bound |= found
            else:
                self.sent |= found


def read_trace(folder: Path) -> Trace:
    """What `strace -ff -o folder/t` wrote: a file a process, so that no line is cut in two."""
    trace = Trace()
    for file in sorted(folder.iterdir()):
        for line in file.read_text(errors="replace").splitlines():
            trace.read(line)
    return trace


def under_strace(folder: Path, argv: Sequence[str]) -> list[str]:
    require("strace")
    folder.mkdir()
    return ["strace", "-ff", "-qq", "-s", "64", "-e", f"trace={CALLS}", "-o", str(folder / "t"), *argv]


def without_network(argv: Sequence[str]) -> list[str]:
    """The command in a network namespace of its own, with nothing but a loopback interface."""
    require("unshare")
    alone = ["unshare", "-Urn", "--", sys.executable, str(Path(__file__).with_name("loopback.py"))]
    made = subprocess.run([*alone, "true"], capture_output=True)
    if made.returncode:
        _missing(f"no network namespace can be made: {made.stderr.decode().strip()}")
    return [*alone, *argv]


def unprivileged_mounts() -> None:
    made = subprocess.run(["unshare", "-Urm", "true"], capture_output=True)
    if made.returncode:
        _missing(f"no namespace for mounts can be made: {made.stderr.decode().strip()}")


def require(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            _missing(f"`{program}` is not installed")


def _missing(reason: str) -> None:
    if os.environ.get("CI") == "true":  # there, what shows that code stays here may not be left out
        pytest.fail(reason)
    pytest.skip(reason)


class Canary:
    """A port that nobody may connect to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    def hits(self) -> int:
        """Connections since the last call."""
        count = 0
        with suppress(BlockingIOError):
            while True:
                self._listener.accept()[0].close()
                count += 1
        return count

    def close(self) -> None:
        self._listener.close()
