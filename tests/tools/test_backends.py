"""The wire protocols: what is sent, how answers are read, and what each failure of a server becomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import httpx
import pytest

from review_agent.agent.errors import (
    EngineBusy,
    EngineError,
    EngineFault,
    EngineRejected,
    ModelMissing,
    ModelUnavailable,
    PromptTooLong,
)
from review_agent.tools.backends import ChatRequest, Delta, Done, Message
from review_agent.tools.backends.ollama import OllamaBackend
from review_agent.tools.backends.openai import OpenAIBackend
from review_agent.tools.backends.wire import MAX_LINE_BYTES, lines
from review_agent.tools.endpoints import make_client, make_endpoint
from review_agent.tools.transport import Direct

SCHEMA: dict[str, object] = {"type": "object"}
REQUEST = ChatRequest(
    "qwen:7b", (Message("system", "s"), Message("user", "问 \udcff")), SCHEMA, 8192, 512, 4000
)
Handler = Callable[[httpx.Request], httpx.Response]
Backend = OllamaBackend | OpenAIBackend


def over(handler: Handler, kind: type[Backend], url: str = "http://127.0.0.1:1") -> Backend:
    host = httpx.URL(url).host
    client = httpx.AsyncClient(base_url=url, transport=Direct(httpx.MockTransport(handler), url, [host]))
    return kind(client, make_endpoint(url, ["box"]))


def says(*rows: object, status: int = 200, **headers: str) -> Handler:
    """A server that answers everything with these rows: bytes as they are, others as JSON lines."""
    body = b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)
    return lambda _: httpx.Response(status, content=body, headers=headers)


def sse(*rows: object) -> bytes:
    return b"".join(
        (row if isinstance(row, bytes) else b"data: " + json.dumps(row).encode()) + b"\n\n" for row in rows
    )


async def read(backend: Backend, request: ChatRequest = REQUEST) -> tuple[str, Done]:
    text, done = "", Done("")
    async for event in backend.chat(request):
        if isinstance(event, Done):
            done = event
        else:
            text += event.text
    return text, done


def chunk(text: str | None = None, finish: str | None = None, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more}


def part(text: str = "", **more: object) -> dict[str, object]:
    return {"model": "m", "message": {"role": "assistant", "content": text}, "done": False, **more}


END = part(done=True, done_reason="stop", prompt_eval_count=3000, eval_count=7)


# --- both ---

BOTH = pytest.mark.parametrize("kind", [OllamaBackend, OpenAIBackend])


@BOTH
@pytest.mark.parametrize(
    ("status", "body", "error", "key"),
    [
        (400, {"error": "bad"}, EngineRejected, "engine_status"),
        (401, {"error": {"message": "no key"}}, EngineRejected, "engine_unauthorized"),
        (403, b"", EngineRejected, "engine_unauthorized"),
        (404, {"error": "no such path"}, ModelMissing, "model_or_path_missing"),
        (429, {"error": "slow down"}, EngineBusy, "engine_busy"),
        (500, {"error": "runner died"}, EngineFault, "engine_status"),
        (502, b"<html>bad gateway</html>", EngineFault, "engine_status"),
        (503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, EngineBusy, "engine_busy"),
        (301, b"", EngineRejected, "engine_redirects"),
        (307, b"", EngineRejected, "engine_redirects"),
        (400, {"error": "the prompt is longer than the context length currently available"}, PromptTooLong, "prompt_too_long"),
        (400, {"error": {"type": "exceed_context_size_error", "message": "the request exceeds the available context size"}}, PromptTooLong, "prompt_too_long"),
        (400, {"error": {"message": "This model's maximum context length is 4096 tokens."}}, PromptTooLong, "prompt_too_long"),
        (400, {"error": {"message": "prompt (length 5000) is longer than the maximum model length of 4096"}}, PromptTooLong, "prompt_too_long"),
        (400, {"error": "schema exceeds maximum depth"}, EngineRejected, "engine_status"),
        (500, {"error": "context deadline exceeded"}, EngineFault, "engine_status"),
        (418, b"{" * 50_000, EngineRejected, "engine_status"),
    ],
)  # fmt: skip
async def test_what_a_status_means(
    kind: type[Backend], status: int, body: object, error: type[EngineError], key: str
) -> None:
    backend = over(says(body, status=status, Location="http://evil.example/"), kind)
    with pytest.raises(EngineError) as caught:
        await read(backend)
    assert (type(caught.value), caught.value.key) == (error, key)
    with pytest.raises(EngineError) as caught:
        await backend.models()
    assert type(caught.value) is error


@BOTH
@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("http://evil.example:8080/x?code=1#f", "evil.example:8080"),
        ("https://user:secret@evil.example/", "evil.example"),
        ("//evil.example", "evil.example"),
        ("http://[2001:db8::1]:5/", "[2001:db8::1]:5"),
        ("/api/elsewhere", "127.0.0.1:1"),
        ("http://例子.example/", "xn--fsqu00a.example"),
        (f"http://{'a' * 300}.example/", "a" * 100),
        ("http://a\u009b31m.example/", "?"),
        ("http://[::1", "?"),
        ("javascript:alert(1)", "?"),
        (None, "?"),
    ],
)
async def test_where_a_redirect_would_lead(kind: type[Backend], location: str | None, target: str) -> None:
    headers = {"Location": location.encode()} if location is not None else {}
    backend = over(lambda _: httpx.Response(307, headers=headers), kind)
    with pytest.raises(EngineRejected, match="engine_redirects") as caught:
        await read(backend)
    assert caught.value.fields["target"] == target


@BOTH
@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("0", 0.0), ("1.5", 1.5), ("-3", 0.0), ("nan", 0.0), (None, None), ("soon", None),
     ("Wed, 21 Oct 2026 07:28:00 GMT", None)],
)  # fmt: skip
async def test_how_long_a_busy_server_wants_us_to_wait(
    kind: type[Backend], header: str | None, seconds: float | None
) -> None:
    headers = {"Retry-After": header} if header is not None else {}
    with pytest.raises(EngineBusy) as caught:
        await read(over(says(status=429, **headers), kind))
    assert caught.value.retry_after == seconds


@BOTH
@pytest.mark.parametrize(
    ("raised", "error", "key"),
    [
        (httpx.ConnectError("refused"), ModelUnavailable, "engine_unavailable"),
        (httpx.ConnectTimeout("late"), ModelUnavailable, "engine_unavailable"),
        (httpx.ReadTimeout("silent"), EngineFault, "engine_stalled"),
        (httpx.WriteTimeout("stuck"), EngineFault, "engine_stalled"),
        (httpx.ReadError("reset"), EngineFault, "engine_broken_stream"),
        (httpx.RemoteProtocolError("cut"), EngineFault, "engine_broken_stream"),
        (httpx.DecodingError("gzip"), EngineFault, "engine_broken_stream"),
    ],
)
async def test_what_a_broken_connection_means(
    kind: type[Backend], raised: Exception, error: type[EngineError], key: str
) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise raised

    with pytest.raises(EngineError) as caught:
        await read(over(handler, kind))
    assert (type(caught.value), caught.value.key) == (error, key)


@BOTH
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<html><body>Welcome</body></html>", {"Content-Type": "text/html; charset=utf-8"}),
        (b"hello\n", {}),
        (b"\xff\xfe\x00{\n", {}),
        (b"data: {" + b"[" * 100_000 + b"\n", {}),
        (b"[" * 100_000 + b"\n", {}),
        (b'{"message": 3, "done": "perhaps"}\n', {}),
        (b'data: {"choices": 3}\n', {}),
        (b"x" * (MAX_LINE_BYTES + 2), {}),
    ],
    ids=["page", "words", "bytes", "deep event", "deep line", "wrong types", "wrong event", "endless line"],
)
async def test_what_is_not_the_protocol_is_a_fault(
    kind: type[Backend], body: bytes, headers: dict[str, str]
) -> None:
    with pytest.raises(EngineFault, match="engine_not_protocol"):
        await read(over(says(body, **headers), kind))


@BOTH
@pytest.mark.parametrize("body", [b"", b"\n\n", json.dumps(part("{")).encode() + b"\n", sse(chunk("{"))])
async def test_an_answer_without_its_end_is_a_fault(kind: type[Backend], body: bytes) -> None:
    with pytest.raises(EngineFault, match=r"engine_(cut_stream|not_protocol)"):
        await read(over(says(body), kind))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_lines_come_whole_however_they_arrive(size: int) -> None:
    body = "一行\r\n\n  two \nthree".encode()

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    client = httpx.AsyncClient(
        base_url="http://x", transport=httpx.MockTransport(lambda _: httpx.Response(200, content=pieces()))
    )
    assert [line.decode() async for line in lines(client, "/", {})] == ["一行", "two", "three"]


async def test_an_endless_answer_of_nothing_ends() -> None:
    async def nothing() -> AsyncIterator[bytes]:
        row = json.dumps(part(thinking="hm " * 30_000)).encode() + b"\n"
        while True:
            yield row

    backend = over(lambda _: httpx.Response(200, content=nothing()), OllamaBackend)
    with pytest.raises(EngineFault, match="engine_not_protocol"):
        await asyncio.wait_for(read(backend), 30)


@BOTH
@pytest.mark.parametrize("data", ["x", 3, None, [], {"models": 3, "data": 3}, {"models": [{}], "data": [{}]}])
async def test_a_list_of_models_that_is_none_is_a_fault(kind: type[Backend], data: object) -> None:
    with pytest.raises(EngineFault, match="engine_not_protocol"):
        await over(says(data), kind).models()


@BOTH
async def test_no_models_is_an_empty_list_also_when_it_is_null(kind: type[Backend]) -> None:
    for data in ({}, {"models": None, "data": None}, {"models": [], "data": []}):
        backend = over(says(data), kind)
        assert await backend.models() == []
        with pytest.raises(ModelMissing):
            await backend.describe("m")


# --- Ollama ---


def ollama(tags: list[dict[str, object]], show: dict[str, object]) -> OllamaBackend:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"models": tags} if request.url.path == "/api/tags" else show)

    return over(handler, OllamaBackend)  # type: ignore[return-value]


async def test_what_ollama_is_asked() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return says(part("{}"), END)(request)

    assert await read(over(handler, OllamaBackend)) == ("{}", Done("stop", 3000, 7))
    asked = [(request.method, request.url.path) for request in seen]
    assert asked == [("GET", "/api/ps"), ("POST", "/api/chat")]
    assert seen[1].content.isascii()  # lone surrogates too
    assert json.loads(seen[1].content) == {
        "model": "qwen:7b",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "问 \udcff"}],
        "format": SCHEMA,
        "stream": True,
        "think": False,
        "shift": False,
        "truncate": False,
        "keep_alive": "30m",
        "options": {"num_ctx": 8192, "num_predict": 512, "temperature": 0, "seed": 7},
    }


@pytest.mark.parametrize(
    ("model", "think"),
    [("gpt-oss:20b", "low"), ("team/gpt-oss:20b", "low"), ("qwen3:8b", False), ("deepseek-r1:7b", False)],
)
async def test_thinking_is_off_or_low(model: str, think: object) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return says(END)(request)

    await read(over(handler, OllamaBackend), replace(REQUEST, model=model))
    assert json.loads(seen[-1].content)["think"] == think


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([part("{"), part("}"), END], ("{}", Done("stop", 3000, 7))),
        ([part("{"), {**END, "done_reason": "length"}], ("{", Done("length", 3000, 7))),
        ([part(), {**END, "done_reason": "length"}], ("", Done("length", 3000, 7))),
        ([part("{}"), {"done": True}], ("{}", Done("stop"))),
        ([part("{}"), {"done": True, "done_reason": None, "eval_count": None}], ("{}", Done("stop"))),
        ([{"message": {"content": None, "thinking": "hm"}}, part("{}"), END], ("{}", Done("stop", 3000, 7))),
        ([part("{}"), END, part("after the end")], ("{}", Done("stop", 3000, 7))),
    ],
)
async def test_how_ollama_answers_are_read(rows: list[object], expected: tuple[str, Done]) -> None:
    assert await read(over(says(*rows), OllamaBackend)) == expected


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("llama runner process has terminated", EngineFault),
        ("context canceled", EngineFault),
        ("context deadline exceeded", EngineFault),
        ("the prompt is longer than the context length currently available", PromptTooLong),
        ("input exceeds the context size", PromptTooLong),
    ],
)
async def test_an_error_in_the_middle_of_an_answer(said: str, error: type[EngineError]) -> None:
    with pytest.raises(EngineError) as caught:
        await read(over(says(part("{"), {"error": said}), OllamaBackend))
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("read_tokens", "whole"), [(0, True), (1000, True), (4000, True), (999, False), (3, False)]
)
async def test_a_prompt_that_was_cut_in_silence_is_noticed(read_tokens: int, whole: bool) -> None:
    backend = over(says(part("{}"), {**END, "prompt_eval_count": read_tokens}), OllamaBackend)
    if whole:
        assert (await read(backend))[1].prompt_tokens == read_tokens
    else:
        with pytest.raises(PromptTooLong, match="prompt_was_cut"):
            await read(backend)


TAG = {"name": "qwen:7b", "digest": "sha", "size": 4_700_000_000, "details": {"parameter_size": "7.6B"}}


@pytest.mark.parametrize(
    ("tag", "show", "remote"),
    [
        (TAG, {}, False),
        ({**TAG, "name": "cloudy:7b"}, {}, False),
        ({**TAG, "name": "kimi-k2:cloud"}, {}, True),
        ({**TAG, "name": "gpt-oss:120b-cloud"}, {}, True),
        ({**TAG, "name": "x:Cloud"}, {}, True),
        ({**TAG, "remote_host": "https://ollama.com"}, {}, True),
        ({**TAG, "remote_model": "m"}, {}, True),
        (TAG, {"remote_host": "https://ollama.com:443"}, True),
        (TAG, {"remote_model": "m"}, True),
    ],
)
async def test_models_that_run_elsewhere_are_known(
    tag: dict[str, object], show: dict[str, object], remote: bool
) -> None:
    assert (await ollama([tag], show).describe(str(tag["name"]))).remote is remote


async def test_what_is_known_of_a_model() -> None:
    show = {
        "capabilities": ["completion", "tools"],
        "model_info": {"general.architecture": "qwen2", "qwen2.context_length": 32768, "qwen2.x": None},
    }
    info = await ollama([TAG, {"name": "llama:latest", "details": None}], show).describe("qwen:7b")
    assert (info.digest, info.size, info.context, info.parameters) == ("sha", 4_700_000_000, 32768, 7.6)
    assert info.capabilities == {"completion", "tools"}
    assert (await ollama([{"name": "llama:latest"}], {}).describe("llama")).name == "llama:latest"
    with pytest.raises(ModelMissing) as caught:
        await ollama([TAG], {}).describe("other")
    assert caught.value.fields == {"model": "other", "installed": "qwen:7b"}


# --- a real connection ---

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve, stall_seconds: float = 5) -> AsyncIterator[OllamaBackend]:
    """A backend at a loopback server that reads the request and then does as `serve` says."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):  # what is loaded; a server need not say
            writer.close()
            return
        size = next(
            int(row.split(b":")[1])
            for row in head.lower().split(b"\r\n")
            if row.startswith(b"content-length")
        )
        await reader.readexactly(size)
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    endpoint = make_endpoint(url)
    backend = OllamaBackend(make_client(endpoint, stall_seconds=stall_seconds), endpoint)
    try:
        async with server:
            yield backend
    finally:
        await backend.aclose()


OPEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(row: object) -> bytes:
    data = json.dumps(row).encode() + b"\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("sent", "reset", "error"),
    [
        (b"", False, "engine_broken_stream"),
        (b"", True, "engine_broken_stream"),
        (OPEN + chunked(part("{")), False, "engine_broken_stream"),
        (OPEN + chunked(part("{")), True, "engine_broken_stream"),
        (OPEN + chunked(part("{"))[:9], False, "engine_broken_stream"),
        (OPEN + chunked(part("{")) + b"0\r\n\r\n", False, "engine_cut_stream"),
        (b"not http at all\r\n\r\n", False, "engine_broken_stream"),
    ],
)
async def test_a_connection_that_breaks(sent: bytes, reset: bool, error: str) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()
        if reset:
            writer.transport.abort()

    async with serving(serve) as backend:
        with pytest.raises(EngineFault, match=error):
            await read(backend)


async def test_silence_is_a_stall_and_slow_bytes_are_not() -> None:
    body = OPEN + chunked(part("{}")) + chunked(END) + b"0\r\n\r\n"

    async def slowly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in range(0, len(body), 20):
            writer.write(body[at : at + 20])
            await writer.drain()
            await asyncio.sleep(0.05)

    async def silently(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OPEN)
        await reader.read()

    async with serving(slowly, stall_seconds=0.4) as backend:
        assert await read(backend) == ("{}", Done("stop", 3000, 7))
    async with serving(silently, stall_seconds=0.2) as backend:
        with pytest.raises(EngineFault, match="engine_stalled"):
            await read(backend)


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_who_stops_reading_hangs_up(how: str) -> None:
    hung_up = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OPEN + chunked(part("{")))
        await writer.drain()
        await reader.read()
        hung_up.set()

    async with serving(serve) as backend:
        if how == "cancel":
            task = asyncio.ensure_future(read(backend))
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        else:
            async with aclosing(backend.chat(REQUEST)) as events:
                assert await anext(events) == Delta("{")
        await asyncio.wait_for(hung_up.wait(), 2)


async def test_nobody_listens() -> None:
    async with serving(lambda *_: asyncio.sleep(0)) as backend:
        pass
    client = make_client(backend.endpoint, stall_seconds=5)
    with pytest.raises(ModelUnavailable):
        await read(OllamaBackend(client, backend.endpoint))
    await client.aclose()
