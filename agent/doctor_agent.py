"""What an agent would need, and where it would be: looked at without asking anybody or importing the SDK."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from review_agent.agent.cloud import cloud_place, effective_mode, key_name
from review_agent.agent.errors import ReviewError
from review_agent.agent.models import TrustClass
from review_agent.agent.settings import Settings
from review_agent.agent.sides import named_endpoint

PACKAGE, MODULE = "claude-agent-sdk", "claude_agent_sdk"
# Where an administrator's settings for the program lie. They hold for the one that comes with the SDK, too.
MANAGED = Path("/Library/Application Support/ClaudeCode" if sys.platform == "darwin" else "/etc/claude-code")
_VERSION = re.compile(r'__cli_version__ = "([^"]+)"')


@dataclass(frozen=True, slots=True)
class Program:
    """Versions of the SDK and of the program in it; '' = missing."""

    sdk: str
    claude: str


@dataclass(frozen=True, slots=True)
class Where:
    """The agent's endpoint in one mode. `url` '' = the local engine's own, `model` '' = the same as its."""

    mode: str
    url: str
    trust: str
    model: str


@dataclass(frozen=True, slots=True)
class AgentState:
    """`run` is where a run with these settings has its agent, None = it has none; `hybrid` where one in mode
    hybrid has it, None = nowhere that is allowed. `key` names the variable that holds one.
    """

    program: Program
    run: Where | None
    hybrid: Where | None
    key: str
    managed: tuple[str, ...]


def look(
    settings: Settings, environ: Mapping[str, str], managed: Path = MANAGED
) -> tuple[AgentState, list[ReviewError]]:
    """Facts, and what is wrong. Whatever makes a run impossible is said where the run is looked at."""
    program = _program()
    files = [managed / name for name in ("managed-settings.json", "managed-settings.d", "managed-mcp.json")]
    present = [file for file in files if file.exists()]
    state = AgentState(
        program,
        _of_run(settings, environ),
        _cloud(settings, environ, "hybrid"),
        key_name(environ),
        tuple(map(str, present)),
    )
    return state, [*_missing(program), *_managed(present)]


def _program() -> Program:
    try:
        sdk = version(PACKAGE)
    except PackageNotFoundError:
        return Program("", "")
    spec = find_spec(MODULE)
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    if folder is None or not (folder / "_bundled" / "claude").is_file():
        return Program(sdk, "")
    try:
        found = _VERSION.search((folder / "_cli_version.py").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return Program(sdk, found[1] if found else "?")


def _missing(program: Program) -> list[ReviewError]:
    if not program.sdk:
        return [ReviewError("doctor_agent_problems.sdk_missing")]
    return [] if program.claude else [ReviewError("doctor_agent_problems.program_missing", sdk=program.sdk)]


def _managed(present: Sequence[Path]) -> list[ReviewError]:
    kinds = {"managed-mcp.json": "managed_mcp"}
    return [
        ReviewError(f"doctor_agent_problems.{kinds.get(file.name, 'managed_settings')}", path=str(file))
        for file in present
    ]


def _of_run(settings: Settings, environ: Mapping[str, str]) -> Where | None:
    try:
        mode = effective_mode(settings)
        if settings.orchestrator == "direct":
            return None
        if mode != "local":
            return _cloud(settings, environ, mode)
        if settings.orchestrator != "agent":
            return None
        there = named_endpoint(settings)
    except ReviewError:
        return None
    trust = TrustClass.LOOPBACK if there is None else there.trust
    return Where(mode, "" if there is None else there.url, str(trust), settings.verify_model)


def _cloud(settings: Settings, environ: Mapping[str, str], mode: str) -> Where | None:
    """Its address may be on this machine: what is sent there counts as sent away all the same."""
    try:
        endpoint, model = cloud_place(settings, environ)
    except ReviewError:
        return None
    return Where(mode, endpoint.url, str(TrustClass.CLOUD), model)
