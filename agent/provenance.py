"""Beside what a finding was written: a model may repeat code that it was shown in what it says of other code.

Requests keep apart what the policy of their run told apart. A finding may be of an earlier run, whose policy
was another, or of another repository that holds the same code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from review_agent.agent.errors import GitError
from review_agent.agent.findings import Context, model_findings
from review_agent.agent.models import Analysis, Finding
from review_agent.agent.target import Target

Words = tuple[str, str, str]  # path, title and message of a finding


def place_of(target: Target) -> str:
    """Names the repository of a target, without telling where it is."""
    try:
        location = target.repository()
    except GitError:
        location = None
    root = location.root if location is not None else Path(target.root).resolve()
    return hashlib.sha256(str(root).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def name_in(place: str, path: str) -> str:
    """A file of a place, as text that a store can hold."""
    return f"{place}:{quote(path, errors='surrogateescape')}"


def words_of(finding: Finding) -> Words:
    return finding.path, finding.title, finding.message


def foreign_words(
    analyses: Iterable[Analysis],
    contexts: Mapping[str, Context],
    place: str,
    visible: Callable[[str], bool],
    guided: Callable[[Analysis], bool],
) -> frozenset[Words]:
    """What a model wrote with code before it that may not be seen, or of which nothing is known.

    `guided` says whether it was shown guidance that may not be seen.
    """
    known: dict[str, bool] = {}

    def seen(name: str) -> bool:
        where, _, path = name.partition(":")
        if name not in known:
            known[name] = where == place and visible(unquote(path, errors="surrogateescape"))
        return known[name]

    found: set[Words] = set()
    for analysis in analyses:
        tainted = [
            placed
            for placed in analysis.placed
            if guided(analysis) or placed.beside is None or not all(map(seen, placed.beside))
        ]
        one = Analysis(analysis.unit, tuple(tainted))
        found.update(words_of(finding) for finding, _ in model_findings([one], contexts))
    return frozenset(found)
