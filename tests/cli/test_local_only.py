"""A local run reaches its engine and nothing else, seen from outside (see docs/local-only.md)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from driver import Cli, Server, free_port, steady
from netaudit import Canary, Trace, read_trace, under_strace, without_network

HERE = Path(__file__).parent
Start = Callable[..., Server]


@pytest.fixture
def canary() -> Iterator[Canary]:
    made = Canary()
    yield made
    made.close()


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def report_of(cli: Cli, demo: Path, *args: str, home: str, **extra: str) -> dict[str, object]:
    """The report of a run that knows nothing of others."""
    return steady(cli.json("run", demo, *args, XDG_STATE_HOME=str(cli.home / home), **extra))


# The whole run


def test_a_run_without_a_network_gives_the_same_report(cli: Cli, demo: Path, start_server: Start) -> None:
    server = start_server()
    outside = report_of(cli, demo, "--base-url", server.url, home="outside")
    assert outside["verdict"] in ("pass", "issues")
    command = cli.argv("run", demo, "--base-url", server.url, "--format", "json")
    inside = [sys.executable, str(HERE / "inside_namespace.py"), str(port_of(server)), *command]
    environment = cli.environment(XDG_STATE_HOME=str(cli.home / "inside"))
    done = subprocess.run(
        without_network(inside), env=environment, cwd=cli.home, capture_output=True, timeout=90
    )
    assert done.returncode == 0, (done.returncode, done.stderr.decode())
    assert steady(json.loads(done.stdout)) == outside
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_run_talks_to_its_endpoint_only(
    host: str, cli: Cli, demo: Path, start_server: Start, tmp_path: Path
) -> None:
    port = port_of(start_server())
    folder = tmp_path / "trace"
    command = cli.argv("run", demo, "--base-url", f"http://{host}:{port}", "--format", "json")
    argv = under_strace(folder, command)
    done = subprocess.run(argv, env=cli.environment(), cwd=cli.home, capture_output=True, timeout=90)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["coverage"]["files_reviewed"] > 10
    seen = read_trace(folder)
    assert seen.sent == {("127.0.0.1", port)}
    assert (seen.bound, seen.unix) == (set(), set())
    assert seen.families == {"AF_INET"}
    programs = {Path(program).name.rstrip("0123456789.") for program in seen.ran}
    assert programs <= {"review-agent", "python", "git"}, seen.ran
    assert "review-agent" in programs


# What may not lead it elsewhere


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY", "WS_PROXY")
ADDRESSES = (
    "ANTHROPIC_BASE_URL", "ANTHROPIC_API_URL", "ANTHROPIC_BEDROCK_BASE_URL", "ANTHROPIC_VERTEX_BASE_URL",
    "ANTHROPIC_FOUNDRY_BASE_URL", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_HOST", "OLLAMA_HOST",
    "OLLAMA_BASE_URL", "OLLAMA_API_BASE", "AZURE_OPENAI_ENDPOINT", "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "GOOGLE_GEMINI_BASE_URL", "GOOGLE_VERTEX_BASE_URL", "HF_ENDPOINT",
    "MODELSCOPE_DOMAIN", "PIP_INDEX_URL", "UV_INDEX_URL", "OTEL_EXPORTER_OTLP_ENDPOINT", "SENTRY_DSN",
    "CLAUDE_CODE_API_BASE_URL", "GIT_PROXY_COMMAND", "LLAMA_ARG_HF_REPO", "LM_STUDIO_URL", "VLLM_API_BASE",
)  # fmt: skip


def poisoned(canary: Canary, scheme: str) -> dict[str, str]:
    """Every variable that is known to lead some program elsewhere. No proxy is excepted for this machine."""
    url = f"{scheme}://{canary.address}"
    found = {name: url for upper in PROXIES for name in (upper, upper.lower())}
    found |= {"NO_PROXY": "", "no_proxy": ""}
    found |= dict.fromkeys(ADDRESSES, f"http://{canary.address}")
    keys = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY", "HF_TOKEN")
    switches = {"CLAUDE_CODE_USE_BEDROCK": "1", "CLAUDE_CODE_USE_VERTEX": "1"}
    files = dict.fromkeys(("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"), "/nonexistent")
    return {**found, **dict.fromkeys(keys, "dummy"), **switches, **files}


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("backend", ["ollama", "openai"])
def test_no_variable_leads_a_run_elsewhere(
    scheme: str, backend: str, cli: Cli, demo: Path, start_server: Start, canary: Canary
) -> None:
    flags = ("--base-url", start_server().url, "--backend", backend)
    clean = report_of(cli, demo, *flags, home="clean")
    assert report_of(cli, demo, *flags, home="poisoned", **poisoned(canary, scheme)) == clean
    assert canary.hits() == 0


def test_the_variables_do_lead_others_elsewhere(cli: Cli, start_server: Start, canary: Canary) -> None:
    """The control of the test above."""
    fetch = f"import urllib.request as r; r.urlopen({start_server().url!r}, timeout=1)"
    environment = cli.environment(**poisoned(canary, "http"))
    subprocess.run([sys.executable, "-c", fetch], env=environment, capture_output=True)
    assert canary.hits() == 1


class _Redirects(BaseHTTPRequestHandler):
    """An Ollama server that sends us elsewhere with `server.status`: always, or when asked to review."""

    server: _Elsewhere

    def do_GET(self) -> None:
        tag = {"name": "m:7b", "model": "m:7b", "digest": "d", "size": 5, "details": {"parameter_size": "7B"}}
        self._answer({"version": "0.12.0", "models": [tag], "capabilities": ["completion"], "model_info": {}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def _answer(self, body: object) -> None:
        moved = self.path in self.server.moved or not self.server.moved
        data = b"" if moved else json.dumps(body).encode()
        self.send_response(self.server.status if moved else 200)
        if moved:
            self.send_header("Location", self.server.target)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class _Elsewhere(ThreadingHTTPServer):
    daemon_threads = True
    status, target, moved = 307, "", ()


@pytest.fixture
def elsewhere() -> Iterator[_Elsewhere]:
    with _Elsewhere(("127.0.0.1", 0), _Redirects) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("moved", [(), ("/api/chat",)], ids=["all", "only the review"])
def test_a_redirect_is_not_followed(
    status: int, moved: tuple[str, ...], cli: Cli, demo: Path, elsewhere: _Elsewhere, canary: Canary
) -> None:
    elsewhere.status, elsewhere.target, elsewhere.moved = (
        status,
        f"http://u:hunter2@{canary.address}/api/chat",
        moved,
    )
    url = f"http://127.0.0.1:{elsewhere.server_port}"
    done = cli.run("run", demo, "--base-url", url, "--format", "json")
    said = done.stderr.decode()
    assert done.returncode == 1, said
    assert f"模型服务 {url} 要求跳转到 `{canary.address}`（状态码 {status}），已拒绝" in said
    assert "hunter2" not in said + done.stdout.decode()
    assert canary.hits() == 0
    if moved:
        report = json.loads(done.stdout)
        assert (report["verdict"], report["coverage"]["files_reviewed"]) == ("not_reviewed", 0)
        reasons = {file["reason"] for file in report["files"] if file["status"] == "failed"}
        assert reasons <= {"模型服务拒绝了请求", "模型服务连续失败，已停止请求"}
    else:
        assert done.stdout == b""


# What is inside the process


WATCHER = """
import atexit, os, socket, sys, threading, time

