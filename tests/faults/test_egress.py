"""The ledger of what left this machine outlives a kill: a row is durable before its request is sent."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from scripted import CLEAN, Scripted

from review_agent.agent.models import Change, EngineInfo, Report, SourceFile, TrustClass
from review_agent.agent.planner import make_plan
from review_agent.agent.progress import Progress
from review_agent.agent.review import Review
from review_agent.agent.settings import Settings
from review_agent.agent.target import Selection, Target
from review_agent.checkpoints.store import Store
from review_agent.tools.backends import ChatRequest
from review_agent.tools.endpoints import Endpoint

FILES = tuple(
    SourceFile(f"{name}.py", "python", tuple(f"{name}{at} = {at}" for at in range(90)), "", Change.WHOLE)
    for name in "abcdefgh"
)
SETTINGS = Settings(num_ctx=2048, lang="en", concurrency=2)


def review(path: Path, sent: Path) -> Report:
    """One run `r` against a server in the LAN, which writes down the files it is sent: after a look at the store."""

    def script(request: ChatRequest) -> str:
        names = re.findall(r"^File: (\S+)", request.messages[-1].content, re.M)
        with Store(path) as other:
            noted = "".join(other.egress("r")[0])
        with sent.open("a") as log:
            log.writelines(f"{name} {json.dumps(name) in noted}\n" for name in names)
        return CLEAN

    backend = Scripted(script, endpoint=Endpoint("http://gpu-box:8000", TrustClass.LAN))
    engine, target = EngineInfo("local", "scripted", "m", "digest"), Target("tree", "/repo")
    with Store(path) as store:
        plan = make_plan(Selection(FILES, ()), SETTINGS, model_key="digest", model_context=0, store=store)
        store.start_run("r", "/repo", "tree", "{}")
        progress = Progress(io.StringIO(), "en")
        return asyncio.run(
            Review("r", plan, engine, SETTINGS, target, store, progress, asyncio.Event()).run(backend)
        )


@pytest.mark.parametrize("fault", ["kill:egress_noted:4", "kill:request_answered:4", "kill:unit_committed:4"])
def test_the_ledger_outlives_a_kill(tmp_path: Path, fault: str) -> None:
    store, sent = tmp_path / "store", tmp_path / "sent"
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "agent")]
    argv = [sys.executable, "-c", f"import sys; sys.path[:0] = {folders}; import test_egress as t"]
    argv[-1] += f"; from pathlib import Path; t.review(Path({str(store)!r}), Path({str(sent)!r}))"
    done = subprocess.run(argv, env={**os.environ, "REVIEW_AGENT_FAULT": fault}, capture_output=True, cwd="/")
    assert done.returncode == -9, done.stderr.decode()
    first = sent.read_text().split("\n")[:-1]
    report = review(store, sent)
    said = sent.read_text().split("\n")[:-1]
    assert 3 <= len(first) < len(said)
    assert {row.rpartition(" ")[2] for row in said} == {"True"}  # noted before it was sent
    told, went = Counter(row.path for row in report.egress), Counter(row.partition(" ")[0] for row in said)
    assert told >= went
    assert (told - went).total() <= 1  # noted, and dead before it was sent
    assert not any(note.key == "egress_damaged" for note in report.notes)
