"""The three parsers of text from outside (diff, model answer, configuration): our own errors or a result, soon."""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from gitrepo import make_repo
from hostile_text import HOSTILE, TEXT
from hypothesis import given, settings
from hypothesis import strategies as st

from review_agent.agent.answer import parse
from review_agent.agent.config import load
from review_agent.agent.errors import AnswerUnreadable, ConfigError, TargetError
from review_agent.agent.models import Answer, Category, Severity
from review_agent.agent.settings import KEYS
from review_agent.agent.target import Target, select
from review_agent.tools.diff import parse_diff

SECONDS = 5.0  # of the processor, for one input; on this scale anything that is not linear shows


@contextmanager
def soon() -> Iterator[None]:
    began = time.process_time()
    yield
    assert time.process_time() - began < SECONDS


@st.composite
def mutated(draw: st.DrawFn, source: st.SearchStrategy[bytes], scraps: st.SearchStrategy[bytes]) -> bytes:
    """Something valid, cut, doubled, moved about and written over in a few places."""
    data = draw(source)
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 60)))
        part = data[start:end]
        put = draw(
            st.one_of(scraps, st.just(b""), st.just(part * 2), st.just(part[::-1]), st.just(part.swapcase()))
        )
        if draw(st.booleans()):
            data = data[:start] + put + data[end:]
        else:
            at = draw(st.integers(0, len(data)))
            data = data[:at] + put + data[at:]
    return data


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# --- diff

LINES = st.lists(
    st.sampled_from(["a", "b", "", "-- x", "++ y", "@@ -1 +1 @@", "\\ z", "中文", "\x1b[m"]), max_size=20
)


@st.composite
def diffs(draw: st.DrawFn) -> bytes:
    """Diffs as git writes them, of one or more files."""
    whole = b""
    for number in range(draw(st.integers(1, 3))):
        old, new = draw(LINES), draw(LINES)
        name = draw(st.sampled_from(["x.py", "a b.c", '"q\\303\\244.py"', "d/e.txt"]))
        kind = draw(st.sampled_from(["plain", "git", "new", "gone", "renamed", "binary", "mode"]))
        path = f"{number}{name}" if not name.startswith('"') else f'"{number}{name[1:]}'
        quote = '"' if path.startswith('"') else ""
        left, right = (f"{quote}{side}/{path.strip(quote) if quote else path}{quote}" for side in "ab")
        git = f"diff --git {left} {right}\n"
        body = (
            "\n".join(difflib.unified_diff(old, new, left, right, lineterm="", n=draw(st.integers(0, 3))))
            + "\n"
        )
        index = "index 0123456789abcdef0123456789abcdef01234567..89abcdef0123456789abcdef0123456789abcdef 100644\n"
        head = {
            "plain": "",
            "git": git + index,
            "new": git + "new file mode 100644\n" + index,
            "gone": git + "deleted file mode 100644\n" + index,
            "renamed": git + f"similarity index 90%\nrename from o{number}\nrename to {path}\n" + index,
            "binary": git + index + f"Binary files {left} and {right} differ\n",
            "mode": git + "old mode 100644\nnew mode 100755\n",
        }[kind]
        whole += as_bytes(head + (body if kind not in ("binary", "mode") else ""))
    return whole


HEADERS = st.sampled_from(
    [
        b"@@ -1 +1 @@\n", b"@@ -0,0 +1,999999999 @@\n", b"@@ -1,0 +999999999 @@\n", b"@@ -9999999999 +1 @@\n",
        b"@@ -1,3 +1,3 @@", b"@@@ -1 -1 +1 @@@\n", b"diff --git a/x b/y\n", b'diff --git "a/\\777" b/\n',
        b"diff --cc x\n", b"--- a/x\n", b"+++ b/x\n", b"--- /dev/null\n", b"+++ /dev/null\n", b"rename from \n",
        b"rename to ../../x\n", b"copy from x\n", b"new file mode \n", b"old mode 1\n", b"index ..\n", b"index x..y z\n",
        b"\\ No newline at end of file\n", b"Binary files differ\n", b"GIT binary patch\n", b"\0", b"\r\n", b"\r",
        b"-- \n", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\t", b"--- a/../../../etc/passwd\n", b"--- /etc/passwd\n",
    ]
)  # fmt: skip
ANY_DIFF = st.one_of(
    st.binary(max_size=400),
    mutated(diffs(), HEADERS | st.binary(max_size=8)),
    st.lists(HEADERS, max_size=30).map(b"".join),
)


