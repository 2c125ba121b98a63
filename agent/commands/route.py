"""`route`: who would review the files that are named, and whether their code may reach the cloud.

Reads files and settings alone: no model, no network, no run store.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from review_agent.agent.cli import make_command
from review_agent.agent.errors import FileRefused, TargetError
from review_agent.agent.models import FileResult, FileStatus, Route, SourceFile
from review_agent.prompts import say

if TYPE_CHECKING:
    from review_agent.agent.planner import Plan
    from review_agent.agent.settings import Settings
    from review_agent.agent.target import Selection, Target
    from review_agent.tools.files import FileGate


def command(lang: str) -> click.Command:
    params: list[click.Parameter] = [
        click.Argument(["paths"], nargs=-1, required=True, metavar="PATH..."),
        click.Option(["--mode"], metavar="local|hybrid|cloud", help=say(lang, "config", "mode")),
        click.Option(["--json", "as_json"], is_flag=True, help=say(lang, "help", "json")),
    ]
    return make_command(lang, "route", params, _callback(lang))


@dataclass(frozen=True, slots=True)
class Row:
    """Lines of a file that go one way; one row for all units of it that do."""

    path: str
    first: int
    last: int
    route: Route


@dataclass(frozen=True, slots=True)
class Explained:
    mode: str
    rows: tuple[Row, ...]
    skipped: tuple[FileResult, ...]


def _callback(lang: str) -> object:
    @click.pass_obj
    def route(environ: Mapping[str, str], /, **given: object) -> int:
        from review_agent.tools.endpoints import confine

        confine(())  # nothing is asked, so nothing can be
        flags = {"mode": given["mode"]} if given["mode"] is not None else {}
        names = given["paths"] if isinstance(given["paths"], tuple) else ()
        roots = _by_root([str(name) for name in names], environ)
        found = [explain(root, paths, flags, environ) for root, paths in roots.items()]
        if len(found) > 1:  # names of two folders could be mistaken for each other
            found = [_below(root, each) for root, each in zip(roots, found, strict=True)]
        whole = Explained(
            found[0].mode,
            tuple(row for each in found for row in each.rows),
            tuple(result for each in found for result in each.skipped),
        )
        click.echo(_json(whole, lang) if given["as_json"] else _text(whole, lang))
        return 0

    return route


# --- what is asked about ---


def _by_root(names: Sequence[str], environ: Mapping[str, str]) -> dict[Path, list[Path]]:
    """The paths below each folder that their globs start from. Raises TargetError("path_missing").

    That is the repository; outside of one the folder that is named, and for a file where we stand.
    """
    roots: dict[Path, list[Path]] = {}
    for name in names:
        if not os.path.lexists(name):
            raise TargetError("path_missing", path=name)
        path = Path(name)
        path = path.resolve() if path.is_dir() else path.parent.resolve() / path.name
        roots.setdefault(_root(path, environ), []).append(path)
    return roots


def _root(path: Path, environ: Mapping[str, str]) -> Path:
    folder = path if path.is_dir() else path.parent
    location = _target(folder, environ).repository()
    if location is not None:
        return location.root.resolve()
    here = Path.cwd().resolve()
    return here if folder != path and folder.is_relative_to(here) else folder


def _target(folder: Path, environ: Mapping[str, str]) -> Target:
    from review_agent.agent.session import trusting
    from review_agent.agent.target import make_target

    return trusting(make_target(folder), environ)


def explain(
    root: Path, paths: Sequence[Path], flags: Mapping[str, object], environ: Mapping[str, str]
) -> Explained:
    """The routes of all files at `paths` below `root`, by the settings that a run there would have.

    Every engine that the settings name is taken to answer.
    """
    from review_agent.agent.cloud import effective_mode
    from review_agent.agent.planner import make_plan, narrowed
    from review_agent.agent.router import Capabilities, routes
    from review_agent.agent.session import load_settings, read_trusted

    target = _target(root, environ)
    trusted = read_trusted(target)
    settings = replace(load_settings(flags, environ, trusted).settings, max_files=0)
    mode = effective_mode(settings)
    selection = narrowed(_selection(root, paths, settings, target, environ), settings)
    plan = make_plan(
        selection, settings, model_key="", model_context=0, store=None, guidance=trusted.guidance
    )
    has = Capabilities(mode, local=settings.backend != "anthropic", cloud=mode != "local")
    ways = routes(plan.files, plan.units, settings, has)
    return Explained(mode, tuple(_rows(plan, ways)), tuple(plan.skipped))


def _selection(
    root: Path, paths: Sequence[Path], settings: Settings, target: Target, environ: Mapping[str, str]
) -> Selection:
    """Folders as a run would select them; a file that is named is read without its neighbours."""
    from review_agent.agent.policy import file_gate
    from review_agent.agent.target import Selection, select

    gate = file_gate(root, settings)
    files: dict[str, SourceFile] = {}
    skipped: dict[str, FileResult] = {}
    churn: dict[str, int] = {}
    for path in paths:
        if path.is_dir():
            part, _ = select(_target(path, environ), max_file_size=settings.max_file_size)
            files |= {file.path: file for file in part.files}
            skipped |= {result.path: result for result in part.skipped}
            churn |= part.churn
        else:
            found = _read(gate, path.relative_to(root).as_posix())
            if isinstance(found, SourceFile):
                files[found.path] = found
            else:
                skipped[found.path] = found
    return Selection(tuple(files.values()), tuple(skipped.values()), churn)


def _read(gate: FileGate, path: str) -> SourceFile | FileResult:
    from review_agent.agent.source import SYMLINK, Entry, judge

    try:
        mode = gate.git_mode(path)
        return judge(Entry(path, None if mode == SYMLINK else gate.read(path), mode or "100644"))
    except FileRefused as exc:
        return FileResult(path, FileStatus.SKIPPED, exc.key)


def _rows(plan: Plan, ways: Mapping[tuple[str, int], Route]) -> Iterator[Row]:
    """In the order of the plan. Units of one file that follow each other and go one way are one row."""
    for path, units in plan.units.items():
        row: Row | None = None
        for unit in units:
            way = ways[path, unit.index]
            if row is not None and row.route == way:
                row = replace(row, last=max(row.last, unit.last_line))
                continue
            if row is not None:
                yield row
            row = Row(path, unit.first_line, unit.last_line, way)
        if row is not None:
            yield row


def _below(root: Path, found: Explained) -> Explained:
    folder = os.path.relpath(root)
    return replace(
        found,
        rows=tuple(replace(row, path=f"{folder}/{row.path}") for row in found.rows),
        skipped=tuple(replace(result, path=f"{folder}/{result.path}") for result in found.skipped),
    )


# --- how it is shown ---


def _text(found: Explained, lang: str) -> str:
    from review_agent.agent.display import aligned, path_text, terminal_text
    from review_agent.agent.wording import worded
    from review_agent.tools.redact import mask

    lines = [say(lang, "route_command", "mode", mode=found.mode, what=say(lang, "modes", found.mode))]
    if found.rows:
        heads = ("path", "lines", "route", "visible", "reason")
        cells = [[say(lang, "route_command", f"head_{name}") for name in heads]]
        cells += [
            [
                path_text(row.path),
                f"{row.first}-{row.last}",
                say(lang, "route_kinds", row.route.kind),
                say(lang, "route_command", "yes" if row.route.visible else "no"),
                worded(row.route.reason, lang),
            ]
            for row in found.rows
        ]
        lines += aligned(cells)
    for result in found.skipped:
        reason = worded(result.reason, lang)
        lines.append(say(lang, "route_command", "skipped", path=path_text(result.path), reason=reason))
    if not found.rows and not found.skipped:
        lines.append(say(lang, "route_command", "nothing"))
    lines.append(say(lang, "route_command", "basis"))
    return terminal_text(mask("\n".join(lines)))


def _json(found: Explained, lang: str) -> str:
    from review_agent.agent.display import json_text
    from review_agent.agent.wording import worded
    from review_agent.tools.redact import mask

    units = [
        {
            "path": mask(row.path),
            "lines": [row.first, row.last],
            "route": str(row.route.kind),
            "visible": row.route.visible,
            "reason": row.route.reason,
            "message": worded(row.route.reason, lang),
        }
        for row in found.rows
    ]
    skipped = [
        {"path": mask(result.path), "reason": result.reason, "message": worded(result.reason, lang)}
        for result in found.skipped
    ]
    document = {"mode": found.mode, "units": units, "skipped": skipped}
    return json_text(json.dumps(document, ensure_ascii=False, indent=2))
