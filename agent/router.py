"""Who reviews a unit, and whether its code may reach the cloud: policy first, then the task, then the budget.

Pure: nothing here reads, asks or sends. Every reason is `routes.<key>` of the message catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from review_agent.agent.classify import is_notebook
from review_agent.agent.globs import allows, hides
from review_agent.agent.models import Analysis, Change, ReviewUnit, Route, RouteKind, ShownLine, SourceFile
from review_agent.agent.plan import PROSE, RISKY_CODE, SECURITY_PATH, TEST_PATH
from review_agent.agent.settings import Settings
from review_agent.tools.evidence import is_config
from review_agent.tools.secrets import find_secrets

ANSWER_TOKENS = 400  # what the cloud writes about one unit, on the safe side
UNSURE_BELOW = 0.6
TINY_LINES = 3

MODE_LOCAL, MODE_CLOUD = "routes.mode_local", "routes.mode_cloud"
LOCAL_ONLY, SECRET, NOT_ALLOWED = "routes.local_only", "routes.secret", "routes.not_allowed"
NO_CLOUD, LOCAL_DOWN, BUDGET = "routes.no_cloud", "routes.local_down", "routes.budget"

Effective = Literal["local", "hybrid", "cloud"]
Spot = tuple[str, int]


class Task(StrEnum):
    """What a unit asks of its reviewer. `UNSURE` is known only after a local model was asked."""

    SIMPLE = "simple"
    CROSS_FILE = "cross_file"
    SECURITY = "security"
    UNSURE = "unsure"
    USUAL = "usual"

    @property
    def reason(self) -> str:
        return f"routes.{self}"


@dataclass(frozen=True, slots=True)
class Policy:
    """Which files may reach the cloud, as globs. No `cloud_allowed` = all that are not `local_only`."""

    local_only: tuple[str, ...] = ()
    cloud_allowed: tuple[str, ...] = ()

    @staticmethod
    def of(settings: Settings) -> Policy:
        return Policy(settings.local_only, settings.cloud_allowed)

    def hidden(self, path: str, *, has_secret: bool) -> str:
        """Why the code of a file must not reach the cloud; '' when it may. Raises ConfigError("bad_glob")."""
        if hides(self.local_only, path):
            return LOCAL_ONLY
        if has_secret:
            return SECRET
        return NOT_ALLOWED if self.cloud_allowed and not allows(self.cloud_allowed, path) else ""

    def of_file(self, file: SourceFile, *, has_secret: bool) -> str:
        """As `hidden`; what holds for the name that a file was renamed from holds for the file."""
        names = [name for name in (file.path, file.old_path) if name]
        return next(filter(None, (self.hidden(name, has_secret=has_secret) for name in names)), "")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a run has: `local` = a local engine answers, `cloud` = an endpoint and a key for it."""

    mode: Effective
    local: bool
    cloud: bool


def route(
    unit: ReviewUnit,
    *,
    policy: Policy,
    has_secret: bool,
    capabilities: Capabilities,
    budget_left: int | None,
    task: Task,
    old_path: str = "",
) -> Route:
    """The route of one unit. `budget_left` in tokens of the cloud, None = no limit.

    `old_path` is where a renamed file came from: what held there holds for what was taken from it.
    No route leads to the cloud because the local engine is down: such a unit stays local, and fails.
    """
    if capabilities.mode == "local":
        return Route(RouteKind.LOCAL, MODE_LOCAL)
    names = (unit.path, old_path) if old_path else (unit.path,)
    if hidden := next(filter(None, (policy.hidden(name, has_secret=has_secret) for name in names)), ""):
        return Route(RouteKind.LOCAL, hidden)
    if not capabilities.cloud:
        return Route(RouteKind.LOCAL, NO_CLOUD)
    kind, reason = RouteKind.CLOUD, MODE_CLOUD
    if capabilities.mode == "hybrid":
        if not capabilities.local:
            return Route(RouteKind.LOCAL, LOCAL_DOWN)
        if task in (Task.SIMPLE, Task.USUAL):
            return Route(RouteKind.LOCAL, task.reason, visible=True)
        kind, reason = RouteKind.HYBRID, task.reason
    if budget_left is not None and cloud_tokens(unit) > budget_left:
        return Route(RouteKind.LOCAL, BUDGET, visible=True)
    return Route(kind, reason, visible=True)


def routes(
    files: Sequence[SourceFile],
    units: Mapping[str, Sequence[ReviewUnit]],
    settings: Settings,
    capabilities: Capabilities,
    budget: int | None = None,
) -> dict[Spot, Route]:
    """The route of every unit of `files`, which come riskiest first, as in a plan: so they get the budget.

    `budget`: tokens left for the cloud, None = `max_cloud_tokens` of the settings. Files without units are
    passed over. Raises ConfigError("bad_glob").
    """
    policy = Policy.of(settings)
    left = budget if budget is not None else settings.max_cloud_tokens or None
    found: dict[Spot, Route] = {}
    for file in files:
        pieces = units.get(file.path, ())
        secret = bool(pieces) and capabilities.mode != "local" and has_secret(file)
        for unit in pieces:
            way = route(
                unit,
                policy=policy,
                has_secret=secret,
                capabilities=capabilities,
                budget_left=left,
                task=task_of(file, unit),
                old_path=file.old_path,
            )
            found[unit.path, unit.index] = way
            if left is not None and way.kind is not RouteKind.LOCAL:
                left -= cloud_tokens(unit)
    return found


