"""A report becomes a review of a pull request: one review, one summary, nothing said twice.

Each round reads what is there, decides what is missing and writes that. After an answer that did not come,
the next round sees what was carried out.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from review_agent.agent.errors import ForgeDenied, ForgeError, ForgeFault, ForgeMissing, ForgeRejected
from review_agent.agent.increment import range_of
from review_agent.agent.markers import Checkpoint, checkpoint_of, is_summary, said_line, said_of, said_token
from review_agent.agent.models import Finding, Report, VerdictWord
from review_agent.agent.publication import (
    BATCH,
    Closing,
    Diff,
    Placing,
    Plan,
    Talk,
    commentable,
    plan,
    said_twice,
    talk,
)
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
    async def reviews(self) -> list[Comment]: ...
    async def review(self, commit: str, body: str, comments: Sequence[dict[str, object]]) -> Written: ...
    async def comment(self, body: str) -> Written: ...
    async def edit_comment(self, number: int, body: str) -> Written: ...
    async def edit_review_comment(self, number: int, body: str) -> Written: ...
    async def delete_comment(self, number: int) -> None: ...
    async def delete_review_comment(self, number: int) -> None: ...
    async def resolve(self, thread: str) -> None: ...


@dataclass
class Published:
    """What came of it. `refused`: findings that GitHub did not take on their lines; the summary has them."""

    plan: Plan
    inline: int = 0
    refused: list[Finding] = field(default_factory=list)
    closing: Closing = field(default_factory=Closing)
    url: str = ""
    checkpoint: Checkpoint | None = None


async def preview(forge: Forge, report: Report, head: str) -> Published:
    """What `publish` would do now."""
    await _check_head(forge, head)
    return Published(await _plan(forge, report, await _diff(forge)))


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
        try:
            planned = await _plan(forge, report, diff)
            refused = {id(finding) for finding in reviews.refused}
            wanted = [placing for placing in planned.inline if id(placing.finding) not in refused]
            done = done or Published(planned)  # the first plan tells new from known
            await reviews.post(wanted)
            await _tidy(forge, said_twice(_talks(await forge.threads())) if wanted else planned.twice)
            await _close(forge, planned, head, report.lang, done.closing)
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


async def _plan(forge: Forge, report: Report, diff: Diff) -> Plan:
    said = [said_of(row.body) for row in await forge.reviews() if row.untouched]
    return plan(report, diff, _talks(await forge.threads()), frozenset().union(*said))


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
                thread.id,
                first.id,
                thread.path,
                first.body,
                resolved=thread.resolved,
                line=thread.line,
                answered=thread.answered,
            )
            found += [ours] if ours is not None else []
    return found


class _Reviews:
    """Posts comments as few reviews. One that GitHub refuses is found by halves, and kept for the summary."""

    def __init__(self, forge: Forge, head: str, report: Report) -> None:
        self._forge, self._head, self._report = forge, head, report
        self._left = MAX_REVIEWS
        self._checked = False
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
            await self._forge.review(self._head, self._body(batch), [self._comment(each) for each in batch])
        except (ForgeRejected, ForgeMissing) as exc:  # for too many at once the answer is 404, too
            if not self._checked:  # of an old commit each comment would be refused
                self._checked = True
                await _check_head(self._forge, self._head)
            if len(batch) == 1:
                if isinstance(exc, ForgeMissing):
                    raise
                self.refused.append(batch[0].finding)
                return
            half = len(batch) // 2
            await self._post(batch[:half])
            await self._post(batch[half:])

    def _body(self, batch: Sequence[Placing]) -> str:
        names = said_line(said_token(each.key, each.spot.path) for each in batch)
        return f"{review_body(len(batch), self._report.lang)}\n\n{names}"

    def _comment(self, placing: Placing) -> dict[str, object]:
        spot = placing.spot
        text = remark(placing, verdict_of(self._report, placing.finding), self._report.lang)
        fields: dict[str, object] = {"path": spot.path, "line": spot.end, "side": "RIGHT", "body": text}
        if spot.start < spot.end:
            fields |= {"start_line": spot.start, "start_side": "RIGHT"}
        return fields


async def _tidy(forge: Forge, twice: Sequence[Talk]) -> None:
    """Two publishers read the same conversations before either wrote: the older comment stays."""
    for each in twice:
        with suppress(ForgeMissing, ForgeDenied):  # the other one was faster; or may do it
            await forge.delete_review_comment(each.comment)


async def _close(forge: Forge, planned: Plan, head: str, lang: str, closing: Closing) -> None:
    """Say below each finding that is gone that it is, and resolve its conversation where nobody spoke in it.

    The token of a workflow may comment, but resolves only with `contents: write`; then the words must do.
    """
    allowed, closing.denied, closing.answered = True, 0, 0
    closing.left = len(planned.gone[MAX_CLOSED:])
    for each in planned.gone[:MAX_CLOSED]:
        try:
            if not each.gone:
                await forge.edit_review_comment(each.comment, farewell(each.body, head, lang))
            if each.answered:
                closing.answered += 1
                continue
            if allowed:
                await forge.resolve(each.id)
        except ForgeMissing:  # somebody deleted it
            continue
        except ForgeDenied:
            allowed = False
        if allowed:
            closing.closed += 1
        else:
            closing.denied += 1


async def _summarise(forge: Forge, report: Report, done: Published, checkpoint: Checkpoint | None) -> None:
    ours = await _summaries(forge)
    before = checkpoint_of(ours[0].body) if ours and ours[0].untouched else None
    # While conversations are left to close, their files must be looked at again.
    done.checkpoint = checkpoint if checkpoint and not done.closing.left else before
    nothing = report.verdict_reason == "nothing_to_review" and range_of(report)[0] == "incremental"
    if ours and nothing and before == done.checkpoint and not done.plan.gone:
        done.url = ours[0].url  # not a commit more: what was said of all of them still stands
        return
    refused = {id(finding) for finding in done.refused}
    body = summary(
        whole(report, done.plan),
        replace(done.plan, inline=tuple(p for p in done.plan.inline if id(p.finding) not in refused)),
        refused=done.refused,
        closing=done.closing,
        checkpoint=done.checkpoint,
    )
    if ours and ours[0].body.replace("\r\n", "\n").strip() == body.strip():
        done.url = ours[0].url
        return
    if ours:
        with suppress(ForgeMissing):  # deleted since we looked
            done.url = (await forge.edit_comment(ours[0].id, body)).html_url or ours[0].url
            return
    done.url = (await forge.comment(body)).html_url
    await _summaries(forge)  # another publisher may have written one, too


async def _summaries(forge: Forge) -> list[Comment]:
    """Our summary, or none. Of several the oldest stays, the others are deleted."""
    ours = [row for row in await forge.comments() if row.mine and is_summary(row.body)]
    for row in ours[1:]:
        with suppress(ForgeMissing, ForgeDenied):
            await forge.delete_comment(row.id)
    return ours[:1]
