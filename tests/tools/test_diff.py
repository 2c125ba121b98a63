"""Unified diffs: what git and `diff -u` write, what people's tools make of it, and arbitrary bytes."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace

import pytest
from gitrepo import Repo
from hypothesis import given, settings
from hypothesis import strategies as st

from review_agent.agent.errors import TargetError
from review_agent.agent.models import Change, FileDiff, Hunk, Removed
from review_agent.tools.diff import parse_diff

BODY = b"@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"
HUNK = Hunk(1, 3, 1, 3, (b"a", b"B", b"c"), frozenset({2}), (Removed(2, (b"b",)),))
PLAIN = b"--- a/x.py\n+++ b/x.py\n" + BODY
GIT = b"diff --git a/x.py b/x.py\nindex 1111111..2222222 100644\n" + PLAIN
X = FileDiff("x.py", "x.py", Change.MODIFIED, (HUNK,))
GIT_X = replace(X, old_mode="100644", new_mode="100644", new_blob="2222222")


def header(old: str, new: str, *lines: str) -> bytes:
    return "\n".join([f"diff --git {old} {new}", *lines, ""]).encode()


@pytest.mark.parametrize(
    ("data", "files"),
    [
        pytest.param(b"", [], id="empty"),
        pytest.param(b"just text\n\nno diff\n", [], id="no-diff"),
        pytest.param(GIT, [GIT_X], id="git"),
        pytest.param(PLAIN, [X], id="without-git-line"),
        pytest.param(b"\xef\xbb\xbf" + GIT, [GIT_X], id="byte-order-mark"),
        pytest.param(GIT.removesuffix(b"\n"), [GIT_X], id="no-last-line-end"),
        pytest.param(
            b"From 1 Mon\nSubject: x\n\n---\n x.py | 2 +-\n\n" + GIT + b"-- \n2.39\n", [GIT_X], id="mail"
        ),
        pytest.param(b"Index: x.py\n======\n" + PLAIN, [X], id="svn"),
        pytest.param(b"--- x.py\t2024-01-01 00:00\n+++ x.py\t2024-01-02\n" + BODY, [X], id="dates"),
        pytest.param(b'--- "a/x.py"\t2024\n+++ "b/x.py"\t2024\n' + BODY, [X], id="quoted-and-date"),
        pytest.param(PLAIN.replace(b"a/", b"i/").replace(b"b/", b"w/"), [X], id="mnemonic"),
        pytest.param(GIT.replace(b" a/", b" w/").replace(b" b/", b" i/"), [GIT_X], id="mnemonic-reversed"),
        pytest.param(PLAIN.replace(b"a/x", b"x").replace(b"b/x", b"x"), [X], id="no-prefix"),
        pytest.param(
            PLAIN.replace(b"b/x", b"a/x"),
            [replace(X, path="a/x.py", old_path="a/x.py")],
            id="no-prefix-folder-a",
        ),
        pytest.param(
            header("a/new.py", "a/new.py", "new file mode 100644", "--- /dev/null", "+++ a/new.py")
            + b"@@ -0,0 +1 @@\n+x\n",
            [
                FileDiff(
                    "a/new.py",
                    "a/new.py",
                    Change.ADDED,
                    (Hunk(0, 0, 1, 1, (b"x",), frozenset({1})),),
                    new_mode="100644",
                )
            ],
            id="no-prefix-new-file",
        ),
        pytest.param(
            PLAIN.replace(b"\n a\n", b"\n\n"),
            [replace(X, hunks=(replace(HUNK, new_lines=(b"", b"B", b"c")),))],
            id="blank-context-stripped-by-a-mail-program",
        ),
        pytest.param(
            header("a/x", "b/x", "old mode 100644", "new mode 100755"),
            [FileDiff("x", "x", Change.MODE, old_mode="100644", new_mode="100755")],
            id="mode",
        ),
        pytest.param(
            header("a/a b/x", "b/a b/x", "deleted file mode 100644", "index e69de29..0000000"),
            [FileDiff("a b/x", "a b/x", Change.DELETED, old_mode="100644", new_blob="0000000")],
            id="b-slash-inside-the-name",
        ),
        pytest.param(
            header('"a/\\346\\226\\207\\t.py"', '"b/\\346\\226\\207\\t.py"', "new file mode 100644"),
            [FileDiff("文\t.py", "文\t.py", Change.ADDED, new_mode="100644")],
            id="quoted-on-the-git-line",
        ),
        pytest.param(
            header("a/x", '"b/\\"y"', "similarity index 100%", "copy from x", 'copy to "\\"y"'),
            [FileDiff('"y', "x", Change.COPIED)],
            id="copy",
        ),
        pytest.param(
            header(
                "a/x", "b/x", "index 1..2 100644", "GIT binary patch", "literal 4", "LcmZQzWMT#Y01f~L", ""
            ),
            [FileDiff("x", "x", Change.MODIFIED, (), True, "100644", "100644", "2")],
            id="binary-patch",
        ),
        pytest.param(
            PLAIN.replace(BODY, b"@@ -5,2 +4,0 @@ def f():\n-a\n-b\n@@ -9 +6,2 @@\n-c\n+d\n+e\n"),
            [
                replace(
                    X,
                    hunks=(
                        Hunk(5, 2, 4, 0, (), frozenset(), (Removed(5, (b"a", b"b")),)),
                        Hunk(9, 1, 6, 2, (b"d", b"e"), frozenset({6, 7}), (Removed(6, (b"c",)),)),
                    ),
                )
            ],
            id="no-context",
        ),
    ],
)
def test_parse(data: bytes, files: list[FileDiff]) -> None:
    assert parse_diff(data) == files


@pytest.mark.parametrize(
    ("data", "key", "line"),
    [
        pytest.param(GIT.replace(b" c\n", b""), "diff_cut", 5, id="hunk-cut"),
        pytest.param(GIT.removesuffix(BODY), "diff_cut", 3, id="names-and-no-hunk"),
        pytest.param(GIT[: GIT.index(b"+++")], "diff_cut", 1, id="headers-cut"),
        pytest.param(
            header("a/x", "b/x", "new file mode 100644", "index 0..12345"), "diff_cut", 1, id="new-cut"
        ),
        pytest.param(
            header("a/x", "b/y", "rename from x", "rename to y", "index 1..2 100644"),
            "diff_cut",
            1,
            id="rename-cut",
        ),
        pytest.param(GIT + b"+evil()\n", "diff_malformed", 10, id="more-lines-than-the-hunk-says"),
        pytest.param(GIT + b"--- evil()\n+++ evil()\n x\n", "diff_malformed", 10, id="more-lines-like-names"),
        pytest.param(GIT.replace(b" c\n", b"?c\n"), "diff_malformed", 9, id="no-prefix-on-a-line"),
        pytest.param(GIT.replace(b"-b\n", b"-b\n-b\n-b\n-b\n"), "diff_malformed", 9, id="too-many-old-lines"),
        pytest.param(GIT.replace(b"+1,3", b"+one,3"), "diff_malformed", 5, id="hunk-without-numbers"),
        pytest.param(GIT.replace(b"+1,3", b"+0,3"), "diff_malformed", 5, id="line-0"),
        pytest.param(GIT.replace(b"-1,3 +1,3", b"-0,0 +0,0"), "diff_malformed", 5, id="hunk-of-nothing"),
        pytest.param(
            GIT.replace(b"+1,3", b"+" + b"9" * 5000 + b",3"), "diff_malformed", 5, id="endless-number"
        ),
        pytest.param(GIT + BODY, "diff_malformed", 10, id="hunks-out-of-order"),
        pytest.param(GIT + b"\n" + BODY, "diff_malformed", 11, id="hunk-after-a-blank-line"),
        pytest.param(BODY, "diff_malformed", 1, id="hunk-without-a-file"),
        pytest.param(b"--- a/\n+++ b/\n" + BODY, "diff_malformed", 1, id="empty-name"),
        pytest.param(b"diff --git onlyone\n" + GIT, "diff_malformed", 1, id="no-two-names"),
        pytest.param(b"diff --cc x.py\nindex 1,2..3\n", "diff_combined", 1, id="combined"),
        pytest.param(b"--- a/x\n+++ b/x\n@@@ -1 -1 +1,2 @@@\n", "diff_combined", 3, id="combined-hunk"),
    ],
)
def test_refused_rather_than_left_out(data: bytes, key: str, line: int) -> None:
    with pytest.raises(TargetError) as caught:
        parse_diff(data)
    assert (caught.value.key, caught.value.fields) == (key, {"line": line})


def test_a_crlf_diff_has_the_same_names_and_lines() -> None:
    (file,) = parse_diff(GIT.replace(b"\n", b"\r\n"))
    assert (file.path, file.hunks[0].new_lines) == ("x.py", (b"a\r", b"B\r", b"c\r"))


@pytest.mark.parametrize(
    "text",
    [
        b"deleted file mode 100644\n",
        b"Binary files a/x.py and b/x.py differ\n",
        b"rename from x.py\nrename to y.py\n",
        b"\n--- a/other\n+++ b/other\nno hunk\n",
        b"\nnew mode 120000\n",
    ],
)
def test_text_after_a_file_does_not_change_it(text: bytes) -> None:
    """A commit message between two patches is written by whoever made the commit."""
    assert parse_diff(GIT + text + GIT.replace(b"x.py", b"z.py"))[0] == GIT_X


@pytest.mark.parametrize(
    ("headers", "change"),
    [
        (["old mode 100644", "new mode 100755"], Change.MODE),
        (["Binary files a/x and b/x differ"], Change.MODIFIED),
    ],
)
@pytest.mark.parametrize("gap", ["", "commit message\n", "\n"])
def test_text_after_headers_does_not_change_them(headers: list[str], change: Change, gap: str) -> None:
    data = header("a/x", "b/x", *headers) + f"{gap}deleted file mode 100644\n".encode()
    expected = Change.DELETED if change is Change.MODE and not gap else change  # still among the headers
    assert parse_diff(data)[0].change is expected


NAMES = [
    "plain.py",
    "with space.py",
    "中文 文件.py",  # quoted and followed by a tab
    "tab\t.py",
    "new\nline.py",
    'quo"te.py',
    "back\\slash.py",
    "-rf",
    "a/b/x.py",
    "b/x.py",
    "x b/y.py",
    " lead and trail ",
    "--- a",
    "caf\udce9.py",
    "[x]*?:(top).py",
]


@pytest.mark.parametrize(
    "setting", ["diff.noprefix=true", "diff.mnemonicPrefix=true", "core.quotePath=false"]
)
def test_names_that_git_writes(repo: Repo, setting: str) -> None:
    before: dict[str, str | bytes] = {}
    expected = set()
    for number, name in enumerate(NAMES):
        before |= {name: "1\n", f"gone/{name}": "1\n", f"old/{name}": f"{number}\n" * 9}
        expected |= {(name, name, Change.MODIFIED), (f"gone/{name}", f"gone/{name}", Change.DELETED)}
        expected.add((f"old/{name}", f"new/{name}", Change.RENAMED))
    repo.commit(before)
    repo.git("rm", "-rq", "--cached", "gone")
    repo.git("mv", "old", "new")
    for name in NAMES:
        repo.write(name, "2\n")
    files = parse_diff(os.fsencode(repo.git("-c", setting, "diff", "HEAD", "-M")))
    assert {(file.old_path, file.path, file.change) for file in files} == expected
    assert len(files) == len(expected)


def test_text_that_looks_like_a_diff(repo: Repo) -> None:
    text = b"++ new\n" + GIT + b"-- \n@@ -1 +1 @@\n\\ No newline at end of file\ndiff --cc x\n"
    repo.commit({"x.md": b"-- old\n++ old\n"})
    repo.commit({"x.md": text})
    (file,) = parse_diff(repo.diff("HEAD~", "HEAD"))
    assert b"\n".join(file.hunks[0].new_lines) + b"\n" == text


@pytest.mark.parametrize(("old", "new"), [(b"a\nb", b"a\nc"), (b"a\n", b"a"), (b"a", b"a\n"), (b"a", b"b\n")])
def test_no_newline_at_the_end(repo: Repo, old: bytes, new: bytes) -> None:
    repo.commit({"x": old, "y": b"1\n"})
    repo.commit({"x": new, "y": b"2\n"})
    first, second = parse_diff(repo.diff("HEAD~", "HEAD"))
    assert list(first.hunks[0].new_lines) == new.rstrip(b"\n").split(b"\n")
    assert second.path == "y"


@settings(max_examples=300, deadline=1000, database=None)
@given(st.binary(max_size=2000))
def test_any_bytes_give_files_or_a_refusal(data: bytes) -> None:
    _parses(data)


PIECES = [
    *GIT.splitlines(keepends=True),
    b"\\ No newline\n",
    b"rename from x\n",
    b"rename to y\n",
    b"\n",
    b"\r\n",
]
PIECES += [
    b"@@ -9,0 +10,2 @@\n",
    b"--- /dev/null\n",
    b"+++ /dev/null\n",
    b"Binary files differ\n",
    b'diff --git "\n',
]


@settings(max_examples=300, deadline=1000, database=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_any_mix_of_lines_gives_files_or_a_refusal(pieces: list[bytes]) -> None:
    _parses(b"".join(pieces))


def _parses(data: bytes) -> None:
    try:
        files = parse_diff(data)
    except TargetError as exc:
        assert exc.key in ("diff_cut", "diff_malformed", "diff_combined")  # noqa: PT017 - either is right
        return
    assert all(file.path for file in files)


LINE = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=6)
LINES = st.lists(LINE | st.sampled_from(["a", "b", "-- x", "++ x", "@@ -1 +1 @@", "\\ x", ""]), max_size=30)


@settings(max_examples=200, deadline=1000, database=None)
@given(LINES, LINES, st.integers(0, 4))
def test_what_difflib_writes_is_read_back(old: list[str], new: list[str], context: int) -> None:
    """The new side of every hunk is in the new text, and unchanged lines with the hunks make up that text."""
    text = "".join(
        f"{line}\n" for line in difflib.unified_diff(old, new, "a/x", "b/x", lineterm="", n=context)
    )
    files = parse_diff(text.encode())
    assert bool(files) == (old != new)
    rebuilt: list[str] = []
    at = 0
    added: set[int] = set()
    for hunk in files[0].hunks if files else ():
        start = hunk.old_start - 1 if hunk.old_count else hunk.old_start
        rebuilt += old[at:start]
        if hunk.new_count:
            assert len(rebuilt) == hunk.new_start - 1
        rebuilt += [line.decode() for line in hunk.new_lines]
        at = start + hunk.old_count
        added |= hunk.added
        gone = [line.decode() for removed in hunk.removed for line in removed.lines]
        kept = [line.decode() for n, line in enumerate(hunk.new_lines, hunk.new_start) if n not in hunk.added]
        assert sorted(gone + kept) == sorted(old[start:at])
    assert rebuilt + old[at:] == new
    unchanged = [line for number, line in enumerate(new, 1) if number not in added]
    assert all(line in old for line in unchanged)
