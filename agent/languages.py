"""Which language a file is written in, by its name, its extension or its first line.

Ids are ast-grep's where it knows the language. "text" is all we do not know; it is reviewed just the same.
"""

from __future__ import annotations

import re

TEXT = "text"

# id -> (name to show, extensions, whole file names, interpreters); lower case, blank-separated.
_TABLE: dict[str, tuple[str, str, str, str]] = {
    "python": ("Python", "py pyi pyw pyx bzl star", "sconstruct wscript build.bazel", "python pypy uv"),
    "javascript": ("JavaScript", "js mjs cjs jsx es6", ".eslintrc.js", "node nodejs"),
    "typescript": ("TypeScript", "ts mts cts", "", "deno bun ts-node tsx"),
    "tsx": ("TSX", "tsx", "", ""),
    "go": ("Go", "go", "", ""),
    "rust": ("Rust", "rs", "", "rust-script"),
    "java": ("Java", "java", "", "java"),
    "kotlin": ("Kotlin", "kt kts ktm", "", "kotlin"),
    "c": ("C", "c h", "", "tcc"),
    "cpp": ("C++", "cc cpp cxx c++ hh hpp hxx h++ ipp tpp inl cu cuh ino", "", ""),
    "csharp": ("C#", "cs csx", "", ""),
    "ruby": (
        "Ruby",
        "rb rake gemspec ru podspec",
        "gemfile rakefile vagrantfile podfile brewfile",
        "ruby jruby",
    ),
    "php": ("PHP", "php php3 php4 php5 php7 phtml", "", "php"),
    "swift": ("Swift", "swift", "", "swift"),
    "scala": ("Scala", "scala sc sbt", "", "scala"),
    "lua": ("Lua", "lua rockspec", "", "lua luajit"),
    "bash": (
        "Shell",
        "sh bash zsh ksh bats ebuild",
        ".bashrc .bash_profile .bash_aliases .profile .zshrc .zshenv .envrc pkgbuild apkbuild",
        "sh bash zsh ksh dash ash",
    ),
    "html": ("HTML", "html htm xhtml", "", ""),
    "css": ("CSS", "css", "", ""),
    "json": ("JSON", "json jsonc json5 geojson webmanifest ipynb", ".babelrc .eslintrc .prettierrc", ""),
    "yaml": ("YAML", "yaml yml", ".clang-format .clang-tidy", ""),
    "haskell": ("Haskell", "hs", "", "runhaskell runghc stack"),
    "elixir": ("Elixir", "ex exs", "", "elixir"),
    "solidity": ("Solidity", "sol", "", ""),
    "nix": ("Nix", "nix", "", ""),
    "hcl": ("HCL", "tf tfvars hcl nomad", "", ""),
    "scss": ("SCSS", "scss sass", "", ""),
    "less": ("Less", "less", "", ""),
    "vue": ("Vue", "vue", "", ""),
    "svelte": ("Svelte", "svelte", "", ""),
    "astro": ("Astro", "astro", "", ""),
    "sql": ("SQL", "sql ddl dml pgsql plsql psql", "", ""),
    "dockerfile": ("Dockerfile", "dockerfile containerfile", "dockerfile containerfile", ""),
    "makefile": ("Makefile", "mk mak make", "makefile gnumakefile bsdmakefile", "make"),
    "cmake": ("CMake", "cmake", "cmakelists.txt", ""),
    "toml": ("TOML", "toml", "pipfile", ""),
    "ini": (
        "INI",
        "ini cfg conf properties env service desktop",
        ".editorconfig .gitconfig .gitmodules .npmrc .flake8 .pylintrc .env",
        "",
    ),
    "markdown": ("Markdown", "md markdown mdx mkd", "", ""),
    "rst": ("reStructuredText", "rst", "", ""),
    "xml": (
        "XML",
        "xml xsd xsl xslt wsdl svg plist csproj vbproj fsproj props targets resx xaml pom",
        "",
        "",
    ),
    "dart": ("Dart", "dart", "", "dart"),
    "r": ("R", "r rmd", ".rprofile", "rscript"),
    "perl": ("Perl", "pl pm t psgi", "", "perl"),
    "powershell": ("PowerShell", "ps1 psm1 psd1", "", "pwsh powershell"),
    "batch": ("Batch", "bat cmd", "", ""),
    "proto": ("Protocol Buffers", "proto", "", ""),
    "thrift": ("Thrift", "thrift", "", ""),
    "graphql": ("GraphQL", "graphql gql", "", ""),
    "groovy": ("Groovy", "groovy gradle gvy", "jenkinsfile", "groovy"),
    "objc": ("Objective-C", "m mm", "", ""),
    "clojure": ("Clojure", "clj cljs cljc edn", "", "bb clojure"),
    "erlang": ("Erlang", "erl hrl", "rebar.config", "escript"),
    "fsharp": ("F#", "fs fsi fsx", "", ""),
    "ocaml": ("OCaml", "ml mli", "", "ocaml"),
    "julia": ("Julia", "jl", "", "julia"),
    "zig": ("Zig", "zig zon", "", ""),
    "nim": ("Nim", "nim nims", "", ""),
    "pascal": ("Pascal", "pas dpr", "", ""),
    "fortran": ("Fortran", "f f77 f90 f95 f03 f08", "", ""),
    "cobol": ("COBOL", "cob cbl cpy", "", ""),
    "assembly": ("Assembly", "asm s", "", ""),
    "verilog": ("Verilog", "v vh sv svh", "", ""),
    "vhdl": ("VHDL", "vhd vhdl", "", ""),
    "visual_basic": ("Visual Basic", "vb bas vbs", "", ""),
    "vim": ("Vim script", "vim", ".vimrc", ""),
    "tcl": ("Tcl", "tcl", "", "tclsh wish"),
    "cangjie": ("Cangjie", "cj", "", ""),
    "arkts": ("ArkTS", "ets", "", ""),
    "wxml": ("WXML", "wxml axml swan", "", ""),
    TEXT: ("TXT", "txt text log csv tsv", "", ""),
}


