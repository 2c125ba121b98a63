"""Which commits of a push are new to the other side, ref by ref."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from review_agent.agent.pushed import Push, PushedRef
from review_agent.tools import git_push
from review_agent.tools.git import Repository

SMALL_HISTORY = 100  # files: up to here the first push of a repository is reviewed as a whole
LAST_COMMITS = 20


@dataclass(frozen=True, slots=True)
class Span:
    """What to review of one pushed ref: from `base` (a commit, or the empty tree) to `head`.

    `how` says why from there; `skip` why there is nothing to review; `problem` why it could not be told. Each
    is a key of `[hook_ranges]`.
    """

    ref: PushedRef
    base: str = ""
    head: str = ""
    how: str = ""
    skip: str = ""
    problem: str = ""
    carried: bool = False
    fields: dict[str, object] = field(default_factory=dict, hash=False)


def spans(repo: Repository, push: Push) -> list[Span]:
    """One for each ref: branches first, so that a tag upon one of them has nothing new."""
    here = _Known(repo, push)
    found: list[Span] = []
    for ref in sorted(push.refs, key=lambda each: each.is_tag):
        span = here.span(ref)
        found.append(span)
        if span.base:
            here.add(span.head)  # each commit once, whichever of the refs brings it
    return found


class _Known:
    """What the remote has, as far as this repository knows: what it saw there, and what git just said."""

    def __init__(self, repo: Repository, push: Push) -> None:
        self.repo = repo
        said = [ref.remote for ref in push.refs if not ref.creates]
        seen = git_push.remote_tips(repo, push.remote)
        # A new remote, or one given by address: what any other has was pushed, and looked at, before.
        self.elsewhere = not seen and not git_push.commits(repo, said)
        self.tips = git_push.commits(repo, [*said, *(seen or git_push.remote_tips(repo))])
        self.elsewhere = self.elsewhere and bool(self.tips)
        self.objects = git_push.leads_to(repo, [ref.local for ref in push.refs if not ref.deletes])
        heads = [each for kind, each in self.objects.values() if kind == "commit"]
        self.new = git_push.missing(repo, heads, self.tips)

    def add(self, head: str) -> None:
        """The other side will have it."""
        self.tips.append(head)
        self.new = git_push.missing(self.repo, self.new, self.tips)

    def span(self, ref: PushedRef) -> Span:
        if ref.deletes:
            return Span(ref, skip="deleted")
        if ref.local not in self.objects:
            return Span(ref, problem="object_missing")
        kind, head = self.objects[ref.local]
        if kind != "commit":
            return Span(ref, skip="no_commit")
        if head not in self.new:
            return Span(ref, head=head, skip="tag_known" if ref.is_tag else "nothing_new")
        found = git_push.bases(self.repo, head, self._tips_for(ref))
        if not found:
            return self._without_base(ref, head)
        # A branch that took in another one has two: from one side it is all that was taken in.
        base = (
            min(found, key=lambda each: git_push.changed_files(self.repo, each, head))
            if found[1:]
            else found[0]
        )
        return Span(ref, base, head, self._how(ref, head))

    def _tips_for(self, ref: PushedRef) -> list[str]:
        first = [ref.remote] if ref.remote in self.tips else []
        return list(dict.fromkeys([*first, *self.tips]))

    def _how(self, ref: PushedRef, head: str) -> str:
        if ref.is_tag:
            return "tag"
        if ref.creates:
            return "new_elsewhere" if self.elsewhere else "new"
        if ref.remote not in self.tips:
            return "forced_unknown"
        return "update" if git_push.contains(self.repo, head, ref.remote) else "forced"

    def _without_base(self, ref: PushedRef, head: str) -> Span:
        """Nothing of it is known to be anywhere else: the first push, or a shallow clone."""
        files = git_push.changed_files(self.repo, self.repo.empty_tree, head)
        if files <= SMALL_HISTORY and not self.repo.shallow:
            how = "unrelated" if self.tips else "first"
            return Span(ref, self.repo.empty_tree, head, how, fields={"files": files})
        base = git_push.back(self.repo, head, LAST_COMMITS)
        if base is None:
            return Span(
                ref, problem="too_shallow" if self.repo.shallow else "first_too_big", fields={"files": files}
            )
        how = "unrelated_last" if self.tips else "first_last"
        how = "shallow" if self.repo.shallow else how
        return Span(ref, base, head, how, fields={"files": files, "commits": LAST_COMMITS})


def unreviewed(found: Sequence[Span]) -> list[Span]:
    return [span for span in found if span.base]
