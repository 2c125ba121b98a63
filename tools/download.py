"""Fetching one large file: it goes on where it stopped, is checked, and appears only when it is whole."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from pydantic import BaseModel, Field, ValidationError

from review_agent.agent.errors import EngineFault, EngineRejected, ModelMissing, ReviewError
from review_agent.agent.models import TrustClass
from review_agent.tools.endpoints import make_endpoint

if TYPE_CHECKING:
    import httpx

# Seconds before each new try; one that brought anything starts the row again.
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
MAX_CONNECTIONS = 200
MAX_REDIRECTS = 10

_REDIRECTS = {301, 302, 303, 307, 308}
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_BLOCK = 4 * 1024 * 1024
_RANGE = re.compile(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15})")


def _quiet(_done: int, _total: int) -> None:
    pass


async def download(
    client: httpx.AsyncClient,
    url: str,
    target: Path,
    *,
    size: int | None,
    sha256: str | None,
    on_progress: Callable[[int, int], None] = _quiet,
    pauses: Sequence[float] = PAUSES,
) -> str:
    """Fetch `url` to `target`; returns the sha256 in hex. `on_progress` gets bytes done and bytes in all.

    However this ends, what was fetched stays beside the target as `.part`, and the next call goes on from
    there; only what proved wrong is deleted. Raises EngineRejected while another process fetches this file.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock", timeout=0):
            part = _Part(target, url, size or 0, (sha256 or "").lower())
            if await part.is_there():
                return part.sha256
            await part.go_on()
            await _fetch_all(client, part, on_progress, pauses)
            return part.finish()
    except Timeout as exc:
        raise EngineRejected("errors_models.download_busy", path=target) from exc
    except OSError as exc:  # disk full, quota, rights, a file system that ends at 4 GB
        path, detail = exc.filename or target, exc.strerror or type(exc).__name__
        raise EngineRejected("errors_models.disk_failed", path=path, detail=detail) from exc


async def _fetch_all(
    client: httpx.AsyncClient, part: _Part, on_progress: Callable[[int, int], None], pauses: Sequence[float]
) -> None:
    import httpx

    failures, detail = 0, ""
    for _ in range(MAX_CONNECTIONS):
        if part.whole:
            return
        before = part.have
        try:
            detail = await _fetch(client, part, on_progress)
        except httpx.TransportError as exc:
            detail = str(exc) or type(exc).__name__
        if part.whole:
            return
        failures = 1 if part.have > before else failures + 1
        if failures > len(pauses):
            break
        await asyncio.sleep(pauses[failures - 1])
    host = urlsplit(part.url).hostname
    raise EngineFault("errors_models.download_broken", host=host, detail=detail, done=amount(part.have))


async def _fetch(client: httpx.AsyncClient, part: _Part, on_progress: Callable[[int, int], None]) -> str:
    """One connection. Returns why there must be another, or ''."""
    async with follow(client, "GET", part.url, part.headers()) as answer:
        if again := _accept(part, answer):
            return again
        on_progress(part.have, part.total)
        async for block in answer.response.aiter_raw():
            part.write(block)
            on_progress(part.have, part.total)
    return "" if part.whole else f"{part.have}/{part.total}"


def _accept(part: _Part, answer: Answer) -> str:
    """Settle what the body that comes is. Returns why to ask again instead, or ''."""
    status, headers = answer.response.status_code, answer.response.headers
    if status in _PASSING:
        return f"HTTP {status}"
    if status == 416:  # the file is shorter now than what we have of it
        part.drop()
        return "HTTP 416"
    if status not in (200, 206):
        raise refusal(part.url, answer)
    if headers.get("Content-Type", "").lower().startswith("text/html"):
        raise EngineRejected("errors_models.hub_html", url=without_query(part.url))
    if (
        headers.get("Content-Encoding", "identity").lower() != "identity"
    ):  # lengths would be of something else
        raise EngineRejected("errors_models.length_unknown", url=without_query(part.url))
    if status == 206:
        sent = _RANGE.fullmatch(headers.get("Content-Range", ""))
        if sent is None or int(sent[1]) != part.have:
            part.drop()
            return "HTTP 206 Content-Range"
        total = int(sent[2])
    else:
        part.drop()
        total = length_of(headers) or part.total
    part.begin(total, headers.get("ETag", ""))
    return ""


class _State(BaseModel):
    """`.part.json`: what the `.part` beside it is a part of."""

    url: str
    etag: str = ""
    total: int = Field(gt=0)
    sha256: str = ""