def _index(column: int) -> dict[str, str]:
    return {word: language for language, row in _TABLE.items() for word in row[column].split()}


_BY_EXTENSION, _BY_NAME, _BY_INTERPRETER = _index(1), _index(2), _index(3)
_NAME_STARTS = (
    ("dockerfile.", "dockerfile"),
    ("containerfile.", "dockerfile"),
    ("makefile.", "makefile"),
    (".env.", "ini"),
)
_SHEBANG = re.compile(r"#![ \t]*(?:\S*/)?([^\s/]+)(.*)")
_VERSION = re.compile(r"[\d.]+$")
_FIRST_LINES = (
    (re.compile(r"<\?php\b", re.IGNORECASE), "php"),
    (re.compile(r"<\?xml\b", re.IGNORECASE), "xml"),
    (re.compile(r"<!doctype\s+html|<html\b", re.IGNORECASE), "html"),
)


def detect(path: str, first_line: str = "") -> str:
    """Language id of a file; "text" when nothing tells."""
    name = path.rpartition("/")[2].lower()
    first_line = first_line.removeprefix("\ufeff")[:200]
    if found := _BY_NAME.get(name):
        return found
    for start, language in _NAME_STARTS:
        if name.startswith(start):
            return language
    dot = name.rfind(".")
    if dot >= 0 and (found := _BY_EXTENSION.get(name[dot + 1 :])):
        # Qt keeps translations, which are XML, in .ts files too.
        return "xml" if found == "typescript" and _by_first_line(first_line) == "xml" else found
    return _by_shebang(first_line) or _by_first_line(first_line) or TEXT


def display_name(language: str) -> str:
    """How a report writes the language: a proper name, the same in every report language."""
    row = _TABLE.get(language)
    return row[0] if row else language


def _by_shebang(line: str) -> str:
    match = _SHEBANG.match(line)
    if match is None:
        return ""
    program, rest = match.groups()
    if program == "env":
        # env -S python3 -u, env LANG=C bash
        words = (word for word in rest.split() if not word.startswith("-") and "=" not in word)
        program = next(words, "").rpartition("/")[2]
    program = program.lower()
    return _BY_INTERPRETER.get(program) or _BY_INTERPRETER.get(_VERSION.sub("", program), "")


def _by_first_line(line: str) -> str:
    return next((language for pattern, language in _FIRST_LINES if pattern.match(line.lstrip())), "")
