"""Diff files: what they select with and without the files they are about, and what is refused."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from gitrepo import Repo
from selecting import changed, choose, files, one, reasons, refusal

from review_agent.agent.models import Change

CODE = "".join(f"line {number}\n" for number in range(1, 31))


def saved(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "x.diff"
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("state", ["agrees", "differs", "absent", "elsewhere"])
def test_a_diff_file_borrows_the_rest_of_a_file_that_agrees(repo: Repo, tmp_path: Path, state: str) -> None:
    repo.commit({"d/a.py": CODE})
    repo.write("d/a.py", CODE.replace("line 15\n", "changed\n"))
    path = saved(tmp_path, repo.diff())
    root = repo.path
    if state == "differs":
        repo.write("d/a.py", CODE)
    if state == "absent":
        os.unlink(repo.path / "d/a.py")
    if state == "elsewhere":
        root = tmp_path / "elsewhere"
        root.mkdir()
    file = one(choose(root, diff_file=path))
    assert (file.path, file.changed, file.lines[14]) == ("d/a.py", frozenset({15}), "changed")
    if state == "agrees":
        assert (file.known, len(file.lines)) == (None, 30)
    else:
        assert (file.known, len(file.lines)) == (frozenset(range(12, 19)), 18)


def test_a_diff_file_is_about_the_repository_of_the_folder(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"d/a.py": CODE})
    repo.write("d/a.py", CODE + "more\n")
    assert one(choose(repo.path / "d", diff_file=saved(tmp_path, repo.diff()))).known is None


def test_kinds_of_change_in_a_diff_file(repo: Repo, tmp_path: Path) -> None:
    repo.commit(
        {"a": CODE, "b": CODE, "c.py": "1\n", "d.py": "1\n", "gb.py": "# 检查用户的权限\n".encode("gb18030")}
    )
    repo.git("mv", "a", "moved")
    repo.write("copy", CODE + "more\n")
    repo.write("b", CODE + "\n")
    repo.write("c.py", "1\r\n")
    repo.write("gb.py", b"")
    os.unlink(repo.path / "d.py")
    repo.git("add", "-A")
    path = saved(tmp_path, repo.diff("--cached", "-M", "-C", "--find-copies-harder"))
    repo.git("reset", "-q", "--hard")
    selection = choose(repo, diff_file=path)
    assert (changed(selection), reasons(selection)) == (
        {"b": [31], "c.py": [1], "copy": [31], "gb.py": []},
        {"moved": "renamed_only", "d.py": "deleted"},
    )
    chosen = files(selection)
    assert chosen["gb.py"].known == frozenset()  # the file on disk still has the line
    assert (chosen["copy"].change, chosen["c.py"].lines, chosen["gb.py"].encoding) == (
        Change.COPIED, ("1",), "gb18030",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["/etc/passwd", "../../etc/passwd", ".git/config", "link/passwd", "pipe"])
def test_a_diff_file_reads_nothing_outside(repo: Repo, tmp_path: Path, name: str) -> None:
    (repo.path / "link").symlink_to("/etc")
    os.mkfifo(repo.path / "pipe")
    first = Path("/etc/passwd").read_text().splitlines()[0]
    diff = f"--- a/{name}\n+++ b/{name}\n@@ -0,0 +1 @@\n+{first}\n"
    file = one(choose(repo, diff_file=saved(tmp_path, diff.encode())))
    assert (file.known, file.lines) == (frozenset({1}), (first,))


def test_a_diff_on_stdin(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.commit({"a.py": "1\n"})
    repo.write("a.py", "2\n")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(repo.diff())))
    assert changed(choose(repo, diff_file="-")) == {"a.py": [1]}


@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n"])
def test_an_empty_diff_selects_nothing(tmp_path: Path, data: bytes) -> None:
    selection = choose(tmp_path, diff_file=saved(tmp_path, data))
    assert (selection.files, selection.skipped) == ((), ())


def test_a_diff_of_far_away_lines_does_not_fill_the_memory(tmp_path: Path) -> None:
    diff = "".join(f"--- a/{n}\n+++ b/{n}\n@@ -0,0 +{9_000_000} @@\n+x\n" for n in range(200))
    selection = choose(tmp_path, diff_file=saved(tmp_path, diff.encode()))
    assert (len(selection.files), set(reasons(selection).values())) == (2, {"too_large"})


def test_a_path_ends_once_in_whatever_order_a_type_change_comes(tmp_path: Path) -> None:
    gone = b"diff --git a/x b/x\ndeleted file mode 120000\nindex 1..0\n--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-y\n"
    new = b"diff --git a/x b/x\nnew file mode 100644\nindex 0..1\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+y\n"
    for data in (gone + new, new + gone):
        selection = choose(tmp_path, diff_file=saved(tmp_path, data))
        assert (changed(selection), reasons(selection)) == ({"x": [1]}, {})


SERIES = b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (b"garbage\n", "diff_no_files"),
        ("diff --git a/x b/x\n".encode("utf-16"), "diff_no_files"),  # a PowerShell redirection
        (b"\x1b[1mdiff --git a/x b/x\x1b[m\n", "diff_no_files"),  # color=always
        (SERIES[:-3], "diff_cut"),
        (SERIES + b"+more\n", "diff_malformed"),
        (b"diff --cc x\nindex 1,2..3\n@@@ -1 -1 +1 @@@\n++x\n", "diff_combined"),
        (SERIES * 2, "diff_repeats"),
    ],
)
def test_a_diff_file_that_cannot_be_read_is_refused(tmp_path: Path, data: bytes, key: str) -> None:
    assert refusal(tmp_path, diff_file=saved(tmp_path, data)) == key
