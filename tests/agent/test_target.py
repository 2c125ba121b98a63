"""What a target selects: every path once, with its new lines, or with the reason why not."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from gitrepo import Repo, make_repo
from selecting import LIMIT, changed, choose, files, one, reasons, refusal

from review_agent.agent.errors import TargetError
from review_agent.agent.models import Change, Hunk, Removed
from review_agent.agent.target import Target, make_target, select
from review_agent.prompts import LANGS, messages

CODE = "".join(f"line {number}\n" for number in range(1, 31))


def test_working_is_everything_since_the_last_commit(repo: Repo) -> None:
    repo.commit({"a.py": CODE, "b.py": "1\n", "gone.py": "gone\n", "same.py": "1\n", "m.sh": "x\n"})
    repo.write("a.py", CODE.replace("line 3\n", "changed\n"))
    repo.git("add", "a.py")
    repo.write("a.py", (repo.path / "a.py").read_text() + "more\n")
    repo.write("intent.py", "1\n2\n")
    repo.git("add", "-N", "intent.py")
    repo.write("new.py", "1\n")
    os.unlink(repo.path / "gone.py")
    (repo.path / "m.sh").chmod(0o755)
    (repo.path / "link").symlink_to("a.py")
    make_repo(repo.path / "nested").commit({"x": "1\n"})
    selection = choose(repo, working=True)
    assert changed(selection) == {"a.py": [3, 31], "intent.py": [1, 2], "new.py": [1]}
    assert reasons(selection) == {
        "gone.py": "deleted", "m.sh": "mode_only", "link": "symlink", "nested/": "submodule",
    }  # fmt: skip
    assert files(selection)["a.py"].lines[2] == "changed"


def test_a_file_taken_out_of_the_index_is_new(repo: Repo) -> None:
    repo.commit({"a.py": "1\n2\n"})
    repo.git("rm", "-q", "--cached", "a.py")
    assert changed(choose(repo, working=True)) == {"a.py": [1, 2]}
    assert reasons(choose(repo, staged=True)) == {"a.py": "deleted"}


def test_a_renamed_file_knows_where_it_was(repo: Repo) -> None:
    repo.commit({"pay/a.py": CODE, "b.py": CODE.replace("line", "row")})
    repo.git("mv", "pay/a.py", "a.py")
    repo.write("a.py", CODE + "more\n")
    repo.write("b.py", "more\n")
    repo.write("new.py", "1\n")
    repo.git("add", "-A")
    expected = {"a.py": "pay/a.py", "b.py": "", "new.py": ""}
    for options in ({"staged": True}, {"working": True}):
        assert {path: file.old_path for path, file in files(choose(repo, **options)).items()} == expected


def test_staged_is_the_index(repo: Repo) -> None:
    repo.commit({"a.py": "1\n", "b.py": "1\n"})
    repo.write("a.py", "2\n")
    repo.git("add", "a.py")
    repo.write("a.py", "3\n")
    repo.write("b.py", "2\n")
    repo.write("intent.py", "1\n")
    repo.git("add", "-N", "intent.py")
    selection = choose(repo, staged=True)
    assert changed(selection) == {"a.py": [1]}
    assert (one(selection).lines, one(selection).hunks) == (
        ("2",),
        (Hunk(1, 1, 1, 1, (b"2",), frozenset({1}), (Removed(1, (b"1",)),)),),
    )


def test_range_starts_at_the_merge_base(repo: Repo) -> None:
    base = repo.commit({"a.py": "1\n"})
    repo.git("checkout", "-q", "-b", "side")
    head = repo.commit({"b.py": "1\n"})
    repo.git("checkout", "-q", "main")
    repo.commit({"a.py": "2\n", "c.py": "1\n"})
    repo.write("dirty.py", "1\n")
    selection, pinned = select(make_target(repo.path, base="main", head="side"), max_file_size=LIMIT)
    assert changed(selection) == {"b.py": [1]}
    assert (selection.base_commit, pinned.base, pinned.head) == (base, base, head)
    assert select(pinned, max_file_size=LIMIT) == (selection, pinned)
    assert changed(choose(repo, base="HEAD", head="side")) == {"b.py": [1]}  # from where we are
    assert changed(choose(repo, base=head)) == {"a.py": [1], "c.py": [1]}  # to where we are


def test_commit(repo: Repo) -> None:
    root = repo.commit({"a.py": "1\n"})
    side = repo.commit({"a.py": "1\n2\n"})
    repo.git("checkout", "-q", "-b", "side", root)
    repo.commit({"b.py": "1\n"})
    repo.git("merge", "-q", "--no-edit", "main")
    merge = choose(repo, commit="HEAD")
    assert (changed(merge), merge.base_commit) == ({"a.py": [2]}, repo.git("rev-parse", "HEAD^").strip())
    assert [note.key for note in merge.notes] == ["merge_first_parent"]
    assert changed(choose(repo, commit=side)) == {"a.py": [2]}
    first = choose(repo, commit=root)
    assert (changed(first), first.base_commit, first.notes) == ({"a.py": [1]}, "", ())


def test_kinds_of_change_between_commits(repo: Repo, tmp_path: Path) -> None:
    inner = make_repo(tmp_path / "inner")
    inner.commit({"x": "1\n"})
    repo.git("submodule", "add", "-q", str(inner.path), "changed_sub")
    (repo.path / "link.py").symlink_to("a.py")
    (repo.path / "to_file.py").symlink_to("a.py")
    repo.commit(
        {
            "moved.py": CODE, "edited.py": CODE.upper(), "gone.py": "gone\n", "mode.sh": "1\n", "both.sh": "1\n",
            "to_link.py": "to link\n", "image": b"\0\1", "emptied.py": "1\n", "crlf.py": "1\r\n2\r\n3\r\n",
            "end.py": "1\n2", "big.txt": "1\n", "utf16.txt": "文\n".encode("utf-16"),
        }
    )  # fmt: skip
    repo.git("-C", "changed_sub", "commit", "-q", "--allow-empty", "-m", "x")
    repo.git("submodule", "add", "-q", str(inner.path), "new_sub")
    repo.git("mv", "moved.py", "renamed.py")
    repo.git("mv", "edited.py", "deep_edited.py")
    for path in ("gone.py", "to_link.py", "to_file.py", "link.py"):
        os.unlink(repo.path / path)
    for path in ("to_link.py", "link.py", "new_link"):
        (repo.path / path).symlink_to("elsewhere")
    for path in ("mode.sh", "both.sh"):
        (repo.path / path).chmod(0o755)
    repo.commit(
        {
            "deep_edited.py": CODE.upper().replace("LINE 4\n", "new\n"), "both.sh": "1\n2\n", "to_file.py": "1\n",
            "image": b"\0\2", "emptied.py": "", "crlf.py": "1\r\n!\r\n3\r\n", "end.py": "1\n2\n3", "new.py": "1\n",
            "new_empty.py": "", "big.txt": "x" * (LIMIT + 1), "utf16.txt": "字\n".encode("utf-16"),
        }
    )  # fmt: skip
    selection = choose(repo, commit="HEAD")
    assert changed(selection) == {
        ".gitmodules": [4, 5, 6],
        "deep_edited.py": [4],
        "both.sh": [2],
        "to_file.py": [1],
        "crlf.py": [2],
        "end.py": [2, 3],
        "new.py": [1],
    }
    assert reasons(selection) == {
        "changed_sub": "submodule", "new_sub": "submodule", "renamed.py": "renamed_only", "gone.py": "deleted",
        "to_link.py": "symlink", "link.py": "symlink", "new_link": "symlink", "mode.sh": "mode_only",
        "image": "binary", "utf16.txt": "binary", "emptied.py": "empty", "new_empty.py": "empty",
        "big.txt": "too_large",
    }  # fmt: skip
    chosen = files(selection)
    assert chosen["crlf.py"].lines == ("1", "!", "3")
    assert chosen["end.py"].lines == ("1", "2", "3")
    assert (chosen["deep_edited.py"].change, chosen["new.py"].change) == (Change.RENAMED, Change.ADDED)


@pytest.mark.parametrize("kind", ["working", "staged", "commit"])
def test_a_type_change_ends_once(repo: Repo, kind: str) -> None:
    (repo.path / "link").symlink_to("x")
    repo.commit({"file": "1\n"})
    os.unlink(repo.path / "link")
    os.unlink(repo.path / "file")
    repo.write("link", "code\n")
    (repo.path / "file").symlink_to("x")
    if kind != "working":
        repo.git("add", "-A")
    if kind == "commit":
        repo.commit()
    selection = choose(repo, **({"commit": "HEAD"} if kind == "commit" else {kind: True}))
    assert (changed(selection), reasons(selection)) == ({"link": [1]}, {"file": "symlink"})


@pytest.mark.parametrize("options", [{"working": True}, {"staged": True}, {}])
def test_an_unborn_branch(repo: Repo, options: dict[str, bool]) -> None:
    repo.write("a.py", "1\n")
    repo.git("add", "a.py")
    assert files(choose(repo, **options)).keys() == {"a.py"}


@pytest.mark.parametrize(
    "options", [{"working": True}, {"staged": True}, {"base": "HEAD"}, {"commit": "HEAD"}], ids=str
)
def test_an_empty_change_selects_nothing(repo: Repo, options: dict[str, str]) -> None:
    repo.commit({"a.py": "1\n"})
    repo.commit()
    repo.git("checkout", "-q", "--detach")
    os.utime(repo.path / "a.py", (1, 1))  # another time alone is no change
    selection = choose(repo, **options)
    assert (selection.files, selection.skipped) == ((), ())


def test_a_conflict(repo: Repo) -> None:
    repo.commit({"a.py": "1\n", "b.py": "1\n"})
    repo.git("checkout", "-q", "-b", "side")
    repo.commit({"a.py": "2\n", "c.py": "1\n"})
    repo.git("checkout", "-q", "main")
    repo.commit({"a.py": "3\n"})
    repo.git("merge", "side", ok=(1,))
    staged, working, tree = choose(repo, staged=True), choose(repo, working=True), choose(repo)
    assert (changed(staged), reasons(staged)) == ({"c.py": [1]}, {"a.py": "!unmerged"})
    assert changed(working) == {"a.py": [1, 3, 4, 5], "c.py": [1]}
    assert files(tree).keys() == {"a.py", "b.py", "c.py"}


def test_a_linked_worktree(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"a.py": "1\n"})
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    side = Repo(tmp_path / "side")
    side.write("a.py", "2\n")
    assert changed(choose(side, working=True)) == {"a.py": [1]}
    assert changed(choose(repo, working=True)) == {}


def test_sha256(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", "--object-format=sha256")
    repo.commit({"a.py": "1\n"})
    assert changed(choose(repo, commit="HEAD")) == {"a.py": [1]}
    repo.write("a.py", "2\n")
    assert changed(choose(repo, working=True)) == {"a.py": [1]}


def cloned(repo: Repo, path: Path, *options: str) -> Repo:
    repo.git("config", "uploadpack.allowFilter", "true")
    repo.git("clone", "-q", *options, f"file://{repo.path}", str(path))
    return Repo(path)


def test_a_shallow_clone(repo: Repo, tmp_path: Path) -> None:
    root = repo.commit({"a.py": "1\n"})
    repo.commit({"a.py": "2\n"})
    shallow = cloned(repo, tmp_path / "shallow", "--depth=1")
    assert [note.key for note in choose(shallow).notes] == ["shallow_clone"]
    for options, key in [
        ({"base": root}, "ref_unknown_shallow"),
        ({"base": "HEAD~1"}, "ref_unknown_shallow"),
        ({"commit": "HEAD"}, "commit_at_shallow_edge"),
    ]:
        assert refusal(shallow, **options) == key


def test_content_missing_from_a_partial_clone_is_a_failure(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"a.py": "a1\n", "gone.py": "g1\n", "kept.py": "k1\n", "moved.py": CODE})
    repo.git("rm", "-q", "gone.py")
    repo.git("mv", "moved.py", "renamed.py")
    repo.commit({"a.py": "a2\n", "new.py": "n1\n"})
    repo.commit({"a.py": "a3\n", "new.py": "n2\n"})
    partial = cloned(repo, tmp_path / "partial", "--filter=blob:none")
    selection = choose(partial, base="HEAD~2", head="HEAD~1")
    assert changed(selection) == {}
    assert reasons(selection) == {
        "a.py": "!blob_missing", "new.py": "!blob_missing", "gone.py": "deleted", "renamed.py": "renamed_only",
    }  # fmt: skip
    assert files(choose(partial)).keys() == {"a.py", "kept.py", "new.py", "renamed.py"}


# --- encodings


def test_gb18030_in_both_sides_of_a_change(repo: Repo) -> None:
    text = "# 计算订单的总价，返回结果\nx = 1\n# 检查用户的权限\n"
    repo.commit({"a.py": text.encode("gb18030")})
    repo.commit({"a.py": text.replace("总价", "价格").encode("gb18030")})
    file = one(choose(repo, commit="HEAD"))
    assert (file.encoding, file.lines[0]) == ("gb18030", "# 计算订单的价格，返回结果")
    (gone,) = file.hunks[0].removed
    assert gone.lines[0].decode(file.encoding) == "# 计算订单的总价，返回结果"


def test_lines_are_counted_as_git_counts_them(repo: Repo) -> None:
    text = "a\u2028b\x0cc\rd\x85e\n"
    repo.commit({"a.py": text})
    repo.commit({"a.py": text + "new\n"})
    file = one(choose(repo, commit="HEAD"))
    assert (file.lines, file.changed) == ((text.rstrip("\n"), "new"), frozenset({2}))


def notebook(source: list[str], output: str) -> str:
    cell = {"cell_type": "code", "metadata": {}, "source": source, "outputs": [{"text": [output]}]}
    return json.dumps({"cells": [cell], "nbformat": 4}, indent=1)


def test_of_a_notebook_only_the_source_is_reviewed(repo: Repo) -> None:
    repo.commit({"n.ipynb": notebook(["x = 1\n"], "out1")})
    repo.commit({"n.ipynb": notebook(["x = 2\n"], "out2")})
    repo.commit(
        {
            "n.ipynb": notebook(["x = 2\n"], "out3"),
            "flat.ipynb": json.dumps(json.loads(notebook(["y\n"], ""))),
        }
    )
    whole, change, output = choose(repo), choose(repo, commit="HEAD~"), choose(repo, commit="HEAD")
    both = [one(change), files(whole)["n.ipynb"]]
    for file in both:
        (number,) = file.changed or ()
        assert (file.lines[number - 1].strip(), file.known) == ('"x = 2\\n"', frozenset({number}))
    assert [gone.lines for hunk in one(change).hunks for gone in hunk.removed] == [(b'    "x = 1\\n"',)]
    assert files(output)["n.ipynb"].changed == frozenset()
    flat = files(output)["flat.ipynb"]
    assert (flat.lines, flat.changed, [note.key for note in flat.notes]) == (
        ("y",),
        None,
        ["notebook_as_text"],
    )


# --- names


NAMES = [
    "a b.py",
    "tab\t.py",
    "new\nline.py",
    'quo"te.py',
    "-rf",
    "a/b/c.py",
    "x b/y.py",
    "caf\udce9.py",
    "文 件.py",
]


def test_odd_names(repo: Repo) -> None:
    repo.commit({name: "1\n" for name in NAMES})
    repo.commit({name: "1\n2\n" for name in NAMES})
    assert changed(choose(repo)) == dict.fromkeys(NAMES)
    assert changed(choose(repo, commit="HEAD")) == {name: [2] for name in NAMES}
    for name in NAMES:
        repo.write(name, "1\n2\n3\n")
    assert changed(choose(repo, working=True)) == {name: [3] for name in NAMES}
    diff = repo.diff("HEAD")
    for name in NAMES:
        repo.write(name, "something else\n")
    repo.write("x.diff", diff)
    hunks_only = choose(repo, diff_file=str(repo.path / "x.diff"))
    assert changed(hunks_only) == {name: [3] for name in NAMES}


# --- in a hook


def test_inside_a_real_hook(repo: Repo) -> None:
    """git sets GIT_DIR and GIT_INDEX_FILE there, here for a commit from another folder's index."""
    repo.commit({"a.py": "1\n"})
    code = (
        "import sys; from pathlib import Path\n"
        "from review_agent.agent.target import make_target, select\n"
        "found, _ = select(make_target(Path(sys.argv[1]), staged=True), max_file_size=1000)\n"
        "Path(sys.argv[1], 'seen').write_text(repr([file.path for file in found.files]))\n"
    )
    hook = repo.write(
        ".git/hooks/pre-commit", f'#!/bin/sh\nenv > seen-env\n{sys.executable} -c "$CODE" "$PWD"\n'
    )
    hook.chmod(0o755)
    repo.write("b.py", "1\n")
    repo.git("add", "b.py")
    repo.git("commit", "-q", "-m", "x", CODE=code)
    assert "GIT_INDEX_FILE=" in (repo.path / "seen-env").read_text()
    assert (repo.path / "seen").read_text() == "['b.py']"


