"""What the agent's tools do: the port of `tools.server` over one review.

Whatever a tool returns may leave this machine. So each answer is made of what the policy lets be seen, goes
through the mask, and is in the ledger before it is given.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from review_agent.agent.analyzer import Analyzer
from review_agent.agent.anchor import place
from review_agent.agent.cases import CONFIRM, REFUTE, Case, Judgement, Notebook
from review_agent.agent.display import inline
from review_agent.agent.errors import CommandRefused, FileRefused, GitError, Stopped
from review_agent.agent.findings import Context, complete, same
from review_agent.agent.library import Library
from review_agent.agent.models import (
    Analysis,
    Candidate,
    Category,
    Egress,
    Finding,
    Placed,
    ReviewUnit,
    Severity,
    ShownLine,
    SourceFile,
)
from review_agent.agent.policy import refusal as command_refusal
from review_agent.agent.spans import span
from review_agent.agent.tokens import estimate
from review_agent.prompts import say
from review_agent.tools.patterns import PatternError, matcher
from review_agent.tools.server import MOST_CHARACTERS, Answered
from review_agent.tools.shell_run import CommandRunner

_ROOM = MOST_CHARACTERS - 400  # for what stands around a list
_LINE_CHARACTERS = 400
_MOST_LINES = 300
_MOST_HITS = 60
_PUSHES = 2  # times that a summary is sent back while cases are open


@dataclass(frozen=True, slots=True)
class Leaving:
    """The lines of one file within an answer, for the ledger."""

    path: str
    lines: str
    bytes: int


@dataclass
class Outbox:
    """Masks what leaves and writes it down. `host` '' = nothing leaves: the model is on this machine."""

    host: str
    model: str
    mask: Callable[[str], tuple[str, int]]
    keep: Callable[[list[Egress]], None] = lambda _: None  # durable when it returns
    rows: list[Egress] = field(default_factory=list)
    turn: int = 0

    def send(self, text: str, parts: Sequence[Leaving] = ()) -> str:
        """The text as it may leave. What is in no part counts as a row without a path."""
        if not self.host:
            return text
        masked, hidden = self.mask(text)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        rest = max(0, len(masked.encode("utf-8", "replace")) - sum(part.bytes for part in parts))
        every = [*parts, *([Leaving("", "", rest)] if rest else [])]
        rows = [
            Egress(
                now,
                self.host,
                part.path,
                part.bytes,
                hidden if at == 0 else 0,
                self.model,
                part.lines,
                self.turn,
            )
            for at, part in enumerate(every)
        ]
        self.keep(rows)
        self.rows += rows
        return masked


@dataclass
class Toolbox:
    """The tools of one agent. `analyzer` asks the local model; None = there is none."""

    lang: str
    cases: tuple[Case, ...]
    notebook: Notebook
    library: Library
    units: Mapping[str, Sequence[ReviewUnit]]
    contexts: Mapping[str, Context]
    route: Callable[[ReviewUnit], str]
    outbox: Outbox
    offered: frozenset[str]
    analyzer: Analyzer | None = None
    runner: Callable[[], CommandRunner] | None = None
    on_found: Callable[[Finding], None] = lambda _: None
    parallel: int = 1
    done: bool = False
    _pushed: int = 0
    _gate: asyncio.Semaphore | None = None

    # --- the port ---

    def refusal(self, tool: str, arguments: dict[str, Any]) -> str:
        """Nothing about a hidden file is told, not even whether it exists."""
        if tool not in self.offered:
            return self._say("tool_not_offered", tool=inline(tool)[:60])
        path = str(arguments.get("path", ""))
        if path and not self._case(path) and self.library.hidden(path):
            return self._say("file_unavailable", path=inline(path)[:200])
        if tool == "judge_finding":
            case = self._case(str(arguments.get("id", "")))
            if case is None:
                return self._say("case_unknown", id=inline(str(arguments.get("id", "")))[:40])
            if not case.judgeable:
                return self._say("case_not_judgeable", id=case.id)
        return ""

    async def call(self, tool: str, arguments: dict[str, Any]) -> Answered:
        try:
            answer: Answered | Awaitable[Answered] = getattr(self, f"_{tool}")(arguments)
            return answer if isinstance(answer, Answered) else await answer
        except GitError as exc:
            return self._no("git_failed", detail=exc.key)
        except Stopped as exc:
            return self._no("engine_stopped", reason=say(self.lang, "reasons", exc.key))

    @property
    def open_cases(self) -> list[Case]:
        return [case for case in self.cases if case.judgeable and case.key not in self.notebook.judged]

    # --- what there is ---

    def _list_units(self, arguments: dict[str, Any]) -> Answered:
        visible = [
            unit for units in self.units.values() for unit in units if not self.library.hidden(unit.path)
        ]
        counts: dict[str, int] = {}
        for case in self.cases:
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
        return self._listed("units", rows, int(arguments.get("start", 0)), lambda _: None)

    def _get_candidates(self, arguments: dict[str, Any]) -> Answered:
        wanted = (
            list(self.cases)
            if arguments.get("status") == "all"
            else [case for case in self.cases if case in self.open_cases or not case.judgeable]
        )
        rows = [self._row(case) for case in wanted]
        by_id = {case.id: case for case in wanted}

        def leaving(row: dict[str, Any]) -> Leaving | None:
            case = by_id[row["id"]]
            if not case.visible:
                return None
            finding = case.finding
            return Leaving(finding.path, span(finding.start_line, finding.end_line), _size(row))

        return self._listed("candidates", rows, int(arguments.get("start", 0)), leaving)

    def _row(self, case: Case) -> dict[str, Any]:
        finding = case.finding
        if not case.visible:
            return {
                "id": case.id,
                "category": str(finding.category),
                "severity": str(finding.severity),
                "local_only": True,
            }
        judgement = self.notebook.judged.get(case.key)
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

    # --- looking ---

    def _read_lines(self, arguments: dict[str, Any]) -> Answered:
        path = str(arguments["path"])
        file = self.library.file(path)
        if file is None:
            return self._no("file_unavailable", path=inline(path)[:200])
        start = int(arguments.get("start_line", 1))
        end = int(arguments.get("end_line", start + 119))
        if start > len(file.lines):
            return self._no("lines_beyond", path=inline(path)[:200], last=len(file.lines))
        shown: list[str] = []
        spent = 0
        last = start
        for number, text in self.library.lines(path, start, min(end, start + _MOST_LINES - 1)):
            row = f"{number} {text[:_LINE_CHARACTERS]}"
            spent += len(row) + 1
            if spent > _ROOM and shown:
                break
            shown.append(row)
            last = number
        body = "\n".join(shown)
        head = json.dumps(
            {"path": path, "lines": span(start, last), "of": len(file.lines)}, ensure_ascii=False
        )
        part = Leaving(path, span(start, last), len(body.encode("utf-8", "replace")))
        return Answered(self.outbox.send(f"{head}\n{body}", [part]))

    async def _search_code(self, arguments: dict[str, Any]) -> Answered:
        try:
            matches = matcher(str(arguments["pattern"]), regex=bool(arguments.get("regex")))
        except PatternError as exc:
            return self._no("pattern_bad", detail=inline(str(exc))[:200])
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
            if spent > _ROOM:
                break
            rows.append(row)
            parts.append(Leaving(hit.path, str(hit.line), len(str(row["text"]).encode("utf-8", "replace"))))
        more = found.stopped == "more" or len(rows) < len(found.hits)
        body = {
            "hits": rows,
            "files_searched": found.files,
            "next": start + len(rows) if more else None,
            "cut_by_time": found.stopped == "time",
        }
        return Answered(self.outbox.send(json.dumps(body, ensure_ascii=False), parts))

    def _git_log(self, arguments: dict[str, Any]) -> Answered:
        commits = self.library.log(str(arguments.get("path", "")), int(arguments.get("count", 20)))
        rows = [
            {"commit": one.id[:12], "day": one.day, "subject": inline(one.subject)[:200]} for one in commits
        ]
        return self._listed("commits", rows, 0, lambda _: None)

    def _git_blame(self, arguments: dict[str, Any]) -> Answered:
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
        return self._listed("lines", rows, 0, lambda _: None)

    async def _local_model_analyze(self, arguments: dict[str, Any]) -> Answered:
        if self.analyzer is None:
            return self._no("no_local_engine")
        given = {name for name in ("path", "code") if arguments.get(name)}
        if len(given) != 1 or ("code" in given) != ("language" in arguments):
            return self._no("analyze_forms")
        if "code" in given:
            unit, hidden = _snippet(str(arguments["code"]), str(arguments["language"])), False
        else:
            case = self._case(str(arguments["path"]))
            path = case.finding.path if case is not None else str(arguments["path"])
            hidden = case is not None and not case.visible
            file = self.library.file(path)
            if file is None:
                return self._no("file_unavailable", path=inline(path)[:200])
            if case is not None:  # lines of a file that it may not know come from us, not from the agent
                start, end = max(1, case.finding.start_line - 20), case.finding.end_line + 20
            else:
                start = int(arguments.get("start_line", 1))
                end = int(arguments.get("end_line", len(file.lines)))
            unit = _piece(file, self.library.lines(path, start, end))
        if not unit.shown or unit.tokens > self.analyzer.budget.pieces * 2:
            return self._no("analyze_size", tokens=self.analyzer.budget.pieces)
        if self._gate is None:
            self._gate = asyncio.Semaphore(max(1, self.parallel))
        async with self._gate:
            (analysis,) = await self.analyzer.analyze([unit])
        if analysis.failure:
            return self._no("analyze_failed", reason=say(self.lang, "reasons", analysis.failure))
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
                parts.append(Leaving(analysis.unit.path, span(placed.start, placed.end), _size(row)))
        body = json.dumps({"findings": rows}, ensure_ascii=False)
        while len(body) > _ROOM and rows:
            rows.pop()
            parts = parts[: len(rows)]
            body = json.dumps({"findings": rows, "cut": True}, ensure_ascii=False)
        return Answered(self.outbox.send(body, parts))

    async def _run_command(self, arguments: dict[str, Any]) -> Answered:
        if self.runner is None:
            return self._no("tool_not_offered", tool="run_command")
        try:
            ran = await asyncio.to_thread(self.runner().run, str(arguments["command"]))
        except (CommandRefused, FileRefused) as exc:
            return Answered(command_refusal(exc, self.lang), error=True)
        said = (ran.stdout + ran.stderr).decode("utf-8", "replace")
        status = "timeout" if ran.timed_out else f"exit {ran.exit_code}"
        return Answered(self.outbox.send(f"{status}\n{said}"[:_ROOM]), error=ran.exit_code != 0)

    # --- saying ---

    def _record_finding(self, arguments: dict[str, Any]) -> Answered:
        path = str(arguments["path"])
        context = self.contexts.get(path)
        if context is None:
            return self._no("not_under_review", path=inline(path)[:200])
        placed = _place(arguments, context.file)
        if placed is None:
            return self._no("quote_not_found", path=inline(path)[:200])
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
                source="agent",
            ),
            context,
        )
        twin = next((case for case in self.cases if case.visible and _twins(case.finding, finding)), None)
        if twin is not None:
            return self._no("finding_known", id=twin.id)
        if any(_twins(other, finding) for other in self.notebook.found.values()):
            return self._ok("finding_again")
        if not self.notebook.find(finding, self.outbox.turn):
            return self._ok("finding_again")
        self.on_found(finding)
        return self._ok("finding_recorded", line=finding.start_line)

    def _judge_finding(self, arguments: dict[str, Any]) -> Answered:
        case = self._case(str(arguments["id"]))
        if case is None:
            return self._no("case_unknown", id=inline(str(arguments["id"]))[:40])
        reason = inline(str(arguments["reason"]).strip())
        if not reason:
            return self._no("reason_missing", id=case.id)
        if not self.notebook.judge(case, Judgement(str(arguments["verdict"]), reason), self.outbox.turn):
            return self._ok("judged_before", id=case.id, open=len(self.open_cases))
        return self._ok("judged", id=case.id, open=len(self.open_cases))

    def _submit_summary(self, arguments: dict[str, Any]) -> Answered:
        left = self.open_cases
        if left and self._pushed < _PUSHES:
            self._pushed += 1
            return self._no("cases_open", count=len(left), ids=", ".join(case.id for case in left[:30]))
        self.notebook.sum_up(str(arguments["summary"]).strip(), self.outbox.turn)
        self.done = True
        return self._ok("summed_up")

    # --- answers ---

    def _case(self, name: str) -> Case | None:
        return next((case for case in self.cases if case.id == name), None)

    def _listed(
        self,
        name: str,
        rows: Sequence[dict[str, Any]],
        start: int,
        leaving: Callable[[dict[str, Any]], Leaving | None],
    ) -> Answered:
        """As many rows as fit, from `start` on, and where to go on."""
        page: list[dict[str, Any]] = []
        spent = 0
        for row in rows[start:]:
            spent += len(json.dumps(row, ensure_ascii=False)) + 2
            if spent > _ROOM and page:
                break
            page.append(row)
        following = start + len(page)
        body = {name: page, "next": following if following < len(rows) else None, "total": len(rows)}
        parts = [part for part in map(leaving, page) if part is not None]
        return Answered(self.outbox.send(json.dumps(body, ensure_ascii=False), parts))

    def _say(self, key: str, **fields: object) -> str:
        return say(self.lang, "agent", key, **fields)

    def _ok(self, key: str, **fields: object) -> Answered:
        return Answered(self._say(key, **fields))

    def _no(self, key: str, **fields: object) -> Answered:
        return Answered(self._say(key, **fields), error=True)


def _twins(one: Finding, other: Finding) -> bool:
    """`findings.same` within a file, whoever found it."""
    return one.path == other.path and same(replace(one, source="model"), replace(other, source="model"))


def _size(row: Mapping[str, Any]) -> int:
    return len(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))


def _snippet(code: str, language: str) -> ReviewUnit:
    lines = [(number, text) for number, text in enumerate(code.split("\n"), start=1)]
    return _unit(f"snippet.{inline(language)[:20]}", language, lines)


def _piece(file: SourceFile, lines: Sequence[tuple[int, str]]) -> ReviewUnit:
    return _unit(file.path, file.language, lines)


def _unit(path: str, language: str, lines: Sequence[tuple[int, str]]) -> ReviewUnit:
    shown = tuple(ShownLine(number, text[:2000], "+") for number, text in lines)
    tokens = estimate("\n".join(line.text for line in shown)) + 4 * len(shown)
    return ReviewUnit(path, 0, language, shown, tuple(line.number for line in shown), "", tokens, "")


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
    anchor = place(candidate, [_piece(file, known)])
    return Placed(candidate, anchor.start, anchor.end) if anchor is not None else None
