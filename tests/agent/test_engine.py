"""Which server and which model a run takes, against servers on loopback."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from review_agent.agent.engine import LM_STUDIO, Engine, open_engine, preflight
from review_agent.agent.errors import (
    EndpointRefused,
    EngineError,
    EngineFault,
    ModelMissing,
    ModelUnavailable,
    ReviewError,
    UsageError,
)
from review_agent.agent.settings import Settings
from review_agent.tools.model_store import add_model

GB = 10**9


def tag(name: str, size: float = 4.7, **more: object) -> dict[str, object]:
    return {"name": name, "size": int(size * GB), "digest": f"sha-{name}", **more}


@dataclass
class Server:
    """Answers by path; a number is a status, anything else JSON. `seen` keeps the requests' headers."""

    routes: Mapping[str, object]
    seen: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def start(self) -> ThreadingHTTPServer:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.seen.append({name.lower(): value for name, value in self.headers.items()})
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                found = owner.routes.get(self.path, 404)
                if callable(found):
                    found = found(json.loads(body))
                self.send_response(found if isinstance(found, int) else 200)
                self.end_headers()
                self.wfile.write(b"{}" if isinstance(found, int) else json.dumps(found).encode())

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server


Serve = Callable[[Mapping[str, object]], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[ThreadingHTTPServer] = []

    def start(routes: Mapping[str, object]) -> Server:
        server = Server(routes)
        running.append(server.start())
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def ollama(tags: list[dict[str, object]], shows: Mapping[str, object] | None = None) -> dict[str, object]:
    usual = {"capabilities": ["completion"], "model_info": {"a.context_length": 32768}}
    return {
        "/api/version": {"version": "0.34.4"},
        "/api/tags": {"models": tags},
        "/api/show": lambda body: (shows or {}).get(body["model"], usual),
    }


async def opened(settings: Settings, environ: Mapping[str, str] | None = None) -> Engine:
    engine = await open_engine(settings, environ or {})
    await engine.aclose()
    return engine


@pytest.mark.parametrize(
    ("tags", "shows", "chosen"),
    [
        ([tag("llama3:8b"), tag("qwen2.5-coder:7b")], {}, "qwen2.5-coder:7b"),
        ([tag("qwen2.5-coder:1.5b", 1), tag("qwen2.5-coder:3b", 2)], {}, "qwen2.5-coder:3b"),
        ([tag("qwen2.5-coder:7b"), tag("qwen3-coder:480b", 10**6)], {}, "qwen2.5-coder:7b"),
        ([tag("llama3:8b"), tag("devstral:big", 10**6)], {}, "llama3:8b"),
        ([tag("coder:huge", 2 * 10**6), tag("llama:less", 10**6)], {}, "llama:less"),
        ([tag("llama3:8b"), tag("nomic-embed-text", 9), tag("bge-m3", 9)], {}, "llama3:8b"),
        ([tag("llama3:8b"), tag("smollm2:135m", 0.1)], {}, "llama3:8b"),
        ([tag("llama3:8b"), tag("gpt-oss:120b-cloud", 0), tag("kimi:cloud", 0)], {}, "llama3:8b"),
        ([tag("llama3:8b"), tag("q-coder", remote_host="https://ollama.com")], {}, "llama3:8b"),
        ([tag("llama3:8b"), tag("q-coder")], {"q-coder": {"remote_model": "x"}}, "llama3:8b"),
        ([tag("llama3:8b"), tag("clip-coder")], {"clip-coder": {"capabilities": ["vision"]}}, "llama3:8b"),
        ([tag("llama3:8b")], {"llama3:8b": {"capabilities": None}}, "llama3:8b"),
    ],
)  # fmt: skip
async def test_the_best_installed_model_is_taken(
    serve: Serve, tags: list[dict[str, object]], shows: dict[str, object], chosen: str
) -> None:
    server = serve(ollama(tags, shows))
    for listed in (tags, tags[::-1]):
        server.routes = ollama(listed, shows)
        engine = await opened(Settings(), {"OLLAMA_HOST": server.url})
        assert engine.model.name == chosen
    assert (engine.info.mode, engine.info.backend, engine.info.model_digest) == (
        "local",
        "ollama",
        f"sha-{chosen}",
    )
    assert [note.key for note in engine.notes] == ["model_chosen"]
    assert engine.demo is False


@pytest.mark.parametrize(
    ("wanted", "show", "error"),
    [
        ("absent", {}, ModelMissing),
        ("x:cloud", {}, EndpointRefused),
        ("far", {"remote_host": "https://ollama.com"}, EndpointRefused),
        ("embedder", {"capabilities": ["embedding"]}, ModelMissing),
        ("broken", 500, EngineFault),
    ],
)
async def test_a_model_that_cannot_be_used_is_refused(
    serve: Serve, wanted: str, show: object, error: type[ReviewError]
) -> None:
    server = serve(ollama([tag(name) for name in ("x:cloud", "far", "embedder", "broken")], {wanted: show}))
    with pytest.raises(error):
        await opened(Settings(model=wanted, base_url=server.url))


async def test_a_demo_model_is_taken_by_name_only(serve: Serve) -> None:
    server = serve(ollama([tag("smollm2:135m", 0.1), tag("x:cloud")]))
    with pytest.raises(ModelMissing, match="no_usable_model") as caught:
        await opened(Settings(base_url=server.url))
    assert caught.value.fields["installed"] == "smollm2:135m, x:cloud"
    engine = await opened(Settings(base_url=server.url, model="smollm2:135m"))
    assert (engine.demo, engine.notes) == (True, ())


OPENAI = {"/v1/models": {"data": [{"id": "qwen", "max_model_len": 8192}]}}


@pytest.mark.parametrize(
    ("backend", "path", "kind"), [("auto", "", "openai"), ("auto", "/v1", "openai"), ("openai", "", "openai")]
)
async def test_a_server_that_is_not_ollama_is_spoken_to_in_openai(
    serve: Serve, backend: str, path: str, kind: str
) -> None:
    server = serve(OPENAI)
    engine = await opened(Settings(backend=backend, base_url=server.url + path))  # type: ignore[arg-type]
    assert (engine.info.backend, engine.model.name, engine.model.context) == (kind, "qwen", 8192)


async def test_what_lm_studio_has_loaded_is_taken_first(serve: Serve) -> None:
    """It tells no sizes; and a model that it must load first gets a context of its own choice."""
    names = ("devstral-24b", "qwen2.5-coder-14b")
    own = [
        {
            "id": name,
            "type": "llm",
            "state": state,
            "max_context_length": 32768,
            "loaded_context_length": 16384,
        }
        for name, state in zip(names, ("not-loaded", "loaded"), strict=True)
    ]
    listed = [{"id": name, "owned_by": "organization_owner"} for name in names]
    server = serve({"/v1/models": {"data": listed}, "/api/v0/models": {"data": own}})
    engine = await opened(Settings(backend="openai", base_url=server.url))
    assert (engine.model.name, engine.model.context) == ("qwen2.5-coder-14b", 16384)


async def test_a_server_that_says_200_to_any_path_is_no_ollama(serve: Serve) -> None:
    said = {"error": "Unexpected endpoint or method. (GET /api/version)"}
    routes = {path: said for path in ("/api/version", "/api/tags", "/api/ps")}
    engine = await opened(Settings(base_url=serve({**OPENAI, **routes}).url))
    assert engine.info.backend == "openai"


async def test_ollama_that_was_named_is_not_taken_for_something_else(serve: Serve) -> None:
    with pytest.raises(ModelMissing):
        await opened(Settings(backend="ollama", base_url=serve(OPENAI).url))


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("backend", ["auto", "ollama", "openai"])
async def test_without_a_server_there_is_one_clear_error(backend: str) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(ModelUnavailable):
        await opened(Settings(backend=backend, base_url=url))  # type: ignore[arg-type]
    with pytest.raises(ModelUnavailable, match="no_engine") as caught:
        await opened(Settings(), {"OLLAMA_HOST": url})
    assert caught.value.fields == {"url": url}
    with pytest.raises(ModelUnavailable, match="no_engine"):
        preflight(Settings(), {"OLLAMA_HOST": url})
    with pytest.raises(ModelUnavailable, match="engine_unavailable"):
        preflight(Settings(base_url=url), {})


@pytest.mark.parametrize(
    ("settings", "environ"),
    [
        (Settings(base_url="http://192.0.2.1:11434"), {}),
        (Settings(base_url="https://api.example.com/v1", backend="openai"), {}),
        (Settings(), {"OLLAMA_HOST": "gpu-box"}),
        (Settings(), {"OLLAMA_HOST": "http://localhost.evil.example"}),
        (Settings(allowed_hosts=("gpu-box:1",)), {"OLLAMA_HOST": "gpu-box:2"}),
    ],
)
async def test_a_server_elsewhere_is_refused_before_anything_is_sent(
    settings: Settings, environ: dict[str, str]
) -> None:
    with pytest.raises(EndpointRefused, match="endpoint_not_local"):
        await opened(settings, environ)
    with pytest.raises(EndpointRefused):
        preflight(settings, environ)


# --- with a cloud side: its endpoint is named and never asked here ---

CLOUD_URL = "http://127.0.0.1:2"
KEYS = {"ANTHROPIC_AUTH_TOKEN": "t", "ANTHROPIC_BASE_URL": CLOUD_URL, "ANTHROPIC_MODEL": "big"}


@pytest.mark.parametrize("mode", ["hybrid", "cloud"])
async def test_both_engines(serve: Serve, mode: str) -> None:
    settings = Settings(mode=mode, base_url=serve(ollama([tag("m")])).url)  # type: ignore[arg-type]
    preflight(settings, KEYS)
    engine = await opened(settings, KEYS)
    assert (engine.info.mode, engine.info.backend, engine.info.model) == (mode, "ollama", "m")
    assert (engine.info.cloud_host, engine.info.cloud_model) == ("127.0.0.1:2", "big")
    assert engine.cloud is not None
    assert (engine.cloud.key, engine.cloud.auth) == ("t", "auth_token")


async def test_a_key_alone_is_no_consent(serve: Serve) -> None:
    for settings in (Settings(), Settings(verify_model="big"), Settings(agent_base_url=CLOUD_URL)):
        engine = await opened(replace(settings, base_url=serve(ollama([tag("m")])).url), KEYS)
        assert (engine.info.mode, engine.cloud) == ("local", None)


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(backend="ollama"), Settings(base_url="http://127.0.0.1:1")]
)
async def test_hybrid_without_its_local_engine_asks_nobody(settings: Settings) -> None:
    settings = replace(settings, mode="hybrid")
    for look in (lambda: preflight(settings, {**KEYS, **NOBODY}), None):
        with pytest.raises(ModelUnavailable, match="local_needed") as caught:
            look() if look else await opened(settings, {**KEYS, **NOBODY})
        assert caught.value.fields["reason"]


