"""The plan of a run: files in their order, their units, what is known already, and requests for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from review_agent.agent.cache import thaw, unit_key
from review_agent.agent.findings import Context
from review_agent.agent.globs import spec
from review_agent.agent.memos import Memos, outlines
from review_agent.agent.models import (
    Analysis,
    FileResult,
    FileStatus,
    Note,
    ReviewUnit,
    Route,
    RouteKind,
    SourceFile,
)
from review_agent.agent.plan import Budget, by_risk, choose_context, make_budget, pack, shape_for
from review_agent.agent.prompt import Asker
from review_agent.agent.router import BUDGET, Policy
from review_agent.agent.schedule import Request
from review_agent.agent.settings import Settings
from review_agent.agent.target import Selection
from review_agent.agent.units import build_units
from review_agent.checkpoints.store import Store
from review_agent.tools.evidence import is_config
from review_agent.tools.redact import Masker

_AT_ONCE = 50  # files, when there is a limit to how many are needed

Spot = tuple[str, int]  # path and index of a unit
# The route of every unit of some files, which come riskiest first. A unit without one is the local engine's.
Router = Callable[[Sequence[SourceFile], Mapping[str, Sequence[ReviewUnit]]], Mapping[Spot, Route]]


@dataclass(frozen=True, slots=True)
class CloudLane:
    """Who reviews what is routed to the cloud, and the guidance that may go along."""

    model_key: str
    guidance: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything decided before a model is asked. `units` has no entry for files over `--max-files`."""

    files: tuple[SourceFile, ...]
    skipped: tuple[FileResult, ...]
    contexts: Mapping[str, Context]
    units: Mapping[str, tuple[ReviewUnit, ...]]
    keys: Mapping[tuple[str, int], str]
    cached: Mapping[tuple[str, int], Analysis]
    requests: tuple[Request, ...]
    budget: Budget
    asker: Asker
    masker: Masker  # knows the secrets of all files
    notes: tuple[Note, ...] = ()
    memos: Memos = field(default_factory=Memos)
    routes: Mapping[Spot, Route] = field(default_factory=dict)
    cloud_asker: Asker | None = None  # None = nothing is routed to the cloud
    model_key: str = ""  # of the local model

    def to_cloud(self, unit: ReviewUnit) -> bool:
        return _to_cloud(self.routes, unit)

    def kept_here(self, units: Sequence[ReviewUnit]) -> Plan:
        """The plan with these units asked of the local model: the cloud's budget is spent."""
        spots = {(unit.path, unit.index): unit for unit in units}
        keys = {spot: _key(unit, self.asker, self.model_key) for spot, unit in spots.items()}
        routes = dict.fromkeys(spots, Route(RouteKind.LOCAL, BUDGET, visible=True))
        return replace(self, keys={**self.keys, **keys}, routes={**self.routes, **routes})

    @property
    def prompt_tokens(self) -> int:
        """Estimate of everything that the requests will send."""
        code = sum(self.asker.piece_cost(unit) for request in self.requests for unit in request)
        return code + self.budget.overhead * len(self.requests)


def make_plan(
    selection: Selection,
    settings: Settings,
    *,
    model_key: str,
    model_context: int,
    store: Store | None,
    of_run: str = "",
    guidance: str = "",
    guidance_path: str = "",
    demo: bool = False,
    router: Router | None = None,
    cloud: CloudLane | None = None,
) -> Plan:
    """Order, units, what is known already, and the requests for the rest. Asks no model.

    `router` says which units are asked of `cloud`. No request has units of both, and what is known of a unit
    is what the model that it is routed to said.

    With `of_run` only that run's own results count as known (`--fresh`, and the resumption of such a run).
    """
    asker = Asker(settings.lang, guidance, _rules(settings), brief=demo, guidance_path=guidance_path)
    cloud_asker = replace(asker, guidance=cloud.guidance, brief=False, fixed=True) if cloud else None
    budget = make_budget(asker, choose_context(model_context, settings.num_ctx or None))
    files = by_risk(selection.files, selection.churn)
    draft = _Draft(asker, budget, model_key, store, of_run, Policy.of(settings))
    if router is not None and cloud is not None and cloud_asker is not None:
        draft.open_cloud(router, cloud_asker, cloud.model_key)
    draft.fill(files, settings.max_files)
    return Plan(
        files=tuple(file for file in files if file.path not in draft.misfits),
        skipped=(*selection.skipped, *draft.misfits.values()),
        contexts=draft.contexts,
        units=draft.units,
        keys=draft.keys,
        cached=draft.cached,
        requests=tuple(draft.requests()),
        budget=budget,
        asker=asker,
        masker=draft.masker,
        notes=selection.notes,
        memos=draft.memos,
        routes=draft.routes,
        cloud_asker=cloud_asker,
        model_key=model_key,
    )


def _key(unit: ReviewUnit, asker: Asker, model: str) -> str:
    return unit_key(unit, prompt=asker.version, model=model, rules=asker.rules_for(unit.path))


def _to_cloud(routes: Mapping[Spot, Route], unit: ReviewUnit) -> bool:
    route = routes.get((unit.path, unit.index))
    return route is not None and route.kind is RouteKind.CLOUD


