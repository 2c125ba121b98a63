"""OpenAI-compatible servers: LM Studio, vLLM, llama.cpp's server, and others.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import httpx
from pydantic import Field, ValidationError

from review_agent.agent.errors import EngineFault, EngineRejected, ModelMissing, PromptTooLong
from review_agent.tools.backends import ChatRequest, Delta, Done, ModelInfo
from review_agent.tools.backends.wire import Shape, get_json, is_too_long, lines
from review_agent.tools.endpoints import Endpoint


class _Model(Shape):
    id: str
    max_model_len: int | None = None  # vLLM
    max_context_length: int | None = None  # LM Studio


class _Models(Shape):
    data: list[_Model] = Field(default_factory=list)


class _Said(Shape):
    content: str | None = None


class _Choice(Shape):
    delta: _Said = Field(default_factory=_Said)
    finish_reason: str | None = None


class _Usage(Shape):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Chunk(Shape):
    choices: list[_Choice] = Field(default_factory=list)
    usage: _Usage | None = None
    error: object = None


class OpenAIBackend:
    """`endpoint.url` may or may not end in `/v1`. `extra` goes into every question."""

    name = "openai"

    def __init__(
        self, http: httpx.AsyncClient, endpoint: Endpoint, *, extra: Mapping[str, object] | None = None
    ) -> None:
        self._http = http
        self._extra = dict(extra or {})
        self._root = "" if endpoint.url.endswith("/v1") else "/v1"
        self._plain = False  # the server refused `response_format`; remembered for the run
        self.endpoint = endpoint

    async def aclose(self) -> None:
        await self._http.aclose()

    async def models(self) -> list[ModelInfo]:
        data = await get_json(self._http, f"{self._root}/models")
        try:
            listed = _Models.model_validate(data).data
        except ValidationError as exc:
            raise EngineFault("engine_not_protocol", url=self.endpoint.url) from exc
        return [
            ModelInfo(
                name=model.id,
                context=model.max_model_len or model.max_context_length or 0,
                capabilities=frozenset({"completion"}),
            )
            for model in listed
        ]

    async def describe(self, model: str) -> ModelInfo:
        known = {info.name: info for info in await self.models()}
        if model not in known:
            raise ModelMissing("model_missing", model=model, installed=", ".join(sorted(known)) or "-")
        return known[model]

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Delta | Done, None]:
        if not self._plain:
            try:
                async with aclosing(self._stream(request, plain=False)) as events:
                    async for event in events:
                        yield event
                return
            except PromptTooLong:
                raise
            except EngineRejected as exc:  # a status: nothing was streamed yet
                if exc.fields.get("status") not in (400, 422):
                    raise
        async with aclosing(self._stream(request, plain=True)) as events:
            async for event in events:
                self._plain = True  # so it was `response_format` that the server refused
                yield event

    async def _stream(self, request: ChatRequest, *, plain: bool) -> AsyncGenerator[Delta | Done, None]:
        body: dict[str, object] = {
            **self._extra,
            "model": request.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "max_tokens": request.max_answer,
            "temperature": 0,
            "stream": True,
        }
        if not plain:
            body["stream_options"] = {"include_usage": True}
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "review", "strict": True, "schema": request.schema},
            }
        finish, usage = "", _Usage()
        async with aclosing(lines(self._http, f"{self._root}/chat/completions", body)) as rows:
            async for raw in rows:
                if raw.startswith((b":", b"event:", b"id:", b"retry:")):
                    continue
                if not raw.startswith(b"data:"):
                    raise EngineFault("engine_not_protocol", url=self.endpoint.url)
                data = raw[5:].strip()
                if data == b"[DONE]":
                    break
                chunk = self._chunk(data)
                usage = chunk.usage or usage
                for choice in chunk.choices[:1]:
                    if choice.delta.content:
                        yield Delta(choice.delta.content)
                    finish = choice.finish_reason or finish
        if not finish:
            raise EngineFault("engine_cut_stream", url=self.endpoint.url)
        yield Done("length" if finish == "length" else "stop", usage.prompt_tokens, usage.completion_tokens)

    def _chunk(self, data: bytes) -> _Chunk:
        try:
            chunk = _Chunk.model_validate(json.loads(data))
        except (ValueError, RecursionError) as exc:
            raise EngineFault("engine_not_protocol", url=self.endpoint.url) from exc
        if chunk.error is not None:
            found = chunk.error.get("message", "") if isinstance(chunk.error, dict) else chunk.error
            detail = str(found)[:300]
            if is_too_long(detail):
                raise PromptTooLong("prompt_too_long", url=self.endpoint.url, detail=detail)
            raise EngineFault("engine_said", url=self.endpoint.url, detail=detail)
        return chunk
