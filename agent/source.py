"""A selected file: whether a rule keeps it from review, else its lines and which of them changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from review_agent.agent.classify import is_notebook, notebook_lines, notebook_text, skip_reason
from review_agent.agent.languages import detect
from review_agent.agent.models import Change, FileDiff, FileResult, FileStatus, Hunk, Note, SourceFile
from review_agent.tools.encoding import decode, split_lines

SYMLINK, SUBMODULE = "120000", "160000"


@dataclass(frozen=True, slots=True)
class Entry:
    """A selected path before its content was judged."""

    path: str
    data: bytes | None
    mode: str = "100644"
    diff: FileDiff | None = None
    refused: str = ""


def judge(entry: Entry) -> SourceFile | FileResult:
    reason = _skip(entry)
    if reason:
        status = FileStatus.FAILED if reason in _NOT_BY_RULE else FileStatus.SKIPPED
        return FileResult(entry.path, status, reason)
    return _source(entry)


# A file that should be there and cannot be had is a failure; all else is a rule about what is reviewed.
_NOT_BY_RULE = frozenset({"blob_missing", "not_readable", "not_found", "too_deep", "unmerged"})
_BY_MODE = {SUBMODULE: "submodule", SYMLINK: "symlink"}


def _skip(entry: Entry) -> str:
    if reason := _BY_MODE.get(entry.mode) or entry.refused or _skip_change(entry.diff):
        return reason
    data = entry.data if entry.data is not None else _hunk_bytes(entry.diff, removed=True)
    return skip_reason(entry.path, data, mode=entry.mode) or ""


def _skip_change(diff: FileDiff | None) -> str:
    if diff is None:
        return ""
    if diff.change is Change.DELETED:
        return "deleted"
    if diff.binary:
        return "binary"
    return _WITHOUT_HUNKS.get(diff.change, "") if not diff.hunks else ""


_WITHOUT_HUNKS = {
    Change.RENAMED: "renamed_only",
    Change.COPIED: "renamed_only",
    Change.MODE: "mode_only",
    Change.MODIFIED: "no_lines",
}


def _hunk_bytes(diff: FileDiff | None, *, removed: bool = False) -> bytes:
    """The new lines that a diff shows, and the removed ones where asked."""
    lines: list[bytes] = []
    for hunk in diff.hunks if diff is not None else ():
        lines += hunk.new_lines
        if removed:
            lines += (line for gone in hunk.removed for line in gone.lines)
    return b"\n".join([*lines, b""])


def _source(entry: Entry) -> SourceFile:
    diff = entry.diff
    data = entry.data if entry.data is not None else _hunk_bytes(diff)
    decoded = decode(entry.data if entry.data is not None else _hunk_bytes(diff, removed=True))
    lines = split_lines(decoded.text)
    known = None
    if entry.data is None and diff is not None:
        lines, known = _sparse(diff, decoded.encoding)
    file = SourceFile(
        path=entry.path,
        language=detect(entry.path, lines[0] if lines else ""),
        lines=lines,
        blob=hashlib.sha256(data).hexdigest(),
        change=diff.change if diff is not None else Change.WHOLE,
        changed=_changed(diff, len(lines)),
        hunks=diff.hunks if diff is not None else (),
        encoding=decoded.encoding,
        notes=(Note(decoded.note),) if decoded.note else (),
        known=known,
        old_path=diff.old_path if diff is not None and diff.old_path != entry.path else "",
    )
    return _notebook(file, decoded.text) if is_notebook(entry.path) and known is None else file


def _notebook(file: SourceFile, text: str) -> SourceFile:
    """Only the source of a notebook's cells is reviewed; pictures and outputs stay unknown.

    A notebook on one line has no lines to point at, so its cells are reviewed as a text of their own.
    """
    inside = notebook_lines(text)
    if inside is not None:
        changed = inside if file.changed is None else file.changed & inside
        hunks = tuple(_without_outputs(hunk, inside) for hunk in file.hunks)
        return replace(file, changed=changed, hunks=hunks, known=inside)
    lines = split_lines(notebook_text(text) or "")
    notes = (*file.notes, Note("notebook_as_text"))
    return replace(file, lines=lines, changed=None, hunks=(), notes=notes)


def _without_outputs(hunk: Hunk, inside: frozenset[int]) -> Hunk:
    removed = tuple(gone for gone in hunk.removed if {gone.before - 1, gone.before} & inside)
    return replace(hunk, removed=removed)


def _sparse(diff: FileDiff, encoding: str) -> tuple[tuple[str, ...], frozenset[int]]:
    """Lines of a file of which only the hunks are known; the others are empty."""
    lines = [""] * last_line(diff)
    known: set[int] = set()
    for hunk in diff.hunks:
        for number, raw in enumerate(hunk.new_lines, start=hunk.new_start):
            lines[number - 1] = raw.decode(encoding, "replace").removesuffix("\r")
            known.add(number)
    return tuple(lines), frozenset(known)


def _changed(diff: FileDiff | None, total: int) -> frozenset[int] | None:
    if diff is None:
        return None
    if diff.change is Change.ADDED and not diff.hunks:  # untracked: all of it is new
        return frozenset(range(1, total + 1))
    added = (number for hunk in diff.hunks for number in hunk.added)
    return frozenset(number for number in added if 1 <= number <= total)


def last_line(diff: FileDiff) -> int:
    return max((hunk.new_start + hunk.new_count - 1 for hunk in diff.hunks), default=0)
