"""Which models this machine has already: those of Ollama and those in the embedded engine's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from review_agent.agent.advisor import NUM_CTX, Fit, fit_of, guessed_kv, need
from review_agent.agent.engine import is_demo
from review_agent.agent.errors import EngineError
from review_agent.agent.models import TrustClass
from review_agent.agent.settings import Settings
from review_agent.tools.backends import ModelInfo
from review_agent.tools.catalog import find
from review_agent.tools.endpoints import Endpoint, listening, make_client, make_endpoint, ollama_url
from review_agent.tools.hardware import Hardware
from review_agent.tools.model_store import StoredModel, default_folder, list_models

if TYPE_CHECKING:
    from review_agent.tools.backends.ollama import OllamaBackend

# Bytes per 10^9 parameters of a 4-bit file: tells the parameters of a model that does not say them.
_BYTES_PER_BILLION = 0.61e9
_ASK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class OllamaHere:
    """An Ollama server as far as it was asked. `models` is None when nothing answered.

    Not `contacted`: it is on another machine that the user did not allow. `problem` is what else went wrong.
    """

    endpoint: Endpoint
    contacted: bool = True
    models: tuple[ModelInfo, ...] | None = None
    problem: EngineError | None = None

    @property
    def answers(self) -> bool:
        return self.models is not None

    def has(self, tag: str) -> bool:
        """Whether it has that model already."""
        wanted = tag if ":" in tag else f"{tag}:latest"
        return any(model.name == wanted for model in self.models or ())


@dataclass(frozen=True, slots=True)
class Installed:
    """A model on this machine. `engine` is "ollama" or "embedded".

    `size` in bytes and `context` in tokens, 0 = unknown. `fit` is None where the size is unknown.
    `remote`: it runs elsewhere and is never used.
    """

    name: str
    engine: str
    size: int
    context: int
    fit: Fit | None
    demo: bool = False
    remote: bool = False


def models_folder(settings: Settings) -> Path:
    return Path(settings.models_path).expanduser() if settings.models_path else default_folder()


def ollama_endpoint(settings: Settings, environ: Mapping[str, str]) -> Endpoint:
    """Where a run would look for Ollama."""
    own = settings.base_url if settings.backend == "ollama" else ""
    return make_endpoint(own or ollama_url(environ.get("OLLAMA_HOST")), settings.allowed_hosts)


async def ask_ollama(settings: Settings, environ: Mapping[str, str], *, details: bool = False) -> OllamaHere:
    """Ask for its models, with `details` each one's context, too. Never raises an EngineError."""
    from review_agent.tools.backends.ollama import OllamaBackend

    endpoint = ollama_endpoint(settings, environ)
    if endpoint.trust is TrustClass.CLOUD:
        return OllamaHere(endpoint, contacted=False)
    if endpoint.trust is TrustClass.LOOPBACK and not listening(endpoint):
        return OllamaHere(endpoint)
    key = environ.get(settings.api_key_env, "") if settings.api_key_env else ""
    backend = OllamaBackend(make_client(endpoint, stall_seconds=_ASK_SECONDS, api_key=key), endpoint)
    try:
        listed = await backend.models()
        if details:
            listed = [await _described(backend, model) for model in listed]
        return OllamaHere(endpoint, models=tuple(listed))
    except EngineError as exc:
        return OllamaHere(endpoint, problem=exc)
    finally:
        await backend.aclose()


async def _described(backend: OllamaBackend, model: ModelInfo) -> ModelInfo:
    if model.remote:
        return model
    try:
        return await backend.describe(model.name)
    except EngineError:  # gone meanwhile, or damaged: what the list says is still true
        return model


def installed(ollama: OllamaHere, stored: Sequence[StoredModel], hardware: Hardware) -> list[Installed]:
    """Every model of both, by name."""
    rows = [_of_ollama(model, hardware) for model in ollama.models or ()]
    rows += [_of_store(model, hardware) for model in stored]
    return sorted(rows, key=lambda row: (row.engine, row.name))


def stored(settings: Settings) -> list[StoredModel]:
    return list_models(models_folder(settings))


def fit_by_size(size: int, kv_bytes_per_token: int, hardware: Hardware) -> tuple[int, Fit]:
    """Memory needed and verdict of a model of which the file is known; a cache size of 0 is guessed."""
    needed = need(size, kv_bytes_per_token or guessed_kv(size / _BYTES_PER_BILLION), NUM_CTX)
    return needed, fit_of(needed, hardware)


def _of_ollama(model: ModelInfo, hardware: Hardware) -> Installed:
    known = find(model.name)
    kv = known.kv_bytes_per_token if known else guessed_kv(model.parameters)
    runs_here = bool(model.size) and not model.remote
    fit = fit_by_size(model.size, kv, hardware)[1] if runs_here else None
    demo = is_demo(model.name, model.parameters)
    return Installed(model.name, "ollama", model.size, model.context, fit, demo, model.remote)


def _of_store(model: StoredModel, hardware: Hardware) -> Installed:
    fit = fit_by_size(model.size, model.kv_bytes_per_token, hardware)[1]
    demo = is_demo(model.name, model.parameters)
    return Installed(model.name, "embedded", model.size, model.context, fit, demo)