# --- refusals


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"base": "nowhere"}, "ref_unknown"),
        ({"base": "main", "head": "nowhere"}, "ref_unknown"),
        ({"head": "main"}, "to_without_from"),
        ({"commit": "nowhere"}, "ref_unknown"),
        ({"commit": "--output=x"}, "ref_unknown"),
        ({"base": ""}, "ref_unknown"),  # `--from "$BASE"` with no BASE
        ({"base": "main", "head": ""}, "ref_unknown"),
        ({"commit": ""}, "ref_unknown"),
        ({"staged": True, "working": True}, "target_conflict"),
        ({"base": "main", "diff_file": "-"}, "target_conflict"),
        ({"diff_file": "/nowhere"}, "diff_unreadable"),
        ({"diff_file": "."}, "diff_unreadable"),
    ],
)
def test_refused_targets(repo: Repo, options: dict[str, object], key: str) -> None:
    repo.commit({"a.py": "1\n"})
    assert refusal(repo, **options) == key
    assert not (repo.path / "x").exists()


@pytest.mark.parametrize(
    "options", [{"staged": True}, {"working": True}, {"base": "x"}, {"commit": "x"}], ids=str
)
def test_a_plain_folder_has_no_changes(tmp_path: Path, options: dict[str, object]) -> None:
    assert refusal(tmp_path, **options) == "not_a_repository"


