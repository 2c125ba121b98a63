"""Settings from defaults, the user's file, the environment, flags and, where it may, the reviewed repository.

Weakest first in that order. The repository's file is hostile data: it can add, and make stricter, but never
loosen. pydantic validates each value once here; inside, `Settings` is trusted.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from review_agent.agent.errors import ConfigError
from review_agent.agent.models import Note, Severity
from review_agent.agent.settings import AUTO, KEYS, NEVER, PLANNED, Key, Kind, Narrow, Rule, Settings, Source

if TYPE_CHECKING:
    from pydantic import TypeAdapter

REPOSITORY_FILE = ".review-agent.toml"
MAX_CONFIG_BYTES = 1_000_000
_MAX_DOTTED = 10_000_000  # a second; some 3000 dots, where a long list of globs has a few hundred
PREFIX = "REVIEW_AGENT_"
OTHER_VARIABLES = frozenset(  # ours, but no settings
    {
        f"REVIEW_AGENT_{name}"
        for name in ("CORPUS", "BENCH", "OLLAMA", "GGUF", "CI_CACHE", "CACHE_KEY", "FAULT", "SKIP")
    }
)

_BY_NAME = {key.name: key for key in KEYS}
_BY_SPELLING = {spelling: key for key in KEYS for spelling in (key.name, key.camel)}
_ONE_LINE = r"[^\x00-\x1f\x7f]+"
_SIZE = re.compile(r"(\d{1,12})\s*([kmg]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_FACTOR = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


@dataclass(frozen=True)
class Loaded:
    """`origins` says for each key where its value came from.

    It is "default", "user:<file>", "env:<variable>", "flag" or "repo:<file>"; where the repository added to a
    list, both are joined by " + ".
    """

    settings: Settings
    origins: Mapping[str, str]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class _Given:
    value: object
    origin: str


_Layer = dict[str, _Given]


def user_config_file() -> Path:
    from platformdirs import user_config_path

    return user_config_path("review-agent") / "config.toml"


def load(
    *,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    user_file: Path | None,
    repo_text: str | None,
    repo_name: str,
) -> Loaded:
    """`user_file` need not exist. In `flags`, None and empty lists mean not given. `repo_name` is shown."""
    stated = _user_layer(user_file) | _environment_layer(environ) | _flag_layer(flags)
    asked, notes = _repository_layer(repo_text, repo_name) if repo_text is not None else ({}, [])

    merged = {key.name: _Given(key.default, "default") for key in KEYS} | stated
    for name, wish in asked.items():
        merged[name], note = _narrowed(_BY_NAME[name], merged[name], wish)
        notes += note
    _check_consent(merged)
    origins = MappingProxyType({name: given.origin for name, given in merged.items()})
    return Loaded(_settings({name: given.value for name, given in merged.items()}), origins, tuple(notes))


# What lets code leave this machine. A variable may come from anywhere, a file of the repository among them.
_CONSENT = {"mode": ("hybrid", "cloud"), "backend": ("anthropic",)}


def _check_consent(merged: _Layer) -> None:
    for name, values in _CONSENT.items():
        given = merged[name]
        if given.value in values and given.origin.startswith("env:"):
            variable = given.origin.removeprefix("env:")
            raise ConfigError("errors_cloud.not_from_environment", file=variable, value=given.value)


def planned(loaded: Loaded) -> tuple[Note, ...]:
    """A note for each setting that was set and that nothing acts on yet."""
    notes = tuple(
        Note("setting_planned", {"name": key.name})
        for key in KEYS
        if key.name in PLANNED and getattr(loaded.settings, key.name) != key.default
    )
    return (*notes, Note("commands_unused")) if _runs_nothing(loaded.settings) else notes


def _runs_nothing(settings: Settings) -> bool:
    """Whether commands are allowed, but no agent will run any. What the cloud asks for is not run."""
    local = settings.mode in ("auto", "local") and settings.backend != "anthropic"
    return settings.allow_commands and not (local and settings.orchestrator == "agent")


def read_config_text(path: Path) -> str:
    """Text of at most `MAX_CONFIG_BYTES`. A missing file stays a FileNotFoundError: the caller judges it."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise ConfigError("errors_config.config_unreadable", file=str(path)) from exc
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError("errors_config.config_too_big", file=str(path), limit=MAX_CONFIG_BYTES)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigError("errors_config.config_encoding", file=str(path)) from exc


# --- one layer a source ---


def _user_layer(path: Path | None) -> _Layer:
    try:
        text = read_config_text(path) if path is not None else ""
    except FileNotFoundError:
        return {}
    file = str(path)
    layer: _Layer = {}
    for key, raw in _keys(_table(text, file), file):
        layer[key.name] = _Given(_value(key, raw, file, strict=True), f"user:{file}")
    return layer


