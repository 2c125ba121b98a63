"""What the HTTP backends share: bounded streaming, and foreign failures turned into ours."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

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
_TOO_LONG = ("exceed", "context length", "context_length", "too long", "context size", "maximum context")


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
    async with translated(url), client.stream(method, path, json=body) as response:
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


async def lines(client: httpx.AsyncClient, path: str, body: dict[str, object]) -> AsyncIterator[bytes]:
    """Lines of a streamed POST, each bounded. Raises the EngineError of a refusal."""
    url = str(client.base_url)
    content = json.dumps(body, ensure_ascii=True).encode()
    headers = {"Content-Type": "application/json"}
    async with translated(url), client.stream("POST", path, content=content, headers=headers) as response:
        if response.status_code != 200:
            raise refusal(response, await _start(response), url)
        if "text/html" in response.headers.get("content-type", ""):
            raise EngineFault("engine_not_protocol", url=url)
        rest = bytearray()
        async for part in response.aiter_bytes():
            rest += part
            *whole, tail = bytes(rest).split(b"\n")
            for line in whole:
                if line.strip():
                    yield line.strip()
            rest = bytearray(tail)
            if len(rest) > MAX_LINE_BYTES:
                raise EngineFault("engine_not_protocol", url=url)
        if rest.strip():
            yield bytes(rest).strip()


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
        return EngineBusy("engine_busy", retry_after=_seconds(response.headers.get("retry-after")), url=url)
    if status == 404:
        return ModelMissing("model_or_path_missing", url=url, detail=said)
    if 300 <= status < 400:
        return EngineRejected("engine_redirects", url=url, status=status)
    if status >= 500:
        return EngineFault("engine_status", url=url, status=status, detail=said)
    if any(mark in said.lower() for mark in _TOO_LONG):
        return PromptTooLong("prompt_too_long", url=url, detail=said)
    if status in (401, 403):
        return EngineRejected("engine_unauthorized", url=url, status=status)
    return EngineRejected("engine_status", url=url, status=status, detail=said)


def _said(body: bytes) -> str:
    """The server's own error sentence, shortened; '' when there is none in a known form."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    error = data.get("error") if isinstance(data, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return error[:300] if isinstance(error, str) else ""


def _seconds(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return None
