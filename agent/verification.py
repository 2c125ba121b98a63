"""The agent's place in a run: what it is asked about, what it may see, and what the report says of it."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from review_agent.agent.analyzer import Analyzer
from review_agent.agent.audit import Call
from review_agent.agent.cases import Case, Notebook, judged_verdicts, make_cases
from review_agent.agent.config import REPOSITORY_FILE
from review_agent.agent.errors import GitError, StoreError
from review_agent.agent.library import Library, old_names, shelf_for
from review_agent.agent.models import (
    Analysis,
    Change,
    CloudUsage,
    Egress,
    Finding,
    Note,
    ReviewUnit,
    RouteKind,
    SourceFile,
    TrustClass,
    Verdict,
)
from review_agent.agent.orchestrator import Agent, Briefing, Outcome, prompt_version
from review_agent.agent.orchestrator import Bounds as AgentBounds
from review_agent.agent.outbox import Outbox
from review_agent.agent.planner import Plan
from review_agent.agent.policy import command_runner, file_gate
from review_agent.agent.provenance import Words, foreign_words, place_of
from review_agent.agent.room import Room
from review_agent.agent.router import Policy, has_secret, upgraded
from review_agent.agent.served import Served
from review_agent.agent.settings import Settings
from review_agent.agent.target import Target
from review_agent.agent.toolbox import Toolbox
from review_agent.checkpoints.store import Store
from review_agent.prompts import say
from review_agent.tools.claude import Side
from review_agent.tools.git import Bounds, Repository
from review_agent.tools.server import TOOLS
from review_agent.tools.shell_run import CommandRunner

GIT_SECONDS = 30.0  # one question; a tool has more
_IDLE_CLOUD = 120  # seconds; a local model is silent for minutes while it reads
# How a session ends with a model that cannot work with tools, or not in its context.
_UNABLE = frozenset({
    "agent_unfinished", "agent_empty", "agent_looping", "agent_api_tools", "agent_api_max_tokens",
    "agent_api_context", "agent_context_small", "agent_context_full",
})  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """What a verification is about, and who is told.

    `keep_…` are durable when they return, and raise where something cannot be kept: then it does not happen.
    """

    side: Side
    plan: Plan
    settings: Settings
    target: Target
    environ: Mapping[str, str]
    run_id: str
    store: Store | None
    stop: asyncio.Event
    analyzer: Analyzer | None
    analyses: Mapping[tuple[str, int], Analysis]
    keep_egress: Callable[[list[Egress]], None] = lambda _: None
    keep_call: Callable[[Call], None] = lambda _: None
    on_found: Callable[[Finding], None] = lambda _: None
    progress: Callable[[str, dict[str, object]], None] = lambda _key, _fields: None
    deadline: float = 0.0  # of `time.monotonic()`; 0 = none
    tokens: int = 0  # 0 = no limit
    fresh: bool = False  # believe nothing that another run was told
    ask: Callable[[], AbstractAsyncContextManager[Served]] = lambda: nullcontext(Served())

    @property
    def leaves(self) -> bool:
        """Whether what the agent is shown leaves this machine, or may."""
        return self.side.cloud or self.side.endpoint.trust is not TrustClass.LOOPBACK

    def hides(self, path: str, has_secret: bool) -> str:
        policy = Policy.of(self.settings)
        return policy.hidden(path, has_secret=has_secret) if self.leaves else ""

    def route(self, unit: ReviewUnit) -> str:
        spot = (unit.path, unit.index)
        way = self.plan.routes.get(spot)
        if way is None:
            return str(RouteKind.LOCAL)
        return str(upgraded(way, self.analyses[spot]).kind if spot in self.analyses else way.kind)


@dataclass(frozen=True)
class Verified:
    """What came of it. `why` is the reason (of `[reasons]`) why it is not complete, '' = it is."""

    cases: tuple[Case, ...]
    notebook: Notebook
    why: str = ""
    fell_back: bool = False
    usage: CloudUsage = field(default_factory=CloudUsage)
    egress: tuple[Egress, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def found(self) -> list[tuple[Finding, str]]:
        """The agent's own findings, as `findings.decide` takes them."""
        return [(finding, "") for finding in self.notebook.found.values()]

    @property
    def summary(self) -> str:
        return self.notebook.summary

    def judged(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        return judged_verdicts(verdicts, self.cases, self.notebook)


Run = Callable[[Agent], Awaitable[Outcome]]


async def verify(scene: Scene, verdicts: Sequence[Verdict], run: Run = Agent.run) -> Verified:
    """Have the agent judge what the pipeline found. Raises what `keep_…` and the store raise."""
    with ExitStack() as closing:
        library = await asyncio.to_thread(_library, scene, closing)
        await asyncio.to_thread(library.prepare)
        cases = make_cases(verdicts, lambda path: library.visible(path) is not None)
        notebook = Notebook(work_of(scene), scene.run_id, scene.store, _works_of_files(scene))
        carried = notebook.carry(cases)
        broken: list[tuple[str, Exception]] = []

        def on_broken(tool: str, why: Exception) -> None:
            broken.append((tool, why))
            if isinstance(why, StoreError):  # what cannot be kept must not be asked for
                scene.stop.set()

        toolbox = toolbox_of(scene, library, cases, notebook, on_broken)
        if notebook.summary and not toolbox.open_cases:
            return Verified(cases, notebook, notes=(Note("agent_reused"),))
        if not any(library.visible(path) for path in scene.plan.units):
            return Verified(cases, notebook, notes=(Note("agent_nothing_visible"),))
        async with scene.ask() as served:
            toolbox.offered = offered(scene, served)
            verified = await _session(scene, served, toolbox, run)
        for _, why in broken:
            if isinstance(why, StoreError):
                raise why
        notes = [Note("agent_carried", {"count": carried})] if carried else []
        kinds = dict.fromkeys((tool, type(why).__name__) for tool, why in broken)
        notes += [Note("agent_tool_broke", {"tool": tool, "kind": kind}) for tool, kind in kinds]
        return replace(verified, notes=(*verified.notes, *notes))


async def _session(scene: Scene, served: Served, toolbox: Toolbox, run: Run) -> Verified:
    room = None if scene.side.cloud else Room(served.context)
    if not served.tools:
        return _verified(scene, Outcome("agent_api_tools"), toolbox, room)
    notebook = toolbox.notebook
    agent = Agent(
        scene.side,
        toolbox,
        _bounds(scene, room),
        scene.settings.lang,
        scene.environ,
        scene.stop,
        addition=scene.settings.system_prompt,
        briefing=_briefing(scene),
        on_call=scene.keep_call,
        progress=scene.progress,
    )
    if not agent.fits():
        return _verified(scene, Outcome("agent_context_small"), toolbox, room)
    scene.progress("agent_start", {"model": scene.side.model, "open": len(toolbox.open_cases)})
    outcome = await run(agent)
    ended: dict[str, object] = {
        "turns": outcome.usage.turns,
        "judged": len(notebook.judged),
        "found": len(notebook.found),
    }
    scene.progress("agent_end", ended)
    return _verified(scene, outcome, toolbox, room)


def _verified(scene: Scene, outcome: Outcome, toolbox: Toolbox, room: Room | None) -> Verified:
    left, notebook = len(toolbox.open_cases), toolbox.notebook
    idle = not (outcome.tools_used or notebook.judged or notebook.found)  # here, and in sessions before
    fell_back = not scene.side.cloud and outcome.why in _UNABLE and idle
    notes: list[Note] = []
    if fell_back:
        notes.append(_why_not(outcome.why, scene.side.model, room))
    elif outcome.why:
        why = say(scene.settings.lang, "reasons", outcome.why)
        notes.append(Note("agent_stopped", {"open": left, "reason": why}))
        if outcome.detail:
            notes.append(Note("agent_detail", {"detail": scene.plan.masker.mask(outcome.detail)[:300]}))
    elif left:
        notes.append(Note("agent_left_open", {"count": left}))
    if scene.settings.allow_commands and scene.leaves and not scene.side.cloud:  # else it was said
        notes.append(Note("commands_unused"))
    return Verified(
        toolbox.cases,
        toolbox.notebook,
        "" if fell_back else outcome.why,
        fell_back,
        outcome.usage,
        tuple(toolbox.outbox.rows),
        tuple(notes),
    )


def _why_not(why: str, model: str, room: Room | None) -> Note:
    """Why there was no verification."""
    if why == "agent_context_small" and room is not None:
        return Note(why, {"model": model, "context": room.context, "least": room.least})
    return Note("agent_no_tools" if why == "agent_api_tools" else "agent_fell_back", {"model": model})


def _briefing(scene: Scene) -> Briefing:
    """Of the repository's own texts only what the policy lets be seen."""
    asker = scene.plan.asker
    if scene.side.cloud and scene.plan.cloud_asker is not None:
        asker = scene.plan.cloud_asker
    rules = "" if scene.hides(REPOSITORY_FILE, False) else "\n".join(text for _, text in asker.rules)
    return Briefing(rules, asker.guidance, asker.guidance_path)


def work_of(scene: Scene) -> str:
    """The name of what the agent is asked: equal where model, words, code and policy are the same."""
    files = sorted(scene.plan.files, key=lambda file: file.path)
    target = repr((scene.target.kind, scene.target.base, scene.target.head))
    return _digest([*_terms(scene), target, *(f"{file.path}\0{file.blob}" for file in files)])


def _works_of_files(scene: Scene) -> dict[str, str]:
    """The same for each file alone."""
    terms = _terms(scene)
    return {file.path: _digest([*terms, "file", file.path, file.blob]) for file in scene.plan.files}


def _terms(scene: Scene) -> list[str]:
    settings = scene.settings
    return [
        prompt_version(settings.lang, settings.system_prompt),
        repr(_briefing(scene)),
        scene.side.model,
        settings.lang,
        repr((settings.local_only, settings.cloud_allowed, scene.side.cloud)),
        scene.run_id if scene.fresh else "",
    ]


def _digest(parts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:32]


def _library(scene: Scene, closing: ExitStack) -> Library:
    """With the rest of the repository and its history, where they can be had."""
    files = {file.path: file for file in scene.plan.files}
    try:
        location = scene.target.repository() if scene.target.kind != "diff" else None
        if location is None:
            return Library(files, scene.hides)
        repository = closing.enter_context(Repository(location, Bounds(seconds=GIT_SECONDS)))
        renamed = old_names(scene.target, repository)
        commit = scene.target.head if scene.target.kind in ("range", "commit") else repository.head() or ""
    except GitError:
        return Library(files, scene.hides)
    shelf = shelf_for(scene.target, repository, file_gate(location.root, scene.settings))
    return Library(files, scene.hides, shelf, repository, commit, renamed)


def toolbox_of(
    scene: Scene,
    library: Library,
    cases: tuple[Case, ...],
    notebook: Notebook,
    on_broken: Callable[[str, Exception], None] = lambda _tool, _why: None,
) -> Toolbox:
    side, leaves = scene.side, scene.leaves
    return Toolbox(
        lang=scene.settings.lang,
        cases=cases,
        notebook=notebook,
        library=library,
        units=scene.plan.units,
        contexts=scene.plan.contexts,
        route=scene.route,
        outbox=Outbox(
            side.endpoint.host if leaves else "",
            side.model,
            scene.plan.masker.mask_counted,
            scene.keep_egress,
        ),
        offered=offered(scene, Served()),
        analyzer=local_analyzer(scene),
        runner=_runner(scene, library) if scene.settings.allow_commands and not leaves else None,
        on_found=scene.on_found,
        parallel=scene.settings.concurrency or 1,
        on_broken=on_broken,
        foreign=_foreign(scene, library) if leaves else frozenset(),
        guidance=_guidance(scene),
    )


def _guidance(scene: Scene) -> SourceFile | None:
    """What the local model was shown of it, and may repeat."""
    asker = scene.plan.asker
    lines = tuple(asker.guidance.split("\n"))
    return SourceFile(asker.guidance_path, "markdown", lines, "", Change.WHOLE) if asker.guidance else None


def _guidance_hidden(scene: Scene) -> bool:
    """Whether the local model is shown guidance that the agent must not see."""
    shown = _guidance(scene)
    return shown is not None and bool(scene.hides(shown.path, has_secret(shown)))


def local_analyzer(scene: Scene) -> Analyzer | None:
    """The local model as the agent may ask it: it is told hidden code, so it must not be in the cloud.

    What it says of a piece is not what the run knows of the unit. It is shown no guidance that it could
    repeat and must not.
    """
    analyzer = scene.analyzer
    if analyzer is None or analyzer.backend.endpoint.trust is TrustClass.CLOUD:
        return None
    asker = replace(analyzer.asker, guidance="") if _guidance_hidden(scene) else analyzer.asker
    return replace(analyzer, asker=asker, on_unit=lambda _: None)


def _foreign(scene: Scene, library: Library) -> frozenset[Words]:
    guidance, plan = _guidance_hidden(scene), scene.plan

    def visible(path: str) -> bool:
        gone = not scene.hides(path, False) and library.file(path) is None
        return gone or library.visible(path) is not None

    def guided(analysis: Analysis) -> bool:
        return guidance and not plan.to_cloud(analysis.unit)

    shown = [one for one in scene.analyses.values() if library.visible(one.unit.path) is not None]
    return foreign_words(shown, plan.contexts, place_of(scene.target), visible, guided)


def offered(scene: Scene, served: Served) -> frozenset[str]:
    """Our tools that this agent gets: the user's choice of them, without those that cannot work here."""
    dear = {"local_model_analyze"} if served.reloads else set()  # so only for who names it
    wanted = set(scene.settings.tools) or set(TOOLS) - dear
    usable = set(TOOLS) - ({"local_model_analyze"} if local_analyzer(scene) is None else set())
    if not scene.settings.allow_commands or scene.leaves:  # what a command prints is not held to the policy
        usable.discard("run_command")
    return frozenset(wanted & usable)


def _runner(scene: Scene, library: Library) -> Callable[[], CommandRunner]:
    root = Path(scene.target.root).resolve()
    calling = library.repository.calling() if library.repository is not None else None
    return functools.cache(lambda: command_runner(root, scene.settings, scene.environ, calling))


def _bounds(scene: Scene, room: Room | None) -> AgentBounds:
    settings = scene.settings
    idle = min(settings.request_timeout, _IDLE_CLOUD) if scene.side.cloud else settings.request_timeout
    interval = settings.checkpoint_interval
    return AgentBounds(settings.max_turns, scene.tokens, scene.deadline, idle, interval, room)
