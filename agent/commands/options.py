"""Options that several commands share. Those of a setting come from the table in `agent.settings`."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

import click

from review_agent.agent.errors import UsageError
from review_agent.agent.settings import KEYS, PLANNED, Key, Kind
from review_agent.prompts import say

TARGET_FLAGS = ("from", "to", "commit", "staged", "working", "diff_file")
OWN = ("out", "output", "preview", "fresh")
_METAVARS = {
    Kind.TEXT: "TEXT", Kind.URL: "URL", Kind.LIST: "GLOB", Kind.COUNT: "N", Kind.LIMIT: "N",
    Kind.AUTO: "auto|N", Kind.FRACTION: "0..1",
}  # fmt: skip


def setting_options(lang: str, names: Collection[str] | None = None) -> list[click.Parameter]:
    """One option per setting (of `names`) that a flag may set. Values are checked with the configuration."""
    keys = (key for key in KEYS if key.flag and key.name not in PLANNED)
    return [_setting(key, lang) for key in keys if names is None or key.name in names]


def _setting(key: Key, lang: str) -> click.Option:
    if key.kind is Kind.SWITCH:
        return click.Option([key.option, key.name], is_flag=True, help=say(lang, "config", key.name))
    metavar = "|".join(_choices(key)) if key.choices else _METAVARS.get(key.kind, "VALUE")
    return click.Option(
        [key.option, key.name],
        multiple=key.kind is Kind.LIST,
        metavar=metavar,
        help=say(lang, "config", key.name),
    )


def _choices(key: Key) -> tuple[str, ...]:
    if key.name != "format":
        return key.choices
    from review_agent.agent.reports import FORMATS

    return tuple(FORMATS)


def target_options(lang: str) -> list[click.Parameter]:
    def text(name: str, metavar: str) -> click.Option:
        option = f"--{name.replace('_', '-')}"
        return click.Option([option, name], metavar=metavar, help=say(lang, "help", name))

    def switch(name: str) -> click.Option:
        return click.Option([f"--{name}", name], is_flag=True, help=say(lang, "help", name))

    return [
        text("from", "REF"),
        text("to", "REF"),
        text("commit", "SHA"),
        switch("staged"),
        switch("working"),
        text("diff_file", "FILE|-"),
    ]


def output_options(lang: str) -> list[click.Parameter]:
    return [
        click.Option(["--output", "output"], metavar="FILE", help=say(lang, "help", "output")),
        click.Option(["--out", "out"], metavar="FORMAT=FILE", multiple=True, help=say(lang, "help", "out")),
    ]


def flags_of(given: Mapping[str, object]) -> dict[str, object]:
    """The settings among the parsed options, those that were given."""
    return {key.name: given[key.name] for key in KEYS if given.get(key.name) not in (None, (), False)}


def outputs_of(given: Mapping[str, object], main_format: str) -> list[tuple[str, str]]:
    """(format, file) pairs; '' as file means stdout. Raises UsageError for an unknown format."""
    from review_agent.agent.reports import FORMATS

    outputs: list[tuple[str, str]] = []
    extra = given.get("out") or ()
    for entry in extra if isinstance(extra, tuple | list) else ():
        fmt, equals, file = str(entry).partition("=")
        if not equals or not file:
            raise UsageError("out_form", value=str(entry))
        outputs.append((fmt, file))
    outputs.append((main_format, str(given.get("output") or "")))
    outputs = [(fmt, "" if file in ("", "-") else os.path.abspath(file)) for fmt, file in outputs]
    for fmt, _ in outputs:
        if fmt not in FORMATS:
            raise UsageError("format_unknown", format=fmt, known=", ".join(FORMATS))
    return outputs
