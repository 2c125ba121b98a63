"""How a model that the user names is to be fetched. Pure: names and facts come in, a plan goes out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from review_agent.agent.errors import EndpointRefused, ModelUnavailable, UsageError
from review_agent.tools.catalog import CatalogModel, find, load
from review_agent.tools.ollama_pull import is_cloud

_PREFIXES = {"huggingface": ("hf:", "huggingface:"), "modelscope": ("modelscope:", "ms:")}
_ADDRESS = re.compile(r"https?://", re.I)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.I)
_STORE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")  # what tools.model_store accepts
_SPLIT = re.compile(r"-\d{5}-of-\d{5}$")


class Way(StrEnum):
    WHEEL = "wheel"
    OLLAMA = "ollama"
    HUB = "hub"


@dataclass(frozen=True, slots=True)
class Asked:
    """The command's arguments. `store_name` and `sha256` are '' when not given."""

    name: str
    source: str = "auto"
    store_name: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """`target` is an Ollama tag, a hub's spec or a catalogue name; `name` that in the store, '' = the file's.

    `open_choice`: Ollama was our choice, the user may want another.
    """

    way: Way
    target: str
    name: str = ""
    entry: CatalogModel | None = None
    open_choice: bool = False


def check(asked: Asked) -> None:
    """Raise a UsageError for options that can never be right, before anything is asked of a server."""
    if asked.sha256 and not _SHA256.fullmatch(asked.sha256):
        raise UsageError("errors_pull.sha256_form")
    if asked.store_name and not is_store_name(asked.store_name):
        raise UsageError("errors_models.model_name_bad", name=asked.store_name)
    entry = find(asked.name)
    for option, given in (("--as", asked.store_name), ("--sha256", asked.sha256)):
        if given and asked.source == "ollama":
            raise UsageError("errors_pull.not_with_ollama", option=option)
        if given and entry is not None and entry.demo:  # under another name it would pass for a real model
            raise UsageError("errors_pull.not_for_demo", option=option)


def may_take_ollama(asked: Asked) -> bool:
    """Whether it matters if Ollama answers."""
    if asked.source != "auto":
        return asked.source == "ollama"
    entry = find(asked.name)
    if entry is not None:
        return not entry.demo and not asked.store_name and not asked.sha256
    return not _is_hub_name(asked.name)


def choose(asked: Asked, *, ollama: bool, ollama_url: str = "") -> Plan:
    """The way for `asked`. `ollama`: a server that may be used answers. Raises ReviewErrors."""
    check(asked)
    entry = find(asked.name)
    if is_cloud(asked.name):
        raise EndpointRefused("errors_pull.cloud_model", model=asked.name)
    if asked.source == "ollama":
        return _ollama(asked, entry, ollama, ollama_url)
    if asked.source in _PREFIXES:
        return _hub(asked, entry)
    if entry is None:
        if _is_hub_name(asked.name):
            return Plan(Way.HUB, asked.name, asked.store_name)
        if ":" in asked.name:
            return _ollama(asked, None, ollama, ollama_url)
        raise _unknown(asked.name)
    if entry.demo:
        return Plan(Way.WHEEL, entry.name, entry.name, entry)
    if ollama and entry.ollama and may_take_ollama(asked):
        return Plan(Way.OLLAMA, entry.ollama, entry=entry, open_choice=True)
    return _hub(Asked(asked.name, "huggingface", asked.store_name, asked.sha256), entry)


def without_ollama(asked: Asked) -> Plan:
    """The plan when the user does not want Ollama to do it."""
    return choose(asked, ollama=False)


def derived_name(file_name: str) -> str:
    """A store name from a file's name: 'Qwen2.5-Q4_K_M-00001-of-00002.gguf' → 'qwen2.5-q4_k_m'."""
    stem = _SPLIT.sub("", re.sub(r"\.gguf$", "", file_name, flags=re.I))
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).lstrip("._-")[:80] or "model"


def is_store_name(name: str) -> bool:
    return bool(_STORE_NAME.fullmatch(name)) and not name.lower().endswith(".gguf")


def _ollama(asked: Asked, entry: CatalogModel | None, ollama: bool, url: str) -> Plan:
    if _ADDRESS.match(asked.name) or asked.name.lower().startswith(sum(_PREFIXES.values(), ())):
        raise UsageError("errors_pull.from_conflict", name=asked.name, source="ollama")
    for option, given in (("--as", asked.store_name), ("--sha256", asked.sha256)):
        if given:
            raise UsageError("errors_pull.not_with_ollama", option=option)
    tag = entry.ollama if entry is not None else asked.name
    if not tag:
        raise _no_repository(asked, entry)
    if not ollama:
        raise ModelUnavailable("errors_pull.ollama_needed", name=asked.name, url=url)
    return Plan(Way.OLLAMA, tag, entry=entry)


def _hub(asked: Asked, entry: CatalogModel | None) -> Plan:
    hub = "hf" if asked.source == "huggingface" else "modelscope"
    if entry is not None:
        repository = entry.hf if hub == "hf" else entry.modelscope
        if not repository:
            raise _no_repository(asked, entry)
        return Plan(Way.HUB, f"{hub}:{repository}:{entry.quant}", asked.store_name or entry.name, entry)
    if asked.name.lower().startswith(_PREFIXES[asked.source]):
        return Plan(Way.HUB, asked.name, asked.store_name)
    if _ADDRESS.match(asked.name) or asked.name.lower().startswith(sum(_PREFIXES.values(), ())):
        raise UsageError("errors_pull.from_conflict", name=asked.name, source=asked.source)
    if "/" not in asked.name:
        raise _unknown(asked.name)
    return Plan(Way.HUB, f"{hub}:{asked.name}", asked.store_name)


def _is_hub_name(name: str) -> bool:
    return "/" in name or name.lower().startswith(sum(_PREFIXES.values(), ()))


def _no_repository(asked: Asked, entry: CatalogModel | None) -> UsageError:
    ways = _ways(entry) if entry is not None else ()
    shown = ", ".join(f"`--from {way}`" for way in ways)
    return UsageError("errors_pull.no_repository", name=asked.name, source=asked.source, ways=shown)


def _ways(entry: CatalogModel) -> Sequence[str]:
    known = {
        "auto": entry.demo,
        "ollama": entry.ollama,
        "huggingface": entry.hf,
        "modelscope": entry.modelscope,
    }
    return [way for way, there in known.items() if there]


def _unknown(name: str) -> UsageError:
    names = [model.name for model in load().models]
    near = difflib.get_close_matches(name.lower(), names, 1)
    key = "errors_pull.unknown_model_near" if near else "errors_pull.unknown_model"
    return UsageError(key, name=name, near=near[0] if near else "")
