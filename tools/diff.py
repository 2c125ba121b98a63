"""Unified diffs as git writes them, parsed over bytes: files of one diff may have different encodings.

Hunk lengths are trusted over line prefixes, so diff text inside a file cannot start a new file.
Format: https://git-scm.com/docs/diff-format#generate_patch_text_with_p
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from review_agent.agent.errors import TargetError
from review_agent.agent.models import Change, FileDiff, Hunk, Removed

_HUNK = re.compile(rb"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_COMBINED = (b"diff --cc ", b"diff --combined ", b"@@@ -")
_SIGNATURES = (b"--", b"-- ")  # ends a patch in a mail
_PREFIXES = frozenset(b"abciow12")  # plain, mnemonic (index, work tree, commit, object) and no-index ones
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}
_ESCAPE = re.compile(rb'\\([0-7]{3}|[abtnvfr"\\])')
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_EMPTY_BLOBS = (
    "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
    "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
)
MAX_HUNK_LINES = 10_000_000


class _Stage(Enum):
    """Where in a file's part of the diff the reader is. Only what may stand there is read as a header."""

    HEADER = "after `diff --git`"
    HUNKS = "after a hunk"
    TEXT = "after anything else"


@dataclass
class _Block:
    """One file's part of the diff while it is read. `line` is where it starts."""

    line: int
    git_line: bytes = b""
    stage: _Stage = _Stage.HEADER
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
    """Every file of a unified diff. Text around the patches (mail headers, commit messages) is passed over.

    Raises TargetError with a line number for anything that would have to be left out: a hunk that is cut or
    longer than it says, a hunk without a file, a combined diff.
    """
    lines = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not lines[-1]:
        lines.pop()
    files: list[FileDiff] = []
    block: _Block | None = None
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(b"diff --git "):
            files.extend(_finish(block))
            block = _Block(at + 1, git_line=line[len(b"diff --git ") :].rstrip(b"\r"))
        elif line.startswith(_COMBINED):
            raise TargetError("diff_combined", line=at + 1)
        elif line.startswith(b"--- ") and _names_follow(lines, at, block):
            if block is None or block.stage is not _Stage.HEADER:
                files.extend(_finish(block))
                block = _Block(at + 1)
            block.old, block.new = _header_name(line[4:]), _header_name(lines[at + 1][4:])
            at = _read_hunks(lines, at + 2, block)
            continue
        elif _HUNK.match(line):
            raise TargetError("diff_malformed", line=at + 1)
        elif block is not None and block.stage is _Stage.HEADER:
            _read_header(block, line.rstrip(b"\r"))
        at += 1
    files.extend(_finish(block))
    return files


def _names_follow(lines: list[bytes], at: int, block: _Block | None) -> bool:
    """Whether `lines[at]` starts a pair of `---` and `+++` names. In a commit message it may be just text."""
    if at + 1 >= len(lines) or not lines[at + 1].startswith(b"+++ "):
        return False
    if at + 2 < len(lines) and lines[at + 2].startswith(b"@@ "):
        return True
    if at + 2 >= len(lines) or (block is not None and block.stage is _Stage.HEADER):
        raise TargetError("diff_cut", line=at + 1)
    return False


def _read_hunks(lines: list[bytes], at: int, block: _Block) -> int:
    """The hunks that start at `lines[at]`, into `block`; returns the index after them."""
    expected = 1  # the first new-side line that no hunk has covered yet
    while at < len(lines) and lines[at].startswith(b"@@ "):
        header_line = at + 1
        hunk, at = _read_hunk(lines, at)
        first = hunk.new_start if hunk.new_count else hunk.new_start + 1
        if first < expected:
            raise TargetError("diff_malformed", line=header_line)
        expected = first + hunk.new_count
        block.hunks.append(hunk)
        while at < len(lines) and lines[at].startswith(b"\\"):
            at += 1
    if at < len(lines) and lines[at][:1] in (b"+", b"-", b" ") and not _may_follow(lines, at):
        raise TargetError("diff_malformed", line=at + 1)  # more lines than the hunk said
    block.stage = _Stage.HUNKS
    return at


def _may_follow(lines: list[bytes], at: int) -> bool:
    """Whether a line that looks like one of a hunk may stand after it: a mail's signature, the next file."""
    if lines[at].rstrip(b"\r") in _SIGNATURES:
        return True
    starts = (b"--- ", b"+++ ", b"@@ ")
    return all(line.startswith(start) for line, start in zip(lines[at : at + 3], starts, strict=False))


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
    elif word == b"index" and b".." in rest.split(b" ", 1)[0]:
        ids, _, mode = rest.partition(b" ")
        block.new_blob = ids.split(b"..")[1].decode("ascii", "replace")
        if mode:
            block.old_mode = block.new_mode = mode.decode("ascii", "replace")
    elif line.startswith(b"Binary files ") or line == b"GIT binary patch":
        block.binary, block.stage = True, _Stage.TEXT
    elif not line.startswith((b"similarity index ", b"dissimilarity index ")):
        block.stage = _Stage.TEXT


