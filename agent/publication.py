"""What of a report goes where in a pull request: pure, from the report, the diff and the conversation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from review_agent.agent.errors import TargetError
from review_agent.agent.markers import is_gone, key_of, keyed, said_token
from review_agent.agent.models import FileStatus, Finding, Outcome, Report
from review_agent.agent.reports import outline
from review_agent.tools.diff import parse_diff

BATCH = 50  # comments of one review: more in one request have failed for others


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation of ours on lines of the diff: `key` names its finding, `comment` its first comment.

    `line`: where it stands now; None on code that the diff does not show any more. `answered`: somebody
    spoke in it.
    """

    id: str
    comment: int
    path: str
    key: str
    body: str
    resolved: bool
    line: int | None = None
    answered: bool = False

    @property
    def gone(self) -> bool:
        return is_gone(self.body)


@dataclass(frozen=True, slots=True)
class Spot:
    """Lines of the new side that GitHub takes a comment on. `whole`: all that the finding is about."""

    path: str
    start: int
    end: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Placing:
    key: str
    finding: Finding
    spot: Spot


@dataclass(frozen=True, slots=True)
class Plan:
    """`known`: said already and open. `settled`: closed or deleted by somebody, so not said again. `apart`:
    findings that no line of the diff takes. `carried`: open, on files that this run did not look at. `gone`:
    to close. `twice`: what two publishers said at the same time, the later ones of it.
    """

    inline: tuple[Placing, ...]
    apart: tuple[Finding, ...]
    known: tuple[Finding, ...]
    settled: tuple[Finding, ...]
    carried: tuple[Talk, ...]
    gone: tuple[Talk, ...]
    twice: tuple[Talk, ...] = ()


@dataclass(slots=True)
class Closing:
    """What became of `gone`: closed; the token may not; somebody spoke there, so people do; not this time."""

    closed: int = 0
    denied: int = 0
    answered: int = 0
    left: int = 0


def talk(
    id: str,
    comment: int,
    path: str,
    body: str,
    *,
    resolved: bool,
    line: int | None = None,
    answered: bool = False,
) -> Talk | None:
    """A conversation that one of our comments began; None for others."""
    key = key_of(body)
    return Talk(id, comment, path, key, body, resolved, line, answered) if key else None


def commentable(patches: Iterable[tuple[str, str | None]]) -> dict[str, tuple[range, ...]]:
    """The new-side lines of each hunk by path. A file without a patch (large, binary) takes no comment."""
    found: dict[str, tuple[range, ...]] = {}
    for path, patch in patches:
        if patch:
            found[path] = _hunks(patch)
    return found


def _hunks(patch: str) -> tuple[range, ...]:
    data = patch.encode("utf-8", "surrogatepass")
    try:
        diffs = parse_diff(b"--- a/x\n+++ b/x\n" + data + b"\n")
    except TargetError:  # cut: which lines GitHub would take is not known
        return ()
    hunks = [hunk for diff in diffs[:1] for hunk in diff.hunks]
    spans = (range(hunk.new_start, hunk.new_start + hunk.new_count) for hunk in hunks)
    return tuple(span for span in spans if span)


def spot_of(finding: Finding, lines: Mapping[str, Sequence[range]]) -> Spot | None:
    """Where a finding's comment goes: its own lines, or as many of them as stand in one hunk."""
    if finding.start_line <= 0:
        return None
    end = max(finding.start_line, finding.end_line)
    for hunk in lines.get(finding.path, ()):
        first, last = max(finding.start_line, hunk.start), min(end, hunk.stop - 1)
        if first <= last:
            return Spot(finding.path, first, last, (first, last) == (finding.start_line, end))
    return None


@dataclass(frozen=True, slots=True)
class Diff:
    """A pull request's: lines that take comments by path, and all `paths` it touches, old names too.

    `moved`: new names by old ones. `complete` is False where the forge did not list them all.
    """

    lines: Mapping[str, Sequence[range]]
    paths: frozenset[str]
    complete: bool = True
    moved: Mapping[str, str] = field(default_factory=dict)

    def touches(self, path: str) -> bool:
        return path in self.paths or not self.complete


