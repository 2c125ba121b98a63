"""The real llama.cpp in our child process, with the model that `models pull smollm2-135m` brings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jsonschema
import psutil
import pytest
from driver import DEMO, Cli
from scripted import unit

from review_agent.agent.engine import open_engine
from review_agent.agent.errors import EngineRejected, PromptTooLong
from review_agent.agent.prompt import BRIEF, answer_schema
from review_agent.agent.settings import Settings
from review_agent.tools.backends import Backend, ChatRequest, Done, Message
from review_agent.tools.backends.embedded import CHILD, EmbeddedBackend, Launch
from review_agent.tools.model_store import StoredModel, find_model

MODEL = "smollm2-135m"
ENGINE = ("--backend", "embedded", "--model", MODEL)


@pytest.fixture
def stored(models: Path) -> StoredModel:
    return find_model(models / "review-agent" / "models", MODEL)


@pytest.fixture
def settings(models: Path) -> Settings:
    return Settings(backend="embedded", model=MODEL, models_path=str(models / "review-agent" / "models"))


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "demo"))


@pytest.fixture
def own(tmp_path: Path, models: Path) -> Cli:
    """The command of a user who has the model."""
    home = tmp_path / "home"
    home.mkdir()
    return Cli(home, {"XDG_DATA_HOME": str(models), "OLLAMA_HOST": "127.0.0.1:1"})


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two small files: a run of seconds."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "add.py").write_text("def add(a, b):\n    return a - b\n")
    (folder / "mul.py").write_text("def mul(a, b):\n    return a + b\n")
    return folder


def children(pid: int) -> list[psutil.Process]:
    found = psutil.Process(pid).children(recursive=True)
    return [child for child in found if any("llama_child" in word for word in child.cmdline())]


def wait_for_child(process: subprocess.Popen[bytes]) -> psutil.Process:
    for _ in range(600):
        if found := children(process.pid):
            return found[0]
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no engine was started")


def wait_for_question(engine: psutil.Process) -> None:
    """The port is open while the model loads; a connection that stays is a question."""
    while not any(row.status == psutil.CONN_ESTABLISHED for row in engine.net_connections()):
        time.sleep(0.05)
    time.sleep(0.5)


def gone(process: psutil.Process, seconds: float = 3.0) -> bool:
    """Ended; a zombie that nobody has buried yet counts."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def ask(text: str, *, num_ctx: int, max_answer: int = 400) -> ChatRequest:
    schema = answer_schema([unit("a.py", "x = 1")], BRIEF)
    return ChatRequest(MODEL, (Message("user", text),), schema, num_ctx, max_answer)


async def answer(backend: Backend, request: ChatRequest) -> tuple[str, Done]:
    text, done = "", None
    async for event in backend.chat(request):
        if isinstance(event, Done):
            done = event
        else:
            text += event.text
    assert done is not None
    return text, done


async def test_answers_keep_to_the_schema_and_none_is_cut_unseen(settings: Settings) -> None:
    size = 1024
    backend = (await open_engine(replace(settings, num_ctx=size), {})).backend
    try:
        asked = [ask(f"Review this code: x = {n} / 0", num_ctx=size) for n in range(2)]
        for text, done in await asyncio.gather(*(answer(backend, request) for request in asked)):
            assert done.finish == "stop"
            jsonschema.validate(json.loads(text), asked[0].schema)
        _, done = await answer(backend, ask("word " * 700, num_ctx=size, max_answer=8))
        assert (done.finish, done.prompt_tokens > 700) == ("length", True)
        with pytest.raises(PromptTooLong) as caught:
            await answer(backend, ask("word " * 1100, num_ctx=size))
        assert str(size) in str(caught.value.fields)
        _, done = await answer(backend, ask("word " * 950, num_ctx=size))
        assert done.finish == "length"  # the context was full; nothing was shifted out to make room
        assert done.prompt_tokens + done.completion_tokens <= size
    finally:
        await backend.aclose()


async def test_an_engine_that_dies_is_started_again_but_not_for_ever(settings: Settings) -> None:
    engine = await open_engine(replace(settings, num_ctx=1024), {})
    backend = engine.backend
    assert isinstance(backend, EmbeddedBackend)
    assert backend.pid is None  # nothing is loaded before the first question
    try:
        for _ in range(3):
            await answer(backend, ask("hi", num_ctx=1024, max_answer=1))
            assert backend.pid is not None
            os.kill(backend.pid, signal.SIGKILL)
        with pytest.raises(EngineRejected, match="embedded_gave_up"):
            await answer(backend, ask("hi", num_ctx=1024, max_answer=1))
    finally:
        await backend.aclose()


