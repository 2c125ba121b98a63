"""The folder of models: one sub-folder each, the GGUF file(s) under their own names beside a `model.json`."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, Field, ValidationError

from review_agent.agent.errors import EngineRejected, ModelMissing, UsageError
from review_agent.tools.download import sync_folder
from review_agent.tools.gguf import read_header

INCOMING = ".incoming"
SAMPLE = 8 * 1024 * 1024
MAX_PARTS = 999

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
_FILE_NAME = re.compile(r"[^/\x00]{1,255}\.gguf", re.IGNORECASE)
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<total>\d{5})\.gguf", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model on this disk. `file` is its first part, `size` that of all parts, `parameters` in billions.

    `digest` is `sha256:…` of the content; for a user's own file `sampled:…`, see `find_model`.
    """

    name: str
    file: Path
    size: int
    digest: str
    source: str
    context: int
    parameters: float
    kv_bytes_per_token: int


class _Row(BaseModel):
    """`model.json`."""

    files: list[str] = Field(min_length=1, max_length=MAX_PARTS)
    size: int = Field(ge=0)
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    source: str
    context: int = Field(ge=0)
    parameters: float = Field(ge=0, allow_inf_nan=False)
    kv_bytes_per_token: int = Field(ge=0)


def default_folder() -> Path:
    from platformdirs import user_data_path

    return user_data_path("review-agent") / "models"


def list_models(folder: Path) -> list[StoredModel]:
    """By name. What is damaged is left out: `find_model` says that it is not there, and how to get it."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []
    return [model for name in names if (model := _stored(folder, name)) is not None]


def find_model(folder: Path, name: str) -> StoredModel:
    """A stored model by name, or the user's own GGUF file by path (with a `/`, or ending in `.gguf`).

    The digest of an own file covers its size, first and last 8 MiB: hashing 5 GB takes too long at a start.
    Raises ModelMissing, or EngineRejected for a file that is no GGUF.
    """
    if "/" in name or name.lower().endswith(".gguf"):
        return _own_file(Path(name).expanduser())
    model = _stored(folder, name)
    if model is None:
        installed = ", ".join(one.name for one in list_models(folder)) or "-"
        raise ModelMissing("errors_models.model_not_stored", model=name, installed=installed)
    return model


def add_model(
    folder: Path, name: str, parts: Sequence[Path], *, digests: Sequence[str], source: str
) -> StoredModel:
    """Move `parts` (inside `folder/.incoming/`; in order, with their sha256) into place as model `name`.

    The model appears whole or not at all; an older one of that name is replaced.
    """
    if not _NAME.fullmatch(name) or name.lower().endswith(".gguf"):
        raise UsageError("errors_models.model_name_bad", name=name)
    info = read_header(parts[0])
    bare = [digest.removeprefix("sha256:") for digest in digests]
    row = _Row(
        files=[part.name for part in parts],
        size=sum(part.stat().st_size for part in parts),
        digest="sha256:"
        + (bare[0] if len(bare) == 1 else hashlib.sha256("".join(bare).encode()).hexdigest()),
        source=source,
        context=info.context,
        parameters=info.parameters,
        kv_bytes_per_token=info.kv_bytes_per_token,
    )
    try:
        _put(folder, name, parts, row)
    except OSError as exc:
        path, detail = exc.filename or folder, exc.strerror or type(exc).__name__
        raise EngineRejected("errors_models.disk_failed", path=path, detail=detail) from exc
    return _model(folder / name, name, row)


def _put(folder: Path, name: str, parts: Sequence[Path], row: _Row) -> None:
    incoming = folder / INCOMING
    incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    stage = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=incoming))
    card = (
        stage / "model.json"
    )  # first: if the disk is full, the parts stay where the next try looks for them
    card.write_text(row.model_dump_json(indent=1), encoding="utf-8")
    _sync_file(card)
    for part in parts:
        _sync_file(part)
    with FileLock(incoming / ".lock"):
        for part in parts:
            part.replace(stage / part.name)
        sync_folder(stage)
        _swap(stage, folder / name)
    for left in {part.parent for part in parts}:
        if incoming in left.parents:
            _clear(left)


def _swap(new: Path, place: Path) -> None:
    """A folder cannot replace a full one in one step; if the second step fails, the old one comes back."""
    old = Path(tempfile.mkdtemp(prefix=f"{place.name}.old.", dir=new.parent))
    with suppress(FileNotFoundError):
        place.rename(old)
    try:
        new.rename(place)
    except OSError:
        old.rename(place)
        raise
    sync_folder(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _clear(folder: Path) -> None:
    """Remove the emptied folder of a download, unless something else is still coming into it."""
    with suppress(OSError):
        for lock in folder.glob("*.lock"):
            lock.unlink()
        folder.rmdir()


def _stored(folder: Path, name: str) -> StoredModel | None:
    if not _NAME.fullmatch(name):
        return None
    try:
        row = _Row.model_validate_json((folder / name / "model.json").read_bytes())
        if not all(_FILE_NAME.fullmatch(file) for file in row.files):
            return None
        size = sum((folder / name / file).stat().st_size for file in row.files)
    except (OSError, ValidationError):
        return None
    return _model(folder / name, name, row) if size == row.size else None


def _model(folder: Path, name: str, row: _Row) -> StoredModel:
    return StoredModel(
        name=name,
        file=folder / row.files[0],
        size=row.size,
        digest=row.digest,
        source=row.source,
        context=row.context,
        parameters=row.parameters,
        kv_bytes_per_token=row.kv_bytes_per_token,
    )


def _own_file(path: Path) -> StoredModel:
    if not path.is_file():
        raise ModelMissing("errors_models.model_file_missing", path=path)
    parts = _parts_of(path)
    info = read_header(parts[0])
    sampled = hashlib.sha256()
    try:
        for part in parts:
            _sample(part, sampled)
        size = sum(part.stat().st_size for part in parts)
    except OSError as exc:
        detail = exc.strerror or type(exc).__name__
        raise EngineRejected("errors_models.gguf_unreadable", path=path, detail=detail) from exc
    return StoredModel(
        name=parts[0].name.removesuffix(".gguf"),
        file=parts[0].absolute(),
        size=size,
        digest=f"sampled:{sampled.hexdigest()}",
        source="",
        context=info.context,
        parameters=info.parameters,
        kv_bytes_per_token=info.kv_bytes_per_token,
    )


def _parts_of(path: Path) -> list[Path]:
    """All files of a split, whichever of them was named."""
    split = _SPLIT.fullmatch(path.name)
    if split is None or not 0 < int(split["total"]) <= MAX_PARTS:
        return [path]
    total = int(split["total"])
    parts = [
        path.with_name(f"{split['stem']}-{number:05}-of-{total:05}{path.suffix}")
        for number in range(1, total + 1)
    ]
    for part in parts:
        if not part.is_file():
            raise ModelMissing("errors_models.model_file_missing", path=part)
    return parts


def _sample(path: Path, into: hashlib._Hash) -> None:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        into.update(size.to_bytes(8, "little"))
        into.update(file.read(SAMPLE))
        file.seek(max(SAMPLE, size - SAMPLE))
        into.update(file.read(SAMPLE))
