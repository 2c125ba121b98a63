"""What a local run may do with sockets. The rules are called as the interpreter calls an audit hook."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from review_agent.agent.errors import EndpointRefused
from review_agent.tools.tripwire import Peer, Tripwire, dialing

PEERS = (Peer("127.0.0.1", 11434), Peer("::1", 11434))
HERE = ("127.0.0.1", 11434)


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


@pytest.fixture
def unix() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        yield made


def allows(tripwire: Tripwire, event: str, *args: object) -> bool:
    try:
        tripwire(event, args)
    except EndpointRefused:
        return False
    return True


def test_a_refusal_names_what_was_tried(tcp: socket.socket) -> None:
    with pytest.raises(EndpointRefused) as caught:
        Tripwire(PEERS)("socket.connect", (tcp, ("192.0.2.1", 80)))
    assert (caught.value.key, caught.value.fields) == (
        "errors_network.not_the_engine",
        {"where": "192.0.2.1:80"},
    )


@pytest.mark.parametrize("event", ["socket.connect", "socket.sendto", "socket.sendmsg"])
@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        (HERE, True),
        (("::1", 11434, 0, 0), True),
        (("::ffff:127.0.0.1", 11434, 0, 0), True),
        (("127.0.0.1", 11435), False),
        (("127.0.0.2", 11434), False),
        (("192.0.2.1", 80), False),
        (("192.0.2.1", 11434), False),
        (("2001:db8::1", 11434, 0, 0), False),
        (("fe80::1%eth0", 11434, 0, 2), False),
        (("0.0.0.0", 11434), False),
        (("localhost", 11434), False),  # a name: who answers for it is not known here
        (("example.com", 80), False),
        (("", 11434), False),
        ((), False),
        ("/run/dbus/system_bus_socket", False),
        (b"\0abstract", False),
    ],
)
def test_where_to(event: str, address: object, allowed: bool, tcp: socket.socket) -> None:
    assert allows(Tripwire(PEERS), event, tcp, address) is allowed


@pytest.mark.parametrize("address", ["/run/dbus/system_bus_socket", b"/var/run/nscd/socket", HERE])
def test_no_connection_between_processes(address: object, unix: socket.socket) -> None:
    assert not allows(Tripwire(PEERS), "socket.connect", unix, address)


def test_what_goes_over_a_connection_was_looked_at_before(unix: socket.socket) -> None:
    assert allows(Tripwire(()), "socket.sendmsg", unix, None)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        (("127.0.0.1", 0), True), (("::1", 0, 0, 0), True), (("0.0.0.0", 0), False), (("", 0), False),
        (("192.168.1.5", 8000), False), ("/tmp/socket", False),
    ],
)  # fmt: skip
def test_where_to_listen(address: object, allowed: bool, tcp: socket.socket) -> None:
    assert allows(Tripwire(PEERS), "socket.bind", tcp, address) is allowed


@pytest.mark.parametrize(
    ("event", "host", "allowed"),
    [
        ("socket.getaddrinfo", "127.0.0.1", True),
        ("socket.getaddrinfo", b"::1", True),
        ("socket.getaddrinfo", "192.0.2.1", True),  # no question to anybody
        ("socket.getaddrinfo", None, True),
        ("socket.getaddrinfo", "gpu-box", True),
        ("socket.getaddrinfo", b"gpu-box", True),
        ("socket.getaddrinfo", "localhost", False),
        ("socket.getaddrinfo", "example.com", False),
        ("socket.getaddrinfo", b"example.com", False),
        ("socket.getaddrinfo", "gpu-box.evil.example", False),
        ("socket.gethostbyname", "example.com", False),
        ("socket.gethostbyname", "gpu-box", True),
        ("socket.gethostbyaddr", "192.0.2.1", False),
        ("socket.gethostbyaddr", "127.0.0.1", False),
        ("socket.getnameinfo", HERE, False),
    ],
)
def test_which_names_are_asked_for(event: str, host: object, allowed: bool) -> None:
    more = (80, 0, 0, 0) if event == "socket.getaddrinfo" else ()
    assert allows(Tripwire([*PEERS, Peer("gpu-box", 8000)]), event, host, *more) is allowed


@pytest.mark.parametrize(
    ("family", "by_us", "by_others"),
    [
        (socket.AF_INET, True, False), (socket.AF_INET6, True, False),
        (socket.AF_UNIX, True, True), (16, False, False), (17, False, False), (40, False, False), (-1, False, False),
    ],
    ids=["inet", "inet6", "unix", "netlink", "packet", "vsock", "of a descriptor"],
)  # fmt: skip
def test_who_makes_sockets(family: int, by_us: bool, by_others: bool) -> None:
    made = (object(), family, socket.SOCK_STREAM, 0)
    assert allows(Tripwire(PEERS), "socket.__new__", *made) is by_others
    with dialing():
        assert allows(Tripwire(PEERS), "socket.__new__", *made) is by_us
    assert allows(Tripwire(PEERS), "socket.__new__", *made) is by_others


@pytest.mark.parametrize("event", ["open", "import", "socket.gethostname", "subprocess.Popen"])
def test_other_events_are_not_its_business(event: str) -> None:
    assert allows(Tripwire(()), event, "anything")


def test_a_trusted_name_means_the_addresses_it_has(
    tcp: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"gpu-box": ["10.0.0.5"]}

    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if host not in names:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in names[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    tripwire = Tripwire([Peer("gpu-box", 8000), Peer("gone-box", 8000)])
    assert allows(tripwire, "socket.connect", tcp, ("10.0.0.5", 8000))
    assert not allows(tripwire, "socket.connect", tcp, ("10.0.0.5", 8001))
    assert not allows(tripwire, "socket.connect", tcp, ("10.0.0.6", 8000))
    names["gpu-box"] = ["10.0.0.6"]  # it moved while we run
    assert allows(tripwire, "socket.connect", tcp, ("10.0.0.6", 8000))


@pytest.mark.parametrize(
    ("host", "allowed"), [("127.0.0.1", True), ("::1", True), ("10.0.0.5", False), ("box", False)]
)
def test_only_an_engine_on_this_machine_is_admitted_later(
    host: str, allowed: bool, tcp: socket.socket
) -> None:
    tripwire = Tripwire(())
    assert not allows(tripwire, "socket.connect", tcp, (host, 5))
    if not allowed:
        with pytest.raises(EndpointRefused):
            tripwire.admit(Peer(host, 5))
    else:
        tripwire.admit(Peer(host, 5))
    assert allows(tripwire, "socket.connect", tcp, (host, 5)) is allowed


def test_a_second_run_in_one_process_has_other_peers(tcp: socket.socket) -> None:
    tripwire = Tripwire(PEERS)
    tripwire.aim([Peer("127.0.0.1", 5)])
    assert allows(tripwire, "socket.connect", tcp, ("127.0.0.1", 5))
    assert not allows(tripwire, "socket.connect", tcp, HERE)
