"""Which programs `run_command` may start, with which options on which paths: the table and its use.

Deny by default: an option is allowed because it stands in `command_rules.toml`, spelt out and with the kind
of its value. What comes out is a new argument list in which our own words stand between options and operands.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Protocol

from review_agent.agent.errors import CommandRefused

PAST_THE_END = "--"


class Paths(Protocol):
    """Says whether a program may be handed a path."""

    def check(self, path: str) -> None:
        """Raises CommandRefused when not. `path` is relative to the directory that the command runs in."""

    def check_all(self) -> None:
        """Raises CommandRefused unless everything below the root may be read."""


@dataclass(frozen=True, slots=True)
class Option:
    """`kind` is "" for a switch. `value`: required, attached (only `--x=v`), last (the next word, if any),
    apart (only the next word).
    """

    kind: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One command's table; what the fields mean stands in `command_rules.toml`."""

    name: str
    options: Mapping[str, Option]
    operands: str = "none"
    special: str = ""
    runs: tuple[str, ...] = ()
    adds: tuple[str, ...] = ()
    at_most: int = 10_000
    input: bool = False
    here: bool = False
    number: bool = False
    dashes: bool = True
    at_files: bool = False
    needs: frozenset[str] = frozenset()
    recursive: frozenset[str] = frozenset()
    no_pattern: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Parsed:
    """`options` as given, each with its value. `split` is where `--` stood among the operands, -1 if nowhere.

    `values` are the values of each option, in order.
    """

    options: tuple[str, ...]
    operands: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]
    split: int = -1


@cache
def rule_of(name: str, sub: str = "") -> Rule:
    """The rule of a program, or of a sub-command of git. Raises CommandRefused for any other."""
    table = _table()
    if name not in table:
        raise CommandRefused("policy.command", name=name)
    if not sub:
        return _rule(name, table[name])
    commands = {
        key: value for key, value in table[name].items() if isinstance(value, dict) and key != "shared"
    }
    if sub not in commands:
        raise CommandRefused("policy.git_command", name=sub)
    entry = commands[sub]
    if isinstance(like := entry.get("like"), str):
        entry = {**commands[like], **entry}
    shared = table[name]["shared"]
    return _rule(f"{name} {sub}", entry, shared if isinstance(shared, dict) else {})


@cache
def _table() -> dict[str, dict[str, object]]:
    text = (files(__package__) / "command_rules.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    return {
        name: {**table[entry["like"]], **entry} if "like" in entry else entry for name, entry in table.items()
    }


def _rule(name: str, entry: Mapping[str, object], shared: Mapping[str, object] | None = None) -> Rule:
    def words(key: str) -> frozenset[str]:
        return frozenset(str(entry.get(key, "")).split())

    def strings(key: str) -> tuple[str, ...]:
        value = entry.get(key, [])
        return tuple(map(str, value)) if isinstance(value, list) else ()

    text = re.sub(r"@(\w+)", lambda match: str((shared or {})[match[1]]), str(entry.get("options", "")))
    at_most = entry.get("at_most")
    return Rule(
        name=name,
        options={option: kind for word in text.split() for option, kind in [_option(word)]},
        operands=str(entry.get("operands", "none")),
        special=str(entry.get("special", "")),
        runs=strings("runs"),
        adds=strings("adds"),
        at_most=at_most if isinstance(at_most, int) else 10_000,
        input=bool(entry.get("input")),
        here=bool(entry.get("here")),
        number=bool(entry.get("number")),
        dashes=bool(entry.get("dashes", True)),
        at_files=bool(entry.get("at_files")),
        needs=words("needs"),
        recursive=words("recursive"),
        no_pattern=words("no_pattern"),
    )


_MODES = {":": "required", "?": "attached", "~": "last", "!": "apart"}


def _option(word: str) -> tuple[str, Option]:
    match = re.fullmatch(r"(--?[\w.-]+)(?:([:?~!])(\w+))?", word)
    if match is None:
        raise ValueError(word)  # the table is ours
    return match[1], Option(match[3] or "", _MODES.get(match[2] or "", ""))


