"""Templates and code: each language in its own script, and no sentence outside the catalogues."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from review_agent import prompts

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((Path(prompts.__file__).parent / "templates").iterdir())
CJK = re.compile("[\u2e80-\u9fff\uf900-\ufaff]")
HANZI = re.compile("[\u4e00-\u9ffe]")
WORD = re.compile(r"[A-Za-z]{2,}")
CODE = re.compile(r"`[^`]*`|\{[^\n]*\}|JSON", re.S)
# Modules that must recognise Chinese in what they read, and the line for a system we do not run on.
KNOW_CHINESE = {
    *("agent/answer.py", "agent/answer_fields.py", "agent/answer_json.py", "agent/classify.py"),
    *("tools/encoding.py", "tools/secrets.py", "tools/secret_formats.py", "tools/secret_values.py"),
    "agent/main.py",
}


@pytest.mark.parametrize("path", [p for p in TEMPLATES if ".en." in p.name], ids=lambda p: p.name)
def test_english_templates_have_no_chinese(path: Path) -> None:
    assert CJK.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [p for p in TEMPLATES if ".zh-CN." in p.name], ids=lambda p: p.name)
def test_chinese_templates_have_no_english(path: Path) -> None:
    assert WORD.findall(CODE.sub(" ", path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", [p for p in TEMPLATES if p.suffix == ".jinja"], ids=lambda p: p.name)
def test_shared_templates_have_no_words_of_their_own(path: Path) -> None:
    text = re.sub(r"\{[{%#].*?[}%#]\}", " ", path.read_text(encoding="utf-8"), flags=re.S)
    assert CJK.findall(text) + WORD.findall(text) == []


def test_chinese_sentences_stand_in_the_catalogues_only() -> None:
    found = {}
    for room in ("agent", "tools", "prompts", "checkpoints"):
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            texts = [text for text in literals(path) if len(HANZI.findall(text)) > 1]
            if texts and name not in KNOW_CHINESE:
                found[name] = texts
    assert found == {}


def literals(path: Path) -> list[str]:
    """String literals that are not docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]
