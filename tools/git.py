"""git, read-only: the only module that starts it.

Every command runs with a git directory of our own that borrows the repository's objects (`objects/info/alternates`)
and holds copies of its refs and index. So no configuration, hook, filter, alias or fsmonitor of the reviewed
repository is ever read, and nothing of it is written. GitPython is the process runner.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from review_agent.agent.errors import GitError

EMPTY_TREES = {
    "sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
_TIMEOUT = 120.0
_MAX_OUTPUT = 512 * 1024 * 1024
_COPIED = ("HEAD", "packed-refs", "index", "shallow", "ORIG_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD")
_OBJECT_FORMAT = re.compile(r"^\s*objectformat\s*=\s*(sha1|sha256)\s*$", re.I | re.M)
_REF_FORMAT = re.compile(r"^\s*refstorage\s*=\s*reftable\s*$", re.I | re.M)


@dataclass(frozen=True, slots=True)
class TreeEntry:
    mode: str
    path: str
    blob: str = ""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a repository lives. `common` differs from `git_dir` in linked worktrees."""

    root: Path
    git_dir: Path
    common: Path


def find(path: Path) -> Location | None:
    """The repository that `path` is in, read from the file system alone; None outside any."""
    for folder in (path, *path.parents):
        dot = folder / ".git"
        if dot.is_dir() and (dot / "HEAD").exists():
            return Location(folder, dot, _common(dot))
        if dot.is_file():
            target = _gitfile(dot)
            if target is not None:
                return Location(folder, target, _common(target))
    return None


def _gitfile(dot: Path) -> Path | None:
    try:
        text = dot.read_bytes()[:4096].decode(errors="surrogateescape").strip()
    except OSError:
        return None
    if not text.startswith("gitdir:"):
        return None
    target = (dot.parent / text[len("gitdir:") :].strip()).resolve()
    return target if (target / "HEAD").exists() else None


def _common(git_dir: Path) -> Path:
    try:
        text = (git_dir / "commondir").read_text(errors="surrogateescape").strip()
    except OSError:
        return git_dir
    return (git_dir / text).resolve()


