"""A client of the cloud talks to its one origin, through the one proxy it was given, and reads no end of nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from review_agent.agent.errors import ConfigError, EndpointRefused, EngineFault, EngineRejected
from review_agent.tools.cloud_transport import MOST_BYTES, CloudDirect
from review_agent.tools.endpoints import make_cloud_client, make_endpoint

URL = "http://localhost:1"


def client_of(answer: httpx2.Response) -> httpx2.AsyncClient:
    inner = httpx2.MockTransport(lambda _: answer)
    return httpx2.AsyncClient(
        base_url=URL, transport=CloudDirect(inner, URL, ("127.0.0.1",)), trust_env=False
    )


@pytest.mark.parametrize(
    "url", ["http://localhost:2/", "https://localhost:1/", "http://192.0.2.1/", "http://127.0.0.1:1/"]
)
async def test_only_its_own_origin(url: str) -> None:
    async with client_of(httpx2.Response(200)) as client:
        assert (await client.get("/v1/messages")).status_code == 200
        with pytest.raises(EndpointRefused, match="other_origin"):
            await client.get(url)


async def test_nobody_is_redirected() -> None:
    async with client_of(httpx2.Response(308, headers={"Location": "https://evil.example/x"})) as client:
        with pytest.raises(EngineRejected) as caught:
            await client.post("/", follow_redirects=True)
    assert caught.value.fields["target"] == "evil.example"


class Parts(httpx2.AsyncByteStream):
    def __init__(self, part: bytes, times: int) -> None:
        self.part, self.times = part, times

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.times):
            yield self.part


@pytest.mark.parametrize(
    ("part", "times", "whole"),
    [
        (b"data: x\n\n", 5000, True),
        (b"data: x\r\n\r\n", 5000, True),
        (b"data: x\r\r", 5000, True),
        (b"\n", 5000, True),  # gaps that come in pieces
        (b"a" * 1024, 1000, True),
        (b"a" * 1024, 1025, False),  # one event, and too long
        (b"a", 2001, False),  # one event in too many pieces
        (b"a\n" * 100, 30, False),
        (b"a" * 1023 + b"\n\n", MOST_BYTES // 1025, True),
        (b"a" * 1023 + b"\n\n", MOST_BYTES // 1025 + 1, False),
    ],
)
async def test_the_bounds_of_an_answer(part: bytes, times: int, whole: bool) -> None:
    async with client_of(httpx2.Response(200, stream=Parts(part, times))) as client:
        if whole:
            assert len((await client.get("/")).content) == len(part) * times
        else:
            with pytest.raises(EngineFault, match="engine_not_protocol"):
                await client.get("/")


async def test_the_proxy_is_asked_and_the_environment_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        here = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://192.0.2.1:9")
        cloud = make_endpoint("http://api.example.com")
        async with make_cloud_client(cloud, stall_seconds=5, proxy=f"http://{here}") as client:
            await client.get("/v1/models")
        async with make_cloud_client(make_endpoint(f"http://{here}"), stall_seconds=5) as client:
            await client.get("/v1/models")
    assert [head.split(b"\r\n")[0] for head in heads] == [
        b"GET http://api.example.com/v1/models HTTP/1.1",
        b"GET /v1/models HTTP/1.1",
    ]


def test_a_proxy_that_needs_another_package() -> None:
    with pytest.raises(ConfigError, match="proxy_unusable"):
        make_cloud_client(
            make_endpoint("https://api.example.com"), stall_seconds=5, proxy="socks4://127.0.0.1:1"
        )


def test_certificates_are_checked_against_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/ca.pem")
    with pytest.raises(ConfigError, match="certificates"):
        make_cloud_client(make_endpoint("https://api.example.com"), stall_seconds=5)
