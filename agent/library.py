"""The text of a repository as an agent may see it: what the policy hides is as good as absent.

Files under review are as they were selected; the rest of the repository is read when it is asked for, at the
state under review: the head commit of a range or commit, else the work tree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from review_agent.agent.classify import skip_reason
from review_agent.agent.errors import FileRefused, GitError
from review_agent.agent.languages import detect
from review_agent.agent.models import Change, SourceFile
from review_agent.agent.router import has_secret
from review_agent.agent.target import Target
from review_agent.tools.encoding import decode, split_lines
from review_agent.tools.files import FileGate
from review_agent.tools.git import Commit, Repository

MAX_READ_BYTES = 2 * 1024 * 1024
SEARCH_SECONDS = 10.0
OUTSIDE = "outside"
_AT_ONCE = 200  # blobs


class Shelf(Protocol):
    """Files that are not under review."""

    def paths(self) -> list[str]: ...

    def read(self, paths: list[str]) -> dict[str, bytes]:
        """Contents of those that can be read."""


@dataclass
class DiskShelf:
    """The work tree. `gate` keeps to the folders that may be read."""

    repository: Repository
    gate: FileGate

    def paths(self) -> list[str]:
        entries = (entry for entry in self.repository.listed() if not entry.absent)
        return [entry.path for entry in entries if entry.mode != "160000" and not entry.path.endswith("/")]

    def read(self, paths: list[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for path in paths:
            try:
                found[path] = self.gate.read(path)
            except FileRefused:
                continue
        return found


@dataclass
class CommitShelf:
    """The files of one commit."""

    repository: Repository
    commit: str
    gate: FileGate
    _blobs: dict[str, str] | None = None

    def paths(self) -> list[str]:
        return list(self._listing())

    def read(self, paths: list[str]) -> dict[str, bytes]:
        listing = self._listing()
        wanted = {path: listing[path] for path in paths if path in listing and self.gate.covers(path)}
        blobs = self.repository.blobs(wanted.values(), MAX_READ_BYTES)
        found = {path: blobs.get(blob) for path, blob in wanted.items()}
        return {path: data for path, data in found.items() if data is not None}

    def _listing(self) -> dict[str, str]:
        if self._blobs is None:
            entries = self.repository.listed_at(self.commit)
            self._blobs = {entry.path: entry.blob for entry in entries if entry.mode != "120000"}
        return self._blobs


def shelf_for(target: Target, repository: Repository, gate: FileGate) -> Shelf | None:
    """The rest of a target's repository; None for a diff file, of which nothing else is known."""
    if target.kind in ("range", "commit"):
        return CommitShelf(repository, target.head, gate)
    return DiskShelf(repository, gate) if target.kind in ("tree", "working", "staged") else None


@dataclass(frozen=True, slots=True)
class Hit:
    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Found:
    """`stopped` says why not everything was searched: '', "time" or "more"."""

    hits: tuple[Hit, ...]
    files: int
    stopped: str = ""


