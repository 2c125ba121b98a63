from __future__ import annotations

import json
import os
import re
import runpy
import sys
import time
import warnings
from pathlib import Path

import pytest

from review_agent.agent.models import Category, Change, Finding, Note, Severity, SourceFile
from review_agent.prompts import messages
from review_agent.tools.encoding import decode, is_binary, split_lines
from review_agent.tools.evidence import check

_PASSWORD = "password = 'h7Kd92!ksLq'"
_GITHUB = "ghp_" + "q8S7d6F5g4H3j2K1l0Z9x8C7v6B5n4M3q2W1"


def source(path: str, text: str, **more: object) -> SourceFile:
    language = {"py": "python", "md": "markdown", "c": "c", "js": "javascript"}.get(
        path.rsplit(".", 1)[-1], "text"
    )
    return SourceFile(path, language, split_lines(text), "", Change.WHOLE, **more)  # type: ignore[arg-type]


def found(path: str, text: str, **more: object) -> list[tuple[str, str, int]]:
    return [(f.rule_id, f.severity.value, f.start_line) for f in check(source(path, text, **more), "zh-CN")]


def test_a_whole_finding() -> None:
    assert check(source("a.c", f"\n{_PASSWORD}\n"), "en") == [
        Finding(
            rule_id="secret/password",
            category=Category.SECURITY,
            severity=Severity.MEDIUM,
            confidence=0.6,
            path="a.c",
            start_line=2,
            end_line=2,
            title="What looks like a password is written into the code",
            message="Line 2 gives what looks like a real value as a password. "
            "This is judged by the variable's name and the shape of the value; please check.",
            suggestion="If it is real, revoke and replace it and read it from the environment or a secret "
            "store; if it is an example, use an obvious placeholder.",
            source="check",
        )
    ]


@pytest.mark.parametrize(
    ("path", "text", "severity"),
    [
        ("a.py", f"x = '{_GITHUB}'", "high"),
        ("tests/test_a.py", f"x = '{_GITHUB}'", "high"),
        ("a.py", _PASSWORD, "medium"),
        ("tests/test_a.py", _PASSWORD, "low"),
        ("docs/guide.md", _PASSWORD, "low"),
    ],
)
def test_severity_of_secrets(path: str, text: str, severity: str) -> None:
    assert [item[1] for item in found(path, text)] == [severity]


def test_one_finding_per_line_and_kind() -> None:
    assert len(found("a.py", f"x = '{_GITHUB}', '{_GITHUB}'; y = '{_GITHUB}'")) == 1


def test_secrets_beyond_twenty_become_one_finding() -> None:
    findings = check(source("a.js", f"{_PASSWORD}\n" * 30), "zh-CN")
    assert [f.rule_id for f in findings] == ["secret/password"] * 20 + ["secret/more"]
    assert (findings[-1].start_line, findings[-1].end_line) == (21, 30)
    assert "10" in findings[-1].message


def test_a_private_key_is_one_finding_over_its_lines() -> None:
    body = "q8S7d6F5g4H3j2K1l0Z9x8C7v6B5n4M3q2W1"
    text = f"-----BEGIN PRIVATE KEY-----\n{body}\n{body}\n-----END PRIVATE KEY-----\n"
    assert [(f.rule_id, f.start_line, f.end_line) for f in check(source("a.pem", text), "en")] == [
        ("secret/private-key", 1, 4)
    ]


@pytest.mark.parametrize("lang", ["zh-CN", "en"])
def test_no_text_of_the_code_gets_into_a_message(lang: str) -> None:
    text = f"{_PASSWORD}\nx = '{_GITHUB}'\na\u200bdmin = \u202e1\n"
    for finding in check(source("a.py", text), lang):
        said = finding.title + finding.message + finding.suggestion
        assert not re.search("h7Kd|ghp_|dmin|\u200b|\u202e", said)


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.c", "/*\u202e } \u2066if (admin)\u2069 \u2066 begin */", [("text/bidi", "high", 1)]),
        ("a.c", "x\n/* \u2066 open */", [("text/bidi", "high", 2)]),
        ("a.md", "see \u202eevil", [("text/bidi", "medium", 1)]),
        ("a.c", 's = "\u2067abc\u2069";', [("text/bidi", "medium", 1)]),
        ("a.c", 's = "\u2067שלום\u2069";', []),
        ("a.c", 's = "שלום"; // مرحبا بالعالم', []),
        ("a.c", 's = "שלום\u200f";', []),
        ("a.c", 's = "a\u200eb";', [("text/bidi", "low", 1)]),
        ("fa.json", '{"minus": "\u200e-"}', []),
    ],
)
def test_bidi(path: str, text: str, expected: list[tuple[str, str, int]]) -> None:
    assert found(path, text) == expected


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.js", "const a\u200bdmin = 1;", [("text/invisible", "high", 1)]),
        ("a.js", "f({ x, \u3164 })", [("text/invisible", "high", 1)]),
        ("a.js", "// done\u200b", [("text/invisible", "low", 1)]),
        ("a.md", "word\u200bword and so\u00adft", [("text/invisible", "low", 1)]),
        ("a.md", "hi" + "".join(chr(0xE0000 + ord(c)) for c in "ignore"), [("text/invisible", "high", 1)]),
        ("a.js", "x = `" + "\ufe01" * 9 + "`", [("text/invisible", "high", 1)]),
        ("a.sh", "echo \x1b[2J", [("text/invisible", "medium", 1)]),
        ("a.js", "a\n\ufeffb", [("text/invisible", "low", 2)]),
        ("a.js", "\ufeffa", []),
        ("a.js", "a\x0c\x0b\tb\u0085\u2028", []),
        ("a.js", "'👨\u200d👩\u200d👧 ❤\ufe0f 1\ufe0f\u20e3 👩🏽\u200d🚀'", []),
        ("a.js", "'🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f'", []),
        ("a.js", "'می\u200cخواهم' + 'क्\u200dष'", []),
        ("a.js", "'สวัสดี\u200bครับ'", []),
        ("a.js", "'葛\U000e0100城'", []),
        ("a.js", "'\ue000'", []),
        ("a.js", "a\u200db", [("text/invisible", "high", 1)]),
    ],
)
def test_invisible(path: str, text: str, expected: list[tuple[str, str, int]]) -> None:
    assert found(path, text) == expected


