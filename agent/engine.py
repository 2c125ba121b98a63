"""Which model server and which model a run takes, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from review_agent.agent.cloud import CloudSide, cloud_side, effective_mode
from review_agent.agent.errors import EndpointRefused, EngineError, ModelMissing, ModelUnavailable
from review_agent.agent.models import EngineInfo, Note, TrustClass
from review_agent.agent.settings import DEFAULTS, Settings
from review_agent.agent.sides import named_endpoint
from review_agent.agent.wording import sentence
from review_agent.tools import endpoints
from review_agent.tools.backends import CLOUD_CONTEXT, Backend, ModelInfo
from review_agent.tools.endpoints import Endpoint, listening, make_client, make_endpoint, ollama_url
from review_agent.tools.proxies import peer_of

if TYPE_CHECKING:
    from review_agent.tools.backends.ollama import OllamaBackend
    from review_agent.tools.hardware import Hardware
    from review_agent.tools.model_store import StoredModel

DEMO_CONTEXT = 4096
LM_STUDIO = "http://127.0.0.1:1234/v1"
_DEMO_NAME = re.compile(r"smollm2?[:-]135m", re.I)
_DEMO_BELOW_B = 0.3  # billions of parameters: SmolLM2-135M under any name
EMBEDDING_NAME = re.compile(r"embed|bge-|minilm|rerank", re.I)
_CODE = re.compile(r"coder|code|devstral|gpt-oss|qwen3|glm-4", re.I)


@dataclass(frozen=True, slots=True)
class Engine:
    """An open local engine, and the cloud beside it; `aclose` it. `notes` name what was chosen and why.

    Without a local engine `backend` is None, and `model` the cloud's.
    """

    backend: Backend | None
    model: ModelInfo
    info: EngineInfo
    notes: tuple[Note, ...] = ()
    cloud: CloudSide | None = None

    async def aclose(self) -> None:
        if self.backend is not None:
            await self.backend.aclose()

    @property
    def cloud_key(self) -> str:
        """What identifies the cloud's model in the cache key; '' without a cloud."""
        return self.cloud.model_key if self.cloud is not None else ""

    @property
    def demo(self) -> bool:
        return is_demo(self.model.name, self.model.parameters)


def is_demo(name: str, parameters: float) -> bool:
    """Whether a model can only show what a report looks like. `parameters` in billions, 0 = unknown."""
    return bool(_DEMO_NAME.search(name)) or 0 < parameters < _DEMO_BELOW_B


def preflight(settings: Settings, environ: Mapping[str, str]) -> None:
    """Raise what `open_engine` would when nothing listens, before anything heavy is imported or read."""
    mode = effective_mode(settings)
    if mode != "local":
        cloud_side(settings, environ)
    if mode == "cloud":
        return
    try:
        _preflight_local(settings, environ)
    except (ModelUnavailable, ModelMissing) as exc:
        raise _without_local(exc, settings) if mode == "hybrid" else exc from exc


def _preflight_local(settings: Settings, environ: Mapping[str, str]) -> None:
    if _is_embedded(settings):
        _stored(settings)
        return
    endpoint = _endpoint(settings, environ)
    if endpoint.trust is TrustClass.LOOPBACK and not listening(endpoint):
        if settings.base_url:
            raise ModelUnavailable("engine_unavailable", url=endpoint.url)
        if settings.backend != "auto" or not _own_models(settings):
            raise ModelUnavailable("no_engine", url=endpoint.url)


def confine(settings: Settings, environ: Mapping[str, str]) -> None:
    """Hold this process to what a run may use: from now on nothing else can be reached."""
    elsewhere = _is_embedded(settings) or settings.backend == "anthropic"
    local = () if elsewhere else (_named(settings, environ),)
    if effective_mode(settings) == "local":
        agent = named_endpoint(settings)
        endpoints.confine(local if agent is None else (*local, agent))
        return
    side = cloud_side(settings, environ)
    endpoints.confine(local, side.endpoint, peer_of(side.proxy) if side.proxy else None)


async def open_engine(settings: Settings, environ: Mapping[str, str]) -> Engine:
    """The engine of a run. Raises an EngineError that says how to get one.

    Hybrid without its local engine is an error, never a reason to ask the cloud instead; in mode cloud it is
    a note, and what must not go there fails.
    """
    mode = effective_mode(settings)
    if mode == "local":
        return await _open_local(settings, environ)
    side = cloud_side(settings, environ)
    if settings.backend == "anthropic":
        return _cloud_only(side, ())
    try:
        engine = await _open_local(settings, environ)
    except (ModelUnavailable, ModelMissing) as exc:
        if mode == "hybrid":
            raise _without_local(exc, settings) from exc
        return _cloud_only(side, (Note("no_local_engine", {"reason": sentence(exc, settings.lang)}),))
    info = replace(engine.info, mode=mode, cloud_host=side.endpoint.host, cloud_model=side.model)
    return replace(engine, info=info, cloud=side)


def _without_local(exc: EngineError, settings: Settings) -> ModelUnavailable:
    return ModelUnavailable("errors_cloud.local_needed", reason=sentence(exc, settings.lang))


