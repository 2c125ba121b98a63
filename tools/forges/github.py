"""GitHub's API, as far as a reviewer needs it: over one client, to one origin, in few requests.

No library of GitHub's: PyGithub and githubkit follow redirects and make HTTP clients of their own, and what
we ask for is ten calls. https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, TypeAdapter, ValidationError

from review_agent.agent.errors import (
    ConfigError,
    EngineRejected,
    ForgeBusy,
    ForgeDenied,
    ForgeError,
    ForgeFault,
    ForgeMissing,
    ForgeRejected,
)
from review_agent.agent.models import TrustClass
from review_agent.tools.endpoints import Endpoint, make_endpoint, make_forge_client
from review_agent.tools.forges.limits import Waiting, wait_for
from review_agent.tools.forges.payloads import (
    ChangedFile,
    Comment,
    Fault,
    Page,
    Pull,
    Row,
    Thread,
    Written,
)

if TYPE_CHECKING:
    import httpx

API = "https://api.github.com"
MAX_ANSWER = 32 * 1024 * 1024  # bytes
MAX_PAGES = 40  # of 100; GitHub itself lists 3000 files
REQUEST_SECONDS = 120.0  # for one answer, from the first byte to the last
_REPOSITORY = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,100}/(?!\.\.?$)[A-Za-z0-9_.-]{1,100}", re.ASCII)
_NEXT = re.compile(r'<[^<>]*>\s*;\s*rel="next"')

Shape = TypeVar("Shape", bound=BaseModel)
Fields = Mapping[str, object]

_PULL = "repository(owner:$owner,name:$name){pullRequest(number:$number)"
_ARGUMENTS = "$owner:String!,$name:String!,$number:Int!,$after:String"
_PAGE = "pageInfo{hasNextPage endCursor}"
# Not `databaseId`: it has 32 bits, which numbers of comments left behind in 2024. This one is a string.
_COMMENT = "fullDatabaseId body url viewerDidAuthor author{login} editor{login}"
_THREADS = (
    f"query({_ARGUMENTS}){{{_PULL}{{reviewThreads(first:100,after:$after){{{_PAGE} "
    f"nodes{{id isResolved path line comments(first:1){{totalCount nodes{{{_COMMENT}}}}}}}}}}}}}}}"
)
_COMMENTS = (
    f"query({_ARGUMENTS}){{{_PULL}{{comments(first:100,after:$after){{{_PAGE} nodes{{{_COMMENT}}}}}}}}}}}"
)
_REVIEWS = _COMMENTS.replace("{comments(", "{reviews(")
_RESOLVE = "mutation($id:ID!){resolveReviewThread(input:{threadId:$id}){thread{id isResolved}}}"


def api_endpoint(url: str) -> Endpoint:
    """Where the API is. A token goes over TLS only, but for this machine. Raises ConfigError."""
    endpoint = make_endpoint(url or API)
    if endpoint.trust is not TrustClass.LOOPBACK and not endpoint.url.startswith("https://"):
        raise ConfigError("errors_forge.not_https", url=url)
    return endpoint


def repository_name(name: str) -> str:
    """OWNER/NAME, checked: it becomes part of addresses. Raises ConfigError."""
    if not _REPOSITORY.fullmatch(name):
        raise ConfigError("errors_forge.repository_form", name=name)
    return name


class GitHub:
    """One pull request of one repository. `sleep` and `clock` (seconds) are handed in for tests."""

    def __init__(
        self,
        endpoint: Endpoint,
        repository: str,
        number: int,
        token: str,
        *,
        proxy: str = "",
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.time,
        seconds: float = REQUEST_SECONDS,
    ) -> None:
        self._endpoint = endpoint
        self._owner, self._name = repository_name(repository).split("/")
        self._number = number
        self._token = token
        self._home = f"/repos/{repository}"
        self._waiting = Waiting()
        self._sleep, self._clock, self._seconds = sleep, clock, seconds
        self._client: httpx.AsyncClient = make_forge_client(endpoint, token=token, proxy=proxy)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._client.aclose()

    # --- reading ---

    async def pull(self) -> Pull:
        return _read(Pull, (await self._send("GET", f"{self._home}/pulls/{self._number}"))[0])

    async def files(self) -> list[ChangedFile]:
        """All changed files. Pages are counted by us: an address from an answer is not followed."""
        found: list[ChangedFile] = []
        for page in range(1, MAX_PAGES + 1):
            path = f"{self._home}/pulls/{self._number}/files?per_page=100&page={page}"
            data, links = await self._send("GET", path)
            found += _read_list(data)
            if not _NEXT.search(links):
                return found
        raise self._too_much()

    async def threads(self) -> list[Thread]:
        return await self._rows(_THREADS, "reviewThreads", Page[Thread])

    async def comments(self) -> list[Comment]:
        """The comments below the pull request itself, oldest first."""
        return await self._rows(_COMMENTS, "comments", Page[Comment])

    async def reviews(self) -> list[Comment]:
        """The reviews with what each says of itself, without the comments on lines."""
        return await self._rows(_REVIEWS, "reviews", Page[Comment])

    async def _rows(self, query: str, part: str, shape: type[Page[Row]]) -> list[Row]:
        found: list[Row] = []
        after: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._conversation(query, part, shape, after)
            found += page.nodes
            after = page.info.cursor
            if not page.info.more or after is None:
                return found
        raise self._too_much()

    def _too_much(self) -> ForgeError:
        """What was not read would be said again."""
        return ForgeError("errors_forge.too_much", host=self._endpoint.host)

    # --- writing ---

    async def review(self, commit: str, body: str, comments: Sequence[Fields]) -> Written:
        """One review, all of it or nothing. Raises ForgeRejected when GitHub takes one comment amiss."""
        fields = {"commit_id": commit, "event": "COMMENT", "body": body, "comments": list(comments)}
        data, _ = await self._send("POST", f"{self._home}/pulls/{self._number}/reviews", fields)
        return _read(Written, data)

    async def comment(self, body: str) -> Written:
        path = f"{self._home}/issues/{self._number}/comments"
        return _read(Written, (await self._send("POST", path, {"body": body}))[0])

    async def edit_comment(self, number: int, body: str) -> Written:
        path = f"{self._home}/issues/comments/{number:d}"
        return _read(Written, (await self._send("PATCH", path, {"body": body}))[0])

    async def edit_review_comment(self, number: int, body: str) -> Written:
        path = f"{self._home}/pulls/comments/{number:d}"
        return _read(Written, (await self._send("PATCH", path, {"body": body}))[0])

    async def delete_comment(self, number: int) -> None:
        await self._send("DELETE", f"{self._home}/issues/comments/{number:d}")

    async def delete_review_comment(self, number: int) -> None:
        await self._send("DELETE", f"{self._home}/pulls/comments/{number:d}")

    async def resolve(self, thread: str) -> None:
        await self._graphql(_RESOLVE, {"id": thread})

    # --- GraphQL ---

    async def _conversation(self, query: str, part: str, shape: type[Shape], after: str | None) -> Shape:
        given = {"owner": self._owner, "name": self._name, "number": self._number, "after": after}
        data = await self._graphql(query, given)
        for name in ("repository", "pullRequest", part):
            data = data.get(name) if isinstance(data, dict) else None
        return _valid(shape, data)

    async def _graphql(self, query: str, variables: Fields) -> Any:
        address = self._graphql_path()
        data, _ = await self._send("POST", address, {"query": query, "variables": variables})
        try:
            answer = json.loads(data)
            faults = TypeAdapter(list[Fault]).validate_python(answer.get("errors") or [])
        except (ValueError, AttributeError, RecursionError) as exc:
            raise ForgeFault("errors_forge.unreadable", host=self._endpoint.host) from exc
        for fault in faults:
            raise self._fault(fault)
        return answer.get("data")

    def _fault(self, fault: Fault) -> ForgeError:
        """What an entry of `errors` means. One without a type is GitHub's own trouble, and passes."""
        if fault.type == "FORBIDDEN" or "not accessible by" in fault.message:
            return ForgeDenied("errors_forge.denied", status=403, detail=self._quoted(fault.message))
        if fault.type == "NOT_FOUND":
            return self._missing()
        if fault.type == "RATE_LIMITED":
            return ForgeBusy("errors_forge.busy", status=200, host=self._endpoint.host)
        if (
            fault.type in ("", "INTERNAL", "SERVICE_UNAVAILABLE")
            and "doesn't exist on type" not in fault.message
        ):
            return ForgeFault("errors_forge.busy", status=200, host=self._endpoint.host)
        return ForgeError("errors_forge.refused", status=200, detail=self._quoted(fault.message))

    def _graphql_path(self) -> str:
        """https://api.github.com/graphql, or https://HOST/api/graphql where the API is at /api/v3."""
        base = urlsplit(self._endpoint.url)
        path = base.path.removesuffix("/v3") if base.path.endswith("/api/v3") else base.path
        return f"{base.scheme}://{base.netloc}{path}/graphql"

    # --- one request ---

    async def _send(self, method: str, path: str, body: Fields | None = None) -> tuple[bytes, str]:
        """(body, Link header) of a good answer. What may be asked again is, within the time for waiting.

        What may have been carried out although no answer came is not: the caller looks first. Raises
        ForgeFault.
        """
        again = method in ("GET", "PATCH", "DELETE") or (body is not None and "query" in body)
        while True:
            status, headers, data = await self._once(method, path, body)
            if status < 300:
                return data, headers.get("link", "")
            message, details = _complaint(data)
            limited = wait_for(status, headers, f"{message} {details}", now=self._clock())
            once_more = again if status >= 500 else limited is not None
            if not once_more:
                raise self._refusal(status, message, details)
            seconds = self._waiting.take(limited)
            if seconds is None:
                busy = ForgeFault if limited is None else ForgeBusy
                raise busy("errors_forge.busy", status=status, host=self._endpoint.host)
            await self._sleep(seconds)

    async def _once(
        self, method: str, path: str, body: Fields | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        import httpx

        url = path if path.startswith("http") else f"{self._endpoint.url}{path}"
        data = b""
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._client.stream(method, url, json=body) as answer,
            ):
                async for chunk in answer.aiter_bytes():
                    data += chunk
                    if len(data) > MAX_ANSWER:
                        raise self._too_much()
                return answer.status_code, answer.headers, data
        except TimeoutError as exc:
            raise ForgeFault("errors_forge.broken", host=self._endpoint.host) from exc
        except EngineRejected as exc:  # of the transport, which knows no forges
            raise ForgeError("errors_forge.redirects", host=self._endpoint.host) from exc
        except httpx.ConnectError as exc:
            raise ForgeError("errors_forge.unreachable", host=self._endpoint.host) from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise ForgeFault("errors_forge.broken", host=self._endpoint.host) from exc

    def _refusal(self, status: int, message: str, details: str) -> ForgeError:
        detail = self._quoted(f"{message}: {details}" if details else message)
        if status == 401:
            return ForgeDenied("errors_forge.bad_token", status=status)
        if status == 403:
            return ForgeDenied("errors_forge.denied", status=status, detail=detail)
        if status == 404:
            return self._missing()
        if status == 422 and "one pending review" in detail:
            return ForgeError("errors_forge.pending_review")
        if status in (400, 413, 422):
            return ForgeRejected("errors_forge.refused", status=status, detail=detail)
        if status >= 500:
            return ForgeFault("errors_forge.busy", status=status, host=self._endpoint.host)
        return ForgeError("errors_forge.refused", status=status, detail=detail)

    def _missing(self) -> ForgeMissing:
        return ForgeMissing(
            "errors_forge.missing", repository=f"{self._owner}/{self._name}", number=self._number
        )

    def _quoted(self, text: str) -> str:
        """What a server says, short, and without the token, which some repeat."""
        return text.replace(self._token, "***")[:200] if self._token else text[:200]


def _complaint(data: bytes) -> tuple[str, str]:
    """What GitHub says is wrong: `message`, and `errors` in one line."""
    try:
        answer = json.loads(data[:100_000])
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(answer, dict):
        return "", ""
    errors = answer.get("errors")
    said = [
        str(error.get("message") or error.get("code") or "") if isinstance(error, dict) else str(error)
        for error in (errors if isinstance(errors, list) else [])[:5]
    ]
    return str(answer.get("message", "")), "; ".join(said)


def _read(shape: type[Shape], data: bytes) -> Shape:
    try:
        return shape.model_validate_json(data)
    except ValidationError as exc:
        raise ForgeFault("errors_forge.unreadable", host="GitHub") from exc


def _valid(shape: type[Shape], data: object) -> Shape:
    try:
        return shape.model_validate(data)
    except ValidationError as exc:
        raise ForgeFault("errors_forge.unreadable", host="GitHub") from exc


def _read_list(data: bytes) -> list[ChangedFile]:
    try:
        return TypeAdapter(list[ChangedFile]).validate_json(data)
    except ValidationError as exc:
        raise ForgeFault("errors_forge.unreadable", host="GitHub") from exc
