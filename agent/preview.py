"""`run --preview`: what a run would do. Asks the server for its models, never a model for an answer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from review_agent.agent.cloud import effective_mode
from review_agent.agent.display import inline, terminal_text
from review_agent.agent.engine import Engine, confine, open_engine
from review_agent.agent.errors import EngineError
from review_agent.agent.lanes import cloud_lane, router_of
from review_agent.agent.models import EngineInfo
from review_agent.agent.planner import Plan, make_plan, narrowed
from review_agent.agent.progress import duration
from review_agent.agent.session import model_key, open_store
from review_agent.agent.target import Target, select
from review_agent.agent.wording import sentence
from review_agent.checkpoints.store import Store
from review_agent.prompts import say
from review_agent.tools.redact import mask

if TYPE_CHECKING:
    from review_agent.agent.commands.run import Job

# (prompt tokens read a second, answer tokens written a second): a laptop's CPU, and a fast GPU
_SLOW, _FAST = (100.0, 8.0), (1000.0, 60.0)
_ANSWER_TOKENS = 250


async def preview(job: Job) -> int:
    """Print the plan on stdout. Works without an engine too; then nothing counts as known."""
    settings = job.settings
    reason = ""
    engine: Engine | None = None
    confine(settings, job.environ)
    try:
        engine = await open_engine(settings, job.environ)
        await engine.aclose()
    except EngineError as exc:
        reason = sentence(exc, settings.lang)
    selection, target = select(job.target, max_file_size=settings.max_file_size)
    info = engine.info if engine is not None else EngineInfo("local", "", "", "")
    store = open_store(settings, job.environ) if engine is not None else None
    mode, cloud = effective_mode(settings), engine.cloud if engine is not None else None
    try:
        plan = make_plan(
            narrowed(selection, settings),
            settings,
            model_key=model_key(info),
            model_context=engine.model.context if engine is not None else 0,
            store=store,
            of_run="(none)" if job.fresh else "",
            guidance=job.guidance,
            guidance_path=job.guidance_path,
            demo=engine is not None and engine.demo,
            router=router_of(settings, mode=mode, local=engine is not None and engine.backend is not None),
            cloud=cloud_lane(cloud.model_key if cloud else "", job.guidance, job.guidance_path, settings),
        )
        speed = _known_speed(store, info) if store is not None else None
    finally:
        if store is not None:
            store.close()
    text = "\n".join(_lines(plan, target, info, reason, speed, settings.lang))
    sys.stdout.write(terminal_text(mask(text)) + "\n")
    return 0


def _known_speed(store: Store, info: EngineInfo) -> float | None:
    """Seconds a request of the last run with this model that asked at least two."""
    from review_agent.agent.errors import StoreError
    from review_agent.agent.reports.json_report import from_json

    for row in store.runs(limit=20):
        if not row.report:
            continue
        try:
            report = from_json(row.report)
        except StoreError:
            continue
        if report.engine.model == info.model and report.usage.requests >= 2:
            return report.usage.seconds / report.usage.requests
    return None


def _lines(
    plan: Plan, target: Target, info: EngineInfo, reason: str, speed: float | None, lang: str
) -> list[str]:
    lines = [say(lang, "preview", "title"), say(lang, "preview", "target", target=inline(target.label()))]
    if reason:
        lines.append(say(lang, "preview", "no_engine", reason=reason))
    else:
        lines.append(say(lang, "preview", "engine", backend=info.backend, model=info.model))
    route = say(lang, "preview", "route_local")
    for order, (path, units) in enumerate(plan.units.items(), start=1):
        file = plan.contexts[path].file
        row = {
            "order": order,
            "lines": file.changed_count,
            "units": len(units),
            "tokens": sum(unit.tokens for unit in units),
            "route": route,
            "path": inline(path),
        }
        lines.append(say(lang, "preview", "row", **row))
    for file in plan.files[len(plan.units) :]:
        lines.append(_skipped(file.path, "limit_max_files", lang))
    lines += [_skipped(result.path, result.reason, lang) for result in plan.skipped]
    low, high = _seconds(plan, speed)
    totals = {
        "files": len(plan.units),
        "units": sum(len(units) for units in plan.units.values()),
        "cached": len(plan.cached),
        "requests": len(plan.requests),
        "tokens": plan.prompt_tokens,
        "low": duration(low, lang),
        "high": duration(high, lang),
    }
    lines.append(say(lang, "preview", "totals", **totals))
    lines.append(say(lang, "preview", "basis_history" if speed is not None else "basis_default"))
    return lines


def _skipped(path: str, reason: str, lang: str) -> str:
    return say(lang, "preview", "skipped", path=inline(path), reason=say(lang, "reasons", reason))


def _seconds(plan: Plan, speed: float | None) -> tuple[float, float]:
    count = len(plan.requests)
    if speed is not None:
        return 0.7 * speed * count, 1.5 * speed * count
    tokens = plan.prompt_tokens
    times = [tokens / read + count * _ANSWER_TOKENS / write for read, write in (_FAST, _SLOW)]
    return times[0], times[1]
