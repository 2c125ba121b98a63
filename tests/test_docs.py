"""Commands in the pages for users are ones that the program understands, and links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from review_agent.agent.cli import Root

ROOT = Path(__file__).parents[1]
OTHERS = [
    ROOT / "docs" / f"{name}.md"
    for name in (
        "agent",
        "checkpoints",
        "cloud",
        "commands",
        "formats",
        "formats.en",
        "github",
        "github.en",
        "hook",
        "hook.en",
        "local-only",
        "routes",
    )
]
PAGES = sorted([*ROOT.glob("docs/engines/*.md"), *OTHERS, *ROOT.glob("README*.md")])
PROGRAM = "review-agent"
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.M | re.S)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\((?!https?://)([^)#\s]+)")
_ENDS = {"&&", "||", "|", ";", "&", ">", "<"}


def simple_commands(line: str) -> list[list[str]]:
    """The commands of a shell line without assignments before them."""
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if word in _ENDS:
            found.append([])
        elif found[-1] or not re.fullmatch(r"[A-Za-z_]\w*=.*", word):
            found[-1].append(word)
    return [words for words in found if words]


def commands(text: str) -> list[str]:
    """What follows the program's name, in shell blocks and in inline code."""
    lines = [
        line
        for kind, body in _BLOCK.findall(text)
        if kind in ("sh", "bash", "shell")
        for line in body.replace("\\\n", " ").splitlines()
    ]
    lines += [code.replace("\\|", "|") for code in _INLINE.findall(_BLOCK.sub("", text)) if PROGRAM in code]
    return [
        shlex.join(words[1:])
        for line in lines
        if PROGRAM in line
        for words in simple_commands(line)
        if words[0] == PROGRAM and len(words) > 1
    ]


def understand(line: str) -> None:
    """Parse a command line to its end, without running it. Raises a click error."""
    words = shlex.split(line)
    command: click.Command | None = Root(PROGRAM)
    context = click.Context(command, info_name=PROGRAM, obj={})
    while isinstance(command, click.Group):
        if not words:
            raise click.UsageError("no command")
        name, command, words = command.resolve_command(context, words)
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=name, parent=context)
    assert command is not None
    command.make_context(command.name, words, parent=context)


CASES = sorted(
    {(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in commands(page.read_text())}
)


@pytest.mark.parametrize(("page", "line"), CASES)
def test_every_command_is_understood(page: str, line: str) -> None:
    understand(line)


def test_there_is_a_page_for_each_engine_with_commands() -> None:
    names = {"README", "ollama", "embedded", "lm-studio", "vllm", "llama-cpp"}
    assert {page.stem for page in PAGES if page.parent.name == "engines"} == names
    assert {page for page, _ in CASES} == {page.relative_to(ROOT).as_posix() for page in PAGES}


@pytest.mark.parametrize(
    "line",
    [
        "runn ./repo",
        "run ./repo --no-such-option",
        "run --num-ctx",
        "run ./repo two",
        "models",
        "models fetch x",
        "models pull",
        "models pull x --from nowhere",
        "doctor --fix",
        "config init --team",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    with pytest.raises(click.ClickException):
        understand(line)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```sh\npip install x && review-agent run 'a b'  # why\n```\n", ["run 'a b'"]),
        ("```sh\nA=b review-agent doctor\nllama-server -m x \\\n  --port 1\n```\n", ["doctor"]),
        ("```sh\ngit diff | review-agent run \\\n  --diff-file -\n```\n", ["run --diff-file -"]),
        ("```toml\nx = 'review-agent run'\n```\n", []),
        ("`review-agent runs list`, `review-agent`, `git diff \\| review-agent run`", ["runs list", "run"]),
        ("`~/.local/share/review-agent/models` and `pip install 'review-agent[embedded]'`", []),
    ],
)
def test_how_commands_are_found(text: str, found: list[str]) -> None:
    assert commands(text) == found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    missing = [link for link in _LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert missing == []


def test_what_the_hook_page_shows_was_seen() -> None:
    page, seen = (ROOT / "docs" / "hook.md", ROOT / "tests" / "golden" / "push.zh-CN.txt")
    shown = [body for kind, body in _BLOCK.findall(page.read_text()) if kind == "text"]
    assert len(shown) == 1
    assert set(shown[0].splitlines()) <= set(seen.read_text().splitlines())
