"""Targets: what the user asked to review, turned into files with their new text and changed lines."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from review_agent.agent.classify import is_notebook, notebook_lines, notebook_text, skip_by_path, skip_reason
from review_agent.agent.errors import FileRefused, TargetError
from review_agent.agent.languages import detect
from review_agent.agent.models import Change, FileDiff, FileResult, FileStatus, Hunk, Note, SourceFile
from review_agent.tools.diff import parse_diff
from review_agent.tools.encoding import decode, split_lines
from review_agent.tools.files import FileGate
from review_agent.tools.git import Repository, find

SYMLINK, SUBMODULE = "120000", "160000"
MAX_DIFF_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """What was asked for. `kind`: tree, working, staged, range, commit or diff.

    `base` and `head` are as the user wrote them until `pin` replaced them by commit ids, so that a resumed run
    reviews the same commits.
    """

    kind: str
    root: str
    base: str = ""
    head: str = ""
    diff_file: str = ""
    diff_text: bytes = field(default=b"", repr=False)

    def label(self) -> str:
        """Short name without machine paths, for reports."""
        span = {
            "range": f"{self.base}..{self.head}",
            "commit": self.head,
            "diff": Path(self.diff_file).name or "-",
        }
        return f"{self.kind}:{span[self.kind]}" if self.kind in span else self.kind


@dataclass(frozen=True, slots=True)
class Selection:
    """The files of a target: those to review and those skipped by rule, each path once."""

    files: tuple[SourceFile, ...]
    skipped: tuple[FileResult, ...]
    churn: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    base_commit: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A selected path before its content was judged."""

    path: str
    data: bytes | None
    mode: str = "100644"
    diff: FileDiff | None = None
    refused: str = ""


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
        raise TargetError("target_conflict", options="、".join(_OPTION[kind] for kind in kinds))
    if not root.exists():
        raise TargetError("path_missing", path=str(root))
    if not root.is_dir():
        raise TargetError("path_not_folder", path=str(root))
    kind = kinds[0] if kinds else "tree"
    if kind == "range":
        return Target(kind, str(root), base=base or "", head=head or "HEAD")
    if kind == "diff":
        name = diff_file or "-"
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
    location = find(root)
    if target.kind == "diff":
        gate = FileGate(root, max_file_size=max_file_size)
        return _selection(_from_diff_file(target, gate), {}, ()), target
    if location is None:
        if target.kind != "tree":
            raise TargetError("not_a_repository", path=target.root, option=_OPTION[target.kind])
        gate = FileGate(root, max_file_size=max_file_size)
        return _selection(_from_folder(gate), {}, (Note("plain_folder"),)), target
    with Repository(location) as repo:
        gate = FileGate(location.root, max_file_size=max_file_size)
        reader = _Reader(repo, gate, max_file_size)
        entries, pinned, notes = reader.entries(target)
        prefix = _prefix(root, location.root)
        if prefix:
            entries = [entry for entry in entries if entry.path.startswith(prefix)]
        churn = repo.churn() if target.kind == "tree" else {}
        if repo.shallow:
            notes = (*notes, Note("shallow_clone"))
        selection = _selection(entries, churn, notes)
        return replace(selection, base_commit=reader.base_commit), pinned


def _prefix(root: Path, top: Path) -> str:
    relative = root.relative_to(top).as_posix()
    return "" if relative == "." else f"{relative}/"


