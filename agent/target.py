"""Targets: what the user asked to review, turned into files with their new text and changed lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from review_agent.agent.classify import skip_by_path
from review_agent.agent.errors import FileRefused, TargetError
from review_agent.agent.markers import Checkpoint
from review_agent.agent.models import Change, FileDiff, FileResult, Hunk, Note, SourceFile
from review_agent.agent.source import SUBMODULE, SYMLINK, Entry, judge, last_line
from review_agent.tools.diff import parse_diff
from review_agent.tools.files import FileGate
from review_agent.tools.git import Location, Repository, find

_NO_MODE = "000000"
_FOLDERS = ("040000", SUBMODULE)
MAX_SPARSE_LINES = 20_000_000  # of all files of a diff file together; unknown lines are kept as empty ones
MAX_DIFF_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """What was asked for. `kind`: tree, working, staged, range, commit or diff.

    `base` and `head` are as the user wrote them until `select` replaced them by commit ids, so that a resumed
    run reviews the same commits.
    """

    kind: str
    root: str
    base: str = ""
    head: str = ""
    diff_file: str = ""
    diff_text: bytes = field(default=b"", repr=False)
    scope: str = ""  # the folder of the repository that was named, with "/" at its end; "" = all of it
    allowed: tuple[str, ...] = ()  # the user's `allowed_directories`: its git directory may be there, too
    pull: int = 0  # the number of the pull request that a range is
    since: str = ""  # only files that changed since this commit of it; '' = all
    why: str = ""  # a reason of `agent.increment`: why all, or not
    checkpoint: Checkpoint | None = None  # from which `since` is decided once the engine is known

    def repository(self) -> Location | None:
        """The repository that the target is in. Raises GitError where another's git directory is used."""
        root = Path(self.root).resolve()
        return find(root, [root / folder for folder in self.folders()])

    def folders(self) -> list[Path]:
        """The directories that may be read; relative ones belong to the repository. [] = all of it."""
        return [Path(folder).expanduser() for folder in self.allowed]

    def label(self) -> str:
        """Short name without machine paths, for reports: `kind`, or `kind:which`."""
        span = {
            "range": f"{_short(self.base)}..{_short(self.head)}",
            "commit": _short(self.head),
            "diff": Path(self.diff_file).name or "-",
        }
        which = " ".join(part for part in (span.get(self.kind, ""), self.scope) if part)
        return f"{self.kind}:{which}" if which else self.kind


@dataclass(frozen=True, slots=True)
class Selection:
    """The files of a target: those to review and those skipped by rule, each path once."""

    files: tuple[SourceFile, ...]
    skipped: tuple[FileResult, ...]
    churn: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    base_commit: str = ""


def _short(ref: str) -> str:
    return ref[:12] if len(ref) >= 40 and set(ref) <= set("0123456789abcdef") else ref


def make_target(
    root: Path,
    *,
    base: str | None = None,
    head: str | None = None,
    commit: str | None = None,
    staged: bool = False,
    working: bool = False,
    diff_file: str | None = None,
) -> Target:
    """The target that a set of options names. Raises TargetError when they contradict each other."""
    asked = {
        "range": base is not None or head is not None,
        "commit": commit is not None,
        "staged": staged,
        "working": working,
        "diff": diff_file is not None,
    }
    kinds = [kind for kind, on in asked.items() if on]
    if len(kinds) > 1:
        raise TargetError("target_conflict", options=", ".join(_OPTION[kind] for kind in kinds))
    if not os.path.lexists(root):
        raise TargetError("path_missing", path=str(root))
    if not os.path.isdir(root):
        raise TargetError("path_not_folder", path=str(root))
    if "" in (base, head, commit):  # a variable of a CI script that is not set
        raise TargetError("ref_unknown", ref="")
    kind = kinds[0] if kinds else "tree"
    if kind == "range" and base is None:
        raise TargetError("to_without_from")
    if kind == "range":
        return Target(kind, str(root), base=base or "", head=head or "HEAD")
    if kind == "diff":
        name = diff_file if diff_file is not None else "-"
        return Target(kind, str(root), diff_file=name, diff_text=_read_diff(name))
    return Target(kind, str(root), head=commit or "")


