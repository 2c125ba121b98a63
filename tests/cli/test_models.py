"""`models list|recommend|pull` as a user runs them; hubs, Ollama and package index are on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from driver import Cli, free_port

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "Qwen/Qwen2.5-Coder-7B-Instruct-GGUF"
FILE = "qwen2.5-coder-7b-instruct-q4_k_m.gguf"


def gguf(weights: bytes) -> bytes:
    """The smallest model file that is accepted."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    pairs += text("llama.context_length") + struct.pack("<II", 4, 4096)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + pairs + weights


MODEL = gguf(b"w" * 3_000_000)
SHA = hashlib.sha256(MODEL).hexdigest()


@dataclass
class Fake:
    """Hugging Face, ModelScope and Ollama in one. `slow`: seconds between blocks of a file."""

    url: str
    tags: list[dict[str, object]] = field(default_factory=list)
    pulls: list[dict[str, object]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    slow: float = 0.0

    @property
    def fetched(self) -> list[str]:
        return [line for line in self.seen if ".gguf" in line]

    def answer(self, path: str) -> object:
        entry = {"rfilename": FILE, "size": len(MODEL), "lfs": {"sha256": SHA, "size": len(MODEL)}}
        listed = {"Path": FILE, "Size": len(MODEL), "Sha256": SHA, "Type": "blob"}
        return {
            f"/api/models/{REPOSITORY}/revision/main?blobs=true": {"sha": COMMIT, "siblings": [entry]},
            f"/api/v1/models/{REPOSITORY}/repo/files?Revision=master&Recursive=true": {
                "Code": 200,
                "Data": {"Files": [listed]},
            },
            "/api/tags": {"models": self.tags},
            "/api/show": {"capabilities": ["completion"], "model_info": {"x.context_length": 32768}},
        }.get(path)


@pytest.fixture
def fake() -> Iterator[Fake]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            owner.seen.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.endswith(".gguf"):
                self._file()
            elif self.path == "/api/pull":
                self._send(200, b"".join(json.dumps(row).encode() + b"\n" for row in owner.pulls))
            else:
                found = owner.answer(self.path)
                self._send(200 if found else 404, json.dumps(found).encode())

        do_POST = do_HEAD = do_GET

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _file(self) -> None:
            start = int(self.headers.get("Range", "bytes=0-")[6:].rstrip("-"))
            self.send_response(206 if start else 200)
            self.send_header("Content-Range", f"bytes {start}-{len(MODEL) - 1}/{len(MODEL)}")
            self.send_header("Content-Length", str(len(MODEL) - start))
            self.send_header("ETag", f'"{SHA}"')
            self.end_headers()
            try:
                for at in range(start, len(MODEL), 100_000):
                    self.wfile.write(MODEL[at : at + 100_000])
                    time.sleep(owner.slow)
            except OSError:  # the client went away
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    owner = Fake(f"http://127.0.0.1:{http.server_address[1]}")
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield owner
    http.shutdown()
    http.server_close()


@pytest.fixture
def user(cli: Cli, fake: Fake) -> Cli:
    """A user with both hubs, whose Ollama does not run."""
    cli.env = {
        "OLLAMA_HOST": f"127.0.0.1:{free_port()}",
        "HF_ENDPOINT": fake.url,
        "MODELSCOPE_DOMAIN": fake.url,
    }
    return cli


def store(user: Cli) -> Path:
    return user.home / ".local" / "share" / "review-agent" / "models"


def left(user: Cli) -> list[str]:
    """Files of the store, without locks and directories."""
    found = (path for path in store(user).rglob("*") if path.is_file() and not path.name.endswith(".lock"))
    return sorted(str(path.relative_to(store(user))) for path in found)


def out(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stdout.decode()


def err(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode()


WHOLE = ["qwen2.5-coder-7b/model.json", f"qwen2.5-coder-7b/{FILE}"]
NEXT = "review-agent run ./repo --backend embedded --model qwen2.5-coder-7b"


def test_a_model_of_the_catalogue(user: Cli, fake: Fake) -> None:
    done = user.run("models", "pull", "qwen2.5-coder-7b")
    assert done.returncode == 0, err(done)
    assert out(done).splitlines() == [
        f"模型 qwen2.5-coder-7b 已就绪：{store(user)}/qwen2.5-coder-7b/{FILE}",
        f"下一步：`{NEXT}`",
    ]
    assert "将下载 qwen2.5-coder-7b：3.0 MB，1 个文件" in err(done)
    assert "许可证：apache-2.0" in err(done)
    assert left(user) == WHOLE
    assert fake.fetched == [f"GET /{REPOSITORY}/resolve/{COMMIT}/{FILE}"]

    fake.seen.clear()
    again = user.run("models", "pull", "qwen2.5-coder:7b")
    assert again.returncode == 0
    assert out(again).startswith("已有模型 qwen2.5-coder-7b：")
    assert fake.seen == []

    listed = json.loads(out(user.run("models", "list", "--json")))
    row = listed["models"][0]
    assert (row["name"], row["engine"], row["size"], row["context"]) == (
        "qwen2.5-coder-7b", "embedded", len(MODEL), 4096,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("args", "name"),
    [
        ((f"{REPOSITORY}:Q4_K_M",), "qwen2.5-coder-7b-instruct-q4_k_m"),
        ((REPOSITORY, "--from", "modelscope", "--as", "mine"), "mine"),
        ((f"ms:{REPOSITORY}", "--sha256", SHA.upper()), "qwen2.5-coder-7b-instruct-q4_k_m"),
        (("URL", "--as", "mine"), "mine"),
    ],
)
def test_other_sources(user: Cli, fake: Fake, args: tuple[str, ...], name: str) -> None:
    args = tuple(f"{fake.url}/files/{FILE}" if arg == "URL" else arg for arg in args)
    done = user.run("models", "pull", *args)
    assert done.returncode == 0, err(done)
    assert out(done).startswith(f"模型 {name} 已就绪：")
    assert left(user) == [f"{name}/model.json", f"{name}/{FILE}"]
    again = user.run("models", "pull", *args)
    assert (again.returncode, out(again).split("：")[0]) == (0, f"已有模型 {name}")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ((REPOSITORY, "--sha256", "0" * 64), 1, "没有下载"),
        (("owner/unknown",), 1, "owner/unknown"),
        (("qwen",), 2, "没有名为 `qwen` 的模型"),
        (("mistral:7b",), 1, "请先运行 `ollama serve`"),
        (("gpt-oss:120b-cloud",), 2, "已拒绝"),
        (("smollm2-135m", "--as", "real"), 2, "不能使用 `--as`"),
        (("o/r", "--as", "../up"), 2, "模型名"),
        (("o/r", "--from", "elsewhere"), 2, "选项 `--from` 的值无效"),
        (("--sha256", SHA), 2, "缺少参数"),
    ],
)
def test_refusals(user: Cli, fake: Fake, args: tuple[str, ...], code: int, said: str) -> None:
    done = user.run("models", "pull", *args)
    assert (done.returncode, out(done)) == (code, "")
    assert said in err(done)
    assert fake.fetched == []
    assert left(user) == []


def test_another_model_of_that_name_is_not_replaced(user: Cli, fake: Fake) -> None:
    assert user.run("models", "pull", REPOSITORY, "--as", "mine").returncode == 0
    path = store(user) / "mine" / "model.json"
    row = json.loads(path.read_text())
    path.write_text(json.dumps(row | {"digest": "sha256:" + "0" * 64}))
    fake.seen.clear()
    done = user.run("models", "pull", REPOSITORY, "--as", "mine")
    assert done.returncode == 1
    assert "内容与要下载的不同" in err(done)
    assert fake.fetched == []


def test_a_hub_out_of_reach_names_the_other_one(user: Cli) -> None:
    done = user.run("models", "pull", "qwen2.5-coder-7b", HF_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "`HF_ENDPOINT`" in err(done)
    assert "`review-agent models pull qwen2.5-coder-7b --from modelscope`" in err(done)


def wait_for(what: Callable[[], object]) -> None:
    for _ in range(300):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("did not happen")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_download_goes_on(user: Cli, fake: Fake, number: int, code: int) -> None:
    fake.slow = 0.1
    child = user.start("models", "pull", REPOSITORY, "--as", "mine")
    part = store(user) / ".incoming" / "mine" / f"{FILE}.part"
    wait_for(lambda: part.exists() and part.stat().st_size > 200_000)
    child.send_signal(number)
    stdout, stderr = child.communicate(timeout=20)
    assert (child.returncode, stdout) == (code, b"")
    command = f"review-agent models pull {REPOSITORY} --as mine"
    assert f"已中断。下载好的部分都已保留，再次运行 `{command}` 会接着下载。" in stderr.decode()
    assert b"Traceback" not in stderr
    have = part.stat().st_size
    fake.slow = 0.0
    assert user.run("models", "pull", REPOSITORY, "--as", "mine").returncode == 0
    assert fake.fetched[-1].endswith(f"bytes={have}-")
    assert (store(user) / "mine" / FILE).read_bytes() == MODEL


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_leaves_nothing(user: Cli, number: int, code: int) -> None:
    """The package index never answers; the installer must be gone when we are."""
    with socket.create_server(("127.0.0.1", 0)) as index:
        url = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
        child = user.start("models", "pull", "smollm2-135m", PIP_INDEX_URL=url, PIP_CONFIG_FILE=os.devnull)
        index.settimeout(30)
        connection, _ = index.accept()
        connection.recv(65536)
        child.send_signal(number)
        _, stderr = child.communicate(timeout=20)
        assert child.returncode == code
        connection.settimeout(5)
        assert connection.recv(1) == b""  # the installer's end is closed
        connection.close()
    assert "已中断，没有留下临时文件" in stderr.decode()
    assert left(user) == []
    assert [path for path in store(user).rglob("*") if path.name.startswith((".wheel", "smollm2"))] == []


PULLED: list[dict[str, object]] = [
    {"status": "pulling manifest"},
    {"status": "pulling a", "digest": "sha256:a", "total": 10, "completed": 10},
    {"status": "success"},
]


def test_ollama_fetches_where_it_answers(user: Cli, fake: Fake) -> None:
    fake.pulls = PULLED
    done = user.run("models", "pull", "qwen2.5-coder-7b", OLLAMA_HOST=fake.url)
    assert done.returncode == 0, err(done)
    assert "`--from huggingface`" in err(done)
    assert out(done).splitlines() == [
        "模型 qwen2.5-coder:7b 已就绪（Ollama）。",
        "下一步：`review-agent run ./repo --backend ollama --model qwen2.5-coder:7b`",
    ]
    assert fake.fetched == []

    fake.tags = [{"name": "qwen2.5-coder:7b", "size": 4_600_000_000}]
    fake.seen.clear()
    again = user.run("models", "pull", "qwen2.5-coder-7b", OLLAMA_HOST=fake.url)
    assert (again.returncode, out(again).splitlines()[0]) == (0, "Ollama 中已有模型 qwen2.5-coder:7b。")
    assert "POST /api/pull" not in fake.seen


def test_the_user_may_choose_otherwise(user: Cli, fake: Fake) -> None:
    done = user.run("models", "pull", "qwen2.5-coder-7b", "--from", "huggingface", OLLAMA_HOST=fake.url)
    assert done.returncode == 0, err(done)
    assert left(user) == WHOLE
    assert "POST /api/pull" not in fake.seen


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"error": "pull model manifest: file does not exist"}], "模型库里没有 `mistral:7b`"),
        ([{"error": "dial tcp: lookup registry.ollama.ai: no such host"}], "`HTTPS_PROXY`"),
        (PULLED[:2], "中途断开"),
    ],
)
def test_ollama_that_fails(user: Cli, fake: Fake, rows: list[dict[str, object]], said: str) -> None:
    fake.pulls = rows
    done = user.run("models", "pull", "mistral:7b", OLLAMA_HOST=fake.url)
    assert (done.returncode, out(done)) == (1, "")
    assert said in err(done)


