"""A share in a model that a server holds in memory, so that it is unloaded once, by the last of our runs."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

_OURS = b"loaded by review-agent\n"


class Lease:
    """This run's share in one model of one server.

    Every run on this machine holds the same file with a shared lock while it uses the model; what the file
    says is whether one of us made the server load it. `state` is the folder for those files; None: this
    run's own knowledge decides. `wait` is in seconds: longer than another run keeps the file to itself.
    """

    def __init__(self, state: Path | None, server: str, model: str, *, wait: float = 15.0) -> None:
        name = hashlib.sha256(f"{server}\0{model}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._path = state / "engines" / f"{name}.lock" if state is not None else None
        self._wait = wait
        self._fd = -1
        self._ours = False

    async def take(self, is_loaded: Callable[[], Awaitable[bool]]) -> None:
        """Hold a share. `is_loaded` is asked before anything else of ours can load the model."""
        if self._path is None:
            self._ours = not await is_loaded()
            return
        try:
            await self._take(self._path, is_loaded)
        except OSError:  # no such folder, or a file system without locks: then nobody knows who else is there
            self.drop()

    async def _take(self, path: Path, is_loaded: Callable[[], Awaitable[bool]]) -> None:
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        alone = self._lock(exclusive=True)
        if alone:
            os.ftruncate(self._fd, 0)  # what a run that was killed had written
        elif not await self._share():
            self.drop()
            return
        if not await is_loaded():
            os.pwrite(self._fd, _OURS, 0)
        if alone:
            self._lock(exclusive=False)

    async def _share(self) -> bool:
        """Others have the file to themselves only for a moment: while they come in or unload."""
        for _ in range(int(self._wait / 0.1)):
            if self._lock(exclusive=False):
                return True
            await asyncio.sleep(0.1)
        return False

    def last(self) -> bool:
        """Whether no other run holds a share and one of us had the model loaded.

        From then on until `drop` a run that begins waits.
        """
        if self._path is None:
            ours, self._ours = self._ours, False
            return ours
        try:
            if self._fd < 0 or not self._lock(exclusive=True):
                return False
            ours = bool(os.pread(self._fd, 1, 0))
            os.ftruncate(self._fd, 0)
        except OSError:
            return False
        return ours

    def drop(self) -> None:
        """Give the share back; nothing is held afterwards."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _lock(self, *, exclusive: bool) -> bool:
        import fcntl  # not on Windows, where nothing may fail at import

        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
