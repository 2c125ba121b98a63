"""The installed command against a server that repeats all it was sent: in answers, and in what it calls errors."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from driver import Cli
from hostile_text import commands, forbidden
from leaky import FILES, SECRETS, TOKEN, found

EVERYTHING = "\n".join(SECRETS)
Say = Callable[[], tuple[int, str]]


def answered() -> tuple[int, str]:
    """One finding for each line with a secret in it, and one for a line that is nowhere; all say everything."""
    quotes = ["token = ", "password: ", "KEY = ", "x79 = 79", "not there"]
    names = ("title", "explanation", "suggestion", "replacement", "summary")
    findings = [
        {
            "path": path,
            "quote": quote,
            "category": "bug",
            "severity": "high",
            "confidence": 0.9,
            "line_start": 1,
        }
        | dict.fromkeys(names, f"{EVERYTHING} {quote}")
        for path, text in FILES.items()
        for quote in quotes
        if quote in text or quote == "not there"
    ]
    text = json.dumps({"summary": EVERYTHING, "findings": findings})
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return 200, "".join(f"data: {json.dumps(part)}\n\n" for part in (chunk, end)) + "data: [DONE]\n\n"


def refused(status: int) -> Say:
    return lambda: (status, json.dumps({"error": {"message": f"cannot read this: {EVERYTHING}"}}))


def garbled() -> tuple[int, str]:
    return 200, f"data: {EVERYTHING}\n\n"


@pytest.fixture
def echo() -> Iterator[Callable[..., str]]:
    """`echo(say)`: the address of a server that speaks the OpenAI protocol and answers with `say()`."""
    servers: list[ThreadingHTTPServer] = []

    def start(say: Say, model: str = "m") -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.path.endswith("/models")
                self.reply(200 if known else 404, json.dumps({"object": "list", "data": [{"id": model}]}))

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", "0")))
                self.reply(*say())

            def reply(self, status: int, text: str) -> None:
                data = text.encode()
                self.send_response(status)
                kind = "text/event-stream" if text.startswith("data:") else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on our own stderr."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    folder = tmp_path / "leaky"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / f"{TOKEN}.py").write_text("x = 1\n")
    return folder


@pytest.mark.parametrize(
    "say",
    [answered, refused(400), refused(500), refused(401), garbled],
    ids=["answer", "400", "500", "401", "garbled"],
)
def test_nothing_that_is_printed_or_written_holds_a_secret(
    cli: Cli, echo: Callable[[Say], str], leaky: Path, tmp_path: Path, say: Say
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    files = [f"--out={fmt}={out / fmt}" for fmt in ("terminal", "markdown", "json", "sarif")]
    done = cli.run(
        "run",
        leaky,
        "--base-url",
        echo(say),
        "--backend",
        "openai",
        "--model",
        "m",
        *files,
        "--max-seconds",
        "40",
    )
    texts = {"stderr": done.stderr.decode(), "stdout": done.stdout.decode()}
    texts |= {path.name: path.read_text() for path in out.iterdir()}
    assert len(texts) == 6
    if say is answered:
        findings = json.loads(texts["json"])["findings"]
        outcomes = {finding["outcome"] for finding in findings if finding["source"] == "model"}
        assert {"reported", "unanchored"} <= outcomes
        assert all("<secret:" in texts[name] for name in ("stderr", "terminal", "markdown", "json", "sarif"))
    else:
        assert done.returncode != 0
    run_id = json.loads(texts["json"])["run_id"]
    for fmt in ("terminal", "markdown", "json", "sarif"):
        texts[f"report {fmt}"] = cli.run("report", run_id, "--format", fmt).stdout.decode()
    again = cli.run("resume", run_id, "--max-seconds", "40") if say is not answered else done
    texts["resume"] = (again.stderr + again.stdout).decode()
    preview = cli.run("run", leaky, "--preview")
    texts["preview"] = (preview.stderr + preview.stdout).decode()
    assert {name: found(text) for name, text in texts.items() if found(text)} == {}


def test_a_preview_passes_the_gates(cli: Cli, echo: Callable[..., str], leaky: Path) -> None:
    """The name of a model is a server's to choose."""
    url = echo(answered, model=f"m\x1b[31m\u202e{TOKEN}\n::error::x")
    shown = cli.run("run", leaky, "--preview", "--base-url", url, "--backend", "openai").stdout.decode()
    assert r"m\x1b[31m\u202e<secret:github-token>" in shown
    assert forbidden(shown, "\n") == []
    assert commands(shown) == []


def test_an_error_that_ends_the_program_is_masked(cli: Cli, tmp_path: Path) -> None:
    done = cli.run("run", tmp_path / TOKEN)
    assert done.returncode == 2
    assert "<secret:github-token>" in done.stderr.decode()
    assert TOKEN not in done.stderr.decode()
