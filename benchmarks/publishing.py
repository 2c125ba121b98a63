"""PUB: reviewers' comments on real pull requests as findings, published to a GitHub that refuses.

    REVIEW_AGENT_BENCH=FOLDER python benchmarks/publishing.py

Of each comment: did it get to its lines, or into the summary, or was it refused? Is a second time silent?
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "harness"))

from fake_github import FakeGitHub
from pr_repos import PullRequest, pull_requests

from review_agent.agent.models import (
    Category,
    Coverage,
    EngineInfo,
    FileResult,
    FileStatus,
    Finding,
    Outcome,
    Report,
    Severity,
    Usage,
    Verdict,
    VerdictWord,
)
from review_agent.agent.publish import publish
from review_agent.tools.endpoints import make_endpoint
from review_agent.tools.forges.github import GitHub

SLOT = ("token-bot", "team/app", 7)


@dataclass
class Row:
    """`refused` counts answers of 400 and above, `repeated` what a second publication wrote."""

    comments: int = 0
    inline: int = 0
    summarised: int = 0
    refused: int = 0
    repeated: int = 0
    missed: list[str] = field(default_factory=list)

    def __add__(self, other: Row) -> Row:
        return Row(
            self.comments + other.comments,
            self.inline + other.inline,
            self.summarised + other.summarised,
            self.refused + other.refused,
            self.repeated + other.repeated,
            self.missed + other.missed,
        )

    @property
    def share(self) -> float:
        return self.inline / self.comments if self.comments else 0.0


def as_report(pr: PullRequest) -> Report:
    findings = [_finding(item) for item in pr.golden]
    paths = [file["path"] for file in pr.item["files"]]
    return Report(
        run_id="20260101-000000-000000",
        target=f"range:{pr.base[:12]}..{pr.head[:12]}",
        lang="zh-CN",
        engine=EngineInfo("local", "replay", "golden", ""),
        verdict=VerdictWord.ISSUES,
        verdict_reason="",
        coverage=Coverage(len(paths), len(paths), 0, 0, 0, 0),
        summary="",
        verdicts=tuple(Verdict(finding, Outcome.REPORTED) for finding in findings),
        files=tuple(FileResult(path, FileStatus.REVIEWED) for path in paths),
        usage=Usage(),
    )


def _finding(item: dict[str, Any]) -> Finding:
    identity = f"{item['path']}\0{item['from_line']}\0{item['note']}"
    return Finding(
        rule_id="ai/bug",
        category=Category.BUG,
        severity=Severity.MEDIUM,
        confidence=0.9,
        path=item["path"],
        start_line=item["from_line"],
        end_line=item["to_line"],
        title=" ".join(item["note"].split())[:80],
        message=item["note"],
        replacement="x = 1\n",
        exact=True,
        fingerprint=hashlib.sha256(identity.encode()).hexdigest()[:32],
    )


async def measure(pr: PullRequest) -> Row:
    report = as_report(pr)
    fake = FakeGitHub(pr.root, pr.base, pr.head)
    with fake.serving() as url:
        token, repository, number = SLOT
        async with GitHub(make_endpoint(url), repository, number, token) as forge:
            done = await publish(forge, report, pr.head, None)
            written = len(fake.log)
            await publish(forge, report, pr.head, None)
    refused = [row for row in fake.log if row[2] >= 400]
    again = [row for row in fake.log[written:] if row[0] != "GET" and row[1] != "/graphql"]
    # The second summary counts nothing as new: that it is edited is no repetition.
    repeated = [row for row in again if "/issues/comments/" not in row[1]]
    apart = [*done.plan.apart, *done.refused]
    missed = [f"{pr.item['id']} {each.path}:{each.start_line}-{each.end_line}" for each in apart]
    return Row(len(report.verdicts), len(fake.threads), len(apart), len(refused), len(repeated), missed)


async def table(bench: Path, folder: Path) -> dict[str, Row]:
    return {pr.item["id"]: await measure(pr) for pr in pull_requests(bench, folder)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(table(Path(os.environ["REVIEW_AGENT_BENCH"]), Path(folder)))
    for name, row in rows.items():
        print(f"{name:45} {row.inline:3}/{row.comments:<3} refused {row.refused} repeated {row.repeated}")
    total = sum(rows.values(), Row())
    print(f"{len(rows)} pull requests: {total.inline} of {total.comments} inline ({total.share:.1%}),")
    print(f"{total.summarised} in summaries, {total.refused} refused, {total.repeated} repeated")
    print("\n".join(total.missed))


if __name__ == "__main__":
    main()
