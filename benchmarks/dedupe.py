"""Dedupe: golden comments with two paraphrases each; which findings does the production code call the same?

    REVIEW_AGENT_BENCH=FOLDER python benchmarks/dedupe.py

Pairwise: two findings belong together when they come from one comment; they are called the same when one was
merged into the other or both into a third. Paraphrases are made by rule, and stand on parts of the lines, as
they do where two requests show overlapping code.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from replay import Case, Golden, bench_folder, cases, merged_into, number_of

from review_agent.agent.findings import Gate, decide, model_findings
from review_agent.agent.models import Analysis, Candidate, Category, Finding, Outcome, Placed, Severity

_CODE_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_WORDING = {
    "Potential": "Possible",
    "Consider": "It would be better to think about",
    "Missing": "There is no",
    "Inconsistent": "Not uniform:",
    "should": "ought to",
    "might": "could",
    "may": "might",
    "Please": "You had better",
    "The": "Here the",
    "This": "That",
    "is": "seems",
}
_WORD = re.compile(r"\b(" + "|".join(_WORDING) + r")\b")
_OTHER = {Category.MAINTAINABILITY: Category.BUG}


@dataclass(frozen=True, slots=True)
class Wording:
    """One way of saying a comment, and the lines it is said of."""

    title: str
    text: str
    start: int
    end: int


def sentences(note: str) -> list[str]:
    return [part.strip() for part in _SENTENCE.split(_CODE_BLOCK.sub("", note)) if part.strip()] or [note]


def original(golden: Golden) -> Wording:
    return Wording(golden.note[:60], golden.note, golden.start, golden.end)


def shortened(golden: Golden) -> Wording:
    """The first half, in other words; on the first half of the lines."""
    parts = sentences(golden.note)
    text = _reworded(" ".join(parts[: (len(parts) + 1) // 2]))
    return Wording(text[:60], text, golden.start, (golden.start + golden.end) // 2)


def reordered(golden: Golden) -> Wording:
    """Last sentence first, the lead in other words; on the second half of the lines."""
    first, *rest = sentences(golden.note)
    text = " ".join([*reversed(rest), _reworded(first)])
    return Wording(_reworded(first)[:60], text, (golden.start + golden.end) // 2, golden.end)


def _reworded(text: str) -> str:
    return _WORD.sub(lambda found: _WORDING[found[1]], text)


WORDINGS: tuple[Callable[[Golden], Wording], ...] = (original, shortened, reordered)


@dataclass
class Row:
    """Pairs over the set. `near`: of the wrong ones, those whose comments stand on common lines."""

    right: int = 0
    wrong: int = 0
    near: int = 0
    missed: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def precision(self) -> float:
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        return self.right / max(1, self.right + self.missed)

    @property
    def f1(self) -> float:
        return 2 * self.right / max(1, 2 * self.right + self.wrong + self.missed)


def findings(case: Case, *, other_category: bool) -> list[tuple[Finding, str]]:
    """All wordings of all comments; paraphrases in another category where asked."""
    found: list[tuple[Finding, str]] = []
    for golden in case.goldens:
        if golden.path not in case.plan.contexts:
            continue
        for at, wording in enumerate(map(_call(golden), WORDINGS)):
            category = Category(golden.category)
            if at and other_category:
                category = _OTHER.get(category, Category.MAINTAINABILITY)
            candidate = Candidate(
                f"{wording.title} #{golden.number}",
                category,
                Severity.MEDIUM,
                0.8 - at / 10,
                "",
                path=golden.path,
                explanation=wording.text,
            )
            unit = case.plan.units[golden.path][0]
            placed = Placed(candidate, wording.start, wording.end)
            found += model_findings([Analysis(unit, (placed,))], case.plan.contexts)
    return found


def _call(golden: Golden) -> Callable[[Callable[[Golden], Wording]], Wording]:
    return lambda wording: wording(golden)


def measure(case: Case, row: Row, *, other_category: bool) -> None:
    files = {path: context.file for path, context in case.plan.contexts.items()}
    verdicts = decide(findings(case, other_category=other_category), files, Gate())
    kept: list[Finding] = []
    clusters: list[list[int]] = []
    for verdict in verdicts:
        twin = merged_into(verdict, kept)
        if twin is not None:
            clusters[kept.index(twin)].append(number_of(verdict.finding))
        elif verdict.outcome in (Outcome.REPORTED, Outcome.SUPPRESSED):
            kept.append(verdict.finding)
            clusters.append([number_of(verdict.finding)])
    _count(case, clusters, row)


def _count(case: Case, clusters: Sequence[Sequence[int]], row: Row) -> None:
    goldens = {golden.number: golden for golden in case.goldens}
    together: Counter[int] = Counter()
    said: Counter[int] = Counter()
    for cluster in clusters:
        said.update(cluster)
        for one, other in combinations(cluster, 2):
            if one == other:
                together[one] += 1
                continue
            row.wrong += 1
            near = goldens[one].overlaps(goldens[other].path, goldens[other].start, goldens[other].end)
            row.near += near
            if not near:
                row.examples.append(f"{case.pr.item['id']} {goldens[one].title} / {goldens[other].title}")
    row.right += together.total()
    row.missed += sum(count * (count - 1) // 2 for count in said.values()) - together.total()


def table(prepared: Sequence[Case]) -> dict[str, Row]:
    rows = {"same category": Row(), "other category": Row()}
    for case in prepared:
        for name, row in rows.items():
            measure(case, row, other_category=name == "other category")
    return rows


def main() -> int:
    with cases(bench_folder()) as prepared:
        rows = table(prepared)
    print("| paraphrases | pairs right | wrong | of these near | missed | precision | recall | F1 |")
    print("|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        print(
            f"| {name} | {row.right} | {row.wrong} | {row.near} | {row.missed} "
            f"| {row.precision:.3f} | {row.recall:.3f} | {row.f1:.3f} |"
        )
    for example in dict.fromkeys(example for row in rows.values() for example in row.examples):
        print(f"    wrong: {example}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
