"""`models list|recommend|pull`: which models are there, which one to take, and how to get it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from review_agent.agent.cli import make_command, make_group
from review_agent.agent.wording import sentence
from review_agent.prompts import say

if TYPE_CHECKING:
    from review_agent.agent.advisor import Advice
    from review_agent.agent.installed import Installed, OllamaHere
    from review_agent.agent.settings import Settings
    from review_agent.tools.hardware import Hardware

SOURCES = ("auto", "ollama", "huggingface", "modelscope")


def command(lang: str) -> click.Command:
    @click.pass_obj
    def list_models(environ: Mapping[str, str], /, as_json: bool) -> int:
        return _list(environ, lang, as_json=as_json)

    @click.pass_obj
    def recommend(environ: Mapping[str, str], /, as_json: bool) -> int:
        return _recommend(environ, lang, as_json=as_json)

    @click.pass_obj
    def pull(environ: Mapping[str, str], /, name: str, source: str, store_name: str, sha256: str) -> int:
        from review_agent.agent.commands.pull import run
        from review_agent.agent.pull import Asked

        return run(Asked(name.strip(), source, store_name, sha256.lower()), environ, lang)

    as_json = click.Option(["--json", "as_json"], is_flag=True, help=say(lang, "help", "json"))
    options: list[click.Parameter] = [
        click.Argument(["name"], metavar="NAME"),
        click.Option(
            ["--from", "source"],
            type=click.Choice(SOURCES),
            default="auto",
            metavar="|".join(SOURCES),
            help=say(lang, "help", "pull_from"),
        ),
        click.Option(["--as", "store_name"], default="", metavar="NAME", help=say(lang, "help", "pull_as")),
        click.Option(
            ["--sha256", "sha256"], default="", metavar="HEX", help=say(lang, "help", "pull_sha256")
        ),
    ]
    return make_group(
        lang,
        "models",
        [
            _named(make_command(lang, "models-list", [as_json], list_models), "list"),
            _named(make_command(lang, "models-recommend", [as_json], recommend), "recommend"),
            _named(make_command(lang, "models-pull", options, pull), "pull"),
        ],
    )


def _named(command: click.Command, name: str) -> click.Command:
    command.name = name
    return command


def settings_of(environ: Mapping[str, str]) -> Settings:
    """The user's settings: no repository has a say in which models are there."""
    from review_agent.agent.session import Trusted, load_settings

    return load_settings({}, environ, Trusted()).settings


def _list(environ: Mapping[str, str], lang: str, *, as_json: bool) -> int:
    from review_agent.agent.installed import ask_ollama, installed, models_folder, stored
    from review_agent.tools.backends.embedded import installed as engine_installed
    from review_agent.tools.hardware import detect

    settings = settings_of(environ)
    ollama = asyncio.run(ask_ollama(settings, environ, details=True))
    rows = installed(ollama, stored(settings), detect())
    folder = str(models_folder(settings))
    if as_json:
        _echo_json(
            {"ollama": _ollama_json(ollama), "folder": folder, "models": [_row_json(row) for row in rows]}
        )
        return 0
    if rows:
        _echo_table(
            [_list_cells(row, lang) for row in rows],
            ("name", "engine", "size", "context", "fit", "note"),
            lang,
        )
    else:
        _note(say(lang, "models", "list_none"))
    if trouble := _ollama_trouble(ollama, lang):
        _note(trouble)
    _note(say(lang, "models", "folder", folder=folder))
    if not engine_installed():
        _note(say(lang, "models", "not_installed"))
    return 0


def _list_cells(row: Installed, lang: str) -> list[str]:
    from review_agent.tools.download import amount

    flags = [say(lang, "models", f"flag_{name}") for name in ("demo", "remote") if getattr(row, name)]
    return [
        row.name,
        say(lang, "models", f"engine_{row.engine}"),
        amount(row.size) if row.size else "-",
        str(row.context) if row.context else say(lang, "models", "unknown"),
        "-" if row.remote else say(lang, "models", f"fit_{row.fit or 'unknown'}"),
        *flags[:1],
    ]


def _row_json(row: Installed) -> dict[str, object]:
    return {
        "name": row.name,
        "engine": row.engine,
        "size": row.size,
        "context": row.context,
        "fit": row.fit,
        "demo": row.demo,
        "remote": row.remote,
        "usable": not row.remote and not row.demo,
    }


def _ollama_json(ollama: OllamaHere) -> dict[str, object]:
    return {"url": ollama.endpoint.url, "contacted": ollama.contacted, "answers": ollama.answers}


def _ollama_trouble(ollama: OllamaHere, lang: str) -> str:
    if not ollama.contacted:
        return say(lang, "models", "ollama_not_asked", url=ollama.endpoint.url)
    if ollama.problem is not None:
        return say(lang, "models", "ollama_failed", reason=sentence(ollama.problem, lang))
    return "" if ollama.answers else say(lang, "models", "ollama_absent", url=ollama.endpoint.url)


