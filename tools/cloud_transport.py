"""How requests to the cloud travel: as all others, and no answer is longer than one can be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import httpx2

from review_agent.agent.errors import EngineFault
from review_agent.tools.transport import OneOrigin

MOST_BYTES = 8 * 1024 * 1024
# The anthropic client puts an event together by copying what it has for each piece that comes.
MOST_EVENT_BYTES, MOST_EVENT_PIECES = 1024 * 1024, 2000
_GAPS = (b"\n\n", b"\r\r", b"\r\n\r\n")
_LONGEST_GAP = 4


class CloudDirect(OneOrigin, httpx2.AsyncBaseTransport):
    """`OneOrigin` for clients of httpx2. Raises EngineFault where an answer exceeds its bounds."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, url: str, hosts: Sequence[str]) -> None:
        super().__init__(httpx2, inner, url, hosts)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer: httpx2.Response = await self.carry(request)
        if isinstance(answer.stream, httpx2.AsyncByteStream):
            answer.stream = _Bounded(answer.stream, self._url)
        return answer


class _Bounded(httpx2.AsyncByteStream):
    """A stream of bytes up to the bounds of an answer, and of each event in it."""

    def __init__(self, inner: httpx2.AsyncByteStream, url: str) -> None:
        self._inner = inner
        self._url = url

    async def __aiter__(self) -> AsyncIterator[bytes]:
        total = event = pieces = 0
        tail = b""
        async for part in self._inner:
            seen = tail + part
            total += len(part)
            end = max((seen.rfind(gap) + len(gap) for gap in _GAPS if gap in seen), default=0)
            if end > len(tail):  # an event ended within this part
                event, pieces = len(seen) - end, 1
            else:
                event, pieces = event + len(part), pieces + 1 + part.count(b"\n")
            if total > MOST_BYTES or event > MOST_EVENT_BYTES or pieces > MOST_EVENT_PIECES:
                raise EngineFault("engine_not_protocol", url=self._url)
            tail = seen[-_LONGEST_GAP + 1 :]
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()