_OPTION = {
    "range": "--from/--to",
    "commit": "--commit",
    "staged": "--staged",
    "working": "--working",
    "diff": "--diff-file",
}


def _read_diff(name: str) -> bytes:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(MAX_DIFF_BYTES + 1)
        else:
            with open(name, "rb") as source:
                data = source.read(MAX_DIFF_BYTES + 1)
    except OSError as exc:
        raise TargetError("diff_unreadable", path=name, detail=exc.strerror or "") from exc
    if len(data) > MAX_DIFF_BYTES:
        raise TargetError("diff_too_large", path=name, limit=MAX_DIFF_BYTES)
    return data


def select(target: Target, *, max_file_size: int) -> tuple[Selection, Target]:
    """Every file of the target, read and judged, and the target with its refs pinned to commits."""
    root = Path(target.root).resolve()
    location = target.repository()
    gate = _gate(target, location.root if location is not None else root, max_file_size)
    if target.kind == "diff":
        return _selection(_from_diff_file(target, gate), {}, ()), target
    if location is None:
        if target.kind != "tree":
            raise TargetError("not_a_repository", path=target.root, option=_OPTION[target.kind])
        return _selection(_from_folder(gate), {}, (Note("plain_folder"),)), target
    with Repository(location) as repo:
        target = replace(target, scope=_prefix(root, location.root))
        reader = _Reader(repo, gate, max_file_size, target.scope)
        entries, pinned, notes = reader.entries(target)
        churn = repo.churn() if target.kind == "tree" else {}
        if repo.shallow:
            notes = (*notes, Note("shallow_clone"))
        notes += tuple(Note("objects_elsewhere", {"path": _tail(folder)}) for folder in repo.borrowed)
        selection = _selection(entries, churn, notes)
        return replace(selection, base_commit=reader.base_commit), pinned


def _gate(target: Target, root: Path, max_file_size: int) -> FileGate:
    gate = FileGate(root, max_file_size=max_file_size, allowed_directories=target.folders())
    try:
        gate.list()
    except FileRefused as exc:
        if exc.key == "outside":
            raise TargetError("policy.root_not_allowed", path=target.root) from exc
    return gate


def _tail(folder: Path) -> str:
    """Enough of a path to know it by; a report names no folders of the machine."""
    return Path(*folder.parts[-3:]).as_posix().lstrip("/")


def _prefix(root: Path, top: Path) -> str:
    relative = root.relative_to(top).as_posix()
    return "" if relative == "." else f"{relative}/"


