"""One file over a bad line: what is asked again, what is kept, what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import resource
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from filelock import FileLock

from review_agent.agent.errors import EngineFault, EngineRejected, ModelMissing, ReviewError
from review_agent.tools.download import amount, download
from review_agent.tools.endpoints import make_download_client

DATA = random.Random(7).randbytes(700_001)
SHA = hashlib.sha256(DATA).hexdigest()
NO_PAUSE = (0.0,) * 3


@dataclass
class Server:
    """Serves `data`; each entry of `cuts` ends one answer after so many bytes. `seen` are (path, headers)."""

    data: bytes = DATA
    etag: str = '"v1"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    served: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/m.gguf"

    @property
    def ranges_asked(self) -> list[str]:
        return [headers.get("range", "") for _, headers in self.seen]


class Handler(BaseHTTPRequestHandler):
    owner: Server

    def do_GET(self) -> None:
        owner = self.owner
        owner.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if self.path in owner.redirects:
            self.answer(302, {"Location": owner.redirects[self.path]})
        elif owner.statuses:
            self.answer(owner.statuses.pop(0), {})
        else:
            self.send_file()

    def send_file(self) -> None:
        owner = self.owner
        start, status, more = 0, 200, {}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if owner.ranges and asked and self.headers.get("If-Range", owner.etag) == owner.etag:
            start, status = int(asked[1]), 206
            if start >= len(owner.data):
                return self.answer(416, {"Content-Range": f"bytes */{len(owner.data)}"})
            more = {"Content-Range": f"bytes {start}-{len(owner.data) - 1}/{len(owner.data)}"}
        body = owner.data[start:]
        fields = {"Content-Length": str(len(body)), "ETag": owner.etag, **more, **owner.headers}
        self.answer(status, {name: value for name, value in fields.items() if value})
        part = body[: owner.cuts.pop(0)] if owner.cuts else body
        owner.served += len(part)
        self.wfile.write(part)
        return None

    def answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[ThreadingHTTPServer] = []

    def start(**options: object) -> Server:
        owner = Server(**options)  # type: ignore[arg-type]
        http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"owner": owner}))
        owner.port = http.server_address[1]
        running.append(http)
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        return owner

    yield start
    for http in running:
        http.shutdown()
        http.server_close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "in" / "m.gguf"


async def get(
    url: str, target: Path, size: int | None = len(DATA), sha256: str | None = SHA, **more: object
) -> str:
    async with make_download_client() as client:
        return await download(client, url, target, size=size, sha256=sha256, **{"pauses": NO_PAUSE} | more)  # type: ignore[arg-type]


async def fails(error: type[ReviewError], key: str, *args: object, **more: object) -> ReviewError:
    with pytest.raises(error) as caught:
        await get(*args, **more)  # type: ignore[arg-type]
    assert caught.value.key == f"errors_models.{key}"
    return caught.value


def content(target: Path) -> bytes:
    return target.read_bytes()


def spoil(target: Path) -> None:
    target.write_bytes(b"spoiled")


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


@pytest.mark.parametrize(("size", "sha256"), [(len(DATA), SHA), (None, None), (None, SHA.upper())])
async def test_a_file_arrives_whole(
    serve: Callable[..., Server], target: Path, size: int | None, sha256: str | None
) -> None:
    server, steps = serve(), []
    found = await get(
        server.url, target, size, sha256, on_progress=lambda done, total: steps.append((done, total))
    )
    assert found == SHA
    assert content(target) == DATA
    assert names(target) == ["m.gguf", "m.gguf.lock"]
    assert (steps[0], steps[-1]) == ((0, len(DATA)), (len(DATA), len(DATA)))
    assert steps == sorted(steps)
    assert server.seen[0][1]["accept-encoding"] == "identity"


async def test_a_cut_connection_goes_on_and_nothing_comes_twice(
    serve: Callable[..., Server], target: Path
) -> None:
    server = serve(cuts=[100_000, 0, 250_000], statuses=[503])
    assert await get(server.url, target) == SHA
    assert content(target) == DATA
    assert server.served == len(DATA)
    assert server.ranges_asked == ["", "", "bytes=100000-", "bytes=100000-", "bytes=350000-"]


@pytest.mark.parametrize("sha256", [SHA, None])
async def test_a_later_call_goes_on(serve: Callable[..., Server], target: Path, sha256: str | None) -> None:
    server = serve(cuts=[300_000, 0, 0, 0])
    error = await fails(EngineFault, "download_broken", server.url, target, None, sha256)
    assert error.fields["done"] == "300.0 KB"
    assert names(target) == ["m.gguf.lock", "m.gguf.part", "m.gguf.part.json"]
    assert await get(server.url + "?signature=new", target, None, sha256) == SHA
    assert server.served == len(DATA)
    assert (server.seen[-1][1]["range"], server.seen[-1][1]["if-range"]) == ("bytes=300000-", '"v1"')
    assert names(target) == ["m.gguf", "m.gguf.lock"]


async def test_a_cancelled_download_goes_on(serve: Callable[..., Server], target: Path) -> None:
    server = serve()

    def stop(done: int, _total: int) -> None:
        if done > 100_000:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await get(server.url, target, on_progress=stop)
    kept = target.with_name("m.gguf.part").stat().st_size
    assert 100_000 < kept < len(DATA)
    assert await get(server.url, target) == SHA
    assert server.ranges_asked == ["", f"bytes={kept}-"]


async def test_another_mirror_goes_on_by_the_checksum(serve: Callable[..., Server], target: Path) -> None:
    first, second = serve(cuts=[300_000, 0, 0, 0]), serve(etag='"other"')
    await fails(EngineFault, "download_broken", first.url, target)
    assert await get(second.url, target) == SHA
    assert (second.ranges_asked, second.served) == (["bytes=300000-"], len(DATA) - 300_000)


@pytest.mark.parametrize(
    ("etag", "sha256", "resumed"),
    [
        ('"v1"', None, True),
        ("", None, False),
        ('W/"v1"', None, False),
        ('W/"v1"', SHA, True),
        ("", SHA, True),
    ],
)
async def test_without_a_strong_tag_or_a_checksum_nothing_is_mixed(
    serve: Callable[..., Server], target: Path, etag: str, sha256: str | None, resumed: bool
) -> None:
    server = serve(etag=etag, cuts=[300_000, 0, 0, 0])
    await fails(EngineFault, "download_broken", server.url, target, None, sha256)
    assert await get(server.url, target, None, sha256) == SHA
    assert server.ranges_asked[-1] == ("bytes=300000-" if resumed else "")


async def test_a_file_that_changed_is_fetched_from_the_start(
    serve: Callable[..., Server], target: Path
) -> None:
    server = serve(cuts=[300_000, 0, 0, 0])
    await fails(EngineFault, "download_broken", server.url, target, None, None)
    server.data, server.etag = DATA[::-1] + b"!", '"v2"'
    await get(server.url, target, None, None)
    assert content(target) == server.data
    assert server.ranges_asked[-1] == "bytes=300000-"


async def test_a_server_without_ranges(serve: Callable[..., Server], target: Path) -> None:
    server = serve(ranges=False, cuts=[300_000])
    assert await get(server.url, target) == SHA
    assert content(target) == DATA


@pytest.mark.parametrize("said", ["bytes 5-700000/700001", "bytes 300000-700000/*", "nonsense", ""])
async def test_a_range_that_was_not_asked_for_is_not_believed(
    serve: Callable[..., Server], target: Path, said: str
) -> None:
    server = serve(cuts=[300_000, 0, 0, 0])
    await fails(EngineFault, "download_broken", server.url, target)
    server.headers = {"Content-Range": said}
    assert await get(server.url, target) == SHA
    assert server.ranges_asked[-2:] == ["bytes=300000-", ""]


async def test_a_part_of_another_size_than_announced_is_dropped(
    serve: Callable[..., Server], target: Path
) -> None:
    server = serve(cuts=[300_000, 0, 0, 0])
    await fails(EngineFault, "download_broken", server.url, target, None, None)
    await fails(EngineFault, "size_wrong", server.url, target, len(DATA) + 1, None)
    assert server.ranges_asked[-1] == ""


async def test_a_part_longer_than_the_file_is_dropped(serve: Callable[..., Server], target: Path) -> None:
    server = serve(cuts=[300_000, 0, 0, 0])
    await fails(EngineFault, "download_broken", server.url, target, None, None)
    server.data = b"short"
    assert await get(server.url, target, None, None) == hashlib.sha256(b"short").hexdigest()


@pytest.mark.parametrize("state", ["", "{", '{"url": 1}', '{"url": "x", "total": 0}', None])
async def test_a_part_of_unknown_origin_is_dropped(
    serve: Callable[..., Server], target: Path, state: str | None
) -> None:
    server = serve()
    target.parent.mkdir()
    target.with_name("m.gguf.part").write_bytes(b"who knows")
    if state is not None:
        target.with_name("m.gguf.part.json").write_text(state)
    assert await get(server.url, target) == SHA
    assert server.ranges_asked == [""]


async def test_what_is_there_and_right_is_not_fetched(serve: Callable[..., Server], target: Path) -> None:
    server = serve()
    await get(server.url, target)
    assert await get(server.url, target) == SHA
    assert len(server.seen) == 1
    spoil(target)
    assert await get(server.url, target) == SHA
    assert len(server.seen) == 2


async def test_a_wrong_checksum_keeps_nothing(serve: Callable[..., Server], target: Path) -> None:
    server = serve()
    error = await fails(EngineFault, "checksum_wrong", server.url + "?secret=1", target, len(DATA), "0" * 64)
    assert error.fields == {"url": server.url}
    assert names(target) == ["m.gguf.lock"]


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
async def test_another_size_than_announced_is_refused_before_it_is_read(
    serve: Callable[..., Server], target: Path, size: int
) -> None:
    error = await fails(EngineFault, "size_wrong", serve().url, target, size, None)
    assert (error.fields["expected"], error.fields["got"]) == (size, len(DATA))
    assert names(target) == ["m.gguf.lock"]


async def test_never_more_than_announced(serve: Callable[..., Server], target: Path) -> None:
    server = serve(headers={"Content-Length": ""})  # until the connection ends
    await fails(EngineFault, "size_wrong", server.url, target, 300_000, None)
    assert names(target) == ["m.gguf.lock"]


@pytest.mark.parametrize(
    ("headers", "error", "key"),
    [
        ({"Content-Length": ""}, EngineRejected, "length_unknown"),
        ({"Content-Encoding": "gzip"}, EngineRejected, "length_unknown"),
        ({"Content-Type": "text/html; charset=utf-8"}, EngineRejected, "hub_html"),
    ],
)
async def test_answers_that_are_no_file(
    serve: Callable[..., Server], target: Path, headers: dict[str, str], error: type[ReviewError], key: str
) -> None:
    await fails(error, key, serve(headers=headers).url, target, None, None)
    assert names(target) == ["m.gguf.lock"]


@pytest.mark.parametrize(
    ("status", "error", "key"),
    [
        (401, EngineRejected, "hub_forbidden"),
        (403, EngineRejected, "hub_forbidden"),
        (404, ModelMissing, "hub_not_found"),
        (400, EngineFault, "hub_status"),
    ],
)
async def test_statuses_that_end_it(
    serve: Callable[..., Server], target: Path, status: int, error: type[ReviewError], key: str
) -> None:
    server = serve(statuses=[status])
    await fails(error, key, server.url, target)
    assert len(server.seen) == 1


async def test_a_server_that_stays_bad_is_given_up(serve: Callable[..., Server], target: Path) -> None:
    server = serve(statuses=[503] * 9)
    error = await fails(EngineFault, "download_broken", server.url, target)
    assert (error.fields["detail"], len(server.seen)) == ("HTTP 503", 4)


async def test_a_disk_that_is_too_small_is_known_before(serve: Callable[..., Server], target: Path) -> None:
    server = serve(headers={"Content-Length": str(10**14)})
    error = await fails(EngineRejected, "disk_short", server.url, target, None, None)
    assert (error.fields["path"], error.fields["needed"]) == (target.parent, "100000.0 GB")
    assert str(error.fields["missing"]).endswith(" GB")
    assert names(target) == ["m.gguf.lock"]


async def test_a_disk_that_fills_up_keeps_what_is_there(serve: Callable[..., Server], target: Path) -> None:
    server = serve()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limit[1]))  # as a disk: a short write, then an error
    try:
        error = await fails(EngineRejected, "disk_failed", server.url, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert error.fields["detail"] == "File too large"
    assert target.with_name("m.gguf.part").stat().st_size == 200_000
    assert await get(server.url, target) == SHA
    assert server.ranges_asked == ["", "bytes=200000-"]


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a file")
    await fails(EngineRejected, "disk_failed", "http://127.0.0.1:1/m.gguf", tmp_path / "in" / "m.gguf")


async def test_two_downloads_of_one_file_do_not_mix(serve: Callable[..., Server], target: Path) -> None:
    target.parent.mkdir()
    server = serve()
    with FileLock(f"{target}.lock"):
        error = await fails(EngineRejected, "download_busy", server.url, target)
    assert error.fields == {"path": target}
    assert server.seen == []


async def test_redirects_to_other_hosts_are_followed_on_this_machine(
    serve: Callable[..., Server], target: Path
) -> None:
    cdn = serve()
    hub = serve(redirects={"/m.gguf": f"http://localhost:{cdn.port}/m.gguf?signature=1"})
    assert await get(hub.url, target) == SHA
    assert cdn.seen[0][0] == "/m.gguf?signature=1"


def scripted(routes: dict[str, httpx.Response], seen: list[httpx.Request]) -> httpx.AsyncClient:
    """Hosts that no test may really reach."""

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return routes[str(request.url)]

    return httpx.AsyncClient(transport=httpx.MockTransport(answer), headers={"Authorization": "Bearer key"})


def to(location: str) -> httpx.Response:
    return httpx.Response(302, headers={"Location": location})


@pytest.mark.parametrize(
    ("url", "hops"),
    [
        ("https://hub/m.gguf", ["https://cdn/x"]),
        ("https://hub/m.gguf", ["/other", "https://cdn/x"]),
        ("http://mirror.lan/m.gguf", ["http://mirror.lan/x"]),
        ("http://mirror.lan/m.gguf", ["https://cdn/x"]),
        ("http://127.0.0.1/m.gguf", ["http://localhost:81/x"]),
    ],
)
async def test_redirects_that_are_followed(target: Path, url: str, hops: list[str]) -> None:
    chain = [url, *(str(httpx.URL(url).join(hop)) for hop in hops)]
    routes = dict(
        zip(
            chain,
            [to(hop) for hop in hops]
            + [
                httpx.Response(200, headers={"Content-Length": str(len(DATA))}, stream=httpx.ByteStream(DATA))
            ],
            strict=True,
        )
    )
    seen: list[httpx.Request] = []
    async with scripted(routes, seen) as client:
        assert await download(client, url, target, size=None, sha256=SHA) == SHA
    home = httpx.URL(url)
    assert [("Authorization" in request.headers) for request in seen] == [
        (request.url.scheme, request.url.netloc) == (home.scheme, home.netloc) for request in seen
    ]


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://hub/m.gguf", "http://hub/m.gguf"),
        ("https://hub/m.gguf", "http://127.0.0.1/x"),
        ("http://mirror.lan/m.gguf", "http://cdn.lan/x"),
        ("http://mirror.lan/m.gguf", "http://127.0.0.1/x"),
        ("http://127.0.0.1/m.gguf", "http://cdn/x"),
        ("https://hub/m.gguf", "file:///etc/passwd"),
        ("https://hub/m.gguf", "https://hub/m.gguf"),
    ],
)
async def test_redirects_that_are_refused(target: Path, url: str, location: str) -> None:
    seen: list[httpx.Request] = []
    async with scripted({url: to(location)}, seen) as client:
        with pytest.raises(EngineRejected, match="redirect_refused"):
            await download(client, url, target, size=None, sha256=None)
    assert {str(request.url) for request in seen} == {url}


async def test_a_redirect_to_nowhere_is_given_up(target: Path) -> None:
    async with scripted({"https://hub/m.gguf": to("https://hub:x/")}, []) as client:
        with pytest.raises(EngineFault, match="download_broken"):
            await download(client, "https://hub/m.gguf", target, size=None, sha256=None, pauses=NO_PAUSE)


async def test_an_address_that_is_none(target: Path) -> None:
    await fails(EngineRejected, "url_invalid", "https://hub:x/m.gguf?secret", target)


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (999, "999 B"), (98_362_432, "98.4 MB"), (4_700_000_000, "4.7 GB")]
)
def test_amounts(count: int, shown: str) -> None:
    assert amount(count) == shown