async def test_the_cloud_without_a_local_engine_is_said() -> None:
    settings = Settings(mode="cloud", base_url="http://127.0.0.1:1")
    preflight(settings, KEYS)
    engine = await opened(settings, KEYS)
    assert engine.backend is None
    assert (engine.info.mode, engine.info.backend, engine.info.model) == ("cloud", "anthropic", "big")
    assert [note.key for note in engine.notes] == ["no_local_engine"]


@pytest.mark.parametrize("mode", ["auto", "cloud"])
async def test_who_names_the_backend_chose_the_cloud(serve: Serve, mode: str) -> None:
    local = serve(ollama([tag("m")]))
    settings = Settings(mode=mode, backend="anthropic", base_url="https://b.example", model="other")  # type: ignore[arg-type]
    engine = await opened(settings, {**KEYS, "OLLAMA_HOST": local.url})
    assert (engine.backend, engine.notes, local.seen) == (None, (), [])
    assert (engine.info.mode, engine.info.cloud_host, engine.info.cloud_model) == (
        "cloud",
        "b.example",
        "other",
    )


@pytest.mark.parametrize(
    "settings", [Settings(mode="hybrid"), Settings(mode="cloud"), Settings(backend="anthropic")]
)
async def test_without_a_key_there_is_no_cloud(settings: Settings) -> None:
    with pytest.raises(UsageError, match="no_key"):
        await opened(settings, NOBODY)
    with pytest.raises(UsageError, match="no_key"):
        preflight(settings, NOBODY)


