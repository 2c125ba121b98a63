"""Why a file is not sent to a model, by rule: each answer is a key of `[reasons]` and listed in the report.

A repository can give itself one of these marks to be left alone. So marks are read narrowly (generated code
must say so in a comment at the top), and the report names every file that has one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase

from review_agent.tools.encoding import decode, is_binary, split_lines

_VENDORED_FOLDERS = """
vendor node_modules bower_components jspm_packages third_party third-party thirdparty .venv venv site-packages
dist-packages .tox .nox .eggs .yarn .pnpm-store pods carthage __pycache__ oh_modules
"""
_LOCK_FILES = """
package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml bun.lock bun.lockb deno.lock poetry.lock
uv.lock pdm.lock pixi.lock pipfile.lock cargo.lock go.sum go.work.sum composer.lock gemfile.lock podfile.lock
mix.lock packages.lock.json project.assets.json paket.lock flake.lock rebar.lock pubspec.lock
package.resolved cartfile.resolved gradle.lockfile buildscript-gradle.lockfile .terraform.lock.hcl conan.lock
module.bazel.lock stack.yaml.lock cabal.project.freeze oh-package-lock.json5
"""
_GENERATED_NAMES = """
*.pb.go *.pb.gw.go *.pb.h *.pb.cc *.pb.swift *.pb.dart *_pb2.py *_pb2.pyi *_pb2_grpc.py *_pb.js *_pb.ts
*_pb.d.ts *.g.dart *.freezed.dart *.designer.cs *.designer.vb *.g.cs *.g.i.cs *.generated.* *_generated.go
zz_generated.*.go project.pbxproj
"""
_MINIFIED_NAMES = "*.min.js *.min.mjs *.min.css *.js.map *.mjs.map *.cjs.map *.css.map *.ts.map"

_COMMENT = re.compile(
    r"""^\s*(?://|\#|/?\*|--|;|<!--|%|\"\"\"|\{-|\(\*|rem\b)(.*)$""", re.IGNORECASE | re.MULTILINE
)
_MADE = r"(?:(?:auto-?|automatically |code )generated|generated (?:by|from|code|file))\b"
_HANDS_OFF = r"(?:do not|don't) (?:edit|modify)\b"
_MARKER = re.compile(
    rf"@generated\b|<auto-?generated\b|{_MADE}.{{0,120}}?{_HANDS_OFF}|{_HANDS_OFF}.{{0,120}}?{_MADE}"
    r"|自动生成.{0,60}?(?:请勿|不要|勿|禁止|切勿).{0,6}?(?:修改|编辑|改动|更改)",
    re.IGNORECASE | re.DOTALL,
)
_MARKER_SPAN = 2048

_LFS = b"version https://git-lfs.github.com/spec/v1\n"
_LONG_LINE = 1000
_MINIFIED_SIZE = 20_000
_NOTEBOOK_CELLS = ("code", "markdown")
_MODES = {"160000": "submodule", "120000": "symlink"}


def skip_reason(path: str, data: bytes, *, mode: str = "100644") -> str | None:
    """The rule that keeps a file from review, or None. `mode` is git's; `data` of a link is not looked at."""
    if reason := _MODES.get(mode) or skip_by_path(path):
        return reason
    rules = _NOTEBOOK_RULES if is_notebook(path) else _RULES
    return next((key for key, applies in rules if applies(data)), None)


def skip_by_path(path: str) -> str | None:
    """The rules that need no content."""
    *folders, name = path.lower().split("/")
    if not set(_VENDORED_FOLDERS.split()).isdisjoint(folders):
        return "vendored"
    if name in _LOCK_FILES.split():
        return "lock_file"
    if any(fnmatchcase(name, pattern) for pattern in _GENERATED_NAMES.split()):
        return "generated"
    return "minified" if any(fnmatchcase(name, pattern) for pattern in _MINIFIED_NAMES.split()) else None


def _is_blank(data: bytes) -> bool:
    return not data.strip()


