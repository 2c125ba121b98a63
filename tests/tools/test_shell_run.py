"""Running what the gate allows: bounds, redirections, and what the programs can see."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from gitrepo import Repo, opened

from review_agent.agent.errors import CommandRefused
from review_agent.tools.files import FileGate
from review_agent.tools.git import Calling
from review_agent.tools.programs import trusted_folders
from review_agent.tools.sandbox import Sandbox, find_sandbox
from review_agent.tools.shell import CommandGate
from review_agent.tools.shell_run import CommandRunner, Ran

SEARCH = os.environ["PATH"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    (root / "src").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("token = T0KEN\n")
    (root / "a.txt").write_text("b\na\nb\n")
    (root / "big.txt").write_text("x" * 79 + "\n" * 100_000)
    (tmp_path / "secret").write_text("5ECRET\n")
    (root / "leak").symlink_to("../secret")
    (root / "out").symlink_to("..")
    return root


def sandbox_of(root: Path) -> Sandbox:
    """A sandbox; without one the test is skipped, and fails in CI."""
    sandbox = find_sandbox(root, SEARCH, hidden=[root / ".git"])
    if sandbox is None:
        assert os.environ.get("CI") != "true", "bubblewrap does not work here"
        pytest.skip("bubblewrap does not work here")
    return sandbox


@pytest.fixture(params=["bubblewrap", "none"])
def sandboxed(request: pytest.FixtureRequest) -> bool:
    return request.param == "bubblewrap" and bool(sandbox_of(Path("/usr")))


def runner(
    root: Path,
    *,
    sandboxed: bool,
    timeout: float = 20,
    max_output: int = 100_000,
    search: str = SEARCH,
    git: Calling | None = None,
) -> CommandRunner:
    gate = CommandGate(FileGate(root))
    return CommandRunner(
        gate, root, search=search, timeout=timeout, max_output=max_output, git=git, sandboxed=sandboxed
    )


@pytest.mark.parametrize(
    ("source", "stdout", "code"),
    [
        ("cat a.txt", "b\na\nb\n", 0),
        ("sort a.txt | uniq -c | sort -rn | head -1", "      2 b\n", 0),
        ("cd src && pwd | tail -c 4", "src\n", 0),
        ("false || echo yes", "yes\n", 0),
        ("false && echo yes", "", 1),
        ("true || echo no; echo then", "then\n", 0),
        ("test -f none && echo there || echo absent", "absent\n", 0),
        ("cat none 2>/dev/null || echo absent", "absent\n", 0),
        ("cat none 2>&1 | wc -l", "1\n", 0),
        ("cat a.txt >/dev/null", "", 0),
        ("cat none a.txt 2>&1 >/dev/null | wc -l", "1\n", 0),
        ("cat none a.txt >/dev/null 2>&1 | wc -l", "0\n", 0),
        ("cat a.txt &>/dev/null", "", 0),
        ("echo said >&2", "", 0),
        ("grep -c '' none", "", 2),
        ("echo a.* '*'", "a.txt *\n", 0),
        ("printf '%s\\n' \"a b\" c", "a b\nc\n", 0),
    ],
)
def test_a_command_does_what_bash_does(
    root: Path, sandboxed: bool, source: str, stdout: str, code: int
) -> None:
    ran = runner(root, sandboxed=sandboxed).run(source)
    assert (ran.stdout.decode(), ran.exit_code, ran.sandboxed) == (stdout, code, sandboxed)
    bash = subprocess.run(["bash", "-c", source], cwd=root, capture_output=True, text=True)
    assert (bash.stdout, bash.returncode) == (stdout, code)


def test_complaints_are_kept_apart(root: Path, sandboxed: bool) -> None:
    ran = runner(root, sandboxed=sandboxed).run("cat none; echo said >&2; echo b")
    assert ran.stdout == b"b\n"
    assert b"none" in ran.stderr
    assert ran.stderr.endswith(b"said\n")


@pytest.mark.parametrize(
    "source", ["tail -n 1 big.txt | sort | cat - a.txt | head -n 1; cat a.txt", "head -c 1 big.txt"]
)
def test_a_reader_that_stops_early_ends_the_others(root: Path, sandboxed: bool, source: str) -> None:
    ran = runner(root, sandboxed=sandboxed, timeout=5).run(source)
    assert (ran.exit_code, ran.timed_out, ran.truncated) == (0, False, False)


def test_output_is_cut_at_its_limit(root: Path, sandboxed: bool) -> None:
    ran = runner(root, sandboxed=sandboxed, max_output=1000).run("cat big.txt big.txt; echo more")
    assert (len(ran.stdout), ran.truncated, ran.exit_code) == (1000, True, None)


def test_many_complaints_do_not_block(root: Path, sandboxed: bool) -> None:
    names = " ".join(f"no-such-file-{'x' * 90}{number}" for number in range(30))
    ran = runner(root, sandboxed=sandboxed, timeout=20).run(
        "; ".join([f"cat {names[:1000]}"] * 3 + ["echo end"])
    )
    assert ran.stdout == b"end\n"
    assert len(ran.stderr) <= 16 * 1024


def slow_program(folder: Path, seconds: float) -> str:
    """A PATH on which `cat` takes its time, and leaves a child behind that would take as long."""
    folder.mkdir()
    script = folder / "cat"
    script.write_text(f"#!/bin/sh\nsleep {seconds} &\nsleep {seconds}\n")
    script.chmod(0o755)
    return f"{folder}:{SEARCH}"


def running(seconds: float) -> bool:
    """Whether a `sleep` of just that time is still there."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return f"sleep {seconds}" in listed


