"""What `run`, `resume`, `report` and `preview` share: settings, target, store and engine of one command."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from review_agent.agent.config import Loaded, load, user_config_file
from review_agent.agent.errors import FileRefused, GitError, StoreError
from review_agent.agent.models import Change, EngineInfo, Note, SourceFile
from review_agent.agent.settings import Settings
from review_agent.agent.target import Target
from review_agent.checkpoints.store import RunRow, Store, default_path, state_folder
from review_agent.tools.bait_checks import find_bait
from review_agent.tools.encoding import decode, split_lines
from review_agent.tools.files import FileGate
from review_agent.tools.git import Repository

CONFIG_NAME = ".review-agent.toml"
GUIDANCE = ("REVIEW.md", "AGENTS.md", "CLAUDE.md")
GUIDANCE_CHARS = 1500
_CONFIG_BYTES = 1024 * 1024


def _from_base64(text: str) -> bytes:
    """A damaged diff must not become an empty one."""
    return base64.b64decode(text, validate=True)


class Recorded(BaseModel):
    """A run's request as the store keeps it: enough to do the same again."""

    model_config = ConfigDict(extra="ignore")

    kind: Literal["tree", "working", "staged", "range", "commit", "diff"]
    root: str
    base: str = ""
    head: str = ""
    diff_file: str = ""
    diff_text: Annotated[bytes, BeforeValidator(_from_base64)] = b""  # standard input cannot be read twice
    flags: dict[str, str | int | float | list[str]]
    outputs: list[tuple[str, str]] = []
    model_key: str = ""
    model_context: int = 0
    demo: bool = False
    fresh: bool = False
    allowed: list[str] | None = None  # the directories that could be read
    engine: dict[str, str] = {}
    cloud_key: str = ""
    pushed: str = ""  # remote and ref of the push that it was for
    pull: int = 0
    since: str = ""
    why: str = ""
    review_key: str = ""

    def target(self) -> Target:
        return Target(
            self.kind, self.root, self.base, self.head, self.diff_file, self.diff_text,
            pull=self.pull, since=self.since, why=self.why,
        )  # fmt: skip

    def engine_info(self) -> EngineInfo:
        given = self.engine
        return EngineInfo(
            mode=given.get("mode", "local"),
            backend=given.get("backend", ""),
            model=given.get("model", ""),
            model_digest=given.get("model_digest", ""),
            orchestrator=given.get("orchestrator", "direct"),
            cloud_host=given.get("cloud_host", ""),
            cloud_model=given.get("cloud_model", ""),
        )


def record(
    target: Target,
    flags: Mapping[str, object],
    outputs: list[tuple[str, str]],
    *,
    engine: EngineInfo,
    model_context: int,
    demo: bool,
    fresh: bool,
    cloud_key: str = "",
    pushed: str = "",
    review_key: str = "",
) -> str:
    plain = {name: list(value) if isinstance(value, list | tuple) else value for name, value in flags.items()}
    return json.dumps(
        {
            "kind": target.kind,
            "root": str(Path(target.root).resolve()),
            "base": target.base,
            "head": target.head,
            "diff_file": target.diff_file,
            "diff_text": base64.b64encode(target.diff_text).decode(),
            "flags": plain,
            "outputs": outputs,
            "model_key": model_key(engine),
            "model_context": model_context,
            "demo": demo,
            "fresh": fresh,
            "allowed": list(target.allowed),
            "engine": {
                "mode": engine.mode,
                "backend": engine.backend,
                "model": engine.model,
                "model_digest": engine.model_digest,
                "orchestrator": engine.orchestrator,
                "cloud_host": engine.cloud_host,
                "cloud_model": engine.cloud_model,
            },
            **({"cloud_key": cloud_key} if cloud_key else {}),
            **({"pushed": pushed} if pushed else {}),
            **(_pull(target, review_key) if target.pull else {}),
        },
        ensure_ascii=True,
    )


def _pull(target: Target, review_key: str) -> dict[str, str | int]:
    return {"pull": target.pull, "since": target.since, "why": target.why, "review_key": review_key}


def recorded(row: RunRow) -> Recorded:
    try:
        return Recorded.model_validate_json(row.request)
    except ValidationError as exc:
        raise StoreError("run_unreadable", run=row.run_id) from exc


