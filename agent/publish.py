"""A report becomes a review of a pull request: one review, one summary, nothing said twice.

Each round reads what is there, decides what is missing and writes that. After an answer that did not come,
the next round sees what was carried out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from review_agent.agent.errors import ForgeDenied, ForgeError, ForgeFault, ForgeRejected
from review_agent.agent.increment import range_of
from review_agent.agent.markers import Checkpoint, checkpoint_of, is_summary
from review_agent.agent.models import Finding, Report, VerdictWord
from review_agent.agent.publication import BATCH, Diff, Placing, Plan, Talk, commentable, plan, talk
from review_agent.agent.remarks import farewell, remark, review_body, summary, verdict_of
from review_agent.tools.forges.payloads import ChangedFile, Comment, Pull, Thread, Written

ROUNDS = 3
MAX_CLOSED = 40  # in one go: each takes two requests, and GitHub counts them
MAX_FILES = 3000  # GitHub lists no more
MAX_REVIEWS = 40  # requests for one report: one bad comment among many is looked for by halves


class Forge(Protocol):
    async def pull(self) -> Pull: ...
    async def files(self) -> list[ChangedFile]: ...
    async def threads(self) -> list[Thread]: ...
    async def comments(self) -> list[Comment]: ...
    async def review(self, commit: str, body: str, comments: Sequence[dict[str, object]]) -> Written: ...
    async def comment(self, body: str) -> Written: ...
    async def edit_comment(self, number: int, body: str) -> Written: ...
    async def edit_review_comment(self, number: int, body: str) -> Written: ...
    async def resolve(self, thread: str) -> None: ...


@dataclass
class Published:
    """What came of it. `refused`: findings that GitHub did not take on their lines; the summary has them."""

    plan: Plan
    inline: int = 0
    refused: list[Finding] = field(default_factory=list)
    closed: int = 0
    unresolved: int = 0
    url: str = ""
    checkpoint: Checkpoint | None = None


async def preview(forge: Forge, report: Report, head: str) -> Published:
    """What `publish` would do now."""
    await _check_head(forge, head)
    talks = _talks(await forge.threads())
    return Published(plan(report, await _diff(forge), talks))


async def publish(forge: Forge, report: Report, head: str, checkpoint: Checkpoint | None) -> Published:
    """Bring the pull request to what the report says. `head` is the commit that was reviewed.

    `checkpoint` is written when given, else the one that stands there is kept. Raises ForgeError; what was
    written until then stays, and the next call goes on from there.
    """
    await _check_head(forge, head)
    diff = await _diff(forge)
    done: Published | None = None
    reviews = _Reviews(forge, head, report)
    for left in reversed(range(ROUNDS)):
        planned = plan(report, diff, _talks(await forge.threads()))
        refused = {id(finding) for finding in reviews.refused}
        wanted = [placing for placing in planned.inline if id(placing.finding) not in refused]
        done = done or Published(planned)  # the first plan tells new from known
        try:
            await reviews.post(wanted)
            await _close(forge, planned, head, report.lang, done)
            done.inline = len(done.plan.inline) - len(reviews.refused)
            done.refused = reviews.refused
            await _summarise(forge, report, done, checkpoint)
            return done
        except ForgeFault:
            if not left:
                raise
    raise ValueError(ROUNDS)


def whole(report: Report, planned: Plan) -> Report:
    """The report as it speaks of the pull request: new commits without a problem do not end older ones."""
    quiet = report.verdict is VerdictWord.PASS or report.verdict_reason == "nothing_to_review"
    if quiet and planned.carried:
        return replace(report, verdict=VerdictWord.ISSUES, verdict_reason="")
    return report


async def _check_head(forge: Forge, head: str) -> None:
    """Lines are of the commit that was reviewed: on another one they would be about other code."""
    now = (await forge.pull()).head.sha
    if now != head:
        raise ForgeError("errors_forge.head_moved", reviewed=head[:12], head=now[:12])


async def _diff(forge: Forge) -> Diff:
    files = await forge.files()
    names = {name for file in files for name in (file.filename, file.previous_filename) if name}
    lines = commentable((file.filename, file.patch) for file in files)
    moved = {
        file.previous_filename: file.filename
        for file in files
        if file.previous_filename and file.status == "renamed"  # not copied
    }
    return Diff(lines, frozenset(names), complete=len(files) < MAX_FILES, moved=moved)


def _talks(threads: Sequence[Thread]) -> list[Talk]:
    """Our own conversations: anybody can write our marker, but not in our name."""
    found = []
    for thread in threads:
        first = thread.first
        if first is not None and first.mine:
            ours = talk(
                thread.id, first.id, thread.path, first.body, resolved=thread.resolved, line=thread.line
            )
            found += [ours] if ours is not None else []
    return found


class _Reviews:
    """Posts comments as few reviews. One that GitHub refuses is found by halves, and kept for the summary."""

    def __init__(self, forge: Forge, head: str, report: Report) -> None:
        self._forge, self._head, self._report = forge, head, report
        self._left = MAX_REVIEWS
        self.refused: list[Finding] = []

    async def post(self, placings: Sequence[Placing]) -> None:
        for at in range(0, len(placings), BATCH):
            await self._post(placings[at : at + BATCH])

    async def _post(self, batch: Sequence[Placing]) -> None:
        if self._left <= 0:
            self.refused += [placing.finding for placing in batch]
            return
        self._left -= 1
        try:
            body = review_body(len(batch), self._report.lang)
            await self._forge.review(self._head, body, [self._comment(placing) for placing in batch])
        except ForgeRejected:
            if len(batch) == 1:
                self.refused.append(batch[0].finding)
                return
            half = len(batch) // 2
            await self._post(batch[:half])
            await self._post(batch[half:])

    def _comment(self, placing: Placing) -> dict[str, object]:
        spot = placing.spot
        text = remark(placing, verdict_of(self._report, placing.finding), self._report.lang)
        fields: dict[str, object] = {"path": spot.path, "line": spot.end, "side": "RIGHT", "body": text}
        if spot.start < spot.end:
            fields |= {"start_line": spot.start, "start_side": "RIGHT"}
        return fields


async def _close(forge: Forge, planned: Plan, head: str, lang: str, done: Published) -> None:
    """Say below each finding that is gone that it is, and resolve its conversation.

    The token of a workflow may comment, but resolves only with `contents: write`; then the words must do.
    """
    allowed, done.unresolved = True, 0
    for each in planned.gone[:MAX_CLOSED]:
        if not each.gone:
            await forge.edit_review_comment(each.comment, farewell(each.body, head, lang))
        if allowed:
            try:
                await forge.resolve(each.id)
                done.closed += 1
                continue
            except ForgeDenied:
                allowed = False
        done.unresolved += 1


async def _summarise(forge: Forge, report: Report, done: Published, checkpoint: Checkpoint | None) -> None:
    ours = [row for row in await forge.comments() if row.mine and is_summary(row.body)]
    before = checkpoint_of(ours[0].body) if ours and ours[0].untouched else None
    done.checkpoint = checkpoint or before
    nothing = report.verdict_reason == "nothing_to_review" and range_of(report)[0] == "incremental"
    if ours and nothing and before == done.checkpoint and not done.plan.gone:
        done.url = ours[0].url  # not a commit more: what was said of all of them still stands
        return
    refused = {id(finding) for finding in done.refused}
    body = summary(
        whole(report, done.plan),
        replace(done.plan, inline=tuple(p for p in done.plan.inline if id(p.finding) not in refused)),
        refused=done.refused,
        unresolved=done.unresolved,
        checkpoint=done.checkpoint,
    )
    if ours and ours[0].body.replace("\r\n", "\n").strip() == body.strip():
        done.url = ours[0].url
        return
    written = await (forge.edit_comment(ours[0].id, body) if ours else forge.comment(body))
    done.url = written.html_url or (ours[0].url if ours else "")
