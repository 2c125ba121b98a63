"""Unified diffs as git writes them, parsed over bytes: files of one diff may have different encodings.

Hunk lengths are trusted over line prefixes, so diff text inside a file cannot start a new file.
Format: https://git-scm.com/docs/diff-format#generate_patch_text_with_p
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from review_agent.agent.errors import TargetError
from review_agent.agent.models import Change, FileDiff, Hunk, Removed

_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}
_ESCAPE = re.compile(rb'\\([0-7]{3}|[abtnvfr"\\])')
MAX_HUNK_LINES = 10_000_000


@dataclass
class _Block:
    """One file's headers while they are read."""

    git_line: bytes = b""
    old: bytes | None = None
    new: bytes | None = None
    moved_from: bytes | None = None
    moved_to: bytes | None = None
    change: Change = Change.MODIFIED
    old_mode: str = ""
    new_mode: str = ""
    new_blob: str = ""
    binary: bool = False
    hunks: list[Hunk] = field(default_factory=list)


def parse_diff(data: bytes) -> list[FileDiff]:
    """Every file of a unified diff. Text before the first file (a mail header, say) is passed over.

    Raises TargetError with the line number when a hunk is cut or malformed.
    """
    lines = data.split(b"\n")
    if lines and lines[-1] == b"":
        lines.pop()
    files: list[FileDiff] = []
    block: _Block | None = None
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(b"diff --git "):
            files.extend(_finish(block))
            block = _Block(git_line=line[len(b"diff --git ") :].rstrip(b"\r"))
        elif line.startswith(b"--- ") and at + 1 < len(lines) and lines[at + 1].startswith(b"+++ "):
            if block is None or block.hunks or not block.git_line:
                files.extend(_finish(block))
                block = _Block()
            block.old, block.new = _header_name(line[4:]), _header_name(lines[at + 1][4:])
            at += 1
        elif block is not None and (match := _HUNK.match(line)):
            hunk, at = _read_hunk(lines, at, match)
            block.hunks.append(hunk)
            continue
        elif block is not None:
            _read_header(block, line.rstrip(b"\r"))
        at += 1
    files.extend(_finish(block))
    return files


def _read_header(block: _Block, line: bytes) -> None:
    word, _, rest = line.partition(b" ")
    if line.startswith((b"rename from ", b"copy from ")):
        block.moved_from = _unquote(line.split(b" ", 2)[2])
        block.change = Change.RENAMED if word == b"rename" else Change.COPIED
    elif line.startswith((b"rename to ", b"copy to ")):
        block.moved_to = _unquote(line.split(b" ", 2)[2])
    elif line.startswith(b"new file mode "):
        block.change, block.new_mode = Change.ADDED, line.rsplit(b" ", 1)[1].decode("ascii", "replace")
    elif line.startswith(b"deleted file mode "):
        block.change, block.old_mode = Change.DELETED, line.rsplit(b" ", 1)[1].decode("ascii", "replace")
    elif line.startswith(b"old mode "):
        block.old_mode = rest.split(b" ")[-1].decode("ascii", "replace")
    elif line.startswith(b"new mode "):
        block.new_mode = rest.split(b" ")[-1].decode("ascii", "replace")
    elif word == b"index" and b".." in rest:
        ids, _, mode = rest.partition(b" ")
        block.new_blob = ids.split(b"..")[1].decode("ascii", "replace")
        if mode:
            block.old_mode = block.new_mode = mode.decode("ascii", "replace")
    elif line.startswith(b"Binary files ") or line == b"GIT binary patch":
        block.binary = True


