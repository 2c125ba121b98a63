"""ALA: golden comments in seven disguises, through the production review; do they land on their lines?

    REVIEW_AGENT_BENCH=FOLDER python benchmarks/anchors.py

A replay counts as right when the finding it became overlaps the golden range, whatever its outcome. Reported
findings outside the diff's hunks, which a forge refuses, must be 0.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from replay import (
    Case,
    Said,
    ScriptedBackend,
    bench_folder,
    cases,
    entry,
    merged_into,
    never_shown,
    number_of,
    run,
)

from review_agent.agent.models import Finding, Outcome, Report

Disguise = Callable[[dict[str, object], Said, Case], None]  # changes the entry in place


def off_by(lines: int) -> Disguise:
    """Too high for every other comment, too low for the rest; never below line 1."""

    def disguise(item: dict[str, object], said: Said, case: Case) -> None:
        shift = lines if said.golden.number % 2 == 0 else -lines
        item["line_start"] = max(1, said.golden.start + shift)
        item["line_end"] = max(1, said.golden.end + shift)

    return disguise


def diff_position(item: dict[str, object], said: Said, case: Case) -> None:
    """Outside of hunks there is no position: then the last one before."""
    positions = case.patch[said.golden.path].positions

    def at(line: int) -> int:
        return max((place for number, place in positions.items() if number <= line), default=1)

    item["line_start"], item["line_end"] = at(said.golden.start), at(said.golden.end)


def odd_path(item: dict[str, object], said: Said, case: Case) -> None:
    path = said.golden.path
    spellings = (f"a/{path}", f"b/{path}", f"./{path}", path.replace("/", "\\"))
    item["path"] = spellings[said.golden.number % len(spellings)]


def other_blanks(item: dict[str, object], said: Said, case: Case) -> None:
    """Runs of blanks as one and no indent, or twice as wide with tabs as indent; trailing blanks always."""
    rows = [row.split() for row in said.quote.split("\n")]
    narrow = said.golden.number % 2 == 0
    gap, indent = (" ", "") if narrow else ("  ", "\t")
    item["quote"] = "\n".join(indent + gap.join(words) + " " for words in rows)


def no_line(item: dict[str, object], said: Said, case: Case) -> None:
    del item["line_start"], item["line_end"]


def no_path(item: dict[str, object], said: Said, case: Case) -> None:
    del item["path"]


DISGUISES: dict[str, tuple[Disguise, ...]] = {
    "exact": (lambda item, said, case: None,),
    "line off by 1, 5, 20": (off_by(1), off_by(5), off_by(20)),
    "diff position": (diff_position,),
    "path a/ b/ ./ \\": (odd_path,),
    "other blanks": (other_blanks,),
    "no line": (no_line,),
    "no path": (no_path,),
}


@dataclass
class Row:
    """Counts over the set for one disguise.

    `merged`: gone into another comment's finding on lines apart; `merged_near` on common lines: not wrong.
    """

    replayed: int = 0
    right: int = 0
    unanchored: int = 0
    out_of_diff: int = 0
    merged_near: int = 0
    merged: int = 0
    outside: int = 0
    missed: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.right / self.replayed if self.replayed else 0.0

    def __add__(self, other: Row) -> Row:
        return Row(*(getattr(self, name) + getattr(other, name) for name in Row.__dataclass_fields__))


async def measure(case: Case, disguise: Disguise, row: Row) -> None:
    """One pull request in one disguise; in waves, as an answer holds only so many findings."""

    def write(said: list[Said]) -> tuple[str, str]:
        items = [entry(one) for one in said]
        for item, one in zip(items, said, strict=True):
            disguise(item, one, case)
        return json.dumps({"summary": "", "findings": items}, ensure_ascii=False), "stop"

    wave, more = 0, True
    while more:
        backend = ScriptedBackend(case.goldens, write, wave)
        report, _ = await run(case, backend)
        count(case, backend, report, row)
        wave, more = wave + 1, backend.more


def count(case: Case, backend: ScriptedBackend, report: Report, row: Row) -> None:
    by_number = {golden.number: golden for golden in case.goldens}
    kept: list[Finding] = []
    right = 0
    for verdict in report.verdicts:
        finding = verdict.finding
        golden = by_number.get(number_of(finding))
        if golden is None:
            continue
        row.unanchored += verdict.outcome is Outcome.UNANCHORED
        row.out_of_diff += verdict.outcome is Outcome.OUT_OF_DIFF
        if verdict.outcome is Outcome.REPORTED:
            kept.append(finding)
            row.outside += not case.patch[finding.path].accepts(finding.start_line, finding.end_line)
        good = golden.overlaps(finding.path, finding.start_line, finding.end_line)
        other = merged_into(verdict, kept)
        twin = by_number.get(number_of(other)) if other is not None else None
        if twin is not None and twin is not golden:
            apart = not twin.overlaps(golden.path, golden.start, golden.end)
            row.merged += apart
            row.merged_near += not apart
            good = good and not apart
        if good:
            right += 1
        else:
            spot = f"{golden.path}:{golden.start}-{golden.end}"
            row.missed.append(
                f"{case.pr.item['id']} {spot} -> {finding.start_line}-{finding.end_line} {verdict.outcome}"
            )
    row.replayed += backend.replayed.total()
    row.right += right


async def table(prepared: Sequence[Case]) -> dict[str, Row]:
    rows = {name: Row() for name in DISGUISES}
    for case in prepared:
        for name, variants in DISGUISES.items():
            for disguise in variants:
                await measure(case, disguise, rows[name])
    return rows


def main() -> int:
    with cases(bench_folder()) as prepared:
        rows = asyncio.run(table(prepared))
        unseen = sum(map(never_shown, prepared))
    rows["all"] = sum(rows.values(), Row())
    print("| disguise | replayed | ALA | unanchored | out of diff | merged, near | merged, apart | outside |")
    print("|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        print(
            f"| {name} | {row.replayed} | {row.share:.4f} | {row.unanchored} | {row.out_of_diff} "
            f"| {row.merged_near} | {row.merged} | {row.outside} |"
        )
    print(f"\nIn no request, left out: {unseen}")
    for missed in dict.fromkeys(rows["all"].missed):
        print(f"    missed: {missed}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
