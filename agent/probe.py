"""Engines: who stands at which address, and with which models."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from pydantic import Field

from review_agent.agent.advisor import Fit
from review_agent.agent.engine import EMBEDDING_NAME, LM_STUDIO, is_demo
from review_agent.agent.errors import (
    ConfigError,
    EngineError,
    EngineFault,
    ModelMissing,
    ModelUnavailable,
    ReviewError,
)
from review_agent.agent.installed import (
    OllamaHere,
    fit_by_size,
    installed,
    models_folder,
    ollama_endpoint,
    stored,
)
from review_agent.agent.models import TrustClass
from review_agent.agent.settings import Settings
from review_agent.tools.backends import Backend, ModelInfo
from review_agent.tools.backends.ollama import OllamaBackend
from review_agent.tools.backends.openai import OpenAIBackend
from review_agent.tools.backends.wire import Shape, get_json
from review_agent.tools.endpoints import Endpoint, make_client, make_endpoint
from review_agent.tools.hardware import Hardware

PROBE_SECONDS = 2  # for all that one server is asked; all servers are asked at once
_NOT_THE_PROTOCOL = frozenset({"engine_not_protocol", "engine_broken_stream", "engine_redirects"})
_NEEDS_KEY = (401, 403)
_PRODUCTS = {"LM Studio": "lmstudio", "llama.cpp": "llamacpp", "vLLM": "vllm"}


class State(StrEnum):
    """What stands at an address; the last two are the embedded engine's."""

    ANSWERS = "answers"
    ABSENT = "absent"
    NOT_ASKED = "not_asked"  # on another machine that the user's configuration does not trust
    FOREIGN = "not_a_model_server"
    FAILED = "failed"
    INSTALLED = "installed"
    NOT_INSTALLED = "not_installed"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server may be. `protocol` is ollama, openai or auto; `own`: a run would look there."""

    name: str
    url: str
    protocol: str = "openai"
    own: bool = False


PLACES = (
    Place("lmstudio", LM_STUDIO),
    Place("llamacpp", "http://127.0.0.1:8080"),
    Place("vllm", "http://127.0.0.1:8000"),
)


@dataclass(frozen=True, slots=True)
class Model:
    """`reason` says why no run takes it by itself, '' = usable. `loaded_context` 0 = unknown."""

    name: str
    size: int
    context: int
    capabilities: tuple[str, ...]
    fit: Fit | None
    loaded: bool = False
    loaded_context: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """An engine, or the place where one could be. The embedded engine has a `folder` and no `url`."""

    name: str
    state: State
    url: str = ""
    folder: str = ""
    own: bool = False
    version: str = ""
    models: tuple[Model, ...] = ()
    error: ReviewError | None = None

    @property
    def usable(self) -> bool:
        return any(not model.reason for model in self.models)


def places_of(settings: Settings, environ: Mapping[str, str], usual: Sequence[Place]) -> list[Place]:
    """The usual addresses and, first, the one that the configuration names; each address once."""
    places: list[Place] = []
    if settings.base_url and settings.backend != "ollama":
        protocol = "openai" if settings.backend == "openai" else "auto"
        name = next((place.name for place in usual if _same(place.url, settings.base_url)), "server")
        places.append(Place(name, settings.base_url, protocol, own=True))
    with suppress(ConfigError):  # an OLLAMA_HOST that is no address: a run says so, if it would use it
        ollama = ollama_endpoint(settings, environ).url
        if not any(_same(ollama, other.url) for other in places):
            own = settings.backend in ("auto", "ollama") and not places
            places.append(Place("ollama", ollama, "ollama", own=own))
    for place in usual:
        if not any(_same(place.url, other.url) for other in places):
            own = settings.backend == "openai" and not settings.base_url and place.url == LM_STUDIO
            places.append(Place(place.name, place.url, place.protocol, own=own))
    return places


def _same(one: str, other: str) -> bool:
    return _bare(one) == _bare(other)


def _bare(url: str) -> str:
    return url.rstrip("/").removesuffix("/v1").replace("//localhost", "//127.0.0.1")


async def probe(place: Place, settings: Settings, environ: Mapping[str, str], hardware: Hardware) -> Found:
    try:
        endpoint = make_endpoint(place.url, settings.allowed_hosts)
    except ConfigError as exc:
        return Found(place.name, State.FAILED, place.url, own=place.own, error=exc)
    nothing = Found(place.name, State.ABSENT, endpoint.url, own=place.own)
    if endpoint.trust is TrustClass.CLOUD:
        return Found(place.name, State.NOT_ASKED, endpoint.url, own=place.own)
    key = environ.get(settings.api_key_env, "") if place.own and settings.api_key_env else ""
    for protocol in _protocols(place):
        found = await _ask(place, protocol, endpoint, key, hardware)
        if found.state is not State.FOREIGN:
            return found
        nothing = found
    return nothing


def _protocols(place: Place) -> tuple[str, ...]:
    if place.protocol != "auto":
        return (place.protocol,)
    return ("openai",) if place.url.rstrip("/").endswith("/v1") else ("ollama", "openai")


async def _ask(place: Place, protocol: str, endpoint: Endpoint, key: str, hardware: Hardware) -> Found:
    backend = _backend(protocol, endpoint, key)
    await asyncio.sleep(0)  # clients take long to make: all of them are there before any clock starts
    until = asyncio.get_running_loop().time() + PROBE_SECONDS
    found = Found(place.name, State.ABSENT, endpoint.url, own=place.own)
    try:
        async with asyncio.timeout_at(until):
            listed = await backend.models()
        version = await _version(backend, until)
        if protocol == "ollama" and not listed and not version:  # something that says {} to every question
            return replace(found, state=State.FOREIGN)
        infos = await asyncio.gather(*(_described(backend, info, until) for info in listed))
    except (EngineError, TimeoutError) as exc:
        state, error = _trouble(exc, endpoint)
        return replace(found, state=state, error=error)
    finally:
        await backend.aclose()
    loaded = any(info.loaded for info in infos)
    contexts = await _loaded_contexts(endpoint, key, until) if protocol == "ollama" and loaded else {}
    models = tuple(_model(info, contexts.get(info.name, 0), endpoint, hardware) for info in infos)
    name = _product(backend) or place.name
    return replace(found, name=name, state=State.ANSWERS, version=version, models=models)


def _backend(protocol: str, endpoint: Endpoint, key: str) -> OllamaBackend | OpenAIBackend:
    client = make_client(endpoint, stall_seconds=PROBE_SECONDS, api_key=key, connect_seconds=PROBE_SECONDS)
    return OllamaBackend(client, endpoint) if protocol == "ollama" else OpenAIBackend(client, endpoint)


def _product(backend: OllamaBackend | OpenAIBackend) -> str:
    """What the server says it is: that counts for more than the port it was found at."""
    return _PRODUCTS.get(backend.server, "") if isinstance(backend, OpenAIBackend) else "ollama"


def _trouble(exc: EngineError | TimeoutError, endpoint: Endpoint) -> tuple[State, ReviewError | None]:
    if isinstance(exc, ModelUnavailable):
        return State.ABSENT, None
    if isinstance(exc, TimeoutError) or exc.key == "engine_stalled":
        silent = EngineFault("doctor_problems.server_silent", url=endpoint.url, seconds=PROBE_SECONDS)
        return State.FAILED, silent
    status = exc.fields.get("status")
    refused = isinstance(status, int) and 400 <= status < 500 and status not in _NEEDS_KEY
    if refused or isinstance(exc, ModelMissing) or exc.key in _NOT_THE_PROTOCOL:
        return State.FOREIGN, None
    return State.FAILED, exc


async def _version(backend: OllamaBackend | OpenAIBackend, until: float) -> str:
    with suppress(EngineError, TimeoutError):
        async with asyncio.timeout_at(until):
            return await backend.version()
    return ""


async def _described(backend: Backend, listed: ModelInfo, until: float) -> ModelInfo:
    """With the details that the list of an old server leaves out, where there is time to ask for them."""
    if not listed.remote and not (listed.context and listed.capabilities):
        with suppress(EngineError, TimeoutError):
            async with asyncio.timeout_at(until):
                return await backend.describe(listed.name)
    return listed


class _Running(Shape):
    name: str
    context_length: int = 0


class _AllRunning(Shape):
    models: list[_Running] = Field(default_factory=list)


async def _loaded_contexts(endpoint: Endpoint, key: str, until: float) -> dict[str, int]:
    """The context that Ollama gave to each model in memory; a backend tells only which those are."""
    client = make_client(endpoint, stall_seconds=PROBE_SECONDS, api_key=key)
    with suppress(EngineError, TimeoutError, ValueError):  # ValueError: not the shape that we know
        async with asyncio.timeout_at(until), client:
            running = _AllRunning.model_validate(await get_json(client, "/api/ps"))
            return {model.name: model.context_length for model in running.models}
    return {}


def _model(info: ModelInfo, loaded_context: int, endpoint: Endpoint, hardware: Hardware) -> Model:
    (row,) = installed(OllamaHere(endpoint, models=(info,)), (), hardware)
    return Model(
        name=info.name,
        size=info.size,
        context=info.context,
        capabilities=tuple(sorted(info.capabilities)),
        fit=row.fit,
        loaded=info.loaded,
        loaded_context=loaded_context,
        reason=_reason(info),
    )


def _reason(info: ModelInfo) -> str:
    if info.remote:
        return "remote"
    if EMBEDDING_NAME.search(info.name) or "embedding" in info.capabilities - {"completion"}:
        return "embedding"
    if info.capabilities and "completion" not in info.capabilities:
        return "no_completion"
    return "demo" if is_demo(info.name, info.parameters) else ""


def embedded_engine(settings: Settings, hardware: Hardware) -> Found:
    from importlib.metadata import PackageNotFoundError, version

    from review_agent.tools.backends import embedded

    there = ""
    with suppress(PackageNotFoundError):
        there = version("xllamacpp")
    models = tuple(
        Model(
            name=model.name,
            size=model.size,
            context=model.context,
            capabilities=("completion",),
            fit=fit_by_size(model.size, model.kv_bytes_per_token, hardware)[1],
            reason="demo" if is_demo(model.name, model.parameters) else "",
        )
        for model in stored(settings)
    )
    state = State.INSTALLED if embedded.installed() else State.NOT_INSTALLED
    folder = str(models_folder(settings))
    return Found(
        "embedded", state, folder=folder, own=settings.backend in ("auto", "embedded"), version=there,
        models=models,
    )  # fmt: skip
