"""Guidance that may not leave is shown to the local model; what that says may repeat it, and is not told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from scripted import Scripted, analyzer, answer, finding

from review_agent.agent.cases import Notebook, make_cases
from review_agent.agent.findings import Gate, decide, model_findings
from review_agent.agent.library import Library
from review_agent.agent.models import (
    Analysis,
    Candidate,
    Category,
    Change,
    Placed,
    Severity,
    SourceFile,
    TrustClass,
)
from review_agent.agent.planner import make_plan
from review_agent.agent.settings import Settings
from review_agent.agent.target import Selection, Target
from review_agent.agent.verification import Scene, toolbox_of
from review_agent.tools.claude import Side
from review_agent.tools.endpoints import Endpoint

CODE = ("total = price * count", "rest = total - paid")
SECRET_WORD = "zqguidanceword"
NEAR = Endpoint("http://127.0.0.1:1", TrustClass.LOOPBACK)
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


def asked(local_only: tuple[str, ...], guidance: str, *, cloud: bool) -> tuple[dict[str, Any], str, str]:
    """The first candidate as it is told, the local model's answer, and what that was shown."""
    settings = Settings(lang="en", local_only=local_only)
    source = SourceFile("a.py", "python", CODE, "", Change.WHOLE)
    plan = make_plan(
        Selection((source,), ()), settings, model_key="k", model_context=0, store=None, guidance=guidance and f"Mind {guidance} always.", guidance_path="AGENTS.md"
    )  # fmt: skip
    (unit,) = plan.units["a.py"]
    said = Candidate(
        "t", Category.BUG, Severity.HIGH, 0.9, CODE[0], "a.py", 1, 1, f"as {SECRET_WORD} says", "", ""
    )
    analysis = Analysis(unit, (Placed(said, 1, 1, "", ()),))
    backend = Scripted([answer(finding(CODE[1], "a.py", explanation=f"as {SECRET_WORD} says"))])
    local = replace(analyzer(backend), asker=plan.asker)
    scene = Scene(
        Side(NEAR, "m", "k", cloud=cloud), plan, settings, Target("tree", "/r"), {}, "r", None, asyncio.Event(), local,
        {("a.py", 0): analysis},
    )  # fmt: skip
    library = Library({"a.py": source}, scene.hides)
    verdicts = decide(model_findings([analysis], plan.contexts), {"a.py": source}, Gate())
    cases = make_cases(verdicts, lambda path: library.visible(path) is not None)
    tools = toolbox_of(scene, library, cases, Notebook("w", "r"))

    async def both() -> tuple[str, str]:
        first = await tools.call("get_candidates", {})
        second = await tools.call("local_model_analyze", {"path": "a.py"})
        return first.text, second.text

    told, opinion = asyncio.run(both())
    (row,) = json.loads(told)["candidates"]
    return row, opinion, str(backend.requests[-1].messages)


@pytest.mark.parametrize(
    ("local_only", "guidance", "cloud", "told"),
    [
        ((), SECRET_WORD, True, True),
        (("AGENTS.md",), SECRET_WORD, True, False),
        ((), f"{SECRET_WORD} {TOKEN}", True, False),
        (("AGENTS.md",), SECRET_WORD, False, True),  # nothing leaves
        (("AGENTS.md",), "", True, True),
    ],
)
def test_words_of_a_model_that_was_guided(
    local_only: tuple[str, ...], guidance: str, cloud: bool, told: bool
) -> None:
    row, opinion, shown = asked(local_only, guidance, cloud=cloud)
    assert (SECRET_WORD in row["explanation"]) is told
    assert row["quote"] == CODE[0]
    assert (SECRET_WORD in shown) is (told and bool(guidance))
    assert SECRET_WORD in opinion  # said by a model that was not shown it: its own word