@pytest.mark.parametrize(
    ("path", "text", "lines"),
    [
        ("a.py", "def is_\u0430dmin(u): pass", [1]),
        ("a.py", "x = 1\nurl = 'http://p\u0430yp\u0430l.com'", [2]),
        ("a.py", "\u0410PI = 1", [1]),
        ("a.py", "def проверка(имя): pass", []),
        ("a.py", "def 总价(单价): return 单价 * Δx * α_s", []),
        ("a.py", "# вернуть JSON\u0430 из кеша", []),
        ("a.py", "café = naïve", []),
        ("a.md", "is_\u0430dmin", []),
    ],
)
def test_homoglyphs(path: str, text: str, lines: list[int]) -> None:
    assert found(path, text) == [("text/homoglyph", "medium", line) for line in lines]


def test_a_flood_is_merged_and_the_worst_stays() -> None:
    text = "// \u200b\n" * 40 + "a\u200bb\n"
    findings = check(source("a.js", text), "en")
    assert len(findings) == 11
    assert ("text/invisible", "high", 41) in [(f.rule_id, f.severity.value, f.start_line) for f in findings]
    assert sum("31 more" in f.title for f in findings) == 1


def test_mixed_encoding() -> None:
    notes = (Note("mixed_encoding", {}),)
    assert found("a.c", "int a;\n// \ufffd\n", notes=notes) == [("text/mixed-encoding", "info", 2)]
    assert found("a.c", "// \ufffd\n") == []


