"""What is there and what a run would do: facts and problems, without a word of text."""

from __future__ import annotations

import asyncio
import platform
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from review_agent.agent.advisor import NUM_CTX, Fit, recommend
from review_agent.agent.doctor_agent import AgentState
from review_agent.agent.doctor_agent import look as look_at_agent
from review_agent.agent.engine import Engine, open_engine
from review_agent.agent.errors import (
    ConfigError,
    EngineFault,
    GitError,
    ReviewError,
    StoreError,
    UsageError,
)
from review_agent.agent.models import EngineInfo, Note
from review_agent.agent.plan import choose_context, smallest_context
from review_agent.agent.probe import PLACES, Found, Place, embedded_engine, places_of, probe
from review_agent.agent.prompt import Asker
from review_agent.agent.settings import Settings
from review_agent.agent.version import __version__
from review_agent.tools.download import amount
from review_agent.tools.hardware import Hardware, detect

if TYPE_CHECKING:
    from review_agent.checkpoints.rows import Checked
    from review_agent.tools.catalog import CatalogModel

RUN_SECONDS = 10  # for choosing as a run does; a run itself waits longer
LOW_DISK = 200 * 10**6
NO_TRUNCATE_BEFORE = (0, 12, 6)  # Ollama: since then it can be told to refuse rather than to cut


@dataclass(frozen=True, slots=True)
class Run:
    """What a run would take; with `error`, why it can take nothing. `model_context` 0 = unknown."""

    info: EngineInfo | None = None
    url: str = ""
    context: int = 0
    model_context: int = 0
    named: bool = False
    demo: bool = False
    notes: tuple[Note, ...] = ()
    error: ReviewError | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """`blocking`: no run is possible before it is cured."""

    error: ReviewError
    blocking: bool

    @property
    def key(self) -> str:
        return self.error.key.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class System:
    """`git` is '' when it is missing. `free` is disk space beside the store, in bytes.

    `checked` is what a full check of the store saw; None = none was asked for, or there is nothing to check.
    """

    version: str
    python: str
    platform: str
    git: str
    config_file: str
    config_exists: bool
    store: str
    store_enabled: bool
    store_exists: bool
    store_usable: bool
    free: int
    checked: Checked | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`pick` is the model of the catalogue to get on this machine, if any fits."""

    system: System
    hardware: Hardware
    engines: tuple[Found, ...]
    run: Run
    agent: AgentState
    pick: CatalogModel | None
    problems: tuple[Problem, ...]

    @property
    def ready(self) -> bool:
        """Whether a run is possible."""
        return not any(problem.blocking for problem in self.problems)

    @property
    def ok(self) -> bool:
        return self.ready and (self.system.checked is None or self.system.checked.sound)


async def diagnose(
    environ: Mapping[str, str],
    *,
    user_file: Path,
    places: Sequence[Place] = PLACES,
    hardware: Hardware | None = None,
    verify: bool = False,
) -> Diagnosis:
    """Look at everything once. Raises nothing a user could cause; asks loopback and trusted hosts only.

    With `verify` the whole store is read. It is neither made nor changed.
    """
    here = hardware or detect()
    settings, problems = _settings(environ, user_file)
    system, found = _system(settings, user_file, environ if verify else None)
    problems += found
    wanted = places_of(settings, environ, places)
    own = next((place.url for place in wanted if place.own), "")
    run, servers = await asyncio.gather(
        _run(settings, environ, own),
        asyncio.gather(*(probe(place, settings, environ, here) for place in wanted)),
    )
    engines = (*servers, embedded_engine(settings, here))
    agent, wrong = look_at_agent(settings, environ)
    problems += [*_old(servers), *_of_run(run, engines)]
    problems += [Problem(error, blocking=False) for error in wrong]
    return Diagnosis(system, here, engines, run, agent, _pick(here, settings), tuple(problems))


def _settings(environ: Mapping[str, str], user_file: Path) -> tuple[Settings, list[Problem]]:
    """The user's settings without those sources that are broken; each of them is a problem."""
    from review_agent.agent.config import load

    def read(variables: Mapping[str, str], file: Path | None) -> Settings:
        loaded = load(flags={}, environ=variables, user_file=file, repo_text=None, repo_name="")
        return loaded.settings

    problems: list[Problem] = []
    good_file: Path | None = user_file
    good_environ = environ
    try:
        read({}, user_file)
    except ConfigError as exc:
        problems.append(Problem(exc, blocking=True))
        good_file = None
    try:
        read(environ, None)
    except ConfigError as exc:
        problems.append(Problem(exc, blocking=True))
        good_environ = {}
    return read(good_environ, good_file), problems


# --- this installation ---


