"""`policy test` as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from driver import Cli

CORPUS = Path(os.environ.get("REVIEW_AGENT_CORPUS") or Path(__file__).parents[1] / "corpus") / "commands"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "repo"
    (place / "src").mkdir(parents=True)
    (place / "src" / "app.py").write_text("print(1)\n" * 100)
    (place / "key.env").write_text("AWS_ACCESS_KEY_ID=AKIA" + "Z7Q3XW5RT2KP9M4B\n")
    git = ["git", "-C", str(place), "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "first\x1b[31m"]):
        subprocess.run([*git, *args], check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull})
    return place


def answers(
    cli: Cli, *args: str | Path, code: int = 0, stdin: bytes = b"", **extra: str
) -> list[dict[str, object]]:
    done = cli.run("policy", "test", *args, stdin=stdin, **extra)
    assert done.returncode == code, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_corpus_through_the_command(cli: Cli, place: Path) -> None:
    file = CORPUS / "commands.jsonl"
    expected = {row["id"]: row["verdict"] for row in map(json.loads, file.read_text().splitlines())}
    got = answers(cli, place, "--commands", file)
    assert [row["id"] for row in got] == list(expected)
    assert {tuple(row) for row in got} == {("id", "verdict", "reason")}
    wrong = {str(row["id"]) for row in got if row["verdict"] != expected[row["id"]]}
    attacks = {name for name, verdict in expected.items() if verdict == "deny"}
    harmless = expected.keys() - attacks
    print(
        f"attacks stopped: {len(attacks - wrong)} of {len(attacks)}; harmless allowed: {len(harmless - wrong)} of {len(harmless)}"
    )
    assert not attacks & wrong
    assert len(wrong) <= 0.02 * len(harmless)
    assert all(row["reason"] for row in got)


def test_reasons_are_in_the_language_of_the_user(cli: Cli, place: Path) -> None:
    asked = (
        "--command",
        "rm -rf /",
        "--command",
        "git log | head",
        "--path",
        "src/app.py",
        "--path",
        "../x",
        "--path",
        "src/",
    )
    assert answers(cli, place, *asked) == [
        {"id": "1", "verdict": "deny", "reason": "不允许运行 `rm`；允许的命令见 `docs/commands.md`"},
        {"id": "2", "verdict": "allow", "reason": "只读命令：git log, head"},
        {"id": "3", "verdict": "allow", "reason": "可以读取"},
        {"id": "4", "verdict": "deny", "reason": "不能读取 `../x`：位于允许的目录之外"},
        {"id": "5", "verdict": "allow", "reason": "可以读取"},
    ]
    english = answers(cli, place, *asked, "--lang", "en")
    assert [row["reason"] for row in english[:2]] == [
        "`rm` may not be run; see `docs/commands.md` for what may",
        "read-only: git log, head",
    ]


def test_lines_come_from_standard_input_too(cli: Cli, place: Path) -> None:
    lines = b'{"id": 7, "cmd": "ls", "more": 1}\n\n{"id": "\\u202ex", "cmd": "ls \\ud800"}\n'
    assert [(row["id"], row["verdict"]) for row in answers(cli, place, "--commands", "-", stdin=lines)] == [
        (7, "allow"),
        ("\u202ex", "deny"),
    ]


@pytest.mark.parametrize(
    "line", [b"ls", b'{"id": "1"}', b"[]", b'{"id": "1", "cmd": 5}', b"\xff", b"[" * 100_000]
)
def test_a_line_that_is_none_is_named(cli: Cli, place: Path, line: bytes) -> None:
    done = cli.run("policy", "test", place, "--commands", "-", stdin=b'{"id": "1", "cmd": "ls"}\n' + line)
    assert (done.returncode, done.stdout) == (2, b"")
    assert "- 第 2 行" in done.stderr.decode()


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ((), 2, "没有要检查的内容"),
        (("--commands", "none.jsonl"), 2, "none.jsonl"),
        (("--commands", "/dev/zero"), 2, "64 MiB"),
        (("--command", "ls", "--run"), 1, "allow_commands = true"),
    ],
)
def test_what_cannot_be_answered_is_said(
    cli: Cli, place: Path, args: tuple[str, ...], code: int, words: str
) -> None:
    done = cli.run("policy", "test", place, *args)
    assert (done.returncode, done.stdout) == (code, b"")
    assert words in done.stderr.decode()


def test_a_missing_folder_is_said(cli: Cli) -> None:
    assert cli.run("policy", "test", "none", "--command", "ls").returncode == 2


def test_commands_run_when_the_user_says_so(cli: Cli, place: Path) -> None:
    asked = (
        "--run",
        "--command",
        "git log --format=%s",
        "--command",
        "cat key.env",
        "--command",
        "rm x",
        "--command",
        "cd src && wc -l app.py",
    )
    log, secret, refused, wc = answers(cli, place, *asked, "--allow-commands")
    assert (log["exit_code"], log["stdout"]) == (0, "first\x1b[31m\n")
    assert "AKIA" not in str(secret["stdout"])  # what leaves is masked
    assert refused.keys() == {"id", "verdict", "reason"}
    assert wc["stdout"] == "100 app.py\n"
    assert {row["sandbox"] for row in (log, secret, wc)} <= {"bubblewrap", "none"}
    again = answers(cli, place, *asked, REVIEW_AGENT_ALLOW_COMMANDS="true")
    assert again == [log, secret, refused, wc]


def test_nothing_raw_reaches_a_terminal(cli: Cli, place: Path) -> None:
    done = cli.run(
        "policy", "test", place, "--run", "--allow-commands", "--command", "git log", "--path", "\x1b]8;;x"
    )
    assert b"\x1b" not in done.stdout
    assert done.stdout.count(b"\n") == 2


def user_config(cli: Cli, text: str) -> None:
    folder = cli.home / "config" / "review-agent"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(text)


@pytest.mark.parametrize("camel", [False, True])
@pytest.mark.parametrize(
    ("setting", "value", "asked", "before", "after"),
    [
        ("allowed_directories", '["src"]', ("--path", "key.env"), "allow", "deny"),
        ("allowed_directories", '["src"]', ("--command", "cat key.env"), "allow", "deny"),
        ("allowed_directories", '["/none", "src"]', ("--command", "cat src/app.py"), "allow", "allow"),
        ("blocked_commands", '["log -p"]', ("--command", "git  log -p"), "allow", "deny"),
        ("max_file_size", '"100"', ("--path", "src/app.py"), "allow", "deny"),
        ("max_file_size", "100", ("--command", "cat src/app.py"), "allow", "deny"),
    ],
)
def test_a_setting_changes_the_verdict(
    cli: Cli,
    place: Path,
    camel: bool,
    setting: str,
    value: str,
    asked: tuple[str, str],
    before: str,
    after: str,
) -> None:
    head, *tail = setting.split("_")
    name = head + "".join(map(str.capitalize, tail)) if camel else setting
    assert [row["verdict"] for row in answers(cli, place, *asked)] == [before]
    user_config(cli, f"{name} = {value}\n")
    assert [row["verdict"] for row in answers(cli, place, *asked)] == [after]
    # The reviewed repository cannot loosen what the user set.
    (place / ".review-agent.toml").write_text(f"{name} = {[] if value.startswith('[') else 10**9}\n")
    assert [row["verdict"] for row in answers(cli, place, *asked)] == [after]


@pytest.mark.parametrize("name", ["bash_timeout", "bashTimeout"])
def test_the_time_a_command_may_take(cli: Cli, place: Path, name: str) -> None:
    """A `grep` that takes three seconds."""
    programs = cli.home / "programs"
    programs.mkdir()
    (programs / "grep").write_text("#!/bin/sh\nsleep 3\necho done\n")
    (programs / "grep").chmod(0o755)
    asked = ("--run", "--allow-commands", "--command", "grep -c a key.env")
    path = f"{programs}:{os.environ['PATH']}"
    [patient] = answers(cli, place, *asked, PATH=path)
    assert (patient["stdout"], patient["timed_out"], patient["exit_code"]) == ("done\n", False, 0)
    user_config(cli, f"{name} = 1\n")
    [ended] = answers(cli, place, *asked, PATH=path)
    assert (ended["stdout"], ended["timed_out"], ended["exit_code"]) == ("", True, None)


def test_a_review_says_that_it_runs_no_commands(cli: Cli, place: Path) -> None:
    shown = cli.run("config", "show", place, REVIEW_AGENT_ALLOW_COMMANDS="true").stdout.decode()
    assert "本次审查没有运行任何命令" in shown
    assert "本次审查没有运行任何命令" not in cli.run("config", "show", place).stdout.decode()


def test_a_repository_cannot_turn_commands_on(cli: Cli, place: Path) -> None:
    (place / ".review-agent.toml").write_text("allow_commands = true\nbash_timeout = 9\n")
    done = cli.run("policy", "test", place, "--run", "--command", "ls")
    assert (done.returncode, done.stdout) == (1, b"")