class _Reader:
    """Lists a repository's target below `prefix` and reads the new side of each file."""

    def __init__(self, repo: Repository, gate: FileGate, max_file_size: int, prefix: str) -> None:
        self.repo = repo
        self.gate = gate
        self.max_file_size = max_file_size
        self.prefix = prefix
        self.base_commit = ""

    def entries(self, target: Target) -> tuple[list[Entry], Target, tuple[Note, ...]]:
        if target.kind == "tree":
            return self._tree(), target, ()
        if target.kind == "working":
            return self._working(), target, ()
        if target.kind == "staged":
            return self._staged(), target, ()
        if target.kind == "range":
            return self._range(target)
        return self._commit(target)

    def _tree(self) -> list[Entry]:
        return [
            Entry(entry.path, None, entry.mode, refused="not_checked_out")
            if entry.absent
            else self._from_disk(entry.path, entry.mode)
            for entry in self.repo.listed()
            if entry.path.startswith(self.prefix)
        ]

    def _working(self) -> list[Entry]:
        base = self.repo.head() or self.repo.empty_tree
        diffs = self._below(parse_diff(self.repo.diff(base, work_tree=True)))
        entries = [self._from_disk(diff.path, diff.new_mode, diff) for diff in diffs]
        untracked = [path for path in self.repo.untracked() if path.startswith(self.prefix)]
        entries += [self._from_disk(path, "", FileDiff(path, path, Change.ADDED)) for path in untracked]
        return entries

    def _staged(self) -> list[Entry]:
        entries = self._between(self.repo.head() or self.repo.empty_tree, cached=True)
        conflicts = [path for path in self.repo.unmerged() if path.startswith(self.prefix)]
        return [*entries, *(Entry(path, None, refused="unmerged") for path in conflicts)]

    def _range(self, target: Target) -> tuple[list[Entry], Target, tuple[Note, ...]]:
        head = self.repo.resolve(target.head)
        if target.base == self.repo.empty_tree:  # all of a history, as on its first push
            return self._between(target.base, head), replace(target, head=head), ()
        tip = self.repo.resolve(target.base or "HEAD")
        base = self.repo.merge_base(tip, head)
        self.base_commit = base
        entries = self._between(base, head)
        if target.since:
            # In full, as they differ from the base: a finding on an older line of such a file is found again.
            touched = self._touched(self.repo.resolve(target.since), head)
            entries = [entry for entry in entries if entry.path in touched]
        return entries, replace(target, base=base, head=head), ()

    def _touched(self, old: str, new: str) -> set[str]:
        missing = self.repo.unreadable(old, new)
        diffs = parse_diff(self.repo.diff(old, new, without=[entry.path for entry in missing]))
        names = {name for diff in diffs for name in (diff.path, diff.old_path)}
        return names | {entry.path for entry in missing}

    def _commit(self, target: Target) -> tuple[list[Entry], Target, tuple[Note, ...]]:
        commit = self.repo.resolve(target.head)
        parents = self.repo.parents(commit)
        notes = (Note("merge_first_parent", {"commit": commit[:12]}),) if len(parents) > 1 else ()
        if self.repo.at_shallow_edge(commit):
            raise TargetError("commit_at_shallow_edge", commit=commit[:12])
        self.base_commit = parents[0] if parents else ""
        base = parents[0] if parents else self.repo.empty_tree
        return self._between(base, commit), replace(target, head=commit), notes

    def _below(self, diffs: list[FileDiff]) -> list[FileDiff]:
        return [diff for diff in diffs if diff.path.startswith(self.prefix)]

    def _between(self, *between: str, cached: bool = False) -> list[Entry]:
        """Changed files with the content of their new blobs."""
        missing = self.repo.unreadable(*between, cached=cached)
        data = self.repo.diff(*between, cached=cached, without=[entry.path for entry in missing])
        entries = self._from_blobs(self._below(parse_diff(data)))
        for gone in missing:
            if gone.path.startswith(self.prefix):
                deleted = gone.mode == _NO_MODE
                entries.append(Entry(gone.path, None, refused="deleted" if deleted else "blob_missing"))
        return entries

    def _from_disk(self, path: str, mode: str, diff: FileDiff | None = None) -> Entry:
        """What stands at a path now. `mode` is what git noted, '' for an untracked file."""
        if diff is not None and diff.change is Change.DELETED:
            return Entry(path, None, diff=diff)
        if path.endswith("/"):  # git lists a nested repository as one untracked entry
            return Entry(path, None, SUBMODULE, diff)
        try:
            found = self.gate.git_mode(path)
            if found == SYMLINK:
                return Entry(path, None, SYMLINK, diff)
            if found in _FOLDERS:
                return Entry(path, None, mode, diff, refused="deleted")
            # Below a folder that is a link now stands another file, by whose name the policy goes.
            return Entry(path, self.gate.read(path, links=False), found or "100644", diff)
        except FileRefused as exc:
            gone = mode and diff is None and exc.key == "not_found"  # deleted, and not committed yet
            return Entry(path, None, diff=diff, refused="deleted" if gone else exc.key)

    def _from_blobs(self, diffs: list[FileDiff]) -> list[Entry]:
        wanted = (diff.new_blob for diff in diffs if self.gate.covers(diff.path))
        blobs = self.repo.blobs(wanted, self.max_file_size)
        entries = []
        for diff in diffs:
            plain = diff.change is not Change.DELETED and diff.new_mode not in (SUBMODULE, SYMLINK)
            data = blobs.get(diff.new_blob)
            refused = ""
            if not self.gate.covers(diff.path):
                data, refused = None, "outside"
            elif plain and data is None and diff.new_blob:
                refused = "too_large" if diff.new_blob in blobs else "blob_missing"
            entries.append(Entry(diff.path, data, diff.new_mode or "100644", diff, refused))
        return entries