def _system(
    settings: Settings, user_file: Path, verifying: Mapping[str, str] | None
) -> tuple[System, list[Problem]]:
    """`verifying` is the environment of a full check of the store, None = there is to be none."""
    from review_agent.checkpoints.inspection import trouble
    from review_agent.checkpoints.store import default_path

    path = default_path(settings.checkpoint_path)
    problems: list[Problem] = []
    git = ""
    try:
        git = _git_version()
    except GitError as exc:
        problems.append(Problem(exc, blocking=True))
    fault = trouble(path) if settings.checkpoint_enabled else None
    usable = fault is None or fault.key == "store_is_damaged"  # a run sets that one aside
    checked: Checked | None = None
    if fault is None and settings.checkpoint_enabled and verifying is not None:
        checked, found = _verified(path, verifying)
        problems += found
    elif fault is not None:
        problems.append(Problem(fault, blocking=not usable))
    free = _free(path)
    if free is not None and free < LOW_DISK:
        problems.append(
            Problem(ReviewError("doctor_problems.disk_low", path=path, free=amount(free)), blocking=False)
        )
    system = System(
        version=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        git=git,
        config_file=str(user_file),
        config_exists=user_file.exists(),
        store=str(path),
        store_enabled=settings.checkpoint_enabled,
        store_exists=path.is_file(),
        store_usable=usable,
        free=free or 0,
        checked=checked,
    )
    return system, problems


def _git_version() -> str:
    """Asked in a private empty repository, as everything that we ask git."""
    from review_agent.tools.git import Location, Repository

    with tempfile.TemporaryDirectory(prefix="review-agent-git-") as name:
        nowhere = Path(name)
        with Repository(Location(nowhere, nowhere, nowhere)) as repo:
            said = repo.run("version").decode(errors="replace")
    return said.strip().removeprefix("git version ")


def _verified(path: Path, environ: Mapping[str, str]) -> tuple[Checked | None, list[Problem]]:
    from review_agent.checkpoints.inspection import damaged, inspect
    from review_agent.checkpoints.store import state_folder

    if not path.exists():
        return None, []
    try:
        checked = inspect(path, state_folder(), environ.get("REVIEW_AGENT_CACHE_KEY", ""))
    except StoreError as exc:
        return None, [Problem(exc, blocking=True)]
    problems: list[Problem] = []
    if checked.problems:
        problems.append(Problem(damaged(path, checked.problems[0]), blocking=False))
    if checked.unsealed:
        unsealed = ReviewError("doctor_problems.store_unsealed", path=str(path), count=checked.unsealed)
        problems.append(Problem(unsealed, blocking=False))
    if checked.cut:
        cut = ReviewError("doctor_problems.store_cut", path=str(path), count=checked.cut)
        problems.append(Problem(cut, blocking=False))
    return checked, problems


def _free(path: Path) -> int | None:
    """Free bytes on the disk that `path` is on, or will be."""
    for folder in path.parents:
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


# --- what a run would do ---


async def _run(settings: Settings, environ: Mapping[str, str], url: str) -> Run:
    try:
        async with asyncio.timeout(RUN_SECONDS):
            engine = await open_engine(settings, environ)
            await engine.aclose()
    except TimeoutError:
        return Run(error=EngineFault("doctor_problems.server_silent", url=url, seconds=RUN_SECONDS))
    except ReviewError as exc:
        return Run(error=exc)
    return _taken(engine, settings)


def _taken(engine: Engine, settings: Settings) -> Run:
    context = choose_context(engine.model.context, settings.num_ctx or None)
    least = smallest_context(Asker(settings.lang, brief=engine.demo))
    small = UsageError("context_too_small", context=context, least=least) if context < least else None
    return Run(
        info=engine.info,
        url=_url(engine),
        context=context,
        model_context=engine.model.context,
        named=bool(settings.model),
        demo=engine.demo,
        notes=engine.notes,
        error=small,
    )


def _url(engine: Engine) -> str:
    if engine.backend is not None:
        return "" if engine.info.backend == "embedded" else engine.backend.endpoint.url
    return engine.cloud.endpoint.url if engine.cloud is not None else ""


def _of_run(run: Run, engines: Sequence[Found]) -> list[Problem]:
    if run.error is not None:
        return [Problem(run.error, blocking=True)]
    if run.info is None:
        return []
    problems: list[Problem] = []
    name = run.info.model
    if run.demo:
        problems.append(Problem(ReviewError("doctor_problems.demo_chosen", model=name), blocking=False))
    fits = [
        model.fit for found in engines if found.url == run.url for model in found.models if model.name == name
    ]
    if Fit.NO in fits:
        problems.append(Problem(ReviewError("doctor_problems.model_too_large", model=name), blocking=False))
    return problems


def _old(servers: Sequence[Found]) -> list[Problem]:
    """Ollamas that cannot be kept from cutting a prompt silently. A build without a number says 0.0.0."""
    problems = []
    for found in servers:
        number = re.match(r"(\d+)\.(\d+)\.(\d+)", found.version)
        parts = tuple(map(int, number.groups())) if number else ()
        if found.name == "ollama" and parts and (0, 0, 0) != parts < NO_TRUNCATE_BEFORE:
            error = ReviewError("doctor_problems.ollama_old", version=found.version, url=found.url)
            problems.append(Problem(error, blocking=False))
    return problems


def _pick(hardware: Hardware, settings: Settings) -> CatalogModel | None:
    from review_agent.tools.catalog import load

    best = recommend(hardware, load().models, settings.num_ctx or NUM_CTX)[:1]
    return best[0].model if best and best[0].pick else None
