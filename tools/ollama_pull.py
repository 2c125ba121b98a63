"""Ollama fetches a model for itself: `POST /api/pull`, a stream of JSON lines that ends with "success".

https://github.com/ollama/ollama/blob/main/docs/api.md#pull-a-model
A broken pull is taken up again by asking for it again: the server keeps what it has.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import httpx
from pydantic import ValidationError

from review_agent.agent.errors import EndpointRefused, EngineFault, EngineRejected, ModelMissing
from review_agent.tools.backends.wire import Shape, refusal, translated

STALL_SECONDS = 180.0
_MAX_LINE = 1024 * 1024
_MAX_REFUSAL = 64 * 1024
_CLOUD = re.compile(r"(:|-)cloud$", re.I)
_UNKNOWN = re.compile(r"file does not exist|not found|manifest unknown|invalid model name", re.I)
_UNREACHABLE = re.compile(
    r"dial tcp|no such host|lookup |connection refused|i/o timeout|TLS handshake|x509|proxyconnect"
    r"|connection reset|unexpected EOF|network is unreachable|max retries|deadline exceeded"
    r"|server misbehaving",
    re.I,
)
_TOO_OLD = re.compile(r"newer version of Ollama", re.I)


class _Line(Shape):
    """Numbers are absent when they are zero."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: str = ""


@dataclass
class Layers:
    """Bytes of all layers named so far. The total grows while the server finds them."""

    sizes: dict[str, int] = field(default_factory=dict)
    have: dict[str, int] = field(default_factory=dict)

    def note(self, line: _Line) -> bool:
        """Whether this line says anything new."""
        if not line.digest:
            return False
        before = (self.sizes.get(line.digest), self.have.get(line.digest))
        self.sizes[line.digest] = max(line.total, self.sizes.get(line.digest, 0))
        self.have[line.digest] = min(line.completed, self.sizes[line.digest])
        return before != (self.sizes[line.digest], self.have[line.digest])

    @property
    def done(self) -> int:
        return sum(self.have.values())

    @property
    def total(self) -> int:
        return sum(self.sizes.values())


def is_cloud(name: str) -> bool:
    """Whether a model of that name would run on somebody else's machine."""
    return _CLOUD.search(name.strip()) is not None


async def pull(
    client: httpx.AsyncClient,
    name: str,
    *,
    on_progress: Callable[[int, int], None],
    stall_seconds: float = STALL_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Have the server fetch `name`; `on_progress` gets (bytes there, bytes in all).

    A server whose own download hangs goes on sending the same line, so a stall is the lack of news. Closing
    the connection (cancelling) ends the server's download, too. Raises EngineErrors.
    """
    if is_cloud(name):
        raise EndpointRefused("errors_pull.cloud_model", model=name)
    url = str(client.base_url).rstrip("/")
    layers, status, moved = Layers(), "", clock()
    async with aclosing(_lines(client, name, url)) as rows:
        async for line in rows:
            if line.error:
                raise _failure(line.error, name, url)
            if line.status == "success":
                on_progress(layers.total, layers.total)
                return
            if layers.note(line):
                on_progress(layers.done, layers.total)
                moved = clock()
            elif line.status != status:
                moved = clock()
            elif clock() - moved > stall_seconds:
                raise EngineFault("errors_pull.ollama_stalled", model=name, seconds=round(stall_seconds))
            status = line.status
    raise EngineFault("errors_pull.ollama_cut", model=name, url=url)


async def _lines(client: httpx.AsyncClient, name: str, url: str) -> AsyncGenerator[_Line, None]:
    """One at a time; no bound on their number, since a slow download sends them for hours."""
    content = json.dumps({"model": name, "stream": True}).encode()
    headers = {"Content-Type": "application/json"}
    async with (
        translated(url),
        client.stream("POST", "/api/pull", content=content, headers=headers) as response,
    ):
        if response.status_code != 200:
            body = await _start(response)
            said = _error_of(body)
            raise _failure(said, name, url) if said else refusal(response, body, url)
        rest = b""
        async for part in response.aiter_bytes():
            *whole, rest = (rest + part).split(b"\n")
            for raw in whole:
                if raw.strip():
                    yield _read(raw, url)
            if len(rest) > _MAX_LINE:
                raise EngineFault("engine_not_protocol", url=url)
        if rest.strip():
            yield _read(rest, url)


def _read(raw: bytes, url: str) -> _Line:
    try:
        return _Line.model_validate(json.loads(raw))
    except (ValueError, RecursionError, ValidationError) as exc:
        raise EngineFault("engine_not_protocol", url=url) from exc


async def _start(response: httpx.Response) -> bytes:
    data = b""
    async for part in response.aiter_bytes():
        data += part
        if len(data) > _MAX_REFUSAL:
            break
    return data


def _error_of(body: bytes) -> str:
    """The sentence of a refusal that is Ollama's JSON; '' for anything else."""
    try:
        return _Line.model_validate(json.loads(body)).error
    except (ValueError, RecursionError):
        return ""


def _failure(said: str, name: str, url: str) -> Exception:
    detail = said[:300]
    if _TOO_OLD.search(said):
        return EngineRejected("errors_pull.ollama_too_old", model=name)
    if _UNREACHABLE.search(said):
        return EngineFault("errors_pull.ollama_offline", model=name, detail=detail)
    if _UNKNOWN.search(said):
        return ModelMissing("errors_pull.ollama_unknown", model=name)
    return EngineFault("errors_pull.ollama_said", model=name, url=url, detail=detail)
