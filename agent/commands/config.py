"""`config show`, `config init`, `config check`: text in, text out; printing is for the caller."""

from __future__ import annotations

import json
import re
from pathlib import Path

from review_agent.agent.config import Loaded, load, planned, read_config_text
from review_agent.agent.errors import ConfigError
from review_agent.agent.models import Note
from review_agent.agent.settings import AUTO, KEYS, NEVER, Key, Kind, Rule, Source
from review_agent.prompts import say

_USERINFO = re.compile(r"(?<=://)[^/]*@")  # a password in an address is not for the screen


def show(loaded: Loaded, lang: str) -> str:
    """Every key with its value as TOML and, as a comment, where it came from."""
    lines = [f"# {say(lang, 'config_text', 'show_head')}"]
    for key in KEYS:
        parts = re.split(r" \+ (?=repo:)", loaded.origins[key.name])
        origin = _printable(" + ".join(_origin(part, lang) for part in parts))
        value = toml_value(key, getattr(loaded.settings, key.name))
        if key.kind is Kind.URL:
            value = _USERINFO.sub("***@", value)
        lines.append(f"{key.name} = {value}  # {origin}")
    return "\n".join(lines + _remarks((*loaded.notes, *planned(loaded)), lang)) + "\n"


def init(path: Path, *, user: bool, lang: str) -> str:
    """Writes a commented template to `path`, never over a file that is there."""
    try:
        if user:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(template(user=user, lang=lang))
    except FileExistsError as exc:
        raise ConfigError("errors_config.config_exists", file=str(path)) from exc
    except OSError as exc:
        raise ConfigError("errors_config.config_unwritable", file=str(path)) from exc
    return say(lang, "config_text", "init_done", file=_printable(str(path)))


def check(path: Path, *, user: bool, lang: str) -> str:
    """Raises ConfigError at the first mistake in the file; else says how much it sets and what is ignored."""
    try:
        text = read_config_text(path)
    except FileNotFoundError as exc:
        raise ConfigError("errors_config.config_missing", file=str(path)) from exc
    user_file, repo_text = (path, None) if user else (None, text)
    loaded = load(flags={}, environ={}, user_file=user_file, repo_text=repo_text, repo_name=str(path))
    count = sum(origin != "default" for origin in loaded.origins.values())
    done = say(lang, "config_text", "check_done", file=_printable(str(path)), count=count)
    return "\n".join([done, *_remarks(loaded.notes, lang)])


def template(*, user: bool, lang: str) -> str:
    """Every key that such a file may set, commented out, with its default; tables last, as TOML wants it."""
    source = Source.USER if user else Source.REPOSITORY
    head = say(lang, "config_text", "init_head_user" if user else "init_head_repository")
    blocks = [f"# {head}\n"]
    for key in sorted(KEYS, key=lambda key: key.kind is Kind.RULES):
        if source not in key.sources:
            continue
        lines = [say(lang, "config", key.name)]
        if key.choices:
            lines.append(say(lang, "config_text", "init_choices", choices=", ".join(key.choices)))
        comments = "".join(f"# {line}\n" for line in lines)
        blocks.append(comments + (_rule_sample(lang) if key.kind is Kind.RULES else _sample(key)))
    return "\n".join(blocks)


def _sample(key: Key) -> str:
    return f"#{key.name} = {toml_value(key, key.default)}\n"


def _rule_sample(lang: str) -> str:
    text = json.dumps(say(lang, "config_text", "init_rule_text"), ensure_ascii=False)
    return f'#[[rules]]\n#id = "money"\n#text = {text}\n#paths = ["src/**"]\n#severity = "high"\n'


def toml_value(key: Key, value: object) -> str:
    """`value` as one would write it in a file."""
    if value is None:
        return json.dumps(NEVER)
    if key.kind is Kind.AUTO and value == 0:
        return json.dumps(AUTO)
    if isinstance(value, Rule):
        fields = {"id": value.id, "text": value.text, "paths": value.paths, "severity": value.severity}
        parts = [f"{name} = {toml_value(key, part)}" for name, part in fields.items() if part]
        return "{ " + ", ".join(parts) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(key, part) for part in value) + "]"
    if key.kind is Kind.SIZE and isinstance(value, int) and value % 2**20 == 0:
        return f'"{value // 2**20}MiB"'
    return _printable(json.dumps(value, ensure_ascii=False))


def _origin(origin: str, lang: str) -> str:
    source, _, name = origin.partition(":")
    return say(lang, "config_text", f"from_{source}", name=name)


def _remarks(notes: tuple[Note, ...], lang: str) -> list[str]:
    return [f"# {say(lang, 'notes', note.key, **_shown(note))}" for note in notes]


def _shown(note: Note) -> dict[str, str]:
    return {name: _printable(str(value)) for name, value in note.fields.items()}


def _printable(text: str) -> str:
    """A repository's globs and file names may hold anything: as TOML escapes they do no harm."""
    return "".join(char if char.isprintable() else _escape(ord(char)) for char in text)


def _escape(code: int) -> str:
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
