"""How requests to one endpoint travel: the addresses that are dialled, and the only origin that is served."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import httpx

from review_agent.agent.errors import EndpointRefused, EngineRejected
from review_agent.tools.tripwire import dialing


class Direct(httpx.AsyncBaseTransport):
    """Over `inner`, to the origin of `url` only. `hosts` are dialled for its host, in turn until one answers.

    The server still sees the name that the user wrote, and a certificate must be for that name. Raises
    EndpointRefused for requests to another origin, before anything is dialled, and EngineRejected for answers
    that send us elsewhere, before httpx reads where to.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, url: str, hosts: Sequence[str]) -> None:
        self._inner = inner
        self._url = url
        base = httpx.URL(url)
        self._origin = _origin(base)
        self._name = base.raw_host.decode("ascii")
        self._hosts = tuple(hosts)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if _origin(request.url) != self._origin:
            raise EndpointRefused("errors_network.other_origin", where=request.url.host)
        *others, last = self._hosts
        for host in others:
            with suppress(httpx.ConnectError):
                return await self._send(request, host)
        return await self._send(request, last)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _send(self, request: httpx.Request, host: str) -> httpx.Response:
        dialled = httpx.Request(
            request.method,
            request.url.copy_with(host=host),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": self._name},
        )
        try:
            with dialing():
                answer = await self._inner.handle_async_request(dialled)
        except ExceptionGroup as group:  # httpx dials in tasks, which wrap what they do not know
            raise _first(group) from group
        self._hosts = (host, *(other for other in self._hosts if other != host))
        if 300 <= answer.status_code < 400:
            await answer.aclose()
            target = _target(request.url, answer.headers.get("location", ""))
            raise EngineRejected("engine_redirects", url=self._url, status=answer.status_code, target=target)
        return answer


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port  # httpx drops the usual port of a scheme


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """A refusal of the tripwire, in practice."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, ExceptionGroup) else inner


def _target(asked: httpx.URL, location: str) -> str:
    """Where a redirect leads, as far as it is fit to be shown: host and port, in ASCII. '?' = unknown."""
    try:
        target = asked.join(location).netloc.decode("ascii") if location else ""
    except (ValueError, httpx.InvalidURL):
        return "?"
    return target[:100] or "?"
