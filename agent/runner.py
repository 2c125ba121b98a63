"""What a GitHub runner reads: annotations on standard output, the job's summary, outputs for later steps.

https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from review_agent.agent.display import inline, path_text, terminal_text
from review_agent.agent.errors import UsageError
from review_agent.agent.models import Finding, Outcome, Report, Severity
from review_agent.agent.reports import outline

MOST = 10  # a step shows as many errors, as many warnings and as many notices
MAX_SUMMARY = 1000 * 1000  # bytes; a step may write 1 MiB
_LEVEL = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "notice",
    Severity.INFO: "notice",
}
_PLAIN = re.compile(r"[ -~]{0,2000}")
_NAME = re.compile(r"[a-z_]{1,40}")


def is_runner(environ: Mapping[str, str]) -> bool:
    return environ.get("GITHUB_ACTIONS") == "true"


def as_annotations(report: Report) -> tuple[list[str], int]:
    """Workflow commands, the worst findings first, and how many findings there was no room for."""
    used: Counter[str] = Counter()
    lines = []
    found = [verdict.finding for verdict in outline.in_order(report, Outcome.REPORTED)]
    for finding in found:
        level = _LEVEL[finding.severity]
        if used[level] < MOST:
            used[level] += 1
            lines.append(_annotation(finding, level))
    return lines, len(found) - len(lines)


def as_command(level: str, text: str) -> str:
    """One sentence of ours as an annotation of the job."""
    return f"::{level} title=review-agent::{_data(text)}"


def _annotation(finding: Finding, level: str) -> str:
    properties = {"title": inline(finding.title)[:200]}
    if finding.path:
        properties["file"] = path_text(finding.path)
    if finding.path and finding.start_line > 0:
        properties["line"] = str(finding.start_line)
        properties["endLine"] = str(max(finding.start_line, finding.end_line))
    parts = [inline(finding.title), terminal_text(finding.message.strip())]
    if finding.suggestion.strip():
        parts.append(terminal_text(finding.suggestion.strip()))
    text = "\n".join(part for part in parts if part)[:4000]
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{level} {listed}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def add_summary(environ: Mapping[str, str], markdown: str, cut: str) -> bool:
    """Append to the job's summary; False where the runner has none. `cut` goes before what does not fit."""
    name = environ.get("GITHUB_STEP_SUMMARY", "")
    if not name:
        return False
    data = markdown.encode("utf-8", "backslashreplace")
    if len(data) > MAX_SUMMARY:  # at the top: below it the cut may be within a block of code
        data = f"**{cut}**\n\n".encode() + data
        data = data[:MAX_SUMMARY]
    _append(name, data.decode("utf-8", "ignore").encode() + b"\n")
    return True


def write_outputs(environ: Mapping[str, str], values: Iterable[tuple[str, object]]) -> None:
    """Outputs for later steps. A value is a number or one line of ours: text of others could add outputs."""
    name = environ.get("GITHUB_OUTPUT", "")
    if name:
        rows = [f"{key}={value}\n" for key, value in values if _fit(key, str(value))]
        _append(name, "".join(rows).encode())


def _fit(key: str, value: str) -> bool:
    return bool(_NAME.fullmatch(key) and _PLAIN.fullmatch(value))


def _append(name: str, data: bytes) -> None:
    try:
        with Path(name).open("ab") as stream:
            stream.write(data)
    except OSError as exc:
        raise UsageError("output_unwritable", path=name) from exc
