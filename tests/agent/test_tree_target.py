"""The whole tree as a target: of a repository, of a plain folder, of a part of one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from gitrepo import Repo, make_repo
from selecting import LIMIT, changed, choose, files, reasons

from review_agent.agent.models import Change, FileStatus


def fill(folder: Path) -> None:
    for path, data in {
        "a.py": b"x = 1\n",
        "d/b.py": b"y = 1\n",
        "d/empty.py": b"",
        "vendor/v.go": b"package v\n",
        "logo.png": b"\x89PNG\r\n\x1a\n\0",
        "big.txt": b"x" * (LIMIT + 1),
        "uv.lock": b"x\n",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (folder / "link.py").symlink_to("a.py")
    os.mkfifo(folder / "pipe")


SKIPPED = {
    "d/empty.py": "empty",
    "vendor/v.go": "vendored",
    "logo.png": "binary",
    "big.txt": "too_large",
    "uv.lock": "lock_file",
    "link.py": "symlink",
}


def test_tree_is_what_is_tracked_and_what_is_new(repo: Repo) -> None:
    fill(repo.path)
    os.unlink(repo.path / "pipe")
    repo.commit({".gitignore": "*.log\n", "gone.py": "x\n"})
    repo.write("new.py", "z = 1\n")
    repo.write("x.log", "x\n")
    (repo.path / "new link").symlink_to("a.py")
    os.unlink(repo.path / "gone.py")
    make_repo(repo.path / "nested").commit({"inner.py": "x\n"})
    selection = choose(repo)
    assert changed(selection) == dict.fromkeys([".gitignore", "a.py", "d/b.py", "new.py"])
    assert reasons(selection) == {
        **SKIPPED, "gone.py": "deleted", "new link": "symlink", "nested/": "submodule",
    }  # fmt: skip
    assert selection.churn["a.py"] == 1
    assert files(selection)["a.py"].change is Change.WHOLE


def test_a_plain_folder_is_walked(tmp_path: Path) -> None:
    fill(tmp_path)
    make_repo(tmp_path / "nested").commit({"inner.py": "x\n"})
    selection = choose(tmp_path)
    assert changed(selection) == dict.fromkeys(["a.py", "d/b.py"])
    assert reasons(selection) == {**SKIPPED, "pipe": "not_regular", "nested/": "submodule"}
    assert [note.key for note in selection.notes] == ["plain_folder"]


def test_a_folder_nested_too_deep_is_a_failure(tmp_path: Path) -> None:
    deep = tmp_path / "/".join(["d"] * 120)
    deep.mkdir(parents=True)
    (deep / "x.py").write_text("x\n")
    (result,) = choose(tmp_path).skipped
    assert (result.status, result.reason) == (FileStatus.FAILED, "too_deep")


@pytest.mark.parametrize("kind", ["tree", "working", "staged", "range", "commit"])
def test_a_sub_folder_selects_what_is_below_it(repo: Repo, kind: str) -> None:
    repo.commit({"a.py": "1\n", "sub/b.py": "1\n", "subway.py": "1\n"})
    repo.commit({"a.py": "2\n", "sub/b.py": "2\n", "subway.py": "2\n"})
    if kind in ("working", "staged"):
        repo.git("reset", "-q", "--soft", "HEAD~")
        repo.write("sub/new.py", "1\n")
        repo.write("new.py", "1\n")
    options = {"range": {"base": "HEAD~"}, "commit": {"commit": "HEAD"}, "tree": {}}
    selection = choose(repo.path / "sub", **options.get(kind, {kind: True}))
    expected = {"sub/b.py", "sub/new.py"} if kind == "working" else {"sub/b.py"}
    assert files(selection).keys() == expected
    assert not selection.skipped


def test_what_stands_on_disk_counts_for_the_tree(repo: Repo) -> None:
    """A link where git has a file, a file where it has a link or a submodule, a folder where it has a file."""
    repo.commit({"file.py": "1\n", "real.py": "1\n", "folder.py": "1\n", "module": "1\n"})
    inner = make_repo(repo.path / "sub")
    inner.commit({"x": "1\n"})
    (repo.path / "link.py").symlink_to("real.py")
    repo.commit()
    for path in ("file.py", "link.py", "folder.py"):
        os.unlink(repo.path / path)
    (repo.path / "file.py").symlink_to("real.py")
    repo.write("link.py", "2\n")
    repo.write("folder.py/x.py", "2\n")
    selection = choose(repo)
    assert files(selection).keys() == {"real.py", "link.py", "folder.py/x.py", "module"}
    assert reasons(selection) == {"file.py": "symlink", "folder.py": "deleted", "sub": "submodule"}
    os.rename(repo.path / "sub", repo.path.parent / "away")
    repo.write("sub", "now a file\n")
    assert "sub" in files(choose(repo))


@pytest.mark.parametrize("working", [False, True])
def test_a_folder_that_became_a_link_does_not_lend_its_name(repo: Repo, working: bool) -> None:
    repo.commit({"secret/a.py": "hidden\n", "open/a.py": "1\n", "b.py": "1\n"})
    repo.write("b.py", "2\n")
    (repo.path / "open" / "a.py").unlink()
    (repo.path / "open").rmdir()
    (repo.path / "open").symlink_to("secret")
    selection = choose(repo, working=working)
    assert "open/a.py" not in files(selection)
    assert "b.py" in files(selection)


def test_what_is_not_checked_out_is_listed(repo: Repo) -> None:
    repo.commit({"in/a.py": "1\n", "out/b.py": "1\n"})
    repo.git("sparse-checkout", "set", "in")
    selection = choose(repo)
    assert (files(selection).keys(), reasons(selection)) == ({"in/a.py"}, {"out/b.py": "not_checked_out"})