def _read_hunk(lines: list[bytes], at: int, match: re.Match[bytes]) -> tuple[Hunk, int]:
    """The hunk whose `@@` line is `lines[at]`, and the index after it."""
    header_line = at + 1
    old_start, old_left, new_start, new_left = (
        int(group) if group is not None else 1 for group in match.groups()
    )
    if max(old_left, new_left) > MAX_HUNK_LINES:
        raise TargetError("diff_malformed", line=header_line)
    old_count, new_count = old_left, new_left
    new_lines: list[bytes] = []
    added: set[int] = set()
    removed: list[Removed] = []
    gone: list[bytes] = []
    number = new_start if new_count else new_start + 1
    at += 1
    while old_left or new_left:
        if at >= len(lines):
            raise TargetError("diff_cut", line=header_line)
        line = lines[at]
        mark, text = line[:1], line[1:]
        if mark == b"\\":
            at += 1
            continue
        if mark == b"-":
            old_left -= 1
            gone.append(text)
        elif mark in (b"+", b" ", b"", b"\r"):  # mail programs strip the blank of an empty context line
            if gone:
                removed.append(Removed(number, tuple(gone)))
                gone = []
            if mark == b"+":
                added.add(number)
            else:
                old_left -= 1
            new_left -= 1
            new_lines.append(text)
            number += 1
        else:
            raise TargetError("diff_malformed", line=at + 1)
        if old_left < 0 or new_left < 0:
            raise TargetError("diff_malformed", line=at + 1)
        at += 1
    if gone:
        removed.append(Removed(number, tuple(gone)))
    hunk = Hunk(
        old_start, old_count, new_start, new_count, tuple(new_lines), frozenset(added), tuple(removed)
    )
    return hunk, at


def _finish(block: _Block | None) -> Iterator[FileDiff]:
    if block is None:
        return
    old, new = block.old, block.new
    if old is None or new is None:
        old, new = _git_line_names(block.git_line)
    change = block.change
    if block.moved_from is not None and block.moved_to is not None:
        old_name, new_name = block.moved_from, block.moved_to
    elif old is None or new is None:
        return
    else:
        old_name, new_name = _strip(old), _strip(new)
    if new == b"/dev/null":
        change, new_name = Change.DELETED, old_name
    elif old == b"/dev/null":
        change, old_name = Change.ADDED, new_name
    elif change is Change.MODIFIED and not (block.hunks or block.binary) and block.old_mode != block.new_mode:
        change = Change.MODE
    yield FileDiff(
        path=os.fsdecode(new_name),
        old_path=os.fsdecode(old_name),
        change=change,
        hunks=tuple(block.hunks),
        binary=block.binary,
        old_mode=block.old_mode,
        new_mode=block.new_mode,
        new_blob=block.new_blob,
    )


def _header_name(raw: bytes) -> bytes:
    """Name of a `---`/`+++` line; a tab and a date may follow it."""
    raw = raw.rstrip(b"\r")
    if raw.startswith(b'"'):
        return _unquote(raw)
    return raw.split(b"\t", 1)[0]


def _unquote(raw: bytes) -> bytes:
    if not (raw.startswith(b'"') and raw.endswith(b'"') and len(raw) > 1):
        return raw

    def one(match: re.Match[bytes]) -> bytes:
        code = match.group(1)
        return bytes([int(code, 8) & 0xFF]) if len(code) == 3 else _ESCAPES.get(code, code)

    return _ESCAPE.sub(one, raw[1:-1])


def _strip(name: bytes) -> bytes:
    return name[2:] if name[:2] in (b"a/", b"b/") else name


def _git_line_names(rest: bytes) -> tuple[bytes | None, bytes | None]:
    """Both names of `diff --git a/x b/x` when no other header names them (mode changes, binary, empty files)."""
    if rest.startswith(b'"'):
        match = re.match(rb'("(?:[^"\\]|\\.)*") (.*)$', rest, re.S)
        return (_unquote(match.group(1)), _unquote(match.group(2))) if match else (None, None)
    if rest.endswith(b'"'):
        old, _, new = rest.partition(b' "')
        return old, _unquote(b'"' + new)
    middle = len(rest) // 2  # both names are equal but for their first letter
    if rest[middle : middle + 1] == b" " and rest[2:middle] == rest[middle + 3 :]:
        return rest[:middle], rest[middle + 1 :]
    old, space, new = rest.rpartition(b" b/")
    return (old, b"b/" + new) if space else (None, None)
