"""Where model files come from: what a name means, and what a hub says of the file behind it.

Hugging Face: `/api/models/{repo}/revision/main?blobs=true` gives `sha` (the commit) and per file `rfilename`,
`size` and `lfs.sha256` (huggingface_hub, `HfApi.model_info`). ModelScope: `/api/v1/models/{repo}/repo/files`
gives `Data.Files[]` with `Path`, `Size`, `Sha256` and `Type` (modelscope, `HubApi.get_model_files`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, Field, ValidationError

from review_agent.agent.errors import (
    ConfigError,
    EngineFault,
    EngineRejected,
    ModelMissing,
    ModelUnavailable,
    UsageError,
)
from review_agent.agent.models import TrustClass
from review_agent.tools.download import Answer, follow, length_of, refusal, without_query
from review_agent.tools.endpoints import make_download_client, make_endpoint

if TYPE_CHECKING:
    import httpx

HUGGING_FACE = "https://huggingface.co"
MODELSCOPE = "https://www.modelscope.cn"
DEFAULT_QUANT = "Q4_K_M"
MAX_LISTING = 32 * 1024 * 1024
MAX_NAMED = 20

_PREFIXES = {"hf": "hf", "huggingface": "hf", "modelscope": "modelscope", "ms": "modelscope"}
_REPO = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})"
    r"(?::(?P<quant>[A-Za-z0-9][\w.-]{0,40})|/(?P<file>[^\x00-\x1f\x7f\\?#%]{1,300}\.gguf))?",
    re.ASCII | re.IGNORECASE,
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
# The only names that ever reach the disk; a server's path is used for its URL alone.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}\.gguf", re.IGNORECASE)
_FOLDERS = re.compile(r"(?:[^/\x00-\x1f\x7f\\]{1,200}/){0,8}")
_NOT_A_MODEL = re.compile(r"mmproj|imatrix|(?:^|/)mtp-|-vocab\.gguf$", re.IGNORECASE)
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<total>\d{5})", re.IGNORECASE)
_QUANT = re.compile(
    r"(?<![A-Za-z0-9])((?:UD-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_[A-Z0-9]+)*|BF16|F16|F32|FP16|FP32))"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)

Shape = TypeVar("Shape", bound=BaseModel)


class Hub(StrEnum):
    HUGGING_FACE = "hf"
    MODELSCOPE = "modelscope"
    URL = "url"


@dataclass(frozen=True, slots=True)
class Spec:
    """What the user asked for: `repo` with `quant` or `file` or neither, or a `url`."""

    hub: Hub
    repo: str = ""
    quant: str = ""
    file: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """`name` is safe to use on disk. `size` 0 and `sha256` '' mean that the server does not say."""

    url: str
    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """`files` in the order of their parts. `source` says where from, with the commit where there is one."""

    files: tuple[RemoteFile, ...]
    source: str


def parse_spec(text: str) -> Spec:
    """`hf:owner/repo[:QUANT|/path/file.gguf]`, `modelscope:…` or `ms:…`, `owner/repo[:QUANT]`, a URL.

    Raises UsageError for anything else.
    """
    text = text.strip()
    if "://" in text:
        return _url_spec(text)
    prefix, found, rest = text.partition(":")
    named = _PREFIXES.get(prefix.lower()) if found else None
    match = _REPO.fullmatch(rest if named else text)
    if match is None or ".." in text or "//" in text or (match["file"] and not named):
        raise UsageError("errors_models.spec_unreadable", spec=text)
    return Spec(Hub(named or "hf"), match["repo"], match["quant"] or "", match["file"] or "")


def _url_spec(text: str) -> Spec:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # a bad port is a ValueError
        usable = parts.scheme in ("http", "https") and host and "@" not in parts.netloc
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s\x00-\x1f\x7f\\]", text):
        raise UsageError("errors_models.spec_unreadable", spec=text)
    if not _FILE_NAME.fullmatch(_base_name(unquote(parts.path))):
        raise UsageError("errors_models.url_not_gguf", url=without_query(text))
    return Spec(Hub.URL, url=text)


def open_client(environ: Mapping[str, str]) -> httpx.AsyncClient:
    """The client for `resolve` and `download`; `HF_TOKEN` opens gated repositories on that one endpoint."""
    url = _hugging_face_url(environ)
    token = environ.get("HF_TOKEN", "").strip()
    private = url.startswith("https://") or make_endpoint(url).trust is TrustClass.LOOPBACK
    usable = private and re.fullmatch(r"[!-~]+", token)
    return make_download_client(token=token if usable else "", token_url=url)


async def resolve(client: httpx.AsyncClient, spec: Spec, environ: Mapping[str, str]) -> RemoteModel:
    """The files behind `spec`, with sizes and checksums as the hub has them now."""
    if spec.hub is Hub.URL:
        return await _plain(client, spec.url)
    listed = _hugging_face if spec.hub is Hub.HUGGING_FACE else _modelscope
    listing = await listed(client, spec.repo, environ)
    chosen = _choose(spec, _candidates(listing.entries))
    files = tuple(
        RemoteFile(listing.folder + quote(entry.path), _base_name(entry.path), entry.size, entry.sha256)
        for entry in chosen.parts
    )
    return RemoteModel(files, f"{spec.hub}:{spec.repo}@{listing.revision}/{chosen.parts[0].path}")


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Listing:
    """`folder` is the URL that a file's path is appended to."""

    entries: tuple[_Entry, ...]
    revision: str
    folder: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One model of a repository: a file, or all parts of a split. `quant` in upper case, '' unknown."""

    stem: str
    quant: str
    parts: tuple[_Entry, ...]


class _Lfs(BaseModel):
    sha256: str = ""
    oid: str = ""
    size: int = Field(default=0, ge=0)


class _HfFile(BaseModel):
    rfilename: str
    size: int | None = Field(default=None, ge=0)
    lfs: _Lfs | None = None


class _HfModel(BaseModel):
    sha: str = Field(pattern=r"^[0-9a-f]{40}$")
    siblings: list[_HfFile]


class _MsFile(BaseModel):
    path: str = Field(alias="Path")
    size: int = Field(0, alias="Size", ge=0)
    sha256: str | None = Field(None, alias="Sha256")
    type: str = Field("blob", alias="Type")


class _MsFiles(BaseModel):
    files: list[_MsFile] | None = Field(None, alias="Files")


class _MsAnswer(BaseModel):
    data: _MsFiles | None = Field(None, alias="Data")


async def _hugging_face(client: httpx.AsyncClient, repo: str, environ: Mapping[str, str]) -> _Listing:
    base = _hugging_face_url(environ)
    url = f"{base}/api/models/{repo}/revision/main?blobs=true"
    model = await _ask(client, url, _HfModel, "errors_models.hf_unreachable")
    entries = []
    for file in model.siblings:
        lfs = file.lfs or _Lfs()
        entries.append(_Entry(file.rfilename, lfs.size or file.size or 0, _sha256(lfs.sha256 or lfs.oid)))
    return _Listing(tuple(entries), model.sha, f"{base}/{repo}/resolve/{model.sha}/")


async def _modelscope(client: httpx.AsyncClient, repo: str, environ: Mapping[str, str]) -> _Listing:
    base = _address(environ, "MODELSCOPE_DOMAIN", MODELSCOPE)
    url = f"{base}/api/v1/models/{repo}/repo/files?Revision=master&Recursive=true"
    answer = await _ask(client, url, _MsAnswer, "errors_models.ms_unreachable")
    files = answer.data.files if answer.data else None
    if files is None:  # an error of theirs may come with status 200
        raise ModelMissing("errors_models.hub_not_found", url=without_query(url))
    entries = [
        _Entry(file.path, file.size, _sha256(file.sha256 or "")) for file in files if file.type != "tree"
    ]
    return _Listing(tuple(entries), "master", f"{base}/models/{repo}/resolve/master/")


def _hugging_face_url(environ: Mapping[str, str]) -> str:
    return _address(environ, "HF_ENDPOINT", HUGGING_FACE)


def _address(environ: Mapping[str, str], name: str, default: str) -> str:
    """The hub's address: the variable's, with or without its scheme, else the usual one."""
    value = environ.get(name, "").strip() or default
    try:
        return make_endpoint(value if "://" in value else f"https://{value}").url
    except ConfigError as exc:
        raise ConfigError("errors_models.hub_address", name=name, url=value) from exc


def _candidates(entries: Iterable[_Entry]) -> list[_Candidate]:
    """The models among a repository's files. A split that misses a part is none; one file beats parts."""
    found: dict[tuple[str, int], dict[int, _Entry]] = defaultdict(dict)
    for entry in entries:
        if not _is_model(entry.path):
            continue
        stem = entry.path[: -len(".gguf")]
        split = _SPLIT.fullmatch(stem)
        key = (split["stem"], int(split["total"])) if split else (stem, 1)
        found[key][int(split["part"]) if split else 1] = entry
    whole: dict[str, _Candidate] = {}
    for (stem, total), parts in sorted(found.items(), key=lambda item: item[0]):
        if stem not in whole and len(parts) == total and min(parts) == 1 and max(parts) == total:
            whole[stem] = _Candidate(stem, _quant(stem), tuple(parts[number] for number in sorted(parts)))
    return list(whole.values())


