"""In a local run this process reaches its engine and nothing else, whatever part of it tries.

An audit hook (https://peps.python.org/pep-0578/) sees each socket that Python makes before the system does,
and refuses all that `tools.endpoints` did not ask for. It holds until the process ends.

It is for mistakes, ours and those of libraries. It does not see what native code does by itself, nor other
programs: docs/local-only.md shows how to look at those from outside.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from review_agent.agent.errors import EndpointRefused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_DIALING: ContextVar[bool] = ContextVar("dialing", default=False)


@dataclass(frozen=True, slots=True)
class Peer:
    """Where connections may go. `host` is an address, or a name that the user's configuration trusts."""

    host: str
    port: int


def address_of(host: object) -> Address | None:
    """The address that a text holds; an IPv4 address may be written within an IPv6 one."""
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(host: object) -> bool:
    address = address_of(host)
    return address is not None and address.is_loopback


@contextmanager
def dialing() -> Iterator[None]:
    """Within it, this task may make sockets. For `tools.endpoints` and its transport only."""
    token = _DIALING.set(True)
    try:
        yield
    finally:
        _DIALING.reset(token)


class Tripwire:
    """The rules, as an audit hook. Raises EndpointRefused for what is against them."""

    def __init__(self, peers: Iterable[Peer]) -> None:
        self._peers = frozenset(peers)
        self._resolved: frozenset[tuple[Address, int]] = frozenset()  # what the names among them meant
        self._checks: Mapping[str, Callable[..., None]] = {
            "socket.__new__": self._make,
            "socket.connect": self._send,
            "socket.sendto": self._send,
            "socket.sendmsg": self._send,
            "socket.bind": self._bind,
            "socket.getaddrinfo": self._resolve,
            "socket.gethostbyname": self._resolve,
            "socket.gethostbyaddr": self._ask,
            "socket.getnameinfo": self._ask,
        }

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        check = self._checks.get(event)  # nothing more for the many events that are no socket's
        if check is not None:
            check(*args)

    def aim(self, peers: Iterable[Peer]) -> None:
        """Other peers from now on."""
        self._peers, self._resolved = frozenset(peers), frozenset()

    def admit(self, peer: Peer) -> None:
        """One more address, of an engine that we started ourselves: on this machine only."""
        if not is_loopback(peer.host):
            raise _refused(peer.host)
        self._peers |= {peer}

    def _make(self, _sock: object, family: int, _type: int, _protocol: int) -> None:
        """Not by our clients, not at all: `connect` would look a name up before anybody could ask us."""
        if family != socket.AF_UNIX and not (family in _INTERNET and _DIALING.get()):
            raise _refused(f"socket {int(family)}")

    def _send(self, sock: socket.socket, address: object) -> None:
        if address is None:  # over a connection, which was looked at before
            return
        if sock.family not in _INTERNET or not self._knows(address):
            raise _refused(_shown(address))

    def _bind(self, sock: socket.socket, address: object) -> None:
        if sock.family not in _INTERNET or not is_loopback(_host(address)):
            raise _refused(_shown(address))

    def _resolve(self, host: object, *_: object) -> None:
        """Names of peers only. An address needs no resolver, and connecting to it is looked at later."""
        text = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if text is not None and address_of(text) is None and text not in {peer.host for peer in self._peers}:
            raise _refused(str(text))

    def _ask(self, address: object) -> None:
        """The name of an address: a question to the resolver that nothing here needs an answer to."""
        raise _refused(_shown(address))

    def _knows(self, address: object) -> bool:
        if not isinstance(address, tuple) or len(address) < 2:
            return False
        at, port = address_of(address[0]), address[1]
        if at is None:
            return False
        if any(address_of(peer.host) == at and peer.port == port for peer in self._peers):
            return True
        if (at, port) not in self._resolved:  # a name may get other addresses while we run
            self._resolved |= {found for peer in self._peers for found in _addresses(peer)}
        return (at, port) in self._resolved


_armed: list[Tripwire] = []


def arm(peers: Iterable[Peer]) -> None:
    """From now on this process reaches `peers` only. A second call names others; there is no way back."""
    if _armed:
        _armed[0].aim(peers)
        return
    _armed.append(Tripwire(peers))
    sys.addaudithook(_armed[0])


def admit(peer: Peer) -> None:
    """Let an armed tripwire know of an engine that this process started."""
    for tripwire in _armed:
        tripwire.admit(peer)


def _addresses(peer: Peer) -> Iterator[tuple[Address, int]]:
    if address_of(peer.host) is not None:
        return
    try:
        found = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
    except OSError:
        return
    for *_, address in found:
        if (at := address_of(address[0])) is not None:
            yield at, peer.port


def _host(address: object) -> object:
    return address[0] if isinstance(address, tuple) and address else address


def _shown(address: object) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        return f"{address[0]}:{address[1]}"
    return address.decode("utf-8", "replace") if isinstance(address, bytes) else str(address)


def _refused(where: str) -> EndpointRefused:
    return EndpointRefused("errors_network.not_the_engine", where=where)