def _from_folder(gate: FileGate) -> list[Entry]:
    return [_of_folder(gate, path) for path in gate.walk()]


def _of_folder(gate: FileGate, path: str) -> Entry:
    if path.endswith("/"):  # one that was not entered
        try:
            return Entry(path, None, gate.git_mode(path))
        except FileRefused as exc:
            return Entry(path, None, refused=exc.key)
    if skip_by_path(path) == "vendored":  # often the most of a folder, so not read
        return Entry(path, None, refused="vendored")
    try:
        mode = gate.git_mode(path)
        return Entry(path, None if mode == SYMLINK else gate.read(path), mode or "100644")
    except FileRefused as exc:
        return Entry(path, None, refused=exc.key)


def _from_diff_file(target: Target, gate: FileGate) -> list[Entry]:
    """Entries of a diff file; a file on disk that agrees with every hunk lends its whole text."""
    diffs = parse_diff(target.diff_text)
    if not diffs and target.diff_text.strip():
        raise TargetError("diff_no_files", path=target.diff_file)
    _check_once(diffs)
    entries = []
    room = MAX_SPARSE_LINES
    for diff in diffs:
        data: bytes | None = None
        refused = "" if gate.covers(diff.path) else "outside"
        if not refused and diff.change is not Change.DELETED and diff.hunks:
            try:
                data = gate.read(diff.path)
            except FileRefused:
                data = None
            if data is None or not _agrees(data, diff.hunks):
                data = None
                room -= last_line(diff)
                refused = "too_large" if room < 0 else ""
        entries.append(Entry(diff.path, data, diff.new_mode or "100644", diff, refused))
    return entries


def _check_once(diffs: list[FileDiff]) -> None:
    """A path may come twice only as a deletion and an addition, the way git writes a type change.

    In a series of patches each has line numbers of its own, and a later one would hide an earlier one.
    """
    seen: dict[str, set[bool]] = {}
    for diff in diffs:
        deleted = diff.change is Change.DELETED
        if deleted in seen.setdefault(diff.path, set()):
            raise TargetError("diff_repeats", path=diff.path)
        seen[diff.path].add(deleted)


def _agrees(data: bytes, hunks: tuple[Hunk, ...]) -> bool:
    lines = _bare(data.removesuffix(b"\n").split(b"\n"))
    return all(_fits(hunk, lines) for hunk in hunks)


def _fits(hunk: Hunk, lines: list[bytes]) -> bool:
    if hunk.new_count:
        return _bare(hunk.new_lines) == lines[hunk.new_start - 1 : hunk.new_start - 1 + hunk.new_count]
    gone = _bare(line for removed in hunk.removed for line in removed.lines)
    return lines[hunk.new_start : hunk.new_start + len(gone)] != gone  # else the diff was not applied yet


def _bare(lines: Iterable[bytes]) -> list[bytes]:
    return [line.rstrip(b"\r") for line in lines]


def _selection(entries: list[Entry], churn: Mapping[str, int], notes: tuple[Note, ...]) -> Selection:
    files: dict[str, SourceFile] = {}
    skipped: dict[str, FileResult] = {}
    for entry in entries:
        judged = judge(entry)
        if isinstance(judged, SourceFile):
            files[judged.path] = judged
            skipped.pop(judged.path, None)
        elif judged.path not in files:  # a type change comes as a deletion and an addition of one path
            skipped[judged.path] = judged
    return Selection(tuple(files.values()), tuple(skipped.values()), churn, notes)
