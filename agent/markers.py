"""What we leave in comments to know them again: hidden lines at fixed places, of a fixed form.

Anybody can write such lines. They are read in comments of our own only, and what they say is checked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from review_agent.agent.models import Finding

SUMMARY = "<!-- review-agent:summary -->"
GONE = "<!-- review-agent:gone -->"  # a finding that later runs did not report
_ID = re.compile(r"([0-9a-f]{8,64})(?:-[0-9]{1,6})?")
# At the very end: above it stands text from outside, in which such a line may be quoted.
_KEY = re.compile(r"(?:^|\n)<!-- review-agent:f=([0-9a-f]{8,64}) -->\s*\Z")
_COMMIT = r"(?:[0-9a-f]{40}|[0-9a-f]{64})"
_CHECKPOINT = re.compile(
    rf"<!-- review-agent:checkpoint head=({_COMMIT}) base=({_COMMIT}) key=([0-9a-f]{{32}}) -->"
)


_SAID = re.compile(r"(?:^|\n)<!-- review-agent:said=([0-9a-f]{16}(?:,[0-9a-f]{16}){0,999}) -->\s*\Z")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was published: up to which commit, from which merge base, reviewed by what (a digest)."""

    head: str
    base: str
    key: str

    def __str__(self) -> str:
        return f"<!-- review-agent:checkpoint head={self.head} base={self.base} key={self.key} -->"


def keyed(findings: Iterable[Finding]) -> list[tuple[str, Finding]]:
    """Each finding with its name in comments: its fingerprint without the number that tells equal ones apart.

    That number counts all files of a run, and the next run may look at others.
    """
    named = []
    for finding in findings:
        found = _ID.fullmatch(finding.fingerprint)
        text = f"{finding.fingerprint}\0{finding.rule_id}\0{finding.path}\0{finding.title}"
        made = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        named.append((found[1] if found else made, finding))
    return named


def key_line(key: str) -> str:
    return f"<!-- review-agent:f={key} -->"


def key_of(body: str) -> str:
    """The name of the finding that a comment is about; '' = none."""
    found = _KEY.search(body.replace("\r\n", "\n"))
    return found[1] if found else ""


def said_token(key: str, path: str) -> str:
    """The name of a comment in the review that it is a part of: a comment can be deleted, a review cannot."""
    return hashlib.sha256(f"{key}\0{path}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def said_line(tokens: Iterable[str]) -> str:
    return f"<!-- review-agent:said={','.join(tokens)} -->"


def said_of(body: str) -> frozenset[str]:
    found = _SAID.search(body.replace("\r\n", "\n"))
    return frozenset(found[1].split(",")) if found else frozenset()


def is_summary(body: str) -> bool:
    return body.startswith(SUMMARY)


def is_gone(body: str) -> bool:
    return body.startswith(GONE)


def checkpoint_of(body: str) -> Checkpoint | None:
    """The checkpoint of a summary, on the line below its marker."""
    lines = body.replace("\r\n", "\n").split("\n", 2)
    found = _CHECKPOINT.fullmatch(lines[1]) if is_summary(body) and len(lines) > 1 else None
    return Checkpoint(*found.groups()) if found else None
