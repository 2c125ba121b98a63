"""What a name means, and what is chosen of what a hub lists. The hubs are on loopback and answer as the real ones do."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from review_agent.agent.errors import (
    ConfigError,
    EngineFault,
    EngineRejected,
    ModelMissing,
    ModelUnavailable,
    ReviewError,
    UsageError,
)
from review_agent.tools.download import download
from review_agent.tools.endpoints import make_download_client
from review_agent.tools.hubs import Hub, RemoteFile, RemoteModel, Spec, open_client, parse_spec, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA = hashlib.sha256(b"weights").hexdigest()
HF_API = "/api/models/o/r/revision/main?blobs=true"
MS_API = "/api/v1/models/o/r/repo/files?Revision=master&Recursive=true"


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Hubs:
    """Answers by path; `seen` are method, path and Authorization."""

    url: str
    routes: dict[str, Reply] = field(default_factory=dict)
    seen: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.url + "/", "MODELSCOPE_DOMAIN": self.url}

    def hf(self, *files: dict[str, object], sha: str = COMMIT) -> None:
        self.routes[HF_API] = page(
            {"sha": sha, "gated": False, "siblings": [{"rfilename": "README.md"}, *files]}
        )

    def ms(self, *files: dict[str, object]) -> None:
        self.routes[MS_API] = page({"Code": 200, "Success": True, "Data": {"Files": list(files)}})


def page(value: object) -> Reply:
    return Reply(200, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8"})


@pytest.fixture
def hubs() -> Iterator[Hubs]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            owner.seen.append((self.command, self.path, self.headers.get("Authorization", "")))
            reply = owner.routes.get(f"{self.command} {self.path}") or owner.routes.get(self.path, Reply(404))
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(reply.body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    owner = Hubs(f"http://127.0.0.1:{http.server_address[1]}")
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield owner
    http.shutdown()
    http.server_close()


def hf_file(path: str, size: int = 7, sha256: str = SHA) -> dict[str, object]:
    lfs = {"sha256": sha256, "size": size, "pointerSize": 135}
    return {"rfilename": path, "size": size, "blobId": "1" * 40, "lfs": lfs}


async def ask(hubs: Hubs, spec: str, environ: dict[str, str] | None = None) -> RemoteModel:
    environ = hubs.environ if environ is None else environ
    async with open_client(environ) as client:
        return await resolve(client, parse_spec(spec), environ)


def contents(path: Path) -> bytes:
    return path.read_bytes()


async def refused(
    error: type[ReviewError], key: str, hubs: Hubs, spec: str, environ: dict[str, str] | None = None
) -> dict[str, object]:
    with pytest.raises(error) as caught:
        await ask(hubs, spec, environ)
    assert caught.value.key == f"errors_models.{key}"
    return caught.value.fields


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("hf:o/r", Spec(Hub.HUGGING_FACE, "o/r")),
        ("HF:Qwen/Qwen2.5-Coder-7B-Instruct-GGUF:q8_0", Spec(Hub.HUGGING_FACE, "Qwen/Qwen2.5-Coder-7B-Instruct-GGUF", "q8_0")),
        ("hf:o/r/m.gguf", Spec(Hub.HUGGING_FACE, "o/r", file="m.gguf")),
        ("hf:o/r/Q8_0/a b.gguf", Spec(Hub.HUGGING_FACE, "o/r", file="Q8_0/a b.gguf")),
        (" o/r ", Spec(Hub.HUGGING_FACE, "o/r")),
        ("o/r:Q8_0", Spec(Hub.HUGGING_FACE, "o/r", "Q8_0")),
        ("modelscope:o/r", Spec(Hub.MODELSCOPE, "o/r")),
        ("ms:o/r:Q8_0", Spec(Hub.MODELSCOPE, "o/r", "Q8_0")),
        ("ms:o/r/m.gguf", Spec(Hub.MODELSCOPE, "o/r", file="m.gguf")),
        ("https://h/a/m.gguf", Spec(Hub.URL, url="https://h/a/m.gguf")),
        ("http://mirror.lan:81/m.GGUF?x=1", Spec(Hub.URL, url="http://mirror.lan:81/m.GGUF?x=1")),
    ],
)  # fmt: skip
def test_names_that_are_understood(text: str, spec: Spec) -> None:
    assert parse_spec(text) == spec


@pytest.mark.parametrize(
    ("text", "key"),
    [
        *((text, "spec_unreadable") for text in (
            "", "m", "hf:", "hf:m", "hf:o/r/", "hf:o/r/README.md", "hf:o/r:", "hf:o/r:Q8_0:x", "hf:../r", "hf:o/..", "hf:o/r/../x.gguf",
            "hf:o/r//x.gguf", "hf:o/r/x?y.gguf", "hf:o/r\x00.gguf", "o/r/m.gguf", "./o/r", "/o/r", "o r/m", "ollama:o/r",
            "hf:拥有者/仓库", "https:///m.gguf", "ftp://h/m.gguf", "file:///m.gguf", "https://user:key@h/m.gguf", "https://[/m.gguf",
            "https://h:x/m.gguf", "https://h/a b.gguf",
        )),
        *((text, "url_not_gguf") for text in (
            "https://h/", "https://h", "https://h/m.bin", "https://h/m.gguf/", "https://h/?f=m.gguf", "https://h/..%2f.gguf",
            "https://h/a%2F-m.gguf", "https://h/.gguf", "https://h/%E6%A8%A1.gguf", "https://h/a%0Ab.gguf",
        )),
    ],
)  # fmt: skip
def test_names_that_are_not(text: str, key: str) -> None:
    with pytest.raises(UsageError, match=key):
        parse_spec(text)


async def test_hugging_face_pins_the_commit_and_gives_the_sum(hubs: Hubs) -> None:
    hubs.hf(hf_file("m-Q4_K_M.gguf"), hf_file("m-Q8_0.gguf", 9, "b" * 64))
    assert await ask(hubs, "hf:o/r") == RemoteModel(
        (RemoteFile(f"{hubs.url}/o/r/resolve/{COMMIT}/m-Q4_K_M.gguf", "m-Q4_K_M.gguf", 7, SHA),),
        f"hf:o/r@{COMMIT}/m-Q4_K_M.gguf",
    )


async def test_modelscope(hubs: Hubs) -> None:
    blob = {"Type": "blob", "Revision": "c" * 40, "IsLFS": True}
    hubs.ms(
        {"Name": "Q8_0", "Path": "Q8_0", "Type": "tree", "Size": 0, "Sha256": ""},
        {"Name": "m-Q4_K_M.gguf", "Path": "m-Q4_K_M.gguf", "Type": "tree", "Size": 0, "Sha256": ""},
        {"Name": "m #1-q4_k_m.gguf", "Path": "x #1/m-q4_k_m.gguf", "Size": 7, "Sha256": SHA.upper(), **blob},
        {"Name": "m-Q8_0.gguf", "Path": "Q8_0/m-Q8_0.gguf", "Size": 9, "Sha256": None, **blob},
    )
    assert await ask(hubs, "ms:o/r") == RemoteModel(
        (
            RemoteFile(
                f"{hubs.url}/models/o/r/resolve/master/x%20%231/m-q4_k_m.gguf", "m-q4_k_m.gguf", 7, SHA
            ),
        ),
        "modelscope:o/r@master/x #1/m-q4_k_m.gguf",
    )
    assert (await ask(hubs, "modelscope:o/r:Q8_0")).files[0].sha256 == ""


CODER = [
    "qwen2.5-coder-7b-instruct-fp16-00001-of-00002.gguf",
    "qwen2.5-coder-7b-instruct-fp16-00002-of-00002.gguf",
    "qwen2.5-coder-7b-instruct-q4_k_m-00001-of-00002.gguf",
    "qwen2.5-coder-7b-instruct-q4_k_m-00002-of-00002.gguf",
    "qwen2.5-coder-7b-instruct-q4_k_m.gguf",
    "qwen2.5-coder-7b-instruct-q8_0.gguf",
]
UNSLOTH = [
    "M-Q4_K_M.gguf",
    "M-UD-Q4_K_XL.gguf",
    "M-IQ4_NL.gguf",
    "BF16/M-BF16-00001-of-00002.gguf",
    "BF16/M-BF16-00002-of-00002.gguf",
    "mmproj-F16.gguf",
    "mmproj-model-Q4_K_M.gguf",
    "imatrix_Q4_K_M.gguf",
    "mtp-M-Q4_K_M.gguf",
]


@pytest.mark.parametrize(
    ("listed", "spec", "chosen"),
    [
        (CODER, "o/r", CODER[4:5]),
        (CODER, "o/r:Q8_0", CODER[5:]),
        (CODER, "o/r:FP16", CODER[:2]),
        (CODER, "hf:o/r/" + CODER[1], CODER[:2]),
        (UNSLOTH, "o/r", UNSLOTH[:1]),
        (UNSLOTH, "o/r:UD-Q4_K_XL", UNSLOTH[1:2]),
        (UNSLOTH, "o/r:q4_k_xl", UNSLOTH[1:2]),
        (UNSLOTH, "o/r:bf16", UNSLOTH[3:5]),
        (["Q4_K_M/model.gguf", "Q8_0/model.gguf"], "o/r", ["Q4_K_M/model.gguf"]),
        (["Q4_K_M/m-00002-of-00002.gguf", "Q4_K_M/m-00001-of-00002.gguf"], "o/r", ["Q4_K_M/m-00001-of-00002.gguf", "Q4_K_M/m-00002-of-00002.gguf"]),
        (["gpt-oss-20b-mxfp4.gguf"], "o/r", ["gpt-oss-20b-mxfp4.gguf"]),
        (["gpt-oss-20b-MXFP4_MOE.gguf", "gpt-oss-20b-F16.gguf"], "o/r:mxfp4", ["gpt-oss-20b-MXFP4_MOE.gguf"]),
        (["only-Q6_K.gguf", "mmproj-F16.gguf"], "o/r", ["only-Q6_K.gguf"]),
        (["m-base.gguf", "m-chat.gguf"], "o/r:chat", ["m-chat.gguf"]),
    ],
)  # fmt: skip
async def test_which_file_is_chosen(hubs: Hubs, listed: list[str], spec: str, chosen: list[str]) -> None:
    hubs.hf(*(hf_file(path) for path in listed))
    found = await ask(hubs, spec)
    assert [file.url.partition(f"{COMMIT}/")[2] for file in found.files] == chosen
    assert [file.name for file in found.files] == [path.rpartition("/")[2] for path in chosen]


@pytest.mark.parametrize(
    ("listed", "spec", "key", "fields"),
    [
        ([], "o/r", "no_gguf", {"repo": "o/r"}),
        (["model.safetensors", "mmproj-F16.gguf"], "o/r", "no_gguf", {"repo": "o/r"}),
        (["a-Q8_0.gguf", "a-Q6_K.gguf"], "o/r", "quant_missing", {"repo": "o/r", "quant": "Q4_K_M", "known": "Q6_K, Q8_0"}),
        (["Q8_0/a.gguf", "Q6_K/a.gguf"], "o/r", "quant_missing", {"repo": "o/r", "quant": "Q4_K_M", "known": "Q6_K, Q8_0"}),
        (["a-Q8_0.gguf"], "o/r:Q4_0", "quant_missing", {"repo": "o/r", "quant": "Q4_0", "known": "Q8_0"}),
        (["a-Q8_0.gguf"], "hf:o/r/b.gguf", "quant_missing", {"repo": "o/r", "quant": "b.gguf", "known": "Q8_0"}),
        (["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"], "o/r", "quant_ambiguous", {"repo": "o/r", "files": "hf:o/r/a-Q4_K_M.gguf, hf:o/r/b-Q4_K_M.gguf"}),
        (["a-Q4_K_M-00001-of-00003.gguf", "a-Q4_K_M-00003-of-00003.gguf"], "o/r", "no_gguf", {"repo": "o/r"}),
        (["a-Q4_K_M-00001-of-99999.gguf"], "o/r", "no_gguf", {"repo": "o/r"}),
    ],
)  # fmt: skip
async def test_what_cannot_be_chosen(
    hubs: Hubs, listed: list[str], spec: str, key: str, fields: dict[str, object]
) -> None:
    hubs.hf(*(hf_file(path) for path in listed))
    assert await refused(ModelMissing, key, hubs, spec) == fields


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/m-Q4_K_M.gguf", "a/../m-Q4_K_M.gguf", "/m-Q4_K_M.gguf", "a//m-Q4_K_M.gguf", "-rf-Q4_K_M.gguf", ".m-Q4_K_M.gguf",
        "m\\..\\x-Q4_K_M.gguf", "m\x00-Q4_K_M.gguf", "m\n-Q4_K_M.gguf", "a\x1b[2J/m-Q4_K_M.gguf", "m$(id)-Q4_K_M.gguf", "m Q4_K_M.gguf",
        "模型-Q4_K_M.gguf", "x" * 300 + "-Q4_K_M.gguf", "a/" * 40 + "m-Q4_K_M.gguf", "m-Q4_K_M.gguf/", "m-Q4_K_M.gguf\n",
    ],
)  # fmt: skip
async def test_hostile_names_are_never_chosen(hubs: Hubs, path: str) -> None:
    hubs.hf(hf_file(path), hf_file("ok-Q8_0.gguf"))
    assert (await ask(hubs, "o/r")).files[0].name == "ok-Q8_0.gguf"


@pytest.mark.parametrize(
    "lfs",
    [None, {}, {"sha256": "nonsense"}, {"sha256": "../x"}, {"oid": f"sha256:{SHA}"}, {"oid": SHA, "size": 7}],
)
async def test_sums_and_sizes_that_are_missing_or_elsewhere(
    hubs: Hubs, lfs: dict[str, object] | None
) -> None:
    hubs.hf({"rfilename": "m.gguf", "size": 7, "lfs": lfs})
    file = (await ask(hubs, "o/r")).files[0]
    assert (file.size, file.sha256) == (7, SHA if lfs and "oid" in lfs else "")


@pytest.mark.parametrize(
    ("reply", "error", "key"),
    [
        (Reply(401, b"{}", {"X-Error-Code": "RepoNotFound"}), ModelMissing, "hub_not_found"),
        (Reply(401, b"{}", {"X-Error-Code": "GatedRepo"}), EngineRejected, "hub_forbidden"),
        (Reply(401), EngineRejected, "hub_forbidden"),
        (Reply(403), EngineRejected, "hub_forbidden"),
        (Reply(404), ModelMissing, "hub_not_found"),
        (Reply(500), EngineFault, "hub_status"),
        (Reply(200, b"<html>log in</html>", {"Content-Type": "text/html"}), EngineRejected, "hub_html"),
        (Reply(200, b"<html>"), EngineFault, "hub_unreadable"),
        (Reply(200, b'{"sha": "main", "siblings": []}'), EngineFault, "hub_unreadable"),
        (Reply(200, b'{"sha": "' + COMMIT.encode() + b'", "siblings": [{"rfilename": 7}]}'), EngineFault, "hub_unreadable"),
        (Reply(200, b"[" * 100_000), EngineFault, "hub_unreadable"),
        (Reply(302, b"", {"Location": "ftp://elsewhere/"}), EngineRejected, "redirect_refused"),
    ],
)  # fmt: skip
async def test_answers_of_hugging_face_that_are_no_listing(
    hubs: Hubs, reply: Reply, error: type[ReviewError], key: str
) -> None:
    hubs.routes[HF_API] = reply
    await refused(error, key, hubs, "o/r")


@pytest.mark.parametrize(
    ("reply", "error", "key"),
    [
        (page({"Code": 10010205001, "Success": False, "Message": "not found", "Data": None}), ModelMissing, "hub_not_found"),
        (page({"Code": 200, "Data": {"Files": None}}), ModelMissing, "hub_not_found"),
        (page({"Code": 200, "Data": {"Files": []}}), ModelMissing, "no_gguf"),
        (page({"Data": {"Files": [{"Path": ["x"]}]}}), EngineFault, "hub_unreadable"),
        (Reply(404), ModelMissing, "hub_not_found"),
    ],
)  # fmt: skip
async def test_answers_of_modelscope_that_are_no_listing(
    hubs: Hubs, reply: Reply, error: type[ReviewError], key: str
) -> None:
    hubs.routes[MS_API] = reply
    await refused(error, key, hubs, "ms:o/r")


async def test_a_mirror_may_send_on_to_the_hub(hubs: Hubs) -> None:
    hubs.hf(hf_file("m.gguf"))
    mirror = {"HF_ENDPOINT": f"{hubs.url}/mirror"}
    hubs.routes["/mirror" + HF_API] = Reply(308, b"", {"Location": HF_API})
    assert (await ask(hubs, "o/r", mirror)).files[0].url == f"{hubs.url}/mirror/o/r/resolve/{COMMIT}/m.gguf"


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ("o/r", "hf_unreachable"),
        ("ms:o/r", "ms_unreachable"),
        ("http://127.0.0.1:1/m.gguf", "url_unreachable"),
    ],
)
async def test_hosts_that_do_not_answer(hubs: Hubs, spec: str, key: str) -> None:
    nobody = "http://127.0.0.1:1"
    fields = await refused(
        ModelUnavailable, key, hubs, spec, {"HF_ENDPOINT": nobody, "MODELSCOPE_DOMAIN": nobody}
    )
    assert fields["host"] == "127.0.0.1"


@pytest.mark.parametrize("name", ["HF_ENDPOINT", "MODELSCOPE_DOMAIN"])
@pytest.mark.parametrize("value", ["ftp://x", "https://", "https://u:p@x", "a b", "https://x?y"])
async def test_addresses_that_are_none(hubs: Hubs, name: str, value: str) -> None:
    environ = hubs.environ | {name: value}
    spec = "ms:o/r" if name.startswith("M") else "o/r"
    assert await refused(ConfigError, "hub_address", hubs, spec, environ) == {"name": name, "url": value}


@pytest.mark.parametrize(
    ("environ", "spec", "url"),
    [
        ({}, "o/r", "https://huggingface.co/api/models/o/r/revision/main?blobs=true"),
        ({"HF_ENDPOINT": "hf-mirror.com"}, "o/r", "https://hf-mirror.com/api/models/o/r/revision/main?blobs=true"),
        ({"HF_ENDPOINT": "http://mirror.lan/hf/"}, "o/r", "http://mirror.lan/hf/api/models/o/r/revision/main?blobs=true"),
        ({}, "ms:o/r", "https://www.modelscope.cn/api/v1/models/o/r/repo/files?Revision=master&Recursive=true"),
        ({"MODELSCOPE_DOMAIN": "www.modelscope.ai"}, "ms:o/r", "https://www.modelscope.ai/api/v1/models/o/r/repo/files?Revision=master&Recursive=true"),
    ],
)  # fmt: skip
async def test_which_address_is_asked(environ: dict[str, str], spec: str, url: str) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(404)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(ModelMissing):
            await resolve(client, parse_spec(spec), environ)
    assert seen == [url]


FILE = "/o/r/resolve/main/m.gguf"


@pytest.mark.parametrize(
    ("routes", "size", "sha256"),
    [
        ({FILE: Reply(200, b"weights")}, 7, ""),
        ({FILE: Reply(200, b"weights", {"ETag": f'"{SHA}"'})}, 7, SHA),
        ({FILE: Reply(200, b"weights", {"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'})}, 7, ""),
        # Hugging Face: the facts are on the redirect, and the storage's tag is another hash
        ({FILE: Reply(302, b"", {"Location": "/cdn/x", "X-Linked-Etag": f'"{SHA}"', "X-Linked-Size": "7"}), "/cdn/x": Reply(200, b"w", {"ETag": '"' + "f" * 64 + '"'})}, 7, SHA),
        ({FILE: Reply(302, b"", {"Location": "/cdn/x"}), "/cdn/x": Reply(200, b"weights", {"ETag": '"' + "f" * 64 + '"'})}, 7, ""),
        # addresses signed for GET
        ({"HEAD " + FILE: Reply(403), FILE: Reply(206, b"w", {"Content-Range": "bytes 0-0/7"})}, 7, ""),
        ({"HEAD " + FILE: Reply(405), FILE: Reply(200, b"weights")}, 7, ""),
    ],
)  # fmt: skip
async def test_a_plain_address(hubs: Hubs, routes: dict[str, Reply], size: int, sha256: str) -> None:
    hubs.routes = routes
    url = hubs.url + FILE
    assert await ask(hubs, url) == RemoteModel((RemoteFile(url, "m.gguf", size, sha256),), url)


async def test_the_query_of_a_plain_address_is_not_kept(hubs: Hubs) -> None:
    hubs.routes["/m.gguf?signature=secret"] = Reply(200, b"weights")
    assert (await ask(hubs, hubs.url + "/m.gguf?signature=secret")).source == hubs.url + "/m.gguf"


@pytest.mark.parametrize(
    ("reply", "error", "key"),
    [
        (Reply(404), ModelMissing, "hub_not_found"),
        (Reply(401), EngineRejected, "hub_forbidden"),
        (Reply(200, b"<html>", {"Content-Type": "text/html"}), EngineRejected, "hub_html"),
    ],
)
async def test_plain_addresses_that_are_no_file(
    hubs: Hubs, reply: Reply, error: type[ReviewError], key: str
) -> None:
    hubs.routes[f"{FILE}?key=1"] = reply
    assert (await refused(error, key, hubs, f"{hubs.url}{FILE}?key=1"))["url"] == hubs.url + FILE


async def test_a_token_opens_a_gated_repository_and_goes_nowhere_else(hubs: Hubs, tmp_path: Path) -> None:
    hubs.hf(hf_file("m.gguf"))
    elsewhere = hubs.url.replace("127.0.0.1", "localhost")
    hubs.routes[f"/o/r/resolve/{COMMIT}/m.gguf"] = Reply(302, b"", {"Location": f"{elsewhere}/cdn/m.gguf"})
    hubs.routes["/cdn/m.gguf"] = Reply(200, b"weights")
    async with open_client(hubs.environ | {"HF_TOKEN": "hf_secret"}) as client:
        file = (await resolve(client, parse_spec("o/r"), hubs.environ)).files[0]
        await download(client, file.url, tmp_path / file.name, size=file.size, sha256=file.sha256)
    assert [(path.rpartition("/")[2][:6], token) for _, path, token in hubs.seen] == [
        ("main?b", "Bearer hf_secret"),
        ("m.gguf", "Bearer hf_secret"),
        ("m.gguf", ""),
    ]


@pytest.mark.parametrize("environ", [{"HF_TOKEN": "a b"}, {"HF_TOKEN": "x\ny"}, {"HF_TOKEN": "密"}, {}])
async def test_words_that_are_no_token_are_not_sent(hubs: Hubs, environ: dict[str, str]) -> None:
    hubs.hf(hf_file("m.gguf"))
    await ask(hubs, "o/r", hubs.environ | environ)
    assert [token for _, _, token in hubs.seen] == [""]


async def test_a_token_is_not_sent_in_the_clear() -> None:
    async with open_client({"HF_TOKEN": "t", "HF_ENDPOINT": "http://mirror.lan"}) as client:
        assert client.auth is None


async def test_a_whole_pull_of_two_parts(hubs: Hubs, tmp_path: Path) -> None:
    parts = {f"m-Q4_K_M-{number:05}-of-00002.gguf": bytes([number]) * 1000 for number in (1, 2)}
    for name, body in parts.items():
        hubs.routes[f"/o/r/resolve/{COMMIT}/{name}"] = Reply(200, body)
    hubs.hf(*(hf_file(name, 1000, hashlib.sha256(body).hexdigest()) for name, body in parts.items()))
    async with open_client(hubs.environ) as client:
        for file in (await resolve(client, parse_spec("o/r"), hubs.environ)).files:
            await download(client, file.url, tmp_path / file.name, size=file.size, sha256=file.sha256)
    assert {name: contents(tmp_path / name) for name in parts} == parts


async def test_proxies_are_for_others_only(hubs: Hubs, monkeypatch: pytest.MonkeyPatch) -> None:
    hubs.hf(hf_file("m.gguf"))
    hubs.routes["http://mirror.invalid/m.gguf"] = Reply(200, b"weights")  # as a proxy is asked
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, hubs.url)
    assert (await ask(hubs, "o/r")).files[0].name == "m.gguf"
    assert (await ask(hubs, "http://mirror.invalid/m.gguf")).files[0].size == 7
    assert [path for _, path, _ in hubs.seen] == [HF_API, "http://mirror.invalid/m.gguf"]


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "gopher://x"])
def test_proxies_that_cannot_be_used_are_named(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ConfigError, match="proxy_unusable"):
        make_download_client()
