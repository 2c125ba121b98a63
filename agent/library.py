"""The text of a repository as an agent may see it: what the policy hides is as good as absent.

Files under review are as they were selected; the rest of the repository is read when it is asked for, at the
state under review: the head commit of a range or commit, else the work tree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from review_agent.agent.classify import skip_reason
from review_agent.agent.errors import FileRefused, GitError
from review_agent.agent.languages import detect
from review_agent.agent.models import Change, SourceFile
from review_agent.agent.router import has_secret
from review_agent.agent.source import SUBMODULE, SYMLINK
from review_agent.agent.target import Target
from review_agent.tools.diff import parse_diff
from review_agent.tools.encoding import decode, split_lines
from review_agent.tools.files import FileGate
from review_agent.tools.git import Commit, Repository

MAX_READ_BYTES = 2 * 1024 * 1024
SEARCH_SECONDS = 10.0
_AT_ONCE = 50  # files
# Seconds. RE2 gives the interpreter up and takes it back at once, so that no other thread comes to its turn.
_BREATH = 0.0002
_MOST_TOUCHED = 200  # files of one answer about history that are looked into


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
        return [entry.path for entry in entries if entry.mode != SUBMODULE and not entry.path.endswith("/")]

    def read(self, paths: list[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for path in paths:
            try:
                found[path] = self.gate.read(path, links=False)  # it may lead to a file that is hidden
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
            self._blobs = {entry.path: entry.blob for entry in entries if entry.mode != SYMLINK}
        return self._blobs


def shelf_for(target: Target, repository: Repository, gate: FileGate) -> Shelf | None:
    """The rest of a target's repository; None for a diff file, of which nothing else is known."""
    if target.kind in ("range", "commit"):
        return CommitShelf(repository, target.head, gate)
    return DiskShelf(repository, gate) if target.kind in ("tree", "working", "staged") else None


def old_names(target: Target, repository: Repository) -> dict[str, str]:
    """Where files of a change were renamed or copied from, those that are not reviewed among them."""
    empty = repository.empty_tree
    if target.kind == "range":
        diff = repository.diff(target.base, target.head)
    elif target.kind == "commit":
        diff = repository.diff(next(iter(repository.parents(target.head)), empty), target.head)
    elif target.kind in ("staged", "working"):
        staged = target.kind == "staged"
        diff = repository.diff(repository.head() or empty, cached=staged, work_tree=not staged)
    else:
        return {}
    return {one.path: one.old_path for one in parse_diff(diff) if one.old_path not in ("", one.path)}


@dataclass(frozen=True, slots=True)
class Hit:
    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Found:
    """`stopped` says why not everything was searched: '', "time" or "more"."""

    hits: tuple[Hit, ...]
    stopped: str = ""


