"""Ollama's native API: the only route that can set `num_ctx` and forbid silent truncation.

https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import Field, ValidationError

from review_agent.agent.errors import (
    AnswerUnreadable,
    EndpointRefused,
    EngineError,
    EngineFault,
    EngineRejected,
    ModelMissing,
    PromptTooLong,
)
from review_agent.agent.models import TrustClass
from review_agent.tools.backends import ChatRequest, Delta, Done, ModelInfo
from review_agent.tools.backends.lease import Lease
from review_agent.tools.backends.wire import Shape, check_whole, get_json, is_too_long, lines, post_json
from review_agent.tools.endpoints import Endpoint

ASIDE_SECONDS = 5.0  # for what a review can do without: who is loaded, and unloading
_CLOUD_TAG = re.compile(r"(:cloud|-cloud)$", re.I)
_MODEL_GONE = re.compile(r"model .*not found", re.I)
_THINK = re.compile(r"not support thinking|\bthink\b")  # the second: a server that knows no "low"
_ELSEWHERE = re.compile(r"\b(cloud|remote)\b", re.I)
_SIZES = re.compile(r'"n_prompt_tokens":\s*(\d+).*"n_ctx":\s*(\d+)', re.S)
_REPEATS = "token repeat limit reached"  # ollama/ollama, llm/llama_server.go: a token 100 times in a row
_NOTHING_SAID = ("load", "unload")  # answers to a request without messages
_Shape = TypeVar("_Shape", bound=Shape)


class _Details(Shape):
    parameter_size: str = ""
    context_length: int = 0


class _Tag(Shape):
    name: str
    digest: str = ""
    size: int = 0
    details: _Details | None = None
    capabilities: list[str] = Field(default_factory=list)
    remote_host: str = ""
    remote_model: str = ""


class _Running(Shape):
    name: str
    context_length: int = 0


class _Runs(Shape):
    models: list[_Running] = Field(default_factory=list)


class _Tags(Shape):
    models: list[_Tag] = Field(default_factory=list)


class _Show(Shape):
    capabilities: list[str] = Field(default_factory=list)
    model_info: dict[str, Any] = Field(default_factory=dict)
    remote_host: str = ""
    remote_model: str = ""


class _Said(Shape):
    content: str = ""
    thinking: str = ""


class _Line(Shape):
    message: _Said | None = None
    done: bool = False
    done_reason: str = ""
    prompt_eval_count: int = 0
    eval_count: int = 0
    error: str = ""
    remote_host: str = ""
    remote_model: str = ""


class OllamaBackend:
    """One Ollama server.

    With `unload`, closing it frees the memory of a model that this run made the server load, unless another
    run of ours on this machine still uses it: `state` is the folder where they meet. A server elsewhere has
    users we do not know of, so nothing is unloaded there.
    """

    name = "ollama"

    def __init__(
        self,
        http: httpx.AsyncClient,
        endpoint: Endpoint,
        *,
        keep_alive: str = "30m",
        unload: bool = True,
        state: Path | None = None,
    ) -> None:
        self._http = http
        self._keep_alive = keep_alive
        self._unload = unload
        self._state = state
        self._leases: dict[str, Lease] = {}
        self._leasing = asyncio.Lock()
        self._unthinking: set[str] = set()  # models of which the server refuses `think`
        self.endpoint = endpoint

    async def aclose(self) -> None:
        """Close the connections, after unloading what is to be unloaded; never raises, never takes long."""
        try:
            for model, lease in self._leases.items():
                if lease.last() and self._unload:
                    await self._put_away(model)
        finally:
            for lease in self._leases.values():
                lease.drop()
            await self._http.aclose()

    async def version(self) -> str:
        data = await get_json(self._http, "/api/version")
        return str(data.get("version", "")) if isinstance(data, dict) else ""

    async def models(self) -> list[ModelInfo]:
        """Installed models. Old servers tell capabilities and context in `describe` only."""
        tags = self._read(_Tags, await get_json(self._http, "/api/tags"))
        loaded = await self._loaded() if tags.models else frozenset()
        return [_info(tag, loaded or frozenset()) for tag in tags.models]

    async def _loaded(self) -> frozenset[str] | None:
        """Names of the models in memory; None when the server does not say."""
        with suppress(EngineError, TimeoutError):
            async with asyncio.timeout(ASIDE_SECONDS):
                running = self._read(_Tags, await get_json(self._http, "/api/ps"))
                return frozenset(tag.name.casefold() for tag in running.models)
        return None

    async def describe(self, model: str) -> ModelInfo:
        known = {info.name: info for info in await self.models()}
        name = model if model in known else f"{model}:latest"
        if name not in known:
            raise ModelMissing("model_missing", model=model, installed=", ".join(sorted(known)) or "-")
        show = self._read(_Show, await post_json(self._http, "/api/show", {"model": name}))
        listed = known[name]
        context = next(
            (int(value) for key, value in show.model_info.items() if _is_context(key, value)), listed.context
        )
        return ModelInfo(
            name=name,
            digest=listed.digest,
            size=listed.size,
            context=context,
            parameters=listed.parameters,
            capabilities=frozenset(show.capabilities) or listed.capabilities,
            remote=listed.remote or bool(show.remote_host or show.remote_model),
            loaded=listed.loaded,
        )

    async def default_context(self, model: str) -> int:
        """The context for clients that cannot ask for one, as over `/v1`; 0 = the server does not say.

        Loads the model so: before that nobody knows. Raises EngineError.
        """
        await self._lease(model)
        await post_json(self._http, "/api/generate", {"model": model, "stream": False})
        runs = self._read(_Runs, await get_json(self._http, "/api/ps"))
        return next((one.context_length for one in runs.models if one.name == model), 0)

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Delta | Done, None]:
        """As the protocol says. Raises AnswerUnreadable when the model thought until its room was used up."""
        await self._lease(request.model)
        said = thought = False
        async with aclosing(self._lines(request)) as rows:
            async for raw in rows:
                line = self._line(raw)
                if (
                    said and _REPEATS in line.error
                ):  # the model writes without end: what `num_predict` would end
                    yield Done("length")
                    return
                if line.error:
                    raise self._failure(line.error)
                if line.remote_host or line.remote_model:
                    raise EndpointRefused("model_is_remote", model=request.model)
                if line.message is not None:
                    thought = thought or bool(line.message.thinking)
                    if line.message.content:
                        said = True
                        yield Delta(line.message.content)
                if line.done:
                    yield self._done(line, request, said=said, thought=thought)
                    return
        raise EngineFault("engine_cut_stream", url=self.endpoint.url)

    async def _lines(self, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        """Lines of one answer; asked again without `think` when the server knows no such wish for the model.

        https://github.com/ollama/ollama/blob/main/docs/capabilities/thinking.mdx
        """
        body = self._body(request)
        try:
            async with aclosing(lines(self._http, "/api/chat", body)) as rows:
                async for row in rows:
                    yield row
            return
        except (EngineRejected, ModelMissing) as exc:
            detail = str(exc.fields.get("detail", ""))
            if "think" not in body or not _THINK.search(detail):
                raise self._refusal(exc, detail, request.model) from exc
        self._unthinking.add(request.model)
        async with aclosing(self._lines(request)) as rows:
            async for row in rows:
                yield row

    def _body(self, request: ChatRequest) -> dict[str, object]:
        body: dict[str, object] = {
            "model": request.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "format": request.schema,
            "stream": True,
            "shift": False,
            "truncate": False,
            "keep_alive": self._keep_alive,
            "options": {
                "num_ctx": request.num_ctx,
                "num_predict": max(1, request.max_answer),  # 0 means without end to some servers
                "temperature": 0,
                "seed": 7,
            },
        }
        if request.model not in self._unthinking:
            body["think"] = "low" if "gpt-oss" in request.model else False  # it ignores true and false
        return body

    def _done(self, line: _Line, request: ChatRequest, *, said: bool, thought: bool) -> Done:
        """The end of an answer that can be used. Raises what is wrong with any other."""
        if line.done_reason in _NOTHING_SAID:
            raise EngineFault("engine_cut_stream", url=self.endpoint.url)
        check_whole(line.prompt_eval_count, request.prompt_estimate)
        if thought and not said:
            raise AnswerUnreadable("answer_only_reasoning")
        finish = "length" if line.done_reason == "length" else "stop"
        full = line.prompt_eval_count + line.eval_count >= request.num_ctx
        if finish == "length" and not said and full:  # the prompt left no room to answer
            sent = line.prompt_eval_count
            raise PromptTooLong("ollama.prompt_over_context", sent=sent, context=request.num_ctx)
        return Done(finish, line.prompt_eval_count, line.eval_count)

    def _failure(self, said: str) -> EngineError:
        """What a line with `error` under status 200 means."""
        if is_too_long(said):
            return self._too_long(said)
        return EngineFault("engine_said", url=self.endpoint.url, detail=said[:300])

    def _refusal(self, exc: EngineError, detail: str, model: str) -> EngineError:
        """A refused request, in words that help."""
        if isinstance(exc, PromptTooLong):
            return self._too_long(detail)
        if isinstance(exc, ModelMissing) and _MODEL_GONE.search(detail):
            return ModelMissing("ollama.model_gone", url=self.endpoint.url, model=model)
        if exc.fields.get("status") == 403 and _ELSEWHERE.search(detail):
            return EndpointRefused("model_is_remote", model=model)
        return exc

    def _too_long(self, said: str) -> PromptTooLong:
        """The server's text is JSON within JSON, with the exact sizes; or a plain sentence without them."""
        if sizes := _SIZES.search(said):
            return PromptTooLong("ollama.prompt_over_context", sent=int(sizes[1]), context=int(sizes[2]))
        return PromptTooLong("prompt_too_long", url=self.endpoint.url, detail=said[:300])

    async def _lease(self, model: str) -> None:
        """Before the first request about a model: hold a share, and note whether it was loaded before."""
        if self.endpoint.trust is not TrustClass.LOOPBACK:
            return

        async def is_loaded() -> bool:  # doubt means yes: what may be another's is not ours to unload
            loaded = await self._loaded()
            return loaded is None or model.casefold() in loaded

        async with self._leasing:
            if model not in self._leases:
                parts = urlsplit(self.endpoint.url)  # 127.0.0.1 and localhost are one server
                server = f"{parts.port or parts.scheme}{parts.path}"
                lease = self._leases[model] = Lease(self._state, server, model)
                await lease.take(is_loaded)

    async def _put_away(self, model: str) -> None:
        body: dict[str, object] = {"model": model, "messages": [], "stream": False, "keep_alive": 0}
        with suppress(EngineError, TimeoutError):
            async with asyncio.timeout(ASIDE_SECONDS):
                await post_json(self._http, "/api/chat", body)

    def _line(self, raw: bytes) -> _Line:
        try:
            return _Line.model_validate(json.loads(raw))
        except (ValueError, RecursionError) as exc:
            raise EngineFault("engine_not_protocol", url=self.endpoint.url) from exc

    def _read(self, shape: type[_Shape], data: object) -> _Shape:
        try:
            return shape.model_validate(data)
        except ValidationError as exc:
            raise EngineFault("engine_not_protocol", url=self.endpoint.url) from exc


def _is_context(key: str, value: object) -> bool:
    return key.endswith(".context_length") and isinstance(value, int)


def _info(tag: _Tag, loaded: frozenset[str]) -> ModelInfo:
    return ModelInfo(
        name=tag.name,
        digest=tag.digest,
        size=tag.size,
        context=tag.details.context_length if tag.details else 0,
        parameters=_billions(tag.details.parameter_size if tag.details else ""),
        capabilities=frozenset(tag.capabilities),
        loaded=tag.name.casefold() in loaded,
        remote=bool(_CLOUD_TAG.search(tag.name) or tag.remote_host or tag.remote_model),
    )


def _billions(text: str) -> float:
    """'7.6B' → 7.6, '135M' → 0.135; 0 when it says neither."""
    match = re.fullmatch(r"\s*([\d.]+)\s*([BMK])\s*", text, re.I)
    if not match:
        return 0.0
    scale = {"B": 1.0, "M": 1e-3, "K": 1e-6}[match.group(2).upper()]
    return float(match.group(1)) * scale
