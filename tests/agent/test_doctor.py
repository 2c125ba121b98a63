"""What `doctor` finds out: engines, models, what a run would take, and a cure for every problem."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest
from rich.cells import cell_len

from review_agent.agent.advisor import Fit
from review_agent.agent.commands.doctor import document, explain, report
from review_agent.agent.doctor import Diagnosis, Problem, diagnose
from review_agent.agent.errors import EngineFault, EngineRejected, ModelMissing, ModelUnavailable, ReviewError
from review_agent.agent.probe import Found, Place, State
from review_agent.prompts import LANGS, messages, say
from review_agent.tools.hardware import Gpu, Hardware

GB = 10**9
HERE = Hardware("CPU", 8, 32 * GB, 24 * GB)
SMALL = Hardware("CPU", 2, 1 * GB, GB // 2)


@dataclass
class Server:
    """Answers by path: a number is a status, bytes a body, anything else JSON; `seen` keeps the requests."""

    routes: Mapping[str, object]
    url: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2]


Serve = Callable[[Mapping[str, object]], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[ThreadingHTTPServer] = []

    def start(routes: Mapping[str, object]) -> Server:
        owner = Server(routes)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.seen.append((self.path, self.headers.get("Authorization", "")))
                asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                found = owner.routes.get(self.path, owner.routes.get("*", 404))
                if callable(found):
                    found = found(json.loads(asked))
                self.send_response(found if isinstance(found, int) else 200)
                self.end_headers()
                body = b"{}" if isinstance(found, int) else found
                self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        owner.url = f"http://127.0.0.1:{server.server_address[1]}"
        return owner

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def tag(name: str, size: float = 4.7, **more: object) -> dict[str, object]:
    return {"name": name, "size": int(size * GB), "digest": f"sha-{name}", **more}


def ollama(*tags: dict[str, object], version: str = "0.34.4", **more: object) -> dict[str, object]:
    show = {"capabilities": ["completion", "tools"], "model_info": {"a.context_length": 32768}}
    return {
        "/api/version": {"version": version},
        "/api/tags": {"models": list(tags)},
        "/api/show": show,
        "/api/ps": {"models": []},
        **more,
    }


def closed_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@dataclass
class Here:
    """A machine: its home folder; `look` is doctor with Ollama's address and no other places, unless given."""

    home: Path

    @property
    def config(self) -> Path:
        return self.home / "config.toml"

    async def look(
        self,
        ollama_url: str = "",
        *,
        places: tuple[Place, ...] = (),
        hardware: Hardware = HERE,
        **environ: str,
    ) -> Diagnosis:
        variables = {
            "OLLAMA_HOST": ollama_url or closed_url(),
            "REVIEW_AGENT_CHECKPOINT_PATH": str(self.home / "store.sqlite3"),
            "REVIEW_AGENT_MODELS_PATH": str(self.home / "models"),
            **environ,
        }
        return await diagnose(variables, user_file=self.config, places=places, hardware=hardware)

    def store(self, name: str, parameters: float) -> None:
        folder = self.home / "models" / name
        folder.mkdir(parents=True)
        (folder / "m.gguf").write_bytes(b"x" * 1000)
        card = {
            "files": ["m.gguf"], "size": 1000, "digest": "sha256:" + "0" * 64, "source": "",
            "context": 8192, "parameters": parameters, "kv_bytes_per_token": 100,
        }  # fmt: skip
        (folder / "model.json").write_text(json.dumps(card))


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def engine(found: Diagnosis, name: str) -> Found:
    (one,) = [one for one in found.engines if one.name == name]
    return one


def keys(found: Diagnosis) -> list[tuple[str, bool]]:
    return [(problem.key, problem.blocking) for problem in found.problems]


async def test_with_nothing_there_it_says_how_to_begin(here: Here) -> None:
    began = time.monotonic()
    found = await here.look(places=(Place("lmstudio", closed_url()), Place("vllm", closed_url())))
    assert time.monotonic() - began < 2
    assert [(one.name, one.state) for one in found.engines[:-1]] == [
        ("ollama", State.ABSENT),
        ("lmstudio", State.ABSENT),
        ("vllm", State.ABSENT),
    ]
    assert engine(found, "embedded").folder == str(here.home / "models")
    assert (keys(found), found.ok) == ([("no_engine", True)], False)
    text, cure = explain(found.problems[0], found, "zh-CN")
    assert "没有找到本地模型服务" in text
    for command in ("`ollama serve`", "`ollama pull ", "`review-agent models pull "):
        assert command in cure
    assert found.system.git
    assert found.system.free > 0
    assert found.system.store_usable


