"""Every setting: type, default, and who may set it. The one table behind loading, `config` and the docs.

Cheap to import: validation (pydantic) lives in `agent.config`. Defaults stand in `Settings` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args

from review_agent.agent.models import Severity

Mode = Literal["auto", "local", "hybrid", "cloud"]
Backend = Literal["auto", "ollama", "openai", "anthropic", "embedded"]
Orchestrator = Literal["auto", "direct", "agent"]
Lang = Literal["zh-CN", "en"]
Format = Literal["terminal", "markdown", "json", "sarif", "codequality", "rdjson"]
OnError = Literal["allow", "block"]

NEVER = "never"
AUTO = "auto"
SEVERITIES = tuple(str(severity) for severity in Severity)


class Source(StrEnum):
    REPOSITORY = "repository"
    USER = "user"
    ENVIRONMENT = "environment"
    FLAG = "flag"


class Kind(StrEnum):
    """How a value is written. The sentence for a wrong one is `[errors_config] config_value_<kind>`."""

    CHOICE = "choice"
    SEVERITY = "severity"
    TEXT = "text"
    URL = "url"
    VARIABLE = "variable"
    DURATION = "duration"
    LIST = "list"
    SWITCH = "switch"
    COUNT = "count"  # 1 or more
    LIMIT = "limit"  # 0 = no limit
    AUTO = "auto"  # a count, or "auto", kept as 0
    FRACTION = "fraction"
    SIZE = "size"
    RULES = "rules"


class Narrow(StrEnum):
    """What becomes of a value that the reviewed repository asks for."""

    YIELDS = "yields"  # counts only where the user says nothing
    ADDS = "adds"  # joins the user's list
    STRICTER = "stricter"  # counts only when stricter than what everybody else says


@dataclass(frozen=True, slots=True)
class Rule:
    """A team's own rule for the model. No `paths` = every file; no `severity` = the model's."""

    id: str
    text: str
    paths: tuple[str, ...] = ()
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Empty text or list = not set, then the program's own choice counts."""

    mode: Mode = "auto"
    backend: Backend = "auto"
    base_url: str = ""
    model: str = ""
    verify_model: str = ""
    orchestrator: Orchestrator = "auto"
    agent_base_url: str = ""
    num_ctx: int = 0  # 0 = auto
    concurrency: int = 0  # 0 = auto
    keep_alive: str = "30m"
    request_timeout: int = 600  # seconds without progress
    api_key_env: str = ""
    models_path: str = ""
    allowed_hosts: tuple[str, ...] = ()
    local_only: tuple[str, ...] = ()
    cloud_allowed: tuple[str, ...] = ()  # () = everything that is not local_only
    max_files: int = 0  # 0 = no limit, here and in the next two
    max_seconds: int = 0
    max_tokens: int = 0
    max_cloud_tokens: int = 0  # 0 = no limit
    max_turns: int = 50
    max_file_size: int = 10 * 1024 * 1024  # bytes
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    lang: Lang = "zh-CN"
    format: Format = "terminal"
    fail_on: Severity | None = None  # None = never
    min_severity: Severity = Severity.INFO
    min_confidence: float = 0.0
    baseline: str = ""
    on_error: OnError = "allow"
    tools: tuple[str, ...] = ()
    system_prompt: str = ""
    allowed_directories: tuple[str, ...] = ()
    blocked_commands: tuple[str, ...] = ()
    allow_commands: bool = False
    bash_timeout: int = 60  # seconds
    checkpoint_enabled: bool = True
    checkpoint_path: str = ""
    checkpoint_interval: int = 10  # turns


DEFAULTS = Settings()