def target_digest(asked: str) -> str:
    """What is reviewed and how, of a recorded request: equal for runs that would do the same.

    How far a run may go, and where its report goes, makes no other run of it.
    """
    fields = json.loads(asked)
    kept = {
        name: fields[name]
        for name in (
            "kind",
            "root",
            "base",
            "head",
            "diff_text",
            "model_key",
            "fresh",
            "allowed",
            "cloud_key",
            "since",
        )
        if name in fields  # without a cloud side, runs of earlier versions are the same as ours
    }
    flags = {name: value for name, value in fields["flags"].items() if name not in _NOT_OF_TARGET}
    text = json.dumps({**kept, "flags": flags}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


_NOT_OF_TARGET = frozenset(
    {"max_files", "max_seconds", "max_tokens", "max_cloud_tokens", "format", "concurrency", "fail_on"}
)


def model_key(engine: EngineInfo) -> str:
    """What identifies the model in the cache key: its digest, else server kind and name."""
    return engine.model_digest or f"{engine.backend}:{engine.model}"


@dataclass(frozen=True, slots=True)
class Trusted:
    """What the reviewed repository may tell us, read from a commit that the change cannot alter."""

    config: str | None = None
    guidance: str = ""
    notes: tuple[Note, ...] = ()
    guidance_path: str = ""


def read_trusted(target: Target) -> Trusted:
    """Configuration and guidance: of the base commit for a range or commit, else of work tree and HEAD."""
    location = target.repository()
    if location is None:
        return Trusted(config=_on_disk(Path(target.root).resolve()))
    with Repository(location) as repo:
        base = _base(repo, target)
        found = _guidance(repo, base) if base else Trusted()
        if target.kind not in ("range", "commit"):
            return replace(found, config=_on_disk(location.root))
        data = repo.file_at(base, CONFIG_NAME, _CONFIG_BYTES) if base else None
        return replace(found, config=decode(data).text if data is not None else None)


def _base(repo: Repository, target: Target) -> str | None:
    try:
        if target.kind == "range":
            return repo.merge_base(repo.resolve(target.base or "HEAD"), repo.resolve(target.head))
        if target.kind == "commit":
            parents = repo.parents(repo.resolve(target.head))
            return parents[0] if parents else None
    except GitError:
        return None  # `select` meets the same trouble and says so
    return repo.head()


def _guidance(repo: Repository, commit: str) -> Trusted:
    """The first of the usual files that exists, cut to a length that leaves the prompt to the code.

    It would stand in every request: one that tries to steer the model is left out, and the report says so.
    """
    for name in GUIDANCE:
        data = repo.file_at(commit, name, _CONFIG_BYTES)
        if data is not None and data.strip():
            text = decode(data).text.strip()
            if find_bait(SourceFile(name, "markdown", split_lines(text), "", Change.WHOLE)):
                return Trusted(notes=(Note("guidance_refused", {"file": name}),))
            short = text if len(text) <= GUIDANCE_CHARS else text[:GUIDANCE_CHARS] + "…"
            return Trusted(guidance=short, guidance_path=name)
    return Trusted()


def _on_disk(root: Path) -> str | None:
    try:
        return decode(FileGate(root, max_file_size=_CONFIG_BYTES).read(CONFIG_NAME)).text
    except FileRefused:
        return None


def trusting(target: Target, environ: Mapping[str, str]) -> Target:
    """The target with the folders that the user, and never the reviewed repository, allows to read."""
    settings = load_settings({}, environ, Trusted()).settings
    return replace(target, allowed=settings.allowed_directories)


def load_settings(flags: Mapping[str, object], environ: Mapping[str, str], trusted: Trusted) -> Loaded:
    user_file = user_config_file()
    return load(
        flags=flags,
        environ=environ,
        user_file=user_file if user_file.exists() else None,
        repo_text=trusted.config,
        repo_name=CONFIG_NAME,
    )


def open_store(settings: Settings, environ: Mapping[str, str]) -> Store | None:
    """The run store; None when the user switched checkpoints off."""
    if not settings.checkpoint_enabled:
        return None
    key = environ.get("REVIEW_AGENT_CACHE_KEY", "")
    return Store(default_path(settings.checkpoint_path), home=state_folder(), cache_key=key)


def new_run_id() -> str:
    return time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)


def repository_key(target: Target) -> str:
    """Names the repository of a target in the store."""
    location = target.repository()
    return str(location.root if location is not None else Path(target.root).resolve())
