"""git, read-only: the only module that asks it, always on a private git directory (see `git_dir`).

Nothing from outside becomes an option: commands are fixed lists, `--end-of-options` stands before what names
a commit, and what goes there is an id of ours, but for the one question what a user's word means (`resolve`).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from review_agent.agent.errors import GitError
from review_agent.tools.git_dir import shadow
from review_agent.tools.git_location import Location, borrowed, find
from review_agent.tools.git_process import USUAL, Bounds, execute, program

__all__ = ["EMPTY_TREES", "Bounds", "Calling", "Commit", "Location", "Repository", "TreeEntry", "find"]

EMPTY_TREES = {
    "sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
_GITLINK = "160000"
_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BLAMED = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) \d+ (\d+)(?: \d+)?$")
_OPTIONS = (
    "-c", "core.quotePath=true", "-c", "core.fsmonitor=false", "-c", "diff.renameLimit=2000",
    "-c", "core.bigFileThreshold=64m",  # one huge file is "binary" then, instead of the end of the review
)  # fmt: skip
# No commit's name: what cannot be given to a program, names of files, and searches through all messages by an
# expression that may never end.
_MAX_REF = 1000
_NO_COMMIT = re.compile(r"[\0-\x1f\x7f:\ud800-\udc7f\udd00-\udfff]|\^\{/")


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """`absent` = not checked out on purpose (a sparse checkout)."""

    mode: str
    path: str
    blob: str = ""
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Commit:
    """`day` as in 2026-01-31; `paths` it changed, against its first parent."""

    id: str
    day: str
    subject: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Calling:
    """`options` stand before the sub-command. `readable` is what git must be able to read for it."""

    options: tuple[str, ...]
    environment: Mapping[str, str]
    readable: tuple[Path, ...]


class Repository:
    """A reviewed repository. Close it (or use `with`): it owns a temporary folder."""

    def __init__(self, location: Location, bounds: Bounds = USUAL) -> None:
        self.location = location
        self.root = location.root
        self._bounds = bounds
        self._private = Path(tempfile.mkdtemp(prefix="review-agent-git-"))
        try:
            self._program = program(self.root, self._private)
            self.object_format = shadow(location, self._private)
        except GitError:
            self.close()
            raise
        except OSError as exc:
            self.close()
            raise GitError("git_unreadable", path=str(location.git_dir), detail=exc.strerror or "") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        shutil.rmtree(self._private, ignore_errors=True)

    @property
    def empty_tree(self) -> str:
        return EMPTY_TREES[self.object_format]

    @property
    def shallow(self) -> bool:
        return (self._private / "shallow").exists()

    @property
    def partial(self) -> bool:
        """Whether objects may be missing on purpose (`git clone --filter`)."""
        return any((self.location.common / "objects" / "pack").glob("*.promisor"))

    def calling(self) -> Calling:
        """How a program started by someone else would call git on the private directory."""
        return Calling(
            options=("--no-pager", "--git-dir", str(self._private), "--work-tree", str(self.root), *_OPTIONS),
            environment=dict(entry.split("=", 1) for entry in self._program.variables),
            readable=(self._private, (self.location.common / "objects").resolve(), *self.borrowed),
        )

    @property
    def borrowed(self) -> tuple[Path, ...]:
        """Folders outside of the repository that its objects also come from (`git clone --shared`)."""
        return borrowed(self.location)

    def at_shallow_edge(self, commit: str) -> bool:
        """Whether a commit has parents that were left out of a shallow clone."""
        if not self.shallow or self.parents(commit):
            return False
        header, _, _ = self.run("cat-file", "--end-of-options", "commit", _id(commit)).partition(b"\n\n")
        return b"\nparent " in header

    def run(
        self, *args: str, stdin: bytes | None = None, ok: Sequence[int] = (0,), work_tree: bool = False
    ) -> bytes:
        """stdout of one git command. Raises GitError for exit codes not in `ok`, and past the bounds."""
        argv = ["--no-pager", "--git-dir", str(self._private)]
        if work_tree:
            argv += ["--work-tree", str(self.root)]
        argv += [*_OPTIONS, *args]
        command = next(arg for arg in args if not arg.startswith("-"))
        # Not in the reviewed folder, nor in the caller's: `git` looks for programs and files where it stands.
        code, out, err = execute(self._program, argv, self._private, stdin, self._bounds, command)
        if code not in ok:
            raise GitError("git_failed", command=command, detail=_complaint(err))
        return out

    def resolve(self, ref: str) -> str:
        """Commit id of a ref, as the user wrote it. Raises GitError("ref_unknown")."""
        commit = self._commit(ref)
        if commit is None:
            raise GitError("ref_unknown_shallow" if self.shallow else "ref_unknown", ref=ref)
        return commit

    def _commit(self, ref: str) -> str | None:
        if len(ref) > _MAX_REF or _NO_COMMIT.search(ref):
            return None
        question = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        try:
            out = self.run(*question, ok=(0, 1)).decode().split()
        except GitError as exc:
            if exc.key == "git_failed" and "not a git repository" not in str(exc.fields.get("detail")):
                return None  # git knows the name, but it is no commit's
            raise
        return out[-1] if out and _ID.fullmatch(out[-1]) else None

    def head(self) -> str | None:
        """Commit id of HEAD; None on an unborn branch."""
        return self._commit("HEAD")

    def parents(self, commit: str) -> list[str]:
        out = self.run("rev-list", "--parents", "-n", "1", "--end-of-options", _id(commit), "--")
        return out.decode().split()[1:]

    def merge_base(self, a: str, b: str) -> str:
        out = self.run("merge-base", "--end-of-options", _id(a), _id(b), ok=(0, 1)).decode().split()
        if not out:
            raise GitError("no_merge_base_shallow" if self.shallow else "no_merge_base", a=a[:12], b=b[:12])
        return out[0]

    def diff(
        self,
        *between: str,
        cached: bool = False,
        work_tree: bool = False,
        without: Iterable[str] = (),
    ) -> bytes:
        """Unified diff with three lines of context; `between` are commit or tree ids of ours, never names.

        `without` are paths to leave out.
        """
        options = [
            "-p", "-M", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "-U3",
            "--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=dirty", "--submodule=short",
        ]  # fmt: skip
        if cached:
            options.append("--cached")
        left_out = [f":(top,exclude,literal){path}" for path in without]
        ids = [_id(each) for each in between]
        return self.run("diff", *options, "--end-of-options", *ids, "--", *left_out, work_tree=work_tree)

    def unreadable(self, *between: str, cached: bool = False) -> list[TreeEntry]:
        """The new side of changed files of which a side is missing from a partial clone; git dies on them.

        Mode "000000" is a deleted file.
        """
        if not self.partial:
            return []
        command = ("diff-index", "--cached") if cached else ("diff-tree", "-r")
        options = ("--raw", "-z", "--no-renames", "--no-abbrev")
        ids = [_id(each) for each in between]
        fields = list(_split(self.run(*command, *options, "--end-of-options", *ids, "--")))
        changed: list[tuple[TreeEntry, set[str]]] = []
        for meta, name in zip(fields[::2], fields[1::2], strict=True):
            old_mode, mode, old_blob, blob, _status = meta.decode().removeprefix(":").split(" ")
            sides = {(old_mode, old_blob), (mode, blob)}
            needed = {side for kind, side in sides if kind != _GITLINK and side.strip("0")}
            changed.append((TreeEntry(mode, os.fsdecode(name), blob), needed))
        have = self._batch_sizes(sorted(set().union(*(needed for _, needed in changed))))
        return [entry for entry, needed in changed if not needed <= have.keys()]

    def listed(self) -> list[TreeEntry]:
        """Tracked files (unmerged ones once) and untracked ones that are not ignored (mode '')."""
        entries: dict[str, TreeEntry] = {}
        for row in _split(self.run("ls-files", "-z", "-t", "--stage", work_tree=True)):
            meta, _, name = row.partition(b"\t")
            tag, mode, blob, _stage = meta.decode().split(" ")
            path = os.fsdecode(name)
            entries.setdefault(path, TreeEntry(mode, path, blob, absent=tag == "S"))
        for path in self.untracked():
            entries.setdefault(path, TreeEntry("", path))
        return sorted(entries.values(), key=lambda entry: os.fsencode(entry.path))

    def untracked(self) -> list[str]:
        """Files that are neither tracked nor ignored; a nested repository is one, with "/" at its end."""
        out = self.run("ls-files", "-z", "--others", "--exclude-standard", work_tree=True)
        return [os.fsdecode(name) for name in _split(out)]

    def unmerged(self) -> list[str]:
        """Paths with a conflict that nobody has resolved yet."""
        rows = _split(self.run("ls-files", "-z", "--unmerged"))
        return sorted({os.fsdecode(row.partition(b"\t")[2]) for row in rows})

    def blobs(self, ids: Iterable[str], max_size: int) -> dict[str, bytes | None]:
        """Contents by blob id; None for one over `max_size` bytes. Missing ids are left out."""
        wanted = sorted({blob for blob in ids if _ID.fullmatch(blob)})
        if not wanted:
            return {}
        sizes = self._batch_sizes(wanted)
        small = [blob for blob in wanted if blob in sizes and sizes[blob] <= max_size]
        found: dict[str, bytes | None] = {blob: None for blob in sizes}
        if small:
            data = self.run("cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in small).encode())
            found.update(_parse_batch(data))
        return found

    def _batch_sizes(self, ids: list[str]) -> dict[str, int]:
        out = self.run("cat-file", "--batch-check", stdin="".join(f"{blob}\n" for blob in ids).encode())
        sizes: dict[str, int] = {}
        for line in out.decode(errors="replace").splitlines():
            parts = line.split(" ")
            if len(parts) == 3 and parts[1] == "blob":
                sizes[parts[0]] = int(parts[2])
        return sizes

    def file_at(self, commit: str, path: str, max_size: int) -> bytes | None:
        """A file's content at a commit; None when it is not there, not a file, or too large."""
        if not path or "\0" in path or path.startswith("/") or ".." in path.split("/"):
            return None
        # `--end-of-options` ends them for the path, too; a "--" behind it would be a path.
        question = ("ls-tree", "-z", "--full-tree", "--end-of-options", _id(commit), path)
        out = self.run("--literal-pathspecs", *question)
        for row in _split(out):
            meta, _, name = row.partition(b"\t")
            mode, kind, blob = meta.decode().split(" ")
            if kind == "blob" and mode != "120000" and os.fsdecode(name) == path:
                return self.blobs([blob], max_size).get(blob)
        return None

    def listed_at(self, commit: str) -> list[TreeEntry]:
        """The files of a commit; submodules are left out."""
        out = self.run("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", _id(commit))
        entries = []
        for row in _split(out):
            meta, _, name = row.partition(b"\t")
            mode, kind, blob = meta.decode().split(" ")
            if kind == "blob":
                entries.append(TreeEntry(mode, os.fsdecode(name), blob))
        return entries

    def log(self, commit: str, path: str = "", limit: int = 20) -> list[Commit]:
        """The last commits up to one, newest first; with `path` those that changed it. Merges name none."""
        options = (
            f"-{int(limit)}",
            "--no-renames",
            "--full-diff",
            "--name-only",
            "-z",
            "--format=%x00%H%x00%as%x00%s",
        )
        only = [f":(top,literal){path}"] if path else []
        out = self.run("log", *options, "--end-of-options", _id(commit), "--", *only)
        fields = out.split(b"\0")
        commits: list[Commit] = []
        at = 1
        while at + 2 < len(fields):
            name, day, subject = (field.decode("utf-8", "replace") for field in fields[at : at + 3])
            at += 3
            paths: list[str] = []
            while at < len(fields) and fields[at]:
                paths.append(os.fsdecode(fields[at] if paths else fields[at].removeprefix(b"\n")))
                at += 1
            commits.append(Commit(name, day, subject, tuple(paths)))
            at += 1
        return commits

    def blame(self, commit: str, path: str, start: int, end: int) -> list[tuple[int, str]]:
        """(line, commit that wrote it) for lines of a file as it is at a commit."""
        span = f"{int(start)},{int(end)}"
        out = self.run("blame", "--porcelain", "--no-textconv", "-L", span, _id(commit), "--", path)
        rows = (_BLAMED.match(line) for line in out.split(b"\n"))
        return [(int(row[2]), row[1].decode()) for row in rows if row]

    def churn(self, limit: int = 500) -> Mapping[str, int]:
        """How many of the last `limit` commits touched each path; nothing where history cannot be read."""
        counts: dict[str, int] = {}
        command = ("log", f"-{limit}", "--no-renames", "--format=", "--name-only", "-z", "--end-of-options")
        try:
            out = self.run(*command, "HEAD", "--", ok=(0, 128))
        except GitError:  # too much or too slow: it only says what to look at first
            return counts
        for name in _split(out):
            path = os.fsdecode(name.removeprefix(b"\n"))
            counts[path] = counts.get(path, 0) + 1
        return counts


def _id(name: str) -> str:
    """The same, when it is an object's whole id; nothing else is ever given to git as one."""
    if not _ID.fullmatch(name):
        raise GitError("ref_unknown", ref=name)
    return name


def _split(data: bytes) -> Iterator[bytes]:
    return (part for part in data.split(b"\0") if part)


def _parse_batch(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        end = data.index(b"\n", at)
        parts = data[at:end].decode(errors="replace").split(" ")
        at = end + 1
        if len(parts) == 3:
            size = int(parts[2])
            found[parts[0]] = data[at : at + size]
            at += size + 1
    return found


def _complaint(text: str) -> str:
    """The line of git's messages that says what was wrong; warnings may stand before it."""
    lines = text.strip().splitlines() or [""]
    return next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[0])[:300]
