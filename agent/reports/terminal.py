"""The report for a terminal or a log: plain lines of a fixed width, coloured only when asked."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO

from rich.console import Console
from rich.text import Text

from review_agent.agent.display import disarm, inline, path_text, terminal_text
from review_agent.agent.models import Report, Severity, Verdict, VerdictWord
from review_agent.agent.reports import outline
from review_agent.agent.reports.outline import Words
from review_agent.agent.reports.wrap import fold, wrap

_MIN_WIDTH = 20
_HEADING = "bold"
_QUIET = "dim"
_MARKED = "bold"
_SEVERITY = {
    Severity.CRITICAL: "bold red",
    Severity.HIGH: "red",
    Severity.MEDIUM: "yellow",
    Severity.LOW: "cyan",
    Severity.INFO: "blue",
}


class _Page:
    """Collects finished lines.

    Text comes in gated; wrapping may bring `::` to the start of a line, so each line is disarmed once more.
    """

    def __init__(self, width: int) -> None:
        self._width = max(width, _MIN_WIDTH)
        self.lines: list[Text] = []

    def add(self, text: str, *, first: str = "", style: str = "") -> None:
        """Wrapped text; `first` stands before the first line, as many spaces before the others."""
        for row in wrap(text, self._width - len(first)):
            self._line(first + row, style)
            first = " " * len(first)

    def code(self, gutter: str, code: str, style: str) -> None:
        """A line of source: cut where it is too long, never reflowed."""
        blank = " " * (len(gutter) - 1) + gutter[-1]
        shown = inline(f"|{code}")[1:]  # behind a gutter no line begins with `::`
        for row in fold(shown, self._width - len(gutter) - 1):
            self._line(f"{gutter} {row}", style)
            gutter = blank

    def section(self, heading: str, lines: Iterable[str]) -> None:
        self.blank()
        self.add(heading, style=_HEADING)
        for line in lines:
            self.add(line, first="  - ")

    def blank(self) -> None:
        self.lines.append(Text(""))

    def _line(self, line: str, style: str) -> None:
        self.lines.append(Text(disarm(line.rstrip()), style=style))


def render_terminal(report: Report, *, width: int = 80, color: bool = False) -> str:
    words = Words(report.lang, text=inline, path=path_text, code=lambda text: f"`{inline(text)}`")
    page = _Page(width)
    _head(page, report, words)
    _findings(page, report, words)
    for heading, lines in outline.sections(report, words):
        page.section(heading, lines)
    return _printed(page.lines, color)


def _head(page: _Page, report: Report, words: Words) -> None:
    if outline.is_demo(report):
        page.add(words.say("demo_banner"), style="bold yellow")
    style = {VerdictWord.PASS: "bold green", VerdictWord.ISSUES: "bold red"}.get(
        report.verdict, "bold yellow"
    )
    page.add(outline.verdict_line(report, words), style=style)
    for line in outline.facts(report, words):
        page.add(line)
    if report.summary.strip():
        page.blank()
        page.add(words.say("summary"), style=_HEADING)
        page.add(terminal_text(report.summary.strip()), first="  ")


def _findings(page: _Page, report: Report, words: Words) -> None:
    for heading, findings in outline.chapters(report, words):
        page.blank()
        page.add(heading, style=_HEADING)
        for number, verdict in findings:
            page.blank()
            _finding(page, number, verdict, words)


def _finding(page: _Page, number: int, verdict: Verdict, words: Words) -> None:
    finding = verdict.finding
    style = _SEVERITY[finding.severity]
    severity = words.term("severity", finding.severity)
    place = path_text(outline.place(finding)) if finding.path else words.say("no_path")
    page.add(f"{severity}  {inline(finding.rule_id)}  {place}", first=f"{number}. ", style=style)
    page.add(inline(finding.title), first="   ", style="bold")
    if finding.message.strip():
        page.add(terminal_text(finding.message.strip()), first="   ")
    for gutter, code in outline.excerpt(finding):
        page.code(f"   {gutter}", code, _MARKED if gutter.startswith(">") else _QUIET)
    if finding.suggestion.strip():
        page.add(words.say("suggestion"), first="   ", style=_HEADING)
        page.add(terminal_text(finding.suggestion.strip()), first="     ")
    if finding.replacement.strip():
        page.add(words.say("replacement"), first="   ", style=_HEADING)
        for line in finding.replacement.rstrip().split("\n"):
            page.code("     |", line.expandtabs(4), "")
    page.add("  ".join(outline.about(verdict, words)), first="   ", style=_QUIET)


def _printed(lines: list[Text], color: bool) -> str:
    out = StringIO()
    console = Console(
        file=out,
        color_system="standard" if color else None,
        force_terminal=color,
        no_color=not color,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )
    for line in lines:
        console.print(line, soft_wrap=True)
    return out.getvalue()
