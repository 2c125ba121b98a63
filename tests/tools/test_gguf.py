"""What a model file's header says, and which files are refused."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from review_agent.agent.errors import EngineRejected
from review_agent.tools.gguf import GgufInfo, read_header

U32, F32, BOOL, STRING, ARRAY, U64 = 4, 6, 7, 8, 9, 10
CODES = {0: "B", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q"}
LLAMA = (
    ("general.architecture", STRING, "llama"),
    ("general.name", STRING, "Tiny"),
    ("llama.context_length", U32, 8192),
    ("llama.block_count", U32, 30),
    ("llama.embedding_length", U32, 576),
    ("llama.attention.head_count", U32, 9),
    ("llama.attention.head_count_kv", U32, 3),
)


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def scalar(kind: int, value: object) -> bytes:
    return text(str(value)) if kind == STRING else struct.pack("<" + CODES[kind], value)


def pair(key: str, kind: int, value: object) -> bytes:
    """`kind` ARRAY takes (kind of the items, items)."""
    head = text(key) + struct.pack("<I", kind)
    if kind != ARRAY:
        return head + scalar(kind, value)
    inner, items = value  # type: ignore[misc]
    return head + struct.pack("<IQ", inner, len(items)) + b"".join(scalar(inner, item) for item in items)


def model_bytes(
    pairs: Iterable[tuple[str, int, object]] = LLAMA, version: int = 3, tail: bytes = b"w" * 64
) -> bytes:
    rows = [pair(*row) for row in pairs]
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(rows)) + b"".join(rows) + tail


@pytest.fixture
def header(tmp_path: Path):
    def read(data: bytes) -> GgufInfo:
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        return read_header(path)

    return read


def changed(**new: tuple[str, int, object] | None) -> list[tuple[str, int, object]]:
    """LLAMA with rows added, by key (`_` for `.`, any unique name), or left out (None)."""
    kept = [row for row in LLAMA if row[0].replace(".", "_") not in new]
    return kept + [row for row in new.values() if row is not None]


@pytest.mark.parametrize("version", [2, 3])
def test_a_whole_header(header, version: int) -> None:
    rows = [
        *LLAMA,
        ("tokenizer.ggml.tokens", ARRAY, (STRING, ["<s>", "语", ""])),
        ("tokenizer.ggml.scores", ARRAY, (F32, [0.5, 1.0])),
        ("general.parameter_count", U64, 134_515_008),
        ("general.file_type", U32, 15),
        ("tokenizer.chat_template", STRING, "{{ x }}" * 4000),
        ("general.quantized", BOOL, True),
    ]
    assert header(model_bytes(rows, version)) == GgufInfo(
        architecture="llama",
        name="Tiny",
        context=8192,
        parameters=0.135,
        layers=30,
        kv_bytes_per_token=2 * 2 * 30 * 3 * 64,
        has_chat_template=True,
        quantization="Q4_K_M",
    )


@pytest.mark.parametrize(
    ("rows", "kv_bytes"),
    [
        (LLAMA, 23040),
        (changed(llama_attention_head_count_kv=None), 3 * 23040),
        (changed(llama_attention_head_count_kv=("llama.attention.head_count_kv", ARRAY, (U32, [3] * 30))), 23040),
        (changed(llama_attention_head_count_kv=("llama.attention.head_count_kv", ARRAY, (U32, [3, 0] * 15))), 11520),
        (changed(llama_attention_head_count_kv=("llama.attention.head_count_kv", ARRAY, (F32, [float("nan")]))), 3 * 23040),
        (changed(k=("llama.attention.key_length", U32, 128), v=("llama.attention.value_length", U32, 128)), 46080),
        (changed(k=("llama.attention.key_length", U32, 192)), 2 * 30 * 3 * (192 + 64)),
        (changed(llama_attention_head_count=("llama.attention.head_count", U32, 0)), 0),
        (changed(llama_block_count=None), 0),
        (changed(llama_embedding_length=None), 0),
    ],
)  # fmt: skip
def test_kv_bytes_per_token(header, rows: list[tuple[str, int, object]], kv_bytes: int) -> None:
    assert header(model_bytes(rows)).kv_bytes_per_token == kv_bytes


@pytest.mark.parametrize(
    ("label", "billions"),
    [("135M", 0.135), ("7B", 7.0), ("8x7B", 56.0), ("0.5B", 0.5), ("30B-A3B", 30.0), ("1T", 1000.0), ("large", 0), ("", 0)],
)  # fmt: skip
def test_parameters_from_the_size_label(header, label: str, billions: float) -> None:
    assert header(model_bytes([*LLAMA, ("general.size_label", STRING, label)])).parameters == billions


COUNT_AT, FIRST_KEY = 16, 24


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "truncated at byte 0"),
        (b"<!doctype html>" * 9, "no GGUF magic"),
        (b"GGUF\x03\x00\x00\x00", "truncated at byte 8"),
        (model_bytes(version=1), "GGUF version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 1) + b"x" * 99, "GGUF version 50331648"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63) + b"x" * 99, "too many keys"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 9000) + b"", "truncated at byte 24"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62) + b"x" * 99, "key too long"),
        (model_bytes()[:100], "truncated at byte 100"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IQ", STRING, 2**62), "truncated at byte 45"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", ARRAY, STRING, 2**62), "too many strings"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQQ", ARRAY, STRING, 9, 2**62), "truncated at byte 57"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", ARRAY, U64, 2**62), "truncated at byte 49"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", ARRAY, ARRAY, 9) * 9, "value type 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<I", 77), "value type 77"),
        (model_bytes(LLAMA[1:]), "no general.architecture"),
        (model_bytes([("general.architecture", U32, 7)]), "no general.architecture"),
    ],
)  # fmt: skip
def test_what_is_refused(header, data: bytes, detail: str) -> None:
    with pytest.raises(EngineRejected) as caught:
        header(data)
    assert (caught.value.key, caught.value.fields["detail"]) == ("errors_models.gguf_unreadable", detail)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(EngineRejected) as caught:
        read_header(tmp_path / "no.gguf")
    assert caught.value.fields == {"path": tmp_path / "no.gguf", "detail": "No such file or directory"}


def test_a_sparse_file_full_of_empty_strings_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "zeros.gguf"
    path.write_bytes(
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", ARRAY, STRING, 2**33)
    )
    with path.open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(EngineRejected, match="gguf_unreadable"):
        read_header(path)


@given(st.binary(max_size=300), st.integers(0, 250))
def test_damage_is_an_error_of_ours_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    data = bytearray(
        model_bytes([*LLAMA, ("a.head_count", ARRAY, (U32, [1, 2])), ("t", ARRAY, (STRING, ["a", "b"]))])
    )
    data[at : at + len(noise)] = noise
    path = tmp_path_factory.getbasetemp() / "noise.gguf"
    path.write_bytes(data)
    with suppress(EngineRejected):
        read_header(path)


def test_a_large_vocabulary_is_skipped_quickly(header) -> None:
    words = [f"word{number}" for number in range(150_000)]
    rows = [
        *LLAMA,
        ("tokenizer.ggml.tokens", ARRAY, (STRING, words)),
        ("tokenizer.ggml.merges", ARRAY, (STRING, words)),
    ]
    data = model_bytes([*rows, ("general.size_label", STRING, "7B")])
    started = time.process_time()
    assert header(data).parameters == 7.0
    assert time.process_time() - started < 1.0  # 0.1 s where nothing else runs
