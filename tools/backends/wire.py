"""What the HTTP backends share: bounded streaming, and foreign failures turned into ours."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, model_validator

from review_agent.agent.errors import (
    EngineBusy,
    EngineFault,
    EngineRejected,
    ModelMissing,
    ModelUnavailable,
    PromptTooLong,
)

MAX_LINE_BYTES = 8 * 1024 * 1024
MAX_BODY_BYTES = 32 * 1024 * 1024
_TOO_LONG = re.compile(
    r"context[ _](length|size|window)|maximum (context|model length)|too long"
    r"|(token|prompt|input).*exceed|exceed.*(token|prompt)",
    re.I | re.S,
)


class Shape(BaseModel):
    """What a server sent, as far as we use it. Go and others write `null` for what is absent."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, data: object) -> object:
        if isinstance(data, dict):
            return {name: value for name, value in data.items() if value is not None}
        return data


@asynccontextmanager
async def translated(url: str) -> AsyncIterator[None]:
    """Foreign HTTP failures as EngineErrors."""
    try:
        yield
    except httpx.ConnectError as exc:
        raise ModelUnavailable("engine_unavailable", url=url) from exc
    except httpx.ConnectTimeout as exc:
        raise ModelUnavailable("engine_unavailable", url=url) from exc
    except httpx.TimeoutException as exc:
        raise EngineFault("engine_stalled", url=url) from exc
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as exc:
        raise EngineFault("engine_broken_stream", url=url, detail=type(exc).__name__) from exc


async def get_json(client: httpx.AsyncClient, path: str) -> Any:
    return await _json(client, "GET", path, None)


async def post_json(client: httpx.AsyncClient, path: str, body: dict[str, object]) -> Any:
    return await _json(client, "POST", path, body)


async def _json(client: httpx.AsyncClient, method: str, path: str, body: dict[str, object] | None) -> Any:
    url = str(client.base_url)
    # Not httpx's own `json=`: it cannot encode lone surrogates, and a model name may hold some.
    content = json.dumps(body).encode() if body is not None else None
    headers = {"Content-Type": "application/json"} if body is not None else {}
    request = client.stream(method, path, content=content, headers=headers)
    async with translated(url), request as response:
        data = bytearray()
        async for part in response.aiter_bytes():
            data += part
            if len(data) > MAX_BODY_BYTES:
                raise EngineFault("engine_not_protocol", url=url)
        if response.status_code != 200:
            raise refusal(response, bytes(data), url)
    try:
        return json.loads(bytes(data))
    except (ValueError, RecursionError) as exc:
        raise EngineFault("engine_not_protocol", url=url) from exc


async def lines(client: httpx.AsyncClient, path: str, body: dict[str, object]) -> AsyncGenerator[bytes, None]:
    """Lines of a streamed POST, each bounded as well as all. Raises the EngineError of a refusal.

    Whoever stops early must close it: that ends the request.
    """
    url = str(client.base_url)
    content = json.dumps(body, ensure_ascii=True).encode()
    headers = {"Content-Type": "application/json"}
    async with translated(url), client.stream("POST", path, content=content, headers=headers) as response:
        if response.status_code != 200:
            raise refusal(response, await _start(response), url)
        if "text/html" in response.headers.get("content-type", ""):
            raise EngineFault("engine_not_protocol", url=url)
        rest = bytearray()
        total = 0
        async for part in response.aiter_bytes():
            total += len(part)
            first, *others = part.split(b"\n")
            rest += first
            for other in others:
                if line := bytes(rest).strip():
                    yield line
                rest = bytearray(other)
            if len(rest) > MAX_LINE_BYTES or total > MAX_BODY_BYTES:
                raise EngineFault("engine_not_protocol", url=url)
        if line := bytes(rest).strip():
            yield line


async def _start(response: httpx.Response) -> bytes:
    data = bytearray()
    async for part in response.aiter_bytes():
        data += part
        if len(data) > 65536:
            break
    return bytes(data)


def refusal(response: httpx.Response, body: bytes, url: str) -> Exception:
    """The EngineError that a status code other than 200 means."""
    status, said = response.status_code, _said(body)
    if status in (429, 503):
        return EngineBusy("engine_busy", retry_after=seconds(response.headers.get("retry-after")), url=url)
    if status == 404:
        return ModelMissing("model_or_path_missing", url=url, detail=said)
    if status >= 500:
        return EngineFault("engine_status", url=url, status=status, detail=said)
    if is_too_long(said):
        return PromptTooLong("prompt_too_long", url=url, detail=said)
    key = "engine_unauthorized" if status in (401, 403) else "engine_status"
    return EngineRejected(key, url=url, status=status, detail=said)


def check_whole(read: int, estimate: int) -> None:
    """A server may cut a prompt in silence: it then read far fewer tokens than we sent. 0 read = not told.

    Our estimate is 0.7 to 1.5 times what SmolLM2 counts, and up to 2.5 times for larger vocabularies, so only
    a count below a quarter of it proves a cut.
    """
    if read and read * 4 < estimate:
        raise PromptTooLong("prompt_was_cut", sent=estimate, read=read)


def is_too_long(said: str) -> bool:
    """Whether a server's sentence says that the prompt does not fit; "context deadline exceeded" does not."""
    return _TOO_LONG.search(said) is not None


def _said(body: bytes) -> str:
    """The server's own error sentence, shortened; '' when there is none in a known form."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(data, dict):
        return ""
    error = (
        data.get("error") or data.get("message") or data.get("detail")
    )  # the latter two: older vLLM, FastAPI
    if isinstance(error, dict):
        error = error.get("message")
    return error[:300] if isinstance(error, str) else ""


def seconds(value: str | None) -> float | None:
    """What a `Retry-After` header asks for; None where it names no number."""
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return None
