"""Golden comments as model output: a scripted model that reads prompts, the production review around it."""

from __future__ import annotations

import asyncio
import io
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pr_repos import PullRequest, pull_requests

from review_agent.agent.findings import same
from review_agent.agent.models import EngineInfo, Finding, Outcome, Report, Verdict
from review_agent.agent.planner import Plan, make_plan
from review_agent.agent.progress import Progress
from review_agent.agent.prompt import alias
from review_agent.agent.review import Review
from review_agent.agent.settings import Settings
from review_agent.agent.target import Target, make_target, select
from review_agent.tools.backends import ChatRequest, Delta, Done, ModelInfo
from review_agent.tools.endpoints import Endpoint, make_endpoint

SETTINGS = Settings(num_ctx=8192, concurrency=1)
QUOTE = 400  # characters, as in the answer schema
CATEGORIES = {
    "Code Defect": "bug",
    "Security Vulnerability": "security",
    "Performance": "performance",
    "Maintainability and Readability": "maintainability",
}
_ROW = re.compile(r"^ *(\d+) [+ ] (.*)$")
_FENCE = re.compile(r"<<[0-9a-f]{12}>>")
_HUNK = re.compile(r"^@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_NUMBER = re.compile(r"#(\d+)$")


@dataclass(frozen=True, slots=True)
class Golden:
    """One reviewer's comment; `number` tells it from the others of its pull request."""

    number: int
    path: str
    start: int
    end: int
    category: str
    note: str

    @property
    def title(self) -> str:
        return f"{' '.join(self.note[:60].split())} #{self.number}"

    def overlaps(self, path: str, start: int, end: int) -> bool:
        return path == self.path and 0 < start <= self.end and end >= self.start


def number_of(finding: Finding) -> int:
    """The golden comment that a finding repeats; -1 when it is not the model's or its title names none."""
    found = _NUMBER.search(finding.title) if finding.source == "model" else None
    return int(found[1]) if found else -1


def merged_into(verdict: Verdict, kept: Sequence[Finding]) -> Finding | None:
    """What a duplicate was merged into. `kept`: the reported ones before it, in the order of verdicts."""
    if verdict.outcome is not Outcome.DUPLICATE:
        return None
    finding = verdict.finding
    return next((other for other in kept if other.path == finding.path and same(finding, other)), None)


@dataclass(frozen=True, slots=True)
class Said:
    """A golden comment in one answer, with the first run of its lines that the prompt shows."""

    golden: Golden
    first: int
    lines: tuple[str, ...]

    @property
    def quote(self) -> str:
        """Whole lines, as many as the schema lets a model write."""
        text = self.lines[0]
        for line in self.lines[1:]:
            if len(text) + 1 + len(line) > QUOTE:
                break
            text += "\n" + line
        return text[:QUOTE]


@dataclass(frozen=True, slots=True)
class FilePatch:
    """What a forge knows of one file of a diff: the new lines of its hunks, and each line's diff position."""

    hunks: tuple[range, ...]
    positions: dict[int, int]

    def accepts(self, start: int, end: int) -> bool:
        return any(start in hunk and end in hunk for hunk in self.hunks)


def read_patch(patch: str) -> dict[str, FilePatch]:
    """Files of a git diff by new path. Positions count rows below the file's first `@@`, as GitHub does."""
    files: dict[str, tuple[list[range], dict[int, int]]] = {}
    path, position, number, old, new = "", 0, 0, 0, 0
    for row in patch.split("\n"):
        if old > 0 or new > 0:
            position += 1
            old -= row[:1] in ("-", " ", "")
            if row[:1] in ("+", " ", ""):
                files[path][1][number] = position
                number, new = number + 1, new - 1
        elif row.startswith("+++ "):
            path, position = _unquoted(row[4:].rstrip("\t")).removeprefix("b/"), 0
            files[path] = ([], {})
        elif found := _HUNK.match(row):
            old, number, new = int(found[1] or 1), int(found[2]), int(found[3] or 1)
            position += bool(files[path][0])
            files[path][0].append(range(number, number + new))
    return {path: FilePatch(tuple(hunks), positions) for path, (hunks, positions) in files.items()}


def _unquoted(name: str) -> str:
    """A path as git writes it: quoted, with octal bytes, when it is not plain ASCII."""
    if not name.startswith('"'):
        return name
    return name[1:-1].encode("latin-1").decode("unicode_escape").encode("latin-1").decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Case:
    """One pull request, planned by the production planner."""

    pr: PullRequest
    plan: Plan
    target: Target
    goldens: tuple[Golden, ...]
    patch: dict[str, FilePatch]


def make_case(pr: PullRequest) -> Case:
    target = make_target(pr.root, base=pr.base, head=pr.head)
    selection, pinned = select(target, max_file_size=SETTINGS.max_file_size)
    plan = make_plan(selection, SETTINGS, model_key="bench", model_context=0, store=None)
    goldens = tuple(_golden(number, item) for number, item in enumerate(pr.golden))
    return Case(pr, plan, pinned, goldens, read_patch(pr.item["patch"]))


def _golden(number: int, item: dict[str, Any]) -> Golden:
    category = CATEGORIES[item["category"]]
    return Golden(number, item["path"], item["from_line"], item["to_line"], category, item["note"])


@contextmanager
def cases(bench: Path) -> Iterator[list[Case]]:
    """The whole set; the repositories live as long as the context."""
    with tempfile.TemporaryDirectory() as folder:
        yield [make_case(pr) for pr in pull_requests(bench, Path(folder))]


def shown(prompt: str, paths: Sequence[str]) -> dict[str, dict[int, str]]:
    """Numbered lines per path, as a model reads them in a prompt."""
    fence = _FENCE.search(prompt)
    if fence is None:
        return {}
    lines: dict[str, dict[int, str]] = {}
    for piece in prompt.split(fence[0])[2:-1]:
        heading, *rows = piece.strip("\n").split("\n")
        named = [path for path in paths if alias(path) in heading]
        for found in filter(None, map(_ROW.match, rows)):
            lines.setdefault(max(named, key=len, default=""), {})[int(found[1])] = found[2]
    return lines


def say(golden: Golden, lines: dict[int, str]) -> Said | None:
    """None when no line of the comment that holds anything was shown."""
    numbers = [n for n in range(golden.start, golden.end + 1) if lines.get(n, "").strip()]
    if not numbers:
        return None
    last = numbers[0]
    while last + 1 <= golden.end and last + 1 in lines:
        last += 1
    return Said(golden, numbers[0], tuple(lines[n] for n in range(numbers[0], last + 1)))


def answerable(goldens: Sequence[Golden], prompt: str) -> list[Said]:
    """The comments that a model could make after reading this prompt."""
    seen = shown(prompt, sorted({golden.path for golden in goldens}))
    known = (say(golden, seen.get(golden.path, {})) for golden in goldens)
    return [said for said in known if said is not None]


def never_shown(case: Case) -> int:
    """Golden comments of which no line is in any request (lock files)."""
    spoken: set[int] = set()
    for request in case.plan.requests:
        spoken |= {one.golden.number for one in answerable(case.goldens, case.plan.asker.user(request))}
    return len(case.goldens) - len(spoken)


Writer = Callable[[list[Said]], tuple[str, str]]  # the answer's text and how it ended: "stop" or "length"


@dataclass
class ScriptedBackend:
    """A model in this process: answers each prompt with the golden comments whose lines the prompt shows.

    It keeps to the schema's number of findings: wave n says the n-th such share, and `more` that one is left.
    """

    goldens: Sequence[Golden]
    write: Writer
    wave: int = 0
    more: bool = False
    replayed: Counter[int] = field(default_factory=Counter)
    name: str = "scripted"
    endpoint: Endpoint = field(default_factory=lambda: make_endpoint("http://127.0.0.1:1"))

    async def models(self) -> list[ModelInfo]:
        return [ModelInfo("scripted")]

    async def describe(self, model: str) -> ModelInfo:
        return ModelInfo(model)

    async def chat(self, request: ChatRequest) -> AsyncIterator[Delta | Done]:
        said = answerable(self.goldens, request.messages[-1].content)
        most: int = request.schema["properties"]["findings"]["maxItems"]  # type: ignore[index]
        self.more = self.more or len(said) > (self.wave + 1) * most
        said = said[self.wave * most : (self.wave + 1) * most]
        self.replayed.update(one.golden.number for one in said)
        text, finish = self.write(said)
        for at in range(0, len(text), 4000):
            yield Delta(text[at : at + 4000])
        yield Done(finish)

    async def aclose(self) -> None:
        return None


def entry(said: Said) -> dict[str, object]:
    """The comment as a model that keeps to the schema would say it."""
    golden = said.golden
    return {
        "path": golden.path,
        "title": golden.title,
        "category": golden.category,
        "severity": "medium",
        "confidence": 0.8,
        "line_start": golden.start,
        "line_end": golden.end,
        "quote": said.quote,
        "explanation": golden.note,
        "suggestion": "",
        "replacement": "",
    }


async def run(case: Case, backend: ScriptedBackend) -> tuple[Report, Review]:
    """The production review of one pull request with that model."""
    engine = EngineInfo("local", backend.name, "scripted", "")
    progress = Progress(io.StringIO(), SETTINGS.lang, quiet=True)
    review = Review("bench", case.plan, engine, SETTINGS, case.target, None, progress, asyncio.Event())
    return await review.run(backend), review


def bench_folder() -> Path:
    """The data, or the end of the script."""
    bench = os.environ.get("REVIEW_AGENT_BENCH")
    if not bench:
        print("REVIEW_AGENT_BENCH is not set: the folder that holds the data sets", file=sys.stderr)
        sys.exit(2)
    return Path(bench)
