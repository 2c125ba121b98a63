from __future__ import annotations

import pytest
from ast_grep_py import SgRoot

from review_agent.agent.languages import detect, display_name

AST_GREP = (
    "python javascript typescript tsx go rust java kotlin c cpp csharp ruby php swift scala lua bash html "
    "css json yaml haskell elixir solidity nix hcl"
)


@pytest.mark.parametrize(
    ("path", "first_line", "language"),
    [
        ("a.py", "", "python"),
        ("src/A.PY", "", "python"),
        ("a.pyi", "", "python"),
        ("a.mjs", "", "javascript"),
        ("a.jsx", "", "javascript"),
        ("a.ts", "", "typescript"),
        ("a.d.ts", "", "typescript"),
        ("i18n/zh_CN.ts", '<?xml version="1.0"?>', "xml"),
        ("src/[id].tsx", "", "tsx"),
        ("a.go", "", "go"),
        ("a.rs", "", "rust"),
        ("A.java", "", "java"),
        ("a.kt", "", "kotlin"),
        ("a.h", "", "c"),
        ("a.hpp", "", "cpp"),
        ("A.cs", "", "csharp"),
        ("Gemfile", "", "ruby"),
        ("a.php", "", "php"),
        ("a.swift", "", "swift"),
        ("a.scala", "", "scala"),
        ("a.lua", "", "lua"),
        ("a.sh", "", "bash"),
        (".bashrc", "", "bash"),
        ("a.html", "", "html"),
        ("a.css", "", "css"),
        ("a.json", "", "json"),
        ("book.ipynb", "", "json"),
        ("a.yml", "", "yaml"),
        ("a.hs", "", "haskell"),
        ("a.ex", "", "elixir"),
        ("a.sol", "", "solidity"),
        ("a.nix", "", "nix"),
        ("main.tf", "", "hcl"),
        ("a.sql", "", "sql"),
        ("Dockerfile", "", "dockerfile"),
        ("docker/Dockerfile.prod", "", "dockerfile"),
        ("api.dockerfile", "", "dockerfile"),
        ("Makefile", "", "makefile"),
        ("CMakeLists.txt", "", "cmake"),
        ("pyproject.toml", "", "toml"),
        ("README.md", "", "markdown"),
        ("pom.xml", "", "xml"),
        ("App.vue", "", "vue"),
        ("App.svelte", "", "svelte"),
        ("a.dart", "", "dart"),
        ("a.R", "", "r"),
        ("a.pl", "", "perl"),
        ("a.ps1", "", "powershell"),
        ("a.proto", "", "proto"),
        ("Jenkinsfile", "", "groovy"),
        ("build.gradle", "", "groovy"),
        ("setup.cfg", "", "ini"),
        (".env", "", "ini"),
        (".env.local", "", "ini"),
        ("entry.ets", "", "arkts"),
        ("bin/tool", "#!/usr/bin/python3.11 -u", "python"),
        ("bin/tool", "#!/usr/bin/env node", "javascript"),
        ("bin/tool", "#!/usr/bin/env -S LANG=C bash -e", "bash"),
        ("bin/tool", "#! /bin/sh", "bash"),
        ("bin/tool", "\ufeff#!/usr/bin/env Rscript", "r"),
        ("bin/tool", "#!/usr/bin/env", "text"),
        ("bin/tool", "#!", "text"),
        ("page", "<!DOCTYPE html>", "html"),
        ("page", "<?php", "php"),
        ("a.sh", "#!/usr/bin/python3", "bash"),  # the extension is what editors and linters go by
        ("LICENSE", "", "text"),
        ("a.unknown", "", "text"),
        ("a.", "", "text"),
        ("", "", "text"),
    ],
)
def test_detect(path: str, first_line: str, language: str) -> None:
    assert detect(path, first_line) == language


@pytest.mark.parametrize("language", AST_GREP.split())
def test_ids_are_those_of_ast_grep(language: str) -> None:
    assert display_name(language) != language
    SgRoot("", language)  # panics for a name it does not know


@pytest.mark.parametrize(
    ("language", "name"), [("cpp", "C++"), ("csharp", "C#"), ("text", "TXT"), ("unheard_of", "unheard_of")]
)
def test_display_name(language: str, name: str) -> None:
    assert display_name(language) == name
