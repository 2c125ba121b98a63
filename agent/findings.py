"""From what a model or a check said to findings, and what becomes of each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from review_agent.agent.models import (
    Analysis,
    Evidence,
    Finding,
    Outcome,
    Placed,
    Severity,
    SourceFile,
    Symbol,
    Verdict,
)
from review_agent.agent.replacements import replaces
from review_agent.agent.units import enclosing

EVIDENCE_CONTEXT = 2
EVIDENCE_LINES = 12
PER_FILE = 40  # more than this from one file is a flood, not a review
BAIT = "injection/bait"
_MASK_MARGIN = 60  # lines; a private key has about fifty
_BLANKS = re.compile(r"\s+")
_WORDS = re.compile(r"[a-z][a-z0-9]*|[^\W\d_a-z]+")
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])")
_COMMON = re.compile(
    r"the|and|for|are|was|were|this|that|with|from|not|but|its|may|can|could|should|would|will|has|have|had|been"
    r"|into|when|then|than|which|there|their|they|you|your|used?|using|does|code|method|function|value"
)


@dataclass(frozen=True, slots=True)
class Gate:
    """What is reported: thresholds, and whether the model is only a demonstration."""

    min_severity: Severity = Severity.INFO
    min_confidence: float = 0.0
    demo: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """A file with its definitions, and the function that masks secrets in what is quoted of it."""

    file: SourceFile
    symbols: Sequence[Symbol]
    mask: Callable[[str], str]


def model_findings(
    analyses: Iterable[Analysis], contexts: Mapping[str, Context]
) -> list[tuple[Finding, str]]:
    """Findings of the model, each with the reason why it could not be anchored ('' when it was)."""
    return [
        (_finding(placed, contexts[analysis.unit.path]), placed.reason if placed.start == 0 else "")
        for analysis in analyses
        for placed in analysis.placed
    ]


def _finding(placed: Placed, context: Context) -> Finding:
    candidate = placed.candidate
    mask = context.mask
    finding = Finding(
        rule_id=f"ai/{candidate.category}",
        category=candidate.category,
        severity=candidate.severity,
        confidence=candidate.confidence,
        path=context.file.path,
        start_line=placed.start,
        end_line=placed.end,
        title=candidate.title or mask(candidate.explanation)[:80],  # cut after, never within a secret
        message=candidate.explanation,
        suggestion=candidate.suggestion,
        replacement=candidate.replacement,
        exact=replaces(candidate.quote, candidate.replacement, _anchored(context, placed.start, placed.end)),
    )
    return complete(finding, context)


def _anchored(context: Context, start: int, end: int) -> Sequence[str]:
    return context.file.lines[start - 1 : end] if start else ()


def complete(finding: Finding, context: Context) -> Finding:
    """The finding without secrets, its symbol, evidence and fingerprint filled in from the file."""
    start, end = finding.start_line, finding.end_line
    symbol = enclosing(context.symbols, start, end) if start else ""
    mask = context.mask
    finding = replace(
        finding,
        symbol=symbol,
        title=mask(finding.title),
        message=mask(finding.message),
        suggestion=mask(finding.suggestion),
        replacement=mask(finding.replacement),
        exact=finding.exact and mask(finding.replacement) == finding.replacement,
    )
    # Masked too: who knows the line around a short password could try all of them against a bare hash.
    code = mask("\n".join(_anchored(context, start, end))).split("\n") if start else ()
    return replace(
        finding,
        evidence=(_evidence(finding, context),) if start else (),
        fingerprint=fingerprint(finding, symbol, code),
    )


def _evidence(finding: Finding, context: Context) -> Evidence:
    file = context.file
    first = max(1, finding.start_line - EVIDENCE_CONTEXT)
    last = min(len(file.lines), finding.end_line + EVIDENCE_CONTEXT, first + EVIDENCE_LINES - 1)
    while file.known is not None and first < finding.start_line and first not in file.known:
        first += 1
    while file.known is not None and last > finding.end_line and last not in file.known:
        last -= 1
    # Masked with more around it: the middle of a key, or of a long line, is no secret by itself.
    above = max(0, first - 1 - _MASK_MARGIN)
    near = (line[:4000] for line in file.lines[above : last + _MASK_MARGIN])
    masked = context.mask("\n".join(near)).split("\n")
    return Evidence(first, tuple(line[:400] for line in masked[first - 1 - above : last - above]))


def fingerprint(finding: Finding, symbol: str, code: Sequence[str]) -> str:
    """Identity across moved lines and other wording: rule class, normalised anchored code, enclosing symbol.

    A finding without lines has only its words to go by.
    """
    anchor = "\n".join(_BLANKS.sub("", line) for line in code) or finding.title
    parts = (finding.rule_id, finding.path if not symbol else "", symbol, anchor)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def decide(
    found: Iterable[tuple[Finding, str]], files: Mapping[str, SourceFile], gate: Gate
) -> list[Verdict]:
    """One verdict per finding, ordered by severity, path and line. Nothing is dropped."""
    verdicts = [_decide(finding, reason, files.get(finding.path), gate) for finding, reason in found]
    verdicts.sort(key=_order)
    return _number(_flood(_merge(verdicts)))


def _order(verdict: Verdict) -> tuple[object, ...]:
    f = verdict.finding
    return (f.severity.rank, f.path, f.start_line, f.end_line, -f.confidence, f.rule_id, f.title, f.message)


def _decide(finding: Finding, reason: str, file: SourceFile | None, gate: Gate) -> Verdict:
    if gate.demo and finding.source == "model":
        return Verdict(finding, Outcome.LOW_CONFIDENCE, "demo_model")
    if finding.start_line == 0:
        return Verdict(finding, Outcome.UNANCHORED, reason or "quote_not_shown")
    if file is not None and file.changed is not None:
        clipped = _clip(finding, file)
        if clipped is None:
            return Verdict(finding, Outcome.OUT_OF_DIFF, "outside_changed_lines")
        finding = clipped
    if finding.confidence < gate.min_confidence:
        return Verdict(finding, Outcome.LOW_CONFIDENCE, "below_min_confidence")
    if not finding.severity.at_least(gate.min_severity):
        return Verdict(finding, Outcome.SUPPRESSED, "below_min_severity")
    return Verdict(finding, Outcome.REPORTED)


def _clip(finding: Finding, file: SourceFile) -> Finding | None:
    """The part of a finding that a forge accepts a comment on: lines of one hunk; None when there is none.

    A check must be about a changed line; a model or an agent may point at the context that a change breaks.
    """
    changed = file.changed or frozenset()
    span = range(finding.start_line, finding.end_line + 1)
    if finding.source not in ("model", "agent") and not any(number in changed for number in span):
        return None
    if not file.hunks:  # an untracked file: all of it is new
        return finding
    best: tuple[int, int] | None = None
    for hunk in file.hunks:
        first = max(finding.start_line, hunk.new_start)
        last = min(finding.end_line, hunk.new_start + hunk.new_count - 1)
        if first <= last and (best is None or last - first > best[1] - best[0]):
            best = (first, last)
    return replace(finding, start_line=best[0], end_line=best[1]) if best is not None else None


def _merge(verdicts: list[Verdict]) -> list[Verdict]:
    """Mark findings that say the same about the same lines. The first in order (the worst) stays."""
    kept: dict[str, list[Finding]] = {}
    result: list[Verdict] = []
    for verdict in verdicts:
        finding = verdict.finding
        if verdict.outcome is not Outcome.REPORTED:
            result.append(verdict)
            continue
        twin = next((other for other in kept.get(finding.path, []) if same(finding, other)), None)
        if twin is not None:
            result.append(Verdict(finding, Outcome.DUPLICATE, "merged_into"))
            continue
        kept.setdefault(finding.path, []).append(finding)
        result.append(verdict)
    return result


def same(a: Finding, b: Finding) -> bool:
    """Whether two findings of one file are about the same thing."""
    # Bait put on a faulty line must not swallow what is said of the fault.
    bait = BAIT in (a.rule_id, b.rule_id)
    if a.source != b.source and "check" in (a.source, b.source) and not bait:
        return a.start_line <= b.end_line and b.start_line <= a.end_line and a.category is b.category
    overlap = a.start_line <= b.end_line and b.start_line <= a.end_line
    near = abs(a.start_line - b.start_line) <= 2
    alike = similarity(f"{a.title} {a.message}", f"{b.title} {b.message}")
    if overlap:
        return alike >= (0.3 if a.rule_id == b.rule_id else 0.45)
    return near and alike >= 0.6


def similarity(a: str, b: str) -> float:
    """Share of common terms (Dice): beginnings of words and, where words do not end, pairs of characters."""
    terms_a, terms_b = _terms(a), _terms(b)
    if not terms_a or not terms_b:
        return 0.0
    return 2 * len(terms_a & terms_b) / (len(terms_a) + len(terms_b))


def _terms(text: str) -> set[str]:
    """Letter pairs would not do for Latin words: any two English texts have half of them in common."""
    terms: set[str] = set()
    for word in _WORDS.findall(_HUMPS.sub(" ", text).lower()):
        if word.isascii():
            terms.update({word[:5]} if len(word) > 2 and not _COMMON.fullmatch(word) else ())
        else:
            terms.update(word[at : at + 2] for at in range(max(1, len(word) - 1)))
    return terms


def _flood(verdicts: list[Verdict]) -> list[Verdict]:
    counts: dict[str, int] = {}
    result: list[Verdict] = []
    for verdict in verdicts:
        path = verdict.finding.path
        if verdict.outcome is Outcome.REPORTED:
            counts[path] = counts.get(path, 0) + 1
        too_many = verdict.outcome is Outcome.REPORTED and counts[path] > PER_FILE
        suppressed = Verdict(verdict.finding, Outcome.SUPPRESSED, "too_many_in_file")
        result.append(suppressed if too_many else verdict)
    return result


def _number(verdicts: list[Verdict]) -> list[Verdict]:
    """Make fingerprints unique: the n-th equal one carries its number.

    Counted in the order of places, reported ones first: neither another severity nor what is not reported
    renames a finding.
    """

    def place(at: int) -> tuple[bool, str, int, int]:
        finding = verdicts[at].finding
        return verdicts[at].outcome is not Outcome.REPORTED, finding.path, finding.start_line, at

    seen: dict[str, int] = {}
    result = list(verdicts)
    for at in sorted(range(len(verdicts)), key=place):
        key = verdicts[at].finding.fingerprint
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:
            finding = replace(verdicts[at].finding, fingerprint=f"{key}-{seen[key]}")
            result[at] = replace(verdicts[at], finding=finding)
    return result
