"""What a GGUF model file says about itself. Only the metadata part is read, never the weights.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
Own code, because the `gguf` package brings numpy and requests into every installation.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from review_agent.agent.errors import EngineRejected

# A 260k vocabulary with its merges takes 15 MB and 800k strings; a file that claims far more is not a model.
MAX_METADATA = 256 * 1024 * 1024
MAX_ITEMS = 8_000_000
MAX_PAIRS = 10_000
MAX_KEY = 65_535
MAX_TEXT = 1024
MAX_LAYERS = 4096

_BLOCK = 4 * 1024 * 1024
_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_INTEGERS = {0, 1, 2, 3, 4, 5, 10, 11}
_U64 = struct.Struct("<Q")
# `general.file_type`; names as in llama.cpp's `llama_ftype` (include/llama.h).
_QUANTIZATIONS = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S"},
    **{12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K"},
    **{19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL"},
    **{26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16"},
    **{36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4"},
}
_SIZE_LABEL = re.compile(r"(?:(\d{1,4})x)?(\d{1,6}(?:\.\d{1,6})?)([KMBTQ])", re.I)
_BILLIONS = {"K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3, "Q": 1e6}

Value = int | float | str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GgufInfo:
    """0 and '' mean that the file does not say. `parameters` is in billions.

    `kv_bytes_per_token` counts an f16 cache in every layer: more than is needed where a model keeps only a
    sliding window in some of them.
    """

    architecture: str
    name: str
    context: int
    parameters: float
    layers: int
    kv_bytes_per_token: int
    has_chat_template: bool
    quantization: str


def read_header(path: Path) -> GgufInfo:
    """Raises EngineRejected for what is no GGUF file, is damaged or claims impossible sizes."""
    try:
        with path.open("rb") as file:
            return _info(_metadata(_Reader(file, path.stat().st_size)))
    except (OSError, _Bad) as exc:
        detail = exc.strerror or type(exc).__name__ if isinstance(exc, OSError) else str(exc)
        raise EngineRejected("errors_models.gguf_unreadable", path=path, detail=detail) from exc


class _Bad(Exception):
    """Why a file is refused; shown as a code."""


class _Reader:
    """A growing window from the start of the file, so that skipped strings cost no read each.

    Not mmap: a file that shrinks meanwhile would end the process with SIGBUS.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._data = bytearray()
        self._items = 0
        self.at = 0

    def need(self, end: int) -> None:
        """Make the bytes before `end` available."""
        if end <= len(self._data):
            return
        if end > self._size:
            raise _Bad(f"truncated at byte {self._size}")
        if end > MAX_METADATA:
            raise _Bad("metadata too large")
        while len(self._data) < end:
            block = self._file.read(_BLOCK)
            if not block:
                raise _Bad(f"truncated at byte {len(self._data)}")
            self._data += block

    def take(self, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        self.need(self.at)
        return bytes(self._data[start : self.at])

    def number(self, kind: int) -> int | float:
        code = _NUMBERS[kind]
        value: int | float = struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]
        return value

    def length(self) -> int:
        value: int = _U64.unpack(self.take(8))[0]
        return value

    def text(self, limit: int, *, cut: bool = False) -> str:
        size = self.length()
        if size > limit and not cut:
            raise _Bad("key too long")
        self.need(self.at + size)
        shown = self.take(min(size, limit))
        self.at += size - len(shown)
        return shown.decode("utf-8", "replace")

    def skip(self, kind: int, count: int = 1) -> None:
        if kind in _NUMBERS:
            self.at += count * struct.calcsize("<" + _NUMBERS[kind])
        elif kind == _STRING:
            self._skip_strings(count)
        else:
            raise _Bad(f"value type {kind}")
        self.need(self.at)

    def _skip_strings(self, count: int) -> None:
        self._items += count
        if self._items > MAX_ITEMS:
            raise _Bad("too many strings")
        at, data, length_at = self.at, self._data, _U64.unpack_from
        for _ in range(count):
            if at + 8 > len(data):
                self.need(at + 8)
            at += 8 + length_at(data, at)[0]
        self.at = at


