"""Where a repository keeps its git directory, read from the file system alone.

A folder that came in an archive may say that its git directory is that of another repository of the user,
whose history would then be reviewed, and shown, as if it were its own. So what lies outside of the folder
must name the folder in turn, as it does for linked worktrees and submodules, or be allowed by the user.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from review_agent.agent.errors import GitError

# What is read of a git directory besides its objects; each may be a link.
_PARTS = (
    "HEAD", "ORIG_HEAD", "FETCH_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "index", "refs",
    "packed-refs", "shallow", "config", "commondir", "info", "info/exclude", "objects",
)  # fmt: skip
_WORKTREE = re.compile(r"^\s*worktree\s*=\s*(.*?)\s*$", re.I | re.M)
_ALTERNATES = "info/alternates"
_MAX_DEPTH = 5  # as in git
_MAX_BORROWED = 100


@dataclass(frozen=True, slots=True)
class Location:
    """Where a repository lives. `common` differs from `git_dir` in linked worktrees."""

    root: Path
    git_dir: Path
    common: Path


def find(path: Path, allowed: Iterable[Path] = ()) -> Location | None:
    """The repository that `path` is in; None outside any.

    Raises GitError("git_dir_elsewhere") for one that is led by a git directory of another, unless that is
    below a folder in `allowed`.
    """
    for folder in (path, *path.parents):
        git_dir = _leads_to(folder / ".git")
        if git_dir is not None:
            location = Location(folder, git_dir, _common(git_dir))
            _check(location, [each.expanduser().resolve() for each in allowed])
            return location
    return None


def _leads_to(dot: Path) -> Path | None:
    if os.path.isdir(dot):
        return dot if os.path.exists(dot / "HEAD") else None
    text = read_start(dot, 4096).strip()
    if not text.startswith("gitdir:"):
        return None
    target = _resolved(dot.parent, text.removeprefix("gitdir:").strip())
    return target if target is not None and os.path.exists(target / "HEAD") else None


def _common(git_dir: Path) -> Path:
    text = read_start(git_dir / "commondir", 4096).strip()
    return (_resolved(git_dir, text) if text else None) or git_dir


def _check(location: Location, allowed: list[Path]) -> None:
    root, git_dir, common = (path.resolve() for path in (location.root, location.git_dir, location.common))
    own = [root, *allowed]
    if not _is_in(git_dir, own) and not _names_us(root, git_dir, common):
        raise _elsewhere(location, git_dir)
    if not _is_in(common, own) and common not in (git_dir, _of_worktree(git_dir)):
        raise _elsewhere(location, common)
    for folder in dict.fromkeys((git_dir, common)):
        for name in _PARTS:
            part = _resolved(folder, name)
            if part is None or not _is_in(part, [*own, git_dir, common]):
                raise _elsewhere(location, part or folder / name)


def _elsewhere(location: Location, where: Path) -> GitError:
    return GitError("git_dir_elsewhere", path=str(location.root), where=str(where))


def _is_in(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _names_us(root: Path, git_dir: Path, common: Path) -> bool:
    """Whether a git directory elsewhere says itself that it belongs to this folder.

    That of a linked worktree holds the path of our `.git` file, that of a submodule is configured with ours.
    """
    if common == _of_worktree(git_dir):
        back = read_start(git_dir / "gitdir", 4096).strip()
        return bool(back) and _resolved(git_dir, back) == root / ".git"
    stated = [read_start(git_dir / name) for name in ("config", "config.worktree")]
    named = [name.strip('"') for text in stated for name in _WORKTREE.findall(text)]
    return any(name and _resolved(git_dir, name) == root for name in named)


def _of_worktree(git_dir: Path) -> Path | None:
    """The git directory that `git worktree add` put this one in."""
    return git_dir.parent.parent if git_dir.parent.name == "worktrees" else None


def _resolved(folder: Path, name: str) -> Path | None:
    try:
        return (folder / name).resolve()
    except (OSError, RuntimeError, ValueError):  # too long, a loop of links, a NUL
        return None


def borrowed(location: Location) -> tuple[Path, ...]:
    """Object folders outside of the repository that git reads too: alternates, theirs, and linked folders."""
    own = [path.resolve() for path in (location.root, location.git_dir, location.common)]
    found: dict[Path, None] = {}
    level = [location.common.resolve() / "objects"]
    for _ in range(_MAX_DEPTH + 1):
        level = [other for objects in level for other in _also(objects) if other not in found]
        level = level[: _MAX_BORROWED - len(found)]
        found |= dict.fromkeys(level)
    return tuple(path for path in found if not _is_in(path, own))


def _also(objects: Path) -> list[Path]:
    lines = read_start(objects / _ALTERNATES).split("\n")
    named = [line.removeprefix('"').removesuffix('"') for line in lines if line and not line.startswith("#")]
    links = [entry for folder in (objects, objects / "pack") for entry in _links(folder)]
    paths = [_resolved(objects, name) for name in (*named, *links)]
    return [path for path in paths if path is not None]


def _links(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.is_symlink()]
    except OSError:
        return []


def read_start(path: Path, size: int = 65536) -> str:
    """The start of a small text file; '' for anything else, at once (a pipe has no end to wait for)."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            return os.fsdecode(file.read(size)) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else ""
    except (OSError, ValueError):
        return ""