class Repository:
    """A reviewed repository. Close it (or use `with`): it owns a temporary folder."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self.root = location.root
        self._private = Path(tempfile.mkdtemp(prefix="review-agent-git-"))
        try:
            self.object_format = self._shadow()
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

    def _shadow(self) -> str:
        """Fill the private git directory; returns the object format."""
        git_dir, common = self.location.git_dir, self.location.common
        config = _read_small(common / "config")
        if _REF_FORMAT.search(config):
            raise GitError("git_reftable", path=str(self.root))
        found = _OBJECT_FORMAT.search(config)
        object_format = found.group(1).lower() if found else "sha1"
        for source in {common, git_dir}:
            for name in _COPIED:
                if (source / name).is_file():
                    shutil.copyfile(source / name, self._private / name)
            if (source / "refs").is_dir():
                shutil.copytree(
                    source / "refs", self._private / "refs", dirs_exist_ok=True, ignore=_links, symlinks=True
                )
        for name in ("HEAD", "index"):  # a worktree's own ones win over the common ones
            if (git_dir / name).is_file():
                shutil.copyfile(git_dir / name, self._private / name)
        info = self._private / "objects" / "info"
        info.mkdir(parents=True)
        (self._private / "refs").mkdir(exist_ok=True)
        (info / "alternates").write_bytes(os.fsencode(common / "objects") + b"\n")
        if (common / "info" / "exclude").is_file():
            (self._private / "info").mkdir()
            shutil.copyfile(common / "info" / "exclude", self._private / "info" / "exclude")
        extension = "[extensions]\n\tobjectformat = sha256\n" if object_format == "sha256" else ""
        version = 1 if extension else 0
        (self._private / "config").write_text(
            f"[core]\n\trepositoryformatversion = {version}\n\tbare = false\n{extension}", encoding="ascii"
        )
        return object_format

    @property
    def empty_tree(self) -> str:
        return EMPTY_TREES[self.object_format]

    @property
    def shallow(self) -> bool:
        return (self._private / "shallow").exists()

    def run(
        self, *args: str, stdin: bytes | None = None, ok: Sequence[int] = (0,), work_tree: bool = False
    ) -> bytes:
        """stdout of one git command. Raises GitError for exit codes not in `ok`, and past the bounds."""
        from git import Git
        from git.exc import GitCommandError, GitCommandNotFound

        argv = ["git", "--no-pager", "--git-dir", str(self._private)]
        if work_tree:
            argv += ["--work-tree", str(self.root)]
        argv += ["-c", "core.quotePath=true", "-c", "core.fsmonitor=false", "-c", "diff.renameLimit=2000"]
        argv += args
        runner = Git(str(self.root if work_tree else self._private))
        try:
            with _stdin(stdin) as source, _clean_environment():
                code, out, err = runner.execute(
                    argv,
                    istream=source,
                    with_extended_output=True,
                    with_exceptions=False,
                    stdout_as_string=False,
                    strip_newline_in_stdout=False,
                    kill_after_timeout=_TIMEOUT,
                    env=_environment(),
                )
        except GitCommandNotFound as exc:
            raise GitError("git_missing") from exc
        except GitCommandError as exc:
            raise GitError("git_failed", command=args[0], detail=str(exc.stderr)[:300]) from exc
        if code not in ok:
            detail = _first_line(err)
            raise GitError("git_failed", command=args[0], detail=detail)
        if len(out) > _MAX_OUTPUT:
            raise GitError("git_too_much_output", command=args[0])
        return out

    def resolve(self, ref: str) -> str:
        """Commit id of a ref, as the user wrote it. Raises GitError("ref_unknown")."""
        try:
            out = self.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        except GitError as exc:
            raise GitError("ref_unknown_shallow" if self.shallow else "ref_unknown", ref=ref) from exc
        return out.decode().strip().splitlines()[-1]

    def head(self) -> str | None:
        """Commit id of HEAD; None on an unborn branch."""
        try:
            return self.resolve("HEAD")
        except GitError:
            return None

    def parents(self, commit: str) -> list[str]:
        return self.run("rev-list", "--parents", "-n", "1", commit, "--").decode().split()[1:]

    def merge_base(self, a: str, b: str) -> str:
        out = self.run("merge-base", a, b, ok=(0, 1)).decode().split()
        if not out:
            raise GitError("no_merge_base_shallow" if self.shallow else "no_merge_base", a=a[:12], b=b[:12])
        return out[0]

    def diff(self, *between: str, cached: bool = False, work_tree: bool = False) -> bytes:
        """Unified diff with three lines of context; `between` are commit or tree ids of ours, never names."""
        options = [
            "-p", "-M", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "-U3",
            "--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=dirty", "--submodule=short",
        ]  # fmt: skip
        if cached:
            options.append("--cached")
        return self.run("diff", *options, *between, "--", work_tree=work_tree)

    def listed(self) -> list[TreeEntry]:
        """Tracked files (unmerged ones once) and untracked ones that are not ignored (mode '')."""
        entries: dict[str, TreeEntry] = {}
        for row in _split(self.run("ls-files", "-z", "--stage", work_tree=True)):
            meta, _, name = row.partition(b"\t")
            mode, blob, _stage = meta.decode().split(" ")
            path = os.fsdecode(name)
            entries.setdefault(path, TreeEntry(mode, path, blob))
        for name in _split(self.run("ls-files", "-z", "--others", "--exclude-standard", work_tree=True)):
            path = os.fsdecode(name)
            entries.setdefault(path, TreeEntry("", path))
        return sorted(entries.values(), key=lambda entry: os.fsencode(entry.path))

    def untracked(self) -> list[str]:
        return [
            os.fsdecode(name)
            for name in _split(self.run("ls-files", "-z", "--others", "--exclude-standard", work_tree=True))
        ]

    def blobs(self, ids: Iterable[str], max_size: int) -> dict[str, bytes | None]:
        """Contents by blob id; None for one over `max_size` bytes. Missing ids are left out."""
        wanted = sorted({blob for blob in ids if re.fullmatch(r"[0-9a-f]{40,64}", blob)})
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
        out = self.run("ls-tree", "-z", "--full-tree", commit, "--", path)
        for row in _split(out):
            meta, _, name = row.partition(b"\t")
            mode, kind, blob = meta.decode().split(" ")
            if kind == "blob" and mode != "120000" and os.fsdecode(name) == path:
                return self.blobs([blob], max_size).get(blob)
        return None

    def churn(self, limit: int = 500) -> Mapping[str, int]:
        """How many of the last `limit` commits touched each path."""
        counts: dict[str, int] = {}
        if self.head() is None:
            return counts
        out = self.run("log", f"-{limit}", "--no-renames", "--format=", "--name-only", "-z", "HEAD", "--")
        for name in _split(out.replace(b"\n", b"\0")):
            path = os.fsdecode(name)
            counts[path] = counts.get(path, 0) + 1
        return counts


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


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else ""


def _read_small(path: Path) -> str:
    try:
        return path.read_bytes()[:65536].decode(errors="replace")
    except OSError:
        return ""


def _links(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if os.path.islink(os.path.join(folder, name))]


def _environment() -> dict[str, str]:
    return {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "LC_ALL": "C",
        "LANGUAGE": "C",
    }


@contextmanager
def _clean_environment() -> Iterator[None]:
    """GitPython adds its `env` to the process's own, so the user's GIT_* must be out of the way meanwhile."""
    saved = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("GIT_")}
    try:
        yield
    finally:
        os.environ.update(saved)


@contextmanager
def _stdin(data: bytes | None) -> Iterator[BinaryIO]:
    if data is None:
        with open(os.devnull, "rb") as source:
            yield source
        return
    with tempfile.TemporaryFile() as source:
        source.write(data)
        source.seek(0)
        yield source
