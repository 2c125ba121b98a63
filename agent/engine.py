"""Which model server and which model a run takes, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from review_agent.agent.errors import EndpointRefused, EngineError, ModelMissing, ModelUnavailable, UsageError
from review_agent.agent.models import EngineInfo, Note, TrustClass
from review_agent.agent.settings import Settings
from review_agent.tools.backends import Backend, ModelInfo
from review_agent.tools.endpoints import Endpoint, listening, make_client, make_endpoint, ollama_url

if TYPE_CHECKING:
    from review_agent.tools.model_store import StoredModel

EMBEDDED_SLOTS = 2
DEMO_CONTEXT = 4096
LM_STUDIO = "http://127.0.0.1:1234/v1"
DEMO_MODELS = re.compile(r"smollm2?[:-]135m", re.I)
_EMBEDDING = re.compile(r"embed|bge-|minilm|rerank", re.I)
_CODE = re.compile(r"coder|code|devstral|gpt-oss|qwen3|glm-4", re.I)


@dataclass(frozen=True, slots=True)
class Engine:
    """An open engine; close its backend. `notes` name what was chosen and why."""

    backend: Backend
    model: ModelInfo
    info: EngineInfo
    notes: tuple[Note, ...] = ()

    @property
    def demo(self) -> bool:
        return bool(DEMO_MODELS.search(self.model.name))


def preflight(settings: Settings, environ: Mapping[str, str]) -> None:
    """Raise what `open_engine` would when nothing listens, before anything heavy is imported or read."""
    _refuse_unbuilt(settings)
    if _is_embedded(settings):
        _stored(settings)
        return
    endpoint = _endpoint(settings, environ)
    if endpoint.trust is TrustClass.LOOPBACK and not listening(endpoint):
        if settings.base_url:
            raise ModelUnavailable("engine_unavailable", url=endpoint.url)
        if settings.backend != "auto" or not _own_models(settings):
            raise ModelUnavailable("no_engine", url=endpoint.url)


async def open_engine(settings: Settings, environ: Mapping[str, str]) -> Engine:
    """The engine of a run. Raises an EngineError that says how to get one."""
    _refuse_unbuilt(settings)
    if _is_embedded(settings):
        return _embedded(settings, _stored(settings))
    try:
        return await _served(settings, environ)
    except (ModelUnavailable, ModelMissing):
        own = _own_models(settings) if settings.backend == "auto" and not settings.base_url else []
        if not own:
            raise
    return _embedded(settings, _best_own(own))


async def _served(settings: Settings, environ: Mapping[str, str]) -> Engine:
    """An engine behind HTTP."""
    backend = await _backend(settings, environ)
    try:
        model, notes = await _model(backend, settings.model)
    except BaseException:
        await backend.aclose()
        raise
    info = EngineInfo("local", backend.name, model.name, model.digest)
    return Engine(backend, _hurried(model), info, notes)


def _is_embedded(settings: Settings) -> bool:
    """Asked for by name, or by a model that can only be a file."""
    if settings.backend == "embedded":
        return True
    return settings.backend == "auto" and not settings.base_url and settings.model.endswith(".gguf")


def _models_folder(settings: Settings) -> Path:
    from review_agent.tools.model_store import default_folder

    return Path(settings.models_path).expanduser() if settings.models_path else default_folder()


def _stored(settings: Settings) -> StoredModel:
    """The model file that `--backend embedded` takes. Never the demo model unless it is named."""
    from review_agent.tools.model_store import find_model

    if settings.model:
        return find_model(_models_folder(settings), settings.model)
    own = _own_models(settings)
    if not own:
        raise ModelMissing("no_own_model", folder=_models_folder(settings))
    return _best_own(own)


def _own_models(settings: Settings) -> list[StoredModel]:
    """The user's own model files that `auto` may take: the one that is named, else all but the demo model."""
    from review_agent.tools.model_store import list_models

    own = list_models(_models_folder(settings))
    if settings.model:
        return [model for model in own if model.name == settings.model]
    return [model for model in own if not DEMO_MODELS.search(model.name)]


def _best_own(own: list[StoredModel]) -> StoredModel:
    memory = _memory_bytes()
    return max(own, key=lambda model: _rank(_info_of(model), memory))


def _info_of(stored: StoredModel) -> ModelInfo:
    return ModelInfo(
        name=stored.name,
        digest=stored.digest,
        size=stored.size,
        context=stored.context,
        parameters=stored.parameters,
        capabilities=frozenset({"completion"}),
    )


def _embedded(settings: Settings, stored: StoredModel) -> Engine:
    from review_agent.agent.plan import choose_context
    from review_agent.tools.backends.embedded import EmbeddedBackend

    model = _hurried(_info_of(stored))
    backend = EmbeddedBackend(
        stored.file,
        model,
        context=choose_context(model.context, settings.num_ctx or None),
        slots=settings.concurrency or EMBEDDED_SLOTS,
        stall_seconds=settings.request_timeout,
    )
    notes = () if settings.model else (Note("own_model_chosen", {"model": model.name}),)
    return Engine(backend, model, EngineInfo("local", backend.name, model.name, model.digest), notes)


