"""Text as a model may read it: folded to plain words, and uncovered where it was hidden.

A model reads what people overlook: base64, letters of another alphabet, invisible characters.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

from review_agent.tools import bait_words as words
from review_agent.tools.bait_words import plain_letters

INVISIBLE, REVERSED, ENCODED, LOOKALIKE = "invisible", "reversed", "encoded", "lookalike"
_MAX_ENCODED = 4000  # characters of one encoded piece that are looked at
_MIN_ENCODED = 20

_CHAT_TOKEN = re.compile(
    r"<\|[a-z_ \u2581]{2,30}\|>|\[/?inst\]|<</?(?:sys|human|system|assistant|user)>>"
    r"|</?(?:start|end)_of_turn>|\[\|(?:human|assistant|ai|user|system)\|\]|\[system\]\(#",
)
_EMPTY = re.compile(
    r"[\"']?\b(?:findings|issues|problems|vulnerabilities|comments|results|violations|defects|bugs|errors)[\"']?\s?:\s?\[\s?\]"
)
_RESULT = re.compile(
    r"</?(?:[a-z]{2,12}:)?(?:tool_?(?:result|response|output|call)s?|function_?(?:results?|calls?|response)|observation)>"
    r"|^\W{0,6}(?:tool|function) (?:result|output|response) ?[:=]"
)
_TURN = re.compile(
    r"(?:^|[\n>] {0,4})\W{0,8}(?:human|user|system|assistant|developer|operator|instruction|response) ?: "
)
_SECRET_NAME = re.compile(
    r"\b[A-Z]{2,20}(?:_[A-Z]{2,20}){0,4}_(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS)\b"
)
_URL = re.compile(r"https?://[^\s)>\"'`]{1,300}")
# A picture that would carry something away: `![x](https://host/p?d=CONTENT_OF_FILE)`. Badges name projects.
_BEACON = re.compile(
    r"(?:!\[[^\]]{0,80}\]\(|<img\b[^>]{0,80}\bsrc=[\"']?)(?!\S*(?:badge|shield|sonar|codecov))"
    r"https?://[^\s)\"'>?]{1,200}\?[^\s)\"'>]{0,100}?\w=[A-Z][A-Z0-9_-]{3,60}(?=[&)\s\"'>]|$)"
)
_APOSTROPHE = re.compile(r"(?<=[a-z])['\u2019](?=(?:t|s|re|ve|ll|d|m)\b)")
_NOISE = re.compile(r"[^\w.,:;!?`@\u3001\u3002\u2026]+")

_ZERO_WIDTH = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u2064\u2066-\u2069\u202a-\u202e"
    "\u3164\ufeff\uffa0]"
)
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,}")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{8,}")
_REVERSED = re.compile("\u202e([^\u202c]{4,400})")
_BASE64 = re.compile(rf"(?<![\w+/])[A-Za-z0-9+/_-]{{{_MIN_ENCODED},{_MAX_ENCODED}}}={{0,2}}")
_HEX = re.compile(rf"(?<!\w)(?:[0-9a-fA-F]{{2}}[ :]?){{{_MIN_ENCODED},{_MAX_ENCODED // 2}}}(?!\w)")
_ESCAPES = re.compile(
    r"(?:\\x[0-9a-fA-F]{2}|\\u\{?[0-9a-fA-F]{4}\}?|&#x?[0-9a-fA-F]{2,5};|%[0-9a-fA-F]{2}|[ -~]){8,400}"
)
_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})|\\u\{?([0-9a-fA-F]{4})\}?")
_SPACED = re.compile(r"(?:\b\w[ ._-]){4,200}\w\b")

# Letters drawn as Latin ones.
_LOOKALIKES = str.maketrans(
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d\u0475\u04cf"
    "\u03b1\u03b2\u03b5\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7\u0261\u026a\u0131\u1d00\u1d07\u1d0f\u0578\u057d\u0581",
    "abekmhopctyxijshdqwvl" + "abeikvoptux" + "giiaeonsg",
)
_FOREIGN = re.compile("[\u0370-\u052f\u0531-\u058f\u0250-\u02af\u0131\u1d00-\u1d2b]")
_LEET = str.maketrans("013457@$", "oieastas")


def fold(text: str) -> str:
    """`text` in lower case, without accents and ornaments; what has no words stands as a marker word."""
    if "_" in text:
        text = _SECRET_NAME.sub(words.SECRET_NAME, text)
    if "?" in text and ("![" in text or "<img" in text):
        text = _BEACON.sub(f" {words.BEACON} ", text)
    low = text.lower() if text.isascii() else plain_letters(unicodedata.normalize("NFKC", text).lower())
    if "<" in low or "[" in low or "#" in low:
        low = _CHAT_TOKEN.sub(f" {words.CHAT_TOKEN} ", low)
        low = _EMPTY.sub(f" {words.EMPTY_FINDINGS} ", low)
        low = _RESULT.sub(f" {words.TOOL_RESULT} ", low)
    elif "tool" in low or "function" in low:
        low = _RESULT.sub(f" {words.TOOL_RESULT} ", low)
    if ":" in low:
        low = _TURN.sub(f". {words.FAKE_TURN} ", low)
        if "://" in low:
            low = _URL.sub(f" {words.URL} ", low)
    if "'" in low or "\u2019" in low:
        low = _APOSTROPHE.sub("", low)
    return _NOISE.sub(" ", low).strip()


def uncovered(line: str) -> Iterator[tuple[str, str]]:
    """(hidden text, how it was hidden) of one line, as it may be read by a machine."""
    if not line.isascii():
        yield from _unseen(line)
    for match in _BASE64.finditer(line):
        if text := _from_base64(match[0]):
            yield text, ENCODED
    for match in _HEX.finditer(line):
        if text := _printable(bytes.fromhex(re.sub("[ :]", "", match[0]))):
            yield text, ENCODED
    if line.count("\\") + line.count("&#") + line.count("%") >= 8:
        for match in _ESCAPES.finditer(line):
            plain = _ESCAPE.sub(lambda found: chr(int(found[1] or found[2], 16)), match[0])
            if (text := html.unescape(unquote(plain))) != match[0]:
                yield text, ENCODED
    joined = _SPACED.sub(lambda found: re.sub(r"[ ._-]", "", found[0]), line)
    if joined != line:
        yield joined, ENCODED


def _unseen(line: str) -> Iterator[tuple[str, str]]:
    for match in _TAGS.finditer(line):
        yield "".join(chr(ord(char) - 0xE0000) for char in match[0]), INVISIBLE
    for match in _SELECTORS.finditer(line):
        data = bytes(ord(char) - (0xFE00 if char <= "\ufe0f" else 0xE0100 - 16) for char in match[0])
        if text := _printable(data):
            yield text, INVISIBLE
    for match in _REVERSED.finditer(line):
        yield match[1][::-1], REVERSED
    if _ZERO_WIDTH.search(line):
        yield _ZERO_WIDTH.sub("", line), INVISIBLE
    if _FOREIGN.search(line):
        yield line.lower().translate(_LOOKALIKES), LOOKALIKE


def _from_base64(text: str) -> str:
    body = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    body = body[: len(body) - 1] if len(body) % 4 == 1 else body
    try:
        if not _printable(base64.b64decode(body[:16])[:9]):
            return ""
        return _printable(base64.b64decode(body + "=" * (-len(body) % 4)))
    except binascii.Error:
        return ""


def _printable(data: bytes) -> str:
    """The text that `data` is; '' when it is none. The last character may be cut."""
    for cut in range(4):
        try:
            text = data[: len(data) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return text if all(char.isprintable() or char in "\n\t\r" for char in text) else ""
    return ""


def rot13(text: str) -> str:
    return codecs.encode(text, "rot13")


def unleet(text: str) -> str:
    return text.translate(_LEET)
