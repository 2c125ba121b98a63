"""The Messages protocol: what is asked, what is read, and what each failure becomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import pytest

from review_agent.agent.errors import (
    EngineBusy,
    EngineError,
    EngineFault,
    EngineRejected,
    ModelMissing,
    ModelUnavailable,
    OtherForm,
    PromptTooLong,
)
from review_agent.prompts import LANGS, messages
from review_agent.tools.backends import ChatRequest, Delta, Done, Message
from review_agent.tools.backends.anthropic import AnthropicBackend, Auth
from review_agent.tools.cloud_transport import CloudDirect
from review_agent.tools.endpoints import make_endpoint

URL = "http://127.0.0.1:1/anthropic"
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"summary": {"type": "string", "maxLength": 5}},
    "required": ["summary"],
    "additionalProperties": False,
}
REQUEST = ChatRequest("some-model", (Message("system", "规则"), Message("user", "code")), SCHEMA, 8192, 2048)
USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 7,
    "cache_creation_input_tokens": 3,
    "output_tokens": 1,
}
Row = tuple[str, dict[str, Any]]


def start(usage: object = USAGE) -> Row:
    return "message_start", {
        "message": {"type": "message", "role": "assistant", "content": [], "usage": usage}
    }


def block(**content: Any) -> Row:
    return "content_block_start", {"index": 0, "content_block": content}


def delta(kind: str, **content: str) -> Row:
    return "content_block_delta", {"index": 0, "delta": {"type": kind, **content}}


def stop(reason: str | None = "tool_use", **usage: int) -> Row:
    return "message_delta", {"delta": {"stop_reason": reason}, "usage": usage or {"output_tokens": 5}}


END: Row = ("content_block_stop", {"index": 0})
TOOL = block(type="tool_use", id="t", name="submit_review", input={})
CALL = (
    start(),
    TOOL,
    delta("input_json_delta", partial_json='{"summary":'),
    delta("input_json_delta", partial_json=' "ok"}'),
    END,
    stop(),
)


def sse(rows: Sequence[Row]) -> bytes:
    return b"".join(
        f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode() for name, data in rows
    )


def streamed(rows: Sequence[Row]) -> httpx2.Response:
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=sse(rows))


def failed(
    status: int, message: object = "no", headers: dict[str, str] | None = None, kind: str = "x"
) -> httpx2.Response:
    return httpx2.Response(
        status, headers=headers, json={"type": "error", "error": {"type": kind, "message": message}}
    )


@dataclass
class Server:
    """Answers in turn, the last one again and again."""

    answers: Sequence[httpx2.Response | Exception | Callable[[httpx2.Request], httpx2.Response]]
    seen: list[httpx2.Request] = field(default_factory=list)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(request)
        answer = self.answers[min(len(self.seen), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx2.Response) else answer(request)

    def backend(self, url: str = URL, auth: Auth = "api_key", stall: float = 5.0) -> AnthropicBackend:
        transport = CloudDirect(httpx2.MockTransport(self), url, ("127.0.0.1",))
        http = httpx2.AsyncClient(base_url=url, transport=transport, timeout=stall, trust_env=False)
        return AnthropicBackend(http, make_endpoint(url), key="k-1", auth=auth)

    def body(self, at: int = -1) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.seen[at].content)
        return read


async def read(backend: AnthropicBackend, request: ChatRequest = REQUEST) -> tuple[str, Done]:
    events = [event async for event in backend.chat(request)]
    *deltas, done = events
    assert isinstance(done, Done)
    return "".join(event.text for event in deltas if isinstance(event, Delta)), done


async def test_the_question_forces_the_tool_and_marks_the_prefix_for_the_cache() -> None:
    server = Server([streamed(CALL)])
    assert await read(server.backend()) == ('{"summary": "ok"}', Done("stop", 10, 5, 7, 3))
    assert str(server.seen[0].url) == "http://127.0.0.1:1/anthropic/v1/messages"
    assert server.body() == {
        "model": "some-model",
        "max_tokens": 8192,
        "stream": True,
        "system": [{"type": "text", "text": "规则", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": "code"}],
        "tools": [
            {"name": "submit_review", "description": "The result of the review.", "input_schema": SCHEMA}
        ],
        "tool_choice": {"type": "tool", "name": "submit_review"},
    }


@pytest.mark.parametrize(
    ("model", "forced", "max_tokens"),
    [
        ("claude-sonnet-4-6", True, 18_048),
        ("claude-sonnet-5", True, 18_048),
        ("claude-haiku-4-5-20251001", True, 18_048),
        ("claude-sonnet-5-5", False, 18_048),
        ("claude-opus-5-5", False, 18_048),
        ("vendor/claude-fable-5-1", False, 18_048),
        ("glm-5", True, 8192),
    ],
)
async def test_models_that_refuse_a_forced_tool_get_the_schema_at_once(
    model: str, forced: bool, max_tokens: int
) -> None:
    server = Server([streamed(CALL)])
    await read(server.backend(), replace(REQUEST, model=model))
    body = server.body()
    assert (body["max_tokens"], "tool_choice" in body, "output_config" in body) == (
        max_tokens,
        forced,
        not forced,
    )
    if not forced:
        schema = body["output_config"]["format"]["schema"]
        assert schema["required"] == ["summary"]
        assert "maxLength" not in schema["properties"]["summary"]  # such bounds are refused there


REFUSED_TOOL = failed(400, "tool_choice: forcing a tool is not supported")
REFUSED_SCHEMA = failed(422, "output_config: Extra inputs are not permitted")


async def test_what_an_endpoint_refuses_is_not_asked_of_it_again() -> None:
    server = Server([REFUSED_TOOL, REFUSED_SCHEMA, streamed(CALL)])
    backend = server.backend()
    for _ in range(2):  # each try is the caller's, who writes it down
        with pytest.raises(OtherForm):
            await read(backend)
    await read(backend)
    await read(backend)
    forms = [("tools" in server.body(at), "output_config" in server.body(at)) for at in range(4)]
    assert forms == [(True, False), (False, True), (False, False), (False, False)]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (CALL, '{"summary": "ok"}'),
        ((start(), block(type="text", text=""), delta("text_delta", text="{}"), END, stop("end_turn")), "{}"),
        ((start(), block(type="text", text="{"), delta("text_delta", text="}"), END, stop("end_turn")), "{}"),
        ((start(), block(type="tool_use", name="submit_review", input={"summary": "好"}), END, stop()), '{"summary": "好"}'),
        ((start(), block(type="tool_use", name="s", input={"a": 1}), delta("input_json_delta", partial_json="{}"), END, stop()), "{}"),
        ((start(), block(type="thinking", thinking=""), delta("thinking_delta", thinking="hm"), END, *CALL[1:]), '{"summary": "ok"}'),
        ((start(None), ("ping", {}), ("something_new", {"delta": None}), *CALL[1:]), '{"summary": "ok"}'),
    ],
    ids=["tool", "text", "text from its start", "input at once", "input twice", "thoughts", "unknown events"],
)  # fmt: skip
async def test_what_is_read_of_an_answer(rows: Sequence[Row], text: str) -> None:
    assert (await read(Server([streamed(rows)]).backend()))[0] == text


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"), ("tool_use", "stop"), ("stop_sequence", "stop"),
        ("max_tokens", "length"), ("model_context_window_exceeded", "length"),
    ],
)  # fmt: skip
async def test_how_an_answer_ends(reason: str, finish: str) -> None:
    assert (await read(Server([streamed((*CALL[:-1], stop(reason)))]).backend()))[1].finish == finish


async def test_counts_may_come_at_the_end_only() -> None:
    rows = (
        start({"input_tokens": 0}),
        *CALL[1:-1],
        stop("end_turn", input_tokens=9, output_tokens=4, cache_read_input_tokens=2),
    )
    assert (await read(Server([streamed(rows)]).backend()))[1] == Done("stop", 9, 4, 2, 0)


CUT = httpx2.Response(200, content=sse(CALL[:3]))
NO_JSON = httpx2.Response(200, content=b"event: message_start\ndata: {\n\n")
NO_OBJECT = httpx2.Response(200, content=b"event: message_start\ndata: [1]\n\n")
HTML = httpx2.Response(200, headers={"content-type": "text/html"}, content=b"<html>\n\n</html>")
LATE = streamed((*CALL[:3], ("error", {"error": {"type": "overloaded_error", "message": "busy"}})))
LATE_RATE = streamed((start(), ("error", {"error": {"type": "rate_limit_error", "message": "slow"}})))
LATE_FAULT = streamed((start(), ("error", {"error": {"message": "boom"}})))
HUGE = httpx2.Response(200, content=b"event: x\ndata: " + b"a" * 1_100_000)


@pytest.mark.parametrize(
    ("answer", "error", "key"),
    [
        (failed(400, "prompt is too long: 200001 tokens > 200000 maximum"), PromptTooLong, "prompt_too_long"),
        (failed(413), PromptTooLong, "prompt_too_long"),
        (failed(400, "credit balance is too low"), EngineRejected, "engine_status"),
        (failed(400, {"odd": 1}), EngineRejected, "engine_status"),
        (failed(401), EngineRejected, "errors_cloud.key_refused"),
        (failed(403), EngineRejected, "errors_cloud.key_refused"),
        (failed(404), ModelMissing, "errors_cloud.model_missing"),
        (failed(429), EngineBusy, "engine_busy"),
        (failed(503), EngineBusy, "engine_busy"),
        (failed(529), EngineBusy, "engine_busy"),
        (failed(500), EngineFault, "engine_status"),
        (httpx2.Response(502, text="<html>"), EngineFault, "engine_status"),
        (LATE, EngineBusy, "engine_busy"),
        (LATE_RATE, EngineBusy, "engine_busy"),
        (LATE_FAULT, EngineFault, "engine_status"),
        (httpx2.Response(307, headers={"location": "http://192.0.2.1/"}), EngineRejected, "engine_redirects"),
        (httpx2.ConnectError("nobody"), ModelUnavailable, "errors_cloud.unavailable"),
        (httpx2.ConnectTimeout("slow"), ModelUnavailable, "errors_cloud.unavailable"),
        (httpx2.ProxyError("407"), ModelUnavailable, "errors_cloud.unavailable"),
        (httpx2.ReadTimeout("silent"), EngineFault, "engine_stalled"),
        (httpx2.ReadError("reset"), EngineFault, "engine_broken_stream"),
        (CUT, EngineFault, "engine_cut_stream"),
        (streamed(()), EngineFault, "engine_not_protocol"),
        (HTML, EngineFault, "engine_not_protocol"),
        (NO_JSON, EngineFault, "engine_not_protocol"),
        (NO_OBJECT, EngineFault, "engine_not_protocol"),
        (HUGE, EngineFault, "engine_not_protocol"),
        (streamed((*CALL[:-1], stop("refusal"))), EngineRejected, "errors_cloud.refused"),
    ],
)  # fmt: skip
async def test_failures(answer: httpx2.Response | Exception, error: type[EngineError], key: str) -> None:
    server = Server([answer])
    with pytest.raises(error) as caught:
        await read(server.backend())
    assert (type(caught.value), caught.value.key) == (error, key)
    assert len(server.seen) == 1  # whether to try again is not decided here
    for lang in LANGS:
        table, _, name = key.rpartition(".")
        messages(lang)[table or "errors"][name].format_map(caught.value.fields)


async def test_the_key_refused_names_its_variable() -> None:
    for auth, variable in (("api_key", "ANTHROPIC_API_KEY"), ("auth_token", "ANTHROPIC_AUTH_TOKEN")):
        with pytest.raises(EngineRejected) as caught:
            await read(Server([failed(401)]).backend(auth=auth))
        assert caught.value.fields["variable"] == variable


async def test_how_long_to_wait_is_what_the_endpoint_says() -> None:
    with pytest.raises(EngineBusy) as caught:
        await read(Server([failed(429, headers={"retry-after": "3"})]).backend())
    assert caught.value.retry_after == 3.0


async def test_pings_are_no_progress() -> None:
    class Pinging(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield sse([start()])
            while True:
                await asyncio.sleep(0.02)
                yield b"event: ping\ndata: {}\n\n"

    server = Server([httpx2.Response(200, stream=Pinging())])
    with pytest.raises(EngineFault, match="engine_stalled"):
        await asyncio.wait_for(read(server.backend(stall=0.2)), 5)


async def test_who_stops_reading_ends_the_request() -> None:
    ended: list[bool] = []

    class Endless(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield sse(CALL[:3])
            await asyncio.sleep(60)

        async def aclose(self) -> None:
            ended.append(True)

    stream = Server([httpx2.Response(200, stream=Endless())]).backend().chat(REQUEST)
    async for _ in stream:
        break
    await stream.aclose()
    assert ended


EVIL = {
    "ANTHROPIC_API_KEY": "env-key",
    "ANTHROPIC_AUTH_TOKEN": "env-token",
    "ANTHROPIC_BASE_URL": "http://192.0.2.1",
    "ANTHROPIC_CUSTOM_HEADERS": "Authorization: Bearer env\nX-Api-Key: env\nX-Extra: env",
    "ANTHROPIC_PROFILE": "env-profile",
    "HTTPS_PROXY": "http://192.0.2.1:8080",
    "HTTP_PROXY": "http://192.0.2.1:8080",
}


@pytest.mark.parametrize(
    ("auth", "sent", "unsent"),
    [
        ("api_key", ("x-api-key", "k-1"), "authorization"),
        ("auth_token", ("authorization", "Bearer k-1"), "x-api-key"),
    ],
)
async def test_the_environment_decides_nothing(
    auth: Auth, sent: tuple[str, str], unsent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in EVIL.items():
        monkeypatch.setenv(name, value)
    server = Server([streamed(CALL)])
    await read(server.backend(auth=auth))
    headers = server.seen[0].headers
    assert headers[sent[0]] == sent[1]
    assert unsent not in headers
    assert "env" not in " ".join(headers.values())
    assert server.seen[0].url.host == "127.0.0.1"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.0.0.1:1/v1"])
async def test_an_address_may_end_in_its_version(url: str) -> None:
    server = Server([streamed(CALL)])
    await read(server.backend(url))
    assert server.seen[0].url.path == "/v1/messages"


async def test_names_with_lone_surrogates_can_be_sent() -> None:
    server = Server([streamed(CALL)])
    await read(server.backend(), replace(REQUEST, messages=(Message("user", "a\udcffb"),)))
    assert server.body()["messages"] == [{"role": "user", "content": "a?b"}]


async def test_a_model_is_described_without_asking() -> None:
    server = Server([])
    described = await server.backend().describe("m")
    assert (described.name, described.context, described.remote) == ("m", 200_000, True)
    assert await server.backend().models() == []
    assert not server.seen