# --- an argument list against a rule ---


def parse(rule: Rule, words: Sequence[str], paths: Paths) -> Parsed:
    """Options and operands of a command's words, its name left out; each option known, its value checked."""
    options: list[str] = []
    operands: list[str] = []
    values: dict[str, tuple[str, ...]] = {}
    split = -1
    rest = list(words)[::-1]

    def note(name: str, value: str) -> None:
        values[name] = (*values.get(name, ()), value)

    while rest:
        word = rest.pop()
        if split >= 0 or word == "-" or not word.startswith("-"):
            operands.append(word)
        elif word == PAST_THE_END:
            split = len(operands)
        elif rule.number and re.fullmatch(r"-\d{1,9}", word):
            options.append(word)
        elif word.startswith(PAST_THE_END):
            options += _long(rule, word, rest, paths, note)
        else:
            options += _short(rule, word, rest, paths, note)
    return Parsed(tuple(options), tuple(operands), values, split)


_Note = Callable[[str, str], None]


def _long(rule: Rule, word: str, rest: list[str], paths: Paths, note: _Note) -> list[str]:
    name, equals, value = word.partition("=")
    option = known_option(rule, name)
    if equals:
        if not option.kind:
            raise CommandRefused("policy.no_value", command=rule.name, option=name)
        check_value(rule, name, option.kind, value, paths)
        note(name, value)
        return [word]
    if option.value == "required" or (option.value == "last" and rest):
        value = _next(rule, name, option.kind, rest)
        check_value(rule, name, option.kind, value, paths)
        note(name, value)
        # As one word: whatever a program takes this option for, its value stays a value.
        return [f"{name}={value}"] if option.value == "required" else [name, value]
    note(name, "")
    return [name]


def _short(rule: Rule, word: str, rest: list[str], paths: Paths, note: _Note) -> list[str]:
    """A cluster: switches, and at its end an option with a value."""
    for at, letter in enumerate(word[1:], start=1):
        name = f"-{letter}"
        option = known_option(rule, name)
        if not option.kind:
            note(name, "")
            continue
        value, extra = word[at + 1 :], []
        needed = option.value in ("required", "apart")
        if value and option.value == "apart":  # to the program, letters here are more options
            if option.kind != "count" or not value.isdecimal():
                raise CommandRefused("policy.no_value", command=rule.name, option=name)
            word, extra = word[: at + 1], [value]
        if not value and needed:
            value = _next(rule, name, option.kind, rest)
            extra = [value]
        if value or needed:
            check_value(rule, name, option.kind, value, paths)
        note(name, value)
        return [word, *extra]
    return [word]


def known_option(rule: Rule, name: str) -> Option:
    """The option of that name. Raises CommandRefused for one that is not in the table."""
    option = rule.options.get(name)
    if option is None:
        raise CommandRefused("policy.option", command=rule.name, option=name)
    return option


def _next(rule: Rule, name: str, kind: str, rest: list[str]) -> str:
    """The next word as a value. One with a dash could be an option after all, if our table were wrong."""
    if not rest:
        raise CommandRefused("policy.value_missing", command=rule.name, option=name)
    value = rest.pop()
    if value.startswith("-") and kind != "any" and not re.fullmatch(r"-\d{1,9}", value):
        raise CommandRefused("policy.value_dash", command=rule.name, option=name, value=value)
    return value


_COUNT = re.compile(r"[+-]?\d{1,12}(?:[kKmMgGbBcw]i?[bB]?)?")
_SCORE = re.compile(r"[\d%/]*")
_WORD_VALUE = re.compile(r"[a-z]*")
# What makes git start another program: a signature's check, and its own describe. `%+G?` is `%G?` as well.
_STARTS_PROGRAM = re.compile(r"%[-+ ]*G|(?i:signature|describe)")


