"""Which address is this machine, and what is sent where."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from review_agent.agent.errors import ConfigError, EndpointRefused
from review_agent.agent.models import TrustClass
from review_agent.tools.endpoints import Endpoint, listening, make_client, make_endpoint, ollama_url, peers_of
from review_agent.tools.transport import Direct
from review_agent.tools.tripwire import Peer

LOOPBACK, LAN, CLOUD = TrustClass.LOOPBACK, TrustClass.LAN, TrustClass.CLOUD


@pytest.mark.parametrize(
    ("value", "url"),
    [
        (None, "http://127.0.0.1:11434"),
        ("", "http://127.0.0.1:11434"),
        ("  ", "http://127.0.0.1:11434"),
        ("gpu-box", "http://gpu-box:11434"),
        ("gpu-box:8080", "http://gpu-box:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("[::1]", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::1", "http://[::1]:11434"),
        ("[::]:8080", "http://[::1]:8080"),
        ("::", "http://[::1]:11434"),
        ("0:0:0:0:0:0:0:0", "http://[::1]:11434"),
        ("[::ffff:0.0.0.0]:8080", "http://127.0.0.1:8080"),
        ("fd00::5", "http://[fd00::5]:11434"),
        ("[gpu-box]:8080", "http://gpu-box:8080"),
        ("http://gpu-box", "http://gpu-box:80"),
        ("https://gpu-box", "https://gpu-box:443"),
        ("HTTPS://gpu-box", "https://gpu-box:11434"),  # Go looks for a small `https`
        ("http://", "http://127.0.0.1:80"),
        ("https://:8443", "https://127.0.0.1:8443"),
        ("ollama.com", "https://ollama.com:443"),
        ("ollama.com:80", "http://ollama.com:80"),
        ("http://gpu-box:8080", "http://gpu-box:8080"),
        ("http://gpu-box:8080/", "http://gpu-box:8080"),
        ("https://gpu-box/ollama/", "https://gpu-box:443/ollama"),
        ("gpu-box:8080/a/b", "http://gpu-box:8080/a/b"),
        ("gpu-box/", "http://gpu-box:11434"),
        ("/a", "http://127.0.0.1:11434/a"),
        ("http://gpu-box//a//", "http://gpu-box:80/a"),
        ("http://0.0.0.0", "http://127.0.0.1:80"),
        ("http://[::1]", "http://[::1]:80"),
        (' "gpu-box:8080" ', "http://gpu-box:8080"),
        ("'http://gpu-box:8080'", "http://gpu-box:8080"),
        ("\" 'gpu-box' \"", "http://'gpu-box':11434"),  # trimmed once
        ("\"'gpu-box'\"", "http://gpu-box:11434"),
        ("gpu-box:port", "http://gpu-box:11434"),
        ("gpu-box:99999", "http://gpu-box:11434"),
        ("gpu-box:65535", "http://gpu-box:65535"),
        ("gpu-box:65536", "http://gpu-box:11434"),
        ("gpu-box:99999999999999999999", "http://gpu-box:11434"),
        ("gpu-box:0", "http://gpu-box:0"),
        ("gpu-box:080", "http://gpu-box:80"),
        ("gpu-box:", "http://gpu-box:11434"),
        ("gpu-box:-1", "http://gpu-box:11434"),
        ("gpu-box:+80", "http://gpu-box:11434"),
        ("[::1]:port", "http://[::1]:11434"),
        ("https://gpu-box:port", "https://gpu-box:443"),
        ("http://gpu-box:x", "http://gpu-box:80"),
        ("gpu-box:８０", "http://gpu-box:11434"),
    ],
)
def test_what_ollama_host_means(value: str | None, url: str) -> None:
    assert ollama_url(value) == url


@pytest.mark.parametrize(
    ("value", "trust"),
    [
        (None, LOOPBACK),
        ("0.0.0.0", LOOPBACK),
        ("[::]:8080", LOOPBACK),
        (":8080", LOOPBACK),
        ("/a", LOOPBACK),
        ("gpu-box", LAN),
        ("ollama.com", CLOUD),
        # what has no meaning, or a zone, is named as it stands
        ("fe80::1%eth0", None),
        ("[fe80::1%eth0]:8080", None),
        ("[::1]8080", None),
        ("gpu-box:1:2", None),
        ("user@gpu-box", None),
        ("gpu box", None),
        ("ftp://gpu-box", None),
        ("://gpu-box", None),
    ],
)
def test_where_ollama_host_leads(value: str | None, trust: TrustClass | None) -> None:
    if trust is None:
        with pytest.raises(ConfigError, match="bad_url"):
            make_endpoint(ollama_url(value), ["gpu-box"])
    else:
        assert make_endpoint(ollama_url(value), ["gpu-box"]).trust is trust


@pytest.mark.parametrize(
    ("url", "trust"),
    [
        ("http://127.0.0.1:11434", LOOPBACK),
        ("http://127.0.0.1", LOOPBACK),
        ("https://127.8.9.10/x", LOOPBACK),
        ("http://localhost:1234/v1", LOOPBACK),
        ("http://LOCALHOST", LOOPBACK),
        ("http://[::1]:8080", LOOPBACK),
        ("http://[0:0:0:0:0:0:0:1]", LOOPBACK),
        ("http://[::ffff:127.0.0.1]", LOOPBACK),
        ("http://gpu-box:8000", LAN),
        ("http://GPU-Box:9000", LAN),
        ("http://10.0.0.5:8000", LAN),
        ("http://10.0.0.5:8001", CLOUD),
        ("http://[fd00::5]", LAN),
        # not this machine, however it looks
        ("https://api.example.com", CLOUD),
        ("http://localhost.evil.example", CLOUD),
        ("http://evil.localhost", CLOUD),
        ("http://localhost.", CLOUD),
        ("http://127.0.0.1.", CLOUD),
        ("http://127.0.0.1.evil.example", CLOUD),
        ("http://127-0-0-1.evil.example", CLOUD),
        ("http://127.0.0.1.nip.io", CLOUD),
        ("http://2130706433", CLOUD),
        ("http://0x7f000001", CLOUD),
        ("http://0177.0.0.1", CLOUD),
        ("http://127.1", CLOUD),
        ("http://0.0.0.0", CLOUD),
        ("http://[::]", CLOUD),
        ("http://[::ffff:8.8.8.8]", CLOUD),
        ("http://128.0.0.1", CLOUD),
        ("http://192.168.0.1", CLOUD),
        ("http://169.254.169.254", CLOUD),
        ("http://1２7.0.0.1", CLOUD),
        ("http://xn--localhost-9f0e", CLOUD),
        ("http://gpu-box.evil.example", CLOUD),
    ],
)
def test_how_far_a_server_is_trusted(url: str, trust: TrustClass) -> None:
    assert make_endpoint(url, ["gpu-box", "10.0.0.5:8000", " FD00::5 "]).trust is trust


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:11434",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "http://127.0.0.1@evil.example",
        "http://127.0.0.1:80@evil.example",
        "http://@evil.example",
        "http://:secret@127.0.0.1",
        "http://evil.example\\@127.0.0.1",
        "http://evil.example#@127.0.0.1",
        "http://evil.example?@127.0.0.1",
        "http://127.0.0.1#x",
        "http://127.0.0.1/?x=1",
        "http://127.0.0.1\\.evil.example",
        "http://127.0.0.1\t.evil.example",
        "http://127.0.0.1\n.evil.example",
        "http://local\nhost",
        "http://127.0.0.1 .evil.example",
        "http://127.0.0.1%2eevil.example",
        "http://[::1%25eth0]",
        "http://[::1",
        "http://[localhost]",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:x",
        "http://evil.example\u2100@127.0.0.1",
    ],
)
def test_addresses_that_can_be_read_in_two_ways_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="bad_url"):
        make_endpoint(url, ["evil.example"])


@given(st.text("localhost127.0:[]@/\\#?%\t evil:é", max_size=40))
def test_what_we_judge_is_what_the_client_connects_to(rest: str) -> None:
    try:
        endpoint = make_endpoint(f"http://{rest}")
    except ConfigError:
        return
    if endpoint.trust is LOOPBACK:
        host = httpx.URL(endpoint.url).host
        assert host == "localhost" or ipaddress.ip_address(host).is_loopback


def test_an_address_without_its_last_slash() -> None:
    endpoint = make_endpoint(" http://127.0.0.1:1234/v1/ ")
    assert endpoint == Endpoint("http://127.0.0.1:1234/v1", LOOPBACK)
    assert endpoint.host == "127.0.0.1:1234"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:1", "https://gpu-box:1"])
def test_proxies_of_the_environment_are_not_for_engines(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    client = make_client(make_endpoint(url, ["gpu-box"]), stall_seconds=600)
    assert client.trust_env is False
    assert not client._mounts
    assert isinstance(client._transport, Direct)


@pytest.mark.parametrize(
    "url", ["https://api.anthropic.com", "http://192.168.1.5:11434", "http://x.localhost:1"]
)
def test_there_is_no_client_for_a_cloud_endpoint(url: str) -> None:
    with pytest.raises(EndpointRefused, match="endpoint_not_local"):
        make_client(make_endpoint(url, ["gpu-box"]), stall_seconds=600)


@pytest.mark.parametrize(
    ("url", "port", "dialled"),
    [
        ("http://127.0.0.1:11434", 11434, ("127.0.0.1",)),
        ("http://127.0.0.1", 80, ("127.0.0.1",)),
        ("https://[::1]/v1", 443, ("::1",)),
        ("http://localhost:1234/v1", 1234, ("127.0.0.1", "::1")),
        ("http://LOCALHOST", 80, ("127.0.0.1", "::1")),
        ("http://gpu-box:8000", 8000, ("gpu-box",)),
        ("http://显卡:8000", 8000, ("xn--hlrv25b",)),
    ],
)
def test_what_is_dialled(url: str, port: int, dialled: tuple[str, ...]) -> None:
    endpoint = make_endpoint(url, ["gpu-box", "显卡"])
    assert (endpoint.port, endpoint.dialled) == (port, dialled)


AT_HOME, BOX, FAR = (
    make_endpoint(url, ["box"]) for url in ("http://127.0.0.1:1", "http://box:2", "https://c")
)
HERE, THERE = {Peer("127.0.0.1", 1)}, {Peer("c", 443)}
PROXY = Peer("proxy", 3128)


@pytest.mark.parametrize(
    ("endpoints", "cloud", "proxy", "peers"),
    [
        ((AT_HOME, BOX), None, None, HERE | {Peer("box", 2)}),
        ((AT_HOME, FAR), None, None, HERE),
        ((AT_HOME, FAR), None, PROXY, HERE),
        ((FAR,), None, None, set()),
        ((AT_HOME,), FAR, None, HERE | THERE),
        ((), FAR, PROXY, {PROXY}),
        ((BOX,), AT_HOME, None, HERE | {Peer("box", 2)}),
    ],
)
def test_where_a_confined_process_may_connect_to(
    endpoints: tuple[Endpoint, ...], cloud: Endpoint | None, proxy: Peer | None, peers: set[Peer]
) -> None:
    assert peers_of(endpoints, cloud, proxy) == peers


def test_the_client_waits_long_connects_soon_and_follows_nobody() -> None:
    client = make_client(make_endpoint("http://127.0.0.1:1"), stall_seconds=600, api_key="k")
    assert (client.timeout.read, client.timeout.connect) == (600, 5.0)
    assert client.follow_redirects is False
    assert client.headers["Authorization"] == "Bearer k"
    assert "Authorization" not in make_client(make_endpoint("http://127.0.0.1:1"), stall_seconds=1).headers


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_whether_something_listens(host: str, no_resolver: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = make_endpoint(f"http://{host}:{server.getsockname()[1]}")
        assert listening(endpoint)
    assert not listening(endpoint)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_localhost_is_this_machine_without_a_resolver(address: str, no_resolver: None) -> None:
    peers: list[str] = []
    answering: list[asyncio.Task[None] | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.append(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                peers.append(writer.get_extra_info("sockname")[0])
                host = re.search(rb"(?im)^host: (.*?)\r", head)
                body = host[1] if host else b""
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        finally:
            writer.close()
            await writer.wait_closed()

    if address == "::1" and not ipv6_here():
        pytest.skip("this machine has no IPv6 loopback address")
    async with await asyncio.start_server(answer, address, 0) as server:
        port = server.sockets[0].getsockname()[1]
        endpoint = make_endpoint(f"http://localhost:{port}")
        assert listening(endpoint)
        async with make_client(endpoint, stall_seconds=5) as client:
            said = [(await client.get("/")).text for _ in range(2)]
        ended = await asyncio.gather(*filter(None, answering), return_exceptions=True)
    assert all(isinstance(end, asyncio.IncompleteReadError) for end in ended)  # we hung up
    assert said == [f"localhost:{port}"] * 2  # the name that the user wrote
    assert peers == [address] * 2


def ipv6_here() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.fixture
def no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names mean an address that nobody has; addresses mean themselves."""
    real = socket.getaddrinfo

    def lying(host: str | bytes | None, *args: Any, **kwargs: Any) -> Any:
        text = host.decode() if isinstance(host, bytes) else host or ""
        return real("192.0.2.1" if text.strip("0123456789.:abcdef") else text, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", lying)