@settings(max_examples=400)
@given(data=ANY_DIFF)
def test_any_diff_is_read_or_refused(data: bytes) -> None:
    with soon():
        try:
            files = parse_diff(data)
        except TargetError as exc:
            assert exc.key in ("diff_cut", "diff_malformed", "diff_combined")  # noqa: PT017 - either is right
            return
    assert all(file.path for file in files)
    assert all(len(hunk.new_lines) == hunk.new_count for file in files for hunk in file.hunks)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with some of the files that the diffs name."""
    repo = make_repo(tmp_path_factory.mktemp("parsers") / "repo")
    repo.write("0x.py", "a\nb\n")
    repo.write("d/e.txt", "中文\n")
    return repo.path


@settings(max_examples=150)
@given(data=ANY_DIFF)
def test_any_diff_file_selects_files_within_the_folder_or_is_refused(folder: Path, data: bytes) -> None:
    target = Target("diff", str(folder), diff_file="x.diff", diff_text=data)
    with soon():
        try:
            selection, _ = select(target, max_file_size=100_000)
        except TargetError:
            return
    for file in selection.files:
        assert all(1 <= number <= len(file.lines) for number in file.changed or ())
        assert file.known is not None or file.path in (
            "0x.py",
            "d/e.txt",
        )  # whole texts are of this folder only


@pytest.mark.parametrize(
    "data",
    [
        b"--- a\n+++ b\n" + b"@@ -1 +1 @@\n-a\n+b\n" * 100_000,
        b"diff --git a/x b/x\n" * 100_000,
        b'diff --git "' + b"\\" * 3_000_000,
        b"--- " + b'"' * 2_000_000 + b"\n+++ x\n@@ -1 +1 @@\n-a\n+b\n",
        b"--- a/x\n+++ b/x\n@@ -1,9999999 +1,9999999 @@\n" + b" \n" * 1_000_000,
        b"diff --git " + b" b/" * 1_000_000,
        b"\n" * 2_000_000,
    ],
    ids=["hunks", "files", "backslashes", "quotes", "cut", "names", "lines"],
)
def test_a_large_diff_takes_little_time(data: bytes) -> None:
    with soon():
        try:
            parse_diff(data)
        except TargetError:
            return


# --- model answer

FINDING = st.fixed_dictionaries(
    {
        "path": TEXT,
        "title": TEXT,
        "category": st.sampled_from(Category) | TEXT,
        "severity": st.sampled_from(Severity) | TEXT,
        "confidence": st.floats(0, 1) | st.integers() | st.floats() | TEXT,
        "line_start": st.integers(0, 99) | st.integers() | st.floats() | TEXT,
        "line_end": st.integers(0, 99) | st.integers() | TEXT,
        "quote": TEXT,
        "explanation": TEXT,
        "suggestion": TEXT,
        "replacement": TEXT,
    }
)
ANSWERS = st.fixed_dictionaries({"summary": TEXT, "findings": st.lists(FINDING, max_size=4)}).map(
    lambda answer: as_bytes(json.dumps(answer, ensure_ascii=False, indent=1))
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | HOSTILE,
    lambda inner: st.lists(inner, max_size=5)
    | st.dictionaries(st.sampled_from(["findings", "title", "path", "问题", "error", "content", "summary"]) | HOSTILE, inner, max_size=5),
    max_leaves=20,
).map(lambda value: as_bytes(json.dumps(value, ensure_ascii=False)))  # fmt: skip
JSON_SCRAPS = st.sampled_from(
    [
        b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\\u", b"\\ud800", b"null", b"NaN", b"-Infinity", b"1e9999",
        b"-", b"0x1", b"1" * 5000, b"1." + b"0" * 5000 + b"e-9", b'"findings":', b'{"findings": [', b"```json\n", b"```",
        b"<think>", b"</think>", b"//x\n", b"/*", b"'", "“".encode(), "：".encode(), "｛".encode(), b"\0", b"\x1b", b"[" * 400,
        b'{"a":' * 400,
    ]
)  # fmt: skip
ANY_ANSWER = st.one_of(
    HOSTILE.map(as_bytes),
    ANSWERS,
    JSON,
    mutated(ANSWERS, JSON_SCRAPS),
    st.lists(JSON_SCRAPS, max_size=20).map(b"".join),
)


def check_answer(answer: Answer) -> None:
    assert len(answer.candidates) <= 40
    assert answer.candidates or answer.complete
    for found in answer.candidates:
        assert 0 <= found.confidence <= 1
        assert 0 <= found.line_start <= 10**9
        assert 0 <= found.line_end <= 10**9
        assert (Category(found.category), Severity(found.severity)) == (found.category, found.severity)
        for text in (
            found.title,
            found.quote,
            found.path,
            found.explanation,
            found.suggestion,
            found.replacement,
        ):
            assert len(text) <= 20_000
            text.encode("utf-8")


@settings(max_examples=400)
@given(data=ANY_ANSWER, cut=st.booleans())
def test_any_answer_is_read_or_refused(data: bytes, cut: bool) -> None:
    with soon():
        try:
            answer = parse(data.decode("utf-8", "surrogatepass" if data.isascii() else "replace"), cut=cut)
        except AnswerUnreadable:
            return
    check_answer(answer)


WRAPPED = {
    "arrays": ("[" * 200_000, "]" * 200_000),
    "objects": ('{"findings":' * 50_000, "}" * 50_000),
    "findings in findings": ('{"findings":[' * 500, "]}" * 500),
    "strings": (json.dumps(json.dumps(json.dumps(json.dumps('{"findings": [{"title": "x"}]}')))), ""),
    "digits": ('{"findings": [{"title": "x", "line_start": ' + "9" * 100_000, "}]}"),
    "exponent": ('{"findings": [{"title": "x", "confidence": 1e' + "9" * 1000, "}]}"),
    "keys": ('{"findings": [{' + ", ".join(f'"{n}": 1' for n in range(50_000)), "}]}"),
    "escapes": ('{"findings": [{"title": "' + "\\u0000\\ud800" * 100_000, '"}]}'),
    "one long string": ('{"findings": [{"title": "' + "x" * 1_000_000, '"}]}'),
}


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("name", WRAPPED)
def test_depth_and_size_have_bounds(name: str, closed: bool) -> None:
    start, end = WRAPPED[name]
    with soon():
        try:
            answer = parse(start + (end if closed else ""))
        except AnswerUnreadable:
            return
    check_answer(answer)


# --- configuration

TOML_SCRAPS = st.sampled_from(
    [
        b"=", b"[", b"]", b"[[", b"{", b"}", b'"', b"'", b'"""', b"'''", b"#", b"\n", b"\r", b"\\", b"\\u0000", b"\\ud800",
        b"1979-05-27T07:32:00Z", b"inf", b"nan", b"-0", b"0x", b"1e999", b"1" * 5000, b"true", b"\0", b"\xff", b"\xef\xbb\xbf",
        b"[" * 400, b"a.b.c.d = 1\n", b"[rules]\n", b"[[rules]]\n", b"rules = [{id='x'}]\n", b"\x1b[2J", "键".encode(),
    ]
)  # fmt: skip


