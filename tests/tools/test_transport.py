"""A client of an endpoint talks to that endpoint's origin, however a request came about."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from review_agent.agent.errors import EndpointRefused, EngineRejected
from review_agent.tools.endpoints import make_client, make_endpoint
from review_agent.tools.transport import Direct

NAME = "http://localhost:11434/v1"


def client_of(
    answer: Callable[[httpx.Request], httpx.Response],
    url: str = NAME,
    hosts: tuple[str, ...] = ("127.0.0.1", "::1"),
) -> httpx.AsyncClient:
    inner = httpx.MockTransport(answer)
    return httpx.AsyncClient(base_url=url, transport=Direct(inner, url, hosts), trust_env=False)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("/models", True),
        ("http://localhost:11434/api/v0/models", True),
        ("http://LOCALHOST:11434/", True),
        ("http://localhost:11435/", False),
        ("http://localhost/", False),
        ("https://localhost:11434/", False),
        ("http://127.0.0.1:11434/", False),  # the same machine, and not what was asked for
        ("http://localhost.evil.example:11434/", False),
        ("http://localhost:11434@evil.example/", False),
        ("http://192.0.2.1:11434/", False),
    ],
)
async def test_only_its_own_origin(url: str, allowed: bool) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    async with client_of(answer) as client:
        if allowed:
            assert (await client.get(url)).status_code == 200
        else:
            with pytest.raises(EndpointRefused, match="other_origin"):
                await client.get(url)
    assert bool(seen) is allowed


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("http://127.0.0.1", "http://127.0.0.1:80/x"),
        ("https://gpu-box/a", "https://gpu-box:443/a/b"),
        ("HTTP://Gpu-Box:8080/", "http://gpu-box:8080/x"),
    ],
)
async def test_an_origin_may_be_written_in_several_ways(url: str, same: str) -> None:
    async with client_of(lambda _: httpx.Response(200), url, ("h",)) as client:
        assert (await client.get(same)).status_code == 200


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("follow", [True, False])
async def test_not_even_a_caller_who_wants_it_is_redirected(status: int, follow: bool) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.host)
        return httpx.Response(status, headers={"Location": "http://127.0.0.1:9/x?y"})

    async with client_of(answer) as client:
        with pytest.raises(EngineRejected) as caught:
            await client.post("/chat", json={}, follow_redirects=follow)
    assert seen == ["127.0.0.1"]
    assert caught.value.fields == {"url": NAME, "status": status, "target": "127.0.0.1:9"}


async def test_addresses_are_dialled_in_turn_and_the_one_that_answers_is_kept() -> None:
    seen: list[tuple[str, str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, request.headers["Host"], request.extensions["sni_hostname"]))
        if request.url.host == "127.0.0.1":
            raise httpx.ConnectError("nobody")
        return httpx.Response(200, content=request.content)

    async with client_of(answer) as client:
        said = [(await client.post("/x", content=b"code")).content for _ in range(2)]
    assert said == [b"code", b"code"]
    assert seen == [(host, "localhost:11434", "localhost") for host in ("127.0.0.1", "::1", "::1")]


async def test_when_no_address_answers() -> None:
    def nobody(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody")

    async with client_of(nobody) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/")


async def test_what_broke_is_not_sent_again() -> None:
    seen: list[str] = []

    def broken(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.host)
        raise httpx.ReadError("cut")

    async with client_of(broken) as client:
        with pytest.raises(httpx.ReadError):
            await client.get("/")
    assert seen == ["127.0.0.1"]


async def test_a_refusal_from_within_a_group_of_tasks_is_told_as_it_is() -> None:
    def refused(_: httpx.Request) -> httpx.Response:
        refusal = EndpointRefused("errors_network.not_the_engine", where="192.0.2.1:80")
        raise ExceptionGroup("tasks", [ExceptionGroup("tasks", [refusal]), ValueError("another")])

    async with client_of(refused, hosts=("gpu-box",)) as client:
        with pytest.raises(EndpointRefused, match="not_the_engine"):
            await client.get("/")


async def test_closing_a_client_closes_its_connections() -> None:
    closed: list[bool] = []

    class Inner(httpx.AsyncBaseTransport):
        async def aclose(self) -> None:
            closed.append(True)

    async with httpx.AsyncClient(transport=Direct(Inner(), NAME, ("::1",))):
        pass
    assert closed == [True]


async def test_a_client_of_ours_is_bound_to_its_endpoint() -> None:
    async with make_client(make_endpoint("http://127.0.0.1:1"), stall_seconds=1) as client:
        with pytest.raises(EndpointRefused, match="other_origin"):
            await client.get("http://127.0.0.1:2/", follow_redirects=True)
