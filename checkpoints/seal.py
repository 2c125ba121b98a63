"""Seals: a row of the store counts only when it is as we wrote it.

HMAC-SHA256 over the table's name and the row's values, cut to 128 bits. The key is the user's own, kept in
the state folder, or `REVIEW_AGENT_CACHE_KEY` where a store is carried from one machine to another (a CI
cache): so a store that somebody planted in a repository or a cache holds nothing that is believed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from review_agent.agent.errors import StoreError

KEY_BYTES = 32


class Seals:
    """The first key seals; a seal of any of them holds."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def mark(self, table: str, *values: str | int) -> str:
        return _mark(self._keys[0], table, values)

    def holds(self, seal: str, table: str, *values: str | int) -> bool:
        given = seal.encode("utf-8", "replace")  # as text, only ASCII can be compared
        return any(hmac.compare_digest(_mark(key, table, values).encode(), given) for key in self._keys)


def _mark(key: bytes, table: str, values: Sequence[str | int]) -> str:
    digest = hmac.new(key, digestmod=hashlib.sha256)
    for value in (table, *values):
        data = str(value).encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:32]


def load_seals(folder: Path, shared: str = "") -> Seals:
    """The user's key out of `folder`, made when there is none, and before it the one of `shared`, if any.

    Raises StoreError when there is neither and none can be written.
    """
    given = [_shared_key(shared)] if shared else []
    try:
        return Seals([*given, _own_key(folder / "seal.key")])
    except StoreError:
        if not given:
            raise
        return Seals(given)  # a machine of a CI may have no state folder


def known_seals(folder: Path, shared: str = "") -> Seals:
    """As `load_seals`, but makes no key: without one, no seal holds, and none can be set."""
    given = [_shared_key(shared)] if shared else []
    try:
        own = _read(folder / "seal.key")
    except OSError:
        own = b""
    return Seals([*given, own] if len(own) == KEY_BYTES else given)


def _shared_key(text: str) -> bytes:
    return hashlib.sha256(b"review-agent cache key\0" + text.encode()).digest()


def _own_key(path: Path) -> bytes:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = _read(path)
        if len(key) == KEY_BYTES:
            return key
        # Whole or not at all, and the first of two processes wins: a link never replaces what is there.
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        handle = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            if key:  # a damaged one: what it sealed is lost, nothing else
                os.replace(fresh, path)
            else:
                with suppress(FileExistsError):
                    os.link(fresh, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(fresh)
        return _read(path)
    except OSError as exc:
        raise StoreError("store_unusable", path=str(path), detail=exc.strerror or "") from exc


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as file:
            return file.read(KEY_BYTES + 1)
    except FileNotFoundError:
        return b""
