"""Each way in which a repository makes plain git run a program, one by one: through us none of them runs.

The control is plain git with one command; where it fires, the test is known to be able to fail. The table in
docs/security-tests.md is made from the list below: REVIEW_AGENT_UPDATE_GOLDEN=1 writes it anew.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from gitrepo import NAME, Repo, make_repo

from review_agent.tools.git import Repository, find

PAGE = Path(__file__).parents[2] / "docs" / "security-tests.md"
START, END = "<!-- git vectors -->\n", "<!-- end of git vectors -->\n"
MEASURED = "2.39"  # the git that the table tells of
TARGETS = ([], ["--working"], ["--staged"], ["--commit", "HEAD"])

Prepare = Callable[[Repo, str], None]


def nothing(repo: Repo, run: str) -> None:
    """Configuration is all it takes."""


@dataclass(frozen=True)
class Vector:
    """`{run}` in `config` is the program; `command` is the plain git that fires it, in `folder`.

    Whether it does is up to git: some are honoured no more, and some need a later git.
    """

    name: str
    command: tuple[str, ...]
    config: dict[str, str] = field(default_factory=dict)
    attributes: str = ""
    prepare: Prepare = nothing
    stdin: bytes = b""
    folder: str = "."
    terminal: bool = False
    fires: bool = True


# --- what some vectors need besides configuration


def hook(name: str) -> Prepare:
    def prepare(repo: Repo, run: str) -> None:
        target = repo.path / ".git" / "hooks" / name
        target.parent.mkdir(exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(run)

    return prepare


def hooks_of_the_tree(repo: Repo, run: str) -> None:
    target = repo.path / "hooks" / "post-index-change"
    target.parent.mkdir()
    target.symlink_to(run)


def included(repo: Repo, run: str) -> None:
    repo.write("evil.conf", f"[diff]\n\texternal = {run}\n")


def signed(repo: Repo, run: str) -> None:
    tree, parent = (repo.git("rev-parse", name).strip() for name in ("HEAD^{tree}", "HEAD"))
    who = "t <t@example.invalid> 1700000000 +0000"
    signature = "-----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----"
    text = f"tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\ngpgsig {signature}\n\nsigned\n"
    repo.write("signed", text)
    commit = repo.git("hash-object", "-t", "commit", "-w", "signed").strip()
    (repo.path / "signed").unlink()
    repo.git("update-ref", "HEAD", commit)


def embedded_bare(repo: Repo, run: str) -> None:
    for name in ("bare/refs/heads", "bare/objects"):
        (repo.path / name).mkdir(parents=True)
    repo.write("bare/HEAD", "ref: refs/heads/main\n")
    config = (
        f'[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = ".."\n\tfsmonitor = {run}\n'
    )
    repo.write("bare/config", config)


def submodule(repo: Repo, run: str) -> None:
    source = repo.path.parent / "source"
    make_repo(source).commit({"x": "1\n"})
    repo.git("submodule", "add", "-q", str(source), "sub")
    repo.git("commit", "-qm", "sub")
    inner = Repo(repo.path / "sub")
    inner.git("config", "core.fsmonitor", run)
    inner.write("x", "2\n")


def submodule_to_update(repo: Repo, run: str) -> None:
    submodule(repo, run)
    Repo(repo.path / "sub").git("config", "--unset", "core.fsmonitor")
    Repo(repo.path / "sub").git("checkout", "-q", "--orphan", "away")
    Repo(repo.path / "sub").commit({"y": "1\n"})
    repo.git("config", "submodule.sub.update", f"!{run}")


def conflicting(repo: Repo, run: str) -> None:
    repo.git("checkout", "-q", "-b", "side")
    repo.commit({"a.py": "side\n"})
    repo.git("checkout", "-q", "main")
    repo.commit({"a.py": "main\n"})


def alternate(repo: Repo, run: str) -> None:
    make_repo(repo.path / "other").commit({"x": "1\n"})
    repo.write(".git/objects/info/alternates", f"{repo.path}/other/.git/objects\n")


def promisor(url: str, uploadpack: str = "") -> Prepare:
    """A partial clone from which the content of a file is missing: git fetches it when it is asked for."""

    def prepare(repo: Repo, run: str) -> None:
        source = repo.path.parent / "promisor"
        repo.git("clone", "-q", "--bare", str(repo.path), str(source))
        blob = repo.git("rev-parse", "HEAD:gone.py").strip()
        (repo.path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
        config = {
            "core.repositoryFormatVersion": "1",
            "extensions.partialClone": "origin",
            "remote.origin.promisor": "true",
            "remote.origin.url": url.format(run=run, source=source),
            "protocol.ext.allow": "always",
            "protocol.file.allow": "always",
        }
        if uploadpack:
            config["remote.origin.uploadpack"] = uploadpack.format(run=run)
        for name, value in config.items():
            repo.git("config", name, value)

    return prepare


EVERY = "* diff=evil filter=evil merge=evil\n"
HELP = {"man.viewer": "evil", "man.evil.cmd": "{run}"}
MISSING = ("cat-file", "-p", "HEAD:gone.py")
VECTORS = [
    Vector("core.fsmonitor", ("status",), {"core.fsmonitor": "{run}"}),
    Vector("diff.external", ("diff",), {"diff.external": "{run}"}),
    Vector("diff.*.command", ("diff",), {"diff.evil.command": "{run}"}, EVERY),
    Vector("diff.*.textconv", ("show", "HEAD"), {"diff.evil.textconv": "{run}"}, EVERY),
    Vector(
        "diff.*.cachetextconv", ("log", "-p"),
        {"diff.evil.textconv": "{run}", "diff.evil.cachetextconv": "true"}, EVERY,
    ),
    Vector("filter.*.clean", ("diff",), {"filter.evil.clean": "{run}"}, EVERY),
    Vector("filter.*.smudge", ("checkout", "HEAD", "--", "a.py"), {"filter.evil.smudge": "{run}"}, EVERY),
    Vector("filter.*.process", ("diff",), {"filter.evil.process": "{run}"}, EVERY),
    Vector("filter.*.required", ("add", "-A"), {"filter.evil.clean": "{run}", "filter.evil.required": "true"}, EVERY),
    Vector("core.pager", ("log",), {"core.pager": "{run}"}, terminal=True),
    Vector("pager.*", ("diff",), {"pager.diff": "{run}"}, terminal=True),
    Vector(
        "core.sshCommand", ("fetch", "origin"), {"core.sshCommand": "{run}", "remote.origin.url": "ssh://h/x"}
    ),
    Vector("core.gitProxy", ("fetch", "origin"), {"core.gitProxy": "{run}", "remote.origin.url": "git://h/x"}),
    Vector("remote.*.uploadpack", ("fetch", "origin"), {"remote.origin.uploadpack": "{run}", "remote.origin.url": "."}),
    Vector(
        "ext:: remote", ("fetch", "origin"),
        {"remote.origin.url": "ext::{run}", "protocol.ext.allow": "always"},
    ),
    Vector("ext:: promisor", MISSING, prepare=promisor("ext::{run}")),
    Vector("promisor with uploadpack", MISSING, prepare=promisor("file://{source}", "{run}")),
    Vector("uploadpack.packObjectsHook", ("clone", "-q", "--no-local", ".", "copy"),
           {"uploadpack.packObjectsHook": "{run}"}, fires=False),
    Vector(
        "core.alternateRefsCommand", ("rev-list", "--alternate-refs"), {"core.alternateRefsCommand": "{run}"},
        prepare=alternate,
    ),
    Vector("gpg.program", ("log",), {"gpg.program": "{run}", "log.showSignature": "true"}, prepare=signed),
    Vector(
        "credential.helper", ("credential", "fill"), {"credential.helper": "!{run}"},
        stdin=b"protocol=https\nhost=h\n\n",
    ),
    Vector(
        "core.askPass", ("credential", "fill"), {"core.askPass": "{run}"},
        stdin=b"protocol=https\nhost=h\n\n",
    ),
    Vector("core.hooksPath", ("add", "-A"), {"core.hooksPath": "hooks"}, prepare=hooks_of_the_tree),
    Vector("hook post-index-change", ("add", "-A"), prepare=hook("post-index-change")),
    Vector("hook reference-transaction", ("branch", "new"), prepare=hook("reference-transaction")),
    Vector("hook post-checkout", ("checkout", "-q", "-f", "HEAD"), prepare=hook("post-checkout")),
    Vector("alias.*", ("st",), {"alias.st": "!{run}"}),
    Vector("core.editor", ("commit", "--allow-empty"), {"core.editor": "{run}"}),
    Vector("sequence.editor", ("rebase", "-q", "--autostash", "-i", "--root"), {"sequence.editor": "{run}"}),
    Vector("include.path", ("diff",), {"include.path": "../evil.conf"}, prepare=included),
    Vector("includeIf", ("diff",), {"includeIf.gitdir:**.path": "../evil.conf"}, prepare=included),
    Vector("embedded bare repository", ("status",), prepare=embedded_bare, folder="bare"),
    Vector("submodule with core.fsmonitor", ("status",), prepare=submodule),
    Vector("submodule.*.update", ("submodule", "update"), prepare=submodule_to_update),
    Vector("merge.*.driver", ("merge", "-q", "--autostash", "side"), {"merge.evil.driver": "{run} %A"}, EVERY, conflicting),
    Vector(
        "interactive.diffFilter", ("add", "-p"), {"interactive.diffFilter": "{run}", "color.ui": "always"},
        stdin=b"q\n", terminal=True,
    ),
    Vector(
        "trailer.*.command", ("interpret-trailers", "a.py"),
        {"trailer.evil.key": "Evil", "trailer.evil.command": "{run}"},
    ),
    Vector("difftool.*.cmd", ("difftool", "-y"), {"diff.tool": "evil", "difftool.evil.cmd": "{run}"}),
    Vector("tar.*.command", ("archive", "--format=evil", "HEAD"), {"tar.evil.command": "{run}"}),
    Vector("man.*.cmd", ("help", "-m", "log"), HELP),
]  # fmt: skip


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Where the program writes that it ran."""
    return tmp_path / "ran"


