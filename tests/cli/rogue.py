"""Tries to reach what a run may not reach, and prints what became of each try as one JSON object.

python rogue.py ENGINE_PORT OTHER_PORT armed|free
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import urllib.request
from collections.abc import Callable

import httpx

from review_agent.tools.endpoints import confine, make_client, make_endpoint

FAR = ("192.0.2.1", 80)


def tcp() -> socket.socket:
    made = socket.socket()
    made.settimeout(1)
    return made


def udp(family: int = socket.AF_INET) -> socket.socket:
    return socket.socket(family, socket.SOCK_DGRAM)


async def by_client(url: str) -> None:
    async with make_client(make_endpoint(url), stall_seconds=1) as client:
        await client.get("/")


async def by_httpx(url: str) -> None:
    async with httpx.AsyncClient(timeout=1) as client:
        await client.get(url)


def tries(other: int) -> dict[str, Callable[[], object]]:
    near, url = ("127.0.0.1", other), f"http://127.0.0.1:{other}/"
    return {
        "create_connection": lambda: socket.create_connection(FAR, 1),
        "connect": lambda: tcp().connect(FAR),
        "connect_ex": lambda: tcp().connect_ex(FAR),
        "connect by name": lambda: tcp().connect(("example.com", 80)),
        "connect to ipv6": lambda: socket.socket(socket.AF_INET6).connect(("2001:db8::1", 80)),
        "other port": lambda: socket.create_connection(near, 1),
        "sendto": lambda: udp().sendto(b"x", FAR),
        "sendmsg": lambda: udp().sendmsg([b"x"], (), 0, FAR),
        "sendto here": lambda: udp().sendto(b"x", near),
        "getaddrinfo": lambda: socket.getaddrinfo("example.com", 80),
        "localhost": lambda: socket.getaddrinfo("localhost", 80),
        "gethostbyname": lambda: socket.gethostbyname("example.com"),
        "gethostbyaddr": lambda: socket.gethostbyaddr("192.0.2.1"),
        "unix": lambda: socket.socket(socket.AF_UNIX).connect("/var/run/nscd/socket"),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "bind": lambda: tcp().bind(("0.0.0.0", 0)),
        "asyncio": lambda: asyncio.run(asyncio.wait_for(asyncio.open_connection(*FAR), 1)),
        "urllib": lambda: urllib.request.urlopen(url, timeout=1),
        "httpx": lambda: httpx.get(url, timeout=1),
        "async httpx": lambda: asyncio.run(by_httpx(url)),
        "async httpx, far": lambda: asyncio.run(by_httpx("http://192.0.2.1/")),
        "client of another endpoint": lambda: asyncio.run(by_client(url)),
    }


def outcome(action: Callable[[], object]) -> str:
    try:
        action()
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is the answer
        while isinstance(exc, ExceptionGroup):  # httpx dials in tasks
            exc = exc.exceptions[0]
        return type(exc).__name__
    return "done"


def main() -> None:
    engine, other, how = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    url = f"http://127.0.0.1:{engine}"
    if how == "armed":
        confine([make_endpoint(url)])
    said = {name: outcome(action) for name, action in tries(other).items()}
    said["the engine"] = outcome(lambda: asyncio.run(by_client(url)))
    print(json.dumps(said))


if __name__ == "__main__":
    main()