def test_a_target_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to("nowhere")
    places = [tmp_path / "nowhere", tmp_path / "file", tmp_path / "dangling"]
    assert [refusal(place) for place in places] == ["path_missing", "path_not_folder", "path_not_folder"]


def test_unrelated_histories(repo: Repo) -> None:
    repo.commit({"a": "1\n"})
    repo.git("checkout", "-q", "--orphan", "alone")
    repo.commit({"b": "1\n"})
    assert refusal(repo, base="main") == "no_merge_base"


@pytest.mark.parametrize("lang", LANGS)
def test_the_list_of_options_reads_well_in_both_languages(tmp_path: Path, lang: str) -> None:
    with pytest.raises(TargetError) as caught:
        make_target(tmp_path, staged=True, working=True)
    text = messages(lang)["errors"]["target_conflict"].format(**caught.value.fields)
    assert "--staged, --working" in text


@pytest.mark.parametrize(
    ("target", "label"),
    [
        (Target("tree", "/home/me/r"), "tree"),
        (Target("range", "/r", "main", "side"), "range:main..side"),
        (Target("commit", "/r", head="v1"), "commit:v1"),
        (Target("diff", "/r", diff_file="/home/me/x.diff"), "diff:x.diff"),
        (Target("diff", "/r", diff_file="-"), "diff:-"),
    ],
)
def test_labels_hold_no_machine_paths(target: Target, label: str) -> None:
    assert target.label() == label


def test_objects_from_elsewhere_are_noted(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"a.py": "1\n"})
    repo.git("clone", "-q", "--shared", ".", str(tmp_path / "copy"))
    notes = choose(tmp_path / "copy").notes
    assert [(note.key, note.fields) for note in notes] == [
        ("objects_elsewhere", {"path": "repo/.git/objects"})
    ]
    assert choose(repo).notes == ()
