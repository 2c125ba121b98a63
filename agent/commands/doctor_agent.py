"""What `doctor` says of the agent. Never a key itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from review_agent.prompts import say

if TYPE_CHECKING:
    from review_agent.agent.doctor_agent import AgentState, Where


def agent_lines(state: AgentState, lang: str) -> list[str]:
    """Versions, where the agent of a run is, and whether there is a key for the cloud."""

    def text(key: str, **fields: object) -> str:
        return say(lang, "doctor_agent", key, **fields)

    program = state.program
    if not program.sdk:
        return [text("sdk_missing")]
    claude = text("claude", version=program.claude) if program.claude else text("claude_missing")
    lines = [text("versions", sdk=program.sdk, claude=claude)]
    if state.run is not None:
        lines.append(text("run", where=_where(state.run, lang), mode=state.run.mode))
    else:
        lines.append(text("none"))
        if state.hybrid is not None:
            lines.append(text("hybrid", where=_where(state.hybrid, lang)))
    return [*lines, text("key", name=state.key) if state.key else text("key_missing")]


def _where(where: Where, lang: str) -> str:
    key = "place" if where.url else "own_place"
    model = where.model or say(lang, "doctor_agent", "own_model")
    trust = say(lang, "doctor_agent", f"trust_{where.trust}")
    return say(lang, "doctor_agent", key, url=where.url, trust=trust, model=model)


def agent_json(state: AgentState) -> dict[str, object]:
    return {
        "sdk": state.program.sdk,
        "claude": state.program.claude,
        "run": asdict(state.run) if state.run is not None else None,
        "hybrid": asdict(state.hybrid) if state.hybrid is not None else None,
        "key": state.key,
        "managed": list(state.managed),
    }
