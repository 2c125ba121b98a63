"""GPR@B and CLC: do the lines that reviewers commented on, and all added lines, reach the model?

    REVIEW_AGENT_BENCH=FOLDER python benchmarks/coverage.py [--contexts 4096,8192,16384]

GPR@B: share of golden comments with a line of their range in a request, with its right head number.
CLC: added lines that reached a request / added lines of reviewed files; files silently dropped must be 0.
Tokens are characters / 4, so that they compare with the diff's. The production planner makes the requests.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from pr_repos import PullRequest, pull_requests

from review_agent.agent.plan import BUCKETS
from review_agent.agent.planner import Plan, make_plan
from review_agent.agent.settings import Settings
from review_agent.agent.target import Selection, make_target, select

_LINE = re.compile(r"^ *(\d+) [+ ] ?(.*)$")


@dataclass
class Row:
    """Sums over the set for one context size."""

    golden: int = 0
    found: int = 0
    added: int = 0
    covered: int = 0
    dropped: int = 0
    skipped: int = 0
    requests: int = 0
    tokens: int = 0
    largest: int = 0
    diff_tokens: float = 0.0
    missed: list[str] = field(default_factory=list)


def planned(pr: PullRequest, num_ctx: int) -> tuple[Plan, Selection]:
    target = make_target(pr.root, base=pr.base, head=pr.head)
    selection, _ = select(target, max_file_size=10 * 1024 * 1024)
    plan = make_plan(selection, Settings(num_ctx=num_ctx), model_key="bench", model_context=0, store=None)
    return plan, selection


def seen_lines(plan: Plan) -> dict[str, set[int]]:
    """Head line numbers per path, read back from the text of the requests, where the line's text is right."""
    seen: dict[str, set[int]] = {}
    for request in plan.requests:
        text = plan.asker.user(request)
        for unit in request:
            lines = plan.contexts[unit.path].file.lines
            shown = {line.number for line in unit.shown if line.number}
            for row in text.split("\n"):
                match = _LINE.match(row)
                number = int(match.group(1)) if match else 0
                if match and number in shown and lines[number - 1][:80] in match.group(2):
                    seen.setdefault(unit.path, set()).add(number)
    return seen


def measure(pr: PullRequest, num_ctx: int, row: Row) -> None:
    plan, selection = planned(pr, num_ctx)
    seen = seen_lines(plan)
    listed = {file.path for file in (*selection.files, *selection.skipped)}
    for file in pr.item["files"]:
        known = isinstance(file["base"], str) or isinstance(file["head"], str)
        row.dropped += known and file["path"] not in listed
    for source in selection.files:
        row.added += len(source.changed or ())
        row.covered += len((source.changed or frozenset()) & seen.get(source.path, set()))
    row.skipped += len(selection.skipped)
    for golden in pr.golden:
        row.golden += 1
        wanted = set(range(golden["from_line"], golden["to_line"] + 1))
        if wanted & seen.get(golden["path"], set()):
            row.found += 1
        else:
            row.missed.append(f"{pr.item['id']} {golden['path']}:{golden['from_line']}")
    for request in plan.requests:
        tokens = (len(plan.asker.system()) + len(plan.asker.user(request))) // 4
        row.requests += 1
        row.tokens += tokens
        row.largest = max(row.largest, tokens)
    row.diff_tokens += len(pr.item["patch"]) / 4


def table(bench: Path, contexts: list[int]) -> dict[int, Row]:
    rows = {num_ctx: Row() for num_ctx in contexts}
    with tempfile.TemporaryDirectory() as folder:
        for pr in pull_requests(bench, Path(folder)):
            for num_ctx, row in rows.items():
                measure(pr, num_ctx, row)
    return rows


def main() -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--contexts", default=",".join(str(n) for n in (4096, *BUCKETS[:2])))
    args = parser.parse_args()
    bench = os.environ.get("REVIEW_AGENT_BENCH")
    if not bench:
        print("REVIEW_AGENT_BENCH is not set: the folder that holds aacr-prs/", file=sys.stderr)
        return 2
    print("| num_ctx | GPR | CLC | dropped | skipped | requests | tokens | ÷ diff | largest request |")
    print("|---|---|---|---|---|---|---|---|---|")
    for num_ctx, row in table(Path(bench), [int(n) for n in args.contexts.split(",")]).items():
        print(
            f"| {num_ctx} | {row.found}/{row.golden} = {row.found / row.golden:.4f} "
            f"| {row.covered}/{row.added} = {row.covered / max(1, row.added):.4f} | {row.dropped} "
            f"| {row.skipped} | {row.requests} | {row.tokens} | {row.tokens / row.diff_tokens:.2f} "
            f"| {row.largest} |"
        )
        for missed in row.missed:
            print(f"    missed: {missed}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