async def test_a_usable_ollama_is_what_a_run_takes(here: Here, serve: Serve) -> None:
    server = serve(ollama(tag("qwen2.5-coder:7b"), tag("llama3:8b")))
    found = await here.look(server.url)
    assert (found.problems, found.ok) == ((), True)
    run = found.run
    assert run.info is not None
    assert (run.info.backend, run.info.model, run.url) == ("ollama", "qwen2.5-coder:7b", server.url)
    assert (run.context, run.model_context, run.named) == (8192, 32768, False)
    assert [note.key for note in run.notes] == ["model_chosen"]
    one = engine(found, "ollama")
    assert (one.state, one.version, one.own) == (State.ANSWERS, "0.34.4", True)
    assert [(m.name, m.context, m.capabilities, m.fit, m.reason) for m in one.models] == [
        ("qwen2.5-coder:7b", 32768, ("completion", "tools"), Fit.RAM, ""),
        ("llama3:8b", 32768, ("completion", "tools"), Fit.RAM, ""),
    ]


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        (tag("gpt-oss:120b-cloud", 0), "remote"),
        (tag("q", remote_host="https://ollama.com"), "remote"),
        (tag("nomic-embed-text", 0.3), "embedding"),
        (tag("m", capabilities=["embedding"], details={"context_length": 512}), "embedding"),
        (tag("m", capabilities=["vision"], details={"context_length": 512}), "no_completion"),
        (tag("smollm2:135m", 0.1), "demo"),
    ],
)
async def test_a_model_that_no_run_takes_is_listed_with_its_reason(
    here: Here, serve: Serve, listed: dict[str, object], reason: str
) -> None:
    shows = {"capabilities": listed.get("capabilities", ["completion"]), "model_info": {}}
    found = await here.look(serve(ollama(listed, **{"/api/show": shows})).url)
    assert [model.reason for model in engine(found, "ollama").models] == [reason]
    assert keys(found) == [("no_usable_model", True)]
    assert "`ollama pull " in explain(found.problems[0], found, "zh-CN")[1]
    assert all(say(lang, "doctor", f"reason_{reason}") in "\n".join(report(found, lang)) for lang in LANGS)


async def test_the_context_of_a_loaded_model_is_told(here: Here, serve: Serve) -> None:
    running = {"models": [{"name": "m:7b", "context_length": 4096}]}
    found = await here.look(serve(ollama(tag("m:7b"), **{"/api/ps": running})).url)
    (model,) = engine(found, "ollama").models
    assert (model.loaded, model.context, model.loaded_context) == (True, 32768, 4096)
    assert "32768（已按 4096 载入）" in "\n".join(report(found, "zh-CN"))


@pytest.mark.parametrize(
    ("version", "old"),
    [("0.11.4", True), ("0.12.5", True), ("0.12.6", False), ("0.12.6-rc0", False), ("1.0.0", False), ("0.0.0", False), ("dev", False)],
)  # fmt: skip
async def test_an_ollama_that_cuts_prompts_is_to_be_upgraded(
    here: Here, serve: Serve, version: str, old: bool
) -> None:
    found = await here.look(serve(ollama(tag("m:7b"), version=version)).url)
    assert keys(found) == ([("ollama_old", False)] if old else [])
    assert found.ok


