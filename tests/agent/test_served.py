"""What is known of a local agent's model before its session begins."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import httpx
import pytest
from scripted import Scripted

from review_agent.agent.errors import ModelMissing
from review_agent.agent.models import TrustClass
from review_agent.agent.served import Served, asked
from review_agent.agent.settings import Settings
from review_agent.tools.backends import Backend, ModelInfo
from review_agent.tools.backends.ollama import OllamaBackend
from review_agent.tools.claude import Side
from review_agent.tools.endpoints import Endpoint, make_endpoint

URL = "http://127.0.0.1:9"
MODEL = "m:7b"


@dataclass
class Ollama:
    """A server with one model, which it loads with `context` for who asks for none."""

    capabilities: list[str]
    context: int = 4096
    status: int = 200
    asked: list[tuple[str, object]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        self.asked.append((request.url.path, body))
        running = {
            "models": [
                {"name": "other:1b", "context_length": 1},
                {"name": MODEL, "context_length": self.context},
            ]
        }
        answers = {
            "/api/tags": {"models": [{"name": MODEL}]},
            "/api/show": {"capabilities": self.capabilities, "model_info": {"qwen2.context_length": 32768}},
            "/api/ps": running,
        }
        status = self.status if request.url.path == "/api/generate" else 200
        return httpx.Response(status, json=answers.get(request.url.path, {}))

    def backend(self) -> OllamaBackend:
        client = httpx.AsyncClient(base_url=URL, transport=httpx.MockTransport(self))
        return OllamaBackend(client, make_endpoint(URL))


@dataclass
class Server(Scripted):
    """One that tells its context, as llama.cpp and vLLM do."""

    info: ModelInfo | None = None

    async def describe(self, model: str) -> ModelInfo:
        if self.info is None:
            raise ModelMissing("model_not_served", model=model, url=URL, installed="-")
        return self.info


async def known(backend: Backend, *, cloud: bool = False, url: str = URL) -> Served:
    side = Side(Endpoint(url, TrustClass.LOOPBACK), MODEL, "k", cloud=cloud)
    async with asked(side, backend, Settings(), {}) as served:
        return served


async def test_ollama_says_its_own_choice_of_a_context_once_the_model_is_loaded_with_it() -> None:
    server = Ollama(["completion", "tools"])
    assert await known(server.backend()) == Served(4096, tools=True, reloads=True)
    loading = [body for path, body in server.asked if path == "/api/generate"]
    assert loading == [{"model": MODEL, "stream": False}]  # any option of ours would be for another context


async def test_a_model_that_cannot_call_tools_is_not_loaded_for_it() -> None:
    server = Ollama(["completion"])
    assert (await known(server.backend())).tools is False
    assert "/api/generate" not in [path for path, _ in server.asked]


@pytest.mark.parametrize(
    ("info", "served"),
    [
        (ModelInfo(MODEL, context=16384), Served(16384)),
        (ModelInfo(MODEL), Served(0)),
        (ModelInfo(MODEL, context=8192, capabilities=frozenset({"completion"})), Served(8192)),
        (None, Served()),  # what it does not know is no error
    ],
)
async def test_other_servers(info: ModelInfo | None, served: Served) -> None:
    endpoint = Endpoint(URL, TrustClass.LOOPBACK)
    assert await known(Server(["x"], endpoint=endpoint, info=info)) == served


async def test_a_failure_is_no_error_either() -> None:
    assert await known(Ollama(["tools"], status=500).backend()) == Served()


async def test_an_endpoint_in_the_cloud_is_not_asked() -> None:
    server = Ollama(["completion"])
    assert await known(server.backend(), cloud=True) == Served()
    assert server.asked == []


async def test_where_nothing_answers_nothing_is_known() -> None:
    assert await known(Ollama([]).backend(), url="http://127.0.0.1:1") == Served()
