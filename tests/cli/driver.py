"""The installed command against a mock model server, as a user would run it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo-repo"


@dataclass
class Server:
    """A running mock server; `requests()` are the model requests it logged, in order of arrival."""

    url: str
    log: Path
    dump: Path
    process: subprocess.Popen[bytes]

    def requests(self) -> list[dict[str, object]]:
        if not self.log.exists():
            return []
        rows = [json.loads(line) for line in self.log.read_text().splitlines()]
        return sorted((row for row in rows if not row.get("side")), key=lambda row: row["n"])

    def prompts(self) -> list[str]:
        return [path.read_text(encoding="utf-8") for path in sorted(self.dump.glob("*.txt"))]

    def configure(self, **config: object) -> None:
        request = urllib.request.Request(f"{self.url}/__mock/config", json.dumps(config).encode())
        urllib.request.urlopen(request, timeout=5).close()

    def in_flight(self) -> int:
        """Requests that wait for an answer."""
        with urllib.request.urlopen(f"{self.url}/__mock/stats", timeout=5) as answer:
            return int(json.load(answer)["inflight"])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(folder: Path, port: int = 0, **options: object) -> Server:
    """Start a mock server that logs into `folder`; with `port` on that port. The caller stops it."""
    port = port or free_port()
    log, dump = folder / f"log-{port}.jsonl", folder / f"dump-{port}"
    argv = [sys.executable, str(ROOT / "tests" / "harness" / "mock_llm.py"), "--port", str(port)]
    argv += ["--log", str(log), "--dump", str(dump)]
    for name, value in options.items():
        argv += [f"--{name.replace('_', '-')}", str(value)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = Server(f"http://127.0.0.1:{port}", log, dump, process)
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{server.url}/api/version", timeout=1).close()
            return server
        except OSError:
            time.sleep(0.1)
    server.stop()
    raise RuntimeError("the mock server did not start")


@dataclass
class Cli:
    """Starts the installed `review-agent` with a private home."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def environment(self, **extra: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
        state = {f"XDG_{kind}_HOME": str(self.home / kind.lower()) for kind in ("STATE", "CONFIG", "CACHE")}
        return {**kept, "HOME": str(self.home), **state, **self.env, **extra}

    def argv(self, *args: str | Path) -> list[str]:
        script = Path(sys.executable).parent / "review-agent"
        return [str(script), *map(str, args)]

    def run(
        self,
        *args: str | Path,
        cwd: Path | None = None,
        stdin: bytes = b"",
        timeout: float = 60,
        **extra: str,
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            self.argv(*args),
            cwd=cwd or self.home,
            env=self.environment(**extra),
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        said = done.stderr + done.stdout
        # A fault of ours is one line and exit 1, which a test of a broken server would take for an answer.
        for mark in (b"Traceback", "程序内部错误".encode(), b"Internal error ("):
            assert mark not in said, done.stderr.decode()
        return done

    def json(self, *args: str | Path, code: int = 0, **extra: str) -> dict[str, object]:
        done = self.run(*args, "--format", "json", **extra)
        assert done.returncode == code, (done.returncode, done.stderr.decode(), done.stdout.decode()[:2000])
        report: dict[str, object] = json.loads(done.stdout)
        return report

    def start(self, *args: str | Path, cwd: Path | None = None, **extra: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.argv(*args),
            cwd=cwd or self.home,
            env=self.environment(**extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_heeds_ctrl_c,  # noqa: PLW1509 - tests start no threads
        )


def _heeds_ctrl_c() -> None:
    """A shell's background jobs ignore SIGINT, and hand that on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def steady(report: dict[str, object]) -> dict[str, object]:
    """A report without what may differ between equal runs: ids, times, usage."""
    return {key: value for key, value in report.items() if key not in ("run_id", "created", "usage")}
