"""What is particular to Ollama: its refusals, thinking, models elsewhere, and whose a loaded model is."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest

from review_agent.agent.errors import (
    AnswerUnreadable,
    EndpointRefused,
    EngineBusy,
    EngineError,
    EngineFault,
    EngineRejected,
    ModelMissing,
    ModelUnavailable,
    PromptTooLong,
    ReviewError,
)
from review_agent.agent.wording import sentence
from review_agent.tools.backends import ChatRequest, Done, Message
from review_agent.tools.backends.lease import Lease
from review_agent.tools.backends.ollama import OllamaBackend
from review_agent.tools.endpoints import make_endpoint

MODEL = "qwen:7b"
REQUEST = ChatRequest(MODEL, (Message("user", "?"),), {"type": "object"}, 2048, 512, 100)
OVERFLOW = (
    '{"error":{"code":400,"message":"request (18908 tokens) exceeds the available context size (2048 tokens), '
    'try increasing it","type":"exceed_context_size_error","n_prompt_tokens":18908,"n_ctx":2048}}'
)


def end(**more: object) -> dict[str, object]:
    return {"message": {"content": ""}, "done": True, "done_reason": "stop", **more}


@dataclass
class Server:
    """An Ollama that loads what it is asked for, and answers `/api/chat` with `answers`, the last one again."""

    loaded: set[str] = field(default_factory=set)
    answers: list[httpx.Response] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    ps: Callable[[], httpx.Response] | None = None
    unload: Callable[[], httpx.Response] | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if request.url.path == "/api/ps":
            return self.ps() if self.ps else reply({"models": [{"name": name} for name in self.loaded]})
        body = json.loads(request.content)
        self.bodies.append(body)
        if body["keep_alive"] == 0:
            self.loaded.discard(body["model"])
            return self.unload() if self.unload else reply(end(done_reason="unload"))
        self.loaded.add(body["model"])
        if not self.answers:
            return reply({"message": {"content": "{}"}}, end())
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def backend(self, state: Path | None = None, *, url: str = "http://127.0.0.1:1", unload: bool = True) -> OllamaBackend:  # fmt: skip
        client = httpx.AsyncClient(base_url=url, transport=httpx.MockTransport(self))
        return OllamaBackend(client, make_endpoint(url, ["box"]), unload=unload, state=state)


def reply(*rows: object, status: int = 200, **headers: str) -> httpx.Response:
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return httpx.Response(status, content=content, headers=headers)


async def read(backend: OllamaBackend, request: ChatRequest = REQUEST) -> Done:
    [done] = [event async for event in backend.chat(request) if isinstance(event, Done)]
    return done


# --- refusals ---


@pytest.mark.parametrize(
    ("answer", "error", "key", "fields"),
    [
        (
            reply({"error": OVERFLOW}, status=400),
            PromptTooLong, "ollama.prompt_over_context", {"sent": 18908, "context": 2048},
        ),
        (
            reply({"error": OVERFLOW}),
            PromptTooLong, "ollama.prompt_over_context", {"sent": 18908, "context": 2048},
        ),
        (
            reply({"error": "the prompt is longer than the context length currently available"}, status=400),
            PromptTooLong, "prompt_too_long", {"detail": "the prompt is longer than the context length currently available"},
        ),
        (reply({"error": "model 'qwen:7b' not found"}, status=404), ModelMissing, "ollama.model_gone", {"model": MODEL}),
        (
            reply({"error": "ollama cloud is disabled: remote model is unavailable"}, status=403),
            EndpointRefused, "model_is_remote", {"model": MODEL},
        ),
        (reply({"error": "forbidden"}, status=403), EngineRejected, "engine_unauthorized", {"status": 403}),
        (reply({"message": {"content": "{"}, "remote_host": "https://ollama.com:443"}), EndpointRefused, "model_is_remote", {"model": MODEL}),
        (reply(end(remote_model="kimi")), EndpointRefused, "model_is_remote", {"model": MODEL}),
        (reply({"error": "an error was encountered while running the model: unexpected EOF"}), EngineFault, "engine_said", {}),
        (reply(end(done_reason="load")), EngineFault, "engine_cut_stream", {}),
        (reply(end(done_reason="unload")), EngineFault, "engine_cut_stream", {}),
        (reply({"error": "server busy, please try again.  maximum pending requests exceeded"}, status=503, **{"Retry-After": "2"}), EngineBusy, "engine_busy", {}),
    ],
)  # fmt: skip
async def test_what_a_refusal_means(
    answer: httpx.Response, error: type[EngineError], key: str, fields: dict[str, object]
) -> None:
    with pytest.raises(EngineError) as caught:
        await read(Server(answers=[answer]).backend())
    assert (type(caught.value), caught.value.key) == (error, key)
    assert fields.items() <= caught.value.fields.items()
    if isinstance(caught.value, EngineBusy):
        assert caught.value.retry_after == 2


@pytest.mark.parametrize(
    ("key", "fields", "said"),
    [
        ("ollama.prompt_over_context", {"sent": 18908, "context": 2048}, ["18908", "2048", "--num-ctx"]),
        ("ollama.model_gone", {"url": "U", "model": MODEL}, ["U", "`ollama pull qwen:7b`"]),
    ],
)
def test_refusals_in_words(key: str, fields: dict[str, object], said: list[str]) -> None:
    for lang in ("zh-CN", "en"):
        text = sentence(ReviewError(key, **fields), lang)
        assert [word for word in said if word not in text] == []


# --- thinking and empty answers ---


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        ([{"message": {"content": "{}", "thinking": "hm"}}, end()], "stop"),
        ([{"message": {"thinking": "hm"}}, end(done_reason="length", eval_count=512)], "answer_only_reasoning"),
        ([{"message": {"thinking": "hm"}}, end()], "answer_only_reasoning"),
        ([end(done_reason="length", prompt_eval_count=100, eval_count=512)], "length"),
        ([end(done_reason="length", prompt_eval_count=1900, eval_count=148)], "ollama.prompt_over_context"),
        ([{"message": {"content": "{"}}, end(done_reason="length", prompt_eval_count=1900, eval_count=148)], "length"),
        ([end(prompt_eval_count=100, eval_count=1)], "stop"),
    ],
)  # fmt: skip
async def test_an_answer_that_has_no_room(rows: list[object], outcome: str) -> None:
    try:
        got = (await read(Server(answers=[reply(*rows)]).backend())).finish
    except (PromptTooLong, AnswerUnreadable) as exc:
        got = exc.key
    assert got == outcome


async def test_an_answer_that_the_server_breaks_off_because_it_repeats_itself_is_cut() -> None:
    """The words of Ollama 0.34.4. Its model, not the server, is at fault: a smaller piece may do."""
    broken = {"error": "prediction aborted, token repeat limit reached"}
    done = await read(Server(answers=[reply({"message": {"content": '{"summary": "a a'}}, broken)]).backend())
    assert done.finish == "length"
    with pytest.raises(EngineFault, match="engine_said"):  # nothing was said that could be cut
        await read(Server(answers=[reply(broken)]).backend())


@pytest.mark.parametrize(
    "said",
    [
        '"qwen:7b" does not support thinking',
        "json: cannot unmarshal string into Go struct field ChatRequest.think of type bool",
    ],
)
async def test_a_server_that_knows_no_thinking_is_asked_without_and_that_is_remembered(said: str) -> None:
    refused = reply({"error": said}, status=400)
    server = Server(answers=[refused, reply({"message": {"content": "{}"}}, end())])
    backend = server.backend()
    assert (await read(backend)).finish == "stop"
    assert (await read(backend)).finish == "stop"
    assert ["think" in body for body in server.bodies] == [True, False, False]
    assert (await read(backend, replace(REQUEST, model="other"))).finish == "stop"
    assert "think" in server.bodies[-1]


@pytest.mark.parametrize(
    "answer",
    [
        reply({"error": '"qwen:7b" does not support thinking'}, status=400),
        reply({"error": '"my-thinking-model" does not support chat'}, status=400),
    ],
)
async def test_other_refusals_are_not_asked_again(answer: httpx.Response) -> None:
    server = Server(answers=[answer])
    with pytest.raises(EngineRejected):
        await read(server.backend())
    assert len(server.bodies) == (2 if b"support thinking" in answer.content else 1)


async def test_no_room_for_an_answer_is_never_room_without_end() -> None:
    server = Server()
    await read(server.backend(), replace(REQUEST, max_answer=0))
    assert server.bodies[0]["options"] == {"num_ctx": 2048, "num_predict": 1, "temperature": 0, "seed": 7}


# --- what is installed ---


async def test_a_list_of_models_says_what_is_needed_to_choose_one() -> None:
    tags = [
        {
            "name": "Qwen:7b",
            "details": {"context_length": 8192, "parameter_size": "135M"},
            "capabilities": ["completion", "tools"],
        },
        {"name": "old:1b"},
    ]
    server = Server()

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/ps":
            return reply({"models": [{"name": "QWEN:7b", "context_length": 2048}]})
        return reply({"models": tags}) if request.url.path == "/api/tags" else reply({})

    client = httpx.AsyncClient(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(handler))
    backend = OllamaBackend(client, server.backend().endpoint)
    new, old = await backend.models()
    assert (new.capabilities, new.context, new.parameters, new.loaded) == (
        {"completion", "tools"}, 8192, 0.135, True,
    )  # fmt: skip
    assert (old.capabilities, old.context, old.loaded) == (frozenset(), 0, False)
    described = await backend.describe("Qwen:7b")  # a `show` that says nothing takes nothing away
    assert (described.capabilities, described.context, described.loaded) == (new.capabilities, 8192, True)


@pytest.mark.parametrize("status", [404, 500, 200])
async def test_a_server_that_does_not_say_what_is_loaded(status: int) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/ps":
            return httpx.Response(status, content=b"404 page not found")
        return reply({"models": [{"name": MODEL}]})

    client = httpx.AsyncClient(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(handler))
    [model] = await OllamaBackend(client, make_endpoint("http://127.0.0.1:1")).models()
    assert not model.loaded


# --- unloading ---


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("before", "send", "unload", "gone"),
    [
        ([], True, True, True),
        ([MODEL], True, True, False),
        (["QWEN:7B"], True, True, False),
        (["other"], True, True, True),
        ([], False, True, False),
        ([], True, False, False),
    ],
)
async def test_only_what_we_loaded_is_unloaded(
    tmp_path: Path, shared: bool, before: list[str], send: bool, unload: bool, gone: bool
) -> None:
    server = Server(loaded=set(before))
    backend = server.backend(tmp_path if shared else None, unload=unload)
    if send:
        await read(backend)
    await backend.aclose()
    assert [body for body in server.bodies if body["keep_alive"] == 0] == (
        [{"model": MODEL, "messages": [], "stream": False, "keep_alive": 0}] if gone else []
    )
    assert "other" in server.loaded or "other" not in before


@pytest.mark.parametrize("first_out", [0, 1])
async def test_the_last_run_out_unloads(tmp_path: Path, first_out: int) -> None:
    server = Server()
    runs = [server.backend(tmp_path), server.backend(tmp_path, url="http://localhost:1")]
    for run in runs:
        await read(run)
    await runs.pop(first_out).aclose()
    assert server.loaded == {MODEL}
    await runs.pop().aclose()
    assert server.loaded == set()


async def test_another_server_or_model_is_another_matter(tmp_path: Path) -> None:
    server, elsewhere = Server(), Server()
    first, second = server.backend(tmp_path), elsewhere.backend(tmp_path, url="http://127.0.0.1:2")
    await read(first)
    await read(second)
    await read(second, replace(REQUEST, model="other"))
    await first.aclose()
    assert (server.loaded, elsewhere.loaded) == (set(), {MODEL, "other"})
    await second.aclose()
    assert elsewhere.loaded == set()


async def test_what_a_killed_run_wrote_is_forgotten(tmp_path: Path) -> None:
    server = Server()
    run = server.backend(tmp_path)
    await read(run)
    await run.aclose()
    [file] = (tmp_path / "engines").iterdir()
    file.write_text("loaded by review-agent\n")
    server.loaded.add(MODEL)  # by now the model may be somebody else's
    run = server.backend(tmp_path)
    await read(run)
    await run.aclose()
    assert server.loaded == {MODEL}


async def test_a_run_that_keeps_the_model_still_counts_as_a_user_of_it(tmp_path: Path) -> None:
    server = Server()
    keeps, tidies = server.backend(tmp_path, unload=False), server.backend(tmp_path)
    await read(tidies)
    await read(keeps)
    await tidies.aclose()
    await keeps.aclose()
    assert server.loaded == {MODEL}


async def test_the_files_are_private_and_follow_no_link(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    server = Server()
    backend = server.backend(state)
    await read(backend)
    [file] = (state / "engines").iterdir()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (state, state / "engines", file)] == [
        0o700, 0o700, 0o600,
    ]  # fmt: skip
    await backend.aclose()
    file.unlink()
    precious = tmp_path / "precious"
    precious.write_text("text")
    file.symlink_to(precious)
    backend = server.backend(state)
    await read(backend)
    await backend.aclose()
    assert precious.read_text() == "text"
    assert server.loaded == {MODEL}  # without the file nobody knows who else is there


async def test_without_the_file_nothing_is_unloaded(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("")
    server = Server()
    backend = server.backend(tmp_path)
    assert (await read(backend)).finish == "stop"
    await backend.aclose()
    assert server.loaded == {MODEL}


async def test_a_run_waits_while_another_unloads_but_not_for_ever(tmp_path: Path) -> None:
    async def not_loaded() -> bool:
        return False

    first = Lease(tmp_path, "s", "m")
    await first.take(not_loaded)
    assert first.last()  # it has the file to itself now
    hasty = Lease(tmp_path, "s", "m", wait=0.2)
    await hasty.take(not_loaded)
    assert not hasty.last()
    patient = Lease(tmp_path, "s", "m", wait=10)
    taking = asyncio.ensure_future(patient.take(not_loaded))
    await asyncio.sleep(0.2)
    assert not taking.done()
    first.drop()
    await taking
    assert patient.last()
    patient.drop()


def _refuses() -> httpx.Response:
    raise httpx.ConnectError("gone")


def _stalls() -> httpx.Response:
    raise httpx.ReadTimeout("silent")


@pytest.mark.parametrize("trouble", [_refuses, _stalls, lambda: httpx.Response(500), lambda: reply("no")])
async def test_trouble_with_unloading_is_nobodys_trouble(trouble: Callable[[], httpx.Response]) -> None:
    server = Server(unload=trouble)
    backend = server.backend()
    await read(backend)
    await backend.aclose()
    assert server.bodies[-1]["keep_alive"] == 0


@pytest.mark.parametrize("trouble", [_refuses, lambda: httpx.Response(404), lambda: reply("no")])
async def test_what_may_be_anothers_is_left(trouble: Callable[[], httpx.Response]) -> None:
    server = Server(ps=trouble)
    backend = server.backend()
    await read(backend)
    await backend.aclose()
    assert server.loaded == {MODEL}


async def test_a_server_elsewhere_has_users_we_do_not_know_of(tmp_path: Path) -> None:
    server = Server()
    backend = server.backend(tmp_path, url="http://box:11434")
    await read(backend)
    await backend.aclose()
    assert (server.loaded, server.asked) == ({MODEL}, ["/api/chat"])


async def test_a_server_that_is_gone_when_we_begin() -> None:
    def gone(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    client = httpx.AsyncClient(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(gone))
    backend = OllamaBackend(client, make_endpoint("http://127.0.0.1:1"))
    with pytest.raises(ModelUnavailable):
        await read(backend)
    await backend.aclose()
