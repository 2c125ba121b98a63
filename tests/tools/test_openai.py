"""LM Studio, vLLM and llama.cpp's server: loopback servers that answer as the real ones do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from review_agent.agent.answer import parse
from review_agent.agent.errors import (
    AnswerUnreadable,
    EngineError,
    EngineFault,
    EngineRejected,
    ModelMissing,
    PromptTooLong,
)
from review_agent.tools.backends import ChatRequest, Done, Message, ModelInfo
from review_agent.tools.backends.openai import OpenAIBackend
from review_agent.tools.endpoints import make_client, make_endpoint

SCHEMA: dict[str, object] = {"type": "object"}
REQUEST = ChatRequest(
    "qwen", (Message("system", "s"), Message("user", "问 \udcff")), SCHEMA, num_ctx=8192, max_answer=512
)
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Reply:
    """Bytes as they are; anything else as JSON."""

    body: object = b""
    status: int = 200
    kind: str = "application/json"

    def bytes(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        head = f"HTTP/1.1 {self.status} X\r\nContent-Type: {self.kind}\r\nConnection: close\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


Answer = Reply | Callable[[dict[str, object]], Reply]
Stream = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Fake:
    """What a server answers by path, and what it was asked."""

    routes: dict[str, Answer]
    stream: Stream | None = None  # writes the answer to every POST itself
    missing: Reply = Reply({"error": {"message": "File Not Found", "code": 404}}, 404)
    paths: list[str] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head.lower())
        method, path, _ = head.split("\r\n")[0].split()
        self.paths.append(path)
        body: dict[str, object] = {}
        if method == "POST":
            size = next(
                int(row[15:]) for row in head.lower().split("\r\n") if row.startswith("content-length:")
            )
            body = json.loads(await reader.readexactly(size))
            self.bodies.append(body)
        try:
            if body and self.stream is not None:
                await self.stream(writer)
            else:
                answer = self.routes.get(path, self.missing)
                writer.write((answer if isinstance(answer, Reply) else answer(body)).bytes())
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def at(
    fake: Fake, path: str = "/v1", *, stall: float = 5, key: str = "", **extra: object
) -> AsyncIterator[OpenAIBackend]:
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    endpoint = make_endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}")
    backend = OpenAIBackend(make_client(endpoint, stall_seconds=stall, api_key=key), endpoint, extra=extra)
    try:
        async with server:
            yield backend
    finally:
        await backend.aclose()


def sse(*rows: object) -> Reply:
    parts = (row if isinstance(row, bytes) else b"data: " + json.dumps(row).encode() for row in rows)
    return Reply(b"".join(part + b"\n\n" for part in parts), kind="text/event-stream")


def chunk(text: str | None = None, finish: str | None = None, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more}


def thought(text: str, key: str = "reasoning_content") -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {key: text, "content": None}, "finish_reason": None}]}


def usage(prompt: int, completion: int) -> dict[str, object]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


GOOD = sse(chunk("{}"), chunk(finish="stop"), b"data: [DONE]")


async def read(backend: OpenAIBackend, request: ChatRequest = REQUEST) -> tuple[str, Done]:
    text, done = "", Done("")
    async for event in backend.chat(request):
        if isinstance(event, Done):
            done = event
        else:
            text += event.text
    return text, done


async def answer(reply: Reply, request: ChatRequest = REQUEST) -> tuple[str, Done]:
    async with at(Fake({CHAT: reply})) as backend:
        return await read(backend, request)


# --- who they are, their models and contexts ---

VLLM_MODELS = {
    "object": "list",
    "data": [
        {
            "id": "Qwen/Qwen3-32B",
            "object": "model",
            "created": 1795389271,
            "owned_by": "vllm",
            "root": "Qwen/Qwen3-32B",
            "parent": None,
            "max_model_len": 40960,
            "permission": [{"id": "modelperm-1", "object": "model_permission", "is_blocking": False}],
        }
    ],
}
LLAMA_MODEL = {
    "id": "smollm2",
    "aliases": ["smollm2"],
    "tags": [],
    "object": "model",
    "created": 1795389271,
    "owned_by": "llamacpp",
    "meta": {
        "vocab_type": 2,
        "n_vocab": 49152,
        "n_ctx": 4096,
        "n_ctx_train": 8192,
        "n_embd": 576,
        "n_params": 134515008,
        "size": 96576768,
        "ftype": "Q4_1",
    },
}
LLAMA_MODELS = {"models": [{"name": "smollm2", "size": ""}], "object": "list", "data": [LLAMA_MODEL]}
LLAMA_OLD = {
    "object": "list",
    "data": [{**LLAMA_MODEL, "meta": {"n_ctx_train": 8192, "n_params": 134515008}}],
}
PROPS = {
    "default_generation_settings": {"params": {"n_predict": -1}, "n_ctx": 2048},
    "total_slots": 2,
    "model_path": "/models/smollm2.gguf",
    "build_info": "b11549-1d7ab2b9",
}
LM_MODELS = {
    "object": "list",
    "data": [
        {"id": name, "object": "model", "owned_by": "organization_owner"}
        for name in ("qwen2.5-coder-14b", "devstral", "tiny", "text-embedding-nomic-embed-text-v1.5")
    ],
}
LM_DETAILS = {
    "object": "list",
    "data": [
        {"id": "qwen2.5-coder-14b", "object": "model", "type": "llm", "publisher": "lmstudio-community", "arch": "qwen2",
         "compatibility_type": "gguf", "quantization": "Q4_K_M", "state": "loaded", "max_context_length": 131072,
         "loaded_context_length": 16384},
        {"id": "devstral", "type": "vlm", "state": "not-loaded", "max_context_length": 131072},
        {"id": "tiny", "type": "llm", "state": "not-loaded", "max_context_length": 2048},
        {"id": "text-embedding-nomic-embed-text-v1.5", "type": "embeddings", "state": "loaded", "max_context_length": 2048,
         "loaded_context_length": 2048},
        {"id": "not offered", "type": "llm", "state": "not-loaded", "max_context_length": 4096},
    ],
}  # fmt: skip
ANY_PATH = Reply({"error": "Unexpected endpoint or method. (GET /x). Returning 200 anyway"})
PAGE = Reply(b"<!doctype html><title>Welcome</title>", kind="text/html")

VLLM = Fake({"/v1/models": Reply(VLLM_MODELS), "/version": Reply({"version": "0.11.0"}), CHAT: GOOD})
LLAMA = Fake({"/v1/models": Reply(LLAMA_MODELS), "/props": Reply(PROPS), CHAT: GOOD})
LM_STUDIO = Fake(
    {"/v1/models": Reply(LM_MODELS), "/api/v0/models": Reply(LM_DETAILS), CHAT: GOOD}, missing=ANY_PATH
)


def fresh(fake: Fake, **routes: Answer) -> Fake:
    return Fake({**fake.routes, **routes}, missing=fake.missing)


CHATS = frozenset({"completion"})


@pytest.mark.parametrize(
    ("fake", "server", "version", "models", "asked"),
    [
        (VLLM, "vLLM", "0.11.0", [ModelInfo("Qwen/Qwen3-32B", context=40960, capabilities=CHATS, loaded=True)],
         ["/v1/models", "/version"]),
        (LLAMA, "llama.cpp", "b11549-1d7ab2b9",
         [ModelInfo("smollm2", size=96576768, context=4096, parameters=0.134515008, capabilities=CHATS, loaded=True)],
         ["/v1/models", "/props"]),
        (fresh(LLAMA, **{"/v1/models": Reply(LLAMA_OLD)}), "llama.cpp", "b11549-1d7ab2b9",
         [ModelInfo("smollm2", context=2048, parameters=0.134515008, capabilities=CHATS, loaded=True)],
         ["/v1/models", "/props"]),
        (LM_STUDIO, "LM Studio", "",
         [ModelInfo("qwen2.5-coder-14b", context=16384, capabilities=CHATS, loaded=True),
          ModelInfo("devstral", context=4096, capabilities=CHATS),
          ModelInfo("tiny", context=2048, capabilities=CHATS),
          ModelInfo("text-embedding-nomic-embed-text-v1.5", context=2048,
                    capabilities=frozenset({"embedding"}), loaded=True)],
         ["/v1/models", "/api/v0/models"]),
    ],
    ids=["vLLM", "llama.cpp", "older llama.cpp", "LM Studio"],
)  # fmt: skip
async def test_what_each_server_tells_of_itself(
    fake: Fake, server: str, version: str, models: list[ModelInfo], asked: list[str]
) -> None:
    fake = fresh(fake)
    async with at(fake) as backend:
        assert backend.server == ""
        assert await backend.models() == models
        assert (backend.server, await backend.version()) == (server, version)
        assert fake.paths == asked
        assert [await backend.describe(model.name) for model in models] == models
        assert await backend.models() == models
        assert fake.paths == [*asked, "/v1/models"]  # each other path once


PLAIN = Reply({"data": [{"id": "m", "object": "model", "owned_by": "me"}]})


@pytest.mark.parametrize(
    ("routes", "missing", "expected"),
    [
        ({}, Reply(b"not found", 404, "text/plain"), ("", 0)),
        ({}, PAGE, ("", 0)),
        ({}, ANY_PATH, ("", 0)),
        ({}, Reply({"error": "no key"}, 401), ("", 0)),
        ({}, Reply(b"", 500), ("", 0)),
        ({}, Reply([1, 2]), ("", 0)),
        ({}, Reply({"data": [{"id": "m", "state": "ready"}]}), ("", 0)),
        ({"/api/v0/models": Reply({"data": 3}), "/props": Reply({"n_ctx": 4096})}, PAGE, ("", 0)),
        (
            {"/api/v0/models": Reply({"data": [{"id": "m", "state": "not-loaded"}]})},
            PAGE,
            ("LM Studio", 4096),
        ),
        ({"/props": Reply(PROPS)}, PAGE, ("llama.cpp", 2048)),
        ({"/props": Reply({"default_generation_settings": {"n_ctx": 0}})}, PAGE, ("llama.cpp", 0)),
    ],
)
async def test_servers_that_lack_the_extra_paths(
    routes: dict[str, Answer], missing: Reply, expected: tuple[str, int]
) -> None:
    fake = Fake({"/v1/models": PLAIN, **routes}, missing=missing)
    async with at(fake) as backend:
        context = (await backend.models())[0].context
        assert (backend.server, context) == expected
        await backend.version()
        await backend.models()
        assert sorted(set(fake.paths)) == sorted(fake.paths[:-1])  # once each, but for the list itself


@pytest.mark.parametrize(
    ("entry", "context"),
    [
        ({"max_model_len": 4096}, 4096),
        ({"max_model_len": None, "meta": None}, 0),
        ({"max_model_len": "much", "meta": "none", "status": "ok", "type": 3, "owned_by": None}, 0),
        ({"meta": {"n_ctx": 8192, "size": "93 MB"}}, 8192),
        ({"max_context_length": 8192}, 8192),
        ({"max_model_len": -1}, 0),
    ],
)
async def test_fields_of_other_servers_are_read_or_ignored(entry: dict[str, object], context: int) -> None:
    async with at(Fake({"/v1/models": Reply({"data": [{"id": "m", **entry}]})})) as backend:
        assert await backend.models() == [ModelInfo("m", context=context, capabilities=CHATS)]


async def test_a_router_of_llama_cpp_tells_which_models_are_loaded() -> None:
    data = [
        {**LLAMA_MODEL, "id": "one", "status": {"value": "loaded", "args": []}},
        {"id": "two", "owned_by": "llamacpp", "status": {"value": "unloaded"}},
    ]
    async with at(fresh(LLAMA, **{"/v1/models": Reply({"data": data})})) as backend:
        assert [(m.name, m.context, m.loaded) for m in await backend.models()] == [
            ("one", 4096, True),
            ("two", 0, False),
        ]


async def test_an_old_lm_studio_without_its_own_list_is_taken_for_small() -> None:
    async with at(fresh(LM_STUDIO, **{"/api/v0/models": ANY_PATH})) as backend:
        assert {(m.context, m.loaded) for m in await backend.models()} == {(4096, False)}
        assert backend.server == "LM Studio"


async def test_a_path_that_lm_studio_does_not_know_is_no_empty_list() -> None:
    async with at(Fake({}, missing=ANY_PATH)) as backend:
        with pytest.raises(EngineFault, match="engine_not_protocol"):
            await backend.models()
        with pytest.raises(EngineFault, match="engine_said"):
            await read(backend)


async def test_a_version_costs_nothing_when_nobody_listens() -> None:
    async with at(VLLM) as backend:
        pass
    endpoint = backend.endpoint
    alone = OpenAIBackend(make_client(endpoint, stall_seconds=1), endpoint)
    assert await alone.version() == ""
    await alone.aclose()


async def test_a_model_that_is_not_there() -> None:
    async with at(fresh(VLLM)) as backend:
        with pytest.raises(ModelMissing) as caught:
            await backend.describe("gpt")
        assert caught.value.key == "model_not_served"
    assert caught.value.fields["installed"] == "Qwen/Qwen3-32B"


@pytest.mark.parametrize(
    ("base", "root", "api"),
    [
        ("", "", "/v1"),
        ("/", "", "/v1"),
        ("/v1", "", "/v1"),
        ("/v1/", "", "/v1"),
        ("/gpu/box", "/gpu/box", "/gpu/box/v1"),
        ("/gpu/v1", "/gpu", "/gpu/v1"),
        ("/api/paas/v4", "/api/paas", "/api/paas/v4"),
        ("/v1beta", "", "/v1beta"),
    ],
)
async def test_base_urls(base: str, root: str, api: str) -> None:
    fake = Fake(
        {
            f"{api}/models": Reply(LM_MODELS),
            f"{root}/api/v0/models": Reply(LM_DETAILS),
            f"{api}/chat/completions": GOOD,
        }
    )
    async with at(fake, base) as backend:
        assert (await backend.models())[0].context == 16384
        assert await read(backend) == ("{}", Done("stop"))


async def test_the_key_goes_to_every_path_and_its_lack_is_told() -> None:
    fake = fresh(LM_STUDIO)
    async with at(fake, key="secret") as backend:
        await backend.models()
        await read(backend)
    assert len(fake.heads) == 3
    assert all("\r\nauthorization: bearer secret\r\n" in head for head in fake.heads)
    refused = Reply({"error": "Unauthorized"}, 401)
    async with at(Fake({}, missing=refused)) as backend:
        for ask in (backend.models(), read(backend)):
            with pytest.raises(EngineRejected, match="engine_unauthorized"):
                await ask


# --- what is asked ---


async def test_what_a_server_is_asked() -> None:
    fake = fresh(VLLM)
    async with at(fake) as backend:
        await read(backend)
    assert fake.bodies == [
        {
            "model": "qwen",
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "问 \udcff"}],
            "max_tokens": 512,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "review", "strict": True, "schema": SCHEMA},
            },
        }
    ]


@pytest.mark.parametrize(
    ("fake", "model", "sent"),
    [
        (VLLM, "Qwen/Qwen3-32B", {"chat_template_kwargs": {"enable_thinking": False}}),
        (LLAMA, "smollm2", {"chat_template_kwargs": {"enable_thinking": False}}),
        (VLLM, "openai/GPT-OSS-20b", {"reasoning_effort": "low"}),
        (LLAMA, "gpt-oss-20b", {"chat_template_kwargs": {"reasoning_effort": "low"}}),
        (LM_STUDIO, "devstral", {}),
        (Fake({"/v1/models": PLAIN, CHAT: GOOD}), "m", {}),
    ],
)
async def test_thinking_is_switched_off_where_that_is_understood(
    fake: Fake, model: str, sent: dict[str, object]
) -> None:
    fake = fresh(fake)
    async with at(fake) as backend:
        await backend.models()
        await read(backend, replace(REQUEST, model=model))
    keys = ("chat_template_kwargs", "reasoning_effort")
    assert {key: fake.bodies[-1][key] for key in keys if key in fake.bodies[-1]} == sent


async def test_what_the_embedded_engine_adds_goes_into_every_question() -> None:
    extra = {"chat_template_kwargs": {"reasoning_effort": "low"}}
    refuses = refusing({"response_format"}, "response_format is not supported")
    fake = fresh(LLAMA, **{CHAT: refuses})
    async with at(fake, **extra) as backend:
        await backend.models()
        assert await read(backend) == ("{}", Done("stop"))
    assert [body.get("chat_template_kwargs") for body in fake.bodies] == [extra["chat_template_kwargs"]] * 2


# --- servers that refuse some of it ---


def refusing(
    keys: set[str], said: str = "", status: int = 400, body: object = None
) -> Callable[[dict[str, object]], Reply]:
    """A server that answers when none of these keys is there."""
    refusal = Reply({"error": {"message": said}} if body is None else body, status)
    return lambda asked: refusal if keys & asked.keys() else GOOD


FORMAT, OPTIONS, KWARGS = "response_format", "stream_options", "chat_template_kwargs"


@pytest.mark.parametrize(
    ("keys", "said", "status", "dropped"),
    [
        ({FORMAT}, "'response_format.type' must be 'text'", 400, {FORMAT}),
        ({FORMAT}, "The provided JSON schema contains features not supported by xgrammar.", 400, {FORMAT}),
        ({FORMAT}, "Failed to initialize samplers: failed to parse grammar", 400, {FORMAT}),
        ({FORMAT}, "Grammar error: Unknown format", 500, {FORMAT}),
        ({FORMAT}, "json_schema is not implemented", 501, {FORMAT}),
        ({FORMAT}, "unsupported", 422, {FORMAT, OPTIONS, KWARGS}),
        ({OPTIONS}, "extra fields not permitted: stream_options", 400, {OPTIONS}),
        ({OPTIONS}, "", 422, {FORMAT, OPTIONS, KWARGS}),
        ({KWARGS}, "chat_template is not supported for Mistral tokenizers.", 400, {KWARGS}),
        ({KWARGS, FORMAT}, "unknown: chat_template_kwargs, response_format", 400, {KWARGS, FORMAT}),
        ({"max_tokens"}, "Use 'max_completion_tokens' instead.", 400, {"max_tokens"}),
    ],
)
async def test_what_a_server_refuses_is_left_out_for_the_rest_of_the_run(
    keys: set[str], said: str, status: int, dropped: set[str]
) -> None:
    fake = fresh(VLLM, **{CHAT: refusing(keys, said, status)})
    async with at(fake) as backend:
        await backend.models()
        for _ in range(3):
            assert await read(backend) == ("{}", Done("stop"))
    everything = {FORMAT, OPTIONS, KWARGS, "max_tokens"}
    assert [everything - body.keys() for body in fake.bodies] == [set(), dropped, dropped, dropped]
    assert ("max_completion_tokens" in fake.bodies[-1]) is ("max_tokens" in dropped)


async def test_one_refusal_after_the_other() -> None:
    def choosy(asked: dict[str, object]) -> Reply:
        for key in (KWARGS, OPTIONS, FORMAT):
            if key in asked:
                return Reply({"error": {"message": f"what is {key}?"}}, 400)
        return GOOD

    fake = fresh(VLLM, **{CHAT: choosy})
    async with at(fake) as backend:
        await backend.models()
        assert await read(backend) == ("{}", Done("stop"))
        assert await read(backend) == ("{}", Done("stop"))
    assert len(fake.bodies) == 5


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "Failed to parse JSON schema", "type": "invalid_request_error"}},
        {"error": "response_format is not supported by this model"},
    ],
)
async def test_a_refusal_within_the_stream(event: object) -> None:
    refusal = sse(b"event: error\ndata: " + json.dumps(event).encode())
    fake = fresh(VLLM, **{CHAT: lambda asked: refusal if FORMAT in asked else GOOD})
    async with at(fake) as backend:
        for _ in range(2):
            assert await read(backend) == ("{}", Done("stop"))
    assert [FORMAT in body for body in fake.bodies] == [True, False, False]


async def test_an_answer_that_began_is_not_asked_for_again() -> None:
    fake = fresh(VLLM, **{CHAT: sse(chunk("{"), {"error": "grammar: no token fits"})})
    async with at(fake) as backend:
        with pytest.raises(EngineFault, match="engine_said"):
            await read(backend)
    assert len(fake.bodies) == 1


@pytest.mark.parametrize(
    ("said", "status", "error"),
    [
        (
            "No models loaded. Please load a model in the developer page or use the `lms load` command.",
            404,
            ModelMissing,
        ),
        ("bad model", 400, EngineRejected),
        ("", 422, EngineRejected),
        ("runner died", 500, EngineFault),
        ("This model's maximum context length is 4096 tokens. The schema counts, too.", 400, PromptTooLong),
    ],
)
async def test_a_refusal_for_another_reason_costs_nothing(
    said: str, status: int, error: type[EngineError]
) -> None:
    replies = [Reply({"error": {"message": said}}, status)] * (2 if error is EngineRejected else 1) + [GOOD]
    fake = fresh(VLLM, **{CHAT: lambda _: replies.pop(0)})
    async with at(fake) as backend:
        with pytest.raises(error):
            await read(backend)
        assert await read(backend) == ("{}", Done("stop"))
    assert FORMAT in fake.bodies[-1]


@pytest.mark.parametrize(
    "said",
    [
        "The model has crashed without additional information. (Exit code: 18446744072635812000)",
        "Model unloaded.",
    ],
)
async def test_a_model_that_crashed_is_a_fault_and_no_refusal(said: str) -> None:
    replies = [Reply({"error": said}, 400), GOOD]
    fake = fresh(LM_STUDIO, **{CHAT: lambda _: replies.pop(0)})
    async with at(fake) as backend:
        with pytest.raises(EngineFault) as caught:
            await read(backend)
        assert caught.value.retryable
        assert await read(backend) == ("{}", Done("stop"))
    assert [FORMAT in body for body in fake.bodies] == [True, True]


async def test_two_first_requests_at_once_learn_the_same() -> None:
    fake = fresh(VLLM, **{CHAT: refusing({FORMAT}, "no schema here")})
    async with at(fake) as backend:
        both = await asyncio.gather(read(backend), read(backend))
        assert both == [("{}", Done("stop"))] * 2
        assert await read(backend) == ("{}", Done("stop"))
    assert sorted(FORMAT in body for body in fake.bodies) == [False, False, False, True, True]


# --- prompts over the context ---


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"error": {"code": 400, "message": "request (9031 tokens) exceeds the available context size (8192 tokens), try increasing it",
                         "type": "exceed_context_size_error", "n_prompt_tokens": 9031, "n_ctx": 8192}}, 400),
        Reply({"error": {"code": 500, "message": "the request exceeds the available context size. try increasing the context size or enable context shift",
                         "type": "server_error"}}, 500),
        Reply({"error": {"message": "This model's maximum context length is 8192 tokens. However, you requested 9543 tokens (9031 in the messages, 512 in the completion).",
                         "type": "BadRequestError", "param": None, "code": 400}}, 400),
        Reply({"error": {"message": "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context length is 8192 tokens and your request has 9031 input tokens (512 > 8192 - 9031).",
                         "type": "BadRequestError", "param": None, "code": 400}}, 400),
        Reply({"error": "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 13055>= n_ctx: 4096). Try to load the model with a larger context length, or provide a shorter input."}, 400),
        sse(b'event: error\ndata: {"error":{"message":"Trying to keep the first 9031 tokens when context the overflows. However, the model is loaded with context length of only 8192 tokens, which is not enough."}}'),
        Reply({"error": "Trying to keep the first 9031 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough."}),
        sse(chunk(""), {"error": {"message": "Context size has been exceeded."}}),
        sse(chunk(finish="stop"), usage(36000, 0), b"data: [DONE]"),
        sse(chunk(finish="length"), usage(8190, 2), b"data: [DONE]"),
    ],
    ids=["llama.cpp", "older llama.cpp", "vLLM", "vLLM answer", "LM Studio", "LM Studio in the stream",
         "LM Studio under 200", "LM Studio MLX", "LM Studio GGUF in silence", "no room to answer"],
)  # fmt: skip
async def test_how_each_server_says_that_a_prompt_is_too_long(reply: Reply) -> None:
    fake = fresh(VLLM, **{CHAT: reply})
    async with at(fake) as backend:
        with pytest.raises(PromptTooLong) as caught:
            await read(backend)
        assert caught.value.key == "prompt_too_long"
    assert len(fake.bodies) == 1


@pytest.mark.parametrize(
    ("tokens", "whole"), [(0, True), (1000, True), (4000, True), (9000, True), (999, False), (3, False)]
)
async def test_a_prompt_that_was_cut_in_silence_is_noticed(tokens: int, whole: bool) -> None:
    reply = sse(chunk("{}", "stop"), usage(tokens, 7), b"data: [DONE]")
    request = replace(REQUEST, prompt_estimate=4000)
    if whole:
        assert await answer(reply, request) == ("{}", Done("stop", tokens, 7))
    else:
        with pytest.raises(PromptTooLong, match="prompt_was_cut"):
            await answer(reply, request)


# --- answers ---


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((chunk("{"), chunk("}"), chunk(finish="stop"), b"data: [DONE]"), ("{}", Done("stop"))),
        ((chunk("{}", "stop"), usage(30, 7), b"data: [DONE]"), ("{}", Done("stop", 30, 7))),
        ((chunk("{}", "stop", usage={"prompt_tokens": 30, "completion_tokens": 7}),), ("{}", Done("stop", 30, 7))),
        ((chunk("{}", "stop"),), ("{}", Done("stop"))),  # no [DONE]
        ((chunk("{"), chunk(finish="length"), b"data: [DONE]"), ("{", Done("length"))),
        ((b": ping", chunk("{"), b":", b"data:", b"event: x", b"id: 3", b"retry: 9", chunk("}", "stop")), ("{}", Done("stop"))),
        ((chunk("{}", "stop", usage=None), b"data:[DONE]"), ("{}", Done("stop"))),
        (({"choices": None}, {"choices": [{"delta": None, "finish_reason": None}]}, chunk("{}", "stop")), ("{}", Done("stop"))),
        ((chunk("{}", "stop"), b"data: [DONE]", chunk("after the end")), ("{}", Done("stop"))),
        ((thought("hm"), thought("{", "reasoning"), chunk("{}", "stop")), ("{}", Done("stop"))),
        ((thought("hm"), chunk("\n\n"), chunk("{}", "stop")), ("\n\n{}", Done("stop"))),
        ((chunk(finish="stop"), usage(30, 0)), ("", Done("stop", 30, 0))),
    ],
)  # fmt: skip
async def test_how_answers_are_read(rows: tuple[object, ...], expected: tuple[str, Done]) -> None:
    assert await answer(sse(*rows)) == expected


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ((thought('{"findings": []}'), chunk("", "stop")), '{"findings": []}'),
        ((thought('\n{"find', "reasoning"), thought('ings": []}', "reasoning"), chunk("\n", "stop")), '\n\n{"findings": []}'),
        ((thought("Let me see."), chunk(finish="stop")), None),
        ((thought("Let me see. {}"), chunk(finish="length")), None),
    ],
)  # fmt: skip
async def test_an_answer_that_was_taken_for_a_thought(rows: tuple[object, ...], text: str | None) -> None:
    if text is None:
        with pytest.raises(AnswerUnreadable, match="answer_only_reasoning"):
            await answer(sse(*rows))
    else:
        assert (await answer(sse(*rows)))[0] == text


async def test_thoughts_within_the_answer_are_left_to_its_parser() -> None:
    text, _ = await answer(
        sse(chunk("<think>\nIs {} right?\n</think>\n\n"), chunk('{"findings": []}', "stop"))
    )
    assert parse(text).candidates == ()


@pytest.mark.parametrize(
    ("rows", "key"),
    [
        ((chunk("{"),), "engine_cut_stream"),
        ((chunk("{"), b"data: [DONE]"), "engine_cut_stream"),
        ((chunk("{", "abort"), b"data: [DONE]"), "engine_cut_stream"),
        ((chunk("{"), {"error": "boom"}), "engine_said"),
        ((chunk("{"), {"error": {"message": "out of memory", "code": 500}}), "engine_said"),
        ((b"hello",), "engine_not_protocol"),
        ((b"data: {",), "engine_not_protocol"),
        ((b'data: {"choices": 3}',), "engine_not_protocol"),
        ((b'{"choices": [{"message": {"content": "{}"}, "finish_reason": "stop"}]}',), "engine_not_protocol"),
    ],
)
async def test_answers_that_cannot_be_used(rows: tuple[object, ...], key: str) -> None:
    with pytest.raises(EngineFault) as caught:
        await answer(sse(*rows))
    assert caught.value.key == key


# --- silence ---

OPEN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("first", [b"", b'data: {"choices":[{"delta":{"content":"{"}}]}\n\n'])
async def test_pings_are_no_progress(first: bytes) -> None:
    async def pinging(writer: asyncio.StreamWriter) -> None:
        writer.write(OPEN + first)
        for _ in range(100):
            writer.write(b": ping\n\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with at(Fake({}, stream=pinging), stall=0.5) as backend:
        with pytest.raises(EngineFault, match="engine_stalled"):
            await asyncio.wait_for(read(backend), 3)


async def test_slow_words_between_pings_are_progress() -> None:
    rows = [chunk("{"), thought("hm"), chunk("}"), thought("hm"), chunk(finish="stop")]

    async def slowly(writer: asyncio.StreamWriter) -> None:
        writer.write(OPEN)
        for row in rows:
            writer.write(b": ping\n\n" + b"data: " + json.dumps(row).encode() + b"\n\n")
            await writer.drain()
            await asyncio.sleep(0.2)

    async with at(Fake({}, stream=slowly), stall=0.6) as backend:
        assert await read(backend) == ("{}", Done("stop"))


async def test_who_stops_reading_hangs_up() -> None:
    hung_up = asyncio.Event()

    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(OPEN)
        try:
            while True:
                writer.write(b"data: " + json.dumps(chunk("x")).encode() + b"\n\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            hung_up.set()

    async with at(Fake({}, stream=endless)) as backend:
        stream = backend.chat(REQUEST)
        await anext(stream)
        await stream.aclose()
        await asyncio.wait_for(hung_up.wait(), 3)
