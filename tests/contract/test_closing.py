"""A session that is ended early: the program is gone at once, and asks for nothing more."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import aclosing
from pathlib import Path

import pytest
from canaries import canary_server
from claude_scripts import looping
from converse import running_clis
from scripted_claude import Asked, Fault, Reply, ScriptedClaude
from stage import Stage

from review_agent.tools.claude_events import Turn


@pytest.mark.parametrize("how", ["loops", "hangs"])
async def test_a_session_ends_at_once_and_completely(how: str, tmp_path: Path) -> None:
    groups: list[bool] = []
    hanging = threading.Event()

    def script(asked: Asked) -> Reply:
        groups.extend(os.getsid(one.pid) == one.pid for one in running_clis())
        if how == "loops" or asked.number < 3:
            return looping()(asked)
        hanging.set()
        return Fault("hang")

    with canary_server() as (canary, hits), ScriptedClaude([]) as evil, ScriptedClaude(script) as claude:
        with Stage(tmp_path / "stage", canary, hits, evil).session(claude, []) as (session, _):
            async with asyncio.timeout(45), aclosing(session.run("Go.")) as events:
                async for event in events:
                    if isinstance(event, Turn) and event.number == 2:
                        break
                if how == "hangs":
                    await asyncio.to_thread(hanging.wait, 30)
                closing, asked = time.monotonic(), len(claude.asked)
            seconds = time.monotonic() - closing
        assert running_clis() == []
        await asyncio.sleep(0.5)
        assert len(claude.asked) <= asked + 1  # one may have been on its way
    assert seconds < 2  # left to itself it takes five where it waits for an answer
    assert groups  # a Ctrl-C in a terminal goes to a group: ours, not the program's
    assert all(groups)
