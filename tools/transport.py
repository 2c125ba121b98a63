"""How requests to one endpoint travel: the addresses that are dialled, and the only origin that is served."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx

from review_agent.agent.errors import EndpointRefused, EngineRejected
from review_agent.tools.tripwire import dialing


class OneOrigin:
    """Over `inner`, to the origin of `url` only. `hosts` are dialled for its host, in turn until one answers.

    The server still sees the name that the user wrote, and a certificate must be for that name. Raises
    EndpointRefused for requests to another origin, before anything is dialled, and EngineRejected for answers
    that send us elsewhere, before the client reads where to.

    `kit` is httpx or httpx2, whose requests and answers are made alike and are of different classes.
    """

    def __init__(self, kit: Any, inner: Any, url: str, hosts: Sequence[str]) -> None:
        self._kit = kit
        self._inner = inner
        self._url = url
        base = kit.URL(url)
        self._origin = _origin(base)
        self._name = base.raw_host.decode("ascii")
        self._hosts = tuple(hosts)

    async def carry(self, request: Any) -> Any:
        if _origin(request.url) != self._origin:
            raise EndpointRefused("errors_network.other_origin", where=request.url.host)
        *others, last = self._hosts
        for host in others:
            with suppress(self._kit.ConnectError):
                return await self._send(request, host)
        return await self._send(request, last)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _send(self, request: Any, host: str) -> Any:
        dialled = self._kit.Request(
            request.method,
            request.url.copy_with(host=host),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": self._name},
        )
        try:
            with dialing():
                answer = await self._inner.handle_async_request(dialled)
        except ExceptionGroup as group:  # the client dials in tasks, which wrap what they do not know
            raise _first(group) from group
        self._hosts = (host, *(other for other in self._hosts if other != host))
        if 300 <= answer.status_code < 400:
            await answer.aclose()
            target = self._target(request.url, answer.headers.get("location", ""))
            raise EngineRejected("engine_redirects", url=self._url, status=answer.status_code, target=target)
        return answer

    def _target(self, asked: Any, location: str) -> str:
        """Where a redirect leads, as far as it is fit to be shown: host and port, in ASCII. '?' = unknown."""
        try:
            target: str = asked.join(location).netloc.decode("ascii") if location else ""
        except (ValueError, self._kit.InvalidURL):
            return "?"
        return target[:100] or "?"


class Direct(OneOrigin, httpx.AsyncBaseTransport):
    """`OneOrigin` for clients of httpx."""

    def __init__(self, inner: httpx.AsyncBaseTransport, url: str, hosts: Sequence[str]) -> None:
        super().__init__(httpx, inner, url, hosts)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer: httpx.Response = await self.carry(request)
        return answer


def _origin(url: Any) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port  # the usual port of a scheme is dropped


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """A refusal of the tripwire, in practice."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, ExceptionGroup) else inner
