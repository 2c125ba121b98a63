"""The report of a run that had nothing to do."""

from __future__ import annotations

import time

from review_agent.agent.coverage import cover, judge
from review_agent.agent.models import EngineInfo, Report, Usage
from review_agent.agent.settings import Settings
from review_agent.agent.target import Selection, Target


def empty_report(
    run_id: str, target: Target, settings: Settings, selection: Selection, engine: EngineInfo
) -> Report:
    """The report of a target with nothing to review."""
    files = tuple(sorted(selection.skipped, key=lambda file: file.path))
    coverage = cover(files)
    word, reason = judge(coverage, (), stopped="", demo=False)
    return Report(
        run_id=run_id,
        target=target.label(),
        lang=settings.lang,
        engine=engine,
        verdict=word,
        verdict_reason=reason,
        coverage=coverage,
        summary="",
        verdicts=(),
        files=files,
        usage=Usage(),
        notes=selection.notes,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