def check_value(rule: Rule, name: str, kind: str, value: str, paths: Paths) -> None:
    """Raises CommandRefused for a value that is not of its kind."""
    if kind == "path":
        paths.check(value)
        return
    if kind == "lines":
        _, colon, path = value.rpartition(":")
        if colon:
            paths.check(path)
        return
    fine = {
        "text": True,
        "any": True,
        "word": bool(_WORD_VALUE.fullmatch(value)),
        "count": bool(_COUNT.fullmatch(value)),
        "score": bool(_SCORE.fullmatch(value)),
        "rev": not value.startswith("-"),
        "format": not _STARTS_PROGRAM.search(value),
    }[kind]
    if not fine:
        raise CommandRefused("policy.value", command=rule.name, option=name, value=value)


def arguments(rule: Rule, words: Sequence[str], paths: Paths, *, piped: bool) -> list[str]:
    """The checked argument list of a command without a grammar of its own. `piped`: it has an input."""
    parsed = parse(rule, words, paths)
    operands = _operands(rule, parsed, paths, piped=piped)
    if parsed.split >= 0 and not rule.dashes and rule.operands != "text":
        raise CommandRefused("policy.option", command=rule.name, option=PAST_THE_END)
    if not rule.dashes:
        return [*parsed.options, *rule.adds, *([PAST_THE_END] if parsed.split >= 0 else []), *operands]
    if rule.operands in ("revs", "pattern-revs"):  # for git, what stands before `--` is something else
        before, after = operands[: parsed.split], operands[parsed.split :]
        if parsed.split < 0:
            return [*parsed.options, *rule.adds, *operands]
        return [*parsed.options, *rule.adds, *before, PAST_THE_END, *after]
    return [*parsed.options, *rule.adds, PAST_THE_END, *operands]


def _operands(rule: Rule, parsed: Parsed, paths: Paths, *, piped: bool) -> tuple[str, ...]:
    operands = parsed.operands
    given = parsed.values.keys()
    if len(operands) > rule.at_most or (rule.operands == "none" and operands):
        raise CommandRefused("policy.operand", command=rule.name, operand=operands[-1])
    if operands and rule.needs and not rule.needs & given:
        raise CommandRefused("policy.operand", command=rule.name, operand=operands[0])
    pattern = rule.operands.startswith("pattern") and not given & {"-e", "--regexp", *rule.no_pattern}
    if pattern and not operands:
        raise CommandRefused("policy.pattern_missing", command=rule.name)
    named = operands[1:] if pattern else operands
    if rule.operands != "text":
        for operand in named:
            _check_operand(rule, operand, paths, piped=piped)
    if not named and (rule.here or rule.recursive & given):
        paths.check(".")
    reads = (rule.input and not named) or (rule.operands == "text" and rule.input)
    if reads and not piped and not rule.recursive & given:
        raise CommandRefused("policy.input", command=rule.name)
    return operands


def _check_operand(rule: Rule, operand: str, paths: Paths, *, piped: bool) -> None:
    if operand == "-":
        if not piped:
            raise CommandRefused("policy.input", command=rule.name)
    elif not rule.operands.endswith("revs"):
        if rule.at_files and operand.startswith("@"):
            raise CommandRefused("policy.operand", command=rule.name, operand=operand)
        paths.check(operand)
    else:
        if looks_like_path(operand):
            paths.check(operand.removeprefix(":!").removeprefix(":^") or ".")
        if ":" in operand:
            paths.check(_path_within(operand) or ".")


_MAGIC = re.compile(r":(?:\([^)]*\)|\d:|[!^/]+)?")  # of a pathspec; `:1:x` is a version of x in the index


def _path_within(operand: str) -> str:
    """The path behind a revision, `HEAD:x`, or behind the magic of a pathspec, `:(top)x`."""
    magic = _MAGIC.match(operand)
    return operand[magic.end() :] if magic else operand.partition(":")[2]


def looks_like_path(operand: str) -> bool:
    """Whether git could take an operand for a path outside of the work tree. A revision may hold `..` too."""
    return operand.startswith(("/", "~")) or ".." in operand.split("/") or ":" not in operand