def test_a_pulled_model_that_runs_elsewhere_is_refused(user: Cli, fake: Fake) -> None:
    fake.pulls = PULLED
    fake.tags = []
    remote = {"name": "harmless:7b", "size": 300, "remote_host": "https://ollama.com"}
    tags = iter([[], [], [remote]])
    fake.answer = lambda path: {"models": next(tags)} if path == "/api/tags" else None  # type: ignore[method-assign]
    done = user.run("models", "pull", "harmless:7b", OLLAMA_HOST=fake.url)
    assert (done.returncode, out(done)) == (2, "")
    assert "代码会离开本机" in err(done)


def test_list_shows_what_is_there_and_what_is_not_used(user: Cli, fake: Fake) -> None:
    fake.tags = [
        {"name": "qwen2.5-coder:7b", "size": 4_600_000_000, "details": {"parameter_size": "7.6B"}},
        {"name": "smollm2:135m", "size": 98_000_000},
        {"name": "big:cloud", "size": 300},
        {"name": "\x1b[31mred:1b", "size": 10**15},
    ]
    done = user.run("models", "list", "--json", OLLAMA_HOST=fake.url)
    listed = json.loads(out(done))
    assert listed["ollama"] == {"url": fake.url, "contacted": True, "answers": True}
    rows = {row["name"]: (row["fit"], row["demo"], row["remote"], row["usable"]) for row in listed["models"]}
    assert rows["big:cloud"] == (None, False, True, False)
    assert rows["smollm2:135m"][1:] == (True, False, False)
    assert rows["qwen2.5-coder:7b"][1:] == (False, False, True)
    assert rows["\x1b[31mred:1b"][0] == "too_large"

    plain = user.run("models", "list", OLLAMA_HOST=fake.url)
    lines = out(plain).splitlines()
    assert "\x1b" not in out(plain)
    assert next(line for line in lines if "big:cloud" in line).endswith(
        "在远程运行，代码会离开本机，不会使用"
    )
    assert next(line for line in lines if "smollm2" in line).endswith("演示模型，不能用于真正的审查")
    assert "32768" in next(line for line in lines if "qwen2.5" in line)


