"""An agent on real local engines. Their small model is none: so what becomes of a run that asked for one?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import started
from driver import Cli
from real_llama import NAME, llama_server
from real_ollama import LACONIC, TOOLED, Ollama

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run over a line of code with an agent, and its report."""
    home, folder = tmp_path / "home", tmp_path / "small"
    (home / "config" / "review-agent").mkdir(parents=True)
    folder.mkdir()
    (folder / "x.py").write_text("1 + x = 1\n")  # as in the example that the model was given

    def make(url: str, model: str, *options: str, tools: str = "") -> dict[str, Any]:
        (home / "config" / "review-agent" / "config.toml").write_text(
            f"tools = {json.dumps(tools.split())}\n"
        )
        where = ("--base-url", url, "--model", model, "--orchestrator", "agent", "--num-ctx", "2048")
        return Cli(home).json("run", folder, *where, *options, timeout=120)

    return make


def note_of(report: dict[str, Any]) -> dict[str, Any]:
    """The one about the agent. The run is as one without."""
    assert report["engine"]["orchestrator"] == "direct"
    assert report["egress"] == []
    (note,) = (note for note in report["notes"] if note["key"].startswith("agent_"))
    return {"key": note["key"], **note["fields"]}


def test_ollama_says_that_a_model_has_no_tools(ollama: Ollama, run: Run) -> None:
    before = ollama.loads()
    report = run(ollama.url, LACONIC)
    assert note_of(report) == {"key": "agent_no_tools", "model": LACONIC}
    assert report["coverage"]["files_reviewed"] == 1
    assert ollama.loads() - before == 1  # for the analysis, not for an agent
    assert ollama.empties()


def test_ollamas_own_context_is_too_small(ollama: Ollama, run: Run) -> None:
    ollama.add_tooled()
    note = note_of(run(ollama.url, TOOLED))
    assert (note["key"], note["context"]) == ("agent_context_small", 4096)
    assert 5000 < note["least"] < 8192
    assert "/v1/messages" not in ollama.log.read_text(errors="replace")
    assert ollama.empties()


@pytest.fixture
def roomy(made: dict[str, Any], tmp_path: Path) -> Iterator[Ollama]:
    (home := tmp_path / "ollama").mkdir()
    server = started(made, home, OLLAMA_CONTEXT_LENGTH="16384")
    server.add_tooled()
    yield server
    server.stop()


def test_a_model_on_ollama_that_calls_no_tool(roomy: Ollama, run: Run) -> None:
    report = run(roomy.url, TOOLED)
    assert note_of(report) == {"key": "agent_fell_back", "model": TOOLED}
    assert report["coverage"]["files_reviewed"] == 1
    log = roomy.log.read_text(errors="replace")
    assert log.count('"/v1/messages?beta=true"') == 1
    assert roomy.loads() == 2  # a context of ours for the analysis, and its own for the agent
    assert roomy.empties()


def test_ollama_cuts_a_conversation_without_a_word(made: dict[str, Any], tmp_path: Path) -> None:
    """Why a session ends before its context is full."""
    (home := tmp_path / "ollama").mkdir()
    server = started(made, home, OLLAMA_CONTEXT_LENGTH="512")
    try:
        said = [{"role": "user", "content": "word " * 900}]
        answer = server.ask("/v1/messages", model=LACONIC, max_tokens=2, messages=said)
        loads = server.loads()
        one = [{"role": "user", "content": "Hi"}]
        options = {"num_ctx": 1024, "num_predict": 2}
        server.ask("/api/chat", model=LACONIC, messages=one, options=options, stream=False)
        server.ask("/v1/messages", model=LACONIC, max_tokens=2, messages=one)
    finally:
        server.stop()
    usage = answer["usage"]
    assert usage["input_tokens"] + usage.get("cache_read_input_tokens", 0) <= 512  # of nine hundred
    assert server.loads() - loads == 2  # for another context, and back


@pytest.fixture
def llama(made: dict[str, Any]) -> Iterator[str]:
    """llama.cpp's own server."""
    with llama_server(made["gguf"], context=8192) as address:
        yield address


def test_a_model_on_llama_cpp_is_an_agent_if_it_calls_a_tool(llama: str, run: Run, tmp_path: Path) -> None:
    """It takes the program's requests as they are: roles, tools, no thinking. The model may chat for long.

    Once in forty its chat happens to be a call: then, and only then, it was an agent.
    """
    report = run(llama, NAME, "--backend", "openai", tools="submit_summary")
    assert report["usage"]["requests"] >= 2
    assert report["usage"]["prompt_tokens"] > 500
    done = Cli(tmp_path / "home").run("audit", "--json", str(report["run_id"]))
    calls = [call["tool"] for call in json.loads(done.stdout)["calls"] if call["decision"] == "allowed"]
    if calls:
        assert set(calls) == {"mcp__review__submit_summary"}
        assert (report["engine"]["orchestrator"], bool(report["summary"])) == ("agent", True)
    else:
        assert note_of(report) == {"key": "agent_fell_back", "model": NAME}


def test_the_embedded_engine_knows_its_context(made: dict[str, Any], run: Run, tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "small"
    report = Cli(home).json(
        "run",
        folder,
        "--backend",
        "embedded",
        "--model",
        made["gguf"],
        "--orchestrator",
        "agent",
        timeout=120,
    )
    note = note_of(report)
    assert (note["key"], note["context"]) == ("agent_context_small", 4096)
