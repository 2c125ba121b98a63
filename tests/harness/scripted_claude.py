#!/usr/bin/env python3
"""An Anthropic-compatible server that says what a script says: `POST /v1/messages`, streamed or not.

    python scripted_claude.py --script reviewer --args '{"refute": ["typo"]}' --port 11600 --log asked.jsonl

In tests it lives in a thread of the test process:

    with ScriptedClaude([Calls([("mcp__review__list_units", {})]), Text("done")]) as claude:
        ...  # ANTHROPIC_BASE_URL=claude.url
    assert claude.asked[1].results

A script is a list of replies, one a request (past its end: a text that ends the conversation), or a function of what was
asked. The function sees the whole conversation, so it needs no memory: ready ones are in `claude_scripts.py`.
Loopback only, stdlib only. What is neither `/v1/messages` nor its `count_tokens` nor a sign of life is answered 404; all of it is kept.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

END = "结束"  # what a script of fixed replies says when they are used up
POLL = 0.1  # seconds between two looks whether a client that waits is still there


@dataclass(frozen=True)
class Asked:
    """One request. `number` counts those of its kind from 1; the keys of `headers` are in lower case; `raw` is the body as it came."""

    body: dict[str, Any]
    headers: dict[str, str]
    path: str
    number: int
    method: str = "POST"
    raw: bytes = field(default=b"", repr=False)

    @property
    def tools(self) -> set[str]:
        """Names of the tools offered."""
        return set(self.schemas)

    @property
    def schemas(self) -> dict[str, dict[str, Any]]:
        """Each tool's input schema, by name."""
        return {tool["name"]: tool.get("input_schema", {}) for tool in self.body.get("tools") or []}

    @property
    def called(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(id, name, input) of each tool call so far, in order."""
        return [(one["id"], one["name"], one["input"]) for one in self._blocks("tool_use")]

    @property
    def results(self) -> list[tuple[str, str, bool]]:
        """(id of the call, text, whether it failed) of each tool result so far, in order."""
        return [
            (one["tool_use_id"], flat(one.get("content")), bool(one.get("is_error")))
            for one in self._blocks("tool_result")
        ]

    @property
    def turn(self) -> int:
        """How many messages of the assistant the conversation holds."""
        return sum(message.get("role") == "assistant" for message in self.body.get("messages") or [])

    @cached_property
    def text(self) -> str:
        """All that the body says: as it was sent, and each string without its escapes (JSON inside a string, too)."""
        return "\n".join([json.dumps(self.body, ensure_ascii=False), *_strings(self.body)])

    def _blocks(self, kind: str) -> Iterator[dict[str, Any]]:
        for message in self.body.get("messages") or []:
            content = message.get("content")
            for block in content if isinstance(content, list) else []:
                if isinstance(block, dict) and block.get("type") == kind:
                    yield block


@dataclass(frozen=True)
class Text:
    """A turn that only speaks, and so ends the conversation."""

    text: str


@dataclass(frozen=True)
class Calls:
    """A turn that calls tools: (name, input) each."""

    calls: Sequence[tuple[str, Mapping[str, Any]]]
    text: str = ""


@dataclass(frozen=True)
class Fault:
    """A turn that goes wrong; `kind` is one of FAULTS.

    `after`: events of the stream that are sent well before `malformed`, `cut`, `stall` and `error_event`.
    A request that wants no stream gets `cut`, `stall` and `malformed` in the middle of its JSON.
    """

    kind: str
    after: int = 0


Reply = Text | Calls | Fault
Script = Callable[[Asked], Reply]

ERRORS = {
    "400": (400, "invalid_request_error", {}),
    "401": (401, "authentication_error", {}),
    "404": (404, "not_found_error", {}),
    "429": (429, "rate_limit_error", {}),
    "429_retry_after_3600": (429, "rate_limit_error", {"retry-after": "3600"}),
    "500": (500, "api_error", {}),
    "529": (529, "overloaded_error", {}),
}
FAULTS = (*ERRORS, "html", "malformed", "cut", "stall", "hang", "empty", "error_event", "max_tokens", "refusal")


@dataclass(frozen=True)
class Usage:
    """Tokens that each reply says it took."""

    input_tokens: int = 100
    output_tokens: int = 20
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


@dataclass
class ScriptedClaude:
    """Starts at once, on `port` (0: any). Lists only grow: take their length before what you measure.

    `usage`: what each reply says it took; a function of the request may say it anew each time. With `context`, `/v1/models` tells it
    of one model, as vLLM does; a real server of Anthropic's does not.
    """

    script: Script | Sequence[Reply]
    usage: Usage | Callable[[Asked], Usage] = field(default_factory=Usage)
    port: int = 0
    log: Path | None = None
    context: int = 0
    model: str = "scripted"
    asked: list[Asked] = field(default_factory=list)  # POST /v1/messages
    counted: list[Asked] = field(default_factory=list)  # POST /v1/messages/count_tokens
    others: list[Asked] = field(default_factory=list)  # everything else, signs of life too
    closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.claude = self
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> ScriptedClaude:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of whoever waits; again does nothing."""
        if not self.closing.is_set():
            self.closing.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    @property
    def everything(self) -> list[Asked]:
        """All requests that were seen, the 404s too; not in order."""
        with self._lock:
            return [*self.asked, *self.counted, *self.others]

    def keep(self, method: str, path: str, headers: Mapping[str, str], body: dict[str, Any], raw: bytes = b"") -> Asked:
        """Called by the handler, for each request."""
        kept = {"/v1/messages": self.asked, "/v1/messages/count_tokens": self.counted}
        where = kept.get(urlsplit(path).path.rstrip("/"), self.others) if method == "POST" else self.others
        with self._lock:
            asked = Asked(body, {key.lower(): value for key, value in headers.items()}, path, len(where) + 1, method, raw)
            where.append(asked)
            if self.log:
                with self.log.open("a", encoding="utf-8") as out:
                    row = {name: value for name, value in asdict(asked).items() if name != "raw"}
                    out.write(json.dumps({"time": time.time(), **row}, ensure_ascii=False) + "\n")
        return asked

    def answer(self, asked: Asked) -> Reply:
        if callable(self.script):
            return self.script(asked)
        return self.script[asked.number - 1] if asked.number <= len(self.script) else Text(END)

    def usage_of(self, asked: Asked) -> Usage:
        return self.usage(asked) if callable(self.usage) else self.usage


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    claude: ScriptedClaude

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is nothing to talk about; a script that fails is."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 300
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the output belongs to the tests."""

    def do_POST(self) -> None:
        claude = self.server.claude
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            body = {}
        asked = claude.keep("POST", self.path, dict(self.headers), body if isinstance(body, dict) else {"": body}, raw)
        self._streamed = bool(asked.body.get("stream"))
        kind = urlsplit(self.path).path.rstrip("/")
        if kind == "/v1/messages/count_tokens":
            self._json(200, {"input_tokens": len(asked.text) // 8 + 1})
        elif kind != "/v1/messages":
            self._error(404, "not_found_error")
        elif isinstance(reply := claude.answer(asked), Fault):
            self._fault(reply, asked)
        else:
            self._say(_message(asked, _content(reply), claude.usage_of(asked)))

    def do_GET(self) -> None:
        asked = self.server.claude.keep(self.command, self.path, dict(self.headers), {})
        if urlsplit(asked.path).path in ("/", "/api/hello"):
            self._json(200, {})
        elif (claude := self.server.claude).context and asked.path == "/v1/models":
            self._json(200, {"data": [{"id": claude.model, "max_model_len": claude.context}]})
        else:
            self._error(404, "not_found_error")

    do_HEAD = do_PUT = do_DELETE = do_GET

    def do_CONNECT(self) -> None:
        """Somebody took us for a proxy: no way through."""
        self.server.claude.keep("CONNECT", self.path, dict(self.headers), {})
        self._error(502, "api_error")

    def _say(self, message: dict[str, Any]) -> None:
        if not self._streamed:
            self._json(200, message)
            return
        self._start_stream()
        for event in _events(message):
            self._chunk(event)
        self.wfile.write(b"0\r\n\r\n")

    def _fault(self, fault: Fault, asked: Asked) -> None:
        if fault.kind in ERRORS:
            status, kind, headers = ERRORS[fault.kind]
            self._error(status, kind, headers)
        elif fault.kind == "html":
            self._send(200, "text/html", b"<html><body><h1>Please log in</h1></body></html>")
        elif fault.kind == "hang":
            self._wait()
        elif fault.kind in ("empty", "max_tokens", "refusal"):
            content = [] if fault.kind == "empty" else [{"type": "text", "text": "Half of a sen"}]
            stop = "end_turn" if fault.kind == "empty" else fault.kind
            usage = self.server.claude.usage_of(asked)
            self._say(_message(asked, content, usage) | {"stop_reason": stop})
        elif fault.kind in ("malformed", "cut", "stall", "error_event"):
            self._broken(fault, _message(asked, [{"type": "text", "text": "Half of a sentence"}], Usage()))
        else:
            raise ValueError(f"no such fault: {fault.kind}")

    def _broken(self, fault: Fault, message: dict[str, Any]) -> None:
        """Begins well and does not end."""
        self.close_connection = True
        if self._streamed:
            self._start_stream()
            for event in _events(message)[: fault.after]:
                self._chunk(event)
        elif fault.kind == "error_event":
            self._error(529, "overloaded_error")
            return
        else:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "4096")
            self.end_headers()
            self.wfile.write(json.dumps(message).encode()[:40])
        self.wfile.flush()
        if fault.kind == "stall":
            self._wait()
        elif self._streamed and fault.kind == "malformed":
            self._chunk(b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": \n\n')
            self.wfile.write(b"0\r\n\r\n")
        elif self._streamed and fault.kind == "error_event":
            self._chunk(_event("error", error={"type": "overloaded_error", "message": "Overloaded"}))
            self.wfile.write(b"0\r\n\r\n")

    def _wait(self) -> None:
        """Until the client is gone or the server closes."""
        self.close_connection = True
        while not self.server.claude.closing.wait(POLL):
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                return

    def _start_stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _error(self, status: int, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self._json(status, {"type": "error", "error": {"type": kind, "message": f"scripted {status}"}}, headers)

    def _json(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(value, ensure_ascii=False).encode(), headers)

    def _send(self, status: int, kind: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _content(reply: Text | Calls) -> list[dict[str, Any]]:
    said = [{"type": "text", "text": reply.text}] if reply.text else []
    calls = reply.calls if isinstance(reply, Calls) else []
    # ids are random: a conversation that is resumed may hold those of another server
    return said + [
        {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:24]}", "name": name, "input": dict(given)} for name, given in calls
    ]


def _message(asked: Asked, content: list[dict[str, Any]], usage: Usage) -> dict[str, Any]:
    called = any(block["type"] == "tool_use" for block in content)
    return {
        "id": f"msg_{uuid.uuid4().hex[:24]}", "type": "message", "role": "assistant", "model": asked.body.get("model", ""),
        "content": content, "stop_reason": "tool_use" if called else "end_turn", "stop_sequence": None, "usage": asdict(usage),
    }


def _events(message: dict[str, Any]) -> list[bytes]:
    """The message as events of a stream."""
    usage = message["usage"]
    begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events = [_event("message_start", message=begun)]
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            start: dict[str, Any] = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": block["text"]}
        else:
            start = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"], ensure_ascii=False)}
        events += [
            _event("content_block_start", index=index, content_block=start),
            _event("content_block_delta", index=index, delta=delta),
            _event("content_block_stop", index=index),
        ]
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    return [*events, _event("message_delta", delta=stop, usage=usage), _event("message_stop")]


def _event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n".encode()


def flat(content: object) -> str:
    """The text of a tool result: a string, or a list of blocks."""
    if isinstance(content, list):
        return "\n".join(block.get("text", "") for block in content if isinstance(block, dict))
    return content if isinstance(content, str) else ""


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        if value.lstrip()[:1] in ("{", "["):
            try:
                yield from _strings(json.loads(value))
            except ValueError:
                return
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield str(key)
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


def main() -> None:
    import claude_scripts  # it imports this module

    options = argparse.ArgumentParser(description="A Messages server that says what a script says.")
    options.add_argument("--script", default="plain_text", help="a function of claude_scripts.py")
    options.add_argument("--args", type=json.loads, default={}, help="its arguments, a JSON object")
    options.add_argument("--stop-at", type=int, default=0, help="at this turn, only a text")
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--log", type=Path, help="a file that gets one line of JSON a request")
    given = options.parse_args()
    script = getattr(claude_scripts, given.script)(**given.args)
    if given.stop_at:
        script = claude_scripts.stops_at(given.stop_at, script)
    with ScriptedClaude(script, port=given.port, log=given.log) as claude:
        print(json.dumps({"url": claude.url}), flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    import scripted_claude  # not as __main__: the scripts must see the same classes

    scripted_claude.main()