def _cloud_only(side: CloudSide, notes: tuple[Note, ...]) -> Engine:
    host, model = side.endpoint.host, side.model
    info = EngineInfo("cloud", "anthropic", model, "", cloud_host=host, cloud_model=model)
    return Engine(None, ModelInfo(model, context=CLOUD_CONTEXT, remote=True), info, notes, side)


async def _open_local(settings: Settings, environ: Mapping[str, str]) -> Engine:
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
    backend = await reach(settings, environ)
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
    return [model for model in own if not is_demo(model.name, model.parameters)]


def _best_own(own: list[StoredModel]) -> StoredModel:
    chosen = _best([_info_of(model) for model in own])
    return next(model for model in own if model.name == chosen.name)


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
        slots=settings.concurrency or _slots(),
        stall_seconds=settings.request_timeout,
    )
    notes = () if settings.model else (Note("own_model_chosen", {"model": model.name}),)
    return Engine(backend, model, EngineInfo("local", backend.name, model.name, model.digest), notes)


def _slots() -> int:
    """A processor is busy with one prompt, and a second slot would have to read the common prefix again."""
    from review_agent.tools.hardware import detect

    hardware = detect()
    return 2 if hardware.gpus or hardware.unified else 1


def _hurried(model: ModelInfo) -> ModelInfo:
    """The demo model in small bites: reading costs the square of the context; a demo must end in minutes."""
    if not is_demo(model.name, model.parameters):
        return model
    return replace(model, context=min(model.context or DEMO_CONTEXT, DEMO_CONTEXT))


def _named(settings: Settings, environ: Mapping[str, str]) -> Endpoint:
    default = LM_STUDIO if settings.backend == "openai" else ollama_url(environ.get("OLLAMA_HOST"))
    return make_endpoint(settings.base_url or default, settings.allowed_hosts)


def _endpoint(settings: Settings, environ: Mapping[str, str]) -> Endpoint:
    endpoint = _named(settings, environ)
    if endpoint.trust is TrustClass.CLOUD:
        raise EndpointRefused("endpoint_not_local", url=endpoint.url, host=endpoint.host)
    return endpoint


async def reach(settings: Settings, environ: Mapping[str, str]) -> Backend:
    """The server that the settings name, by the protocol that it speaks; close it. Raises EngineError."""
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
    """Whether an address given without a backend is an Ollama server. ModelUnavailable goes through.

    LM Studio answers any path with 200 and an error object, so it is the version that tells.
    """
    if endpoint.url.endswith("/v1"):
        return False
    probe = _ollama(endpoint, settings, environ)
    try:
        return bool(await probe.version())
    except ModelUnavailable:
        raise
    except EngineError:
        return False
    finally:
        await probe.aclose()


def _ollama(endpoint: Endpoint, settings: Settings, environ: Mapping[str, str]) -> OllamaBackend:
    from platformdirs import user_state_path

    from review_agent.tools.backends.ollama import OllamaBackend

    key = _key(settings, environ)
    client = make_client(endpoint, stall_seconds=settings.request_timeout, api_key=key)
    return OllamaBackend(
        client,
        endpoint,
        keep_alive=settings.keep_alive,
        unload=settings.keep_alive == DEFAULTS.keep_alive,  # who chose a time wants the model kept for it
        state=user_state_path("review-agent"),
    )


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
        if listed.remote or EMBEDDING_NAME.search(listed.name) or is_demo(listed.name, listed.parameters):
            continue
        model = await backend.describe(listed.name)
        if not model.remote and (not model.capabilities or "completion" in model.capabilities):
            usable.append(model)
    if not usable:
        names = ", ".join(sorted(model.name for model in installed)) or "-"
        raise ModelMissing("no_usable_model", url=backend.endpoint.url, installed=names)
    best = _best(usable)
    note = Note("model_chosen", {"model": best.name, "count": len(usable)})
    return best, (note,)


def _rank(model: ModelInfo, hardware: Hardware) -> tuple[bool, bool, bool, bool, bool, float, str]:
    """Best last: loaded already, where the server tells no sizes; fits this machine; answers in bearable
    time; is large enough to find something; is made for code. Then the larger, of those too large the
    smaller; then by name.
    """
    from review_agent.agent.advisor import PATIENT_B, USEFUL_B, Fit, fit_of, guessed_kv, need
    from review_agent.tools.catalog import find

    known = find(model.name)
    billions = model.parameters or model.size / 6e8
    fit = fit_of(need(model.size, known.kv_bytes_per_token if known else guessed_kv(billions)), hardware)
    if fit is Fit.NO:
        return (False, False, False, False, False, -billions, model.name)
    bearable = fit is Fit.GPU or (known.active_b if known else billions) <= PATIENT_B
    ready = model.loaded and not model.size  # where sizes are known, the choice does not depend on the moment
    return (ready, True, bearable, billions >= USEFUL_B, bool(_CODE.search(model.name)), billions, model.name)


def _best(models: Sequence[ModelInfo]) -> ModelInfo:
    from review_agent.tools.hardware import detect

    hardware = detect()
    return max(models, key=lambda model: _rank(model, hardware))