@dataclass
class Library:
    """`hides(path, has_secret)` names the reason why a file's code must not be seen, '' = it may.

    `commit` is where history is asked for, `old_names` where files were renamed from. Nothing here waits for
    a model or a store, but it may take seconds: it is made to be called in threads, side by side, and what
    two of them find at once is the same.
    """

    files: Mapping[str, SourceFile]
    hides: Callable[[str, bool], str]
    shelf: Shelf | None = None
    repository: Repository | None = None
    commit: str = ""
    old_names: Mapping[str, str] = field(default_factory=dict)
    seconds: float = SEARCH_SECONDS
    _others: dict[str, SourceFile | None] = field(default_factory=dict)
    _why: dict[str, str] = field(default_factory=dict)  # why files are hidden, by path
    _paths: dict[str, None] | None = None

    def prepare(self) -> None:
        """What takes longest, at once: which files under review hold secrets, and what else there is."""
        for file in self.files.values():
            self._hidden(file)
            time.sleep(_BREATH)
        self._rest()

    def visible(self, path: str) -> SourceFile | None:
        """The file, where there is one that may be seen: hidden ones are as good as absent."""
        if path not in self._why and self.hides(path, False):
            return None
        file = self.file(path)
        return file if file is not None and not self._hidden(file) else None

    def apart(self) -> tuple[list[SourceFile], list[SourceFile]]:
        """Of the files that are known so far, those that may be seen, and the others."""
        seen: list[SourceFile] = []
        unseen: list[SourceFile] = []
        for file in (*self.files.values(), *filter(None, list(self._others.values()))):
            hidden = self.hides(file.path, False) or self._hidden(file)
            (unseen if hidden else seen).append(file)
        return seen, unseen

    def file(self, path: str) -> SourceFile | None:
        """The file, hidden or not; None where there is none that is text. Only git's spelling is one."""
        if path in self.files:
            return self.files[path]
        if path in self._rest():
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
        deadline = time.monotonic() + self.seconds
        hits: list[Hit] = []
        seen = 0
        for file in self._each(glob):
            for number, text in enumerate(file.lines, start=1):
                if time.monotonic() > deadline:
                    return Found(tuple(hits), "time")
                if (file.known is not None and number not in file.known) or not matches(text):
                    continue
                if self._hidden(file):  # to look for secrets takes longer than to look for matches
                    break
                seen += 1
                if seen <= start:
                    continue
                if len(hits) == most:
                    return Found(tuple(hits), "more")
                hits.append(Hit(file.path, number, text))
        return Found(tuple(hits))

    def log(self, path: str, count: int) -> list[Commit]:
        """Commits; one that touches a hidden file, or does not tell what it touches, loses its subject."""
        if self.repository is None or not self.commit:
            return []
        commits = self.repository.log(self.commit, path, count)
        rest = self._rest()
        touched = dict.fromkeys(path for commit in commits for path in commit.paths if path in rest)
        self._load([path for path in touched if not self.hides(path, False)][:_MOST_TOUCHED])
        return [
            commit if commit.paths and not any(map(self._mutes, commit.paths)) else _mute(commit)
            for commit in commits
        ]

    def blame(self, path: str, start: int, end: int) -> list[tuple[int, str]]:
        if self.repository is None or not self.commit:
            return []
        return self.repository.blame(self.commit, path, start, end)

    def _mutes(self, path: str) -> bool:
        """Whether a commit that touches a path must be mute. A file that is gone cannot be looked into."""
        if self.hides(path, False):
            return True
        known = self.files.get(path) or self._others.get(path)
        if known is not None:
            return bool(self._hidden(known))
        return path in self._rest() and path not in self._others  # there are too many to look into

    def _hidden(self, file: SourceFile) -> str:
        """What holds for the name that a file was renamed from holds for the file."""
        if file.path not in self._why:
            old = self.old_names.get(file.path, "")
            names = [name for name in (file.path, file.old_path, old) if name]
            why = self._first(names, secret=False)
            if not why and self._first(names, secret=True) and has_secret(file):
                why = self._first(names, secret=True)
            self._why[file.path] = why
        return self._why[file.path]

    def _first(self, names: Sequence[str], *, secret: bool) -> str:
        return next((why for why in (self.hides(name, secret) for name in names) if why), "")

    def _each(self, glob: str) -> Iterator[SourceFile]:
        def wanted(path: str) -> bool:
            spellings = (path, f"/{path}", path.rpartition("/")[2])
            return not glob or any(fnmatchcase(spelling, glob) for spelling in spellings)

        for path, file in self.files.items():
            if wanted(path):
                yield file
        rest = [path for path in self._rest() if wanted(path) and not self.hides(path, False)]
        for at in range(0, len(rest), _AT_ONCE):
            part = rest[at : at + _AT_ONCE]
            self._load(part)
            yield from (file for file in map(self._others.get, part) if file is not None)

    def _rest(self) -> Mapping[str, None]:
        """Paths that are not under review, sorted."""
        if self._paths is None:
            try:
                paths = self.shelf.paths() if self.shelf is not None else []
            except GitError:
                paths = []
            self._paths = dict.fromkeys(sorted(path for path in paths if path not in self.files))
        return self._paths

    def _load(self, paths: Sequence[str]) -> None:
        """Read those of the rest that were not read before."""
        wanted = [path for path in paths if path not in self._others]
        try:
            contents = self.shelf.read(wanted) if self.shelf is not None and wanted else {}
        except GitError:
            contents = {}
        for path in wanted:
            data = contents.get(path)
            text = data is not None and len(data) <= MAX_READ_BYTES and not skip_reason(path, data)
            self._others[path] = _source(path, data) if data is not None and text else None


def _source(path: str, data: bytes) -> SourceFile:
    lines = split_lines(decode(data).text)
    return SourceFile(path, detect(path, lines[0] if lines else ""), lines, "", Change.WHOLE)


def _mute(commit: Commit) -> Commit:
    return Commit(commit.id, commit.day, "", commit.paths)