def _read_hunk(lines: list[bytes], at: int) -> tuple[Hunk, int]:
    """The hunk whose `@@` line is `lines[at]`, and the index after it."""
    header_line = at + 1
    match = _HUNK.match(lines[at])
    if match is None:
        raise TargetError("diff_malformed", line=header_line)
    old_start, old_left, new_start, new_left = (
        int(group) if group is not None else 1 for group in match.groups()
    )
    number = new_start if new_left else new_start + 1
    if not 0 < max(old_left, new_left) <= MAX_HUNK_LINES or number < 1:
        raise TargetError("diff_malformed", line=header_line)
    old_count, new_count = old_left, new_left
    new_lines: list[bytes] = []
    added: set[int] = set()
    removed: list[Removed] = []
    gone: list[bytes] = []
    at += 1
    while old_left or new_left:
        if at >= len(lines):
            raise TargetError("diff_cut", line=header_line)
        mark, text = lines[at][:1], lines[at][1:]
        at += 1
        if mark == b"\\":
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
        if mark not in (b"+", b" ", b"", b"\r", b"-") or old_left < 0 or new_left < 0:
            raise TargetError("diff_malformed", line=at)
    if gone:
        removed.append(Removed(number, tuple(gone)))
    hunk = Hunk(
        old_start, old_count, new_start, new_count, tuple(new_lines), frozenset(added), tuple(removed)
    )
    return hunk, at


def _finish(block: _Block | None) -> Iterator[FileDiff]:
    if block is None:
        return
    old_name, new_name = _names(block)
    change = block.change
    if not (block.hunks or block.binary or change is Change.DELETED) and _says_content(block.new_blob):
        raise TargetError("diff_cut", line=block.line)
    if block.new == b"/dev/null":
        change = Change.DELETED
    elif block.old == b"/dev/null":
        change = Change.ADDED
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


def _says_content(blob: str) -> bool:
    """Whether an `index` line announces hunks: its new side is not the (shortened) id of the empty file."""
    return bool(blob) and not any(empty.startswith(blob) for empty in _EMPTY_BLOBS)


def _names(block: _Block) -> tuple[bytes, bytes]:
    """Old and new path of a block; the same for a file that is new or gone."""
    of_git_line = _git_line_names(block.git_line) if block.git_line else None
    pair = (block.old, block.new) if block.old is not None and block.new is not None else of_git_line
    if block.moved_from is not None and block.moved_to is not None:
        pair = block.moved_from, block.moved_to
    elif pair is None:
        raise TargetError("diff_malformed", line=block.line)
    else:
        old, new = pair
        # `git diff --no-prefix` shows on the first line only: there, a folder `a` is the same on both sides.
        if _prefixed(*(of_git_line or pair)):
            old, new = _strip(old), _strip(new)
        pair = (new if old == b"/dev/null" else old, old if new == b"/dev/null" else new)
    if not pair[1]:
        raise TargetError("diff_malformed", line=block.line)
    return pair


def _prefixed(old: bytes, new: bytes) -> bool:
    """Whether two names carry the one-letter prefixes of their sides."""
    names = [name for name in (old, new) if name != b"/dev/null"]
    if not all(name[1:2] == b"/" and name[0] in _PREFIXES for name in names):
        return False
    return len(names) == 1 or old[:1] != new[:1]


def _header_name(raw: bytes) -> bytes:
    """Name of a `---`/`+++` line; a tab follows a name with blanks, and a date may follow the tab."""
    raw = raw.rstrip(b"\r")
    quoted = _QUOTED.match(raw)
    return _unquote(quoted[0]) if quoted else raw.split(b"\t", 1)[0]


def _unquote(raw: bytes) -> bytes:
    if not (raw.startswith(b'"') and raw.endswith(b'"') and len(raw) > 1):
        return raw

    def one(match: re.Match[bytes]) -> bytes:
        code = match.group(1)
        return bytes([int(code, 8) & 0xFF]) if len(code) == 3 else _ESCAPES.get(code, code)

    return _ESCAPE.sub(one, raw[1:-1])


def _strip(name: bytes) -> bytes:
    return name if name == b"/dev/null" else name[2:]


def _git_line_names(rest: bytes) -> tuple[bytes, bytes] | None:
    """Both names of `diff --git a/x b/x`: all there is for mode changes, binary and empty files."""
    if quoted := _QUOTED.match(rest):
        return _unquote(quoted[0]), _unquote(rest[quoted.end() + 1 :])
    if rest.endswith(b'"'):
        old, _, new = rest.partition(b' "')
        return old, _unquote(b'"' + new)
    middle = len(rest) // 2  # both names are equal but for their first letter
    if rest[middle : middle + 1] == b" " and rest[2:middle] == rest[middle + 3 :]:
        return rest[:middle], rest[middle + 1 :]
    old, space, new = rest.rpartition(b" b/")
    return (old, b"b/" + new) if space else None