@pytest.mark.parametrize(
    ("content", "key"),
    [(b"GGUF" + bytes(60), "errors_models.gguf_unreadable"), (None, "embedded_load_failed")],
)
def test_a_file_that_is_no_model_is_named(
    own: Cli, stored: StoredModel, small: Path, tmp_path: Path, content: bytes | None, key: str
) -> None:
    """Without `content`: a real header, and the weights missing."""
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(content if content is not None else stored.file.read_bytes()[:4_000_000])
    done = own.run("run", small, "--backend", "embedded", "--model", bad)
    assert done.returncode == 1
    said = done.stderr.decode()
    assert str(bad) in said
    assert "不是" in said or "无法" in said, key


def test_a_model_that_is_not_there_says_how_to_get_it(own: Cli, small: Path) -> None:
    done = own.run("run", small, "--backend", "embedded", "--model", "qwen2.5-coder-7b")
    assert done.returncode == 1
    assert "review-agent models pull qwen2.5-coder-7b" in done.stderr.decode()
    assert done.stdout == b""


def test_the_demo_model_is_never_taken_by_itself(own: Cli, small: Path) -> None:
    for extra in ((), ("--backend", "embedded")):
        done = own.run("run", small, *extra)
        assert done.returncode == 1
        assert "review-agent models pull" in done.stderr.decode()


def test_two_runs_at_once_and_one_that_needs_no_model(own: Cli, small: Path) -> None:
    # Else the second would wait for what the first is at, and load nothing.
    runs = [own.start("run", small, *ENGINE, "--format", "json", "--fresh") for _ in range(2)]
    engines = [wait_for_child(run) for run in runs]
    for run in runs:
        out, err = run.communicate(timeout=200)
        assert run.returncode == 0, err.decode()
        report = json.loads(out)
        assert report["verdict"] == "not_reviewed"
        assert report["coverage"]["files_reviewed"] == 2
        by_model = [found["outcome"] for found in report["findings"] if found["source"] == "model"]
        assert set(by_model) <= {"low_confidence", "unanchored", "duplicate"}
        assert report["engine"]["backend"] == "embedded"
        assert report["engine"]["model_digest"].startswith("sha256:")
        assert report["egress"] == []
    assert all(gone(engine) for engine in engines)
    third = own.start("run", small, *ENGINE, "--format", "json")
    seen: list[psutil.Process] = []
    while third.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            seen += children(third.pid)
        time.sleep(0.01)
    out, _ = third.communicate()
    assert json.loads(out)["usage"]["requests"] == 0
    assert not seen


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
@pytest.mark.parametrize("when", ["loading", "asking"])
def test_the_engine_goes_with_its_parent(
    own: Cli, demo: Path, number: signal.Signals, code: int, when: str
) -> None:
    run = own.start("run", demo, *ENGINE, "--fresh")
    engine = wait_for_child(run)
    if when == "asking":
        wait_for_question(engine)
    run.send_signal(number)
    _, err = run.communicate(timeout=30)
    assert run.returncode == code, err.decode()
    assert gone(engine)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_an_engine_that_loads_for_ever_goes_with_a_killed_parent(tmp_path: Path) -> None:
    """A named pipe as model file: the load never ends, and no Python thread can run meanwhile."""
    os.mkfifo(tmp_path / "model.gguf")
    launch = Launch(str(tmp_path / "model.gguf"), "m", 512, 1, "k").line()
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-P', sys.argv[1]], stdin=-1, stdout=-3, stderr=-3)\n"
        f"child.stdin.write({launch!r}); child.stdin.flush()\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(CHILD)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    engine = psutil.Process(int(parent.stdout.readline()))
    for _ in range(200):
        if any("xllamacpp" in row.path for row in engine.memory_maps()):
            break
        time.sleep(0.05)
    time.sleep(1)
    assert engine.is_running()
    parent.kill()
    parent.communicate()
    assert gone(engine)


def test_ctrl_c_at_the_terminal_leaves_a_report_and_no_process(own: Cli, demo: Path) -> None:
    """Ctrl-C goes to the whole foreground group: the engine must not die under the run that ends it."""
    run = subprocess.Popen(
        own.argv("run", demo, *ENGINE, "--fresh"),
        env=own.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    engine = wait_for_child(run)
    wait_for_question(engine)
    os.killpg(run.pid, signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "未审查" in out.decode()
    assert "意外退出" not in err.decode()
    assert gone(engine)


def test_an_engine_killed_in_the_middle_of_a_run(own: Cli, small: Path) -> None:
    run = own.start("run", small, *ENGINE, "--format", "json")
    engine = wait_for_child(run)
    wait_for_question(engine)
    engine.kill()
    out, err = run.communicate(timeout=200)
    assert run.returncode == 0, err.decode()
    report = json.loads(out)
    assert (report["verdict"], report["coverage"]["files_reviewed"]) == ("not_reviewed", 2)