@pytest.mark.parametrize(("timeout", "timed_out"), [(0.5, True), (20, False)])
def test_the_time_limit_ends_everything_that_was_started(
    root: Path, tmp_path: Path, timeout: float, timed_out: bool
) -> None:
    seconds = 3.25 if timed_out else 1.75
    slow = runner(root, sandboxed=False, timeout=timeout, search=slow_program(tmp_path / "slow", seconds))
    begun = time.monotonic()
    ran = slow.run("cat a.txt | sort; echo end")
    assert (ran.timed_out, ran.stdout) == (timed_out, b"" if timed_out else b"end\n")
    assert (ran.exit_code is None) == timed_out
    assert time.monotonic() - begun < 3
    assert not timed_out or not running(seconds)


RECURSIVE = [
    "grep -rn RET .", "grep -rn RET src/* out*" , "rg -uu RET", "find . -type f", "du -a .", "ls -R .", "ls -laR",
    "tree -a", "diff -r . src", "wc -c a.txt", "file *", "stat leak out", "cat a*", "ls -la leak", "readlink leak",
    "grep -r TOKEN -a .", "grep -rn T0KEN .", "rg -uu T0KEN", "find . -name config -size -1", "diff -rN . src",
]  # fmt: skip


@pytest.mark.parametrize("source", RECURSIVE)
def test_no_command_shows_what_lies_outside_or_in_git(root: Path, sandboxed: bool, source: str) -> None:
    if shutil.which(source.split(maxsplit=1)[0]) is None:
        assert os.environ.get("CI") != "true"
        pytest.skip(f"{source.split(maxsplit=1)[0]} is not installed")
    said = b""
    with suppress(CommandRefused):  # where `*` matches a link that leads outside
        ran = runner(root, sandboxed=sandboxed).run(source)
        said = ran.stdout + ran.stderr
    assert b"5ECRET" not in said
    assert b"T0KEN" not in said


def test_in_the_sandbox_there_is_nothing_but_the_repository(root: Path) -> None:
    sandbox = sandbox_of(root)
    control = shutil.which("bash") or ""
    script = f"ls {root} {root}/.git; cat {root}/../secret; cat /etc/passwd; ls /proc /home /root; : > {root}/new; : > /tmp/x && echo tmp"
    line = sandbox.wrap([control, "-c", script], root)
    done = subprocess.run(line, env={}, capture_output=True, text=True, timeout=20)
    shown, _, rest = done.stdout.partition(f"{root}/.git:\n")
    assert "a.txt" in shown
    assert rest == "tmp\n"  # `.git` is empty, nothing else can be read, only the private /tmp written
    assert not (root / "new").exists()


def test_in_the_sandbox_there_is_no_network(root: Path) -> None:
    sandbox = sandbox_of(root)
    with socket.create_server(("127.0.0.1", 0)) as server:
        call = [shutil.which("bash") or "", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}"]
        outside = subprocess.run(call, capture_output=True, timeout=20)
        inside = subprocess.run(sandbox.wrap(call, root), env={}, capture_output=True, timeout=20)
    assert outside.returncode == 0
    assert inside.returncode != 0


