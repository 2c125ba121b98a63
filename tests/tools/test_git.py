"""Reading repositories: where they are, names of commits, content."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from gitrepo import NAME, Repo, make_repo, opened

from review_agent.agent.errors import GitError
from review_agent.tools.diff import parse_diff
from review_agent.tools.git import Location, Repository, find


def clone(repo: Repo, path: Path, *options: str) -> Repo:
    subprocess.run(
        ["git", *NAME, "clone", "-q", *options, f"file://{repo.path}", str(path)],
        check=True,
        capture_output=True,
    )
    return Repo(path)


# --- where a repository is


def test_find_looks_upwards(repo: Repo, tmp_path: Path) -> None:
    deep = repo.path / "a" / "b"
    deep.mkdir(parents=True)
    expected = Location(repo.path, repo.path / ".git", repo.path / ".git")
    assert [find(place) for place in (repo.path, deep, tmp_path)] == [expected, expected, None]


@pytest.mark.parametrize("text", ["", "nonsense", "gitdir: /nowhere", "gitdir: ../outside", "\0\xff"])
def test_a_git_file_that_leads_nowhere_is_no_repository(tmp_path: Path, text: str) -> None:
    (tmp_path / ".git").write_text(text)
    assert find(tmp_path) is None


def test_a_linked_worktree_has_its_own_head_and_index(repo: Repo, tmp_path: Path) -> None:
    first = repo.commit({"a": "1\n"})
    second = repo.commit({"a": "2\n"})
    repo.git("update-ref", "ORIG_HEAD", second)
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"), first)
    side = Repo(tmp_path / "side")
    side.write("new", "x\n")
    side.git("add", "new")
    side.git("update-ref", "ORIG_HEAD", first)
    with opened(side) as git:
        assert git.location.common == repo.path / ".git"
        assert (git.head(), git.resolve("main"), git.resolve("ORIG_HEAD")) == (first, second, first)
        assert [entry.path for entry in git.listed()] == ["a", "new"]


def test_a_submodule_is_a_repository(repo: Repo, tmp_path: Path) -> None:
    inner = make_repo(tmp_path / "inner")
    commit = inner.commit({"x": "1\n"})
    repo.git("submodule", "add", "-q", str(inner.path), "sub")
    with opened(Repo(repo.path / "sub")) as git:
        assert (git.root.name, git.head()) == ("sub", commit)


# --- names of commits


def test_resolve(repo: Repo, tmp_path: Path) -> None:
    first = repo.commit({"a": "1\n"}, "first")
    second = repo.commit({"a": "2\n"}, "second")
    repo.git("tag", "-a", "v1", "-m", "x", first)
    repo.git("branch", "packed", first)
    repo.git("branch", "中文/分支", first)
    repo.git("pack-refs", "--all")
    repo.git("branch", "loose", first)
    other = make_repo(tmp_path / "other")
    fetched = other.commit({"b": "1\n"})
    repo.git("fetch", "-q", str(other.path), "main")
    with opened(repo) as git:
        for ref in ("v1", "packed", "loose", "中文/分支", "HEAD~1", "HEAD^", first[:10], f"{second}~"):
            assert git.resolve(ref) == first, ref
        assert (git.resolve("HEAD"), git.resolve("main"), git.head()) == (second, second, second)
        assert git.resolve("FETCH_HEAD") == fetched


@pytest.mark.parametrize(
    "ref",
    [
        "nowhere",
        "",
        "--all",
        "-h",
        "a\0b",
        "main:a",
        "HEAD^{tree}",
        "HEAD~99",
        "f" * 40,
        "main other",
        "$(id)",
        "--output=x",
        "-Ox",
        "--no-index",
        "--upload-pack=touch x",
        "main\nHEAD",
        "main\r",
        "\x1b[2Jmain",
        "@{-1}",
        "@{u}",
        "@{99999999999999999999}",
        ":/c",
        ":/-c",
        "HEAD^{/c}",
        "HEAD^{/(a*)*$}",
        "HEAD:a",
        ":0:a",
        "HEAD" + "^{}" * 5000,
        "x" * 100_000,
        "HEAD~99999999999999999999",
        "HEAD^@",
        "HEAD^!",
        "main..side",
        "^main",
        "main^{commit} --not",
        "refs/heads/*",
        "/etc/passwd",
        "../../HEAD",
        "caf\udce9",
        "\ud800",
    ],
)
def test_what_is_no_commit_is_unknown(repo: Repo, ref: str) -> None:
    repo.commit({"a": "1\n"})
    repo.git("branch", "side")
    with opened(repo) as git, pytest.raises(GitError) as caught:
        git.resolve(ref)
    assert (caught.value.key, caught.value.fields) == ("ref_unknown", {"ref": ref})


def test_a_search_through_messages_is_not_begun(repo: Repo) -> None:
    """With back references git would look for longer than anyone waits."""
    repo.commit({"a": "1\n"}, "c" * 120)
    started = time.monotonic()
    with opened(repo) as git:
        for ref in (r":/(c*)*\1x", r"HEAD^{/^(c*)(c*)(c*)(c*)\1\2\3\4x$}"):
            with pytest.raises(GitError, match="ref_unknown"):
                git.resolve(ref)
    assert time.monotonic() - started < 3


HOSTILE = [
    "-h",
    "--output=x",
    "--all",
    "-Ox",
    "--",
    "@",
    "HEAD",
    "--end-of-options",
    "a;touch${IFS}x",
    "$(touch${IFS}x)",
    "|x",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_branches_and_tags_are_no_options(repo: Repo, name: str) -> None:
    """git itself would not make some of these, an archive can."""
    first = repo.commit({"a": "1\n"})
    repo.commit({"a": "2\n"})
    for kind in ("heads", "tags", "remotes/origin"):
        repo.write(f".git/refs/{kind}/{name}", f"{first}\n")
    with opened(repo) as git:
        assert git.resolve(f"refs/heads/{name}") == first
        if name not in ("HEAD", "@", "--"):
            assert git.resolve(name) == first or name.startswith("-")
        assert dict(git.churn()) == {"a": 2}
        assert [entry.path for entry in git.listed()] == ["a"]
    repo.write(".git/HEAD", f"ref: refs/heads/{name}\n")
    with opened(repo) as git:
        assert git.head() == first
        assert b"+2" in git.diff(git.resolve("HEAD"), work_tree=True)
    assert not list(repo.path.glob("x"))


@pytest.mark.parametrize(
    "name", [*HOSTILE, ":(top)a", ":!a", "-", "a\nb", "\x1b[31m", "{a,b}", "%n", "'", '"']
)
def test_names_of_files_are_no_options(repo: Repo, name: str) -> None:
    first = repo.commit({name: "1\n", "other": "1\n"})
    second = repo.commit({name: "2\n", "other": "2\n"})
    repo.write(name, "3\n")
    repo.write(f"new {name}", "4\n")
    with opened(repo) as git:
        assert {entry.path for entry in git.listed()} == {name, "other", f"new {name}"}
        assert git.untracked() == [f"new {name}"]
        assert git.churn()[name] == 2
        assert git.file_at(first, name, 10) == b"1\n"
        assert [file.path for file in parse_diff(git.diff(first, second))] == sorted(
            [name, "other"], key=os.fsencode
        )
        assert [file.path for file in parse_diff(git.diff(first, second, without=[name]))] == ["other"]
        assert [file.path for file in parse_diff(git.diff(second, work_tree=True))] == [name]


@pytest.mark.parametrize(
    "name", ["HEAD", "main", "-h", "--output=x", "", "f" * 39, "F" * 40, "f" * 40 + "\n", f"{'f' * 40}^"]
)
def test_only_whole_ids_are_compared(repo: Repo, name: str) -> None:
    commit = repo.commit({"a": "1\n"})
    with opened(repo) as git:
        for ask in (
            lambda: git.diff(name, commit),
            lambda: git.merge_base(commit, name),
            lambda: git.parents(name),
            lambda: git.file_at(name, "a", 10),
        ):
            with pytest.raises(GitError, match="ref_unknown"):
                ask()
    assert not (repo.path / "x").exists()


def test_head_of_an_unborn_branch_and_of_none(repo: Repo) -> None:
    with opened(repo) as git:
        assert (git.head(), git.listed(), git.churn()) == (None, [], {})
    commit = repo.commit({"a": "1\n"})
    repo.git("checkout", "-q", "--detach")
    with opened(repo) as git:
        assert git.head() == commit


def test_a_broken_head_is_not_an_unborn_branch(repo: Repo) -> None:
    repo.commit({"a": "1\n"})
    repo.write(".git/HEAD", "garbage\n")
    with opened(repo) as git, pytest.raises(GitError) as caught:
        git.head()
    assert caught.value.key == "git_failed"


def test_parents_and_merge_base(repo: Repo) -> None:
    base = repo.commit({"a": "1\n"})
    left = repo.commit({"b": "1\n"})
    repo.git("checkout", "-q", "-b", "side", base)
    right = repo.commit({"c": "1\n"})
    repo.git("merge", "-q", "--no-edit", "main")
    repo.git("checkout", "-q", "--orphan", "alone")
    alone = repo.commit({"d": "1\n"})
    with opened(repo) as git:
        assert git.merge_base(left, right) == base
        assert git.parents(git.resolve("side")) == [right, left]
        assert git.parents(base) == []
        with pytest.raises(GitError) as caught:
            git.merge_base(left, alone)
    assert caught.value.key == "no_merge_base"


def test_a_shallow_clone_says_so(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"a": "1\n"})
    second = repo.commit({"a": "2\n"})
    repo.git("checkout", "-q", "--orphan", "alone")
    alone = repo.commit({"d": "1\n"})  # git notes it as shallow, though it has no parents
    shallow = clone(repo, tmp_path / "shallow", "--depth=1", "--no-single-branch")
    with opened(shallow) as git:
        assert (git.shallow, git.at_shallow_edge(second), git.at_shallow_edge(alone)) == (True, True, False)
        for ask, key in [
            (lambda: git.resolve("main~1"), "ref_unknown_shallow"),
            (lambda: git.merge_base(alone, second), "no_merge_base_shallow"),
        ]:
            with pytest.raises(GitError) as caught:
                ask()
            assert caught.value.key == key


def test_replaced_objects_are_not_believed(repo: Repo) -> None:
    first = repo.commit({"a": "1\n"})
    second = repo.commit({"a": "2\n"})
    repo.git("replace", second, first)
    with opened(repo) as git:
        assert git.parents(second) == [first]


# --- content


def test_listed(repo: Repo) -> None:
    repo.commit({"run.sh": "x\n", "a/ä.py": "x\n", ".gitignore": "*.log\n", "gone": "x\n"})
    (repo.path / "run.sh").chmod(0o755)
    (repo.path / "link").symlink_to("run.sh")
    repo.git("add", "link", "run.sh")
    repo.write("intent", "x\n")
    repo.git("add", "-N", "intent")
    repo.write("new", "x\n")
    repo.write("x.log", "x\n")
    repo.write("mine", "x\n")
    repo.write(".git/info/exclude", "mine\n")
    os.unlink(repo.path / "gone")
    make_repo(repo.path / "nested").commit({"inner": "x\n"})
    with opened(repo) as git:
        entries = git.listed()
        assert git.untracked() == ["nested/", "new"]
    assert [(entry.mode, entry.path) for entry in entries] == [
        ("100644", ".gitignore"),
        ("100644", "a/ä.py"),
        ("100644", "gone"),
        ("100644", "intent"),
        ("120000", "link"),
        ("", "nested/"),
        ("", "new"),
        ("100755", "run.sh"),
    ]


def test_a_path_in_conflict_is_listed_once(repo: Repo) -> None:
    repo.commit({"a": "1\n"})
    repo.git("checkout", "-q", "-b", "side")
    repo.commit({"a": "2\n"})
    repo.git("checkout", "-q", "main")
    repo.commit({"a": "3\n"})
    repo.git("merge", "side", ok=(1,))
    with opened(repo) as git:
        assert ([entry.path for entry in git.listed()], git.unmerged()) == (["a"], ["a"])


def test_what_a_sparse_checkout_leaves_out_is_marked(repo: Repo) -> None:
    repo.commit({"in/a": "1\n", "out/b": "1\n"})
    repo.git("sparse-checkout", "set", "in")
    with opened(repo) as git:
        assert [(entry.path, entry.absent) for entry in git.listed()] == [("in/a", False), ("out/b", True)]


def test_blobs(repo: Repo) -> None:
    repo.commit({"a": "1\n", "b": "x" * 100, "e": ""})
    ids = {name: repo.git("rev-parse", f"HEAD:{name}").strip() for name in "abe"}
    missing, commit = "1" * 40, repo.git("rev-parse", "HEAD").strip()
    with opened(repo) as git:
        found = git.blobs([*ids.values(), missing, commit, "", "--all"], 50)
        assert found == {ids["a"]: b"1\n", ids["b"]: None, ids["e"]: b""}
        assert git.blobs([], 50) == {}


@pytest.mark.parametrize("name", ["a", "d/a b", "*", ":(top)x", "-rf", "n\nl", "caf\udce9"])
def test_file_at(repo: Repo, name: str) -> None:
    commit = repo.commit({name: "old\n", "a": "old\n", "link": "x"})
    os.unlink(repo.path / "link")
    (repo.path / "link").symlink_to("a")
    second = repo.commit({name: "new\n"})
    with opened(repo) as git:
        assert [git.file_at(at, name, 10) for at in (commit, second)] == [b"old\n", b"new\n"]
        for path in ("nowhere", "d", "link", "", "a\0", "../a", ":(glob)*", "?"):
            assert git.file_at(second, path, 10) is None, path
        assert git.file_at(commit, name, 2) is None


def test_churn_counts_commits_that_touched_a_path(repo: Repo) -> None:
    repo.commit({"a": "1\n", "b c": "1\n"})
    repo.commit({"a": "2\n"})
    with opened(repo) as git:
        assert dict(git.churn()) == {"a": 2, "b c": 1}


def test_missing_objects_of_a_partial_clone(repo: Repo, tmp_path: Path) -> None:
    repo.git("config", "uploadpack.allowFilter", "true")
    first = repo.commit({"a": "a1\n", "b": "b1\n", "same": "1\n"})
    second = repo.commit({"a": "a2\n", "new": "2\n"})
    repo.git("rm", "-q", "b")
    third = repo.commit({"a": "a3\n"})
    partial = clone(repo, tmp_path / "partial", "--filter=blob:none")
    with opened(partial) as git:
        assert git.partial
        missing = git.unreadable(first, second)
        assert [(entry.path, entry.mode) for entry in missing] == [("a", "100644")]
        assert b"new" in git.diff(first, second, without=["a"])
        gone = git.unreadable(second, third)
        assert [(entry.path, entry.mode) for entry in gone] == [("a", "100644"), ("b", "000000")]
        with pytest.raises(GitError) as caught:
            git.diff(first, second)
        assert caught.value.fields["detail"].startswith("fatal: ")
    with opened(repo) as git:
        assert (git.partial, git.unreadable(first, third)) == (False, [])


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_object_formats(tmp_path: Path, object_format: str) -> None:
    repo = make_repo(tmp_path / "r", f"--object-format={object_format}")
    commit = repo.commit({"a": "1\n"})
    with opened(repo) as git:
        assert git.object_format == object_format
        assert b"+1\n" in git.diff(git.empty_tree, commit)
        assert git.churn() == {"a": 1}


def test_a_change_in_the_same_instant_as_the_index_is_seen(repo: Repo) -> None:
    """Same size, same times: only the age of the index tells git to read the file."""
    path = repo.write("a", "one\n")
    os.utime(path, (1e9, 1e9))
    repo.commit()
    repo.write("a", "two\n")
    for touched in (path, repo.path / ".git" / "index"):
        os.utime(touched, (1e9, 1e9))
    with opened(repo) as git:
        assert b"+two\n" in git.diff(git.resolve("HEAD"), work_tree=True)


def test_a_split_index(repo: Repo) -> None:
    repo.commit({"a": "1\n"})
    repo.git("update-index", "--split-index")
    repo.write("b", "1\n")
    repo.git("add", "b")
    with opened(repo) as git:
        assert [entry.path for entry in git.listed()] == ["a", "b"]


@pytest.mark.parametrize("folder", ['quo"te', "new\nline", "back\\slash", "#x", "-rf", "a b", "中文"])
def test_folders_with_odd_names(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = make_repo(tmp_path / folder)
    commit = repo.commit({"a": "1\n"})
    with opened(repo) as git:
        assert b"+1\n" in git.diff(git.empty_tree, commit)
    monkeypatch.chdir(repo.path)
    location = find(Path("."))
    assert location is not None
    with Repository(location) as git:
        assert git.head() == commit


# --- what an agent asks: the files of a commit, its history


def test_files_of_a_commit(repo: Repo, tmp_path: Path) -> None:
    inner = make_repo(tmp_path / "inner")
    inner.commit({"x": "1\n"})
    (repo.path / "link").symlink_to("a")
    repo.git("submodule", "add", "-q", str(inner.path), "sub")
    first = repo.commit({"a": "1\n", "中文/\n名": "2\n", b"\xff.py".decode(errors="surrogateescape"): "3\n"})
    repo.commit({"later": "1\n"})
    with opened(repo) as git:
        found = {entry.path: entry.mode for entry in git.listed_at(first)}
        assert found == {
            ".gitmodules": "100644",
            "a": "100644",
            "link": "120000",
            "中文/\n名": "100644",
            "\udcff.py": "100644",
        }
        blobs = [entry.blob for entry in git.listed_at(first) if entry.path == "a"]
        assert git.blobs(blobs, 100) == {blobs[0]: b"1\n"}


def test_log_tells_what_each_commit_changed(repo: Repo) -> None:
    repo.git("commit", "-q", "--allow-empty", "--allow-empty-message", "-m", "")
    repo.commit({"a": "1\n", "\nb": "1\n", "\n\nc\n": "1\n"}, "题目\n\nand more")
    repo.git("mv", "a", "d")
    repo.commit(message="moved")
    repo.commit({"d": "2\n"}, "-x --flag %x00 \\0")
    with opened(repo) as git:
        rows = [(commit.subject, set(commit.paths)) for commit in git.log(git.head() or "")]
        days = {commit.day for commit in git.log(git.head() or "")}
    assert rows == [
        ("-x --flag %x00 \\0", {"d"}),
        ("moved", {"a", "d"}),
        ("题目", {"a", "\nb", "\n\nc\n"}),
        ("", set()),
    ]
    assert all(len(day) == 10 and day[4] == day[7] == "-" for day in days)


@pytest.mark.parametrize(
    ("path", "subjects"),
    [
        ("a", ["two", "one"]),
        ("b", ["two"]),
        ("*", []),
        (":(glob)**", []),
        ("--all", []),
        ("-1", []),
        ("no/such", []),
    ],
)
def test_log_of_a_path_is_of_that_name_and_nothing_else(repo: Repo, path: str, subjects: list[str]) -> None:
    repo.commit({"a": "1\n"}, "one")
    repo.commit({"a": "2\n", "b": "1\n"}, "two")
    repo.commit({"c": "1\n"}, "three")
    with opened(repo) as git:
        found = git.log(git.head() or "", path)
        assert [commit.subject for commit in found] == subjects
        assert [set(commit.paths) for commit in found[:1]] == ([{"a", "b"}] if subjects else [])
        assert len(git.log(git.head() or "", "", 2)) == 2


def test_log_is_of_the_commit_that_is_asked_for(repo: Repo) -> None:
    first = repo.commit({"a": "1\n"}, "one")
    repo.commit({"a": "2\n"}, "two")
    with opened(repo) as git:
        assert [commit.id for commit in git.log(first)] == [first]


@pytest.mark.parametrize("name", ["HEAD", "main", "--all", "", "abc", "f" * 41])
def test_history_takes_ids_and_nothing_else(repo: Repo, name: str) -> None:
    repo.commit({"a": "1\n"})
    with opened(repo) as git:
        for ask in (git.log, git.listed_at, lambda commit: git.blame(commit, "a", 1, 1)):
            with pytest.raises(GitError):
                ask(name)


def test_blame_tells_who_wrote_each_line(repo: Repo) -> None:
    first = repo.commit({"a": "1\n2\n3\n"}, f"author x\n\n{'0' * 40} 1 1 1")
    second = repo.commit({"a": f"1\n{'f' * 40} 9 9\n3\n"}, f"{'e' * 40} 7 7 7")
    with opened(repo) as git:
        assert git.blame(second, "a", 1, 3) == [(1, first), (2, second), (3, first)]
        assert git.blame(first, "a", 2, 2) == [(2, first)]
        assert git.blame(second, "a", 2, 99) == [(2, second), (3, first)]
        for path, start in (("a", 9), ("b", 1), ("--contents=/etc/passwd", 1), (":(glob)*", 1), ("-s", 1)):
            with pytest.raises(GitError):
                git.blame(second, path, start, start)


def test_blame_runs_no_filter_of_the_repository(repo: Repo, tmp_path: Path) -> None:
    repo.git("config", "diff.x.textconv", f"touch {tmp_path}/ran; cat")
    repo.git("config", "filter.x.clean", f"touch {tmp_path}/ran; cat")
    commit = repo.commit({".gitattributes": "* diff=x filter=x\n", "a": "1\n"})
    (tmp_path / "ran").unlink(missing_ok=True)
    with opened(repo) as git:
        assert git.blame(commit, "a", 1, 1) == [(1, commit)]
        git.log(commit, "a")
    assert not (tmp_path / "ran").exists()