def _is_model(path: str) -> bool:
    """A path is a server's word: what is odd is no model."""
    folders, name = path[: path.rfind("/") + 1], _base_name(path)
    if not _FOLDERS.fullmatch(folders) or ".." in folders or not _FILE_NAME.fullmatch(name):
        return False
    return _NOT_A_MODEL.search(path) is None


def _quant(stem: str) -> str:
    """From the file's name, else from the folder it is in."""
    folder, _, name = stem.rpartition("/")
    found = _QUANT.findall(name) or _QUANT.findall(folder)
    return found[-1].upper() if found else ""


def _choose(spec: Spec, candidates: Sequence[_Candidate]) -> _Candidate:
    if not candidates:
        raise ModelMissing("errors_models.no_gguf", repo=spec.repo)
    if spec.file:
        fitting = [one for one in candidates if any(part.path == spec.file for part in one.parts)]
    else:
        wanted = (spec.quant or DEFAULT_QUANT).upper()
        fitting = [one for one in candidates if one.quant == wanted]
        if not fitting:  # MXFP4_MOE for MXFP4, UD-Q4_K_XL for Q4_K_XL, words that are no quantization we know
            fitting = [one for one in candidates if _holds(one, wanted)]
        if not fitting and not spec.quant and len(candidates) == 1:
            fitting = list(candidates)
    if len(fitting) == 1:
        return fitting[0]
    if len(fitting) > 1:
        files = [f"{spec.hub}:{spec.repo}/{one.parts[0].path}" for one in fitting]
        raise ModelMissing("errors_models.quant_ambiguous", repo=spec.repo, files=_some(files))
    asked = spec.file or spec.quant or DEFAULT_QUANT
    known = sorted({one.quant or one.parts[0].path for one in candidates})
    raise ModelMissing("errors_models.quant_missing", repo=spec.repo, quant=asked, known=_some(known))


