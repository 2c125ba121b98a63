"""OpenAI-compatible servers: LM Studio, vLLM, llama.cpp's server, and others.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from enum import Enum, auto
from typing import Annotated

import httpx
from pydantic import BeforeValidator, Field

from review_agent.agent.errors import (
    AnswerUnreadable,
    EngineError,
    EngineFault,
    EngineRejected,
    ModelMissing,
    PromptTooLong,
)
from review_agent.tools.backends import ChatRequest, Delta, Done, ModelInfo
from review_agent.tools.backends.listing import LLAMA_CPP, VLLM, Listing
from review_agent.tools.backends.wire import Shape, check_whole, is_too_long, lines
from review_agent.tools.endpoints import Endpoint

_BROKEN = ("abort", "error")  # finish reasons of an answer that the server gave up
_CRASHED = re.compile(r"\bcrashed\b|model unloaded|exit code", re.I)
_MAX_THOUGHTS = 200_000  # characters kept
_Text = Annotated[str, BeforeValidator(lambda value: value if isinstance(value, str) else "")]


class _Wish(Enum):
    """What we ask for beyond the plainest form of the protocol: a server may refuse it."""

    THINKING = auto()  # that the model does not
    USAGE = auto()
    SCHEMA = auto()
    MAX_TOKENS = auto()  # newer servers call it `max_completion_tokens`


_ALL = frozenset(_Wish)
_NAMES = {
    _Wish.THINKING: re.compile(r"chat_template|enable_thinking|reasoning_effort", re.I),
    _Wish.USAGE: re.compile(r"stream_options|include_usage", re.I),
    _Wish.SCHEMA: re.compile(r"response_format|schema|grammar|guided|structured|outlines", re.I),
    _Wish.MAX_TOKENS: re.compile(r"max_completion_tokens", re.I),
}


class _Said(Shape):
    content: str = ""
    reasoning_content: _Text = ""
    reasoning: _Text = ""


class _Choice(Shape):
    delta: _Said = Field(default_factory=_Said)
    finish_reason: str = ""


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
        self._listing = Listing(http, endpoint.url)
        self._refused: frozenset[_Wish] = frozenset()  # by this server; remembered for the run
        self.endpoint = endpoint

    @property
    def server(self) -> str:
        """Its product name as far as its list of models told it: vLLM, llama.cpp, LM Studio, or ''."""
        return self._listing.server

    async def aclose(self) -> None:
        await self._http.aclose()

    async def version(self) -> str:
        """'' when the server does not tell. Never raises."""
        return await self._listing.version()

    async def models(self) -> list[ModelInfo]:
        return await self._listing.models()

    async def describe(self, model: str) -> ModelInfo:
        found, names = await self._listing.find(model)
        if found is None:
            listed = ", ".join(names) or "-"
            raise ModelMissing("model_not_served", model=model, url=self.endpoint.url, installed=listed)
        return found

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Delta | Done, None]:
        """As the protocol says. Raises AnswerUnreadable when the model did nothing but think."""
        asked = self._wishes()
        while True:
            said = False
            try:
                async with aclosing(self._answer(request, asked)) as events:
                    async for event in events:
                        said = True
                        self._refused |= _ALL - asked - self._unasked()  # so it was that
                        yield event
                return
            except EngineError as exc:
                error = self._meaning(exc)
                fewer = asked - _refused_by(error, asked)
                if said or fewer == asked:
                    raise error from exc
            asked = fewer

    def _wishes(self) -> frozenset[_Wish]:
        return _ALL - self._refused - self._unasked()

    def _unasked(self) -> frozenset[_Wish]:
        """Only these two are known to read what switches thinking off; LM Studio ignores it."""
        if self.server in (VLLM, LLAMA_CPP) and "chat_template_kwargs" not in self._extra:
            return frozenset()
        return frozenset({_Wish.THINKING})

    async def _answer(
        self, request: ChatRequest, asked: frozenset[_Wish]
    ) -> AsyncGenerator[Delta | Done, None]:
        finish, usage, thoughts, said = "", _Usage(), "", False
        async with aclosing(self._chunks(self._body(request, asked))) as chunks:
            async for chunk in chunks:
                usage = chunk.usage or usage
                for choice in chunk.choices[:1]:
                    delta = choice.delta
                    if len(thoughts) < _MAX_THOUGHTS:
                        thoughts += delta.reasoning_content or delta.reasoning
                    if delta.content:
                        said = said or not delta.content.isspace()
                        yield Delta(delta.content)
                    finish = choice.finish_reason or finish
        if not finish or finish in _BROKEN:
            raise EngineFault("engine_cut_stream", url=self.endpoint.url)
        self._check_whole(usage, request, empty=not said and not thoughts)
        if thoughts and not said:
            yield Delta(_answer_in(thoughts))
        yield Done("length" if finish == "length" else "stop", usage.prompt_tokens, usage.completion_tokens)

    def _body(self, request: ChatRequest, asked: frozenset[_Wish]) -> dict[str, object]:
        limit = "max_tokens" if _Wish.MAX_TOKENS in asked else "max_completion_tokens"
        body: dict[str, object] = {
            **self._extra,
            "model": request.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            limit: max(1, request.max_answer),
            "temperature": 0,
            "stream": True,
        }
        if _Wish.THINKING in asked:
            body |= self._unthinking(request.model)
        if _Wish.USAGE in asked:
            body["stream_options"] = {"include_usage": True}
        if _Wish.SCHEMA in asked:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "review", "strict": True, "schema": request.schema},
            }
        return body

    def _unthinking(self, model: str) -> dict[str, object]:
        """Thoughts take minutes and are not bounded by the schema. gpt-oss knows levels only.

        https://docs.vllm.ai/en/latest/features/reasoning_outputs.html
        """
        if "gpt-oss" not in model.lower():
            return {"chat_template_kwargs": {"enable_thinking": False}}
        if self.server == VLLM:
            return {"reasoning_effort": "low"}
        return {"chat_template_kwargs": {"reasoning_effort": "low"}}

    async def _chunks(self, body: dict[str, object]) -> AsyncGenerator[_Chunk, None]:
        """Server-sent events with data. Comments keep a connection open, but they are no progress."""
        async with aclosing(lines(self._http, f"{self._listing.prefix}/chat/completions", body)) as rows:
            while True:
                try:
                    async with asyncio.timeout(self._http.timeout.read):
                        data = await self._data(rows)
                except TimeoutError as exc:
                    raise EngineFault("engine_stalled", url=self.endpoint.url) from exc
                if data in (b"", b"[DONE]"):
                    return
                yield self._chunk(data)

    async def _data(self, rows: AsyncGenerator[bytes, None]) -> bytes:
        """The next event's data; b'' at the end."""
        async for raw in rows:
            if raw.startswith(b"data:"):
                if data := raw[5:].strip():
                    return data
            elif not raw.startswith((b":", b"event:", b"id:", b"retry:")):
                if raw.startswith(b"{"):
                    self._chunk(raw)  # LM Studio names an error under 200
                raise EngineFault("engine_not_protocol", url=self.endpoint.url)
        return b""

    def _chunk(self, data: bytes) -> _Chunk:
        try:
            chunk = _Chunk.model_validate(json.loads(data))
        except (ValueError, RecursionError) as exc:
            raise EngineFault("engine_not_protocol", url=self.endpoint.url) from exc
        if chunk.error is not None:
            found = chunk.error.get("message", "") if isinstance(chunk.error, dict) else chunk.error
            raise EngineFault("engine_said", url=self.endpoint.url, detail=str(found)[:300])
        return chunk

    def _meaning(self, exc: EngineError) -> EngineError:
        """An older llama.cpp says with 500, others within the stream, that the prompt is too long; LM Studio
        says with 400 that its model crashed, and loads it again for the next request.
        """
        detail = str(exc.fields.get("detail", ""))
        if isinstance(exc, EngineFault) and is_too_long(detail):
            return PromptTooLong("prompt_too_long", url=self.endpoint.url, detail=detail)
        if exc.fields.get("status") == 400 and _CRASHED.search(detail):
            return EngineFault("engine_said", url=self.endpoint.url, detail=detail)
        return exc

    def _check_whole(self, usage: _Usage, request: ChatRequest, *, empty: bool) -> None:
        """LM Studio was seen to answer a prompt over its context with nothing.

        https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/2339
        """
        read = usage.prompt_tokens
        check_whole(read, request.prompt_estimate)
        if empty and read + usage.completion_tokens >= request.num_ctx:
            detail = f"{read} + {usage.completion_tokens} >= {request.num_ctx}"
            raise PromptTooLong("prompt_too_long", url=self.endpoint.url, detail=detail)


def _refused_by(error: EngineError, asked: frozenset[_Wish]) -> frozenset[_Wish]:
    """Which wishes an error refuses: those it names; of a refusal that names none, perhaps any.

    A prompt that is too long has no status here, and so refuses nothing.
    """
    detail = str(error.fields.get("detail", ""))
    named = frozenset(wish for wish in asked if _NAMES[wish].search(detail))
    if isinstance(error, EngineRejected) and error.fields.get("status") in (400, 422):
        return named or asked - {_Wish.MAX_TOKENS}
    return named if isinstance(error, EngineFault) else frozenset()


def _answer_in(thoughts: str) -> str:
    """The answer among what a server called thoughts: LM Studio, and vLLM with an unfit parser, take one that
    the schema shaped for those. Raises AnswerUnreadable for real thoughts.

    https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/1773
    https://github.com/vllm-project/vllm/issues/19222
    """
    if thoughts.lstrip().startswith("{"):
        return thoughts
    raise AnswerUnreadable("answer_only_reasoning")
