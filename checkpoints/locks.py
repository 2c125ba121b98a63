"""Run locks: one file per run, locked while its process lives. The system lets go of a dead one's."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from review_agent.agent.errors import StoreError

_PATIENCE = 0.3  # seconds; longer than somebody takes to look whether a run is held
_TIDY_AFTER = 3600.0  # seconds; a younger file may belong to a run that is about to lock it


class RunLocks:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def hold(self, run_id: str) -> Iterator[None]:
        """Be the one that drives a run. Raises StoreError("run_busy") where another process is."""
        from filelock import FileLock, Timeout

        path = self._path(run_id)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(path, timeout=_PATIENCE)
            lock.acquire()
        except Timeout as exc:
            raise StoreError("run_busy", run=run_id, pid=self.driver(run_id) or "?") from exc
        except OSError as exc:
            raise StoreError("store_unusable", path=str(path), detail=exc.strerror or "") from exc
        try:
            with suppress(OSError):  # only said in messages
                path.with_suffix(".pid").write_text(str(os.getpid()), encoding="ascii")
            yield
        finally:
            # Before it is let go: behind that, the file may be another's already.
            for name in (path.with_suffix(".pid"), path):
                with suppress(OSError):
                    name.unlink()
            lock.release()

    def held(self, run_id: str) -> bool:
        """Whether a living process drives a run: this one too."""
        from filelock import FileLock, Timeout

        path = self._path(run_id)
        if not path.exists():
            return False
        try:
            with FileLock(path, blocking=False):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def driver(self, run_id: str) -> int:
        """The process that drives a run, 0 = unknown."""
        try:
            return int(self._path(run_id).with_suffix(".pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def tidy(self) -> None:
        """Remove files of runs that nobody drives."""
        from filelock import FileLock, Timeout

        for path in self._folder.glob("*.lock"):
            with suppress(OSError, Timeout):
                if time.time() - path.stat().st_mtime > _TIDY_AFTER:
                    with FileLock(path, blocking=False):
                        path.with_suffix(".pid").unlink(missing_ok=True)
                        path.unlink()

    def _path(self, run_id: str) -> Path:
        safe = "".join(char if char.isalnum() or char in "-_" else "_" for char in run_id)
        return self._folder / f"{safe}.lock"
