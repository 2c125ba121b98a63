"""Going on where the last push was not reviewed to its end."""

from __future__ import annotations

from dataclasses import replace

from review_agent.agent.errors import StoreError
from review_agent.agent.push_range import Span
from review_agent.agent.session import Recorded, recorded
from review_agent.checkpoints.store import Store
from review_agent.tools import git_push
from review_agent.tools.git import Repository

_OPEN = ("stopped", "running")  # a limit or a signal; a process that was killed


def carried(repo: Repository, store: Store, span: Span, *, repository: str, pushed: str) -> Span:
    """The span, from where the last review for the same ref began, when that did not come to its end.

    `pushed` names remote and ref. What was reviewed then is in the store, and not asked again.
    """
    for row in store.runs(repository=repository):
        try:
            asked = recorded(row)
        except StoreError:
            continue
        if not row.intact or asked.pushed != pushed:
            continue
        if row.status in _OPEN and _goes_on(repo, span, asked):
            return replace(span, base=asked.base, carried=asked.base != span.base)
        return span
    return span


def _goes_on(repo: Repository, span: Span, asked: Recorded) -> bool:
    """Whether the span continues what was asked: its head builds on that head, and it begins no earlier."""
    whole = asked.base == repo.empty_tree
    ends = {asked.head} if whole else {asked.head, asked.base}
    if set(git_push.commits(repo, sorted(ends))) != ends:  # history has been thrown away since
        return False
    if not git_push.contains(repo, span.head, asked.head):
        return False
    return whole or (span.base != repo.empty_tree and git_push.contains(repo, span.base, asked.base))
