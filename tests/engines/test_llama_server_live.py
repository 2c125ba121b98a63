"""llama.cpp's own server, as a user would start it, through the OpenAI protocol."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import jsonschema
import pytest
from driver import ROOT, Cli
from real_llama import NAME, llama_server
from scripted import unit

from review_agent.agent.errors import EngineRejected, PromptTooLong
from review_agent.agent.prompt import BRIEF, answer_schema
from review_agent.tools.backends import ChatRequest, Done, Message
from review_agent.tools.backends.openai import OpenAIBackend
from review_agent.tools.endpoints import make_client, make_endpoint

# Read here: tests get an environment without our variables.
GGUF, MADE = (os.environ.get(f"REVIEW_AGENT_{name}", "") for name in ("GGUF", "OLLAMA"))
KEY, CONTEXT, SLOTS = "a key", 4096, 2
HOW = "set REVIEW_AGENT_GGUF to a model file; `review-agent models pull smollm2-135m` gets one and says where"


@pytest.fixture(scope="module")
def gguf() -> Path:
    if GGUF:
        return Path(GGUF)
    if not MADE:
        pytest.skip(HOW)
    return Path(json.loads((ROOT / MADE).read_text())["gguf"])


@pytest.fixture(scope="module")
def url(gguf: Path) -> Iterator[str]:
    """The address of a server with two slots, which wants a key."""
    with llama_server(str(gguf), context=CONTEXT, slots=SLOTS, key=KEY) as address:
        yield address


@dataclass(frozen=True)
class Asked:
    text: str
    done: Done


def ask(url: str, request: ChatRequest, *, listed: bool = True) -> Asked:
    async def answer() -> Asked:
        endpoint = make_endpoint(url)
        backend = OpenAIBackend(make_client(endpoint, stall_seconds=120, api_key=KEY), endpoint)
        try:
            if listed:
                await backend.models()
            events = [event async for event in backend.chat(request)]
        finally:
            await backend.aclose()
        done = events.pop()
        assert isinstance(done, Done)
        return Asked("".join(event.text for event in events if not isinstance(event, Done)), done)

    return asyncio.run(answer())


def question(text: str, max_answer: int = 600) -> ChatRequest:
    schema = answer_schema([unit("a.py", "x = 1")], BRIEF)
    return ChatRequest(NAME, (Message("user", text),), schema, CONTEXT, max_answer)


def test_what_the_server_tells_of_itself(url: str) -> None:
    async def told() -> tuple[object, ...]:
        endpoint = make_endpoint(url)
        backend = OpenAIBackend(make_client(endpoint, stall_seconds=20, api_key=KEY), endpoint)
        (model,) = await backend.models()
        version = await backend.version()
        await backend.aclose()
        return (
            backend.server,
            bool(version),
            model.name,
            model.context,
            model.loaded,
            round(model.parameters, 3),
        )

    assert asyncio.run(told()) == ("llama.cpp", True, NAME, CONTEXT, True, 0.135)


def test_an_answer_has_the_form_that_was_asked_for(url: str) -> None:
    request = question("List one bug of `def add(a, b): return a - b`. Answer in JSON.")
    asked = ask(url, request)
    assert asked.done.prompt_tokens > 20
    if asked.done.finish == "stop":
        jsonschema.validate(json.loads(asked.text), request.schema)
    else:  # the small model went on and on; what there is has the form all the same
        assert asked.text.startswith("{")


def test_a_cut_answer_says_so(url: str) -> None:
    assert ask(url, question("Tell me a long story in JSON.", max_answer=8)).done.finish == "length"


def test_a_prompt_over_the_slot_is_refused_and_the_next_is_not(url: str) -> None:
    text = "word " * (CONTEXT + 200)
    with pytest.raises(PromptTooLong) as caught:
        ask(url, replace(question(text), prompt_estimate=CONTEXT))
    assert f"({CONTEXT} tokens)" in str(caught.value.fields["detail"])
    assert ask(url, question("Say hi in JSON.", max_answer=8)).text


def test_a_form_that_it_cannot_keep_is_left_out(url: str) -> None:
    unknown: dict[str, object] = {"type": "object", "properties": {"a": {"type": "no such type"}}}
    assert ask(url, replace(question("Say hi.", max_answer=8), schema=unknown)).done.completion_tokens == 8


def test_the_key_is_needed(url: str) -> None:
    async def without() -> None:
        endpoint = make_endpoint(url)
        backend = OpenAIBackend(make_client(endpoint, stall_seconds=20), endpoint)
        try:
            async for _ in backend.chat(question("hi")):
                pass
        finally:
            await backend.aclose()

    with pytest.raises(EngineRejected, match="engine_unauthorized"):
        asyncio.run(without())


@pytest.mark.parametrize(
    "address",
    [("--backend", "openai", "--base-url", "{url}/v1"), ("--base-url", "{url}")],
    ids=["named", "found"],
)
def test_a_whole_run(url: str, tmp_path: Path, address: tuple[str, ...]) -> None:
    home, folder = tmp_path / "home", tmp_path / "small"
    home.mkdir()
    folder.mkdir()
    (folder / "add.py").write_text("def add(a, b):\n    return a - b\n")
    cli = Cli(home, {"LLAMA_KEY": KEY, "REVIEW_AGENT_API_KEY_ENV": "LLAMA_KEY"})
    options = [part.format(url=url) for part in address]
    report = cli.json("run", folder, *options, "--model", NAME)
    assert report["engine"] == {
        "mode": "local",
        "backend": "openai",
        "model": NAME,
        "model_digest": "",
        "orchestrator": "direct",
        "cloud_host": "",
        "cloud_model": "",
        "agent_model": "",
    }
    assert [(file["path"], file["status"]) for file in report["files"]] == [("add.py", "reviewed")]
    assert report["usage"]["requests"] >= 1
    assert report["usage"]["prompt_tokens"] > 100