@pytest.mark.parametrize(
    "routes",
    [
        {},
        {"*": {"hello": "world"}},
        {"*": b"<html>Jenkins</html>"},
        {"*": 302},
        {"*": {"models": "many", "data": "many"}},
    ],
)
async def test_something_else_at_the_port_is_no_model_server(
    here: Here, serve: Serve, routes: dict[str, object]
) -> None:
    server = serve(routes)
    found = await here.look(server.url, places=(Place("vllm", server.url + "/v1"),))
    assert engine(found, "ollama").state is State.FOREIGN
    assert not found.ok


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9\r\n", b"-ERR unknown command\r\n", b"\x00\xff\x00"])
async def test_another_protocol_at_a_usual_port_is_no_problem(here: Here, greeting: bytes) -> None:
    class Talker(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)
            self.request.sendall(greeting)

    with ThreadingTCPServer(("127.0.0.1", 0), Talker) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        found = await here.look(places=(Place("llamacpp", url),))
        server.shutdown()
    assert engine(found, "llamacpp").state is State.FOREIGN
    assert keys(found) == [("no_engine", True)]


async def test_a_silent_server_does_not_hold_it_up(here: Here) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        found = await here.look(places=(Place("llamacpp", url),))
    assert time.monotonic() - began < 4
    one = engine(found, "llamacpp")
    assert one.state is State.FAILED
    assert one.error is not None
    assert one.error.key == "doctor_problems.server_silent"


@pytest.mark.parametrize(
    "environ",
    [
        {"OLLAMA_HOST": "http://192.0.2.1:11434"},
        {"REVIEW_AGENT_BASE_URL": "http://192.0.2.1:11434"},
        {"REVIEW_AGENT_BASE_URL": "http://192.0.2.1:11434", "REVIEW_AGENT_BACKEND": "openai"},
    ],
)
async def test_a_server_elsewhere_is_not_asked_and_can_be_allowed(
    here: Here, environ: dict[str, str]
) -> None:
    found = await here.look(**environ)
    assert [one.state for one in found.engines if one.own and one.url] == [State.NOT_ASKED]
    assert keys(found) == [("endpoint_not_local", True)]
    cure = explain(found.problems[0], found, "zh-CN")[1]
    assert 'allowed_hosts = ["192.0.2.1:11434"]' in cure
    assert str(here.config) in cure


async def test_a_server_that_runs_but_is_not_configured_is_offered(here: Here, serve: Serve) -> None:
    server = serve({"/v1/models": {"data": [{"id": "qwen", "owned_by": "vllm", "max_model_len": 16384}]}, "/version": {"version": "0.11.0"}})  # fmt: skip
    found = await here.look(places=(Place("llamacpp", server.url),))
    one = engine(found, "vllm")
    assert (one.version, [m.context for m in one.models], found.ok) == ("0.11.0", [16384], False)
    command = f"`review-agent run . --backend openai --base-url {server.url}`"
    assert command in explain(found.problems[0], found, "zh-CN")[1]
    configured = await here.look(
        places=(Place("llamacpp", server.url),),
        REVIEW_AGENT_BASE_URL=server.url + "/v1",
    )
    assert (configured.ok, configured.run.context) == (True, 8192)
    assert [one.name for one in configured.engines] == ["vllm", "ollama", "embedded"]


async def test_a_configured_server_without_a_model_is_told_apart_from_ollama(
    here: Here, serve: Serve
) -> None:
    server = serve({"/v1/models": {"data": []}})
    found = await here.look(REVIEW_AGENT_BASE_URL=server.url + "/v1")
    assert keys(found) == [("no_usable_model", True)]
    cure = explain(found.problems[0], found, "zh-CN")[1]
    assert "`--backend openai`" in cure
    assert "ollama pull" not in cure


async def test_a_key_goes_only_where_a_run_would_send_it(here: Here, serve: Serve) -> None:
    models = {"/v1/models": {"data": [{"id": "q", "max_model_len": 8192}]}}
    mine, other = serve(models), serve(models)
    here.config.write_text('backend = "openai"\napi_key_env = "TEAM_KEY"\n')
    found = await here.look(
        places=(Place("vllm", other.url),), TEAM_KEY="s3cret", REVIEW_AGENT_BASE_URL=mine.url
    )
    assert {key for _, key in mine.seen} == {"Bearer s3cret"}
    assert {key for _, key in other.seen} == {""}
    assert "s3cret" not in "\n".join([*report(found, "zh-CN"), json.dumps(document(found, "zh-CN"))])