@st.composite
def configurations(draw: st.DrawFn) -> bytes:
    keys = draw(st.lists(st.sampled_from(KEYS), max_size=6, unique_by=lambda key: key.name))
    lines = []
    for key in keys:
        choice = f'"{draw(st.sampled_from(key.choices))}"' if key.choices else '"x"'
        value = draw(
            st.sampled_from([choice, "1", "0", "true", '["a/**"]', "[]", '"10 MiB"', "0.5", '"auto"', "{}"])
        )
        lines.append(f"{key.camel if draw(st.booleans()) else key.name} = {value}\n")
    if draw(st.booleans()):
        lines.append('[[rules]]\nid = "R1"\ntext = "说明"\npaths = ["*.py"]\nseverity = "high"\n')
    return as_bytes("".join(lines))


ANY_CONFIG = st.one_of(
    st.binary(max_size=200),
    HOSTILE.map(as_bytes),
    configurations(),
    mutated(configurations(), TOML_SCRAPS | st.binary(max_size=4)),
    st.lists(TOML_SCRAPS, max_size=12).map(b"".join),
)


def load_both(data: bytes, file: Path) -> None:
    """As a user's file, and as that of a reviewed repository."""
    file.write_bytes(data)
    text = data.decode("utf-8", "replace")
    for user, repo in ((file, None), (None, text)):
        try:
            loaded = load(
                flags={}, environ={}, user_file=user, repo_text=repo, repo_name=".review-agent.toml"
            )
        except ConfigError:
            continue
        if repo is not None:  # whatever it says, engine and endpoint are not its to choose
            kept = replace(load(flags={}, environ={}, user_file=None, repo_text=None, repo_name="").settings)
            for name in (
                "mode",
                "backend",
                "base_url",
                "model",
                "allowed_hosts",
                "allowed_directories",
                "checkpoint_path",
            ):
                assert getattr(loaded.settings, name) == getattr(kept, name)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "config.toml"