class _Part:
    """The file while it is incomplete. `total` 0 = not known yet; `announced` is the hub's figure, or 0."""

    def __init__(self, target: Path, url: str, announced: int, sha256: str) -> None:
        self.target, self.url, self.announced, self.sha256 = target, url, announced, sha256
        self.path = target.with_name(target.name + ".part")
        self.state = target.with_name(target.name + ".part.json")
        self.total, self.have, self.etag = announced, 0, ""
        self._hash = hashlib.sha256()

    @property
    def whole(self) -> bool:
        return bool(self.total) and self.have == self.total

    async def is_there(self) -> bool:
        """Whether an earlier call finished it: of a model in several files, the later ones may be missing."""
        if not self.sha256 or not self.target.is_file():
            return False
        return (await _hash_of(self.target)).hexdigest() == self.sha256

    async def go_on(self) -> None:
        """Take up what an earlier call left, if that is known to be of the same file."""
        try:
            state = _State.model_validate_json(self.state.read_bytes())
            have = self.path.stat().st_size
        except (FileNotFoundError, ValidationError):
            return self.drop()
        same_url = state.url == without_query(self.url)
        same_file = state.sha256 == self.sha256 if self.sha256 else same_url and bool(state.etag)
        if not same_file or have > state.total or self.announced not in (0, state.total):
            return self.drop()
        self.total, self.have = state.total, have
        self.etag = state.etag if same_url else ""  # mirrors give the same content other tags
        self._hash = await _hash_of(self.path)
        return None

    def headers(self) -> dict[str, str]:
        plain = {"Accept-Encoding": "identity"}
        if not self.have:
            return plain
        return plain | {"Range": f"bytes={self.have}-"} | ({"If-Range": self.etag} if self.etag else {})

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)
        self.total, self.have, self.etag = self.announced, 0, ""
        self._hash = hashlib.sha256()

    def begin(self, total: int, etag: str) -> None:
        """Before a body is read: is it the file that was announced, and is there room for it?"""
        url = without_query(self.url)
        if not total:
            raise EngineRejected("errors_models.length_unknown", url=url)
        if self.total not in (0, total):
            expected = self.total
            self.drop()
            raise EngineFault("errors_models.size_wrong", url=url, expected=expected, got=total)
        remaining = total - self.have
        missing = remaining + remaining // 20 - shutil.disk_usage(self.target.parent).free
        if missing > 0:
            raise EngineRejected(
                "errors_models.disk_short",
                path=self.target.parent,
                needed=amount(remaining),
                missing=amount(missing),
            )
        self.total, self.etag = (
            total,
            "" if etag.startswith("W/") else etag,
        )  # If-Range takes strong ones only
        state = _State(url=url, etag=self.etag, total=total, sha256=self.sha256)
        self.state.write_text(state.model_dump_json(), encoding="utf-8")

    def write(self, block: bytes) -> None:
        if self.have + len(block) > self.total:
            expected, got = self.total, self.have + len(block)
            self.drop()
            url = without_query(self.url)
            raise EngineFault("errors_models.size_wrong", url=url, expected=expected, got=got)
        with self.path.open("ab", buffering=0) as file:  # unbuffered: what is counted is in the file
            rest = memoryview(block)
            while rest:
                rest = rest[file.write(rest) :]
        self._hash.update(block)
        self.have += len(block)

    def finish(self) -> str:
        found = self._hash.hexdigest()
        if self.sha256 and found != self.sha256:
            self.drop()
            raise EngineFault("errors_models.checksum_wrong", url=without_query(self.url))
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        self.state.unlink(missing_ok=True)
        sync_folder(self.target.parent)
        return found


async def _hash_of(path: Path) -> hashlib._Hash:
    """In steps, so that Ctrl-C need not wait for a 5 GB file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
            await asyncio.sleep(0)
    return found


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response after its redirects. `passed` are the redirects' headers: hubs put checksums there."""

    response: httpx.Response
    passed: tuple[httpx.Headers, ...]


@asynccontextmanager
async def follow(
    client: httpx.AsyncClient, method: str, url: str, headers: Mapping[str, str]
) -> AsyncIterator[Answer]:
    """The unread answer at the end of the redirects. Raises EngineRejected where one leads to a worse place.

    httpx by itself would go from https to http. Credentials of the client never go to another origin.
    """
    import httpx

    passed: list[httpx.Headers] = []
    try:
        home = here = httpx.URL(url)
        while True:
            request = client.build_request(method, here, headers=headers)
            if _origin(here) != _origin(home):
                request.headers.pop("Authorization", None)
                request.headers.pop("Cookie", None)
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                location = response.headers.get("Location", "")
                if response.status_code not in _REDIRECTS or not location:
                    yield Answer(response, tuple(passed))
                    return
            finally:
                await response.aclose()
            passed.append(response.headers)
            there = here.join(location)
            if len(passed) > MAX_REDIRECTS or not _may_follow(here, there):
                target = f"{there.scheme}://{there.host}"
                raise EngineRejected("errors_models.redirect_refused", host=here.host, target=target)
            here = there
    except httpx.InvalidURL as exc:
        raise EngineRejected("errors_models.url_invalid", url=without_query(url)) from exc


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _may_follow(here: httpx.URL, there: httpx.URL) -> bool:
    """To https always; from http on to http only where the user's own choice of http reaches: that host."""
    if there.scheme == "https":
        return bool(there.host)
    if (here.scheme, there.scheme) != ("http", "http"):
        return False
    return there.host == here.host or (_is_loopback(here) and _is_loopback(there))


def _is_loopback(url: httpx.URL) -> bool:
    return make_endpoint(f"http://{url.netloc.decode('ascii')}").trust is TrustClass.LOOPBACK


def refusal(url: str, answer: Answer) -> ReviewError:
    """What a status other than success means. Hugging Face says 401 of what does not exist, too."""
    status, shown = answer.response.status_code, without_query(url)
    unknown = answer.response.headers.get("X-Error-Code") in ("RepoNotFound", "EntryNotFound")
    if status in (404, 410) or unknown:
        return ModelMissing("errors_models.hub_not_found", url=shown)
    if status in (401, 403):
        return EngineRejected("errors_models.hub_forbidden", url=shown, status=status)
    return EngineFault("errors_models.hub_status", url=shown, status=status)


def length_of(headers: httpx.Headers) -> int:
    """Content-Length, or 0."""
    text = headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else 0


def without_query(url: str) -> str:
    """What may be shown and kept of an address: its query may hold a signature."""
    return url.partition("#")[0].partition("?")[0]


def amount(count: int) -> str:
    """Bytes for people, in decimal units, as hubs and disks are sold."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
