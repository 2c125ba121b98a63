"""Definitions of a source file, by ast-grep's tree-sitter grammars."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from review_agent.agent.models import Symbol

if TYPE_CHECKING:
    from ast_grep_py import SgNode

# ast-grep panics (a BaseException) on a language it does not know, so these are checked first.
# https://ast-grep.github.io/reference/languages.html
SUPPORTED = frozenset(
    {"bash", "c", "cpp", "csharp", "css", "elixir", "go", "haskell", "hcl", "html", "java", "javascript"}
    | {"json", "kotlin", "lua", "nix", "php", "python", "ruby", "rust", "scala", "solidity", "swift"}
    | {"tsx", "typescript", "yaml"}
)
_DATA = frozenset({"json", "yaml", "css", "html", "nix", "hcl"})
_DEFINITION = re.compile(
    r"(function|method|class|struct|impl|interface|trait|enum|object|module|mod|namespace|constructor|contract|"
    r"protocol|record|type|singleton_method|decorated|extension)"
    r"(_\w+)?_?(definition|declaration|item|specifier|spec|body)?$"
    r"|^(class|module|method|singleton_method|lexical_declaration|export_statement|decorated_definition)$"
)
_CONTAINER = re.compile(
    r"body|block|program|source_file|declaration_list|export_statement|translation_unit|compilation_unit|"
    r"namespace|module|impl|class|interface|trait|object|linkage|preproc|decorated|template|statement"
)
_MAX_CHARS = 600_000  # error recovery takes some seconds for that much text that is no code
_MAX_LINE = 20_000  # and quadratic time over one endless line
_MIN_LINES = 2


def outline(text: str, language: str) -> tuple[Symbol, ...]:
    """Definitions of at least two lines, in order of their first line, outer ones before inner ones.

    Empty for languages without a grammar, for data formats and for very large texts. Columns are not kept:
    a definition owns whole lines.
    """
    if language not in SUPPORTED or language in _DATA or len(text) > _MAX_CHARS:
        return ()
    if max(map(len, text.split("\n"))) > _MAX_LINE:
        return ()
    text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be handed to it
    from ast_grep_py import SgRoot

    found: list[Symbol] = []
    pending: list[SgNode] = [SgRoot(text, language).root()]
    while pending:
        node = pending.pop()
        for child in node.children():
            where = child.range()
            start, end = where.start.line + 1, where.end.line + 1
            if end - start + 1 < _MIN_LINES:
                continue
            kind = child.kind()
            if _DEFINITION.search(kind) and not kind.endswith("_body"):
                name = _name(child)
                if name:
                    found.append(Symbol(name, kind, start, end))
                pending.append(child)
            elif _CONTAINER.search(kind):
                pending.append(child)
    return tuple(sorted(_unique(found), key=lambda symbol: (symbol.start, -symbol.end)))


def _name(node: SgNode) -> str:
    """Name of a definition, or of the definition it wraps (`export`, decorators, `const f = …`)."""
    for _ in range(4):
        for field in ("name", "declarator", "type"):
            named = node.field(field)
            if named is not None:
                return _short(named.text())
        children = [child for child in node.children() if child.is_named()]
        if node.kind().endswith("_declaration"):  # some grammars (Kotlin) have no field for it
            named = next((child for child in children if child.kind().endswith("identifier")), None)
            if named is not None:
                return _short(named.text())
        inner = next((child for child in children if _inner(child.kind())), None)
        if inner is None:
            break
        node = inner
    return ""


def _inner(kind: str) -> bool:
    return bool(_DEFINITION.search(kind)) or kind in ("variable_declarator", "type_spec")


def _short(text: str) -> str:
    return text.split("(", 1)[0].split("\n", 1)[0].strip()[:80]


def _unique(symbols: list[Symbol]) -> list[Symbol]:
    """One symbol per line range: an `export` or decorator and the definition inside it are the same thing."""
    seen: dict[tuple[int, int], Symbol] = {}
    for symbol in symbols:
        seen.setdefault((symbol.start, symbol.end), symbol)
    by_name: dict[tuple[str, int], Symbol] = {}
    for symbol in seen.values():
        key = (symbol.name, symbol.end)
        if key not in by_name or symbol.start < by_name[key].start:
            by_name[key] = symbol
    return list(by_name.values())