class _Reader:
    """Lists a repository's target and reads the new side of each file."""

    def __init__(self, repo: Repository, gate: FileGate, max_file_size: int) -> None:
        self.repo = repo
        self.gate = gate
        self.max_file_size = max_file_size
        self.base_commit = ""

    def entries(self, target: Target) -> tuple[list[Entry], Target, tuple[Note, ...]]:
        if target.kind == "tree":
            return self._tree(), target, ()
        if target.kind == "working":
            return self._working(), target, ()
        if target.kind == "staged":
            diffs = parse_diff(self.repo.diff(self.repo.head() or self.repo.empty_tree, cached=True))
            return self._from_blobs(diffs), target, ()
        if target.kind == "range":
            return self._range(target)
        return self._commit(target)

    def _tree(self) -> list[Entry]:
        return [self._from_disk(entry.path, entry.mode) for entry in self.repo.listed()]

    def _working(self) -> list[Entry]:
        base = self.repo.head() or self.repo.empty_tree
        diffs = parse_diff(self.repo.diff(base, work_tree=True))
        entries = [self._from_disk(diff.path, diff.new_mode, diff) for diff in diffs]
        known = {entry.path for entry in entries}
        for path in self.repo.untracked():
            if path not in known:
                entry = self._from_disk(path, "")
                entries.append(replace(entry, diff=FileDiff(path, path, Change.ADDED)))
        return entries

    def _range(self, target: Target) -> tuple[list[Entry], Target, tuple[Note, ...]]:
        head = self.repo.resolve(target.head)
        tip = self.repo.resolve(target.base or "HEAD")
        base = self.repo.merge_base(tip, head)
        self.base_commit = base
        diffs = parse_diff(self.repo.diff(base, head))
        return self._from_blobs(diffs), replace(target, base=base, head=head), ()

    def _commit(self, target: Target) -> tuple[list[Entry], Target, tuple[Note, ...]]:
        commit = self.repo.resolve(target.head)
        parents = self.repo.parents(commit)
        notes = (Note("merge_first_parent", {"commit": commit[:12]}),) if len(parents) > 1 else ()
        base = parents[0] if parents else self.repo.empty_tree
        if not parents and self.repo.shallow:
            raise TargetError("commit_at_shallow_edge", commit=commit[:12])
        self.base_commit = parents[0] if parents else ""
        diffs = parse_diff(self.repo.diff(base, commit))
        return self._from_blobs(diffs), replace(target, head=commit), notes

    def _from_disk(self, path: str, mode: str, diff: FileDiff | None = None) -> Entry:
        if mode in (SUBMODULE, SYMLINK) or (diff is not None and diff.change is Change.DELETED):
            return Entry(path, None, mode or "100644", diff)
        if path.endswith("/"):  # git lists a nested repository as one untracked entry
            return Entry(path, None, SUBMODULE, diff)
        try:
            return Entry(path, self.gate.read(path), mode or "100644", diff)
        except FileRefused as exc:
            return Entry(path, None, mode or "100644", diff, refused=exc.key)

    def _from_blobs(self, diffs: list[FileDiff]) -> list[Entry]:
        blobs = self.repo.blobs((diff.new_blob for diff in diffs), self.max_file_size)
        entries = []
        for diff in diffs:
            plain = diff.change is not Change.DELETED and diff.new_mode not in (SUBMODULE, SYMLINK)
            data = blobs.get(diff.new_blob)
            refused = ""
            if plain and data is None and diff.new_blob:
                refused = "too_large" if diff.new_blob in blobs else "blob_missing"
            entries.append(Entry(diff.path, data, diff.new_mode or "100644", diff, refused))
        return entries


def _from_folder(gate: FileGate) -> list[Entry]:
    entries = []
    for path in gate.walk():
        if path.endswith("/"):
            entries.append(Entry(path, None, SUBMODULE))
            continue
        if skip_by_path(path) == "vendored":
            entries.append(Entry(path, b"", refused="vendored"))
            continue
        try:
            entries.append(Entry(path, gate.read(path)))
        except FileRefused as exc:
            entries.append(Entry(path, None, refused=exc.key))
    return entries


def _from_diff_file(target: Target, gate: FileGate) -> list[Entry]:
    """Entries of a diff file; a file on disk that agrees with every hunk lends its whole text."""
    diffs = parse_diff(target.diff_text)
    if not diffs and target.diff_text.strip():
        raise TargetError("diff_no_files", path=target.diff_file)
    entries = []
    for diff in diffs:
        data: bytes | None = None
        if diff.change is not Change.DELETED and diff.hunks:
            try:
                data = gate.read(diff.path)
            except FileRefused:
                data = None
            if data is not None and not _agrees(data, diff.hunks):
                data = None
        entries.append(Entry(diff.path, data, diff.new_mode or "100644", diff))
    return entries


def _agrees(data: bytes, hunks: tuple[Hunk, ...]) -> bool:
    lines = [line.rstrip(b"\r") for line in data.split(b"\n")]
    return all(
        [line.rstrip(b"\r") for line in hunk.new_lines]
        == lines[hunk.new_start - 1 : hunk.new_start - 1 + hunk.new_count]
        for hunk in hunks
        if hunk.new_count
    )


