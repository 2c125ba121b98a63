"""What the local model says of a piece of code that an agent names or writes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from review_agent.agent.analyzer import Analyzer
from review_agent.agent.cases import Case, Docket
from review_agent.agent.display import inline
from review_agent.agent.hearsay import Hearsay, Lines
from review_agent.agent.library import Library
from review_agent.agent.models import Placed, ReviewUnit, ShownLine, SourceFile
from review_agent.agent.replies import Item, Replies, Row
from review_agent.agent.tokens import estimate
from review_agent.prompts import say
from review_agent.tools.server import Answered

_WORDS = ("title", "suggestion", "explanation")  # a model's own


@dataclass
class Opinions:
    """`analyzer` None = there is no local model; `parallel` = how much it is asked at once."""

    docket: Docket
    library: Library
    replies: Replies
    hearsay: Hearsay
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
            hidden = case is not None and not case.visible
            found = await asyncio.to_thread(self._named, arguments, case)
            if found is None:
                return self.replies.no("file_unavailable", path=inline(str(arguments["path"]))[:200])
            unit = found
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
        if hidden:
            return self._told([(_sealed(at, placed), []) for at, placed in enumerate(analysis.placed, 1)])
        path = "" if "code" in given else analysis.unit.path
        heard = [(path, _open(placed), ()) for placed in analysis.placed]
        return self._told(await asyncio.to_thread(self.hearsay.check, heard, _WORDS))

    def _named(self, arguments: dict[str, Any], case: Case | None) -> ReviewUnit | None:
        """A piece of a visible file, or of the one that a candidate is in; None where there is none."""
        if case is None:
            path = str(arguments["path"])
            file = self.library.visible(path)
            start = int(arguments.get("start_line", 1))
            end = int(arguments.get("end_line", len(file.lines) if file is not None else 0))
        else:  # the lines come from us: of a hidden file an agent may not know them
            path = case.finding.path
            file = self.library.file(path)
            start, end = max(1, case.finding.start_line - 20), case.finding.end_line + 20
        return piece(file, self.library.lines(path, start, end)) if file is not None else None

    def _told(self, rows: Sequence[tuple[Row, Sequence[Lines]]]) -> Answered:
        items = (
            Item(at, row, *(lines[0] if lines else ("", "")), tuple(lines[1:]))
            for at, (row, lines) in enumerate(rows)
        )
        return self.replies.list(self.replies.letter(), "findings", items)


def _sealed(at: int, placed: Placed) -> Row:
    """Of code that may not be seen."""
    said = placed.candidate
    row: Row = {"id": f"A{at}", "category": str(said.category), "severity": str(said.severity)}
    return {**row, "local_only": True}


def _open(placed: Placed) -> Row:
    said = placed.candidate
    return {
        "category": str(said.category),
        "severity": str(said.severity),
        "start_line": placed.start,
        "end_line": placed.end,
        "confidence": said.confidence,
        "title": said.title,
        "explanation": said.explanation,
        "suggestion": said.suggestion,
    }


def _snippet(code: str, language: str) -> ReviewUnit:
    lines = [(number, text) for number, text in enumerate(code.split("\n"), start=1)]
    return _unit(f"snippet.{inline(language)[:20]}", language, lines)


def piece(file: SourceFile, lines: Sequence[tuple[int, str]]) -> ReviewUnit:
    return _unit(file.path, file.language, lines)


def _unit(path: str, language: str, lines: Sequence[tuple[int, str]]) -> ReviewUnit:
    shown = tuple(ShownLine(number, text[:2000], "+") for number, text in lines)
    tokens = estimate("\n".join(line.text for line in shown)) + 4 * len(shown)
    return ReviewUnit(path, 0, language, shown, tuple(line.number for line in shown), "", tokens, "")
