"""Many keys in few statements: SQLite takes only so many values in one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_AT_ONCE = 500


def parts(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[at : at + _AT_ONCE] for at in range(0, len(keys), _AT_ONCE))


def marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))
