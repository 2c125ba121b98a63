"""`doctor` as a user runs it. What listens at other engines' usual ports of this machine must not matter."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from driver import Cli, Server, free_port

Start = Callable[..., Server]
CJK = re.compile("[\u3000-\u9fff\uff00-\uffef]")


def nowhere() -> str:
    return f"127.0.0.1:{free_port()}"


def test_without_an_engine_it_fails_and_says_what_to_do(cli: Cli) -> None:
    done = cli.run("doctor", OLLAMA_HOST=nowhere())
    text = done.stdout.decode()
    assert (done.returncode, done.stderr) == (1, b"")
    for part in (
        "没有找到本地模型服务",
        "`ollama serve`",
        "`ollama pull ",
        "`review-agent models pull ",
        "内存",
    ):
        assert part in text


def test_with_a_usable_model_it_succeeds_and_a_run_takes_the_same(
    cli: Cli, start_server: Start, demo: Path
) -> None:
    server = start_server(model="qwen2.5-coder:7b")
    done = cli.run("doctor", OLLAMA_HOST=server.url)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "qwen2.5-coder:7b" in done.stdout.decode()
    told = json.loads(cli.run("doctor", "--json", OLLAMA_HOST=server.url).stdout)["run"]
    taken = cli.json("run", demo, OLLAMA_HOST=server.url)["engine"]
    assert isinstance(taken, dict)
    assert (told["backend"], told["model"]) == (taken["backend"], taken["model"])
    assert server.requests() != []


def test_it_asks_no_model_anything(cli: Cli, start_server: Start) -> None:
    server = start_server()
    cli.run("doctor", OLLAMA_HOST=server.url)
    assert server.requests() == []


@pytest.mark.parametrize(("lang", "chinese"), [("zh-CN", True), ("en", False)])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_it_speaks_the_language_that_is_asked_for(
    cli: Cli, options: tuple[str, ...], lang: str, chinese: bool
) -> None:
    done = cli.run("doctor", *options, "--lang", lang, OLLAMA_HOST=nowhere())
    assert (CJK.search(done.stdout.decode()) is not None) is chinese


def test_json_is_one_object_and_nothing_else(cli: Cli) -> None:
    done = cli.run("doctor", "--json", OLLAMA_HOST=nowhere())
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, b"")
    assert (found["schema_version"], found["ok"], found["run"]["possible"]) == (1, False, False)
    assert {"ollama", "embedded"} <= {engine["name"] for engine in found["engines"]}
    assert all(problem["remedy"] for problem in found["problems"])


def test_a_broken_user_configuration_does_not_stop_it(cli: Cli, start_server: Start) -> None:
    server = start_server(model="qwen2.5-coder:7b")
    file = cli.home / "config" / "review-agent" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("modle = 'x'\n")
    done = cli.run("doctor", "--json", OLLAMA_HOST=server.url)
    found = json.loads(done.stdout)
    assert (done.returncode, found["run"]["possible"]) == (1, True)
    (problem,) = found["problems"]
    assert (problem["key"], problem["blocking"]) == ("config_unknown_key", True)
    assert str(file) in problem["remedy"]


@pytest.mark.parametrize("args", [("--nope",), ("extra",)])
def test_a_wrong_use_is_2(cli: Cli, args: tuple[str, ...]) -> None:
    assert cli.run("doctor", *args).returncode == 2


def test_a_terminal_without_chinese_does_not_stop_it(cli: Cli) -> None:
    done = cli.run("doctor", OLLAMA_HOST=nowhere(), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (1, b"")
