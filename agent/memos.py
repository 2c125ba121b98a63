"""What content alone decides is computed once: outlines, and the findings of the checks that need no model.

A memo's key covers everything that it was computed from, and the code and data that computed it; so an
upgrade computes anew. The store seals memos; what does not validate here, or cannot be of this file, is as
good as absent.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, TypeVar

from review_agent.agent.errors import StoreError
from review_agent.agent.models import Finding, SourceFile, Symbol
from review_agent.agent.version import __version__

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from review_agent.checkpoints.store import Store

FORMAT = 1
_SOURCES = ("review_agent.tools", "review_agent.agent", "review_agent.prompts")
_COMPUTE = ("ast-grep-py", "detect-secrets", "pyyaml")
_Item = TypeVar("_Item")


@dataclass
class Memos:
    """Memos of one run. With `read` off nothing is believed (`--fresh`). Not for other threads: SQLite."""

    store: Store | None = None
    read: bool = True
    _fresh: dict[str, str] = field(default_factory=dict)

    def recall(self, keys: Iterable[str]) -> Mapping[str, str]:
        wanted = sorted(set(keys))
        return self.store.memos(wanted) if self.store is not None and self.read and wanted else {}

    def note(self, key: str, payload: str) -> None:
        self._fresh[key] = payload

    def save(self) -> None:
        """All that was noted, in one transaction. What cannot be kept is computed again."""
        if self.store is not None and self._fresh:
            with suppress(StoreError):
                self.store.memorise(self._fresh)
            self._fresh.clear()


# --- outlines ---


def outlines(sources: Sequence[SourceFile], memos: Memos) -> dict[str, tuple[Symbol, ...]]:
    """Definitions by path. A file of which only some lines are known has none."""
    whole = [file for file in sources if file.known is None]
    keys = {file.path: _key("outline", file.language, lines=file.lines) for file in whole}
    known = memos.recall(keys.values())
    found: dict[str, tuple[Symbol, ...]] = {file.path: () for file in sources}
    for file in whole:
        key = keys[file.path]
        symbols = _symbols(known[key], file) if key in known else None
        if symbols is None:
            from review_agent.tools.symbols import outline

            symbols = outline("\n".join(file.lines), file.language)
            memos.note(key, _symbol_adapter().dump_json(symbols).decode() if symbols else "[]")
        found[file.path] = symbols
    return found


def _symbols(payload: str, file: SourceFile) -> tuple[Symbol, ...] | None:
    symbols = _read(_symbol_adapter, payload)
    fits = symbols is not None and all(1 <= each.start <= each.end <= len(file.lines) for each in symbols)
    return symbols if fits else None


# --- checks ---


@dataclass
class Checks:
    """The checks of some files: what is known of them is recalled when this is made, the rest by `run`.

    `run` may be called in another thread; `save` may not.
    """

    sources: Sequence[SourceFile]
    lang: str
    memos: Memos
    _found: dict[str, tuple[Finding, ...]] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._keys = {file.path: _check_key(file, self.lang) for file in self.sources}
        known = self.memos.recall(self._keys.values())
        for file in self.sources:
            payload = known.get(self._keys[file.path])
            findings = _findings(payload, file) if payload is not None else None
            if findings is not None:
                self._found[file.path] = findings

    def run(self) -> Sequence[Finding]:
        """Every finding, in the order of the files."""
        for file in self.sources:
            if file.path not in self._found:
                from review_agent.tools.evidence import check

                found = tuple(check(file, self.lang))
                bare = tuple(replace(finding, path="") for finding in found)  # a name may be no Unicode
                self.memos.note(
                    self._keys[file.path], _finding_adapter().dump_json(bare).decode() if bare else "[]"
                )
                self._found[file.path] = found
        return [finding for file in self.sources for finding in self._found[file.path]]


def _check_key(file: SourceFile, lang: str) -> str:
    hunks = [
        (each.old_start, each.old_count, each.new_start, each.new_count, sorted(each.added))
        for each in file.hunks
    ]
    sides = [(each.new_lines, each.removed) for each in file.hunks]
    notes = [(note.key, sorted(note.fields.items())) for note in file.notes]
    spans = [None if numbers is None else sorted(numbers) for numbers in (file.changed, file.known)]
    place = (file.path, file.language, str(file.change), file.encoding)
    return _key("check", lang, *place, repr((spans, hunks, sides, notes)), lines=file.lines)


def _findings(payload: str, file: SourceFile) -> tuple[Finding, ...] | None:
    findings = _read(_finding_adapter, payload)
    if findings is None:
        return None
    last = len(file.lines)
    if not all(0 <= each.start_line <= each.end_line <= last and each.source == "check" for each in findings):
        return None
    return tuple(replace(finding, path=file.path) for finding in findings)


# --- keys and payloads ---


def _key(kind: str, *parts: str, lines: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for part in (str(FORMAT), kind, code_digest(), *parts, "\n".join(lines)):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()


@cache
def code_digest() -> str:
    """Of all that computes memos: our code, its data and sentences, the parsers, and Python's own."""
    digest = hashlib.sha256()
    for package in _SOURCES:
        folder = files(package)
        entries = [entry for entry in folder.iterdir() if entry.name.endswith((".py", ".toml"))]
        if package.endswith("prompts"):
            entries += [lang / "checks.toml" for lang in (folder / "messages").iterdir()]
        for entry in sorted(entries, key=str):
            data = entry.read_bytes()
            digest.update(f"{entry.name}:{len(data)}:".encode() + data)
    parsers = [f"{name} {version(name)}" for name in _COMPUTE]
    digest.update("\n".join([__version__, sys.version, *parsers]).encode())
    return digest.hexdigest()


def _read(adapter: Callable[[], TypeAdapter[tuple[_Item, ...]]], payload: str) -> tuple[_Item, ...] | None:
    if payload == "[]":  # by far the most of them
        return ()
    from pydantic import ValidationError

    try:
        return adapter().validate_json(payload)
    except ValidationError:
        return None


@cache
def _symbol_adapter() -> TypeAdapter[tuple[Symbol, ...]]:
    from pydantic import TypeAdapter

    return TypeAdapter(tuple[Symbol, ...])


@cache
def _finding_adapter() -> TypeAdapter[tuple[Finding, ...]]:
    from pydantic import TypeAdapter

    return TypeAdapter(tuple[Finding, ...])
