"""How git is started and stopped: what it gets to know, how long it may take, what it may say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gitrepo import Repo

from review_agent.agent.errors import GitError
from review_agent.tools.git import Bounds, Repository, find
from review_agent.tools.git_process import execute, program

LONG = f"987.{os.getpid()}"  # seconds; one of these in the list of processes is ours


def opened(repo: Repo, **bounds: float) -> Repository:
    location = find(repo.path)
    assert location is not None
    return Repository(location, Bounds(**bounds))  # type: ignore[arg-type]


@pytest.fixture
def put_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A `git` of our own making, first on the PATH."""

    def put(script: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "git"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return program

    return put


def processes(mark: str) -> list[str]:
    """What still runs. A killed process may need a moment to be gone."""
    for _ in range(50):
        found = listed(mark)
        if not found:
            break
        time.sleep(0.1)
    return found


def listed(mark: str) -> list[str]:
    done = subprocess.run(["ps", "-A", "-o", "pid=,args="], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if mark in line]


# --- bounds


def test_output_over_the_bound_stops_git(repo: Repo) -> None:
    """The object is a hundred times the bound, and no part of it after the bound is waited for."""
    repo.commit({"big": "x" * 99 + "\n", "big2": os.urandom(30_000_000)})
    blob = repo.git("rev-parse", "HEAD:big2").strip()
    with opened(repo, output=300_000) as git:
        assert git.file_at(git.resolve("HEAD"), "big", 1000) == b"x" * 99 + b"\n"
        with pytest.raises(GitError) as caught:
            git.blobs([blob], 2**40)
        assert (caught.value.key, caught.value.fields) == ("git_too_much_output", {"command": "cat-file"})
        assert git.head() is not None  # and the next question is answered


def test_endless_output_is_read_up_to_the_bound(
    repo: Repo, tmp_path: Path, put_git: Callable[[str], Path]
) -> None:
    put_git("yes 0123456789abcdef")
    started = time.monotonic()
    with opened(repo, output=20_000_000) as git, pytest.raises(GitError) as caught:
        git.run("rev-parse")
    assert caught.value.key == "git_too_much_output"
    assert time.monotonic() - started < 20


def test_endless_complaints_are_cut(repo: Repo, put_git: Callable[[str], Path]) -> None:
    put_git("head -c 50000000 /dev/zero | tr '\\0' e >&2; echo done; exit 3")
    with opened(repo) as git, pytest.raises(GitError) as caught:
        git.run("rev-parse")
    assert caught.value.key == "git_failed"
    assert caught.value.fields["detail"] == "e" * 300


def test_only_the_start_of_stderr_is_kept(repo: Repo, tmp_path: Path, put_git: Callable[[str], Path]) -> None:
    put_git("head -c 5000000 /dev/zero | tr '\\0' e >&2; echo out; exit 3")
    code, out, err = execute(program(repo.path, tmp_path), ["x"], tmp_path, None, Bounds(), "x")
    assert (code, out, len(err)) == (3, b"out\n", 65536)


@pytest.mark.parametrize(
    "script",
    [
        "sleep LONG",  # silent
        "sleep LONG & sleep LONG & wait",  # with children
        "(sleep LONG; echo) & exit 0",  # ended itself, while a child holds the stream
        "exec >&- 2>&-; sleep LONG",  # closed its streams, and stays
        "trap '' TERM INT HUP; while :; do sleep LONG; done",  # deaf
    ],
)
def test_past_its_time_git_ends_with_all_that_it_started(
    repo: Repo, put_git: Callable[[str], Path], script: str
) -> None:
    put_git(script.replace("LONG", LONG))
    started = time.monotonic()
    with opened(repo, seconds=0.5) as git, pytest.raises(GitError) as caught:
        git.run("rev-parse")
    assert (caught.value.key, caught.value.fields) == (
        "git_too_slow",
        {"command": "rev-parse", "seconds": 0.5},
    )
    assert time.monotonic() - started < 15
    assert processes(f"sleep {LONG}") == []


def test_an_interrupt_ends_git_too(repo: Repo, tmp_path: Path, put_git: Callable[[str], Path]) -> None:
    # GitPython's import asks for the version first.
    put_git(
        f'case "$*" in version) echo git version 2.39.5;; *) touch {tmp_path}/started; sleep {LONG};; esac'
    )
    code = (
        "import sys, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path\nfrom review_agent.tools.git import Repository, find\n"
        "Repository(find(Path(sys.argv[1]))).run('rev-parse')"
    )
    child = subprocess.Popen([sys.executable, "-c", code, repo.path], stderr=subprocess.PIPE)
    for _ in range(300):
        if (tmp_path / "started").exists():
            break
        time.sleep(0.1)
    child.send_signal(2)
    _, err = child.communicate(timeout=30)
    assert b"KeyboardInterrupt" in err
    assert processes(f"sleep {LONG}") == []


def test_what_orders_the_files_must_not_stop_the_review(repo: Repo) -> None:
    repo.commit({f"{n:040}": "x" for n in range(100)})
    with opened(repo, output=2000) as git:
        assert git.churn() == {}
        with pytest.raises(GitError):
            git.listed()


def test_a_huge_file_is_binary_and_not_the_end(repo: Repo) -> None:
    first = repo.commit({"a": "1\n", "huge": ""})
    repo.write("a", "2\n")
    with open(repo.path / "huge", "wb") as huge:
        huge.write(b"x\n")
        huge.truncate(70 * 1024 * 1024)
        huge.seek(0)
        huge.write(b"0123456\n" * (9 * 1024 * 1024))
    second = repo.commit()
    with opened(repo, output=1_000_000) as git:
        assert b"+2\n" in git.diff(first, second)
        assert b"Binary files a/huge and b/huge differ" in git.diff(first, second)


# --- environment

ALLOWED = {
    "PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LANGUAGE", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_GLOBAL",
    "GIT_ATTR_NOSYSTEM", "GIT_TERMINAL_PROMPT", "GIT_OPTIONAL_LOCKS", "GIT_NO_LAZY_FETCH",
    "GIT_NO_REPLACE_OBJECTS", "GIT_ALLOW_PROTOCOL",
}  # fmt: skip


def test_git_gets_an_environment_of_ours(
    repo: Repo, tmp_path: Path, put_git: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_git("exec env")  # its own PATH and nothing of the shell's: dash adds PWD only
    for name in (
        "ANTHROPIC_API_KEY",
        "GIT_DIR",
        "GIT_SSH_COMMAND",
        "LD_PRELOAD_X",
        "SSH_AUTH_SOCK",
        "EDITOR",
    ):
        monkeypatch.setenv(name, "x")
    with opened(repo) as git:
        lines = git.run("rev-parse").decode().splitlines()
        seen = dict(line.split("=", 1) for line in lines)
        assert set(seen) - {"PWD", "OLDPWD", "SHLVL", "_"} == ALLOWED
        for name in ("HOME", "TMPDIR"):
            assert Path(seen[name]).is_dir()
            assert not Path(seen[name]).is_relative_to(repo.path)
            assert seen[name] != os.environ["HOME"]
    assert os.environ["GIT_DIR"] == "x"


def test_threads_do_not_meet_in_the_environment(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another thread reads of the process's variables is never a moment's half of them."""
    repo.commit({"a": "1\n"})
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    stop = threading.Event()
    missed: list[str] = []

    def watch() -> None:
        while not stop.is_set():
            if os.environ.get("GIT_DIR") != "/nowhere":
                missed.append("gone")

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answers: list[str | None] = []
        with opened(repo) as git:
            threads = [
                threading.Thread(target=lambda: answers.extend(git.head() for _ in range(10)))
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(answers) == 40
            assert set(answers) == {git.head()}
    finally:
        stop.set()
        watcher.join()
    assert missed == []


@pytest.mark.parametrize("entry", [".", "", "sub", "{repo}", "{repo}/bin", "{link}", "{linked}"])
def test_a_git_of_the_reviewed_repository_is_never_started(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    """Neither through the PATH, nor by a link outside, nor by standing in its folder."""
    repo.commit({"a": "1\n"})
    trace = tmp_path / "ran"
    for folder in (repo.path, repo.path / "bin", repo.path / "sub"):
        folder.mkdir(exist_ok=True)
        for name in ("git", "env"):
            (folder / name).write_text(f"#!/bin/sh\necho $0 >> {trace}\n")
            (folder / name).chmod(0o755)
    (tmp_path / "link").symlink_to(repo.path / "bin")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "git").symlink_to(repo.path / "bin" / "git")
    folder = entry.format(repo=repo.path, link=tmp_path / "link", linked=tmp_path / "linked")
    code = (
        "from pathlib import Path\nfrom review_agent.tools.git import Repository, find\n"
        "with Repository(find(Path.cwd())) as git: print(git.head())"
    )
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repo.path, env={**os.environ, "PATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert not trace.exists()
    assert done.stdout.strip() == repo.git("rev-parse", "HEAD").strip()
    assert shutil.which("git", path=path) != shutil.which("git") or entry in (".", "", "sub")
    subprocess.run(["git", "--version"], cwd=repo.path, env={**os.environ, "PATH": path}, check=True)
    assert trace.exists()  # what a plain start of `git` would have done


def test_a_repository_at_the_root_of_the_machine_leaves_us_git(tmp_path: Path) -> None:
    assert program(Path("/"), tmp_path).git == program(tmp_path / "elsewhere", tmp_path).git


def test_git_looks_for_programs_in_folders_of_the_machine_only(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(repo.path)
    before = os.environ["PATH"]
    hostile = [".", "", "bin", "../bin", str(repo.path), f"{repo.path}/bin", f"{tmp_path}/link/bin"]
    monkeypatch.setenv("PATH", os.pathsep.join([*hostile, before, *hostile]))
    kept = os.pathsep.join(folder for folder in before.split(os.pathsep) if os.path.isabs(folder))
    assert f"PATH={kept}" in program(repo.path, tmp_path).variables