@pytest.fixture
def run(tmp_path: Path, trace: Path) -> str:
    program = tmp_path / "evil"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {trace}\n')
    program.chmod(0o755)
    return str(program)


def hostile(repo: Repo, vector: Vector, run: str) -> None:
    """The repository with one vector in it, and with changes of every kind."""
    repo.commit({"a.py": "1\n", "b.py": "1\n", "gone.py": "gone\n", ".gitattributes": vector.attributes})
    repo.commit({"a.py": "2\n"})
    vector.prepare(repo, run)
    repo.write("b.py", "staged\n")
    repo.git("add", "b.py")
    repo.write("a.py", "3\n")
    repo.write("new.py", "1\n")
    for name, value in vector.config.items():
        repo.git("config", name, value.format(run=run))


def plain(repo: Repo, vector: Vector) -> None:
    """One command of plain git, as a user would type it. How it ends does not matter."""
    main, end = pty.openpty() if vector.terminal else (-1, -1)
    try:
        subprocess.run(
            ["git", *NAME, *vector.command],
            cwd=repo.path / vector.folder,
            env={**os.environ, "TERM": "xterm", "LESS": "FRX"},
            input=vector.stdin,
            stdout=end if vector.terminal else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
    finally:
        if vector.terminal:
            os.close(end)
            os.close(main)


def everything(folder: Path) -> None:
    """All that we ever ask of a repository."""
    location = find(folder)
    assert location is not None
    with Repository(location) as git:
        head = git.resolve("HEAD")
        base = git.parents(head)[0]
        assert git.resolve("main") == git.head() == git.merge_base(head, head) == head
        git.merge_base(base, head)
        git.at_shallow_edge(head)
        for cached in (False, True):
            git.unreadable(base, head) if not cached else git.unreadable(head, cached=True)
        assert b"+3\n" in git.diff(head, work_tree=True)
        assert b"+staged\n" in git.diff(head, cached=True)
        git.diff(base, head)
        files = git.listed()
        assert {"a.py", "b.py", "new.py"} <= {entry.path for entry in files}
        git.blobs([entry.blob for entry in files], 1000)
        assert "new.py" in git.untracked()
        git.unmerged()
        git.churn()
        assert isinstance(git.borrowed, tuple)
        assert git.file_at(head, "b.py", 100) == b"1\n"


def previews(folder: Path, home: Path) -> list[subprocess.CompletedProcess[bytes]]:
    """The installed command, for each kind of target, all at once."""
    script = Path(sys.executable).parent / "review-agent"
    env = {**os.environ, "HOME": str(home), "OLLAMA_HOST": "127.0.0.1:1"}

    def preview(target: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [str(script), "run", str(folder), "--preview", *target],
            cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
        )  # fmt: skip

    with ThreadPoolExecutor(len(TARGETS)) as pool:
        return list(pool.map(preview, TARGETS))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_nothing_runs(repo: Repo, vector: Vector, run: str, trace: Path, tmp_path: Path) -> None:
    hostile(repo, vector, run)
    trace.unlink(missing_ok=True)
    everything(repo.path / vector.folder)
    assert not trace.exists()
    shown = previews(repo.path / vector.folder, tmp_path)
    assert [done.returncode for done in shown] == [0] * len(TARGETS), shown
    if vector.folder == ".":  # the last is of a commit, which may be any
        assert [b".py" in done.stdout for done in shown[:-1]] == [True] * (len(TARGETS) - 1)
    assert not trace.exists()
    plain(repo, vector)
    if trace.exists() is not vector.fires and not git_version().startswith(f"{MEASURED}."):
        pytest.skip(f"nothing ran through us; plain git {git_version()} does otherwise than {MEASURED} here")
    assert trace.exists() is vector.fires


def git_version() -> str:
    said = subprocess.run(["git", "version"], capture_output=True, text=True, check=True).stdout
    return said.removeprefix("git version ").strip()


def test_the_page_lists_them() -> None:
    fired = sum(vector.fires for vector in VECTORS)
    rows = [
        f"| `{vector.name}` | `git {' '.join(vector.command)}` | {'yes' if vector.fires else 'no more'} | 0 |\n"
        for vector in VECTORS
    ]
    table = (
        f"{len(VECTORS)} vectors; plain git {MEASURED} runs the program in {fired} of them, review-agent in 0.\n\n"
        "| vector | control | plain git runs it | review-agent |\n|---|---|---|---|\n" + "".join(rows)
    )
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    whole = f"{before}{START}{table}{END}{after}"
    if os.environ.get("REVIEW_AGENT_UPDATE_GOLDEN"):
        PAGE.write_text(whole, encoding="utf-8")
        text = whole
    assert text == whole
