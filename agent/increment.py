"""Only the new commits of a pull request, where it can be trusted that the older ones were looked at.

What was published last is told by the checkpoint in our summary, a hint: git says whether its commit is still
part of the branch, and a digest whether the same model, rules and prompt looked at it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from review_agent.agent.errors import GitError
from review_agent.agent.markers import Checkpoint
from review_agent.agent.models import EngineInfo, Note, Report, VerdictWord
from review_agent.agent.prompt import Asker
from review_agent.agent.session import Recorded, model_key
from review_agent.agent.settings import Settings
from review_agent.agent.target import Target
from review_agent.tools.git import Repository

NEW_COMMITS = "new_commits"
NOTES = "pr_"  # + a reason: the keys of `[notes]` that say which commits a run looked at
REASONS = (
    "first_run",
    "asked_for_all",
    "summary_unread",
    "gated",
    "review_changed",
    "base_moved",
    "history_rewritten",
    NEW_COMMITS,
)


def review_key(engine: EngineInfo, settings: Settings, guidance: str, cloud_key: str = "") -> str:
    """A digest of all that decides what a review says of the same code."""
    rules = [[rule.id, rule.text, list(rule.paths), str(rule.severity or "")] for rule in settings.rules]
    parts = {
        "model": model_key(engine),
        "cloud": cloud_key,
        "mode": engine.mode,
        "agent": [engine.orchestrator, engine.agent_model],
        "prompt": Asker(settings.lang, guidance).version,
        "rules": rules,
        "files": [list(settings.include), list(settings.exclude), settings.max_file_size],
        "gate": [settings.min_severity.value, settings.min_confidence],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def settle(target: Target, key: str, *, gated: bool = False) -> Target:
    """The target with its start decided: `since` is kept only where everything agrees, and `why` says so.

    `gated`: findings fail the run. Those of older commits must then, too, while they are there.
    """
    mark = target.checkpoint
    if not target.pull or mark is None:
        return replace(target, why=target.why or "first_run") if target.pull else target
    since, why = ("", "gated") if gated else _judge(target, mark, key)
    return replace(target, since=since, why=why, checkpoint=None)


def _judge(target: Target, mark: Checkpoint, key: str) -> tuple[str, str]:
    if mark.key != key:
        return "", "review_changed"
    location = target.repository()
    if location is None:  # `select` says so
        return "", "first_run"
    with Repository(location) as repo:
        head, tip = repo.resolve(target.head), repo.resolve(target.base)
        try:
            if repo.merge_base(repo.resolve(mark.head), head) != mark.head:
                return "", "history_rewritten"
        except GitError:  # a commit that is not here any more
            return "", "history_rewritten"
        if repo.merge_base(tip, head) != mark.base:
            return "", "base_moved"
    return mark.head, NEW_COMMITS


def note_of(target: Target) -> tuple[Note, ...]:
    if not (target.pull and target.why):
        return ()
    fields: dict[str, object] = {"commit": target.since[:12]} if target.since else {}
    return (Note(f"{NOTES}{target.why}", fields),)


def range_of(report: Report) -> tuple[str, str]:
    """(mode, reason) of a run, as outputs name them; ('full', '') of one that knew no pull request."""
    for note in report.notes:
        reason = note.key.removeprefix(NOTES)
        if note.key.startswith(NOTES) and reason in REASONS:
            return ("incremental" if reason == NEW_COMMITS else "full"), reason
    return "full", ""


def checkpoint_for(asked: Recorded, report: Report) -> Checkpoint | None:
    """What a published run may say that it has looked at: all, or nothing."""
    nothing = report.verdict_reason == "nothing_to_review"
    done = report.verdict in (VerdictWord.PASS, VerdictWord.ISSUES) or nothing
    if not (asked.pull and asked.review_key and done and not report.coverage.files_failed):
        return None
    return Checkpoint(asked.head, asked.base, asked.review_key)
