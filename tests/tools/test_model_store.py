"""The folder of models: what goes in whole, what is found, and what is left out."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from test_gguf import model_bytes

from review_agent.agent.errors import EngineRejected, ModelMissing, UsageError
from review_agent.tools.model_store import (
    INCOMING,
    StoredModel,
    add_model,
    default_folder,
    find_model,
    list_models,
)

TINY = model_bytes()
HASH = hashlib.sha256(TINY).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


def arrive(folder: Path, name: str = "tiny.gguf", data: bytes = TINY) -> Path:
    """A file as a download leaves it."""
    path = folder / INCOMING / "hf-tiny" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.with_name(f"{name}.lock").touch()
    return path


def add(
    folder: Path, name: str = "tiny", data: bytes = TINY, source: str = "hf:a/b@c/tiny.gguf"
) -> StoredModel:
    digest = hashlib.sha256(data).hexdigest()
    return add_model(folder, name, [arrive(folder, data=data)], digests=[digest], source=source)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_model_is_moved_into_place_and_found_again(folder: Path) -> None:
    added = add(folder)
    assert added == StoredModel(
        name="tiny",
        file=folder / "tiny" / "tiny.gguf",
        size=len(TINY),
        digest=f"sha256:{HASH}",
        source="hf:a/b@c/tiny.gguf",
        context=8192,
        parameters=0.0,
        kv_bytes_per_token=23040,
    )
    assert list_models(folder) == [added] == [find_model(folder, "tiny")]
    assert added.file.read_bytes() == TINY
    assert files(folder) == [".incoming/.lock", "tiny/model.json", "tiny/tiny.gguf"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_parts_are_one_model(folder: Path) -> None:
    parts = [
        arrive(folder, f"m-{number:05}-of-00002.gguf", data) for number, data in ((1, TINY), (2, b"rest"))
    ]
    added = add_model(folder, "m", parts, digests=["sha256:" + "a" * 64, "b" * 64], source="s")
    assert (added.file.name, added.size) == ("m-00001-of-00002.gguf", len(TINY) + 4)
    assert added.digest == "sha256:" + hashlib.sha256(b"a" * 64 + b"b" * 64).hexdigest()
    assert find_model(folder, "m") == added


def test_a_newer_one_replaces_the_older(folder: Path) -> None:
    add(folder)
    newer = add(folder, data=TINY + b"more", source="new")
    assert list_models(folder) == [newer]
    assert newer.file.read_bytes() == TINY + b"more"
    assert files(folder) == [".incoming/.lock", "tiny/model.json", "tiny/tiny.gguf"]


def test_models_are_listed_by_name(folder: Path) -> None:
    for name in ("b", "a-1.5B", "C"):
        add(folder, name)
    assert [model.name for model in list_models(folder)] == ["C", "a-1.5B", "b"]


def test_no_folder_is_no_model(folder: Path) -> None:
    assert list_models(folder) == []
    assert not folder.exists()


@pytest.mark.parametrize(
    "name", ["", ".x", "-x", "a/b", "../x", "a b", "模型", "x" * 82, "x.gguf", "a\nb", "a\n"]
)
def test_names_that_are_refused(folder: Path, name: str) -> None:
    part = arrive(folder)
    with pytest.raises(UsageError, match="model_name_bad"):
        add_model(folder, name, [part], digests=[HASH], source="s")
    assert part.exists()


def test_what_is_no_model_is_not_put_in(folder: Path) -> None:
    part = arrive(folder, data=b"<html>")
    with pytest.raises(EngineRejected, match="gguf_unreadable"):
        add_model(folder, "tiny", [part], digests=[HASH], source="s")
    assert list_models(folder) == []


def test_where_it_cannot_be_written_the_parts_stay(folder: Path) -> None:
    part = arrive(folder)
    (folder / INCOMING / ".lock").mkdir()  # nothing can be locked
    with pytest.raises(EngineRejected, match="disk_failed"):
        add_model(folder, "tiny", [part], digests=[HASH], source="s")
    assert part.exists()


def damage(**new: object) -> Callable[[Path], None]:
    def write(place: Path) -> None:
        row = json.loads((place / "model.json").read_text())
        (place / "model.json").write_text(json.dumps(row | new))

    return write


@pytest.mark.parametrize(
    "spoil",
    [
        lambda place: (place / "model.json").write_text("{"),
        lambda place: (place / "model.json").write_bytes(b"\xff\xfe"),
        lambda place: (place / "model.json").unlink(),
        lambda place: (place / "tiny.gguf").unlink(),
        lambda place: (place / "tiny.gguf").write_bytes(b"GGUF"),
        damage(files=[]),
        damage(files=["../other/tiny.gguf"]),
        damage(files=["/etc/passwd"]),
        damage(digest="md5:1"),
        damage(size=-1),
        damage(context="much"),
    ],
)  # fmt: skip
def test_a_damaged_entry_is_left_out(folder: Path, spoil: Callable[[Path], object]) -> None:
    add(folder)
    other = add(folder, "other")
    spoil(folder / "tiny")
    (folder / "stray").write_text("a file")
    assert list_models(folder) == [other]
    with pytest.raises(ModelMissing) as caught:
        find_model(folder, "tiny")
    assert (caught.value.key, caught.value.fields) == (
        "errors_models.model_not_stored",
        {"model": "tiny", "installed": "other"},
    )


@pytest.mark.parametrize("name", ["absent", "..", ".incoming", ""])
def test_what_is_not_stored(folder: Path, name: str) -> None:
    with pytest.raises(ModelMissing) as caught:
        find_model(folder, name)
    assert caught.value.fields == {"model": name, "installed": "-"}


def test_an_own_file_is_taken_by_its_path(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "My Model.gguf"
    path.write_bytes(TINY)
    found = find_model(folder, str(path))
    assert (found.name, found.file, found.size, found.context) == ("My Model", path, len(TINY), 8192)
    assert found.digest.startswith("sampled:")
    assert found.source == ""
    monkeypatch.chdir(tmp_path)
    assert find_model(folder, "My Model.gguf") == found == find_model(folder, "./My Model.gguf")


def test_the_sampled_digest_sees_both_ends_and_the_size(folder: Path, tmp_path: Path) -> None:
    body = bytearray(TINY + bytes(20 * 1024 * 1024))

    def digest_with(at: int, more: bytes = b"") -> str:
        data = bytes(body[:at]) + b"!" + bytes(body[at + 1 :]) + more
        path = tmp_path / "x.gguf"
        path.write_bytes(data)
        return find_model(folder, str(path)).digest

    middle = digest_with(10 * 1024 * 1024)
    assert digest_with(10 * 1024 * 1024 + 7) == middle  # not seen, as documented
    assert (
        len(
            {middle, digest_with(len(TINY)), digest_with(len(body) - 1), digest_with(10 * 1024 * 1024, b"\0")}
        )
        == 4
    )


def test_an_own_file_in_parts(folder: Path, tmp_path: Path) -> None:
    for number, data in ((1, TINY), (2, b"rest")):
        (tmp_path / f"m-{number:05}-of-00002.gguf").write_bytes(data)
    found = find_model(folder, str(tmp_path / "m-00002-of-00002.gguf"))
    assert (found.file.name, found.size) == ("m-00001-of-00002.gguf", len(TINY) + 4)
    (tmp_path / "m-00001-of-00002.gguf").unlink()
    with pytest.raises(ModelMissing) as caught:
        find_model(folder, str(tmp_path / "m-00002-of-00002.gguf"))
    assert caught.value.fields == {"path": tmp_path / "m-00001-of-00002.gguf"}


@pytest.mark.parametrize(
    ("name", "error", "key"),
    [
        ("no.gguf", ModelMissing, "errors_models.model_file_missing"),
        ("folder/", ModelMissing, "errors_models.model_file_missing"),
        ("text.gguf", EngineRejected, "errors_models.gguf_unreadable"),
    ],
)
def test_own_files_that_cannot_be_used(
    folder: Path, tmp_path: Path, name: str, error: type[Exception], key: str
) -> None:
    (tmp_path / "text.gguf").write_text("hello")
    (tmp_path / "folder").mkdir()
    with pytest.raises(error) as caught:
        find_model(folder, f"{tmp_path}/{name}")
    assert caught.value.key == key  # type: ignore[attr-defined]


def test_the_usual_folder_is_the_platforms_data_folder() -> None:
    assert default_folder().parts[-2:] == ("review-agent", "models")
