"""`doctor` as a user runs it. What listens at other engines' usual ports of this machine must not matter."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from driver import Cli, Server, free_port

from review_agent.checkpoints.store import Store

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


# --- the run store


def store_of(cli: Cli) -> Path:
    return cli.home / "state" / "review-agent" / "store.sqlite3"


@pytest.mark.parametrize("options", [(), ("--verify",), ("--json",)])
def test_it_makes_no_store(cli: Cli, start_server: Start, options: tuple[str, ...]) -> None:
    server = start_server(model="qwen2.5-coder:7b")
    done = cli.run("doctor", *options, OLLAMA_HOST=server.url)
    assert done.returncode == 0
    assert not store_of(cli).parent.exists()
    if not options:
        assert "第一次审查时新建" in done.stdout.decode()


@pytest.fixture
def kept(cli: Cli, start_server: Start, demo: Path) -> Server:
    server = start_server(model="qwen2.5-coder:7b")
    cli.json("run", demo, "--base-url", server.url)
    return server


def test_verify_reads_the_whole_store(cli: Cli, kept: Server) -> None:
    done = cli.run("doctor", "--verify", OLLAMA_HOST=kept.url)
    assert done.returncode == 0
    assert "结构和封印都完好" in done.stdout.decode()
    found = json.loads(cli.run("doctor", "--verify", "--json", OLLAMA_HOST=kept.url).stdout)
    assert (found["ok"], found["store"]["check"]["problems"], found["store"]["check"]["unsealed"]) == (
        True,
        [],
        0,
    )
    assert found["store"]["check"]["runs"] == 1
    assert found["store"]["check"]["analyses"] > 5
    assert json.loads(cli.run("doctor", "--json", OLLAMA_HOST=kept.url).stdout)["store"]["check"] is None


def test_verify_finds_rows_that_were_changed(cli: Cli, kept: Server) -> None:
    with sqlite3.connect(store_of(cli)) as db:
        db.execute("UPDATE analyses SET payload='{}'")
        (count,) = db.execute("SELECT count(*) FROM analyses").fetchone()
    db.close()
    done = cli.run("doctor", "--verify", OLLAMA_HOST=kept.url)
    text = done.stdout.decode()
    assert done.returncode == 1
    assert f"有 {count} 条没有有效的封印" in text
    assert "可以开始审查" in text
    found = json.loads(cli.run("doctor", "--verify", "--json", OLLAMA_HOST=kept.url).stdout)
    assert (found["ok"], found["run"]["possible"], found["store"]["check"]["unsealed"]) == (
        False,
        True,
        count,
    )
    assert [(row["key"], row["blocking"]) for row in found["problems"]] == [("store_unsealed", False)]
    assert cli.run("doctor", OLLAMA_HOST=kept.url).returncode == 0  # it was not asked to look
    assert cli.run("runs", "prune", "--all").returncode == 0  # the cure
    assert cli.run("doctor", "--verify", OLLAMA_HOST=kept.url).returncode == 0


def test_verify_finds_ledgers_that_were_cut(cli: Cli, kept: Server) -> None:
    with Store(store_of(cli)) as store:
        store.start_run("other", "/repo", "tree", "{}")
        store.note_egress("other", ["one", "two"])
    with sqlite3.connect(store_of(cli)) as db:
        db.execute("DELETE FROM egress WHERE number=2")
    db.close()
    found = json.loads(cli.run("doctor", "--verify", "--json", OLLAMA_HOST=kept.url).stdout)
    check = found["store"]["check"]
    assert (found["ok"], check["unsealed"], check["cut"]) == (False, 0, 1)
    assert [(row["key"], row["blocking"]) for row in found["problems"]] == [("store_cut", False)]
    done = cli.run("doctor", "--verify", OLLAMA_HOST=kept.url)
    assert (done.returncode, "有 1 份清单" in done.stdout.decode()) == (1, True)


def test_verify_finds_damage_and_leaves_it_where_it_is(cli: Cli, kept: Server) -> None:
    with Store(store_of(cli)) as store:
        store.prune(0)  # no log beside it
    data = store_of(cli).read_bytes()
    bad = data[:8192] + b"\xff" * 8192 + data[16384:]
    store_of(cli).write_bytes(bad)
    done = cli.run("doctor", "--verify", "--lang", "en", OLLAMA_HOST=kept.url)
    text = done.stdout.decode()
    assert done.returncode == 1
    for part in ("is damaged", "makes a new one", f"mv {store_of(cli)} ", "Ready to review"):
        assert part in text
    assert store_of(cli).read_bytes() == bad
    found = json.loads(cli.run("doctor", "--verify", "--json", OLLAMA_HOST=kept.url).stdout)
    assert found["problems"][0]["key"] == "store_is_damaged"
    assert found["store"]["check"]["problems"] != []


def test_a_file_that_is_no_store_is_said_without_being_asked(cli: Cli, kept: Server) -> None:
    store_of(cli).write_bytes(b"not a store\n" * 900)
    done = cli.run("doctor", OLLAMA_HOST=kept.url)
    assert done.returncode == 0  # a run would set it aside
    assert "已损坏" in done.stdout.decode()
    assert list(store_of(cli).parent.glob("*.corrupt*")) == []
