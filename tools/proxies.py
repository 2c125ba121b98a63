"""Which proxy of the environment leads to an endpoint: to one in the cloud only."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from review_agent.agent.errors import ConfigError
from review_agent.agent.models import TrustClass
from review_agent.tools.endpoints import Endpoint
from review_agent.tools.tripwire import Peer, address_of

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


def proxy_of(endpoint: Endpoint, environ: Mapping[str, str]) -> str:
    """The URL of the proxy that `environ` names for an endpoint; '' = none.

    Names in small letters win, as for curl. Raises ConfigError for a proxy that is no URL.
    """
    parts = urlsplit(endpoint.url)
    host = parts.hostname or ""
    if endpoint.trust is not TrustClass.CLOUD or _exempt(host, endpoint.port, _named(environ, "no_proxy")):
        return ""
    url = _named(environ, f"{parts.scheme}_proxy") or _named(environ, "all_proxy")
    if not url:
        return ""
    url = url if "://" in url else f"http://{url}"
    peer_of(url)
    return url


def peer_of(url: str) -> Peer:
    """Where a proxy listens. Raises ConfigError for a URL that does not say, or that we cannot use."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ConfigError("errors_models.proxy_unusable", detail=str(exc)) from exc
    if not host or parts.scheme not in _PORTS:
        raise ConfigError("errors_models.proxy_unusable", detail=f"{parts.scheme}://{host or ''}")
    return Peer(host, port or _PORTS[parts.scheme])


def _named(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name) or environ.get(name.upper()) or "").strip()


def _exempt(host: str, port: int, no_proxy: str) -> bool:
    """Whether NO_PROXY names a host: itself, a domain it is in, an address range, any of them with a port."""
    return any(_means(entry.strip().lower(), host.lower(), port) for entry in no_proxy.split(","))


def _means(entry: str, host: str, port: int) -> bool:
    if entry in ("", "*"):
        return entry == "*"
    if (address := address_of(host)) is not None:
        try:
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            pass  # a name, or with a port
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdecimal():
        if int(wanted) != port:
            return False
        entry = name.strip("[]")
    domain = entry.removeprefix("*").removeprefix(".")
    return host == domain or host.endswith(f".{domain}")
