"""Endpoints and how far each is trusted; the only place where HTTP clients are made."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from review_agent.agent.errors import ConfigError
from review_agent.agent.models import TrustClass

if TYPE_CHECKING:
    import httpx

OLLAMA_PORT = 11434
# What parsers read differently (we would judge one host and connect to another), or what no base URL has.
_UNWANTED = re.compile(r"[\s\x00-\x1f\x7f\\@?#%]")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's address. `url` has no trailing slash."""

    url: str
    trust: TrustClass

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc.rpartition("@")[2]


def make_endpoint(url: str, allowed_hosts: Sequence[str] = ()) -> Endpoint:
    """The endpoint of a URL. Raises ConfigError for what is not http(s)://host."""
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise ConfigError("bad_url", url=url) from exc
    if parts.scheme not in ("http", "https") or not host or _UNWANTED.search(url.strip()):
        raise ConfigError("bad_url", url=url)
    return Endpoint(url.strip().rstrip("/"), _trust(host, parts.netloc, allowed_hosts))


def _trust(host: str, netloc: str, allowed_hosts: Sequence[str]) -> TrustClass:
    if host == "localhost":  # not `x.localhost`: some resolvers ask the network for it
        return TrustClass.LOOPBACK
    try:
        address = ipaddress.ip_address(host)
        if (getattr(address, "ipv4_mapped", None) or address).is_loopback:
            return TrustClass.LOOPBACK
    except ValueError:
        pass  # a name: trusted only when the user listed it
    listed = {entry.strip().lower() for entry in allowed_hosts}
    return TrustClass.LAN if host.lower() in listed or netloc.lower() in listed else TrustClass.CLOUD


def ollama_url(value: str | None) -> str:
    """The URL that an `OLLAMA_HOST` value means to Ollama's own client.

    `host`, `host:port`, `:port`, `[v6]:port`, `http(s)://host[:port][/path]`; port 11434 only without a
    scheme; the bind addresses 0.0.0.0 and :: mean this machine. Source: ollama/ollama envconfig/config.go.
    """
    text = (value or "").strip().strip("\"'").strip()
    if not text:
        return f"http://127.0.0.1:{OLLAMA_PORT}"
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest, default = "http", text, OLLAMA_PORT
    else:
        scheme = scheme.lower()
        default = 443 if scheme == "https" else 80
    hostport, _, path = rest.partition("/")
    host, port = _split_port(hostport, default)
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - recognised, not bound
        host = "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}{'/' + path.rstrip('/') if path.strip('/') else ''}"


def _split_port(text: str, default: int) -> tuple[str, int]:
    if text.startswith("["):
        host, _, tail = text[1:].partition("]")
        port = tail.lstrip(":")
    elif text.count(":") > 1:
        return text, default
    else:
        host, _, port = text.partition(":")
    valid = port.isascii() and port.isdigit() and 0 < int(port) < 65536
    return host, int(port) if valid else default


def listening(endpoint: Endpoint, seconds: float = 1.0) -> bool:
    """Whether something accepts connections there. Only asked of loopback addresses."""
    parts = urlsplit(endpoint.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=seconds).close()
    except OSError:
        return False
    return True


def make_client(
    endpoint: Endpoint, *, stall_seconds: float, api_key: str = "", connect_seconds: float = 5.0
) -> httpx.AsyncClient:
    """The HTTP client of one endpoint: no redirects; proxies from the environment only for `cloud`.

    `stall_seconds` is how long the server may stay silent: a local model reads for minutes before it writes.
    """
    import httpx

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return httpx.AsyncClient(
        base_url=endpoint.url,
        headers=headers,
        timeout=httpx.Timeout(stall_seconds, connect=connect_seconds),
        trust_env=endpoint.trust is TrustClass.CLOUD,
        follow_redirects=False,
        limits=httpx.Limits(max_connections=64),
    )
