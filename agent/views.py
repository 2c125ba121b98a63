"""What an agent may look at: units, candidates, lines, hits of a search, history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from review_agent.agent.cases import CONFIRM, REFUTE, Case, Docket
from review_agent.agent.display import inline
from review_agent.agent.hearsay import Hearsay
from review_agent.agent.library import Library
from review_agent.agent.models import Finding, ReviewUnit
from review_agent.agent.outbox import Letter, dump, readable
from review_agent.agent.replies import ROOM, Item, Replies, Row
from review_agent.agent.spans import of_lines, span
from review_agent.agent.units import CUT
from review_agent.tools.patterns import PatternError, matcher
from review_agent.tools.server import Answered

_LINE_CHARACTERS = 400
_LOOKED_AT = 4000  # characters of a line that are masked, and searched
_MOST_LINES = 300
_MOST_HITS = 60
_MOST_CASES = 40
_SAID = ("title", "explanation")  # of a candidate: a model's words
_QUOTED_LINES = 5
_PATH_CHARACTERS = 200  # where a path is only repeated


@dataclass(frozen=True)
class Views:
    docket: Docket
    library: Library
    units: Mapping[str, Sequence[ReviewUnit]]
    route: Callable[[ReviewUnit], str]
    replies: Replies
    hearsay: Hearsay

    async def list_units(self, arguments: dict[str, Any]) -> Answered:
        visible = await asyncio.to_thread(self._visible_units)
        counts: dict[str, int] = {}
        for case in self.docket.cases:
            counts[case.finding.path] = counts.get(case.finding.path, 0) + 1

        def row(unit: ReviewUnit) -> Row:
            return {
                "path": unit.path,
                "language": unit.language,
                "first_line": unit.first_line,
                "last_line": unit.last_line,
                "changed_lines": len(unit.changed_lines),
                "route": self.route(unit),
                "candidates_in_file": counts.get(unit.path, 0),
            }

        start = int(arguments.get("start", 0))
        items = (Item(at, row(unit)) for at, unit in enumerate(visible[start:], start))
        return self.replies.page(self.replies.letter(), "units", items, total=len(visible))

    def _visible_units(self) -> list[ReviewUnit]:
        every = (unit for units in self.units.values() for unit in units)
        return [unit for unit in every if self.library.visible(unit.path) is not None]

    async def get_candidates(self, arguments: dict[str, Any]) -> Answered:
        """`start` counts all candidates, so that judging some between two pages moves nothing."""
        judged = self.docket.notebook.judged
        every = arguments.get("status") == "all"
        start = int(arguments.get("start", 0))
        wanted = [
            (at, case)
            for at, case in enumerate(self.docket.cases)
            if every or not case.judgeable or case.key not in judged
        ]
        coming = [(at, case) for at, case in wanted if at >= start]
        beyond = coming[_MOST_CASES][0] if len(coming) > _MOST_CASES else None
        items = await self._items(coming[:_MOST_CASES])
        return self.replies.page(self.replies.letter(), "candidates", items, beyond=beyond, total=len(wanted))

    async def _items(self, cases: Sequence[tuple[int, Case]]) -> list[Item]:
        """Rows of candidates, with all the code that is in them: a model's words may repeat some."""
        letters = [self.replies.letter() for _ in cases]
        rows = [self._row(case, letter) for (_, case), letter in zip(cases, letters, strict=True)]
        heard = [
            (case.finding.path, row, [number for number, _ in self._quoted(case.finding)])
            for (_, case), row in zip(cases, rows, strict=True)
            if case.visible
        ]
        checked = iter(await asyncio.to_thread(self.hearsay.check, heard, _SAID))
        items: list[Item] = []
        for (at, case), row, letter in zip(cases, rows, letters, strict=True):
            if not case.visible:
                items.append(Item(at, row))
                continue
            goes, lines = next(checked)
            (path, own), *also = lines or [(case.finding.path, "")]
            items.append(Item(at, goes, path, own, tuple(also), letter.redactions))
        return items

    def _row(self, case: Case, letter: Letter) -> Row:
        finding = case.finding
        row: Row = {"id": case.id, "category": str(finding.category), "severity": str(finding.severity)}
        if not case.visible:
            return row | {"local_only": True}
        judgement = self.docket.notebook.judged.get(case.key)
        status = {CONFIRM: "confirmed", REFUTE: "refuted"}.get(judgement.verdict if judgement else "", "open")
        row |= {
            "path": finding.path,
            "start_line": finding.start_line,
            "end_line": finding.end_line,
            "confidence": finding.confidence,
            "title": letter.clean(finding.title)[:200],
            "explanation": letter.clean(finding.message)[:800],
            "quote": "\n".join(_masked(letter, [text for _, text in self._quoted(finding)])),
            "status": status if case.judgeable else "fact",
            "local_only": False,
        }
        withheld = self.hearsay.withheld(finding)
        return self.hearsay.silenced(row, _SAID) if withheld else row

    def _quoted(self, finding: Finding) -> list[tuple[int, str]]:
        if finding.start_line <= 0:
            return []
        last = min(finding.end_line, finding.start_line + _QUOTED_LINES - 1)
        return self.library.lines(finding.path, finding.start_line, last)

    async def read_lines(self, arguments: dict[str, Any]) -> Answered:
        path = str(arguments["path"])
        file = await asyncio.to_thread(self.library.visible, path)
        said = inline(path)[:_PATH_CHARACTERS]
        if file is None:
            return self.replies.no("file_unavailable", path=said)
        start = int(arguments.get("start_line", 1))
        end = max(start, int(arguments.get("end_line", start + 119)))
        if start > len(file.lines):
            return self.replies.no("lines_beyond", path=said, last=len(file.lines))
        rows = self.library.lines(path, start, min(end, start + _MOST_LINES - 1))
        if not rows:
            return self.replies.no("agent_answers.lines_unknown", path=said)
        letter = self.replies.letter()
        shown: dict[int, str] = {}
        room = ROOM - 6 * _PATH_CHARACTERS  # the head may need as much
        for (number, _), text in zip(rows, _masked(letter, [text for _, text in rows]), strict=True):
            shown[number] = f"{number} {text}"
            room -= len(readable(shown[number])) + 1
            if room < 0 and len(shown) > 1:
                del shown[number]
                break
        body = "\n".join(shown.values())
        head = {"path": letter.clean(said), "lines": span(min(shown), max(shown)), "of": len(file.lines)}
        letter.cover(path, of_lines(shown), body)
        letter.redactions = sum(map(_marks, shown.values())) - sum(
            _marks(text) for n, text in rows if n in shown
        )
        return Answered(letter.send(f"{dump(head)}\n{body}"))

    async def search_code(self, arguments: dict[str, Any]) -> Answered:
        try:
            fits = matcher(str(arguments["pattern"]), regex=bool(arguments.get("regex")))
        except PatternError as exc:
            return self.replies.no("pattern_bad", detail=inline(str(exc))[:200])

        def matches(text: str) -> bool:
            """A secret is not found either: who may ask again and again would read it letter by letter."""
            text = text[:_LOOKED_AT]
            return fits(text) and fits(Letter(self.replies.outbox).clean(text))

        start, glob = int(arguments.get("start", 0)), str(arguments.get("glob", ""))
        found = await asyncio.to_thread(self.library.search, matches, glob, _MOST_HITS, start)
        letter = self.replies.letter()

        def items() -> Iterator[Item]:
            for at, hit in enumerate(found.hits, start):
                text = letter.clean(hit.text[:_LOOKED_AT]).strip()[:200]
                row = {"path": hit.path, "line": hit.line, "text": text}
                yield Item(at, row, hit.path, str(hit.line))

        beyond = start + len(found.hits) if found.stopped == "more" else None
        stopped = found.stopped == "time"
        return self.replies.page(letter, "hits", items(), beyond=beyond, cut_by_time=stopped)

    async def git_log(self, arguments: dict[str, Any]) -> Answered:
        path, count = str(arguments.get("path", "")), int(arguments.get("count", 20))
        commits = await asyncio.to_thread(self.library.log, path, count)
        letter = self.replies.letter()
        rows = (
            {"commit": one.id[:12], "day": one.day, "subject": _subject(letter, one.subject)}
            for one in commits
        )
        return self.replies.list(letter, "commits", (Item(at, row) for at, row in enumerate(rows)))

    async def git_blame(self, arguments: dict[str, Any]) -> Answered:
        path, start = str(arguments["path"]), int(arguments["start_line"])
        end = min(max(start, int(arguments["end_line"])), start + _MOST_LINES - 1)
        lines = await asyncio.to_thread(self.library.blame, path, start, end)
        known = {commit.id: commit for commit in await asyncio.to_thread(self.library.log, path, 50)}
        letter = self.replies.letter()

        def items() -> Iterator[Item]:
            runs = groupby(enumerate(lines), key=lambda each: (each[1][0] - each[0], each[1][1]))
            for (_, commit), run in runs:
                numbers = [number for _, (number, _) in run]
                row = {
                    "lines": span(numbers[0], numbers[-1]),
                    "commit": commit[:12],
                    "day": "",
                    "subject": "",
                }
                if commit in known:
                    subject = _subject(letter, known[commit].subject)
                    row |= {"day": known[commit].day, "subject": subject}
                yield Item(numbers[0], row)

        return self.replies.list(letter, "lines", items())


def _masked(letter: Letter, lines: Sequence[str]) -> list[str]:
    """Lines as they are shown: masked while they stand together, then cut."""
    masked = letter.clean("\n".join(line[:_LOOKED_AT] for line in lines)).split("\n")
    return [text if len(text) <= _LINE_CHARACTERS else text[:_LINE_CHARACTERS] + CUT for text in masked]


def _marks(text: str) -> int:
    """Masks whole pieces are counted by, of which only the beginning leaves."""
    return text.count("<secret:")


def _subject(letter: Letter, subject: str) -> str:
    return letter.clean(inline(subject[:_LOOKED_AT]))[: _LINE_CHARACTERS // 2]