def test_a_git_file_is_hidden_too(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /somewhere\n")
    sandbox_of(tmp_path)
    ran = runner(tmp_path, sandboxed=True).run("rg -uu gitdir; grep -rn gitdir . || wc -c .* 2>&1 | head -5")
    assert b"somewhere" not in ran.stdout


def test_without_bwrap_or_namespaces_there_is_no_sandbox(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert find_sandbox(tmp_path, str(empty)) is None
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "bwrap").write_text("#!/bin/sh\nexit 1\n")
    (broken / "bwrap").chmod(0o755)
    assert find_sandbox(tmp_path, f"{broken}:{SEARCH}") is None


def test_programs_come_from_outside_of_the_repository(root: Path, tmp_path: Path, sandboxed: bool) -> None:
    """A PATH with "." or a folder of the repository must not let it bring its own `cat`."""
    fake = root / "bin"
    fake.mkdir()
    (fake / "cat").write_text("#!/bin/sh\necho fake\n")
    (fake / "cat").chmod(0o755)
    (tmp_path / "link").symlink_to(fake)
    search = f".:bin::{fake}:{tmp_path / 'link'}:{SEARCH}"
    assert trusted_folders(search, root) == SEARCH.split(os.pathsep)
    ran = runner(root, sandboxed=sandboxed, search=search).run("cat a.txt")
    assert ran.stdout == b"b\na\nb\n"


def test_what_is_missing_is_said(root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, search, key in [
        ("cat a.txt", str(empty), "policy.not_installed"),
        ("git log", SEARCH, "policy.no_repository"),
        ("cd none && ls", SEARCH, "policy.path"),
        ("cd a.txt && ls", SEARCH, "policy.path"),
        ("rm a.txt", SEARCH, "policy.command"),
    ]:
        with pytest.raises(CommandRefused) as caught:
            runner(root, sandboxed=False, search=search).run(source)
        assert caught.value.key == key


def test_the_callers_environment_and_descriptors_do_not_reach_the_programs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "5ECRET")
    folder = tmp_path / "show"
    folder.mkdir()
    (folder / "cat").write_text("#!/bin/sh\nenv; ls /proc/self/fd | wc -l\n")
    (folder / "cat").chmod(0o755)
    with open(tmp_path / "secret") as held:
        os.set_inheritable(held.fileno(), True)
        ran: Ran = runner(root, sandboxed=False, search=f"{folder}:{SEARCH}").run("cat a.txt")
    assert b"SECRET" not in ran.stdout
    assert ran.stdout.splitlines()[-1].strip() == b"4"  # 0, 1, 2 and the folder that `ls` reads


def test_no_descriptor_is_left_open(root: Path) -> None:
    one = runner(root, sandboxed=False)
    one.run("cat a.txt | sort")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        one.run("cat a.txt | sort | head -1; cat none")
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_readable_besides_is_bound_over_what_is_hidden(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    git.mkdir()
    readable = (git / "objects", git / "objects" / "pack", Path("/usr/share"), Path("/opt/y"))
    line = Sandbox("bwrap", tmp_path, (git,), readable).wrap(["/usr/bin/true"], tmp_path)
    bound = [line[at + 1] for at, word in enumerate(line) if word == "--ro-bind"]
    assert bound == [str(tmp_path), "/opt/y", str(git / "objects")]
    assert line.index(str(git)) < line.index(str(git / "objects"))


def test_git_needs_a_repository(root: Path) -> None:
    with pytest.raises(CommandRefused, match="no_repository"):
        runner(root, sandboxed=False).run("git log")


@pytest.mark.parametrize(
    ("source", "stdout"),
    [
        ("git log --format=%s -- a.py", "second\nfirst\n"),
        ("git log -p --format= -1 -- a.py | grep '^[+]x'", "+x = 2\n"),
        ("git show HEAD~1:a.py", "x = 1\n"),
        ("git diff --stat HEAD | tail -1", " 1 file changed, 1 insertion(+), 1 deletion(-)\n"),
        ("git status --short", " M a.py\n?? new.py\n"),
        ("git grep -n 'x =' HEAD -- '*.py'", "HEAD:a.py:1:x = 2\n"),
        ("cd src && git ls-files", "b.py\n"),
        ("cd src && git diff --name-only .. | cat", "a.py\n"),
        ("git blame -s HEAD~1 -- a.py | cut -c 2-99 | cut -d' ' -f2-", "1) x = 1\n"),
        ("git rev-list --count HEAD", "2\n"),
        ("git branch --show-current", "main\n"),
        ("git describe --tags", "v1\n"),
    ],
)
def test_git_shows_the_repository(repo: Repo, sandboxed: bool, source: str, stdout: str) -> None:
    repo.commit({"a.py": "x = 1\n", "src/b.py": "y\n"}, "first")
    repo.commit({"a.py": "x = 2\n"}, "second")
    repo.git("tag", "v1")
    repo.write("a.py", "x = 3\n")
    repo.write("new.py", "")
    with opened(repo) as git:
        ran = runner(repo.path, sandboxed=sandboxed, git=git.calling()).run(source)
    assert (ran.stdout.decode(), ran.stderr.decode()) == (stdout, "")


HOSTILE = {
    "core.fsmonitor": "git status",
    "core.pager": "git --no-pager log",
    "diff.external": "git diff",
    "diff.evil.textconv": "git log -p",
    "diff.evil.command": "git diff HEAD~1",
    "filter.evil.clean": "git diff",
    "filter.evil.process": "git status --short",
    "gpg.program": "git log -1",
    "alias.log": "git log",
    "blame.ignoreRevsFile": "git blame a.py",
    "core.hooksPath": "git status",
}


@pytest.mark.parametrize(("name", "source"), HOSTILE.items())
def test_git_obeys_nothing_of_the_repository(
    repo: Repo, tmp_path: Path, sandboxed: bool, name: str, source: str
) -> None:
    marker, script = tmp_path / "marker", tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\necho ran >> {marker}\ncat\n")
    script.chmod(0o755)
    repo.commit({"a.py": "1\n", ".gitattributes": "* diff=evil filter=evil\n"})
    repo.commit({"a.py": "2\n"})
    repo.git("config", "log.showSignature", "true")
    repo.git("config", name, f"!{script}" if name.startswith("alias") else str(script))
    repo.write("a.py", "3\n")
    marker.unlink(missing_ok=True)
    with opened(repo) as git:
        ran = runner(repo.path, sandboxed=sandboxed, git=git.calling()).run(source)
    assert ran.exit_code == 0, ran.stderr
    assert not marker.exists()
