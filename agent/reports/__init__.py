"""Renderers: one `Report` in, one text out."""

from __future__ import annotations

from review_agent.agent.errors import UsageError
from review_agent.agent.models import Report
from review_agent.agent.reports.masked import masked

FORMATS = ("terminal", "markdown", "json", "sarif", "codequality", "rdjson")


def render(report: Report, fmt: str, *, width: int = 80, color: bool = False) -> str:
    """The report as text that can always be encoded as UTF-8 and ends with a newline.

    `width` (terminal cells) and `color` are for "terminal" only.
    """
    report = masked(report)
    if fmt == "terminal":
        from review_agent.agent.reports.terminal import render_terminal

        return render_terminal(report, width=width, color=color)
    if fmt == "markdown":
        from review_agent.agent.reports.markdown import render_markdown

        return render_markdown(report)
    if fmt == "json":
        from review_agent.agent.reports.json_report import to_json

        return to_json(report)
    if fmt == "sarif":
        from review_agent.agent.reports.sarif import render_sarif

        return render_sarif(report)
    if fmt == "codequality":
        from review_agent.agent.reports.codequality import render_codequality

        return render_codequality(report)
    if fmt == "rdjson":
        from review_agent.agent.reports.rdjson import render_rdjson

        return render_rdjson(report)
    raise UsageError("format_unknown", format=fmt, known=", ".join(FORMATS))
