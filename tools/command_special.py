"""Commands whose words are a small language: find, sed, test, and git before its sub-command."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from review_agent.agent.errors import CommandRefused
from review_agent.tools.command_rules import (
    PAST_THE_END,
    Paths,
    Rule,
    arguments,
    check_value,
    known_option,
    parse,
    rule_of,
)
from review_agent.tools.sed_script import only_prints

_FIND_SIGNS = frozenset({"(", ")", "!", ","})
_SCRIPT_OPTIONS = ("-e", "--expression")
_TEST = frozenset(["-e", "-f", "-d", "-s", "-r", "-w", "-x", "-L", "-h"])


def special(rule: Rule, words: Sequence[str], paths: Paths, *, piped: bool) -> list[str]:
    """The checked argument list of a command that has a grammar of its own."""
    forms: dict[str, Callable[..., list[str]]] = {
        "echo": _echo,
        "find": _find,
        "sed": _sed,
        "test": _test,
        "git": _git,
    }
    return forms[rule.special](rule, words, paths, piped=piped)


def _echo(rule: Rule, words: Sequence[str], paths: Paths, *, piped: bool) -> list[str]:
    """Whatever it does not know as an option, `---` too, it prints."""
    return list(words)


def _find(rule: Rule, words: Sequence[str], paths: Paths, *, piped: bool) -> list[str]:
    rest = list(words)[::-1]
    if rest and rest[-1] == "-P":  # links are not followed: what we say anyway
        rest.pop()
    starts: list[str] = []
    while rest and not rest[-1].startswith("-") and rest[-1] not in ("(", "!"):
        starts.append(rest.pop())
    for start in starts or ["."]:
        paths.check(start)
    expression: list[str] = []
    while rest:
        word = rest.pop()
        expression.append(word)
        if word in _FIND_SIGNS:
            continue
        option = known_option(rule, word)
        if option.kind:
            if not rest:
                raise CommandRefused("policy.value_missing", command=rule.name, option=word)
            expression.append(rest.pop())
            check_value(rule, word, option.kind, expression[-1], paths)
    # A name such as `(` or `!x` would be an expression; with "./" before it, it is a path.
    places = [start if start.startswith(("/", ".")) else f"./{start}" for start in starts or ["."]]
    return ["-P", *places, *expression]


def _sed(rule: Rule, words: Sequence[str], paths: Paths, *, piped: bool) -> list[str]:
    """Printing, deleting and replacing on the way to standard output; no file, no command, no label."""
    parsed = parse(rule, words, paths)
    scripts = [script for option in _SCRIPT_OPTIONS for script in parsed.values.get(option, ())]
    operands = parsed.operands
    if not scripts:
        if not operands:
            raise CommandRefused("policy.pattern_missing", command=rule.name)
        scripts, operands = [operands[0]], operands[1:]
    for script in scripts:
        if not only_prints(script):
            raise CommandRefused("policy.value", command=rule.name, option="-e", value=script)
    for operand in operands:
        if operand != "-":
            paths.check(operand)
    if not piped and (not operands or "-" in operands):
        raise CommandRefused("policy.input", command=rule.name)
    switches = [option for option in parsed.values if option not in _SCRIPT_OPTIONS]
    # The short form, since BSD's sed has no long ones.
    return [*switches, *(word for script in scripts for word in ("-e", script)), PAST_THE_END, *operands]


def _test(rule: Rule, words: Sequence[str], paths: Paths, *, piped: bool) -> list[str]:
    negated = words[:1] == ["!"]
    question = list(words[1:] if negated else words)
    if len(question) != 2 or question[0] not in _TEST:
        raise CommandRefused("policy.option", command=rule.name, option=question[0] if question else "")
    paths.check(question[1])
    return list(words)


def _git(rule: Rule, words: Sequence[str], paths: Paths, *, piped: bool) -> list[str]:
    at = 0
    while at < len(words) and words[at].startswith("-"):
        if words[at] not in rule.options:
            raise CommandRefused("policy.option", command="git", option=words[at].partition("=")[0])
        at += 1
    options = list(words[:at])
    if "--version" in options:
        return ["version"]
    if at == len(words):
        raise CommandRefused("policy.git_command", name="")
    sub = rule_of("git", words[at])
    paths.check_all()  # history holds every file
    if sub.special == "git-stash":  # without `list` it changes the work tree
        if list(words[at + 1 :]) != ["list"]:
            raise CommandRefused("policy.git_command", name=" ".join(words[at : at + 2]))
        return [*options, "stash", "list"]
    rest = list(words[at + 1 :])
    if sub.special == "git-reflog":
        if rest and rest[0] != "show" and not rest[0].startswith("-"):
            raise CommandRefused("policy.git_command", name=" ".join(words[at : at + 2]))
        rest = rest[rest[:1] == ["show"] :]
        return [*options, "reflog", "show", *arguments(sub, rest, paths, piped=piped)]
    return [*options, words[at], *arguments(sub, rest, paths, piped=piped)]
