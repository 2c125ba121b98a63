"""Endpoints and how far each is trusted; the only place where HTTP clients are made."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from review_agent.agent.errors import ConfigError, EndpointRefused
from review_agent.agent.models import TrustClass
from review_agent.tools import tripwire
from review_agent.tools.tripwire import Peer, dialing, is_loopback

if TYPE_CHECKING:
    import httpx
    import httpx2

OLLAMA_PORT = 11434
LOCALHOST = ("127.0.0.1", "::1")
_HOST_PORT = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([^:\[\]]*)")  # as Go's net.SplitHostPort
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

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port if parts.port is not None else 443 if parts.scheme == "https" else 80

    @property
    def dialled(self) -> tuple[str, ...]:
        """Where to connect, in this order: an address, or a name that a resolver is asked for.

        `localhost` is never asked for: whatever answers for it, it means this machine.
        """
        host = urlsplit(self.url).hostname or ""
        if host == "localhost":
            return LOCALHOST
        return (host if host.isascii() else host.encode("idna").decode("ascii"),)


def make_endpoint(url: str, allowed_hosts: Sequence[str] = ()) -> Endpoint:
    """The endpoint of a URL. Raises ConfigError for what is not http(s)://host."""
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
        if host and not host.isascii():
            host.encode("idna")
    except ValueError as exc:
        raise ConfigError("bad_url", url=url) from exc
    if parts.scheme not in ("http", "https") or not host or _UNWANTED.search(url.strip()):
        raise ConfigError("bad_url", url=url)
    return Endpoint(url.strip().rstrip("/"), _trust(host, parts.netloc, allowed_hosts))


def _trust(host: str, netloc: str, allowed_hosts: Sequence[str]) -> TrustClass:
    if host == "localhost":  # not `x.localhost`: some resolvers ask the network for it
        return TrustClass.LOOPBACK
    if is_loopback(host):
        return TrustClass.LOOPBACK
    listed = {entry.strip().lower() for entry in allowed_hosts}
    return TrustClass.LAN if host.lower() in listed or netloc.lower() in listed else TrustClass.CLOUD


def ollama_url(value: str | None) -> str:
    """The URL that an `OLLAMA_HOST` value means to Ollama's own client, oddities included.

    `host`, `host:port`, `:port`, `[v6]:port`, `http(s)://host[:port][/path]`; port 11434 only without a
    scheme; the bind addresses 0.0.0.0 and :: mean this machine. Source: ollama/ollama envconfig/config.go.
    """
    text = (value or "").strip().strip("\"'").strip()
    if text == "ollama.com":
        return "https://ollama.com:443"
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "http", text
    # As written there: `HTTPS://host` is no `https://host`, and keeps Ollama's own port.
    default = {"http": 80, "https": 443}.get(scheme, OLLAMA_PORT) if found else OLLAMA_PORT
    hostport, _, path = rest.partition("/")
    host, port = _split_port(hostport, default)
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme.lower()}://{shown}:{port}/{path.strip('/')}".rstrip("/")


def _split_port(text: str, default: int) -> tuple[str, int]:
    if match := _HOST_PORT.fullmatch(text):
        host, port = match[1] or match[2] or "", match[3]
    else:
        bare = text.strip("[]")
        host, port = bare if _address(bare) else text, ""
    address = _address(host)
    if not host:
        host = "127.0.0.1"
    elif address is not None and (getattr(address, "ipv4_mapped", None) or address).is_unspecified:
        host = "::1" if address.version == 6 and address.ipv4_mapped is None else "127.0.0.1"
    valid = port.isascii() and port.isdigit() and int(port[:9]) < 65536
    return host, int(port) if valid else default


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def listening(endpoint: Endpoint, seconds: float = 1.0) -> bool:
    """Whether something accepts connections there. Only asked of loopback addresses."""
    for host in endpoint.dialled:
        with suppress(OSError), dialing():
            socket.create_connection((host, endpoint.port), timeout=seconds).close()
            return True
    return False


def confine(endpoints: Sequence[Endpoint], cloud: Endpoint | None = None, proxy: Peer | None = None) -> None:
    """From now on this process connects to what `peers_of` names only. There is no way back."""
    tripwire.arm(peers_of(endpoints, cloud, proxy))


def peers_of(
    endpoints: Sequence[Endpoint], cloud: Endpoint | None = None, proxy: Peer | None = None
) -> frozenset[Peer]:
    """Where endpoints are connected to. Those in the cloud do not count, but for the one chosen as `cloud`,
    whatever its trust; behind a proxy, it is that which is connected to.
    """
    local = [endpoint for endpoint in endpoints if endpoint.trust is not TrustClass.CLOUD]
    if cloud is not None and proxy is None:
        local.append(cloud)
    peers = frozenset(Peer(host, endpoint.port) for endpoint in local for host in endpoint.dialled)
    return peers | {proxy} if cloud is not None and proxy is not None else peers