def _is_lfs_pointer(data: bytes) -> bool:
    return data.startswith(_LFS) and len(data) < 1024


def _is_marked_generated(data: bytes) -> bool:
    # Comments only, and joined: the two halves of the sentence often stand on two lines.
    head = decode(data[:_MARKER_SPAN]).text
    return bool(_MARKER.search("\n".join(_COMMENT.findall(head))))


def _is_minified(data: bytes) -> bool:
    """Nearly everything stands in very long lines. One long line among ordinary ones does not hide those."""
    if len(data) < _MINIFIED_SIZE:
        return False
    lines = [line for line in data.replace(b"\r", b"\n").split(b"\n") if line.strip()]
    long = [len(line) for line in lines if len(line) > _LONG_LINE]
    return sum(long) > 0.9 * len(data) and len(lines) - len(long) <= 50


def _is_broken_notebook(data: bytes) -> bool:
    return notebook_text(decode(data).text) is None


def _is_empty_notebook(data: bytes) -> bool:
    return not (notebook_text(decode(data).text) or "").strip()


_RULES: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("empty", _is_blank),
    ("lfs_pointer", _is_lfs_pointer),
    ("binary", is_binary),
    ("generated", _is_marked_generated),
    ("minified", _is_minified),
)
# A notebook's long lines are embedded pictures, which are not shown anyway.
_NOTEBOOK_RULES: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    *_RULES[:3],
    ("notebook_unreadable", _is_broken_notebook),
    ("empty", _is_empty_notebook),
)


def is_notebook(path: str) -> bool:
    return path.lower().endswith(".ipynb")


def notebook_lines(text: str) -> frozenset[int] | None:
    """Lines of a notebook that are the source of its code and Markdown cells, never outputs or metadata.

    None when it cannot be read, or stands on one line, where lines tell nothing: see `notebook_text`.
    """
    if _cells(text) is None or len(split_lines(text)) < 2:
        return None
    return frozenset(_source_lines(text))


def notebook_text(text: str) -> str | None:
    """The source of a notebook's code and Markdown cells, cell by cell; None when it cannot be read.

    Its lines are not those of the file: only for notebooks on one line, and the report must say so.
    """
    cells = _cells(text)
    if cells is None:
        return None
    return "".join(source if source.endswith("\n") else source + "\n" for source in cells if source)


def _cells(text: str) -> list[str] | None:
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError):
        return None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        return None
    sources = []
    for cell in cells:
        if not isinstance(cell, dict):
            return None
        if cell.get("cell_type") in _NOTEBOOK_CELLS:
            source = cell.get("source", "")
            lines = source if isinstance(source, list) else [source]
            if not all(isinstance(line, str) for line in lines):
                return None
            sources.append("".join(lines))
    return sources


_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],\n]')


def _source_lines(text: str) -> Iterator[int]:
    """Walk the pieces of a notebook that is known to be good JSON: `json` itself keeps no positions."""
    line = 1
    trail: list[str] = []  # of each open container: the key it stands under, and its bracket
    key, at_key = "", False
    kind, found = "", list[int]()
    for match in _PIECE.finditer(text):
        piece = match[0]
        if piece == "\n":
            line += 1
        elif piece in "{[":
            trail.append(key + piece)
            key, at_key = "", piece == "{"
        elif piece in "}]":
            trail.pop()
            key = ""
            if trail == ["{", "cells["]:  # the end of a cell; its type may stand after its source
                if kind in _NOTEBOOK_CELLS:
                    yield from found
                kind, found = "", []
        elif piece == ",":
            at_key = trail[-1].endswith("{")
        elif at_key:
            key, at_key = json.loads(piece, strict=False), False
        elif trail == ["{", "cells[", "{"] and key == "cell_type":
            kind = json.loads(piece, strict=False)
        elif (trail == ["{", "cells[", "{"] and key == "source") or trail == ["{", "cells[", "{", "source["]:
            found.append(line)
