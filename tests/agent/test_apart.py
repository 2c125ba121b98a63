"""What must not leave stands in no request beside what may: a local model repeats what it was shown."""

from __future__ import annotations

import asyncio
import io
import re
from dataclasses import replace
from typing import Any

import pytest
from scripted import Reply, Scripted, answer

from review_agent.agent.models import Change, EngineInfo, Hunk, Removed, SourceFile
from review_agent.agent.planner import Plan, make_plan
from review_agent.agent.progress import Progress
from review_agent.agent.review import Review
from review_agent.agent.settings import Settings
from review_agent.agent.target import Selection, Target
from review_agent.tools.backends import ChatRequest

TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
BARE = "Zq8vN2x" + "W7pLmRt4"
SETTINGS = Settings(lang="en", local_only=("private/**",), cloud_allowed=("src/**", "private/**"))


def file(path: str, *lines: str, **more: Any) -> SourceFile:
    rows = lines or tuple(f"{path.translate(str.maketrans('/.', '__'))}_{at} = {at}" for at in range(12))
    return replace(SourceFile(path, "python", rows, "", Change.WHOLE), **more)


def took_out(line: bytes) -> dict[str, Any]:
    hunk = Hunk(1, 2, 1, 1, (b"a = 1",), frozenset({1}), (Removed(1, (line,)),))
    return {"change": Change.MODIFIED, "changed": frozenset({1}), "hunks": (hunk,)}


VISIBLE = [file(f"src/seen{at}.py") for at in range(3)]
HIDDEN = {
    "by its name": file("private/a.py"),
    "not among what is allowed": file("other/a.py"),
    "a secret": file("src/token.py", f'token = "{TOKEN}"'),
    "a secret that is taken out": file("src/gone.py", "a = 1", **took_out(f'token = "{TOKEN}"'.encode())),
    "a secret of another encoding": file(
        "src/wide.py", "a = 1", **took_out(f'token = "{TOKEN}"'.encode("utf-16-le")), encoding="utf-16-le"
    ),
    "renamed out of a hidden folder": file("src/moved.py", old_path="private/moved.py"),
    "renamed from what is not allowed": file("src/came.py", old_path="other/came.py"),
    "settings under a new name": file("src/deploy.txt", f"password: {BARE}", old_path="src/deploy.yaml"),
}


def plan_of(*files: SourceFile) -> Plan:
    return make_plan(Selection(files, ()), SETTINGS, model_key="k", model_context=0, store=None)


def mixed(prompts: list[str], hidden: set[str]) -> list[set[str]]:
    """The files of prompts that hold something of both sorts."""
    named = [set(re.findall(r"^File: (.+?) \(", prompt, re.MULTILINE)) for prompt in prompts]
    return [paths for paths in named if paths & hidden and paths - hidden]


@pytest.mark.parametrize("why", HIDDEN)
def test_no_request_holds_both(why: str) -> None:
    one = HIDDEN[why]
    requests = plan_of(VISIBLE[0], one, *VISIBLE[1:]).requests
    paths = [{unit.path for unit in request} for request in requests]
    assert {one.path} in paths
    assert {file.path for file in VISIBLE} in paths


def test_the_requests_of_all_together() -> None:
    plan = plan_of(*VISIBLE, *HIDDEN.values())
    assert len(plan.requests) == 2
    assert {unit.path for unit in plan.requests[0]} | {unit.path for unit in plan.requests[1]} == set(
        plan.units
    )


@pytest.mark.parametrize(
    "first",
    [
        Reply(
            '{"summary": "", "findings": [{"title": "cut', finish="length"
        ),  # then one by one, then in halves
        Reply("no answer at all"),  # then once more
    ],
    ids=["cut", "unreadable"],
)
async def test_what_is_asked_again_holds_no_more(first: Reply) -> None:
    asked = 0

    def script(request: ChatRequest) -> Reply | str:
        nonlocal asked
        asked += 1
        return first if asked % 3 else answer()

    backend = Scripted(script)
    plan = plan_of(*VISIBLE, *HIDDEN.values())
    engine = EngineInfo("local", "scripted", "m", "digest")
    review = Review(
        "r",
        plan,
        engine,
        SETTINGS,
        Target("tree", "/r"),
        None,
        Progress(io.StringIO(), "en"),
        asyncio.Event(),
    )
    await review.run(backend)
    prompts = list(backend.prompts())
    assert len(prompts) > 2
    assert mixed(prompts, {one.path for one in HIDDEN.values()}) == []
