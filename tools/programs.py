"""Programs that we start: those of the caller's PATH, never one of the reviewed repository."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path


def trusted_folders(path: str, reviewed: Path) -> list[str]:
    """Folders of a PATH, without relative ones (`.` is in the reviewed repository, mostly) and its own."""
    return [
        folder for folder in path.split(os.pathsep) if os.path.isabs(folder) and not _is_in(folder, reviewed)
    ]


def find_program(name: str, folders: Sequence[str], reviewed: Path) -> str | None:
    """Absolute path of the first program of that name that does not lead into the repository, or None."""
    for folder in folders:
        found = shutil.which(name, path=folder)
        if found and not _is_in(found, reviewed):
            return found
    return None


def _is_in(path: str, reviewed: Path) -> bool:
    """Whether a path leads into the repository. One at `/` is the machine itself, not code to distrust."""
    root = os.path.realpath(reviewed)
    return root != os.path.sep and Path(os.path.realpath(path)).is_relative_to(root)