def upgraded(way: Route, analysis: Analysis) -> Route:
    """The route once the local model has answered: what it is unsure of, the agent looks at, too.

    Only of code that the cloud may see, and not where the budget was spent already.
    """
    unsure = any(placed.candidate.confidence < UNSURE_BELOW for placed in analysis.placed)
    if way.kind is RouteKind.LOCAL and way.visible and way.reason != BUDGET and unsure:
        return Route(RouteKind.HYBRID, Task.UNSURE.reason, visible=True)
    return way


def cloud_tokens(unit: ReviewUnit) -> int:
    """Estimate of what a unit costs in the cloud: its code once, and an answer."""
    return unit.tokens + ANSWER_TOKENS


def has_secret(file: SourceFile) -> bool:
    """Whether any line of a file holds a secret, those that a change takes out included."""
    names = [name for name in (file.path, file.old_path) if name]
    config = any(is_config(name) for name in names)
    return any(find_secrets(lines, config=config) for lines in _texts(file))


def _texts(file: SourceFile) -> Iterator[Sequence[str]]:
    yield file.lines
    for hunk in file.hunks:
        for gone in hunk.removed:
            yield [line.decode(file.encoding, "replace") for line in gone.lines]


# --- what a unit asks of its reviewer ---

_TEXTS = frozenset({"markdown", "rst", "text"})
_IMPORT = re.compile(
    r"\s*(import\b|from\s+\S+\s+import\b|export\b.*\bfrom\b|use\s+[\w\\:{]|using\s+\w|require(_relative|_once)?\b"
    r"|#\s*include\b|include\b|(const|let|var)\s.*=\s*(await\s+)?(require|import)\()"
)
_OWN_IMPORT = re.compile(
    r"""["']\.{1,2}/|\s*from\s+\.|\b(crate|super)::|#\s*include\s*"|require_relative\b"""
)
_SIGNATURE = re.compile(
    r"\s*(export\b|public\b|protected\b|internal\b|pub\b|(async\s+)?def\s"
    r"|(abstract\s+|final\s+|data\s+)?class\s|func\b|fun\s|fn\s|(async\s+)?function\b|interface\s|struct\s|trait\s|enum\s|protocol\s|impl\b|type\s+\w"
    r"|module\.exports\b|exports\.|__all__\b|message\s|service\s|rpc\s|create\s+(table|view|function|procedure)\b"
    r"|alter\s+table\b)",
    re.IGNORECASE,
)
_C_HEAD = re.compile(r"[A-Za-z_][\w:<>,*& ]*[\s*&]\w+\([^;]*$")
_C_LIKE = frozenset({"c", "cpp", "objc"})
_GENERIC = frozenset({"src", "main", "java", "kotlin", "lib", "test", "tests"})
_WORD = re.compile(r"\w+")
_LONGEST = 500  # characters of a line that are looked at


def task_of(file: SourceFile, unit: ReviewUnit) -> Task:
    """What kind of task one unit of `file` is. Of a change only what was added or taken out counts."""
    looked_at = [line.text[:_LONGEST] for line in _under_review(file, unit)]
    risky = any(RISKY_CODE.search(text) for text in looked_at)
    data = file.language in PROSE and not is_notebook(file.path)
    if file.language in _TEXTS or (not risky and (data or TEST_PATH.search(file.path))):
        return Task.SIMPLE
    if risky or SECURITY_PATH.search(file.path):
        return Task.SECURITY
    if is_config(file.path):
        return Task.SIMPLE
    if any(_reaches_out(text, file) for text in looked_at):
        return Task.CROSS_FILE
    return Task.SIMPLE if len(looked_at) <= TINY_LINES else Task.USUAL


def _under_review(file: SourceFile, unit: ReviewUnit) -> list[ShownLine]:
    if file.changed is None:
        return [line for line in unit.shown if line.number]
    return [line for line in unit.shown if line.mark in ("+", "-")]


def _reaches_out(text: str, file: SourceFile) -> bool:
    """Whether a line ties its file to others: by importing from them or, where it changed, by what it offers.

    A new or whole file offers what its users have seen already, so only imports of its own project count.
    """
    imports = bool(_IMPORT.match(text))
    if file.changed is None or file.change is Change.ADDED:
        folders = {part for part in file.path.split("/")[:-1] if len(part) > 2} - _GENERIC
        return imports and (bool(_OWN_IMPORT.search(text)) or not folders.isdisjoint(_WORD.findall(text)))
    signature = _SIGNATURE.match(text) or (file.language in _C_LIKE and _C_HEAD.match(text))
    return imports or bool(signature)
