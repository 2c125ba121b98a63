"""What OpenAI-compatible servers say of themselves and of their models, beyond what the protocol asks for.

Each tells the size of its context in a place of its own: vLLM and llama.cpp in the list of models (older
llama.cpp in `/props`), LM Studio in https://lmstudio.ai/docs/developer/rest (`/api/v0/models`).
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Annotated

import httpx
from pydantic import BeforeValidator, Field, ValidationError

from review_agent.agent.errors import EngineError, EngineFault
from review_agent.tools.backends import ModelInfo
from review_agent.tools.backends.wire import Shape, get_json

VLLM, LLAMA_CPP, LM_STUDIO = "vLLM", "llama.cpp", "LM Studio"
ASIDE_SECONDS = 5.0  # for what a review can do without
# What LM Studio gives a model that it loads itself, unless told otherwise. A model's maximum is not what it
# was loaded with: https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/2139
LM_STUDIO_CONTEXT = 4096
_OWNERS = {"vllm": VLLM, "llamacpp": LLAMA_CPP, "organization_owner": LM_STUDIO}
_STATES = ("loaded", "not-loaded")  # nobody but LM Studio says so
_API = re.compile(r"/v\d+\w*$")

# Fields that other servers may use for something else: what is of another type was not said.
_Count = Annotated[int, BeforeValidator(lambda value: value if _is_count(value) else 0)]
_Word = Annotated[str, BeforeValidator(lambda value: value if isinstance(value, str) else "")]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _mapping(value: object) -> object:
    return value if isinstance(value, dict) else {}


class _Meta(Shape):
    n_ctx: _Count = 0
    n_params: _Count = 0
    size: _Count = 0


class _Status(Shape):
    value: _Word = ""


class _Model(Shape):
    id: str
    owned_by: _Word = ""
    max_model_len: _Count = 0  # vLLM, SGLang
    meta: Annotated[_Meta, BeforeValidator(_mapping)] = Field(default_factory=_Meta)  # llama.cpp
    status: Annotated[_Status, BeforeValidator(_mapping)] = Field(default_factory=_Status)  # its router
    type: _Word = ""  # from here on LM Studio, in `/api/v0/models`
    state: _Word = ""
    max_context_length: _Count = 0
    loaded_context_length: _Count = 0


class _Models(Shape):
    data: list[_Model] = Field(default_factory=list)
    error: object = None


class _Generation(Shape):
    n_ctx: _Count = 0


class _Props(Shape):
    default_generation_settings: _Generation
    build_info: _Word = ""


class _Version(Shape):
    version: _Word


class Listing:
    """The models of one server. `server` is VLLM, LLAMA_CPP, LM_STUDIO, or '' until a list told."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url
        self._root = _API.sub("", url)
        self.prefix = "" if self._root != url else "/v1"  # of the protocol's paths, after `url`
        self._known: dict[str, ModelInfo] = {}
        self._asides: dict[str, object] = {}
        self._asking = asyncio.Lock()
        self.server = ""

    async def models(self) -> list[ModelInfo]:
        listed = self._read(await get_json(self._http, f"{self.prefix}/models"))
        self.server = next((_OWNERS[m.owned_by] for m in listed if m.owned_by in _OWNERS), self.server)
        contexts = any(model.max_model_len or model.meta.n_ctx for model in listed)
        details: dict[str, _Model] = {}
        if listed and (self.server == LM_STUDIO or (not self.server and not contexts)):
            details = await self._lm_studio()
        context = 0
        if len(listed) == 1 and not contexts and self.server in ("", LLAMA_CPP):
            props = await self._props()
            context = props.default_generation_settings.n_ctx if props else 0
        infos = [self._info(model, details.get(model.id), context) for model in listed]
        self._known = {info.name: info for info in infos}
        return infos

    async def find(self, model: str) -> tuple[ModelInfo | None, list[str]]:
        """A model as it was listed last, and the names of all. The server is asked again for a new name."""
        if model not in self._known:
            await self.models()
        return self._known.get(model), sorted(self._known)

    async def version(self) -> str:
        """'' when the server does not tell. Never raises."""
        if not self._known:
            with suppress(EngineError):
                await self.models()
        if self.server == LLAMA_CPP:
            props = await self._props()
            return props.build_info if props else ""
        if self.server == VLLM:
            with suppress(ValidationError):
                return _Version.model_validate(await self._aside("/version")).version
        return ""

    async def _lm_studio(self) -> dict[str, _Model]:
        """LM Studio's own list by name; empty when the server is another one."""
        with suppress(ValidationError):
            own = _Models.model_validate(await self._aside("/api/v0/models")).data
            if any(model.state in _STATES for model in own):
                self.server = LM_STUDIO
                return {model.id: model for model in own}
        return {}

    async def _props(self) -> _Props | None:
        with suppress(ValidationError):
            props = _Props.model_validate(await self._aside("/props"))
            self.server = LLAMA_CPP
            return props
        return None

    async def _aside(self, path: str) -> object:
        """The answer at a path that only some servers have, asked for once; None when there is none."""
        async with self._asking:
            if path not in self._asides:
                self._asides[path] = None
                with suppress(EngineError, TimeoutError):
                    async with asyncio.timeout(ASIDE_SECONDS):
                        self._asides[path] = await get_json(self._http, self._root + path)
            return self._asides[path]

    def _info(self, model: _Model, detail: _Model | None, context: int) -> ModelInfo:
        if self.server == LM_STUDIO:
            return _of_lm_studio(model.id, detail)
        running = {VLLM: True, LLAMA_CPP: model.status.value in ("", "loaded")}
        return ModelInfo(
            name=model.id,
            size=model.meta.size,
            context=model.max_model_len or model.meta.n_ctx or context or model.max_context_length,
            parameters=model.meta.n_params / 1e9,
            capabilities=frozenset({"completion"}),
            loaded=running.get(self.server, False),
        )

    def _read(self, data: object) -> list[_Model]:
        try:
            read = _Models.model_validate(data)
        except ValidationError as exc:
            raise EngineFault("engine_not_protocol", url=self._url) from exc
        if read.error is not None:  # LM Studio answers 200 to any path
            raise EngineFault("engine_not_protocol", url=self._url)
        return read.data


def _of_lm_studio(name: str, detail: _Model | None) -> ModelInfo:
    known = detail or _Model(id=name)
    loaded = known.state == "loaded"
    assumed = min(known.max_context_length or LM_STUDIO_CONTEXT, LM_STUDIO_CONTEXT)
    return ModelInfo(
        name=name,
        context=(known.loaded_context_length if loaded else 0) or assumed,
        capabilities=frozenset({"embedding" if known.type == "embeddings" else "completion"}),
        loaded=loaded,
    )