class _Draft:
    """Units of files, added in the order of the review, and which of them are known already."""

    def __init__(
        self, asker: Asker, budget: Budget, model: str, store: Store | None, of_run: str, policy: Policy
    ) -> None:
        self._asker = self._cloud_asker = asker
        self._budget = budget
        self._model = self._cloud_model = model
        self._router: Router | None = None
        self._store = store
        self._of_run = of_run
        self._policy = policy
        self._private: set[str] = set()
        self.memos = Memos(store, read=not of_run)
        self.masker = Masker()
        self.contexts: dict[str, Context] = {}
        self.units: dict[str, tuple[ReviewUnit, ...]] = {}
        self.keys: dict[tuple[str, int], str] = {}
        self.cached: dict[tuple[str, int], Analysis] = {}
        self.misfits: dict[str, FileResult] = {}
        self.routes: dict[Spot, Route] = {}

    def open_cloud(self, router: Router, asker: Asker, model: str) -> None:
        self._router, self._cloud_asker, self._cloud_model = router, asker, model

    def fill(self, files: Sequence[SourceFile], most: int) -> None:
        """All files, or as many as have `most` files among them that a model has to be asked about."""
        step = max(most, _AT_ONCE) if most else len(files)
        for at in range(0, len(files), max(1, step)):
            self._add(files[at : at + step])
            asked = list(dict.fromkeys(unit.path for unit in self.open_units()))
            if most and len(asked) > most:
                self._cut(asked[most])
                return

    def open_units(self) -> list[ReviewUnit]:
        flat = (unit for units in self.units.values() for unit in units)
        return [unit for unit in flat if (unit.path, unit.index) not in self.cached]

    def requests(self) -> list[Request]:
        """Those of both engines, in the order of the review."""
        units = self.open_units()
        place = {(unit.path, unit.index): at for at, unit in enumerate(units)}
        here = [unit for unit in units if not _to_cloud(self.routes, unit)]
        there = [unit for unit in units if _to_cloud(self.routes, unit)]
        every = pack(there, self._cloud_asker, self._budget)
        # What a model says of one piece may repeat another piece of the request: so what must never leave
        # stands beside nothing of which the agent may be told.
        for private in (False, True):
            part = [unit for unit in here if (unit.path in self._private) is private]
            every += pack(part, self._asker, self._budget)
        return sorted(every, key=lambda request: place[request[0].path, request[0].index])

    def _add(self, files: Sequence[SourceFile]) -> None:
        symbols = outlines(files, self.memos)
        secret = _learn(self.masker, files)
        hidden = (file for file in files if self._policy.of_file(file, has_secret=file.path in secret))
        self._private.update(file.path for file in hidden)
        fresh: list[ReviewUnit] = []
        for file in files:
            shape = shape_for(file.path, self._asker, self._budget)
            if shape is None:
                self.misfits[file.path] = FileResult(
                    file.path, FileStatus.FAILED, "prompt_too_long", changed_lines=file.changed_count
                )
                continue
            self.contexts[file.path] = Context(file, symbols[file.path], self.masker.mask)
            self.units[file.path] = build_units(file, symbols[file.path], shape)
            fresh += self.units[file.path]
        if self._router is not None:
            self.routes |= self._router(files, {file.path: self.units.get(file.path, ()) for file in files})
        keys = {(unit.path, unit.index): self._key(unit) for unit in fresh}
        self.keys |= keys
        if self._store is not None:
            self.cached |= _known(fresh, keys, self._store, self._of_run)

    def _key(self, unit: ReviewUnit) -> str:
        there = _to_cloud(self.routes, unit)
        asker, model = (self._cloud_asker, self._cloud_model) if there else (self._asker, self._model)
        return _key(unit, asker, model)

    def _cut(self, first: str) -> None:
        """Leave out a file and those behind it that a model would have to be asked about."""
        beyond = [*self.units][[*self.units].index(first) :]
        asked = {unit.path for unit in self.open_units()}
        for path in beyond:
            if path in asked:
                del self.units[path], self.contexts[path]


def _learn(masker: Masker, files: Sequence[SourceFile]) -> set[str]:
    """A model that sees several files may repeat the secret of one of them in what it says of another.

    Returns the paths of those that have one.
    """
    found: set[str] = set()
    for file in files:
        texts = [file.lines]
        for hunk in file.hunks:  # what was taken out is shown, too
            for removed in hunk.removed:
                texts.append(tuple(line.decode(file.encoding, "replace") for line in removed.lines))
        config = any(is_config(name) for name in (file.path, file.old_path) if name)  # as `router.has_secret`
        if any([masker.learn(text, config=config) for text in texts]):
            found.add(file.path)
    return found


def _rules(settings: Settings) -> tuple[tuple[tuple[str, ...], str], ...]:
    return tuple((rule.paths, f"[{rule.id}] {rule.text}") for rule in settings.rules)


def _known(
    units: Sequence[ReviewUnit], keys: Mapping[tuple[str, int], str], store: Store, of_run: str
) -> dict[tuple[str, int], Analysis]:
    payloads = store.analyses(sorted(set(keys.values())), of_run)
    known: dict[tuple[str, int], Analysis] = {}
    for unit in units:
        spot = (unit.path, unit.index)
        payload = payloads.get(keys[spot])
        analysis = thaw(payload, unit) if payload is not None else None
        if analysis is not None:
            known[spot] = analysis
    return known


def narrowed(selection: Selection, settings: Settings) -> Selection:
    """The selection after include and exclude: what they leave out is listed as skipped."""
    include = spec(settings.include) if settings.include else None
    exclude = spec(settings.exclude)

    def left_out(path: str) -> str:
        if include is not None and not include.match_file(path):
            return "not_included"
        return "excluded" if exclude.match_file(path) else ""

    kept: list[SourceFile] = []
    skipped: list[FileResult] = []
    for file in selection.files:
        reason = left_out(file.path)
        if reason:
            skipped.append(FileResult(file.path, FileStatus.SKIPPED, reason))
        else:
            kept.append(file)
    for result in selection.skipped:
        reason = left_out(result.path) if result.status is FileStatus.FAILED else ""
        skipped.append(FileResult(result.path, FileStatus.SKIPPED, reason) if reason else result)
    return replace(selection, files=tuple(kept), skipped=tuple(skipped))