async def test_a_local_engine_that_is_elsewhere_is_refused_with_a_cloud_too() -> None:
    with pytest.raises(EndpointRefused, match="endpoint_not_local"):
        await opened(Settings(mode="cloud", backend="openai", base_url="http://192.0.2.1:1"), KEYS)


@pytest.mark.parametrize(("named", "sent"), [("TEAM_KEY", "Bearer k1"), ("", None), ("OTHER", None)])
async def test_only_a_key_that_the_configuration_names_is_sent(
    serve: Serve, named: str, sent: str | None
) -> None:
    environ = {"TEAM_KEY": "k1", "OPENAI_API_KEY": "k2", "OLLAMA_API_KEY": "k3", "ANTHROPIC_API_KEY": "k4"}
    for routes, backend in [(OPENAI, "openai"), (ollama([tag("m")]), "ollama")]:
        server = serve(routes)
        await opened(Settings(backend=backend, base_url=server.url, api_key_env=named), environ)  # type: ignore[arg-type]
        assert {headers.get("authorization") for headers in server.seen} == {sent}


async def test_proxies_and_netrc_of_the_environment_are_not_for_loopback(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    server = serve(ollama([tag("m")]))
    assert (await opened(Settings(base_url=server.url))).model.name == "m"


async def test_a_server_that_sends_us_elsewhere_is_not_followed(serve: Serve) -> None:
    with pytest.raises(ReviewError, match="engine_redirects"):
        await opened(Settings(backend="ollama", base_url=serve({"/api/tags": 307}).url))


def test_the_default_of_openai_servers_is_here() -> None:
    assert LM_STUDIO.startswith("http://127.0.0.1:")


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


HEADER = (  # a model file without tensors
    struct.pack("<4sIQQ", b"GGUF", 3, 0, 2)
    + (_text("general.architecture") + struct.pack("<I", 8) + _text("llama"))
    + (_text("llama.context_length") + struct.pack("<II", 4, 32768))
)


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., str]:
    """A folder with model files of these names."""

    def make(*names: str) -> str:
        folder = tmp_path / "models"
        for name in names:
            part = folder / ".incoming" / name / "m.gguf"
            part.parent.mkdir(parents=True)
            part.write_bytes(HEADER)
            add_model(folder, name, [part], digests=["0" * 64], source="test")
        return str(folder)

    return make