def _hurried(model: ModelInfo) -> ModelInfo:
    """The demo model in small bites: reading costs the square of the context; a demo must end in minutes."""
    if not DEMO_MODELS.search(model.name):
        return model
    return replace(model, context=min(model.context or DEMO_CONTEXT, DEMO_CONTEXT))


def _refuse_unbuilt(settings: Settings) -> None:
    if settings.mode in ("hybrid", "cloud") or settings.backend == "anthropic":
        wanted = settings.mode if settings.mode in ("hybrid", "cloud") else settings.backend
        raise UsageError("engine_not_built", engine=wanted)


def _endpoint(settings: Settings, environ: Mapping[str, str]) -> Endpoint:
    default = LM_STUDIO if settings.backend == "openai" else ollama_url(environ.get("OLLAMA_HOST"))
    return _trusted(settings.base_url or default, settings)


async def _backend(settings: Settings, environ: Mapping[str, str]) -> Backend:
    endpoint = _endpoint(settings, environ)
    if settings.backend == "openai":
        return _openai(endpoint, settings, environ)
    if settings.backend == "ollama" or not settings.base_url:
        return await _reachable(_ollama(endpoint, settings, environ))
    if await _speaks_ollama(endpoint, settings, environ):
        return _ollama(endpoint, settings, environ)
    return _openai(endpoint, settings, environ)


async def _reachable(backend: Backend) -> Backend:
    try:
        await backend.models()
    except ModelUnavailable as exc:
        await backend.aclose()
        raise ModelUnavailable("no_engine", url=backend.endpoint.url) from exc
    except BaseException:
        await backend.aclose()
        raise
    return backend


async def _speaks_ollama(endpoint: Endpoint, settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether an address given without a backend is an Ollama server. ModelUnavailable goes through."""
    if endpoint.url.endswith("/v1"):
        return False
    probe = _ollama(endpoint, settings, environ)
    try:
        await probe.models()
    except ModelUnavailable:
        raise
    except EngineError:
        return False
    finally:
        await probe.aclose()
    return True


def _trusted(url: str, settings: Settings) -> Endpoint:
    endpoint = make_endpoint(url, settings.allowed_hosts)
    if endpoint.trust is TrustClass.CLOUD:
        raise EndpointRefused("endpoint_not_local", url=endpoint.url, host=endpoint.host)
    return endpoint


def _ollama(endpoint: Endpoint, settings: Settings, environ: Mapping[str, str]) -> Backend:
    from review_agent.tools.backends.ollama import OllamaBackend

    key = _key(settings, environ)
    client = make_client(endpoint, stall_seconds=settings.request_timeout, api_key=key)
    return OllamaBackend(client, endpoint, keep_alive=settings.keep_alive)


def _openai(endpoint: Endpoint, settings: Settings, environ: Mapping[str, str]) -> Backend:
    from review_agent.tools.backends.openai import OpenAIBackend

    key = _key(settings, environ)
    return OpenAIBackend(make_client(endpoint, stall_seconds=settings.request_timeout, api_key=key), endpoint)


def _key(settings: Settings, environ: Mapping[str, str]) -> str:
    """Only a variable that the user's configuration names is ever sent."""
    return environ.get(settings.api_key_env, "") if settings.api_key_env else ""


async def _model(backend: Backend, wanted: str) -> tuple[ModelInfo, tuple[Note, ...]]:
    if wanted:
        model = await backend.describe(wanted)
        if model.remote:
            raise EndpointRefused("model_is_remote", model=model.name)
        if model.capabilities and "completion" not in model.capabilities:
            raise ModelMissing("model_cannot_chat", model=model.name)
        return model, ()
    installed = await backend.models()
    usable: list[ModelInfo] = []
    for listed in installed:
        if listed.remote or _EMBEDDING.search(listed.name) or DEMO_MODELS.search(listed.name):
            continue
        model = await backend.describe(listed.name)
        if not model.remote and (not model.capabilities or "completion" in model.capabilities):
            usable.append(model)
    if not usable:
        names = ", ".join(sorted(model.name for model in installed)) or "-"
        raise ModelMissing("no_usable_model", url=backend.endpoint.url, installed=names)
    memory = _memory_bytes()
    best = max(usable, key=lambda model: _rank(model, memory))
    note = Note("model_chosen", {"model": best.name, "count": len(usable)})
    return best, (note,)


def _rank(model: ModelInfo, memory: int) -> tuple[bool, bool, float, str]:
    """Fits this machine, then made for code, then larger; of those too large the smallest; then by name."""
    size = model.parameters or model.size / 6e8
    if model.size * 1.2 + 1e9 > memory:
        return (False, False, -size, model.name)
    return (True, bool(_CODE.search(model.name)), size, model.name)


def _memory_bytes() -> int:
    """Main memory a model may take. Video memory is not counted here: a model that fits it fits here too,
    on the machines this is for."""
    import os

    try:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 0.8)
    except (ValueError, OSError):
        return 8 * 10**9
