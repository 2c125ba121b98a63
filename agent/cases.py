"""What an agent is asked about: candidates with ids, what it said of them, what it found itself, its summary.

All of it is keyed by content, so that a session which goes on where another ended is told only what is open.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from review_agent.agent.models import Finding, Outcome, Verdict

if TYPE_CHECKING:
    from review_agent.checkpoints.store import Store

CONFIRM, REFUTE = "confirm", "refute"
WORDS = (CONFIRM, REFUTE)
AGENT = "agent"  # the source of its own findings
OURS = "check"  # a finding of a check is a fact: no model judges it
_FINDING = TypeAdapter(Finding)


@dataclass(frozen=True, slots=True)
class Case:
    """One candidate. `visible`: its code may be seen; a hidden one is known by category and severity only."""

    id: str
    key: str
    finding: Finding
    visible: bool

    @property
    def judgeable(self) -> bool:
        return self.visible and self.finding.source != OURS


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: str
    reason: str


def make_cases(verdicts: Iterable[Verdict], visible: Callable[[str], bool]) -> tuple[Case, ...]:
    """Cases of the reported findings, numbered in their order: C… for visible ones, L… for hidden ones."""
    cases: list[Case] = []
    counts = {"C": 0, "L": 0}
    for verdict in verdicts:
        if verdict.outcome is not Outcome.REPORTED:
            continue
        finding = verdict.finding
        seen = visible(finding.path)
        letter = "C" if seen else "L"
        counts[letter] += 1
        cases.append(Case(f"{letter}{counts[letter]}", case_key(finding), finding, seen))
    return tuple(cases)


def case_key(finding: Finding) -> str:
    """What a judgement is about: the finding, in these words, on this code."""
    code = [line for piece in finding.evidence for line in piece.lines]
    parts = (finding.fingerprint, finding.path, finding.title, finding.message, str(finding.severity), *code)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass
class Notebook:
    """What the agent said, durable as soon as it is said. `work` names what it was asked about.

    `files` names what is said of a file by its path and content. A confirmation holds as long as the file
    does, whatever becomes of others: it keeps a finding. A refutation may rest on other files, and is asked
    for again.

    Rows of the store are untrusted until they validate; what does not is as good as never said.
    """

    work: str
    run_id: str
    store: Store | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    judged: dict[str, Judgement] = field(default_factory=dict)  # by the key of the case
    found: dict[str, Finding] = field(default_factory=dict)  # by fingerprint
    summary: str = ""
    recalled: int = 0  # judgements of earlier sessions

    def __post_init__(self) -> None:
        self._reread()
        self.recalled = len(self.judged)

    def _reread(self) -> None:
        """What was said in other sessions, by one that runs beside this among them."""
        if self.store is None:
            return
        for key, payload in self.store.judged(self.work).items():
            with suppress(ValidationError, ValueError, TypeError, LookupError, RecursionError):
                self._recall(key, json.loads(payload))

    def _recall(self, key: str, said: Any) -> None:
        kind, _, name = key.partition(":")
        if kind == "judge":
            given = Judgement(said["verdict"], said["reason"])
            if given.verdict in WORDS and isinstance(given.reason, str):
                self.judged.setdefault(name, given)
        elif kind == "found":
            finding = _FINDING.validate_python(said)
            if finding.fingerprint == name and finding.source == AGENT:
                self.found.setdefault(name, finding)
        elif kind == "summary" and isinstance(said, str):
            self.summary = self.summary or said

    def carry(self, cases: Iterable[Case]) -> int:
        """Take over what was confirmed of unchanged files when others were different; how many that are."""
        if self.store is None:
            return 0
        before = len(self.judged)
        kept: dict[str, Mapping[str, str]] = {}
        for case in cases:
            name = self.files.get(case.finding.path, "")
            if not name or not case.judgeable or case.key in self.judged:
                continue
            if name not in kept:
                kept[name] = self.store.judged(name)
            with suppress(ValueError, TypeError, LookupError, RecursionError):
                said = json.loads(kept[name][f"judge:{case.key}"])
                if said["verdict"] == CONFIRM:
                    self._recall(f"judge:{case.key}", said)
        return len(self.judged) - before

    def judge(self, case: Case, judgement: Judgement, turn: int) -> bool:
        """Whether it counts: the first word on a case stays."""
        said = {"verdict": judgement.verdict, "reason": judgement.reason}
        if case.key in self.judged or not self._keep(f"judge:{case.key}", turn, said):
            return False
        self.judged[case.key] = judgement
        name = self.files.get(case.finding.path, "")
        if self.store is not None and name and judgement.verdict == CONFIRM:
            self.store.judge(name, f"judge:{case.key}", self.run_id, turn, json.dumps(said))
        return True

    def find(self, finding: Finding, turn: int) -> bool:
        said = asdict(finding)
        if finding.fingerprint in self.found or not self._keep(f"found:{finding.fingerprint}", turn, said):
            return False
        self.found[finding.fingerprint] = finding
        return True

    def sum_up(self, summary: str, turn: int) -> bool:
        if self.summary or not self._keep("summary:", turn, summary):
            return False
        self.summary = summary
        return True

    def _keep(self, key: str, turn: int, said: object) -> bool:
        """Whether it was the first word; another session's is taken over."""
        if self.store is None:
            return True
        # In ASCII: what a model says, and what a file is called, may be no text that a store can hold.
        if self.store.judge(self.work, key, self.run_id, turn, json.dumps(said)):
            return True
        self._reread()
        return False

    def snapshot(self, turn: int, open_cases: Sequence[Case]) -> None:
        """The whole state, every so many turns."""
        if self.store is None:
            return
        state = {
            "turn": turn,
            "judged": {key: judgement.verdict for key, judgement in self.judged.items()},
            "found": sorted(self.found),
            "open": [case.key for case in open_cases],
            "summary": bool(self.summary),
        }
        self.store.save_state(self.work, self.run_id, turn, json.dumps(state))


def judged_verdicts(verdicts: Iterable[Verdict], cases: Sequence[Case], notebook: Notebook) -> list[Verdict]:
    """The verdicts after what the agent said of them. Nothing is dropped: a refuted finding says why."""
    by_key = {case.key: case for case in cases}
    result: list[Verdict] = []
    for verdict in verdicts:
        case = by_key.get(case_key(verdict.finding))
        judgement = notebook.judged.get(case.key) if case is not None else None
        if case is None or judgement is None or not case.judgeable:
            result.append(verdict)
        elif judgement.verdict == REFUTE:
            result.append(_said(verdict, Outcome.REFUTED, "refuted_by_review", judgement))
        elif verdict.outcome is Outcome.REPORTED:
            result.append(_said(verdict, Outcome.REPORTED, "confirmed_by_review", judgement))
        else:  # a finding of the agent's made it one too many, or says the same and worse
            result.append(verdict)
    return result


def _said(verdict: Verdict, outcome: Outcome, reason: str, judgement: Judgement) -> Verdict:
    return replace(verdict, outcome=outcome, reason=reason, fields={"said": judgement.reason})


@dataclass(frozen=True)
class Docket:
    """The cases of a session, and what was said of them."""

    cases: tuple[Case, ...]
    notebook: Notebook

    @property
    def open(self) -> list[Case]:
        return [case for case in self.cases if case.judgeable and case.key not in self.notebook.judged]

    def case(self, name: str) -> Case | None:
        return next((case for case in self.cases if case.id == name), None)