NOBODY = {"OLLAMA_HOST": "127.0.0.1:1"}


async def test_without_a_server_auto_takes_the_users_own_model_and_says_so(own: Callable[..., str]) -> None:
    settings = Settings(models_path=own("smollm2-135m", "qwen2.5-coder-7b"))
    preflight(settings, NOBODY)
    engine = await opened(settings, NOBODY)
    assert (engine.info.backend, engine.info.model) == ("embedded", "qwen2.5-coder-7b")
    assert [note.key for note in engine.notes] == ["own_model_chosen"]
    assert not engine.demo


@pytest.mark.parametrize(
    ("settings", "names", "key"),
    [
        (Settings(), ["smollm2-135m"], "no_engine"),
        (Settings(backend="embedded"), ["smollm2-135m"], "no_own_model"),
        (Settings(backend="embedded"), [], "no_own_model"),
        (Settings(backend="embedded", model="other"), ["qwen2.5-coder-7b"], "model_not_stored"),
        (Settings(backend="ollama"), ["qwen2.5-coder-7b"], "no_engine"),
        (Settings(model="other"), ["qwen2.5-coder-7b"], "no_engine"),
        (Settings(base_url="http://127.0.0.1:1"), ["qwen2.5-coder-7b"], "engine_unavailable"),
    ],
)
async def test_a_model_file_is_not_taken_where_something_else_was_asked(
    own: Callable[..., str], settings: Settings, names: list[str], key: str
) -> None:
    settings = replace(settings, models_path=own(*names))
    with pytest.raises(EngineError, match=key):
        preflight(settings, NOBODY)
    with pytest.raises(EngineError):
        await opened(settings, NOBODY)


@pytest.mark.parametrize("name", ["qwen2.5-coder-7b", "smollm2-135m"])
async def test_a_model_that_ollama_lacks_is_taken_from_the_folder(
    serve: Serve, own: Callable[..., str], name: str
) -> None:
    server = serve(ollama([tag("llama3:8b")]))
    environ = {"OLLAMA_HOST": server.url.removeprefix("http://")}
    folder = own("qwen2.5-coder-7b", "smollm2-135m")
    named = await opened(Settings(model=name, models_path=folder), environ)
    assert (named.info.backend, named.info.model) == ("embedded", name)
    free = await opened(Settings(models_path=folder), environ)
    assert (free.info.backend, free.info.model) == ("ollama", "llama3:8b")


@pytest.mark.parametrize("backend", ["auto", "embedded"])
async def test_a_path_to_a_model_file_is_enough(tmp_path: Path, backend: str) -> None:
    file = tmp_path / "my.gguf"
    file.write_bytes(HEADER)
    settings = Settings(model=str(file), backend=backend)  # type: ignore[arg-type]
    engine = await opened(settings, NOBODY)
    assert engine.info.backend == "embedded"
    assert engine.info.model_digest.startswith("sampled:")


async def test_the_demo_model_gets_little_at_a_time(own: Callable[..., str]) -> None:
    folder = own("smollm2-135m")
    engine = await opened(Settings(backend="embedded", model="smollm2-135m", models_path=folder), NOBODY)
    assert engine.demo
    assert engine.model.context == 4096
