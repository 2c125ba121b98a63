"""What the local model says of a piece of code that an agent names or writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from review_agent.agent.analyzer import Analyzer
from review_agent.agent.cases import Docket
from review_agent.agent.display import inline
from review_agent.agent.library import Library
from review_agent.agent.models import Analysis, ReviewUnit, ShownLine, SourceFile
from review_agent.agent.outbox import Leaving
from review_agent.agent.replies import ROOM, Replies, size
from review_agent.agent.spans import span
from review_agent.agent.tokens import estimate
from review_agent.prompts import say
from review_agent.tools.server import Answered


@dataclass
class Opinions:
    """`analyzer` None = there is no local model; `parallel` = how much it is asked at once."""

    docket: Docket
    library: Library
    replies: Replies
    analyzer: Analyzer | None = None
    parallel: int = 1
    _gate: asyncio.Semaphore | None = None

    async def local_model_analyze(self, arguments: dict[str, Any]) -> Answered:
        if self.analyzer is None:
            return self.replies.no("no_local_engine")
        given = {name for name in ("path", "code") if arguments.get(name)}
        if len(given) != 1 or ("code" in given) != ("language" in arguments):
            return self.replies.no("analyze_forms")
        if "code" in given:
            unit, hidden = _snippet(str(arguments["code"]), str(arguments["language"])), False
        else:
            case = self.docket.case(str(arguments["path"]))
            path = case.finding.path if case is not None else str(arguments["path"])
            hidden = case is not None and not case.visible
            file = self.library.file(path)
            if file is None:
                return self.replies.no("file_unavailable", path=inline(path)[:200])
            if case is not None:  # lines of a file that it may not know come from us, not from the agent
                start, end = max(1, case.finding.start_line - 20), case.finding.end_line + 20
            else:
                start = int(arguments.get("start_line", 1))
                end = int(arguments.get("end_line", len(file.lines)))
            unit = piece(file, self.library.lines(path, start, end))
        if not unit.shown or unit.tokens > self.analyzer.budget.pieces * 2:
            return self.replies.no("analyze_size", tokens=self.analyzer.budget.pieces)
        if self._gate is None:
            self._gate = asyncio.Semaphore(max(1, self.parallel))
        async with self._gate:
            (analysis,) = await self.analyzer.analyze([unit])
        if analysis.failure:
            return self.replies.no(
                "analyze_failed", reason=say(self.replies.lang, "reasons", analysis.failure)
            )
        return self._analysed(analysis, hidden=hidden, snippet="code" in given)

    def _analysed(self, analysis: Analysis, *, hidden: bool, snippet: bool) -> Answered:
        rows: list[dict[str, Any]] = []
        parts: list[Leaving] = []
        for at, placed in enumerate(analysis.placed, start=1):
            said = placed.candidate
            row: dict[str, Any] = {"category": str(said.category), "severity": str(said.severity)}
            if hidden:
                rows.append({"id": f"A{at}", **row, "local_only": True})
                continue
            row |= {
                "start_line": placed.start,
                "end_line": placed.end,
                "confidence": said.confidence,
                "title": said.title,
                "explanation": said.explanation,
                "suggestion": said.suggestion,
            }
            rows.append(row)
            if not snippet and placed.start:
                parts.append(Leaving(analysis.unit.path, span(placed.start, placed.end), size(row)))
        body = json.dumps({"findings": rows}, ensure_ascii=False)
        while len(body) > ROOM and rows:
            rows.pop()
            parts = parts[: len(rows)]
            body = json.dumps({"findings": rows, "cut": True}, ensure_ascii=False)
        return Answered(self.replies.outbox.send(body, parts))


def _snippet(code: str, language: str) -> ReviewUnit:
    lines = [(number, text) for number, text in enumerate(code.split("\n"), start=1)]
    return _unit(f"snippet.{inline(language)[:20]}", language, lines)


def piece(file: SourceFile, lines: Sequence[tuple[int, str]]) -> ReviewUnit:
    return _unit(file.path, file.language, lines)


def _unit(path: str, language: str, lines: Sequence[tuple[int, str]]) -> ReviewUnit:
    shown = tuple(ShownLine(number, text[:2000], "+") for number, text in lines)
    tokens = estimate("\n".join(line.text for line in shown)) + 4 * len(shown)
    return ReviewUnit(path, 0, language, shown, tuple(line.number for line in shown), "", tokens, "")
