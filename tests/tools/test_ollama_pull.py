"""Pulling through Ollama: layers are summed, errors come under status 200, and only "success" is success."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from review_agent.agent.errors import (
    EndpointRefused,
    EngineBusy,
    EngineFault,
    EngineRejected,
    ModelMissing,
    ModelUnavailable,
    ReviewError,
)
from review_agent.agent.wording import sentence
from review_agent.tools.ollama_pull import is_cloud, pull

SUCCESS = {"status": "success"}


class Stream(httpx.AsyncByteStream):
    """Sends `parts`; `breaks`: then the connection is lost."""

    def __init__(self, parts: list[bytes], *, breaks: bool = False) -> None:
        self.parts, self.breaks = parts, breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part
        if self.breaks:
            raise httpx.RemoteProtocolError("peer closed connection")


def ndjson(*rows: dict[str, object]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def layer(name: str, total: int = 0, completed: int = 0) -> dict[str, object]:
    """As Go writes it: numbers that are zero are left out."""
    numbers = {key: value for key, value in (("total", total), ("completed", completed)) if value}
    return {"status": f"pulling {name}", "digest": f"sha256:{name}", **numbers}


class Clock:
    """Counts `step` seconds each time it is asked."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


async def run(
    answer: httpx.Response | Exception, *, name: str = "qwen:7b", step: float = 0.0
) -> tuple[list[tuple[int, int]], list[object]]:
    """Progress calls and request bodies."""
    bodies: list[object] = []

    def reply(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        if isinstance(answer, Exception):
            raise answer
        return answer

    seen: list[tuple[int, int]] = []
    transport = httpx.MockTransport(reply)
    async with httpx.AsyncClient(base_url="http://127.0.0.1:1", transport=transport) as client:
        await pull(client, name, on_progress=lambda *pair: seen.append(pair), clock=Clock(step))
    return seen, bodies


async def test_layers_are_summed() -> None:
    rows = ndjson(
        {"status": "pulling manifest"},
        layer("a", 100),
        layer("a", 100, 60),
        layer("a", 100, 60),  # no news
        layer("a", 100, 100),
        layer("b", 10),
        layer("b", 10, 10),
        {"status": "verifying sha256 digest"},
        SUCCESS,
    )
    cut = [rows[at : at + 7] for at in range(0, len(rows), 7)]  # lines do not keep to packets
    seen, bodies = await run(httpx.Response(200, stream=Stream(cut)))
    assert seen == [(0, 100), (60, 100), (100, 100), (100, 110), (110, 110), (110, 110)]
    assert bodies == [{"model": "qwen:7b", "stream": True}]


async def test_success_without_a_line_end() -> None:
    await run(httpx.Response(200, content=ndjson(SUCCESS).strip()))


UNKNOWN = "pull model manifest: file does not exist"
OFFLINE = 'pull model manifest: Get "https://r/v2": dial tcp: lookup registry.ollama.ai: no such host'
OLD = "pull model manifest: 412: The model requires a newer version of Ollama."


@pytest.mark.parametrize(
    ("answer", "error", "key"),
    [
        (httpx.Response(200, content=b""), EngineFault, "errors_pull.ollama_cut"),
        (httpx.Response(200, content=ndjson(layer("a", 9, 9))), EngineFault, "errors_pull.ollama_cut"),
        (httpx.Response(200, content=ndjson({"error": UNKNOWN})), ModelMissing, "errors_pull.ollama_unknown"),
        (httpx.Response(200, content=ndjson({"error": OFFLINE})), EngineFault, "errors_pull.ollama_offline"),
        (httpx.Response(200, content=ndjson({"error": OLD})), EngineRejected, "errors_pull.ollama_too_old"),
        (
            httpx.Response(200, content=ndjson(layer("a", 9), {"error": "no space left"}, SUCCESS)),
            EngineFault,
            "errors_pull.ollama_said",
        ),
        (httpx.Response(400, json={"error": "invalid model name"}), ModelMissing, "errors_pull.ollama_unknown"),
        (httpx.Response(500, json={"error": "disk"}), EngineFault, "errors_pull.ollama_said"),
        (httpx.Response(503, content=b"busy"), EngineBusy, "engine_busy"),
        (httpx.Response(404, content=b"404 page not found"), ModelMissing, "model_or_path_missing"),
        (httpx.Response(200, content=b"<html>"), EngineFault, "engine_not_protocol"),
        (httpx.Response(200, content=b"[" * 100_000), EngineFault, "engine_not_protocol"),
        (httpx.Response(200, content=b"x" * 2_000_000), EngineFault, "engine_not_protocol"),
        (httpx.Response(200, content=ndjson({"status": "x", "total": "many"})), EngineFault, "engine_not_protocol"),
        (
            httpx.Response(200, stream=Stream([ndjson(layer("a", 9, 3))], breaks=True)),
            EngineFault,
            "engine_broken_stream",
        ),
        (httpx.ConnectError("refused"), ModelUnavailable, "engine_unavailable"),
        (httpx.ReadTimeout("silent"), EngineFault, "engine_stalled"),
    ],
)  # fmt: skip
async def test_failures(answer: httpx.Response | Exception, error: type[ReviewError], key: str) -> None:
    with pytest.raises(error) as caught:
        await run(answer)
    assert caught.value.key == key
    for lang in ("zh-CN", "en"):
        assert "…" not in sentence(caught.value, lang)


async def test_the_same_line_again_and_again_is_a_stall() -> None:
    """Ollama repeats itself every 60 ms while its own download hangs, so the connection is never silent."""
    rows = ndjson(*[layer("a", 100, 50)] * 50, SUCCESS)
    with pytest.raises(EngineFault) as caught:
        await run(httpx.Response(200, content=rows), step=10.0)
    assert caught.value.key == "errors_pull.ollama_stalled"


async def test_slow_is_not_a_stall() -> None:
    rows = ndjson(*[layer("a", 100, done) for done in range(1, 101)], SUCCESS)
    seen, _ = await run(httpx.Response(200, content=rows), step=80.0)
    assert seen[-1] == (100, 100)


@pytest.mark.parametrize(
    ("name", "cloud"),
    [
        ("gpt-oss:120b-cloud", True),
        ("glm-4.6:cloud", True),
        ("GLM:Cloud ", True),
        ("cloud:7b", False),
        ("cloudy-coder:7b", False),
    ],
)
def test_cloud_names(name: str, cloud: bool) -> None:
    assert is_cloud(name) is cloud


async def test_a_cloud_model_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(EndpointRefused) as caught:
        await run(AssertionError("was asked"), name="gpt-oss:120b-cloud")  # type: ignore[arg-type]
    assert caught.value.key == "errors_pull.cloud_model"
