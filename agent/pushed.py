"""What git says about a push: one line for each ref on standard input, or what pre-commit makes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BRANCH = "refs/heads/"
_TAG = "refs/tags/"
ZERO = "0" * 40


@dataclass(frozen=True, slots=True)
class PushedRef:
    """One line. `local_ref` is as the user wrote it (it may hold blanks); an id of zeros means no object."""

    local_ref: str
    local: str
    remote_ref: str
    remote: str

    @property
    def deletes(self) -> bool:
        return not self.local.strip("0")

    @property
    def creates(self) -> bool:
        return not self.remote.strip("0")

    @property
    def is_tag(self) -> bool:
        return self.remote_ref.startswith(_TAG)

    @property
    def name(self) -> str:
        """As the user calls it."""
        return self.remote_ref.removeprefix(_BRANCH).removeprefix(_TAG)


@dataclass(frozen=True, slots=True)
class Push:
    """`malformed` are lines that are none of git's."""

    remote: str
    refs: tuple[PushedRef, ...] = ()
    malformed: tuple[str, ...] = ()


def read_push(remote: str, lines: str) -> Push:
    refs: list[PushedRef] = []
    malformed: list[str] = []
    for line in lines.split("\n"):
        if not line.strip():
            continue
        # From the right: `git push origin 'HEAD@{1 day ago}:x'` gives the first word as it was written.
        parts = line.rsplit(" ", 3)
        if len(parts) == 4 and parts[2].startswith("refs/") and _ID.fullmatch(parts[1]):
            local_ref, local, remote_ref, old = parts
            if _ID.fullmatch(old):
                refs.append(PushedRef(local_ref, local, remote_ref, old))
                continue
        malformed.append(line)
    return Push(remote, tuple(refs), tuple(malformed))


def from_pre_commit(environ: Mapping[str, str], head: str) -> Push | None:
    """The one ref that the pre-commit framework hands on in variables; None where it does not.

    `head` is the commit of its local branch: on a first push of everything pre-commit names no range.
    """
    if environ.get("PRE_COMMIT") != "1":
        return None
    remote = environ.get("PRE_COMMIT_REMOTE_NAME", "")
    old = environ.get("PRE_COMMIT_FROM_REF", ZERO)
    new = environ.get("PRE_COMMIT_TO_REF", "") or head
    remote_ref = environ.get("PRE_COMMIT_REMOTE_BRANCH", "")
    if not remote_ref:
        return None
    local_ref = environ.get("PRE_COMMIT_LOCAL_BRANCH", "") or remote_ref
    return read_push(remote, f"{local_ref} {new} {remote_ref} {old}")