def _recommend(environ: Mapping[str, str], lang: str, *, as_json: bool) -> int:
    from review_agent.agent.advisor import NUM_CTX, recommend
    from review_agent.agent.installed import ask_ollama
    from review_agent.tools.catalog import load
    from review_agent.tools.hardware import detect, fields_of

    settings = settings_of(environ)
    ollama = asyncio.run(ask_ollama(settings, environ))
    hardware, catalogue, num_ctx = detect(), load(), settings.num_ctx or NUM_CTX
    rows = recommend(hardware, catalogue.models, num_ctx)
    steps = _steps(rows[0], ollama) if rows and rows[0].pick else []
    if as_json:
        _echo_json(
            {
                "hardware": fields_of(hardware),
                "num_ctx": num_ctx,
                "as_of": str(catalogue.as_of),
                "pick": rows[0].model.name if rows and rows[0].pick else None,
                "commands": [line for _, line in steps],
                "models": [_advice_json(row) for row in rows],
            }
        )
        return 0
    click.echo(_hardware_line(hardware, lang))
    click.echo(say(lang, "models", "basis", num_ctx=num_ctx, as_of=catalogue.as_of) + "\n")
    columns = ("mark", "name", "size", "need", "speed", "fit", "license")
    _echo_table([_advice_cells(row, lang) for row in rows], columns, lang)
    click.echo("")
    if not steps:
        click.echo(say(lang, "models", "pick_none"))
        return 0
    pick = rows[0].model
    click.echo(say(lang, "models", "pick", name=pick.name, license=_license(rows[0], lang)))
    click.echo(say(lang, "models", f"note_{pick.note}"))
    if rows[0].crowded:
        click.echo(say(lang, "models", "crowded"))
    for key, line in steps:
        click.echo(say(lang, "models", key, command=line))
    return 0


def _steps(pick: Advice, ollama: OllamaHere) -> list[tuple[str, str]]:
    """What to type to get the pick and to use it: sentence key and command."""
    from review_agent.tools.backends.embedded import installed as engine_installed

    model = pick.model
    if ollama.answers and model.ollama:
        get = [] if ollama.has(model.ollama) else [("pick_command", f"ollama pull {model.ollama}")]
        return [*get, ("pick_then", next_command("ollama", model.ollama))]
    install = [] if engine_installed() else [("pick_install", INSTALL)]
    pull = f"review-agent models pull {model.name}"
    return [*install, ("pick_command", pull), ("pick_then", next_command("embedded", model.name))]


INSTALL = "pip install 'review-agent[embedded]'"


def next_command(backend: str, model: str) -> str:
    import shlex

    return f"review-agent run ./repo --backend {backend} --model {shlex.quote(model)}"


def _advice_cells(row: Advice, lang: str) -> list[str]:
    from review_agent.tools.download import amount

    fields = {name: amount(int(str(value))) for name, value in row.reason.fields.items()}
    return [
        "*" if row.pick else "",
        row.model.name,
        amount(row.model.size),
        amount(row.need),
        say(lang, "models", f"speed_{row.speed}"),
        say(lang, "models", row.reason.key, **fields),
        _license(row, lang),
    ]


def _license(row: Advice, lang: str) -> str:
    key = "license" if row.model.commercial else "license_non_commercial"
    return say(lang, "models", key, license=row.model.license)


def _advice_json(row: Advice) -> dict[str, object]:
    model = row.model
    return {
        "name": model.name,
        "verdict": row.fit,
        "speed": row.speed,
        "pick": row.pick,
        "crowded": row.crowded,
        "need": row.need,
        "size": model.size,
        "parameters": model.parameters_b,
        "context": model.context,
        "license": model.license,
        "commercial": model.commercial,
        "ollama": model.ollama,
        "huggingface": model.hf,
        "modelscope": model.modelscope,
    }


def _hardware_line(hardware: Hardware, lang: str) -> str:
    from review_agent.agent.display import inline
    from review_agent.tools.download import amount

    cards = [
        say(
            lang,
            "models",
            "hardware_gpu",
            name=inline(gpu.name),
            vram=amount(gpu.vram),
            free=amount(gpu.vram_free),
        )
        for gpu in hardware.gpus
    ]
    absent = "hardware_unified" if hardware.unified else "hardware_no_gpu"
    return say(
        lang,
        "models",
        "hardware",
        cpu=inline(hardware.cpu),
        cores=hardware.cores,
        ram=amount(hardware.ram),
        available=amount(hardware.ram_available),
        gpus="".join(cards) or say(lang, "models", absent),
    )


def _echo_json(document: Mapping[str, object]) -> None:
    from review_agent.agent.display import json_text

    click.echo(json_text(json.dumps(document, ensure_ascii=False, indent=2)))


def _echo_table(rows: Sequence[Sequence[str]], columns: Sequence[str], lang: str) -> None:
    """Columns of equal width; a Chinese character takes two cells."""
    from rich.cells import cell_len

    from review_agent.agent.display import inline

    head = ["" if name == "mark" else say(lang, "models", f"col_{name}") for name in columns]
    cells = [head, *([inline(cell) for cell in row] for row in rows)]
    widths = [max(cell_len(row[at]) for row in cells if at < len(row)) for at in range(len(columns))]
    for row in cells:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=False))
        click.echo("  ".join(padded).rstrip())


def _note(text: str) -> None:
    from review_agent.agent.display import terminal_text

    click.echo(terminal_text(text), err=True)