_CONFLICT = "<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> b\n"


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.py", _CONFLICT, [("text/conflict-marker", "high", 1)]),
        (
            "a.c",
            "a\n" + _CONFLICT * 2,
            [("text/conflict-marker", "high", 2), ("text/conflict-marker", "high", 7)],
        ),
        ("a.c", "<<<<<<< a\n||||||| b\n=======\n>>>>>>> c\n", [("text/conflict-marker", "high", 1)]),
        ("a.md", _CONFLICT, [("text/conflict-marker", "low", 1)]),
        ("a.md", "Heading\n=======\n", []),
        ("a.c", "<<<<<<< a\nx\n>>>>>>> b\n", []),
        ("a.c", "=======\n>>>>>>> b\n<<<<<<< a\n", []),
        ("a.c", "  <<<<<<< a\n  =======\n  >>>>>>> b\n", []),
    ],
)
def test_conflict_markers(path: str, text: str, expected: list[tuple[str, str, int]]) -> None:
    assert found(path, text) == expected


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.py", "x = 1\ndef f(:\n", [("medium", 2)]),
        ("a.py", "x = 1\nif x:\npass\n", [("medium", 3)]),
        ("a.py", "print 'a'\n", [("low", 1)]),
        ("a.py", "try:\n  f()\nexcept E, e:\n  raise E, 'x'\n", [("low", 3)]),
        ("a.py", "try:\n  f()\nexcept A, B:\n  g()\n", []),  # Python 3.14
        ("a.py", "{% if x %}\nimport y\n{% endif %}\n", []),
        ("a.py", "%matplotlib inline\n", []),
        ("a.py", "", []),
        ("a.py", "x = " + "(" * 3000 + "1" + ")" * 3000, [("medium", 1)]),
        ("a.py", "if x: 0\n" + "elif x: 1\n" * 3000, []),
        ("a.py", "x = '\\d'\nassert (1, 2)\n", []),
        ("a.py", "x = 1 \0\n", []),
        ("tests/fixtures/a.py", "def f(:\n", [("low", 1)]),
        ("a.json", '{"a": 1,}\n', [("medium", 1)]),
        ("a.json", '{\n"a": 1\n"b": 2}\n', [("medium", 3)]),
        ("a.json", '// c\n{"a": 1}\n', []),
        ("a.json", '{"a": 1}\n{"a": 2}\n', []),
        ("a.json", '{"a": {{ x }}}\n', []),
        ("a.json", "[" * 50_000 + "]" * 50_000, []),
        ("a.json", "1" * 6000, []),
        ("tsconfig.base.json", '{"a": 1,}\n', []),
        (".vscode/settings.json", '{"a": 1,}\n', []),
        ("a.jsonc", '{"a": 1,}\n', []),
        ("a.toml", "a = 1\nb = \n", [("medium", 2)]),
        ("a.toml", "a." * 40_000 + "b = 1", []),
        ("a.yaml", "a: 1\n  b: 2\n", [("medium", 2)]),
        ("a.yaml", "on: x\nrun: ${{ a }}\nb: [\n", [("medium", 4)]),
        ("a.yaml", "{{- if x }}\na: [\n", []),
        ("a.yaml", "a: !Ref b\n---\nb: &x [*x]\n", []),
        ("a.yaml", "[" * 50_000, []),
        ("a.txt", "def f(:\n", []),
    ],
)
def test_files_that_do_not_parse(path: str, text: str, expected: list[tuple[str, int]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        faults = [item[1:] for item in found(path, text) if item[0].startswith("syntax/")]
    lines = max(len(split_lines(text)), 1)
    assert faults == [(severity, min(line, lines)) for severity, line in expected]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="newer than the parser only there")
@pytest.mark.parametrize(
    "text", ["x = f'{a['b']}'\n", "type X = int\n", "def f[T](x: T): ...\n", "class A[T]: ...\n"]
)
def test_python_newer_than_ours_is_no_fault(text: str) -> None:
    assert found("a.py", text) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.toml", "a." * 40_000 + "b = 1"),
        ("a.yaml", "[" * 400_000),
        ("a.json", "[" * 90_000),
        ("a.py", "(" * 90_000),
    ],
)
def test_no_parser_is_kept_busy(path: str, text: str) -> None:
    start = time.process_time()
    check(source(path, text), "en")
    assert time.process_time() - start < 5


def test_partial_files_are_not_parsed_but_searched() -> None:
    text = f"\ndef f(:\n{_PASSWORD}\n"
    assert found("a.py", text, known=frozenset({2, 3})) == [("secret/password", "medium", 3)]


def test_catalogues_agree() -> None:
    chinese, english = messages("zh-CN"), messages("en")
    for table in ("checks", "secret_kinds"):
        fields = [
            {key: set(re.findall(r"\{(\w+)\}", text)) for key, text in catalogue[table].items()}
            for catalogue in (chinese, english)
        ]
        assert fields[0] == fields[1]


def test_weird_files(tmp_path: Path) -> None:
    script = Path(os.environ.get("REVIEW_AGENT_CORPUS", "tests/corpus")) / "weird_files" / "make_weird.py"
    if not script.exists():
        pytest.skip(f"no {script}: the corpus of odd files is not here")
    out = tmp_path / "weird"
    runpy.run_path(str(script))["main"](str(out))
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    wrong = []
    for row in rows:
        path = out / row["file"]
        if row["expect"] != "review" or path.is_symlink() or is_binary(data := path.read_bytes()):
            continue
        decoded = decode(data)
        notes = (Note(decoded.note),) if decoded.note else ()
        findings = check(source(row["file"], decoded.text, notes=notes, encoding=decoded.encoding), "zh-CN")
        rules = {finding.rule_id for finding in findings}
        texts = {rule for rule in rules if rule.startswith("text/") and rule != "text/conflict-marker"}
        flag = row.get("flag")
        expected = {f"text/{flag}"} if flag and flag != "secret" else set()
        secret = any(rule.startswith("secret/") for rule in rules)
        if texts != expected or secret != (flag == "secret"):
            wrong.append((row["file"], flag, sorted(rules)))
    assert wrong == []


def test_bench_clean_files() -> None:
    folder = os.environ.get("REVIEW_AGENT_BENCH")
    if not folder or not (path := Path(folder) / "clean" / "items.jsonl").exists():
        pytest.skip("REVIEW_AGENT_BENCH has no clean files: figures are taken only where the data is")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    files = [source(row["path"], row["content"]) for row in rows]
    findings = [finding for file in files for finding in check(file, "zh-CN")]
    lines = sum(len(file.lines) for file in files)
    print(f"clean: {len(findings)} findings in {lines} lines")
    assert not [finding for finding in findings if finding.severity.at_least(Severity.HIGH)]
    assert len(findings) <= 0.5 * lines / 1000