@dataclass(frozen=True, slots=True)
class Key:
    """One row; its description is `[config] <name>`. A repository may set it only where `narrow` says how."""

    name: str
    kind: Kind
    choices: tuple[str, ...] = ()
    narrow: Narrow | None = None
    flag: bool = False
    environment: bool = True

    @property
    def default(self) -> object:
        return getattr(DEFAULTS, self.name)

    @property
    def sources(self) -> frozenset[Source]:
        allowed = {
            Source.REPOSITORY: self.narrow is not None,
            Source.USER: True,
            Source.ENVIRONMENT: self.environment,
            Source.FLAG: self.flag,
        }
        return frozenset(source for source, yes in allowed.items() if yes)

    @property
    def variable(self) -> str:
        return f"REVIEW_AGENT_{self.name.upper()}"

    @property
    def option(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def camel(self) -> str:
        head, *tail = self.name.split("_")
        return head + "".join(part.capitalize() for part in tail)


KEYS: tuple[Key, ...] = (
    Key("mode", Kind.CHOICE, get_args(Mode), flag=True),
    Key("backend", Kind.CHOICE, get_args(Backend), flag=True),
    Key("base_url", Kind.URL, flag=True),
    Key("model", Kind.TEXT, flag=True),
    Key("verify_model", Kind.TEXT, flag=True),
    Key("orchestrator", Kind.CHOICE, get_args(Orchestrator), flag=True),
    Key("agent_base_url", Kind.URL, flag=True),
    Key("num_ctx", Kind.AUTO, flag=True),
    Key("concurrency", Kind.AUTO, flag=True),
    Key("keep_alive", Kind.DURATION),
    Key("request_timeout", Kind.COUNT),
    Key("api_key_env", Kind.VARIABLE),
    Key("models_path", Kind.TEXT),
    Key("allowed_hosts", Kind.LIST),
    Key("local_only", Kind.LIST, narrow=Narrow.ADDS),
    Key("cloud_allowed", Kind.LIST),
    Key("max_files", Kind.LIMIT, narrow=Narrow.STRICTER, flag=True),
    Key("max_seconds", Kind.LIMIT, narrow=Narrow.STRICTER, flag=True),
    Key("max_tokens", Kind.LIMIT, narrow=Narrow.STRICTER, flag=True),
    Key("max_cloud_tokens", Kind.LIMIT, narrow=Narrow.STRICTER, flag=True),
    Key("max_turns", Kind.COUNT, narrow=Narrow.STRICTER, flag=True),
    Key("max_file_size", Kind.SIZE, narrow=Narrow.STRICTER),
    Key("include", Kind.LIST, narrow=Narrow.ADDS, flag=True),
    Key("exclude", Kind.LIST, narrow=Narrow.ADDS, flag=True),
    Key("rules", Kind.RULES, narrow=Narrow.ADDS, environment=False),
    Key("lang", Kind.CHOICE, get_args(Lang), narrow=Narrow.YIELDS, flag=True),
    Key("format", Kind.CHOICE, get_args(Format), flag=True),
    Key(
        "fail_on",
        Kind.SEVERITY,
        (*SEVERITIES[:-1], NEVER),
        narrow=Narrow.STRICTER,
        flag=True,
    ),
    Key("min_severity", Kind.SEVERITY, SEVERITIES, narrow=Narrow.STRICTER, flag=True),
    Key("min_confidence", Kind.FRACTION, narrow=Narrow.STRICTER, flag=True),
    Key("baseline", Kind.TEXT, flag=True),
    Key("on_error", Kind.CHOICE, get_args(OnError), narrow=Narrow.STRICTER),
    Key("tools", Kind.LIST),
    Key("system_prompt", Kind.TEXT),
    Key("allowed_directories", Kind.LIST),
    Key("blocked_commands", Kind.LIST),
    Key("allow_commands", Kind.SWITCH, flag=True),
    Key("bash_timeout", Kind.COUNT),
    Key("checkpoint_enabled", Kind.SWITCH),
    Key("checkpoint_path", Kind.TEXT),
    Key("checkpoint_interval", Kind.COUNT),
)

# Accepted and checked, but nothing acts on them yet; setting one is said in the report.
PLANNED = frozenset({"baseline"})
