"""The installed command and the backend against a real Ollama server with SmolLM2."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driver import DEMO, Cli
from real_ollama import LACONIC, Ollama

from review_agent.agent.errors import PromptTooLong
from review_agent.tools.backends import ChatRequest, Done, Message
from review_agent.tools.backends.ollama import OllamaBackend
from review_agent.tools.endpoints import make_client, make_endpoint

CTX = 1024
Start = Callable[[Path], subprocess.Popen[bytes]]


@pytest.fixture(autouse=True)
def nothing_is_loaded(ollama: Ollama) -> None:
    ollama.unload()


@pytest.fixture
def own(tmp_path: Path, ollama: Ollama) -> Cli:
    """The command of a user who runs this server."""
    home = tmp_path / "home"
    home.mkdir()
    return Cli(home, {"OLLAMA_HOST": ollama.url})


@pytest.fixture
def start(own: Cli) -> Iterator[Start]:
    """Begins a laconic run over a folder; whatever a failed test leaves running is ended."""
    runs: list[subprocess.Popen[bytes]] = []

    def begin(folder: Path) -> subprocess.Popen[bytes]:
        runs.append(own.start("run", folder, *LACONIC_RUN))
        return runs[-1]

    yield begin
    for run in runs:
        with run:
            run.kill()


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "demo"))


LACONIC_RUN = ("--model", LACONIC, "--num-ctx", "2048", "--concurrency", "1", "--format", "json")


def folder_of(tmp_path: Path, name: str, files: int) -> Path:
    """Python files of which each fills a request of a laconic run."""
    folder = tmp_path / name
    folder.mkdir()
    for number in range(files):
        lines = [f"def {name}_{number}_{at}(value):\n    return value + {at}\n\n" for at in range(12)]
        (folder / f"{name}_{number}.py").write_text("".join(lines))
    return folder


# --- whole runs ---


def test_two_files_of_the_demo_repository(own: Cli, ollama: Ollama, demo: Path) -> None:
    before = ollama.loads()
    only = ("--include", "worker/go.mod", "--include", "deploy/app.yaml")
    done = own.run("run", demo, "--model", ollama.model, "--num-ctx", "2048", *only, timeout=240)
    assert done.returncode == 0, done.stderr.decode()
    text = done.stdout.decode()
    assert "审查结论：未审查（演示模型的结果不作数）" in text
    assert "选中 22 个文件，已审查 2 个，跳过 20 个，失败 0 个" in text
    assert "deploy/app.yaml:9" in text  # the checks that need no model carry the demo
    assert ollama.loads() == before + 1
    assert ollama.empties()


def test_a_time_limit_ends_the_request_under_way(own: Cli, ollama: Ollama, demo: Path) -> None:
    before, started = ollama.loads(), time.monotonic()
    report = own.json("run", demo, "--model", ollama.model, "--num-ctx", "2048", "--max-seconds", "8")
    assert time.monotonic() - started < 30
    assert report["verdict"] == "not_reviewed"
    files = report["files"]
    assert isinstance(files, list)
    assert len(files) == 22
    assert {file["reason"] for file in files if file["status"] == "failed"} == {"达到时间上限"}
    assert ollama.empties()  # the server writes for nobody, and is asked to unload all the same
    assert ollama.loads() == before + 1


def test_a_model_that_is_missing(own: Cli, ollama: Ollama, demo: Path) -> None:
    before = ollama.loads()
    done = own.run("run", demo, "--model", "nope:1b")
    assert (done.returncode, done.stdout) == (1, b"")
    [line] = done.stderr.decode().splitlines()
    assert line == (
        f"错误：没有安装模型 `nope:1b`。已安装：{LACONIC}, {ollama.model}。可运行 `ollama pull nope:1b` 安装。"
    )
    assert ollama.loads() == before


# --- nothing is cut unseen ---


@pytest.fixture
async def backend(ollama: Ollama) -> AsyncIterator[OllamaBackend]:
    endpoint = make_endpoint(ollama.url)
    backend = OllamaBackend(make_client(endpoint, stall_seconds=120), endpoint)
    yield backend
    await backend.aclose()


async def answer(backend: OllamaBackend, words: int, max_answer: int = 1) -> Done:
    prompt = Message("user", "word " * words)
    request = ChatRequest(LACONIC, (prompt,), {"type": "string"}, CTX, max_answer, prompt_estimate=words)
    async for event in backend.chat(request):
        if isinstance(event, Done):
            return event
    raise AssertionError("no end")


async def test_overflow_is_refused_not_cut(ollama: Ollama, backend: OllamaBackend) -> None:
    before = ollama.loads()
    fits = await answer(backend, 800)
    assert 800 < fits.prompt_tokens < CTX
    around = fits.prompt_tokens - 800
    with pytest.raises(PromptTooLong) as caught:
        await answer(backend, 1500)
    assert caught.value.key == "ollama.prompt_over_context"
    assert caught.value.fields == {"sent": 1500 + around, "context": CTX}
    # The context is full before the answer may be: it ends there, nothing is shifted out.
    room = 16
    full = await answer(backend, CTX - around - room, max_answer=200)
    assert (full.finish, full.prompt_tokens, full.completion_tokens) == ("length", CTX - room, room)
    assert ollama.loads() == before + 1

    # Without our options the same server cuts the same prompt, and says nothing.
    prompt = {"role": "user", "content": "word " * 1500}
    cut = ollama.ask(
        "/api/chat",
        model=LACONIC,
        messages=[prompt],
        stream=False,
        options={"num_ctx": CTX, "num_predict": 1},
    )
    assert cut["done"]
    assert "error" not in cut
    assert cut["prompt_eval_count"] < CTX
    assert ollama.loads() == before + 2  # `shift` is given to the model when it is loaded


# --- a server that dies ---


def progress(run: subprocess.Popen[bytes], mark: str) -> str:
    """What the run said until it said `mark`."""
    assert run.stderr is not None
    said = ""
    while mark not in said:
        line = run.stderr.readline().decode()
        assert line, said
        said += line
    return said


def finish(run: subprocess.Popen[bytes], code: int) -> dict[str, Any]:
    out, err = run.communicate(timeout=240)
    assert run.returncode == code, err.decode()
    report = json.loads(out)
    assert isinstance(report, dict)
    return report


def test_the_process_with_the_model_dies_and_the_run_goes_on(
    start: Start, ollama: Ollama, tmp_path: Path
) -> None:
    loads = ollama.loads()
    run = start(folder_of(tmp_path, "a", 2))
    progress(run, "1/2")
    ollama.reading()
    ollama.runner().kill()
    report = finish(run, 0)
    assert report["verdict"] == "pass"
    assert report["coverage"]["files_reviewed"] == 2
    assert ollama.empties()
    assert ollama.loads() == loads + 2
    assert report["usage"]["requests"] == 3  # of which one was broken off


def test_a_server_that_dies_ends_the_run_honestly_and_resume_goes_on(
    own: Cli, start: Start, ollama: Ollama, tmp_path: Path
) -> None:
    answers = ollama.answers()
    run = start(folder_of(tmp_path, "b", 3))
    progress(run, "1/3")
    ollama.reading()
    ollama.kill()
    cut = finish(run, 4)
    assert cut["verdict"] == "incomplete"
    assert (cut["coverage"]["files_reviewed"], cut["coverage"]["files_failed"]) == (1, 2)
    assert {file["reason"] for file in cut["files"]} == {"", "连不上模型服务"}

    ollama.start()
    whole = own.json("resume", cut["run_id"])
    assert (whole["verdict"], whole["coverage"]["files_reviewed"]) == ("pass", 3)
    assert (whole["usage"]["cached_units"], whole["usage"]["requests"]) == (1, 2)
    assert ollama.empties()
    assert ollama.answers() - answers == 3 + 1  # each file once, and unloading


def test_a_server_that_is_back_at_once(start: Start, ollama: Ollama, tmp_path: Path) -> None:
    run = start(folder_of(tmp_path, "c", 2))
    progress(run, "1/2")
    ollama.reading()
    ollama.kill()
    ollama.start()
    report = finish(run, 0)
    assert (report["verdict"], report["coverage"]["files_reviewed"]) == ("pass", 2)


# --- whose the model is ---


def test_two_runs_at_once_share_one_load(start: Start, ollama: Ollama, tmp_path: Path) -> None:
    before = ollama.loads()
    short = start(folder_of(tmp_path, "d", 1))
    long = start(folder_of(tmp_path, "e", 3))
    assert finish(short, 0)["coverage"]["files_reviewed"] == 1
    assert long.poll() is None, "the longer run ended first: this shows nothing"
    time.sleep(0.5)
    assert ollama.loaded() == [LACONIC]
    assert finish(long, 0)["coverage"]["files_reviewed"] == 3
    assert ollama.empties()
    assert ollama.loads() == before + 1


def test_a_model_that_somebody_else_loaded_stays(start: Start, ollama: Ollama, tmp_path: Path) -> None:
    prompt = {"role": "user", "content": "hi"}
    options = {"num_ctx": 2048, "num_predict": 1}
    ollama.ask("/api/chat", model=LACONIC, messages=[prompt], stream=False, shift=False, options=options)
    before = ollama.loads()
    report = finish(start(folder_of(tmp_path, "f", 1)), 0)
    assert report["coverage"]["files_reviewed"] == 1
    time.sleep(1)
    assert ollama.loaded() == [LACONIC]
    assert ollama.loads() == before
