"""What an agent says: findings of its own, judgements, its assessment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from review_agent.agent.anchor import place
from review_agent.agent.cases import AGENT, Docket, Judgement
from review_agent.agent.display import inline
from review_agent.agent.findings import Context, complete, same
from review_agent.agent.models import Candidate, Category, Finding, Placed, Severity, SourceFile
from review_agent.agent.opinions import piece
from review_agent.agent.replacements import replaces
from review_agent.agent.replies import Replies
from review_agent.tools.server import Answered

_PUSHES = 2  # times that a summary is sent back while cases are open


@dataclass
class Statements:
    docket: Docket
    contexts: Mapping[str, Context]
    replies: Replies
    on_found: Callable[[Finding], None] = lambda _: None
    done: bool = False
    _pushed: int = 0

    # --- saying ---

    async def record_finding(self, arguments: dict[str, Any]) -> Answered:
        path = str(arguments["path"])
        context = self.contexts.get(path)
        if context is None:
            return self.replies.no("not_under_review", path=inline(path)[:200])
        placed = await asyncio.to_thread(_place, arguments, context.file)
        if placed is None:
            return self.replies.no("quote_not_found", path=inline(path)[:200])
        said = placed.candidate
        finding = complete(
            Finding(
                rule_id=f"agent/{said.category}",
                category=said.category,
                severity=said.severity,
                confidence=said.confidence,
                path=path,
                start_line=placed.start,
                end_line=placed.end,
                title=said.title,
                message=said.explanation,
                suggestion=said.suggestion,
                replacement=said.replacement,
                source=AGENT,
                exact=replaces(
                    said.quote, said.replacement, context.file.lines[placed.start - 1 : placed.end]
                ),
            ),
            context,
        )
        twin = next(
            (case for case in self.docket.cases if case.visible and _twins(case.finding, finding)), None
        )
        if twin is not None:
            return self.replies.no("finding_known", id=twin.id)
        if any(_twins(other, finding) for other in self.docket.notebook.found.values()):
            return self.replies.ok("finding_again")
        if not self.docket.notebook.find(finding, self.replies.outbox.turn):
            return self.replies.ok("finding_again")
        self.on_found(finding)
        return self.replies.ok("finding_recorded", line=finding.start_line)

    def judge_finding(self, arguments: dict[str, Any]) -> Answered:
        case = self.docket.case(str(arguments["id"]))
        if case is None:
            return self.replies.no("case_unknown", id=inline(str(arguments["id"]))[:40])
        reason = inline(self._masked(arguments["reason"]))
        if not reason:
            return self.replies.no("reason_missing", id=case.id)
        if not self.docket.notebook.judge(
            case, Judgement(str(arguments["verdict"]), reason), self.replies.outbox.turn
        ):
            return self.replies.ok("judged_before", id=case.id, open=len(self.docket.open))
        return self.replies.ok("judged", id=case.id, open=len(self.docket.open))

    def _masked(self, text: str) -> str:
        """An agent on this machine has seen the secrets of the code; the report must not."""
        return self.replies.outbox.mask(text)[0].strip()

    def submit_summary(self, arguments: dict[str, Any]) -> Answered:
        left = self.docket.open
        if left and self._pushed < _PUSHES:
            self._pushed += 1
            return self.replies.no(
                "cases_open", count=len(left), ids=", ".join(case.id for case in left[:30])
            )
        summary = self._masked(arguments["summary"])
        if not summary:
            return self.replies.no("agent_answers.summary_empty")
        self.docket.notebook.sum_up(summary, self.replies.outbox.turn)
        self.done = True
        return self.replies.ok("summed_up")


def _twins(one: Finding, other: Finding) -> bool:
    """`findings.same` within a file, whoever found it."""
    return one.path == other.path and same(replace(one, source="model"), replace(other, source="model"))


def _place(arguments: Mapping[str, Any], file: SourceFile) -> Placed | None:
    """The finding on real lines of the file: the quote decides, the agent's number breaks ties."""
    candidate = Candidate(
        title=str(arguments["title"]),
        category=Category(str(arguments["category"])),
        severity=Severity(str(arguments["severity"])),
        confidence=float(arguments["confidence"]),
        quote=str(arguments["quote"]),
        path=file.path,
        line_start=int(arguments.get("start_line", 0)),
        line_end=int(arguments.get("end_line", 0)),
        explanation=str(arguments["explanation"]),
        suggestion=str(arguments.get("suggestion", "")),
        replacement=str(arguments.get("replacement", "")),
    )
    numbers = range(1, len(file.lines) + 1)
    known = [(n, file.lines[n - 1]) for n in numbers if file.known is None or n in file.known]
    anchor = place(candidate, [piece(file, known)])
    return Placed(candidate, anchor.start, anchor.end) if anchor is not None else None