@pytest.mark.parametrize("command", ["list", "recommend"])
def test_a_server_elsewhere_is_not_contacted(user: Cli, command: str) -> None:
    done = user.run("models", command, "--json", OLLAMA_HOST="gpu.example.invalid", timeout=20)
    assert done.returncode == 0, err(done)
    shown = user.run("models", "list", OLLAMA_HOST="gpu.example.invalid")
    assert "没有联系它" in err(shown)
    refused = user.run("models", "pull", "mistral", "--from", "ollama", OLLAMA_HOST="gpu.example.invalid")
    assert (refused.returncode, "`allowed_hosts`" in err(refused)) == (2, True)


def test_recommend_gives_commands_that_work_here(user: Cli, fake: Fake) -> None:
    without = json.loads(out(user.run("models", "recommend", "--json")))
    pick = without["pick"]
    assert without["commands"][-2:] == [
        f"review-agent models pull {pick}",
        f"review-agent run ./repo --backend embedded --model {pick}",
    ]
    assert [row["name"] for row in without["models"] if row["pick"]] == [pick]
    tag = next(row["ollama"] for row in without["models"] if row["name"] == pick)
    use = f"review-agent run ./repo --backend ollama --model {tag}"
    with_ollama = json.loads(out(user.run("models", "recommend", "--json", OLLAMA_HOST=fake.url)))
    assert with_ollama["commands"] == [f"ollama pull {tag}", use]
    fake.tags = [{"name": tag if ":" in tag else f"{tag}:latest", "size": 1}]
    there = json.loads(out(user.run("models", "recommend", "--json", OLLAMA_HOST=fake.url)))
    assert there["commands"] == [use]


