"""The words of the house. Lines are 1-based, ends inclusive; paths are relative to the root, with `/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Category(StrEnum):
    BUG = "bug"
    SECURITY = "security"
    PERFORMANCE = "performance"
    MAINTAINABILITY = "maintainability"
    TEST = "test"
    STYLE = "style"


class Severity(StrEnum):
    """Members stand from worst to mildest; `rank` 0 is the worst."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)

    def at_least(self, other: Severity) -> bool:
        return self.rank <= other.rank


class Outcome(StrEnum):
    """What became of a finding. Nothing is dropped: what is not reported says why."""

    REPORTED = "reported"
    SUPPRESSED = "suppressed"
    BASELINED = "baselined"
    OUT_OF_DIFF = "out_of_diff"
    LOW_CONFIDENCE = "low_confidence"
    UNANCHORED = "unanchored"
    REFUTED = "refuted"
    DUPLICATE = "duplicate"


class VerdictWord(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict, not a password
    ISSUES = "issues"
    INCOMPLETE = "incomplete"
    NOT_REVIEWED = "not_reviewed"


class FileStatus(StrEnum):
    REVIEWED = "reviewed"
    SKIPPED = "skipped"
    FAILED = "failed"


class Change(StrEnum):
    """How a file got into the target. `WHOLE` = no diff: every line is under review."""

    WHOLE = "whole"
    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    RENAMED = "renamed"
    COPIED = "copied"
    MODE = "mode"
    TYPE = "type"


class RouteKind(StrEnum):
    """Who reviews a unit: the local model, the cloud, or the local model with the agent looking, too."""

    LOCAL = "local"
    CLOUD = "cloud"
    HYBRID = "hybrid"


class TrustClass(StrEnum):
    LOOPBACK = "loopback"
    LAN = "lan"
    CLOUD = "cloud"


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence of `[notes]` or `[reasons]` in the message catalogue, with its fields."""

    key: str
    fields: dict[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Removed:
    """Old lines that stood before new-side line `before`."""

    before: int
    lines: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Hunk:
    """One hunk of a unified diff. `new_lines` are the new side's (context and added), without line ends.

    A hunk that only deletes may have `new_count` 0; then `new_start` is the line before the gap, as in git.
    """

    old_start: int
    old_count: int
    new_start: int
    new_count: int
    new_lines: tuple[bytes, ...]
    added: frozenset[int]
    removed: tuple[Removed, ...] = ()


@dataclass(frozen=True, slots=True)
class FileDiff:
    """One file of a diff. `old_path` differs from `path` for renames and copies; modes as in git."""

    path: str
    old_path: str
    change: Change
    hunks: tuple[Hunk, ...] = ()
    binary: bool = False
    old_mode: str = ""
    new_mode: str = ""
    new_blob: str = ""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text of a file. `note` is a key of `[notes]` when something had to be replaced or guessed."""

    text: str
    encoding: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file under review: its new text, and what of it changed.

    `lines[i]` is line `i + 1`, without line end. `changed` is None when the whole file is under review.
    Where `known` is not None, only its lines are known (a diff file without its repository). `old_path` is
    where a renamed or copied file came from, '' for all others.
    """

    path: str
    language: str
    lines: tuple[str, ...]
    blob: str
    change: Change
    changed: frozenset[int] | None = None
    hunks: tuple[Hunk, ...] = ()
    encoding: str = "utf-8"
    notes: tuple[Note, ...] = ()
    known: frozenset[int] | None = None
    old_path: str = ""

    @property
    def changed_count(self) -> int:
        return len(self.lines) if self.changed is None else len(self.changed)


@dataclass(frozen=True, slots=True)
class Symbol:
    """A definition: its name, kind and line range, outermost first where nested."""

    name: str
    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ShownLine:
    """One line as the model sees it. `number` 0 marks a removed (old-side) line; a gap has `text` ''."""

    number: int
    text: str
    mark: str  # "+" changed, " " context, "-" removed, "…" gap


@dataclass(frozen=True, slots=True)
class ReviewUnit:
    """(Part of) one file: what is cached, resumed and given a state.

    `digest` covers what is shown, but neither path nor absolute line numbers, so moved code is known again.
    """

    path: str
    index: int
    language: str
    shown: tuple[ShownLine, ...]
    changed_lines: tuple[int, ...]
    symbol: str
    tokens: int
    digest: str

    @property
    def first_line(self) -> int:
        return next((line.number for line in self.shown if line.number), 1)

    @property
    def last_line(self) -> int:
        return next((line.number for line in reversed(self.shown) if line.number), 1)


@dataclass(frozen=True, slots=True)
class Route:
    """Who reviews a unit and why (`reason` is `routes.<key>`, as `agent.wording` resolves it).

    `visible` says whether the policy lets its code reach an endpoint that is not this machine.
    """

    kind: RouteKind
    reason: str
    visible: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """One finding as the model said it, read but not yet believed. `line_start` 0 = not said or unusable."""

    title: str
    category: Category
    severity: Severity
    confidence: float
    quote: str
    path: str = ""
    line_start: int = 0
    line_end: int = 0
    explanation: str = ""
    suggestion: str = ""
    replacement: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A model answer that could be read. `complete`: it was not cut; `dropped` counts unusable entries."""

    candidates: tuple[Candidate, ...]
    summary: str = ""
    complete: bool = True
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """A candidate with its real lines; `start` 0 = unanchored, `reason` (a key of `[reasons]`) says why.

    `beside` are the files of the other units in the request, by `provenance.name_in`; None = not known.
    """

    candidate: Candidate
    start: int
    end: int
    reason: str = ""
    beside: tuple[str, ...] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known of one unit. `failure` is a key of `[reasons]`; '' means the unit was reviewed."""

    unit: ReviewUnit
    placed: tuple[Placed, ...] = ()
    summary: str = ""
    failure: str = ""
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """Quoted source lines around an anchor; secrets masked."""

    start_line: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """`start_line` 0 = no line (a file-level finding). `source` is "model" or the name of a check.

    `exact`: `replacement` can take the place of the lines as it is.
    """

    rule_id: str
    category: Category
    severity: Severity
    confidence: float
    path: str
    start_line: int
    end_line: int
    title: str
    message: str
    suggestion: str = ""
    replacement: str = ""
    source: str = "model"
    symbol: str = ""
    evidence: tuple[Evidence, ...] = ()
    fingerprint: str = ""
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding and what became of it; `reason` is a key of `[reasons]`, with `fields` for its sentence."""

    finding: Finding
    outcome: Outcome
    reason: str = ""
    fields: dict[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class FileResult:
    """The one state of a selected file. `reason` is a key of `[reasons]`, with `fields` for its sentence."""

    path: str
    status: FileStatus
    reason: str = ""
    route: str = "local"
    units: int = 0
    changed_lines: int = 0
    reviewed_lines: int = 0
    fields: dict[str, object] = field(default_factory=dict, hash=False)
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class CloudUsage:
    """What was asked of the endpoint that is paid for: by the agent, and by the analysis of units.

    Prompt tokens exclude those read from and written to the server's cache. `cost` is in US dollars, None
    where no price is known.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    turns: int = 0
    cost: float | None = None

    @property
    def read_tokens(self) -> int:
        """All that was read, wherever it came from."""
        return self.prompt_tokens + self.cache_read_tokens + self.cache_write_tokens


@dataclass(frozen=True, slots=True)
class Usage:
    """What was asked of the local engine; the cloud counts apart."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_units: int = 0
    seconds: float = 0.0
    cloud: CloudUsage = CloudUsage()


@dataclass(frozen=True, slots=True)
class Coverage:
    files_selected: int = 0
    files_reviewed: int = 0
    files_skipped: int = 0
    files_failed: int = 0
    changed_lines: int = 0
    changed_lines_reviewed: int = 0


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Who reviewed. Without a local engine, `backend` and `model` are the cloud's."""

    mode: str
    backend: str
    model: str
    model_digest: str
    orchestrator: str = "direct"
    cloud_host: str = ""
    cloud_model: str = ""
    agent_model: str = ""


@dataclass(frozen=True, slots=True)
class Egress:
    """One row of the ledger of what left the machine.

    `lines` are the lines of the file, as in "3-9,12"; '' = no lines of a file. `turn` is the agent's, 0 = not
    the agent.
    """

    time: str
    host: str
    path: str
    bytes: int
    redactions: int
    model: str
    lines: str = ""
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    run_id: str
    target: str
    lang: str
    engine: EngineInfo
    verdict: VerdictWord
    verdict_reason: str
    coverage: Coverage
    summary: str
    verdicts: tuple[Verdict, ...]
    files: tuple[FileResult, ...]
    usage: Usage
    egress: tuple[Egress, ...] = ()
    notes: tuple[Note, ...] = ()
    created: str = ""