def _environment_layer(environ: Mapping[str, str]) -> _Layer:
    layer: _Layer = {}
    by_variable = {key.variable: key for key in KEYS}
    ours = sorted(name for name in environ if name.startswith(PREFIX))
    for variable in ours:
        if variable in OTHER_VARIABLES:
            continue
        if (key := by_variable.get(variable)) is None:
            raise _unknown(variable, variable, _BY_NAME)
        if not key.environment:
            raise ConfigError("errors_config.config_not_from_environment", file=variable, name=key.name)
        if environ[variable]:  # an empty variable is how workflows pass on an input that nobody set
            layer[key.name] = _Given(_value(key, environ[variable], variable), f"env:{variable}")
    return layer


def _flag_layer(flags: Mapping[str, object]) -> _Layer:
    layer: _Layer = {}
    for name, raw in flags.items():
        key = _BY_NAME.get(name)
        if key is None or not key.flag:
            raise _unknown(name, "flags", [known.name for known in KEYS if known.flag])
        if raw is not None and raw not in ((), []):
            layer[name] = _Given(_value(key, raw, key.option), "flag")
    return layer


def _repository_layer(text: str, name: str) -> tuple[_Layer, list[Note]]:
    if len(text) > MAX_CONFIG_BYTES:
        raise ConfigError("errors_config.config_too_big", file=name, limit=MAX_CONFIG_BYTES)
    # tomllib takes time and memory by the square of a dotted key's parts, and by its length for each line.
    dots = text.count(".")
    if dots * (dots + text.count("\n")) > _MAX_DOTTED:
        crowded = max(text.split("\n"), key=lambda line: line.count("."))
        line = text[: text.index(crowded)].count("\n") + 1
        raise ConfigError("errors_config.config_syntax", file=name, line=line)
    layer: _Layer = {}
    notes: list[Note] = []
    for key, raw in _keys(_table(text.removeprefix("\ufeff"), name), name):
        if Source.REPOSITORY in key.sources:
            layer[key.name] = _Given(_value(key, raw, name, strict=True), f"repo:{name}")
        else:
            notes.append(Note("repo_setting_ignored", {"name": key.name, "file": name}))
    return layer, notes