def plan(report: Report, diff: Diff, talks: Sequence[Talk], said: frozenset[str] = frozenset()) -> Plan:
    """`said` names all comments that were ever made, also those that are not there any more."""
    found = keyed(verdict.finding for verdict in outline.in_order(report, Outcome.REPORTED))
    twice = said_twice(talks)
    pairs = _pairs(found, [each for each in talks if not each.gone and each not in twice], diff)
    seen = {said_token(each.key, each.path) for each in talks}
    inline: list[Placing] = []
    apart: list[Finding] = []
    known: list[Finding] = []
    settled: list[Finding] = []
    for at, (key, finding) in enumerate(found):
        if at in pairs:
            (settled if pairs[at].resolved else known).append(finding)
        elif (token := said_token(key, finding.path)) in said and token not in seen:
            settled.append(finding)  # somebody deleted the comment, or its name in it
        elif spot := spot_of(finding, diff.lines):
            inline.append(Placing(key, finding, spot))
        else:
            apart.append(finding)
    taken = {each.id for each in (*pairs.values(), *twice)}
    missing = [each for each in talks if not each.resolved and each.id not in taken]
    covered = _covered(report)
    over = {each.id for each in missing if each.gone or _is_over(each, diff, covered)}
    return Plan(
        inline=tuple(inline),
        apart=tuple(apart),
        known=tuple(known),
        settled=tuple(settled),
        carried=tuple(each for each in missing if each.id not in over),
        gone=tuple(each for each in missing if each.id in over and not (each.gone and each.answered)),
        twice=twice,
    )


def said_twice(talks: Sequence[Talk]) -> tuple[Talk, ...]:
    """Those that say what an older one says on the same line, where nobody has answered them."""
    first: dict[tuple[str, str, int], Talk] = {}
    later = []
    for each in sorted(talks, key=lambda each: each.comment):
        if each.line is None or each.gone or each.resolved:
            continue
        if first.setdefault((each.key, each.path, each.line), each) is not each and not each.answered:
            later.append(each)
    return tuple(later)


def _pairs(found: Sequence[tuple[str, Finding]], talks: Sequence[Talk], diff: Diff) -> dict[int, Talk]:
    """Which conversation is about which finding, by place in `found`: one for each, of the same name, in the
    same file or in one that has left it; open ones first, then the nearest.
    """
    named: dict[str, list[Talk]] = {}
    for each in talks:
        named.setdefault(each.key, []).append(each)
    choices = [
        (each.path != finding.path, each.resolved, _distance(finding, each), each.comment, at, each)
        for at, (key, finding) in enumerate(found)
        for each in named.get(key, ())
        if each.path == finding.path or each.path in diff.moved or not diff.touches(each.path)
    ]
    pairs: dict[int, Talk] = {}
    taken: set[str] = set()
    for *_, at, each in sorted(choices, key=lambda choice: choice[:5]):
        if at not in pairs and each.id not in taken:
            pairs[at] = each
            taken.add(each.id)
    return pairs


def _distance(finding: Finding, talk: Talk) -> int:
    """Lines between them; a comment stands at the last line of its range."""
    return abs(max(finding.start_line, finding.end_line) - talk.line) if talk.line is not None else 1 << 40


def _is_over(talk: Talk, diff: Diff, covered: frozenset[str]) -> bool:
    return diff.moved.get(talk.path, talk.path) in covered or not diff.touches(talk.path)


def _covered(report: Report) -> frozenset[str]:
    """Files of which this run can say that a finding is gone: read to their end, or deleted."""
    return frozenset(
        file.path
        for file in report.files
        if file.status is FileStatus.REVIEWED
        or (file.status is FileStatus.SKIPPED and file.reason == "deleted")
    )
