"""`doctor`: what is there, what a run would take, and what stands in its way."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from review_agent.agent.cli import make_command
from review_agent.agent.commands.doctor_agent import agent_json, agent_lines
from review_agent.agent.commands.doctor_store import check_json, check_lines
from review_agent.agent.wording import sentence
from review_agent.prompts import messages, say

if TYPE_CHECKING:
    from review_agent.agent.doctor import Diagnosis, Problem
    from review_agent.agent.probe import Found, Model
    from review_agent.tools.hardware import Hardware

SCHEMA_VERSION = 1
_USERINFO = re.compile(r"""(?<=://)[^/\s"`]*@""")  # a password in an address is not for the screen
# A sentence of ours says what happened and, after its first full stop, what to do. Quoted text may hold any.
_PARTS = re.compile(r"((?:`[^`]*`|[^`])*?(?:。|\.(?=\s)))\s*(.*)", re.S)
_OF_SERVER = frozenset(
    {"engine_broken_stream", "engine_cut_stream", "engine_said", "engine_status", "model_or_path_missing"}
)
_NEEDS_PICK = frozenset(
    {"no_engine", "no_own_model", "no_usable_model", "model_cannot_chat", "model_is_remote"}
)


def command(lang: str) -> click.Command:
    @click.pass_obj
    def doctor(environ: Mapping[str, str], /, as_json: bool, verify: bool) -> int:
        from review_agent.agent.config import user_config_file
        from review_agent.agent.display import json_text
        from review_agent.agent.doctor import diagnose

        found = asyncio.run(diagnose(environ, user_file=user_config_file(), verify=verify))
        if as_json:
            text = json.dumps(document(found, lang), ensure_ascii=False, indent=2)
            click.echo(_USERINFO.sub("***@", json_text(text)))
        else:
            for line in report(found, lang):
                click.echo(line)
        return 0 if found.ok else 1

    return make_command(
        lang,
        "doctor",
        [
            click.Option(["--verify"], is_flag=True, help=say(lang, "help", "verify")),
            click.Option(["--json", "as_json"], is_flag=True, help=say(lang, "help", "json")),
        ],
        doctor,
    )


# --- for people ---


def report(found: Diagnosis, lang: str) -> Iterator[str]:
    """Lines for a terminal. Text of servers and files is made harmless here."""
    from review_agent.agent.display import inline

    sections = [
        ("title_system", _system_lines(found, lang)),
        ("title_engines", [*_engine_lines(found, lang), *_hints(found, lang)]),
        ("title_models", _model_lines(found, lang)),
        ("title_run", _run_lines(found, lang)),
        ("title_agent", agent_lines(found.agent, lang)),
        ("title_problems", _problem_lines(found, lang)),
    ]
    for title, lines in sections:
        if lines:
            yield say(lang, "doctor", title, count=len(found.problems))
            yield from (inline(_USERINFO.sub("***@", f"  {line}")) for line in lines)
    end = "ready" if found.ok else "ready_but_store" if found.ready else "not_ready"
    yield say(lang, "doctor", end)


def _system_lines(found: Diagnosis, lang: str) -> list[str]:
    from review_agent.tools.download import amount

    system = found.system
    broken = any(problem.error.fields.get("file") == system.config_file for problem in found.problems)
    config = "config_broken" if broken else "config" if system.config_exists else "config_absent"
    there = "store" if system.store_exists else "store_absent"
    usable = there if system.store_usable else "store_broken"
    return [
        say(
            lang,
            "doctor",
            "versions",
            version=system.version,
            python=system.python,
            git=say(lang, "doctor", "git" if system.git else "git_missing", version=system.git),
            platform=system.platform,
        ),
        say(lang, "doctor", config, file=system.config_file),
        say(
            lang,
            "doctor",
            usable if system.store_enabled else "store_off",
            path=system.store,
            free=amount(system.free),
        ),
        *check_lines(system.checked, lang),
        _hardware_line(found.hardware, lang),
    ]


def _hardware_line(hardware: Hardware, lang: str) -> str:
    from review_agent.tools.download import amount

    cards = "".join(
        say(lang, "models", "hardware_gpu", name=gpu.name, vram=amount(gpu.vram), free=amount(gpu.vram_free))
        for gpu in hardware.gpus
    )
    absent = "hardware_unified" if hardware.unified else "hardware_no_gpu"
    return say(
        lang,
        "models",
        "hardware",
        cpu=hardware.cpu,
        cores=hardware.cores,
        ram=amount(hardware.ram),
        available=amount(hardware.ram_available),
        gpus=cards or say(lang, "models", absent),
    )


def _engine_lines(found: Diagnosis, lang: str) -> list[str]:
    rows = [
        [
            _name(engine, lang),
            engine.url or engine.folder,
            say(lang, "doctor", f"state_{engine.state}"),
            engine.version or "-",
            str(len(engine.models)) if engine.models or engine.state == "answers" else "-",
        ]
        for engine in found.engines
    ]
    return _table(rows, ("engine", "place", "state", "version", "count"), lang)


def _hints(found: Diagnosis, lang: str) -> list[str]:
    said = ((_name(engine, lang), _hint(engine, found, lang)) for engine in found.engines)
    return [f"{name}: {hint}" if lang == "en" else f"{name}：{hint}" for name, hint in said if hint]


def _hint(engine: Found, found: Diagnosis, lang: str) -> str:
    """The next step with one engine; '' when there is none."""
    if engine.error is not None:
        return sentence(engine.error, lang)
    idle = not engine.usable and engine.state != "not_asked"
    if idle and found.run.info is not None:  # another one is taken: there is nothing to be done
        return ""
    fields = {**_pick(found), "config": found.system.config_file, "host": _host(engine.url)}
    match engine.state:
        case "absent":
            key = "hint_start" if engine.name == "ollama" else ""
        case "not_asked":
            key = "hint_allow"
        case "not_installed":
            key = "hint_install"
        case "answers" | "installed" if engine.usable:
            return "" if engine.own else say(lang, "doctor", "hint_use", command=_use(engine))
        case "answers" | "installed":
            key = f"hint_pull_{engine.name}" if engine.name in ("ollama", "embedded") else "hint_load"
            if key != "hint_load" and found.pick is None:
                return say(lang, "doctor_cures", "none_fits")
        case _:
            key = ""
    return say(lang, "doctor", key, **fields) if key else ""


def _model_lines(found: Diagnosis, lang: str) -> list[str]:
    rows = [_model_cells(engine, model, lang) for engine in found.engines for model in engine.models]
    columns = ("model", "engine", "size", "context", "capabilities", "fit", "note")
    return _table(rows, columns, lang) if rows else []


def _model_cells(engine: Found, model: Model, lang: str) -> list[str]:
    from review_agent.tools.download import amount

    context = str(model.context) if model.context else say(lang, "models", "unknown")
    if model.loaded_context:
        context = say(lang, "doctor", "loaded", context=context, loaded=model.loaded_context)
    note = say(lang, "doctor", "loaded_note") if model.loaded and not model.loaded_context else ""
    return [
        model.name,
        _name(engine, lang),
        amount(model.size) if model.size else "-",
        context,
        ", ".join(model.capabilities) or "-",
        "-" if model.reason == "remote" else say(lang, "models", f"fit_{model.fit or 'unknown'}"),
        say(lang, "doctor", f"reason_{model.reason}") if model.reason else note,
    ]


def _run_lines(found: Diagnosis, lang: str) -> list[str]:
    run = found.run
    if run.info is None:
        return [say(lang, "doctor", "run_none")]
    place = say(lang, "doctor", "run_place", url=run.url) if run.url else ""
    there = (found_at.name for found_at in found.engines if run.url and found_at.url == run.url)
    engine = say(lang, "doctor", f"name_{next(there, run.info.backend)}")
    first = say(
        lang, "doctor", "run_line", engine=engine, model=run.info.model, context=run.context, place=place
    )
    return [first, *_why(found, lang)]


def _why(found: Diagnosis, lang: str) -> list[str]:
    run = found.run
    lines = [say(lang, "notes", note.key, **note.fields) for note in run.notes]
    if run.named:
        lines.append(say(lang, "doctor", "run_named"))
    if not run.model_context:
        lines.append(say(lang, "doctor", "run_context_unknown", context=run.context))
    elif run.model_context > run.context:
        lines.append(say(lang, "doctor", "run_trained", context=run.model_context))
    return lines


def _problem_lines(found: Diagnosis, lang: str) -> list[str]:
    lines = []
    for problem in found.problems:
        text, cure = explain(problem, found, lang)
        lines += [f"{'*' if problem.blocking else '-'} {text}"]
        lines += [f"  {'→' if at == 0 else ' '} {line}" for at, line in enumerate(cure.splitlines())]
    return lines


def explain(problem: Problem, found: Diagnosis, lang: str) -> tuple[str, str]:
    """What is wrong, and the command or setting that cures it; never ''."""
    whole = sentence(problem.error, lang)
    parts = _PARTS.fullmatch(whole)
    text, rest = (parts[1], parts[2].strip()) if parts else (whole, "")
    fields = {**_pick(found), **problem.error.fields, "config": found.system.config_file}
    key = _cure_key(problem, found)
    cure = say(lang, "doctor_cures", key, **fields) if key else rest or say(lang, "doctor_cures", "other")
    if problem.error is found.run.error:
        others = [
            engine for engine in found.engines if engine.state == "answers" and not _is_own_ollama(engine)
        ]
        cure += "".join(
            "\n" + say(lang, "doctor_cures", "also", name=_name(engine, lang), command=_use(engine))
            for engine in others
            if engine.usable
        )
    return text, cure


def _cure_key(problem: Problem, found: Diagnosis) -> str:
    """The sentence of `[doctor_cures]` that is better than what the error itself advises; '' = none is."""
    if problem.error.key.startswith("errors_config."):
        of_file = problem.error.fields.get("file") == found.system.config_file
        return "config_file" if of_file else "config_variable"
    strangers = (
        engine.own and engine.state == "answers" and not _is_own_ollama(engine) for engine in found.engines
    )
    if problem.key == "no_usable_model" and any(strangers):
        return "no_usable_model_there"
    if problem.key in _NEEDS_PICK and found.pick is None:
        return "none_fits"
    if problem.key in _OF_SERVER:
        return "server"
    if problem.key == "no_engine" and any(engine.state == "installed" for engine in found.engines):
        return "no_engine_but_embedded"
    return problem.key if problem.key in messages("en")["doctor_cures"] else ""


def _is_own_ollama(engine: Found) -> bool:
    """Whether it is the Ollama that a run asks by itself; any other server wants `--backend openai`."""
    return engine.own and engine.name == "ollama"


def _pick(found: Diagnosis) -> dict[str, object]:
    """Names of the model to get on this machine."""
    return {"ollama": found.pick.ollama, "model": found.pick.name} if found.pick is not None else {}


def _use(engine: Found) -> str:
    if engine.name == "embedded":
        model = next(model.name for model in engine.models if not model.reason)
        return f"review-agent run . --backend embedded --model {shlex.quote(model)}"
    backend = "ollama" if engine.name == "ollama" else "openai"
    return f"review-agent run . --backend {backend} --base-url {shlex.quote(engine.url)}"


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _name(engine: Found, lang: str) -> str:
    return say(lang, "doctor", f"name_{engine.name}")


def _table(rows: Sequence[Sequence[str]], columns: Sequence[str], lang: str) -> list[str]:
    from review_agent.agent.display import aligned

    return aligned([[say(lang, "doctor", f"col_{name}") for name in columns], *rows])


# --- for programs ---


def document(found: Diagnosis, lang: str) -> dict[str, object]:
    """The same facts under stable keys."""
    from review_agent.tools.hardware import fields_of

    system, run = found.system, found.run
    return {
        "schema_version": SCHEMA_VERSION,
        "ok": found.ok,
        "versions": {
            "review_agent": system.version,
            "python": system.python,
            "git": system.git,
            "platform": system.platform,
        },
        "config": {"file": system.config_file, "exists": system.config_exists},
        "store": {
            "path": system.store,
            "enabled": system.store_enabled,
            "exists": system.store_exists,
            "usable": system.store_usable,
            "free": system.free,
            "check": check_json(system.checked),
        },
        "hardware": fields_of(found.hardware),
        "engines": [_engine_json(engine, found, lang) for engine in found.engines],
        "run": {
            "possible": run.error is None,
            "backend": run.info.backend if run.info else "",
            "url": run.url,
            "model": run.info.model if run.info else "",
            "context": run.context,
            "model_context": run.model_context,
            "why": _why(found, lang) if run.info else [],
        },
        "agent": agent_json(found.agent),
        "problems": [_problem_json(problem, found, lang) for problem in found.problems],
    }


def _engine_json(engine: Found, found: Diagnosis, lang: str) -> dict[str, object]:
    return {
        "name": engine.name,
        "url": engine.url,
        "folder": engine.folder,
        "state": engine.state,
        "own": engine.own,
        "version": engine.version,
        "hint": _hint(engine, found, lang),
        "models": [_model_json(model, lang) for model in engine.models],
    }


def _model_json(model: Model, lang: str) -> dict[str, object]:
    return {
        "name": model.name,
        "size": model.size,
        "context": model.context,
        "loaded": model.loaded,
        "loaded_context": model.loaded_context,
        "capabilities": list(model.capabilities),
        "fit": model.fit,
        "usable": not model.reason,
        "reason": model.reason,
        "reason_text": say(lang, "doctor", f"reason_{model.reason}") if model.reason else "",
    }


def _problem_json(problem: Problem, found: Diagnosis, lang: str) -> dict[str, object]:
    text, cure = explain(problem, found, lang)
    return {"key": problem.key, "blocking": problem.blocking, "text": text, "remedy": cure}