@settings(max_examples=400)
@given(data=ANY_CONFIG)
def test_any_configuration_is_taken_or_refused(config_file: Path, data: bytes) -> None:
    with soon():
        load_both(data, config_file)


@pytest.mark.parametrize(
    "data",
    [
        b"x = " + b"[" * 100_000 + b"]" * 100_000,
        b"x = " + b"{a=" * 100_000,
        b".".join([b"a"] * 100_000) + b" = 1\n",
        b"x = 1\n" + b".".join([b"'='"] * 3000) + b" = 1\n",
        b"[" + b".".join([b"a"] * 900) + b"]\n" + b"".join(b"b%d=1\n" % n for n in range(90_000)),
        b"[" + b".".join([b"a"] * 100_000) + b"]\n",
        b"exclude = [" + b'"a",' * 100_000 + b"]\n",
        b"".join(b"[a%d]\nb = 1\n" % n for n in range(50_000)),
        b"max_files = " + b"9" * 900_000 + b"\n",
        b'lang = "' + b"\\u4e2d" * 100_000 + b'"\n',
        b"#" * 2_000_000,
        b"\n" * 900_000 + b"x",
    ],
    ids=[
        "arrays",
        "tables",
        "dots",
        "quoted",
        "below",
        "head",
        "list",
        "many",
        "digits",
        "escapes",
        "comment",
        "lines",
    ],
)
def test_a_large_configuration_of_a_repository_takes_little_time(data: bytes) -> None:
    with soon():
        try:
            load(flags={}, environ={}, user_file=None, repo_text=data.decode(), repo_name="x")
        except ConfigError:
            return


def test_long_lists_of_globs_are_taken() -> None:
    globs = [f"src/part{n}/**/*.generated.py" for n in range(900)]
    for between in (", ", ",\n"):
        text = f"exclude = [{between.join(map(json.dumps, globs))}]\n"
        loaded = load(flags={}, environ={}, user_file=None, repo_text=text, repo_name="x")
        assert loaded.settings.exclude == tuple(globs)
