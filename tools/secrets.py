"""Secrets in text lines: where they are and of what kind. Used to report them and to mask them."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from review_agent.tools import secret_values as values
from review_agent.tools.secret_formats import URL_PASSWORD, Format, formats


@dataclass(frozen=True, slots=True)
class SecretHit:
    """`line` is 1-based; columns `start` and `end` are 0-based and half-open, in characters.

    A private key over several lines is one hit per line.
    """

    kind: str
    line: int
    start: int
    end: int


PRIVATE_KEY = "private-key"
# Kinds known by the name of their variable, not by their own shape.
GUESSED = frozenset({"password", "token", "bearer-token"})

_KEYWORD_HINTS = ("pass", "pwd", "secret", "token", "key", "auth", "credential", "identified", "密", "口令")
_KEYWORD = re.compile(
    r"(?P<password>pass(?:word|wd|phrase|code)|pwd|(?<![a-z])pass(?![a-z])|identified\s+by|密码|口令)"
    r"|(?P<strong>secret(?!ar)|token(?!i[sz]|s(?![a-z]))|api[_-]?key|access[_-]?key|auth[_-]?key|private[_-]?key"
    r"|account[_-]?key|signing[_-]?key|encrypt(?:ion)?[_-]?key|credential|密钥)"
    r"|(?P<weak>(?<![a-z])(?:auth|key)|(?<=[a-z_-])key)",
    re.IGNORECASE,
)
# From the keyword to the value: rest of the name, closing quotes or brackets, a type, the operator.
_GAP = (
    r"[\w-]{0,30}(?:\\?[\"'`])?[\])]?(?:\[\d{0,4}\])?\s{0,20}"
    r"(?:(?::[&\w.\[\]<>|?' ]{1,40}?)?(?:=>|:=|[=!]={1,2}|=|,|\|\||\?\?|or(?=\s))"
    r"|:|\(|\s(?:with\s)?value\s?=|(?<=by)|(?=\s[\"']))"
    r"\s{0,8}"
)
_QUOTED = re.compile(
    _GAP + r"[a-zA-Z@]{0,2}([\"'`])(?P<value>(?:(?!\1)[^\\\s]|\\[^\sntr]){6,512})\1", re.IGNORECASE
)
_ESCAPED = re.compile(_GAP + r"\\([\"'])(?P<value>[^\\\"'\s]{6,512})\\\1", re.IGNORECASE)
_BARE = re.compile(
    r"[\w-]{0,30}[\"']?(?P<gap>\s{0,20}[=:]\s{0,8}|\s)"
    r"(?P<value>(?:[^\s\"'`;,()\[\]{}<>&]|&(?!\w{1,40}=)){6,512})(?=[\s;&\"'`,<]|$)"
)
_ELEMENT = re.compile(r"[\w.-]{0,30}>(?P<value>[^<>\s]{6,512})</")
_BEARER = re.compile(r"\b(?:Bearer|Basic|token)\s{1,4}(?P<value>[A-Za-z0-9._~+/=-]{16,1000})", re.IGNORECASE)
_NAME_BEFORE = re.compile(r"[\w-]{0,60}$")
_SETTING = re.compile(r"\s*(?:export\s+|set\s+|ENV\s+|ARG\s+|-\s+)?[\"']?[\w.-]*$")
_AWS_SECRET = re.compile(r"[A-Za-z0-9/+]{40}")
_NOT_A_SECRET = frozenset(
    """
    algo algorithm asset base64url cache checksum class color column count css digest endpoint env error
    event expires expiry field file filename fingerprint foreign format hash hashed header help hint
    host icon id ids image img index input integrity kind label length limit link locale max message
    method min model msg name names node object param parameter path pattern placeholder policy position
    prefix primary property provider pub pubkey public publishable query regex reset route rule scope selector
    sequence site size sort state status storage store strength suffix tag template text title
    translation ttl type types uri url validator visible
    """.split()  # noqa: SIM905 - a list of words reads better without quotes
)

_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_KEY_DATA = re.compile(r"[A-Za-z0-9+/=]{24,}")
_KEY_LINE = re.compile(
    r"[\s\"'`+,;#*/|\\>nr()-]*(?:[A-Za-z0-9+/=]{1,100}|[A-Z][A-Za-z-]{2,20}: .{0,200})?[\s\"'`+,;\\nr()-]*"
)
_KEY_LINES = 200
_KEY_WIDTH = 400  # longer lines would also make the pattern above backtrack


def find_secrets(text_lines: Sequence[str], *, config: bool = False) -> list[SecretHit]:
    """All secrets, in order, never overlapping. `config`: a settings file, with values without quotes."""
    text = "\n".join(text_lines)
    present = [form for form in formats() if any(hint in text for hint in form.hints)]
    urls = "://" in text
    blocks = list(_private_keys(text_lines)) if "PRIVATE KEY" in text else []
    inside = {hit.line for hit in blocks}
    hits = blocks
    for number, line in enumerate(text_lines, start=1):
        if len(line) < 8 or number in inside:
            continue
        found = [*_known(line, number, present)]
        if urls and "://" in line and "@" in line:
            found += _url_passwords(line, number)
        lowered = line.lower()
        if any(hint in lowered for hint in _KEYWORD_HINTS):
            found += _assigned(line, number, config)
        hits += _disjoint(found)
    return sorted(hits, key=lambda hit: (hit.line, hit.start))


def _disjoint(found: list[SecretHit]) -> list[SecretHit]:
    """Overlapping hits become one, of the most specific kind (they come in that order)."""
    merged: list[tuple[int, SecretHit]] = []
    for rank, hit in sorted(enumerate(found), key=lambda item: (item[1].start, item[0])):
        if not merged or hit.start >= merged[-1][1].end:
            merged.append((rank, hit))
            continue
        best, last = merged[-1]
        kind = hit.kind if rank < best else last.kind
        merged[-1] = (min(rank, best), SecretHit(kind, hit.line, last.start, max(last.end, hit.end)))
    return [hit for _, hit in merged]


def _known(line: str, number: int, present: Sequence[Format]) -> Iterator[SecretHit]:
    for form in present:
        if not any(hint in line for hint in form.hints):
            continue
        for match in form.pattern.finditer(line):
            start, end = match.span(form.group)
            value = line[start:end]
            inside_word = (start and line[start - 1].isalnum()) or line[end : end + 1].isalnum()
            if inside_word or values.is_fake(value) or values.is_documented_example(value):
                continue
            # A name with a known beginning (`AKIDefaultRequestHandler`) has neither digits nor disorder.
            if any(char.isdigit() for char in value[4:]) or values.looks_random(value[4:]):
                yield SecretHit(form.kind, number, start, end)


def _url_passwords(line: str, number: int) -> Iterator[SecretHit]:
    for match in URL_PASSWORD.finditer(line):
        password, user = match["password"], match["user"]
        if password != user and values.looks_like_password(password, shortest=6):
            yield SecretHit("url-password", number, *match.span("password"))


def _assigned(line: str, number: int, config: bool) -> Iterator[SecretHit]:
    for keyword in _KEYWORD.finditer(line):
        before = _NAME_BEFORE.search(line, max(0, keyword.start() - 60), keyword.start())
        prefix = before.group() if before else ""
        for pattern in (_QUOTED, _ESCAPED, _BARE, _ELEMENT):
            match = pattern.match(line, keyword.end())
            if match is None:
                continue
            value = match["value"]
            name = (
                prefix
                + keyword.group()
                + re.split(r"[^\w-]", line[keyword.end() : match.start("value")], maxsplit=1)[0]
            )
            if pattern is _BARE and not _may_stand_bare(line, keyword, match, config):
                continue
            kind = _kind(name, keyword, value)
            if kind:
                yield SecretHit(kind, number, *match.span("value"))
                break
    for match in _BEARER.finditer(line):
        if values.looks_random(match["value"]):
            yield SecretHit("bearer-token", number, *match.span("value"))


def _may_stand_bare(line: str, keyword: re.Match[str], match: re.Match[str], config: bool) -> bool:
    """Without quotes it is a value in settings, command lines and connection strings, else it is code."""
    value, gap = match["value"], match["gap"]
    if gap.isspace():  # `--password VALUE`
        return "--" in line[max(0, keyword.start() - 30) : keyword.start()] and not values.is_identifier(
            value
        )
    if not values.is_identifier(value):
        return True
    head = line[: keyword.start()]
    alone = bool(_SETTING.fullmatch(head)) and not line[match.end() :].strip()
    shell_like = gap == "=" and (
        line[keyword.start() : match.start("gap")].isupper() or "--" in head or head.endswith((";", "&"))
    )
    return (alone and (config or shell_like)) or (
        values.looks_random(value, shortest=20) and "_" not in value
    )


def _kind(name: str, keyword: re.Match[str], value: str) -> str:
    """The kind of secret that a value assigned to this name is, '' for none."""
    parts = values.words(name)
    if parts & _NOT_A_SECRET or value == name:
        return ""
    if "aws" in parts and _AWS_SECRET.fullmatch(value) and len(set(value)) > 7:
        return "" if values.is_documented_example(value) else "aws-secret-key"
    if keyword["password"]:
        return "password" if values.looks_like_password(value) or values.looks_random(value) else ""
    if keyword["strong"]:
        typed = len(value) >= 10 and re.search(r"[!@#$%^&*]", value) and values.looks_like_password(value)
        return "token" if typed or values.looks_random(value) else ""
    both_cases = value != value.lower() and value != value.upper()
    return "token" if both_cases and values.looks_random(value, shortest=24) else ""


def _private_keys(lines: Sequence[str]) -> Iterator[SecretHit]:
    last = 0
    for number, line in enumerate(lines, start=1):
        begin = _BEGIN.search(line) if number > last else None
        if begin is None:
            continue
        end = _END.search(line, begin.end())
        if end or _KEY_DATA.search(line, begin.end()):
            data = _KEY_DATA.search(line, begin.end(), end.start() if end else len(line))
            if data is None or len(set(data.group())) < 10:
                continue
            yield SecretHit(
                PRIVATE_KEY, number, begin.start(), end.end() if end else _data_end(line, data.end())
            )
            last = number
            if end is None:
                last = yield from _key_body(lines, number)
            continue
        if _has_body(lines, number, bare=line.strip() == begin.group()):
            yield SecretHit(PRIVATE_KEY, number, begin.start(), begin.end())
            last = yield from _key_body(lines, number)


def _data_end(line: str, end: int) -> int:
    """More of the key may follow behind escaped line ends: up to the closing quote."""
    closing = re.compile(r"[\"'`]|$").search(line, end)
    return closing.start() if closing else len(line)


def _has_body(lines: Sequence[str], begin: int, bare: bool) -> bool:
    """Key data follows line `begin`; a header in a constant or a test of a string has none."""
    following = [line for line in lines[begin : begin + 6] if line.strip()]
    if not following:
        return bare  # a diff may end right here
    for line in following:
        data = _KEY_DATA.search(line)
        if not _is_key_line(line):
            return False
        if data and len(set(data.group())) >= 10:
            return True
    return False


def _is_key_line(line: str) -> bool:
    return len(line) <= _KEY_WIDTH and bool(_KEY_LINE.fullmatch(line))


def _key_body(lines: Sequence[str], begin: int) -> Generator[SecretHit, None, int]:
    """Hits for the lines after `begin`; returns the last line of the block."""
    last = begin
    for number in range(begin + 1, min(begin + _KEY_LINES, len(lines)) + 1):
        line = lines[number - 1]
        end = _END.search(line)
        if end is None and not _is_key_line(line):
            break
        last = number
        if line.strip():
            start = len(line) - len(line.lstrip())
            yield SecretHit(PRIVATE_KEY, number, start, end.end() if end else len(line.rstrip()))
        if end:
            break
    return last
