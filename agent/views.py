"""What an agent may look at: units, candidates, lines, hits of a search, history."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from review_agent.agent.cases import CONFIRM, REFUTE, Case, Docket
from review_agent.agent.display import inline
from review_agent.agent.findings import Context
from review_agent.agent.library import Library
from review_agent.agent.models import Finding, ReviewUnit
from review_agent.agent.outbox import Leaving
from review_agent.agent.replies import ROOM, Replies, size
from review_agent.agent.spans import span
from review_agent.tools.patterns import PatternError, matcher
from review_agent.tools.server import Answered

_LINE_CHARACTERS = 400
_MOST_LINES = 300
_MOST_HITS = 60


@dataclass(frozen=True)
class Views:
    docket: Docket
    library: Library
    units: Mapping[str, Sequence[ReviewUnit]]
    contexts: Mapping[str, Context]
    route: Callable[[ReviewUnit], str]
    replies: Replies

    def list_units(self, arguments: dict[str, Any]) -> Answered:
        visible = [
            unit
            for units in self.units.values()
            for unit in units
            if self.library.visible(unit.path) is not None
        ]
        counts: dict[str, int] = {}
        for case in self.docket.cases:
            counts[case.finding.path] = counts.get(case.finding.path, 0) + 1
        rows = [
            {
                "path": unit.path,
                "language": unit.language,
                "first_line": unit.first_line,
                "last_line": unit.last_line,
                "changed_lines": len(unit.changed_lines),
                "route": self.route(unit),
                "candidates_in_file": counts.get(unit.path, 0),
            }
            for unit in visible
        ]
        return self.replies.listed("units", rows, int(arguments.get("start", 0)), lambda _: None)

    def get_candidates(self, arguments: dict[str, Any]) -> Answered:
        wanted = (
            list(self.docket.cases)
            if arguments.get("status") == "all"
            else [case for case in self.docket.cases if case in self.docket.open or not case.judgeable]
        )
        rows = [self._row(case) for case in wanted]
        by_id = {case.id: case for case in wanted}

        def leaving(row: dict[str, Any]) -> Leaving | None:
            case = by_id[row["id"]]
            if not case.visible:
                return None
            finding = case.finding
            return Leaving(finding.path, span(finding.start_line, finding.end_line), size(row))

        return self.replies.listed("candidates", rows, int(arguments.get("start", 0)), leaving)

    def _row(self, case: Case) -> dict[str, Any]:
        finding = case.finding
        if not case.visible:
            return {
                "id": case.id,
                "category": str(finding.category),
                "severity": str(finding.severity),
                "local_only": True,
            }
        judgement = self.docket.notebook.judged.get(case.key)
        status = {CONFIRM: "confirmed", REFUTE: "refuted"}.get(judgement.verdict if judgement else "", "open")
        return {
            "id": case.id,
            "path": finding.path,
            "start_line": finding.start_line,
            "end_line": finding.end_line,
            "category": str(finding.category),
            "severity": str(finding.severity),
            "confidence": finding.confidence,
            "title": finding.title[:200],
            "explanation": finding.message[:800],
            "quote": self._quote(finding),
            "status": status if case.judgeable else "fact",
            "local_only": False,
        }

    def _quote(self, finding: Finding) -> str:
        context = self.contexts.get(finding.path)
        if context is None or finding.start_line <= 0:
            return ""
        last = min(finding.end_line, finding.start_line + 4)
        rows = context.file.lines[finding.start_line - 1 : last]
        return context.mask("\n".join(row[:_LINE_CHARACTERS] for row in rows))

    def read_lines(self, arguments: dict[str, Any]) -> Answered:
        path = str(arguments["path"])
        file = self.library.file(path)
        if file is None:
            return self.replies.no("file_unavailable", path=inline(path)[:200])
        start = int(arguments.get("start_line", 1))
        end = int(arguments.get("end_line", start + 119))
        if start > len(file.lines):
            return self.replies.no("lines_beyond", path=inline(path)[:200], last=len(file.lines))
        shown: list[str] = []
        spent = 0
        last = start
        for number, text in self.library.lines(path, start, min(end, start + _MOST_LINES - 1)):
            row = f"{number} {text[:_LINE_CHARACTERS]}"
            spent += len(row) + 1
            if spent > ROOM and shown:
                break
            shown.append(row)
            last = number
        body = "\n".join(shown)
        head = json.dumps(
            {"path": path, "lines": span(start, last), "of": len(file.lines)}, ensure_ascii=False
        )
        part = Leaving(path, span(start, last), len(body.encode("utf-8", "replace")))
        return Answered(self.replies.outbox.send(f"{head}\n{body}", [part]))

    async def search_code(self, arguments: dict[str, Any]) -> Answered:
        try:
            matches = matcher(str(arguments["pattern"]), regex=bool(arguments.get("regex")))
        except PatternError as exc:
            return self.replies.no("pattern_bad", detail=inline(str(exc))[:200])
        start = int(arguments.get("start", 0))
        found = await asyncio.to_thread(
            self.library.search, matches, str(arguments.get("glob", "")), _MOST_HITS, start
        )
        rows: list[dict[str, Any]] = []
        parts: list[Leaving] = []
        spent = 0
        for hit in found.hits:
            row = {"path": hit.path, "line": hit.line, "text": hit.text.strip()[:200]}
            spent += len(json.dumps(row, ensure_ascii=False)) + 2
            if spent > ROOM:
                break
            rows.append(row)
            parts.append(Leaving(hit.path, str(hit.line), len(str(row["text"]).encode("utf-8", "replace"))))
        more = found.stopped == "more" or len(rows) < len(found.hits)
        body = {
            "hits": rows,
            "next": start + len(rows) if more else None,
            "cut_by_time": found.stopped == "time",
        }
        return Answered(self.replies.outbox.send(json.dumps(body, ensure_ascii=False), parts))

    def git_log(self, arguments: dict[str, Any]) -> Answered:
        commits = self.library.log(str(arguments.get("path", "")), int(arguments.get("count", 20)))
        rows = [
            {"commit": one.id[:12], "day": one.day, "subject": inline(one.subject)[:200]} for one in commits
        ]
        return self.replies.listed("commits", rows, 0, lambda _: None)

    def git_blame(self, arguments: dict[str, Any]) -> Answered:
        path, start = str(arguments["path"]), int(arguments["start_line"])
        end = min(int(arguments["end_line"]), start + 99)
        lines = self.library.blame(path, start, end)
        days = {commit.id: commit for commit in self.library.log(path, 50)}
        rows = [
            {
                "line": line,
                "commit": commit[:12],
                "day": days[commit].day if commit in days else "",
                "subject": inline(days[commit].subject)[:120] if commit in days else "",
            }
            for line, commit in lines
        ]
        return self.replies.listed("lines", rows, 0, lambda _: None)
