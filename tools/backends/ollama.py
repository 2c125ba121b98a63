"""Ollama's native API: the only route that can set `num_ctx` and forbid silent truncation.

https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

import httpx
from pydantic import Field, ValidationError

from review_agent.agent.errors import EngineFault, ModelMissing, PromptTooLong
from review_agent.tools.backends import ChatRequest, Delta, Done, ModelInfo
from review_agent.tools.backends.wire import Shape, get_json, is_too_long, lines, post_json
from review_agent.tools.endpoints import Endpoint

_CLOUD_TAG = re.compile(r"(:cloud|-cloud)$", re.I)
_Shape = TypeVar("_Shape", bound=Shape)


class _Details(Shape):
    parameter_size: str = ""


class _Tag(Shape):
    name: str
    digest: str = ""
    size: int = 0
    details: _Details | None = None
    remote_host: str = ""
    remote_model: str = ""


class _Tags(Shape):
    models: list[_Tag] = Field(default_factory=list)


class _Show(Shape):
    capabilities: list[str] = Field(default_factory=list)
    model_info: dict[str, Any] = Field(default_factory=dict)
    remote_host: str = ""
    remote_model: str = ""


class _Said(Shape):
    content: str = ""


class _Line(Shape):
    message: _Said | None = None
    done: bool = False
    done_reason: str = ""
    prompt_eval_count: int = 0
    eval_count: int = 0
    error: str = ""


class OllamaBackend:
    name = "ollama"

    def __init__(self, http: httpx.AsyncClient, endpoint: Endpoint, *, keep_alive: str = "30m") -> None:
        self._http = http
        self._keep_alive = keep_alive
        self.endpoint = endpoint

    async def aclose(self) -> None:
        await self._http.aclose()

    async def version(self) -> str:
        data = await get_json(self._http, "/api/version")
        return str(data.get("version", "")) if isinstance(data, dict) else ""

    async def models(self) -> list[ModelInfo]:
        tags = self._read(_Tags, await get_json(self._http, "/api/tags"))
        return [_info(tag) for tag in tags.models]

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
            capabilities=frozenset(show.capabilities),
            remote=listed.remote or bool(show.remote_host or show.remote_model),
        )

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Delta | Done, None]:
        thinking: bool | str = "low" if "gpt-oss" in request.model else False  # it ignores true and false
        body: dict[str, object] = {
            "model": request.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "format": request.schema,
            "stream": True,
            "think": thinking,
            "shift": False,
            "truncate": False,
            "keep_alive": self._keep_alive,
            "options": {
                "num_ctx": request.num_ctx,
                "num_predict": request.max_answer,
                "temperature": 0,
                "seed": 7,
            },
        }
        async with aclosing(lines(self._http, "/api/chat", body)) as rows:
            async for raw in rows:
                line = self._line(raw)
                if line.error:
                    said = PromptTooLong if is_too_long(line.error) else EngineFault
                    key = "prompt_too_long" if said is PromptTooLong else "engine_said"
                    raise said(key, url=self.endpoint.url, detail=line.error[:300])
                if line.message is not None and line.message.content:
                    yield Delta(line.message.content)
                if line.done:
                    _check_whole(line, request)
                    finish = "length" if line.done_reason == "length" else "stop"
                    yield Done(finish, line.prompt_eval_count, line.eval_count)
                    return
        raise EngineFault("engine_cut_stream", url=self.endpoint.url)

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


def _check_whole(line: _Line, request: ChatRequest) -> None:
    """An old server may ignore `truncate: false`: it then reads far fewer tokens than we sent.

    Our estimate is on the high side by up to 2.5 times, so only a count below a quarter of it proves a cut.
    A prefix-cache hit does not lower `prompt_eval_count` on current servers.
    """
    if line.prompt_eval_count and line.prompt_eval_count * 4 < request.prompt_estimate:
        raise PromptTooLong("prompt_was_cut", sent=request.prompt_estimate, read=line.prompt_eval_count)


def _is_context(key: str, value: object) -> bool:
    return key.endswith(".context_length") and isinstance(value, int)


def _info(tag: _Tag) -> ModelInfo:
    return ModelInfo(
        name=tag.name,
        digest=tag.digest,
        size=tag.size,
        parameters=_billions(tag.details.parameter_size if tag.details else ""),
        remote=bool(_CLOUD_TAG.search(tag.name) or tag.remote_host or tag.remote_model),
    )


def _billions(text: str) -> float:
    """'7.6B' → 7.6, '135M' → 0.135; 0 when it says neither."""
    match = re.fullmatch(r"\s*([\d.]+)\s*([BMK])\s*", text, re.I)
    if not match:
        return 0.0
    scale = {"B": 1.0, "M": 1e-3, "K": 1e-6}[match.group(2).upper()]
    return float(match.group(1)) * scale
