"""Files that cannot be read by their own language: merge markers left in, and text that does not parse."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from review_agent.agent.models import SourceFile


@dataclass(frozen=True, slots=True)
class ParseFault:
    """`old_python`: the text is Python 2. `test_data`: the file may be broken on purpose."""

    language: str
    line: int
    old_python: bool = False
    test_data: bool = False


_MAX_CHARS = 1_000_000
_MAX_LINE = 100_000
_MAX_DOTTED = 20_000_000
# Templates are not in the language of their suffix. `${{ }}` of workflows is a plain string.
_TEMPLATE = re.compile(
    r"(?<!\$)\{\{|\{%|<%|^\s*#(?:if|set|foreach)\b|@@\w+@@|^\s*\$\{\w+\}\s*$", re.MULTILINE
)
_TEST_DATA = re.compile(
    r"(?:^|/)(?:testdata|test[-_]?data|fixtures?|corpus|invalid|broken|bad)[^/]*/", re.IGNORECASE
)
_JSON_WITH_COMMENTS = re.compile(
    r"(?:^|/)(?:tsconfig|jsconfig|\.eslintrc|\.babelrc|\.swcrc|devcontainer|deno|api-extractor|launch|tasks|settings|"
    r"language-configuration|pyrightconfig|\.devcontainer|\.jshintrc|\.jscsrc)[^/]*\.json$"
    r"|(?:^|/)\.(?:vscode|devcontainer)/|\.(?:sublime|code)-[^/]*$",
    re.IGNORECASE,
)


def conflict_markers(lines: Iterable[str]) -> list[tuple[int, int]]:
    """First and last line of every merge conflict left in. A lone `=======` is a heading somewhere."""
    found: list[tuple[int, int]] = []
    start, middle = 0, False
    for number, line in enumerate(lines, start=1):
        if line.startswith("<<<<<<< ") or line == "<<<<<<<":
            start, middle = number, False
        elif start and line == "=======":
            middle = True
        elif middle and (line.startswith(">>>>>>> ") or line == ">>>>>>>"):
            found.append((start, number))
            start, middle = 0, False
    return found


def parse_fault(file: SourceFile) -> ParseFault | None:
    """Where the file stops being Python, JSON, TOML or YAML; None where it parses or we cannot tell."""
    parse = _parser(file)
    if parse is None or file.known is not None:
        return None
    size = sum(map(len, file.lines)) + len(file.lines)
    if size > _MAX_CHARS or max(map(len, file.lines), default=0) > _MAX_LINE:
        return None
    text = "\n".join(file.lines).removeprefix("\ufeff") + "\n"
    # Replaced bytes and NUL are findings of their own, and lone surrogates cannot be encoded for the parsers.
    if not text.strip() or "\ufffd" in text or "\0" in text or re.search("[\ud800-\udfff]", text):
        return None
    fault = parse(text)
    if fault is None:
        return None
    line = min(max(fault.line, 1), len(file.lines))
    # Doubled braces are at home in Python strings, so that only the broken line counts there.
    if _TEMPLATE.search(file.lines[line - 1] if fault.language == "Python" else text):
        return None
    return ParseFault(fault.language, line, fault.old_python, bool(_TEST_DATA.search(file.path)))


def _parser(file: SourceFile) -> Callable[[str], ParseFault | None] | None:
    path = file.path.lower()
    if file.language == "python" or path.endswith((".py", ".pyi", ".pyw")):
        return _python
    if path.endswith(".json") and not _JSON_WITH_COMMENTS.search(path):
        return _json
    if path.endswith(".toml"):
        return _toml
    if path.endswith((".yml", ".yaml")):
        return _yaml
    return None


_PYTHON_2 = re.compile(
    r"^\s*(?:print\b(?!\s*\()|print\s*>>|exec\s+[\"'\w]|raise\s+[\w.]+\s*,|except\s+[\w.]+\s*,\s*\w+\s*:|except\s*\([^)]*\)\s*,\s*\w+\s*:)"
    r"|<>|\bur[\"']|\b0[0-7]+\b(?!\.)|\b\d+[lL]\b|`[^`]+`|\blambda\s*\(|\bdef\s+\w+\s*\([^)]*\(",
)
# Newer than the Python that runs us; a reviewed project may be ahead of it.
_NEWER_PYTHON = (
    ((3, 12), re.compile(r"\b[rR]?[fF][rR]?[\"']|^\s*type\s+\w+|\b(?:def|class)\s+\w+\s*\[")),
    ((3, 13), re.compile(r"\b(?:def|class|type)\s+\w+\s*\[")),
    ((3, 14), re.compile(r"\b[rR]?[tT][rR]?[\"']|^\s*except\*?\s+[\w.]+\s*,")),
    ((3, 15), re.compile(r"^\s*lazy\s+(?:import|from)\b|\*\*?\w+\s+for\b")),
)


def _python(text: str) -> ParseFault | None:
    import ast

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except SyntaxError as exc:
        line = exc.lineno or 1
        lines = text.split("\n")
        there = "\n".join(lines[max(line - 1, 0) : max(exc.end_lineno or line, line)])
        if there.lstrip().startswith(("%", "!", "?")):  # a notebook saved as a script
            return None
        if any(sys.version_info < version and syntax.search(there) for version, syntax in _NEWER_PYTHON):
            return ParseFault("Python", line, old_python=True) if _is_python_2(lines) else None
        return ParseFault("Python", line, old_python=bool(_PYTHON_2.search(there)) and _is_python_2(lines))
    except (RecursionError, MemoryError, ValueError, OverflowError):
        return None  # beyond this parser, which says nothing about the text
    return None


_SURELY_PYTHON_2 = re.compile(
    r"^\s*print\s+(?:[\"'\w]|>>)|^\s*raise\s+[\w.]+\s*,\s*[\"'\w]|^\s*except\s+.+,\s*(?:e|ex|exc|err|error|msg)\s*:|^\s*exec\s+[\"']"
    r"|\bur[\"']|\b0[0-7]{2,}\b|\b\d+L\b|<>|\.has_key\(|\bxrange\(|`\w+`"
)


def _is_python_2(lines: list[str]) -> bool:
    return any(_SURELY_PYTHON_2.search(line) for line in lines)


def _json(text: str) -> ParseFault | None:
    import json

    try:
        json.loads(text, parse_int=float)
    except json.JSONDecodeError as exc:
        lines = text.split("\n")
        commented = any(line.lstrip().startswith(("//", "/*")) for line in lines)
        several = exc.msg.startswith("Extra data") and _is_json_lines(lines)
        return None if commented or several else ParseFault("JSON", exc.lineno)
    except (RecursionError, ValueError, OverflowError):
        return None
    return None


def _is_json_lines(lines: list[str]) -> bool:
    """One document per line, in spite of the suffix."""
    filled = [line.strip() for line in lines if line.strip()]
    return len(filled) > 1 and all(line[0] in "{[" and line[-1] in "}]" for line in filled)


def _toml(text: str) -> ParseFault | None:
    import tomllib

    # tomllib walks a dotted key once per part: forty thousand parts take a minute.
    if sum(line.count(".") ** 2 for line in text.split("\n")) > _MAX_DOTTED:
        return None
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        place = re.search(r"at line (\d+)", str(exc))
        return ParseFault("TOML", int(place[1]) if place else text.count("\n"))
    except (RecursionError, ValueError, OverflowError):
        return None
    return None


def _yaml(text: str) -> ParseFault | None:
    import yaml

    loader = getattr(yaml, "CSafeLoader", None)
    # The pure Python parser takes minutes for a megabyte; deep flow collections are quadratic in either.
    if loader is None or text.count("[") + text.count("{") > 10_000:
        return None
    try:
        for _ in yaml.parse(text, Loader=loader):
            pass
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        return ParseFault("YAML", mark.line + 1 if mark else 1)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None  # ReaderError: a character YAML does not allow, reported as such
    return None
