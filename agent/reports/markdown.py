"""The report as Markdown, for people and forges: no HTML, and nothing from outside that is acted on."""

from __future__ import annotations

from review_agent.agent.display import code_block, code_span, inline, markdown_text
from review_agent.agent.models import Finding, Report
from review_agent.agent.reports import outline
from review_agent.agent.reports.outline import Ready, Words
from review_agent.prompts import load

_TEMPLATE = "report.md.jinja"


def render_markdown(report: Report) -> str:
    import jinja2

    words = Words(report.lang, text=_one_line, path=code_span, code=code_span)
    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701 - the output is Markdown, not HTML; `finalize` is its gate
        finalize=_gate,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["severity"] = lambda finding: words.term("severity", finding.severity)
    environment.filters["place"] = lambda finding: words.name(outline.place(finding) if finding.path else "")
    environment.filters["about"] = lambda verdict: words.join(outline.about(verdict, words))
    environment.filters["excerpt"] = _excerpt
    environment.filters["code"] = lambda text: Ready(code_span(text))
    environment.filters["block"] = lambda text: Ready(code_block(text))
    # A line that begins with an empty value would be a block of code in its list.
    environment.filters["item"] = lambda line: Ready(line.strip())
    environment.filters["line"] = lambda text: Ready(_one_line(text))
    text = environment.from_string(load(_TEMPLATE)).render(report=report, outline=outline, words=words)
    return "\n".join(line.rstrip() for line in text.strip().split("\n")) + "\n"


def _one_line(text: str) -> str:
    return markdown_text(inline(text))


def _gate(value: object) -> str:
    """Each `{{ }}` of the template ends here: what was not made ready is prose from outside."""
    return str(value) if isinstance(value, Ready | int) else markdown_text(str(value))


def _excerpt(finding: Finding) -> Ready:
    rows = [inline(f"{gutter} {code}") for gutter, code in outline.excerpt(finding)]
    return Ready(code_block("\n".join(rows)))