def _holds(candidate: _Candidate, word: str) -> bool:
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", candidate.stem, re.I) is not None


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:MAX_NAMED], *(["…"] if len(names) > MAX_NAMED else [])])


async def _plain(client: httpx.AsyncClient, url: str) -> RemoteModel:
    """HEAD, or one byte by GET where HEAD is not allowed, as with addresses signed for GET."""
    async with _asked(client, "HEAD", url) as answer:
        known = answer.response.status_code == 200
        if known:
            _check(answer, url)
            size, sha256 = _facts(answer)
    if not known:
        async with _asked(client, "GET", url, {"Range": "bytes=0-0"}) as answer:
            _check(answer, url)
            size, sha256 = _facts(answer)
    name = _base_name(unquote(urlsplit(url).path))
    return RemoteModel((RemoteFile(url, name, size, sha256),), without_query(url))


def _facts(answer: Answer) -> tuple[int, str]:
    """Size and sha256. Hugging Face says both on its redirect to the file (`X-Linked-…`)."""
    last = answer.response.headers
    first = answer.passed[0] if answer.passed else last
    for headers in (*answer.passed, last):
        if sha256 := _sha256(headers.get("X-Linked-Etag", "")):
            linked = headers.get("X-Linked-Size", "")
            return (int(linked) if re.fullmatch(r"[0-9]{1,15}", linked) else 0), sha256
    whole = re.fullmatch(r"bytes 0-0/([0-9]{1,15})", last.get("Content-Range", ""))
    # Only of the host that was asked: Hugging Face's storage has 64 hex digits there that are no sha256.
    return int(whole[1]) if whole else length_of(last), _sha256(first.get("ETag", ""))


def _sha256(text: str) -> str:
    bare = text.strip().strip('"').lower().removeprefix("sha256:")
    return bare if _SHA256.fullmatch(bare) else ""


def _base_name(path: str) -> str:
    return path.rpartition("/")[2]


async def _ask(client: httpx.AsyncClient, url: str, shape: type[Shape], unreachable: str) -> Shape:
    body = bytearray()
    async with _asked(client, "GET", url, unreachable=unreachable) as answer:
        _check(answer, url)
        async for block in answer.response.aiter_bytes():
            body += block
            if len(body) > MAX_LISTING:
                raise EngineFault("errors_models.hub_unreadable", url=without_query(url))
    try:
        return shape.model_validate_json(bytes(body))
    except ValidationError as exc:
        raise EngineFault("errors_models.hub_unreadable", url=without_query(url)) from exc


def _check(answer: Answer, url: str) -> None:
    if answer.response.status_code not in (200, 206):
        raise refusal(url, answer)
    if answer.response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise EngineRejected("errors_models.hub_html", url=without_query(url))


@asynccontextmanager
async def _asked(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    headers: Mapping[str, str] | None = None,
    *,
    unreachable: str = "errors_models.url_unreachable",
) -> AsyncIterator[Answer]:
    import httpx

    try:
        async with follow(client, method, url, headers or {}) as answer:
            yield answer
    except httpx.RequestError as exc:
        detail = str(exc) or type(exc).__name__
        raise ModelUnavailable(unreachable, host=urlsplit(url).hostname, detail=detail) from exc