@pytest.mark.parametrize(
    ("lang", "said"),
    [
        ("zh-CN", ["这台机器：", "qwen-research（不可商用）", "推荐："]),
        ("en", ["no commercial use", "Recommended: "]),
    ],
)
def test_recommend_shows_machine_licences_and_pick(user: Cli, lang: str, said: list[str]) -> None:
    text = out(user.run("models", "recommend", "--lang", lang))
    assert [words for words in said if words not in text] == []
    assert "smollm2" not in text


@pytest.mark.parametrize(
    ("answer", "asked_ollama"), [(b"\n", True), (b"y\n", True), ("是\n".encode(), True), (b"n\n", False)]
)
def test_on_a_terminal_the_user_is_asked(user: Cli, fake: Fake, answer: bytes, asked_ollama: bool) -> None:
    fake.pulls = PULLED
    ours, theirs = pty.openpty()
    env = user.environment(OLLAMA_HOST=fake.url, TERM="xterm", COLUMNS="120")
    argv = user.argv("models", "pull", "qwen2.5-coder-7b")
    child = subprocess.Popen(
        argv, env=env, cwd=user.home, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE
    )
    os.close(theirs)
    shown = b""
    while b"[Y/n]" not in shown:
        shown += os.read(ours, 65536)
    os.write(ours, answer)
    stdout = child.communicate(timeout=60)[0]
    os.close(ours)
    assert child.returncode == 0, (shown, stdout)
    assert ("POST /api/pull" in fake.seen) is asked_ollama
    assert bool(fake.fetched) is not asked_ollama
    assert ("（Ollama）" in stdout.decode()) is asked_ollama
