"""`--mode cloud`: what goes to the cloud, what stays, and what the report says of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from driver import Cli, Server

Start = Callable[..., Server]
LOCAL_ONLY = ("web/**", "auth.py")
STAYS = ("api/app/auth.py", "web/index.html", "web/src/api.ts", "web/src/cart.ts", "web/src/orderView.ts")
SECRET = "api/app/config.py"  # holds a password
KEY = "sk-ant-dummy-0123456789"


@pytest.fixture
def local(start_server: Start) -> Server:
    return start_server(review="*", model="local:7b")


@pytest.fixture
def cloud(start_server: Start) -> Server:
    return start_server(review="*", model="cloud")


def configure(cli: Cli, local_only: Sequence[str] = LOCAL_ONLY, **more: object) -> None:
    folder = cli.home / "config" / "review-agent"
    folder.mkdir(parents=True, exist_ok=True)
    rows = {"local_only": list(local_only), **more}
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in rows.items())
    (folder / "config.toml").write_text(text)


def keys(cloud: Server, **more: str) -> dict[str, str]:
    """Without the agent: here is only about who reads which file."""
    return {
        "REVIEW_AGENT_ORCHESTRATOR": "direct",
        "ANTHROPIC_BASE_URL": cloud.url,
        "ANTHROPIC_API_KEY": KEY,
        **more,
    }


def paths_of(prompts: Sequence[str]) -> set[str]:
    return {path for prompt in prompts for path in re.findall(r"^文件：(.+?)（", prompt, re.M)}


def shown_to(prompts: Sequence[str]) -> set[str]:
    """Lines of code in prompts, without numbers and marks."""
    return {row[1] for prompt in prompts for row in re.findall(r"^ *(\d+) [+ ] (.*)$", prompt, re.M)}


def test_each_file_goes_where_it_may(cli: Cli, local: Server, cloud: Server, demo: Path) -> None:
    configure(cli)
    report = cli.json("run", demo, "--mode", "cloud", "--base-url", local.url, **keys(cloud))
    assert report["verdict"] == "issues"
    engine = report["engine"]
    assert engine == {
        **engine, "mode": "cloud", "backend": "ollama", "model": "local:7b", "orchestrator": "direct",
        "cloud_host": cloud.url.removeprefix("http://"), "cloud_model": "claude-sonnet-5-5",
    }  # fmt: skip

    here, there = paths_of(local.prompts()), paths_of(cloud.prompts())
    files = {file["path"]: file for file in report["files"] if file["status"] == "reviewed"}
    assert {path for path, file in files.items() if file["route"] == "cloud"} == there
    assert {path for path, file in files.items() if file["route"] == "local"} == here
    assert set(STAYS) <= here
    assert not here & there
    assert len(there) > 5

    # The proof is what the server was sent, not what we say of it.
    kept = {line.strip() for path in STAYS for line in (demo / path).read_text().splitlines()}
    sent = {line.strip() for line in shown_to(cloud.prompts())}
    both = {line.strip() for path in there for line in (demo / path).read_text().splitlines()}
    assert not {line for line in kept & sent - both if len(line) > 3}
    everything = "\n".join(cloud.prompts())
    for path in here:
        assert path not in everything

    # The ledger is what was sent: every unit, its lines and its bytes.
    rows = report["egress"]
    assert {row["path"] for row in rows} == there
    assert {row["host"] for row in rows} == {engine["cloud_host"]}
    assert {row["model"] for row in rows} == {"claude-sonnet-5-5"}
    assert {row["turn"] for row in rows} == {0}
    for path in there:
        text = (demo / path).read_text(encoding="utf-8")
        lines = [row["lines"] for row in rows if row["path"] == path]
        assert numbers(lines) == set(range(1, len(text.splitlines()) + 1)), path
    assert len(rows) == sum(prompt.count("文件：") for prompt in cloud.prompts())

    requests = cloud.requests()
    usage = report["usage"]["cloud"]
    assert usage["requests"] == len(requests) > 0
    assert usage["prompt_tokens"] == sum(int(str(request["prompt_tokens"])) for request in requests)
    assert usage["cost"] is None  # nobody knows what another host asks for
    assert report["usage"]["requests"] == len(local.requests()) > 0
    assert all(request["cache_control"] for request in requests)
    assert {request["form"] for request in requests} == {"output_config"}
    assert {request["stream"] for request in requests} == {True}


def numbers(lines: Sequence[str]) -> set[int]:
    found: set[int] = set()
    for part in (part for row in lines for part in row.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def test_the_prefix_is_the_same_in_every_request(cli: Cli, local: Server, cloud: Server, demo: Path) -> None:
    configure(cli)
    model = {"ANTHROPIC_MODEL": "some-model"}
    cli.json("run", demo, "--mode", "cloud", "--base-url", local.url, **keys(cloud, **model))
    assert {request["form"] for request in cloud.requests()} == {"tool_choice"}
    assert len(cloud.requests()) > 1
    assert len({request["tools_tokens"] for request in cloud.requests()}) == 1
    before = {prompt.partition("<<")[0] for prompt in cloud.prompts()}
    assert len(before) == 1


@pytest.mark.parametrize(
    ("environ", "sent"),
    [
        ({"ANTHROPIC_API_KEY": KEY}, {"X-Api-Key": KEY}),
        ({"ANTHROPIC_AUTH_TOKEN": KEY}, {"Authorization": f"Bearer {KEY}"}),
        ({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_AUTH_TOKEN": "other"}, {"X-Api-Key": KEY}),
    ],
)
def test_how_a_key_travels_and_that_it_is_kept_nowhere(
    environ: dict[str, str], sent: dict[str, str], cli: Cli, cloud: Server, demo: Path
) -> None:
    done = cli.run(
        "run", demo, "--backend", "anthropic", "--base-url", cloud.url, "--out", "json=r.json", "--out", "sarif=r.sarif",
        "--include", "worker/**", "--model", "m", "--orchestrator", "direct", **environ, ANTHROPIC_CUSTOM_HEADERS="X-Api-Key: evil\nAuthorization: evil",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert [request["auth"] for request in cloud.requests()] == [sent] * len(cloud.requests())
    assert {request["model"] for request in cloud.requests()} == {"m"}
    texts = [done.stdout, done.stderr, *(file.read_bytes() for file in cli.home.rglob("*") if file.is_file())]
    assert len(texts) > 4
    assert not [text for text in texts if KEY.encode() in text]


def test_a_secret_keeps_its_file_here(cli: Cli, local: Server, cloud: Server, demo: Path) -> None:
    secret = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
    (demo / "worker" / "extra.go").write_text(f'package main\n\nvar token = "{secret}"\n')
    report = cli.json("run", demo, "--mode", "cloud", "--base-url", local.url, **keys(cloud))
    assert "worker/extra.go" in paths_of(local.prompts())
    assert "extra.go" not in "\n".join(cloud.prompts())
    assert secret not in json.dumps(report)


def test_guidance_goes_along_only_where_its_file_may(
    cli: Cli, local: Server, cloud: Server, make_guided: Path
) -> None:
    for local_only, goes in ((["web/**"], True), (["AGENTS.md"], False)):
        configure(cli, local_only)
        before = len(cloud.prompts())
        report = cli.json(
            "run", make_guided, "--mode", "cloud", "--base-url", local.url, "--fresh", **keys(cloud)
        )
        prompts = cloud.prompts()[before:]
        assert prompts
        assert all(("PLANTED-GUIDANCE" in prompt) is goes for prompt in prompts)
        assert all("PLANTED-GUIDANCE" in prompt for prompt in local.prompts())
        rows = [row["lines"] for row in report["egress"] if row["path"] == "AGENTS.md"]
        own = [prompt.count("文件：AGENTS.md") for prompt in prompts]
        assert len(rows) - sum(own) == (len(prompts) if goes else 0)


@pytest.fixture
def make_guided(demo: Path) -> Path:
    import subprocess

    (demo / "AGENTS.md").write_text("Mind the orders.\nPLANTED-GUIDANCE\n")
    for args in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"],
    ):
        subprocess.run(["git", *args], cwd=demo, check=True)
    return demo


def test_what_must_stay_fails_without_a_local_engine(cli: Cli, cloud: Server, demo: Path) -> None:
    configure(cli)
    report = cli.json(
        "run", demo, "--mode", "cloud", "--base-url", "http://127.0.0.1:1", code=4, **keys(cloud)
    )
    failed = {file["path"]: file["reason_key"] for file in report["files"] if file["status"] == "failed"}
    assert failed == dict.fromkeys((*STAYS, SECRET), "no_local_engine")
    assert report["verdict"] == "incomplete"
    assert not set(STAYS) & paths_of(cloud.prompts())
    assert "no_local_engine" in {note["key"] for note in report["notes"]}


def test_hybrid_reads_files_here_only(cli: Cli, local: Server, cloud: Server, demo: Path) -> None:
    report = cli.json("run", demo, "--mode", "hybrid", "--base-url", local.url, **keys(cloud))
    assert report["egress"] == []
    assert cloud.requests() == []
    assert {"hybrid", "local"} == {file["route"] for file in report["files"]}
    down = cli.run("run", demo, "--mode", "hybrid", "--base-url", "http://127.0.0.1:1", **keys(cloud))
    assert down.returncode == 1
    assert "没有任何代码发往云端" in down.stderr.decode()
    assert cloud.requests() == []


def test_a_key_in_the_environment_is_no_consent(cli: Cli, local: Server, cloud: Server, demo: Path) -> None:
    report = cli.json("run", demo, "--base-url", local.url, **keys(cloud, ANTHROPIC_AUTH_TOKEN="t"))
    assert (report["engine"]["mode"], report["engine"]["cloud_host"]) == ("local", "")
    assert cloud.requests() == []
    assert "cloud" not in cloud.log.read_text() if cloud.log.exists() else True


@pytest.mark.parametrize(
    ("args", "environ", "said"),
    [
        (["--mode", "cloud"], {}, "ANTHROPIC_AUTH_TOKEN"),
        (["--backend", "anthropic"], {}, "ANTHROPIC_API_KEY"),
        (["--mode", "cloud", "--agent-base-url", "http://a.example"], {"ANTHROPIC_API_KEY": KEY}, "没有加密"),
        (["--mode", "local", "--backend", "anthropic"], {"ANTHROPIC_API_KEY": KEY}, "矛盾"),
    ],
)
def test_what_is_refused_before_anything_is_read(
    args: list[str], environ: dict[str, str], said: str, cli: Cli, demo: Path
) -> None:
    done = cli.run("run", demo, *args, **environ)
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode()


def test_a_second_run_pays_for_what_changed_only(cli: Cli, local: Server, cloud: Server, demo: Path) -> None:
    configure(cli)
    args = ("run", demo, "--mode", "cloud", "--base-url", local.url)
    first = cli.json(*args, **keys(cloud))
    seen = len(cloud.requests()), len(local.requests())
    again = cli.json(*args, **keys(cloud))
    assert (len(cloud.requests()), len(local.requests())) == seen
    assert again["findings"] == first["findings"]
    assert again["egress"] == []
    (demo / "worker" / "queue.go").write_text("package main\n\nvar changed = 1\n")
    third = cli.json(*args, **keys(cloud))
    assert [row["path"] for row in third["egress"]] == ["worker/queue.go"]
    cli.json(*args, "--verify-model", "other", **keys(cloud))
    assert len(cloud.requests()) > seen[0] + 1  # another model's answers are others
    assert len(local.requests()) == seen[1]


@pytest.mark.parametrize(("fault", "key"), [("http429", "engine_busy"), ("http500", "engine_fault")])
def test_a_cloud_that_fails_leaves_the_local_engine_be(
    fault: str, key: str, cli: Cli, local: Server, cloud: Server, demo: Path
) -> None:
    configure(cli)
    cloud.configure(fault=fault)
    report = cli.json(
        "run", demo, "--mode", "cloud", "--base-url", local.url, "--concurrency", "2", code=4, **keys(cloud)
    )
    status = {file["path"]: file["status"] for file in report["files"]}
    assert {status[path] for path in STAYS} == {"reviewed"}
    failed = {file["reason_key"] for file in report["files"] if file["status"] == "failed"}
    assert failed <= {key, "engine_gave_up"}
    assert key in failed


def test_what_the_cloud_has_no_budget_for_is_reviewed_here(
    cli: Cli, local: Server, cloud: Server, demo: Path
) -> None:
    args = ("run", demo, "--mode", "cloud", "--base-url", local.url, "--max-cloud-tokens", "9000")
    report = cli.json(*args, **keys(cloud))
    used = report["usage"]["cloud"]
    assert 0 < used["prompt_tokens"] + used["completion_tokens"] <= 9000
    routes = {file["path"]: file["route"] for file in report["files"]}
    assert set(routes.values()) == {"cloud", "local"}
    assert report["verdict"] == "issues"  # so each of them was reviewed
    there = paths_of(cloud.prompts())
    assert {path for path, route in routes.items() if route == "cloud"} == there
    assert {row["path"] for row in report["egress"]} == there


def test_what_is_shown(cli: Cli, local: Server, cloud: Server, demo: Path) -> None:
    configure(cli)
    for fmt in ("terminal", "markdown"):
        done = cli.run(
            "run", demo, "--mode", "cloud", "--base-url", local.url, "--fresh", "--format", fmt, **keys(cloud)
        )
        text = done.stdout.decode()
        assert re.search(r"云端请求 \d+ 次", text)
        assert "费用未知" in text
        assert "出网清单" in text
        assert re.search(r"第 1-\d+ 行", text)
        assert "云端" in done.stderr.decode()


def test_a_run_goes_on_in_both_lanes(cli: Cli, local: Server, cloud: Server, demo: Path) -> None:
    configure(cli)
    cloud.configure(fault="http500")
    first = cli.json("run", demo, "--mode", "cloud", "--base-url", local.url, code=4, **keys(cloud))
    asked, sent = len(local.requests()), len(cloud.requests())
    shown = cli.run("report", str(first["run_id"]), "--format", "json")
    assert json.loads(shown.stdout)["files"] == first["files"]
    cloud.configure(fault="none")
    again = cli.json("resume", str(first["run_id"]), **keys(cloud))
    assert (again["run_id"], again["verdict"]) == (first["run_id"], "issues")
    assert len(local.requests()) == asked
    assert len(cloud.requests()) > sent
    assert again["egress"][: len(first["egress"])] == first["egress"]  # what left, left
    done = cli.run("resume", str(first["run_id"]))  # without a key
    assert (done.returncode, b"ANTHROPIC_API_KEY" in done.stderr) == (2, True)


def test_a_killed_run_is_reported_by_the_lanes_it_had(
    cli: Cli, local: Server, cloud: Server, demo: Path
) -> None:
    configure(cli)
    cloud.configure(latency=30)
    process = cli.start("run", demo, "--mode", "cloud", "--base-url", local.url, **keys(cloud))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and len(paths_of(local.prompts())) < len(STAYS) + 1:
        time.sleep(0.2)
    time.sleep(1)
    process.kill()
    process.communicate(timeout=10)
    (run_id,) = set(re.findall(r"\d{8}-\d{6}-\w{6}", cli.run("runs", "list").stdout.decode()))
    report = json.loads(cli.run("report", run_id, "--format", "json").stdout)
    states = {file["path"]: (file["route"], file["status"]) for file in report["files"]}
    assert {states[path] for path in (*STAYS, SECRET)} == {("local", "reviewed")}
    assert {state for path, state in states.items() if path not in (*STAYS, SECRET)} == {("cloud", "failed")}
    assert {row["path"] for row in report["egress"]} <= states.keys() - {*STAYS, SECRET}
    assert report["egress"]


def test_preview_asks_nobody(cli: Cli, local: Server, cloud: Server, demo: Path) -> None:
    configure(cli)
    done = cli.run("run", demo, "--mode", "cloud", "--base-url", local.url, "--preview", **keys(cloud))
    assert done.returncode == 0
    assert (local.requests(), cloud.requests()) == ([], [])
