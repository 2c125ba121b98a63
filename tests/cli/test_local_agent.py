"""`--orchestrator agent` in local mode: the agent's model is on this machine too, and nothing leaves it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from claude_scripts import OURS, looping, reviewer
from driver import Cli, Server
from netaudit import read_trace, under_strace
from scripted_claude import Asked, Calls, Fault, Reply, Script, ScriptedClaude, Text

Start = Callable[..., Server]
SUMMARY = "总评：本机复核完毕。"


@pytest.fixture
def local(start_server: Start) -> Server:
    return start_server(review="def ", model="local:7b")


def options(local: Server, claude: ScriptedClaude) -> tuple[str, ...]:
    return ("--orchestrator", "agent", "--base-url", local.url, "--agent-base-url", claude.url)


def keys_of(report: dict[str, object]) -> set[str]:
    notes = report["notes"]
    assert isinstance(notes, list)
    return {note["key"] for note in notes}


# --- nothing leaves ---


def test_a_whole_review_stays_on_this_machine(cli: Cli, demo: Path, local: Server, tmp_path: Path) -> None:
    """The agent judges and sums up; whoever looks from outside sees the two servers and nothing else."""
    folder, report = tmp_path / "trace", tmp_path / "r.json"
    with ScriptedClaude(reviewer(refute=["auth.py"], summary=SUMMARY)) as claude:
        command = cli.argv(
            "run",
            demo,
            *options(local, claude),
            "--out",
            f"json={report}",
            "--out",
            f"markdown={tmp_path / 'r.md'}",
        )
        argv = under_strace(folder, command)
        environ = cli.environment(
            ANTHROPIC_BASE_URL="https://192.0.2.1",
            ANTHROPIC_API_KEY="sk-not-this",
            HTTPS_PROXY="http://192.0.2.2:1",
        )
        done = subprocess.run(argv, env=environ, cwd=cli.home, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(report.read_text())
    assert found["engine"] == {
        **found["engine"], "mode": "local", "orchestrator": "agent", "model": "local:7b", "agent_model": "local:7b",
        "cloud_host": "", "cloud_model": "",
    }  # fmt: skip
    assert (found["summary"], found["egress"]) == (SUMMARY, [])
    outcomes = {(one["outcome"], one["reason_key"]) for one in found["findings"] if one["source"] == "model"}
    assert outcomes == {("refuted", "refuted_by_review"), ("reported", "confirmed_by_review")}
    assert "没有代码离开本机" in (tmp_path / "r.md").read_text()
    assert found["usage"]["requests"] == len(local.requests()) + len(claude.asked)

    seen = read_trace(folder)
    ports = {int(server.rpartition(":")[2]) for server in (local.url, claude.url)}
    assert {port for host, port in seen.sent if host != "127.0.0.1"} == set(), seen.sent
    assert {port for _, port in seen.sent} == ports
    assert seen.unix == set()
    assert {one.headers["x-api-key"] for one in claude.asked} == {"local"}
    assert "sk-not-this" not in json.dumps([[one.body, one.headers] for one in claude.everything])
    body = claude.asked[0].body
    assert body["max_tokens"] == 4096  # a model that rambles ends soon
    assert not {"thinking", "output_config"} & set(body)
    assert "cache_control" not in claude.asked[0].text


@pytest.mark.parametrize("url", ["https://api.anthropic.com", "http://gpu-box:11434", "http://192.0.2.7:1"])
def test_another_host_is_refused_before_anything_is_read(
    url: str, cli: Cli, demo: Path, local: Server
) -> None:
    done = cli.run("run", demo, "--orchestrator", "agent", "--base-url", local.url, "--agent-base-url", url)
    assert done.returncode == 2
    assert "智能体的地址" in done.stderr.decode()
    assert "正在读取" not in done.stderr.decode()
    assert local.requests() == []


# --- a model that is no agent ---


@pytest.mark.parametrize(
    ("reply", "most"), [(Text("我看完了，没有问题。"), 1), (Fault("max_tokens"), 2), (Fault("empty"), 2)]
)
def test_a_model_that_only_talks_leaves_a_direct_run(
    reply: Reply, most: int, cli: Cli, demo: Path, local: Server
) -> None:
    """Its run differs from one without an agent in the sentence that says so."""
    with ScriptedClaude([reply] * 9) as claude:
        fallen = cli.json("run", demo, *options(local, claude), "--fail-on", "high", code=3)
        direct = cli.json("run", demo, "--base-url", local.url, "--fail-on", "high", code=3)
        assert 1 <= len(claude.asked) <= most  # the program would ask a model that rambles three times more
    assert "agent_fell_back" in keys_of(fallen)
    differs = {key for key in fallen if fallen[key] != direct[key]}
    assert differs <= {"run_id", "created", "usage", "notes"}
    assert keys_of(fallen) - keys_of(direct) == {"agent_fell_back"}


def reading(asked: Asked) -> Reply:
    """Reads on and on."""
    return Calls([(OURS + "read_lines", {"path": "api/app/orders.py", "start_line": asked.number})])


@pytest.mark.parametrize(
    ("context", "script", "note", "requests", "code"),
    [
        (4096, looping(), "agent_context_small", range(1), 0),
        (12000, reading, "agent_stopped", range(2, 9), 4),
        (200_000, reviewer(analyze=False), "", range(5, 20), 0),
    ],
    ids=["too small", "outgrown", "large"],
)
def test_a_conversation_stays_within_the_context(
    context: int, script: Script, note: str, requests: range, code: int, cli: Cli, demo: Path, local: Server
) -> None:
    with ScriptedClaude(script, context=context, model="local:7b") as claude:
        report = cli.json("run", demo, *options(local, claude), code=code)
    assert len(claude.asked) in requests
    assert {note} - {""} <= keys_of(report)
    small = note == "agent_context_small"
    assert report["engine"]["orchestrator"] == ("direct" if small else "agent")  # type: ignore[index]
    if note == "agent_stopped":
        assert (report["verdict"], report["verdict_reason"]) == ("incomplete", "agent_context_full")
        sent = len(json.dumps(claude.asked[-1].body, ensure_ascii=False))
        assert sent / 3 < context  # what was sent would have fit


# --- commands ---


def test_commands_run_for_a_local_agent_only_where_the_user_allows_it(
    cli: Cli, demo: Path, local: Server
) -> None:
    for args in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"],
    ):
        subprocess.run(["git", *args], cwd=demo, check=True)
    run = OURS + "run_command"
    script = [
        Calls(
            [
                (run, {"command": "wc -l README.md"}),
                (run, {"command": "rm -rf /tmp/x"}),
                (run, {"command": "cat ../x"}),
            ]
        ),
        Calls([(OURS + "submit_summary", {"summary": SUMMARY})] * 3),
    ]
    with ScriptedClaude(script) as claude:
        allowed = cli.json("run", demo, *options(local, claude), "--allow-commands")
        assert run in claude.asked[0].tools
        results = {call: (text, failed) for call, text, failed in claude.asked[1].results}
        told = [results[call] for call, _, _ in claude.asked[1].called]
    lines = len((demo / "README.md").read_text().splitlines())
    assert told[0] == (f"exit 0\n{lines} README.md\n", False)
    assert [failed for _, failed in told[1:]] == [True, True]
    audit = json.loads(cli.run("audit", allowed["run_id"], "--json").stdout)  # type: ignore[arg-type]
    rows = [row for row in audit["calls"] if row["tool"] == run]
    assert sorted((row["decision"], row["error"]) for row in rows) == [
        ("allowed", False),
        ("denied", True),
        ("denied", True),
    ]
    assert "commands_unused" not in keys_of(allowed)

    with ScriptedClaude([]) as claude:
        report = cli.json(
            "run", demo, "--mode", "hybrid", "--base-url", local.url, "--allow-commands", code=4,
            ANTHROPIC_BASE_URL=claude.url, ANTHROPIC_API_KEY="sk-dummy",
        )  # fmt: skip
        assert run not in claude.asked[0].tools
    assert "commands_unused" in keys_of(report)