async def test_a_demo_model_alone_is_not_enough(here: Here) -> None:
    here.store("smollm2-135m", 0.135)
    found = await here.look()
    assert [(m.name, m.context, m.reason) for m in engine(found, "embedded").models] == [
        ("smollm2-135m", 8192, "demo")
    ]
    assert keys(found) == [("no_engine", True)]
    named = await here.look(REVIEW_AGENT_BACKEND="embedded", REVIEW_AGENT_MODEL="smollm2-135m")
    assert (keys(named), named.ok) == ([("demo_chosen", False)], True)
    assert named.run.info is not None
    assert (named.run.info.backend, named.run.url, named.run.named) == ("embedded", "", True)


async def test_a_model_of_ones_own_is_taken_without_being_started(here: Here) -> None:
    here.store("own-coder", 7.6)
    found = await here.look()
    assert found.ok
    assert found.run.info is not None
    assert (found.run.info.backend, found.run.info.model) == ("embedded", "own-coder")
    assert [note.key for note in found.run.notes] == ["own_model_chosen"]


async def test_a_model_too_large_for_the_machine_is_warned_of(here: Here, serve: Serve) -> None:
    server = serve(ollama(tag("m:70b", 40)))
    small = await here.look(server.url, hardware=SMALL)
    assert (keys(small), small.ok, small.pick) == ([("model_too_large", False)], True, None)
    big = Hardware("CPU", 8, 32 * GB, 24 * GB, gpus=(Gpu("H100", 80 * GB, 80 * GB),))
    assert keys(await here.look(server.url, hardware=big)) == []


async def test_a_context_without_room_for_code_is_a_problem(here: Here, serve: Serve) -> None:
    found = await here.look(serve(ollama(tag("m:7b"))).url, REVIEW_AGENT_NUM_CTX="600")
    assert keys(found) == [("context_too_small", True)]
    assert "`--num-ctx`" in explain(found.problems[0], found, "zh-CN")[1]


@pytest.mark.parametrize(
    ("text", "environ", "cure"),
    [
        ("modle = 'x'", {}, "config check --user"),
        ("model = ", {}, "config check --user"),
        ("", {"REVIEW_AGENT_MODE": "fast"}, "`unset REVIEW_AGENT_MODE`"),
        ("", {"REVIEW_AGENT_NONSENSE": "1"}, "`unset REVIEW_AGENT_NONSENSE`"),
    ],
)
async def test_a_broken_configuration_is_named_and_the_rest_goes_on(
    here: Here, serve: Serve, text: str, environ: dict[str, str], cure: str
) -> None:
    here.config.write_text(text)
    found = await here.look(serve(ollama(tag("m:7b"))).url, **environ)
    assert [blocking for _, blocking in keys(found)] == [True]
    assert cure in explain(found.problems[0], found, "zh-CN")[1]
    assert engine(found, "ollama").state is State.ANSWERS
    assert found.run.error is None


async def test_both_sources_of_a_broken_configuration_are_named(here: Here) -> None:
    here.config.write_text("modle = 1")
    found = await here.look(REVIEW_AGENT_MODE="fast")
    assert [key for key, _ in keys(found)][:2] == ["config_unknown_key", "config_value_choice"]


async def test_a_store_that_cannot_be_used_is_a_problem(here: Here) -> None:
    (here.home / "file").write_text("")
    found = await here.look(REVIEW_AGENT_CHECKPOINT_PATH=str(here.home / "file" / "store"))
    assert keys(found)[0] == ("store_unusable", True)
    off = await here.look(
        REVIEW_AGENT_CHECKPOINT_PATH=str(here.home / "file" / "store"),
        REVIEW_AGENT_CHECKPOINT_ENABLED="false",
    )
    assert [key for key, _ in keys(off)] == ["no_engine"]


async def test_a_password_in_an_address_is_not_shown(here: Here) -> None:
    found = await here.look("http://me:pa55@127.0.0.1:11434")
    assert keys(found) == [("bad_url", True)]
    assert "pa55" not in "\n".join(report(found, "zh-CN"))


async def test_text_of_a_server_cannot_command_the_terminal(here: Here, serve: Serve) -> None:
    found = await here.look(serve(ollama(tag("m\x1b[2J\u202e\n::error::x"), version="1\x1b]0;x\x07")).url)
    lines = list(report(found, "zh-CN"))
    assert any("m\\x1b[2J" in line for line in lines)
    assert not {"\x1b", "\x07", "\u202e", "\n"} & set("".join(lines))
    header = next(line for line in lines if "上下文" in line)
    row = next(line for line in lines if "::error" in line and "GB" in line)
    assert cell_len(header[: header.index("引擎")]) == cell_len(row[: row.index("Ollama")])


