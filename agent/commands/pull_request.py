"""`run --pr N`: which commits a pull request is, and what was said of it before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from review_agent.agent.commands.publish import open_forge, pull_number
from review_agent.agent.errors import ForgeError, GitError, TargetError
from review_agent.agent.markers import Checkpoint, checkpoint_of, is_summary
from review_agent.agent.session import trusting
from review_agent.agent.target import Target
from review_agent.tools.forges.payloads import Pull
from review_agent.tools.git import Repository

MAX_EVENT = 8 * 1024 * 1024  # bytes


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore")

    pull_request: Pull


def pull_target(root: Path, given: Mapping[str, object], environ: Mapping[str, str]) -> Target:
    """The target of a pull request: its commits, from the options, the runner's event, or the forge.

    They must be here: fetching is the user's business, or the workflow's.
    """
    number = pull_number(given["pr"])
    base, head = str(given["from"] or ""), str(given["to"] or "")
    if base and not head:
        head = "HEAD"
    event = None if base else _event(environ, number)
    if event is not None:
        base, head = base or event.base.sha, head or event.head.sha
    mark, why = None, "asked_for_all"
    if not (given["full"] and base and head):
        pull, mark, why = asyncio.run(
            _ask(number, str(given["repo"] or ""), environ, need=not base, summary=not given["full"])
        )
        if pull is not None:
            base, head = base or pull.base.sha, head or pull.head.sha
    target = Target("range", str(root), base=base, head=head, pull=number, checkpoint=mark, why=why)
    _check_here(trusting(target, environ), number)
    return target


def _event(environ: Mapping[str, str], number: int) -> Pull | None:
    """The pull request in the event that started the workflow, when it is this one."""
    name = environ.get("GITHUB_EVENT_PATH", "")
    if not name:
        return None
    try:
        with Path(name).open("rb") as stream:
            data = stream.read(MAX_EVENT)
        pull = _Event.model_validate(json.loads(data)).pull_request
    except (OSError, ValidationError, ValueError, RecursionError):  # another kind of event
        return None
    return pull if pull.number == number else None


async def _ask(
    number: int, repository: str, environ: Mapping[str, str], *, need: bool, summary: bool
) -> tuple[Pull | None, Checkpoint | None, str]:
    """The commits when they are needed, and the checkpoint of our summary. Without one all is reviewed."""
    try:
        async with open_forge(repository, number, environ) as forge:
            pull = await forge.pull() if need else None
            if not summary:
                return pull, None, "asked_for_all"
            try:
                rows = [row for row in await forge.comments() if row.untouched and is_summary(row.body)]
            except ForgeError:
                return pull, None, "summary_unread"
            mark = checkpoint_of(rows[0].body) if rows else None
            return pull, mark, "" if mark else "first_run"
    except ForgeError:
        if need:
            raise
        return None, None, "summary_unread"


def _check_here(target: Target, number: int) -> None:
    location = target.repository()
    if location is None:
        raise TargetError("not_a_repository", path=target.root, option="--pr")
    with Repository(location) as repo:
        for commit, command in (
            (target.head, f"git fetch origin pull/{number}/head"),
            (target.base, f"git fetch origin {target.base}"),
        ):
            try:
                repo.resolve(commit)
            except GitError as exc:
                raise TargetError(
                    "errors_forge.commit_not_here", commit=commit[:12], number=number, command=command
                ) from exc