def _selection(entries: list[Entry], churn: Mapping[str, int], notes: tuple[Note, ...]) -> Selection:
    files: dict[str, SourceFile] = {}
    skipped: dict[str, FileResult] = {}
    for entry in entries:
        judged = _judge(entry)
        if isinstance(judged, SourceFile):
            files[judged.path] = judged
            skipped.pop(judged.path, None)
        elif judged.path not in files:  # a type change comes as a deletion and an addition of one path
            skipped[judged.path] = judged
    return Selection(tuple(files.values()), tuple(skipped.values()), churn, notes)


def _judge(entry: Entry) -> SourceFile | FileResult:
    reason = _skip(entry)
    if reason:
        status = FileStatus.FAILED if reason in _NOT_BY_RULE else FileStatus.SKIPPED
        return FileResult(entry.path, status, reason)
    return _source(entry)


# A file that should be there and cannot be had is a failure; everything else is a rule about what is reviewed.
_NOT_BY_RULE = frozenset({"blob_missing", "not_readable", "not_found"})


def _skip(entry: Entry) -> str:
    diff = entry.diff
    if entry.mode == SUBMODULE or entry.mode == SYMLINK:
        return "submodule" if entry.mode == SUBMODULE else "symlink"
    if entry.refused:
        return entry.refused
    if diff is not None:
        if diff.change is Change.DELETED:
            return "deleted"
        if diff.binary:
            return "binary"
        if not diff.hunks and diff.change in (Change.RENAMED, Change.COPIED):
            return "renamed_only"
        if not diff.hunks and diff.change is Change.MODE:
            return "mode_only"
    data = entry.data if entry.data is not None else _hunk_bytes(diff)
    return skip_reason(entry.path, data, mode=entry.mode) or ""


def _hunk_bytes(diff: FileDiff | None) -> bytes:
    if diff is None:
        return b""
    return b"\n".join(line for hunk in diff.hunks for line in hunk.new_lines) + b"\n" if diff.hunks else b""


def _source(entry: Entry) -> SourceFile:
    diff = entry.diff
    data = entry.data if entry.data is not None else _hunk_bytes(diff)
    decoded = decode(data)
    text, known, notes = decoded.text, None, []
    if decoded.note:
        notes.append(Note(decoded.note))
    if is_notebook(entry.path) and entry.data is not None:
        known = notebook_lines(text)  # the cells' sources; outputs are not for a model
        cells = notebook_text(text) if known is None else None
        if cells is not None:
            text = cells
            notes.append(Note("notebook_as_text"))
    lines = split_lines(text)
    change = diff.change if diff is not None else Change.WHOLE
    if entry.data is None and diff is not None:
        lines, known = _sparse(diff, decoded.encoding)
    changed = _changed(diff, len(lines))
    first = lines[0] if lines else ""
    return SourceFile(
        path=entry.path,
        language=detect(entry.path, first),
        lines=lines,
        blob=hashlib.sha256(data).hexdigest(),
        change=change,
        changed=changed,
        hunks=diff.hunks if diff is not None else (),
        encoding=decoded.encoding,
        notes=tuple(notes),
        known=known,
    )


def _sparse(diff: FileDiff, encoding: str) -> tuple[tuple[str, ...], frozenset[int]]:
    """Lines of a file of which only the hunks are known; the others are empty."""
    last = max((hunk.new_start + hunk.new_count - 1 for hunk in diff.hunks), default=0)
    lines = [""] * min(last, 2_000_000)
    known: set[int] = set()
    for hunk in diff.hunks:
        for number, raw in enumerate(hunk.new_lines, start=hunk.new_start):
            if 1 <= number <= len(lines):
                lines[number - 1] = raw.decode(encoding, "replace").rstrip("\r")
                known.add(number)
    return tuple(lines), frozenset(known)


def _changed(diff: FileDiff | None, total: int) -> frozenset[int] | None:
    if diff is None:
        return None
    if diff.change is Change.ADDED and not diff.hunks:  # untracked: all of it is new
        return frozenset(range(1, total + 1))
    added = (number for hunk in diff.hunks for number in hunk.added)
    return frozenset(number for number in added if 1 <= number <= total)