def _metadata(reader: _Reader) -> dict[str, Value]:
    """The pairs that `_info` asks for. Chat templates are only noted, vocabularies skipped."""
    if reader.take(4) != b"GGUF":
        raise _Bad("no GGUF magic")
    if (version := reader.number(4)) not in (2, 3):
        raise _Bad(f"GGUF version {version}")
    reader.length()  # tensors
    if (pairs := reader.length()) > MAX_PAIRS:
        raise _Bad("too many keys")
    found: dict[str, Value] = {}
    for _ in range(pairs):
        key = reader.text(MAX_KEY)
        value = _value(reader, key)
        if value is not None:
            found[key] = value
    return found


def _value(reader: _Reader, key: str) -> Value | None:
    kind = int(reader.number(4))
    if kind == _ARRAY:
        kind, count = int(reader.number(4)), reader.length()
        if key.endswith((".head_count", ".head_count_kv")) and kind in _INTEGERS and count <= MAX_LAYERS:
            return tuple(int(reader.number(kind)) for _ in range(count))
        reader.skip(kind, count)  # arrays of arrays are legal, but llama.cpp refuses them too
        return None
    if kind == _STRING:
        return reader.text(MAX_TEXT, cut=True)
    if kind in _NUMBERS:
        return reader.number(kind)
    raise _Bad(f"value type {kind}")


def _info(found: dict[str, Value]) -> GgufInfo:
    architecture = _text(found, "general.architecture")
    if not architecture:
        raise _Bad("no general.architecture")
    return GgufInfo(
        architecture=architecture,
        name=_text(found, "general.name"),
        context=_count(found, f"{architecture}.context_length"),
        parameters=_parameters(found),
        layers=_count(found, f"{architecture}.block_count"),
        kv_bytes_per_token=_kv_bytes(found, architecture),
        has_chat_template="tokenizer.chat_template" in found,
        quantization=_QUANTIZATIONS.get(_count(found, "general.file_type", -1), ""),
    )


def _text(found: dict[str, Value], key: str) -> str:
    value = found.get(key, "")
    return value if isinstance(value, str) else ""


def _count(found: dict[str, Value], key: str, default: int = 0) -> int:
    value = found.get(key)
    return value if isinstance(value, int) and 0 <= value < 2**63 else default


def _parameters(found: dict[str, Value]) -> float:
    if count := _count(found, "general.parameter_count"):
        return round(count / 1e9, 3)
    label = _SIZE_LABEL.match(_text(found, "general.size_label"))
    if label is None:
        return 0.0
    experts, size, unit = label.groups()
    return round(int(experts or 1) * float(size) * _BILLIONS[unit.upper()], 3)


def _kv_bytes(found: dict[str, Value], architecture: str) -> int:
    """f16 keys and values of one token in all layers; head counts may differ from layer to layer."""
    layers = _count(found, f"{architecture}.block_count")
    attention = f"{architecture}.attention"
    heads = _per_layer(found, f"{attention}.head_count", layers)
    kv_heads = _per_layer(found, f"{attention}.head_count_kv", layers) or heads
    width = _count(found, f"{architecture}.embedding_length") // max(heads, default=0) if any(heads) else 0
    key_length = _count(found, f"{attention}.key_length", width)
    value_length = _count(found, f"{attention}.value_length", width)
    return 2 * sum(kv_heads) * (key_length + value_length)


def _per_layer(found: dict[str, Value], key: str, layers: int) -> tuple[int, ...]:
    value = found.get(key)
    if isinstance(value, tuple):
        return tuple(max(0, item) for item in value[:layers])
    return (value,) * min(layers, MAX_LAYERS) if isinstance(value, int) and value >= 0 else ()