def admit(endpoint: Endpoint) -> None:
    """Let a confined process connect to an engine that it started itself, on this machine."""
    for host in endpoint.dialled:
        tripwire.admit(Peer(host, endpoint.port))


def make_client(
    endpoint: Endpoint,
    *,
    stall_seconds: float,
    api_key: str = "",
    connect_seconds: float = 5.0,
) -> httpx.AsyncClient:
    """The HTTP client of one endpoint, of no other origin. It knows no redirects and no proxies.

    `stall_seconds` is how long the server may stay silent: a local model reads for minutes before it writes.
    Raises EndpointRefused for a cloud endpoint: nothing that reviews code may talk to one.
    """
    if endpoint.trust is TrustClass.CLOUD:
        raise EndpointRefused("endpoint_not_local", url=endpoint.url, host=endpoint.host)
    import httpx

    from review_agent.tools.transport import Direct

    limits = httpx.Limits(max_connections=64)
    inner = httpx.AsyncHTTPTransport(trust_env=False, limits=limits)
    return httpx.AsyncClient(
        base_url=endpoint.url,
        headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
        timeout=httpx.Timeout(stall_seconds, connect=connect_seconds),
        transport=Direct(inner, endpoint.url, endpoint.dialled),
        trust_env=False,
        follow_redirects=False,
    )


def make_cloud_client(
    endpoint: Endpoint, *, stall_seconds: float, proxy: str = "", connect_seconds: float = 15.0
) -> httpx2.AsyncClient:
    """The HTTP client of the one endpoint that the user chose as the cloud, and of no other origin.

    It knows no redirects, and no proxy but `proxy`. Certificates are checked, against those that
    SSL_CERT_FILE names where it is set. Raises ConfigError for a proxy or certificates that cannot be used.
    """
    import httpx2

    from review_agent.tools.cloud_transport import CloudDirect

    try:
        inner = httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_connections=64), proxy=proxy or None)
    except (ImportError, ValueError, httpx2.InvalidURL) as exc:  # ImportError: SOCKS needs another package
        raise ConfigError("errors_models.proxy_unusable", detail=str(exc).splitlines()[0]) from exc
    except OSError as exc:
        raise ConfigError("errors_cloud.certificates", detail=exc.strerror or str(exc)) from exc
    return httpx2.AsyncClient(
        base_url=endpoint.url,
        timeout=httpx2.Timeout(stall_seconds, connect=connect_seconds),
        transport=CloudDirect(inner, endpoint.url, endpoint.dialled),
        trust_env=False,
        follow_redirects=False,
    )


def make_forge_client(endpoint: Endpoint, *, token: str, proxy: str = "") -> httpx.AsyncClient:
    """The HTTP client of a forge's API, of no other origin: the token cannot go elsewhere.

    It knows no redirects, and no proxy but `proxy`. Raises ConfigError for a proxy or certificates that
    cannot be used.
    """
    import httpx

    from review_agent.tools.transport import Direct

    try:
        inner = httpx.AsyncHTTPTransport(proxy=proxy or None, limits=httpx.Limits(max_connections=4))
    except (ImportError, ValueError, httpx.InvalidURL) as exc:  # ImportError: SOCKS needs another package
        raise ConfigError("errors_models.proxy_unusable", detail=str(exc).splitlines()[0]) from exc
    except OSError as exc:
        raise ConfigError("errors_cloud.certificates", detail=exc.strerror or str(exc)) from exc
    return httpx.AsyncClient(
        headers={
            "User-Agent": "review-agent",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            **({"Authorization": f"Bearer {token}"} if token else {}),
        },
        timeout=httpx.Timeout(30.0, connect=15.0),
        transport=Direct(inner, endpoint.url, endpoint.dialled),
        trust_env=False,
        follow_redirects=False,
    )


def make_download_client(*, token: str = "", token_url: str = "") -> httpx.AsyncClient:
    """The client that fetches model files from hubs and mirrors. It follows no redirect by itself.

    Proxies from the environment are honoured, except for this machine. `token` goes to the origin of
    `token_url` only, so no redirect can carry it elsewhere. Raises ConfigError for a proxy we cannot use.
    """
    import httpx

    try:
        return httpx.AsyncClient(
            headers={"User-Agent": "review-agent"},
            auth=_origin_token(token, token_url) if token else None,
            timeout=httpx.Timeout(60.0, connect=15.0),
            mounts={f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")},
            follow_redirects=False,
        )
    except (ImportError, ValueError, httpx.InvalidURL) as exc:  # ImportError: SOCKS needs another package
        raise ConfigError("errors_models.proxy_unusable", detail=str(exc).splitlines()[0]) from exc


def _origin_token(token: str, url: str) -> Callable[[httpx.Request], httpx.Request]:
    import httpx

    def origin(address: httpx.URL) -> tuple[str, str, int | None]:
        return address.scheme, address.host, address.port

    home = origin(httpx.URL(url))

    def add(request: httpx.Request) -> httpx.Request:
        if origin(request.url) == home:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    return add