async def test_the_document_has_a_fixed_shape(here: Here, serve: Serve) -> None:
    here.store("smollm2-135m", 0.135)
    server = serve(ollama(tag("m:7b"), tag("x:cloud", 0)))
    full = document(await here.look(server.url), "zh-CN")
    empty = document(await here.look(), "en")
    for one in (full, empty):
        assert json.loads(json.dumps(one)) == one
        assert list(one) == ["schema_version", "ok", "versions", "config", "store", "hardware", "engines", "run", "agent", "problems"]  # fmt: skip
    assert (full["schema_version"], full["ok"], empty["ok"]) == (1, True, False)
    engines = full["engines"]
    assert isinstance(engines, list)
    assert list(engines[0]) == ["name", "url", "folder", "state", "own", "version", "hint", "models"]
    assert [(m["name"], m["usable"], m["reason"]) for m in engines[0]["models"]] == [
        ("m:7b", True, ""),
        ("x:cloud", False, "remote"),
    ]
    assert full["run"] == {
        "possible": True, "backend": "ollama", "url": server.url, "model": "m:7b", "context": 8192,
        "model_context": 32768,
        "why": ["自动选用了模型 m:7b（可用的有 1 个）", "模型最多支持 32768 个 token；需要更大的上下文可用 `--num-ctx`。"],
    }  # fmt: skip
    problems = empty["problems"]
    assert isinstance(problems, list)
    assert [list(problem) for problem in problems] == [["key", "blocking", "text", "remedy"]]


SERVER = "http://127.0.0.1:1"
ERRORS = [
    *(ReviewError(f"doctor_problems.{key}") for key in messages("en")["doctor_problems"]),
    *(ReviewError(f"doctor_agent_problems.{key}", path="P", sdk="1") for key in messages("en")["doctor_agent_problems"]),
    *(ReviewError(f"errors_config.{key}", file="F", name="n") for key in messages("en")["errors_config"]),
    *(ReviewError(key, path="P") for key in ("git_missing", "git_failed", "store_unusable", "store_newer", "store_is_damaged", "bad_url")),
    *(ModelUnavailable(key, url=SERVER) for key in ("no_engine", "engine_unavailable", "embedded_not_installed")),
    *(ModelMissing(key, url=SERVER) for key in ("no_own_model", "no_usable_model", "model_missing", "model_cannot_chat", "model_or_path_missing")),
    *(ModelMissing(f"errors_models.{key}", model="m") for key in ("model_not_stored", "model_file_missing", "gguf_unreadable")),
    *(EngineFault(key, url=SERVER, detail="a. b `c") for key in ("engine_stalled", "engine_broken_stream", "engine_not_protocol", "engine_said")),
    *(EngineRejected(key, url=SERVER, detail="a. b") for key in ("engine_status", "engine_redirects", "engine_unauthorized", "engine_busy")),
    *(EngineRejected(key, model="m", host="h") for key in ("endpoint_not_local", "model_is_remote", "context_too_small")),
    *(EngineRejected(f"errors_cloud.{key}", url=SERVER, reason="No engine. Start one.") for key in messages("en")["errors_cloud"]),
]  # fmt: skip


async def test_every_problem_has_a_cure(here: Here) -> None:
    found = await here.look()
    for error in ERRORS:
        for lang in LANGS:
            text, cure = explain(Problem(error, blocking=True), found, lang)
            assert len(text) > 4, error.key
            assert len(cure) > 4, error.key
            if error.key != "git_failed":  # git's own words: nobody knows what they may be
                assert not cure.startswith(say(lang, "doctor_cures", "other")), error.key


async def test_git_that_is_missing_is_a_problem(
    here: Here, serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import git

    assert shutil.which("git")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(git.Git, "GIT_PYTHON_GIT_EXECUTABLE", "git")
    found = await here.look(serve(ollama(tag("m:7b"))).url)
    assert (keys(found), found.system.git) == ([("git_missing", True)], "")