@dataclass
class Library:
    """`hides(path, has_secret)` names the reason why a file's code must not be seen, '' = it may.

    `commit` is where history is asked for.
    """

    files: Mapping[str, SourceFile]
    hides: Callable[[str, bool], str]
    shelf: Shelf | None = None
    repository: Repository | None = None
    commit: str = ""
    _others: dict[str, SourceFile | None] = field(default_factory=dict)
    _secret: dict[str, bool] = field(default_factory=dict)
    _paths: list[str] | None = None

    def hidden(self, path: str) -> str:
        """Why a file must not be seen. A file that does not exist is not hidden, unless by its name.

        A path that leads out of the repository, or that no file of it has, is.
        """
        if _strays(path):
            return OUTSIDE
        if why := self.hides(path, False):  # by name alone: not even whether it is there may be learned
            return why
        file = self.file(path)
        return self._hidden(file) if file is not None else ""

    def _hidden(self, file: SourceFile) -> str:
        """What held for the name that a file was renamed from holds for the file."""
        names = [name for name in (file.path, file.old_path) if name]
        secret = self._has_secret(file)
        return next((why for why in (self.hides(name, secret) for name in names) if why), "")

    def file(self, path: str) -> SourceFile | None:
        """The file, hidden or not; None where there is none that is text."""
        if path in self.files:
            return self.files[path]
        if path not in self._others:
            self._load([path])
        return self._others.get(path)

    def lines(self, path: str, start: int, end: int) -> list[tuple[int, str]]:
        """Numbered lines, of those that are known."""
        file = self.file(path)
        if file is None:
            return []
        span = range(max(1, start), min(end, len(file.lines)) + 1)
        return [(n, file.lines[n - 1]) for n in span if file.known is None or n in file.known]

    def search(self, matches: Callable[[str], bool], glob: str, most: int, start: int = 0) -> Found:
        """Lines of visible files that match, from the `start`-th on; at most `most` of them."""
        deadline = time.monotonic() + SEARCH_SECONDS
        hits: list[Hit] = []
        seen = searched = 0
        for file in self._each(glob):
            if time.monotonic() > deadline:
                return Found(tuple(hits), searched, "time")
            if self._hidden(file):
                continue
            searched += 1
            for number, text in enumerate(file.lines, start=1):
                if (file.known is not None and number not in file.known) or not matches(text):
                    continue
                seen += 1
                if seen <= start:
                    continue
                if len(hits) == most:
                    return Found(tuple(hits), searched, "more")
                hits.append(Hit(file.path, number, text))
        return Found(tuple(hits), searched)

    def log(self, path: str, count: int) -> list[Commit]:
        """Commits; one that touches a hidden file, or does not tell what it touches, loses its subject."""
        if self.repository is None or not self.commit:
            return []
        return [
            commit if commit.paths and not any(map(self._hidden_by_name, commit.paths)) else _mute(commit)
            for commit in self.repository.log(self.commit, path, count)
        ]

    def blame(self, path: str, start: int, end: int) -> list[tuple[int, str]]:
        if self.repository is None or not self.commit:
            return []
        return self.repository.blame(self.commit, path, start, end)

    def _hidden_by_name(self, path: str) -> str:
        """Whether a commit that touches a path must be mute. A file that is gone cannot be looked into."""
        known = self.files.get(path) or self._others.get(path)
        return self._hidden(known) if known is not None else self.hides(path, False)

    def _has_secret(self, file: SourceFile) -> bool:
        if file.path not in self._secret:
            self._secret[file.path] = has_secret(file)
        return self._secret[file.path]

    def _each(self, glob: str) -> Iterator[SourceFile]:
        def wanted(path: str) -> bool:
            return not glob or fnmatchcase(path, glob) or fnmatchcase(Path(path).name, glob)

        for path, file in self.files.items():
            if wanted(path):
                yield file
        rest = [path for path in self._rest() if wanted(path) and not self.hides(path, False)]
        for at in range(0, len(rest), _AT_ONCE):
            part = rest[at : at + _AT_ONCE]
            self._load([path for path in part if path not in self._others])
            yield from (file for file in map(self._others.get, part) if file is not None)

    def _rest(self) -> list[str]:
        if self._paths is None:
            try:
                paths = self.shelf.paths() if self.shelf is not None else []
            except GitError:
                paths = []
            self._paths = sorted(path for path in paths if path not in self.files)
        return self._paths

    def _load(self, paths: list[str]) -> None:
        known = set(self._rest())
        wanted = [path for path in paths if path in known]
        try:
            contents = self.shelf.read(wanted) if self.shelf is not None and wanted else {}
        except GitError:
            contents = {}
        for path in paths:
            data = contents.get(path)
            text = data is not None and len(data) <= MAX_READ_BYTES and not skip_reason(path, data)
            self._others[path] = _source(path, data) if data is not None and text else None


def _strays(path: str) -> bool:
    """Not the name that git gives to a file of a repository."""
    parts = path.split("/")
    return "\0" in path or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts)


def _source(path: str, data: bytes) -> SourceFile:
    lines = split_lines(decode(data).text)
    return SourceFile(path, detect(path, lines[0] if lines else ""), lines, "", Change.WHOLE)


def _mute(commit: Commit) -> Commit:
    return Commit(commit.id, commit.day, "", commit.paths)