def _table(text: str, file: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        found = re.search(r"at line (\d+)", str(exc))
        line = int(found[1]) if found else text.count("\n") + 1
        raise ConfigError("errors_config.config_syntax", file=file, line=line) from exc
    except (ValueError, RecursionError) as exc:  # a number of 5000 digits; 1000 nested arrays
        raise ConfigError("errors_config.config_syntax", file=file, line=1) from exc


def _keys(table: Mapping[str, object], file: str) -> Iterable[tuple[Key, object]]:
    seen: set[str] = set()
    for spelling, raw in table.items():
        if (key := _BY_SPELLING.get(spelling)) is None:
            raise _unknown(spelling, file, _BY_NAME)
        if key.name in seen:
            raise ConfigError("errors_config.config_key_twice", file=file, name=key.name, other=key.camel)
        seen.add(key.name)
        yield key, raw


def _unknown(spelling: str, file: str, known: Iterable[str]) -> ConfigError:
    prefix = PREFIX if spelling.startswith(PREFIX) else ""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", spelling.removeprefix(prefix)[:80]).replace("-", "_").lower()
    nearest = difflib.get_close_matches(plain, list(known), n=1)
    name = _visible(spelling)
    if not nearest:
        return ConfigError("errors_config.config_unknown_key_far", file=file, name=name)
    known_as = prefix + nearest[0].upper() if prefix else nearest[0]
    return ConfigError("errors_config.config_unknown_key", file=file, name=name, nearest=known_as)


def _visible(text: str) -> str:
    """A key may be any text, an escape sequence too; it goes to a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:80])


# --- what a repository's wish becomes ---


def _narrowed(key: Key, now: _Given, wish: _Given) -> tuple[_Given, list[Note]]:
    file = wish.origin.removeprefix("repo:")
    match key.narrow:
        case Narrow.YIELDS:
            return (wish if now.origin == "default" else now), []
        case Narrow.ADDS:
            return _joined(now, wish)
        case _:
            if wish.value == now.value:
                return now, []
            if _looseness(key, wish.value) < _looseness(key, now.value):
                return wish, []
            return now, [Note("repo_setting_weaker", {"name": key.name, "file": file})]


def _looseness(key: Key, value: object) -> float:
    """Smaller = stricter: blocks more, shows more, stops sooner."""
    if isinstance(value, Severity):
        return -value.rank
    if isinstance(value, int | float):
        return float("inf") if key.kind is Kind.LIMIT and value == 0 else value
    if isinstance(value, str):
        return -key.choices.index(value)  # on_error: "allow", then "block"
    return float("inf")  # fail_on = "never"


def _joined(now: _Given, wish: _Given) -> tuple[_Given, list[Note]]:
    mine = now.value if isinstance(now.value, tuple) else ()
    theirs = wish.value if isinstance(wish.value, tuple) else ()
    taken = {rule.id for rule in mine if isinstance(rule, Rule)}
    file = wish.origin.removeprefix("repo:")
    added: list[object] = []
    notes: list[Note] = []
    for item in theirs:
        if item in mine:
            continue
        if isinstance(item, Rule) and item.id in taken:  # it must not replace a rule of the user's
            notes.append(Note("repo_setting_ignored", {"name": f"rules.{item.id}", "file": file}))
        else:
            added.append(item)
    origin = wish.origin if now.origin == "default" else f"{now.origin} + {wish.origin}"
    return (_Given((*mine, *added), origin) if added else now), notes


# --- one value ---


def _value(key: Key, raw: object, file: str, *, strict: bool = False) -> object:
    """`strict` for files, where a value has a type of its own; what comes as text otherwise is converted."""
    from pydantic import ValidationError

    strict = strict or not isinstance(raw, str)
    try:
        value = _adapter(key).validate_python(_prepared(key, raw, strict=strict), strict=strict)
    except ValidationError as exc:
        name = key.name + (_place(exc.errors()[0]["loc"]) if key.kind in (Kind.LIST, Kind.RULES) else "")
        expected = f"errors_config.config_value_{key.kind}"
        raise ConfigError(expected, file=file, name=name, choices=", ".join(key.choices)) from exc
    if key.kind is Kind.RULES:
        return _rules(value, file)
    if key.kind is Kind.SEVERITY:
        return None if value == NEVER else Severity(str(value))
    if key.kind is Kind.AUTO and value == AUTO:
        return 0
    return tuple(value) if isinstance(value, list) else value


def _place(loc: tuple[int | str, ...]) -> str:
    """Where in a list the trouble is, counted from 1: `[2].severity`."""
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{_visible(part)}" for part in loc)


def _prepared(key: Key, raw: object, *, strict: bool) -> object:
    """Our own ways to write a value, turned into what the adapter takes; it refuses what is left."""
    if isinstance(raw, str) and key.kind is Kind.LIST and not strict:
        return [part.strip() for part in raw.split(",") if part.strip()]
    if isinstance(raw, str) and key.kind is Kind.SIZE and (size := _SIZE.fullmatch(raw.strip())):
        return int(size[1]) * _FACTOR[size[2].lower()]
    return list(raw) if isinstance(raw, tuple) else raw


def _rules(value: object, file: str) -> tuple[Rule, ...]:
    """`value` has passed the adapter; what is left to say is that no id stands twice."""
    rules: list[Rule] = []
    for entry in value if isinstance(value, list) else []:
        severity = None if entry.severity is None else Severity(entry.severity)
        rules.append(Rule(entry.id, entry.text, tuple(entry.paths), severity))
    ids = [rule.id for rule in rules]
    if twice := next((name for name in ids if ids.count(name) > 1), ""):
        raise ConfigError("errors_config.config_rule_twice", file=file, name=twice)
    return tuple(rules)


@cache
def _adapter(key: Key) -> TypeAdapter[object]:
    from pydantic import Field, StringConstraints, TypeAdapter

    choice: Any = Literal[key.choices] if key.choices else None
    count: Any = Annotated[int, Field(ge=1, le=10**12)]
    line: Any = _text(1000, _ONE_LINE)
    types: dict[Kind, Any] = {
        Kind.CHOICE: choice,
        Kind.SEVERITY: choice,
        Kind.TEXT: Annotated[str, StringConstraints(max_length=20_000)],
        Kind.URL: _text(2000, r"(https?://[^\s/]\S*)?"),
        Kind.VARIABLE: _text(200, r"([A-Za-z_][A-Za-z0-9_]*)?"),
        Kind.DURATION: _text(20, r"-1|[0-9]+(ms|s|m|h)?"),
        Kind.LIST: Annotated[list[line], Field(max_length=1000)],
        Kind.SWITCH: bool,
        Kind.COUNT: count,
        Kind.LIMIT: Annotated[int, Field(ge=0, le=10**12)],
        Kind.AUTO: Literal["auto"] | count,
        Kind.FRACTION: Annotated[float, Field(ge=0, le=1)],
        Kind.SIZE: count,
    }
    return TypeAdapter(_rule_list() if key.kind is Kind.RULES else types[key.kind])


def _text(longest: int, pattern: str) -> Any:
    from pydantic import StringConstraints

    return Annotated[str, StringConstraints(max_length=longest, pattern=f"^({pattern})$")]


def _rule_list() -> Any:
    from pydantic import BaseModel, ConfigDict, Field, StringConstraints

    glob = Annotated[str, StringConstraints(max_length=1000, pattern=f"^{_ONE_LINE}$")]

    class RuleEntry(BaseModel):
        model_config = ConfigDict(extra="forbid")
        id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
        text: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
        paths: Annotated[list[glob], Field(max_length=100)] = []
        severity: Literal["critical", "high", "medium", "low", "info"] | None = None

    return Annotated[list[RuleEntry], Field(max_length=200)]


def _settings(values: Mapping[str, object]) -> Settings:
    from pydantic import TypeAdapter

    return TypeAdapter(Settings).validate_python(values)