def attempt():
    time.sleep(0.05)
    try:
        socket.create_connection(("127.0.0.1", int(os.environ["CANARY"])), timeout=2)
        outcome = "connected"
    except Exception as exc:
        outcome = type(exc).__name__
    with open(os.environ["OUTCOME"], "a") as file:
        print(outcome, file=file)

def watch(event, args):
    if event == "sys.addaudithook":
        threading.Thread(target=attempt, daemon=True).start()

def leave():
    with open(os.environ["MODULES"], "w") as file:
        print(*sys.modules, sep="\\n", file=file)

sys.addaudithook(watch)
atexit.register(leave)
"""


@pytest.fixture
def watched(tmp_path: Path, canary: Canary) -> dict[str, str]:
    """Variables for a process with code of ours in it, and with cloud libraries that it could import."""
    folder = tmp_path / "watcher"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WATCHER)
    for name in ("anthropic", "claude_agent_sdk", "openai", "boto3"):
        (folder / f"{name}.py").write_text("")
    files = {"OUTCOME": str(tmp_path / "outcome"), "MODULES": str(tmp_path / "modules")}
    return {**files, "PYTHONPATH": str(folder), "CANARY": str(canary.port)}


PREVIEW = ("--preview", "--mode")


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("run", ()),
        ("run", ("--preview",)),
        ("run", (*PREVIEW, "hybrid")),
        ("run", (*PREVIEW, "cloud")),
        ("route", ("--mode", "cloud")),
    ],
)
def test_what_sends_nothing_arms_the_tripwire_and_loads_nothing_for_the_cloud(
    name: str,
    more: tuple[str, ...],
    cli: Cli,
    demo: Path,
    start_server: Start,
    watched: dict[str, str],
    canary: Canary,
) -> None:
    engine = ("--base-url", start_server().url) if name == "run" else ()
    done = cli.run(name, demo, *engine, *more, **watched)
    assert done.returncode == 0, done.stderr.decode()
    assert Path(watched["OUTCOME"]).read_text() == "EndpointRefused\n"
    assert canary.hits() == 0
    modules = set(Path(watched["MODULES"]).read_text().split())
    ours = {f"review_agent.tools.{name}" for name in ("hubs", "download", "ollama_pull")}
    assert not modules & {"anthropic", "claude_agent_sdk", "openai", "boto3", *ours}
    assert "sitecustomize" in modules
    assert {"httpx", "review_agent.tools.transport"} <= modules or name != "run"


def test_what_a_rogue_part_of_the_process_can_reach(tmp_path: Path, cli: Cli) -> None:
    engine, other = free_port(), free_port()
    seen: dict[str, Trace] = {}
    said: dict[str, dict[str, str]] = {}
    for how in ("free", "armed"):
        rogue = [sys.executable, str(HERE / "rogue.py"), str(engine), str(other), how]
        argv = without_network(under_strace(tmp_path / how, rogue))
        done = subprocess.run(argv, env=cli.environment(), capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        said[how], seen[how] = json.loads(done.stdout), read_trace(tmp_path / how)
    assert "EndpointRefused" not in said["free"].values()  # so it is the tripwire that refuses
    reached = {("192.0.2.1", 80), ("127.0.0.1", other), ("127.0.0.1", engine)}
    assert reached <= seen["free"].sent
    assert '"/var/run/nscd/socket"' in seen["free"].unix

    engine_said = said["armed"].pop("the engine")
    assert engine_said == "ConnectError"  # nobody listens there, and it was asked
    assert set(said["armed"].values()) == {"EndpointRefused"}, said["armed"]
    assert seen["armed"].sent == {("127.0.0.1", engine)}
    assert (seen["armed"].unix, seen["armed"].bound) == (set(), set())


# How the trace is read


@pytest.mark.parametrize(
    ("line", "trace"),
    [
        (
            'connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("192.0.2.1")}, 16) = -1 ENETUNREACH (x)',
            Trace(sent={("192.0.2.1", 80)}),
        ),
        (
            'sendto(3, "x", 1, 0, {sa_family=AF_INET6, sin6_port=htons(53), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = 1',
            Trace(sent={("::1", 53)}),
        ),
        (
            'sendmmsg(3, [{msg_hdr={msg_name={sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("192.0.2.53")}, msg_namelen=16}}], 1, 0) = 1',
            Trace(sent={("192.0.2.53", 53)}),
        ),
        ('sendto(5, "\\0", 1, 0, NULL, 0) = 1', Trace()),
        (
            'bind(6, {sa_family=AF_INET6, sin6_port=htons(0), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = 0',
            Trace(bound={("::1", 0)}),
        ),
        ('connect(3, {sa_family=AF_UNIX, sun_path="/a b"}, 110) = -1 ENOENT (x)', Trace(unix={'"/a b"'})),
        ('connect(3, {sa_family=AF_UNIX, sun_path=@"x"}, 110) = 0', Trace(unix={'@"x"'})),
        ("socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE) = 3", Trace(families={"AF_NETLINK"})),
        ('execve("/usr/bin/git", ["git", "version"], 0x7 /* 4 vars */) = 0', Trace(ran={"/usr/bin/git"})),
        ('execve("/bin/git", ["git"], 0x7 /* 4 vars */) = -1 ENOENT (No such file or directory)', Trace()),
        ("--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED} ---", Trace()),
    ],
)  # fmt: skip
def test_how_a_trace_is_read(line: str, trace: Trace) -> None:
    read = Trace()
    read.read(line)
    assert read == trace
