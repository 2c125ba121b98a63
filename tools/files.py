"""The one gate of every reader of files: nothing outside the root, nothing but regular files, no hang.

A path is walked component by component from a descriptor of the root, never following a link in the kernel;
links are read and resolved here, so that one that stays inside works and one that leaves is refused. What was
checked is what is opened: a directory swapped for a link in between changes nothing for a descriptor.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from review_agent.agent.errors import FileRefused

MAX_FILE_SIZE = 10 * 1024 * 1024
_MAX_LINKS = 40
_MAX_DEPTH = 100  # one descriptor each; macOS gives a process 256
_MAX_PATH = 4096

# Characters HFS+ ignores in names: ".g\u200cit" is ".git" there (CVE-2014-9390). On NTFS, so is "git~1".
_IGNORED_BY_HFS = dict.fromkeys(
    [*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF], None
)
_KEYS = {
    errno.ENOENT: "not_found",
    errno.ENOTDIR: "not_found",
    errno.ENAMETOOLONG: "not_found",
    errno.ELOOP: "symlink",
    errno.ENXIO: "not_regular",  # a socket
}


Names = list[str]  # `FileGate.list` hides the builtin inside the class


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a path leads: to an open directory, or to `name` in it (with its lstat).

    `where` are the components below `root`, links resolved.
    """

    root: str
    where: tuple[str, ...]
    directory: int
    name: str = ""
    status: os.stat_result | None = None

    @property
    def is_root(self) -> bool:
        return not self.where


class FileGate:
    """Reads below `root`, as far as `allowed_directories` allow. There is no way to write.

    No `allowed_directories` = all of `root`. Else files must lie in one of them: those inside `root`
    (relative ones belong to it) narrow it, one that holds `root` allows all of it and nothing more, and
    others can be read by absolute path. Directories on the way to an allowed one can be listed.

    A link given as `root` itself is resolved once, here. `before_open` is called with the path right before
    a file is opened: the moment at which a test swaps it.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_file_size: int = MAX_FILE_SIZE,
        allowed_directories: Sequence[Path] = (),
        before_open: Callable[[str], None] | None = None,
    ) -> None:
        self._roots = _Roots(root, allowed_directories)
        self._max = max_file_size
        self._before_open = before_open

    def read(self, path: str, *, links: bool = True) -> bytes:
        """The whole file, or FileRefused with the reason as its key. Without `links` none is followed."""
        with self._find(path, links=links) as found:
            if found.status is None:
                raise FileRefused("not_regular", path=path)
            self._check_regular(found.status, path)
            if self._before_open:
                self._before_open(path)
            # O_NONBLOCK: a pipe put here since the check must not make us wait for its writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(found.name, flags, dir_fd=found.directory), "rb") as file:
                self._check_regular(os.fstat(file.fileno()), path)
                data = file.read(self._max + 1)
        if len(data) > self._max:  # grew since
            raise FileRefused("too_large", path=path, size=len(data), limit=self._max)
        return data

    def check(self, path: str) -> None:
        """Raise FileRefused unless another program may be handed `path`.

        It may be a regular file within the limit, a directory all of which may be read, or nothing yet,
        judged by its parts then.
        """
        try:
            with self._find(path) as found:
                if found.status is not None:
                    self._check_regular(found.status, path)
                elif not self._roots.covers(found.root, found.where):  # only on the way to one
                    raise FileRefused("outside", path=path)
        except FileRefused as exc:
            if exc.key != "not_found":
                raise
            self._check_absent(path)

    def _check_absent(self, path: str) -> None:
        _, parts = self._roots.locate(path, path)
        depth = 0
        for part in parts:
            depth += -1 if part == ".." else 1
            if depth < 0:
                raise FileRefused("outside", path=path)
            if _is_git(part):
                raise FileRefused("git_internal", path=path)
        root, parts = self._roots.locate(os.path.normpath(path), path)
        if not self._roots.covers(root, tuple(parts)):
            raise FileRefused("outside", path=path)

    def list(self, path: str = "") -> Names:
        """Names in a directory, sorted; a directory's name ends with "/", and `.git` is left out."""
        with self._find(path) as found:
            names = (name for name in _names(found, path) if not _is_git(name))
            return [name for name in names if self._allows(found, name)]

    def covers(self, path: str) -> bool:
        """Whether a path below `root`, "/" between its parts and no links, is in an allowed directory."""
        return self._roots.covers(self._roots.home, tuple(_parts(path)))

    def _allows(self, found: _Found, name: str) -> bool:
        inside = (*found.where, name.removesuffix("/"))
        return self._roots.covers(found.root, inside, on_the_way=name.endswith("/"))

    def walk(self) -> Iterator[str]:
        """Every path below the root, in git's order. No link is followed; `.git` is not entered.

        Links and special files are given too, so that the caller can list them as skipped. A directory comes
        only when it is not entered: a nested repository, or one that cannot be opened, with "/" at its end.
        """
        pending = [""]
        while pending:
            path = pending.pop()
            if path and not path.endswith("/"):
                yield path
                continue
            try:
                with self._find(path, follow_last=False) as found:
                    names = _names(found, path)
            except FileRefused:
                if not path:
                    raise
                yield path
                continue
            inside = [path + name for name in reversed(names) if not _is_git(name)]
            if path and len(inside) < len(names):
                yield path
            else:
                pending.extend(inside)

    def git_mode(self, path: str) -> str:
        """The mode git would note for what stands there, link or not.

        "160000" is a nested repository, "040000" a directory, "" what git does not store (a pipe, a device).
        """
        with self._find(path, follow_last=False) as found:
            if found.status is None:
                nested = not found.is_root and any(_is_git(name) for name in _names(found, path))
                return "160000" if nested else "040000"
        mode = found.status.st_mode
        if stat.S_ISLNK(mode):
            return "120000"
        if stat.S_ISREG(mode):
            return "100755" if mode & stat.S_IXUSR else "100644"
        return ""

    def _check_regular(self, status: os.stat_result, path: str) -> None:
        mode = status.st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise FileRefused("device", path=path)
        if not stat.S_ISREG(mode):
            raise FileRefused("not_regular", path=path)
        if status.st_size > self._max:
            raise FileRefused("too_large", path=path, size=status.st_size, limit=self._max)

    @contextmanager
    def _find(self, path: str, *, follow_last: bool = True, links: bool = True) -> Iterator[_Found]:
        """Follow `path`; descriptors stay open for the block. System errors come out as FileRefused."""
        descent = _Descent(self._roots, path, links=links)
        try:
            found = descent.to_end(follow_last=follow_last)
            if not self._roots.covers(found.root, found.where, on_the_way=found.status is None):
                raise FileRefused("outside", path=path)
            yield found
        except OSError as exc:
            raise FileRefused(_KEYS.get(exc.errno or 0, "not_readable"), path=path) from exc
        finally:
            descent.close()


class _Roots:
    """The directories that may be read; `home` is the one relative paths belong to."""

    def __init__(self, root: Path, allowed: Sequence[Path]) -> None:
        self.home = os.path.realpath(root)
        # Per directory that is opened, the parts of it that may be read; () = all of it.
        self._parts: dict[str, list[tuple[str, ...]]] = {self.home: [] if allowed else [()]}
        # Absolute paths come under the real name and under the one the user gave.
        self._spellings = _spellings(root)
        for given in allowed:
            directory = Path(os.path.realpath(Path(self.home) / given))
            if Path(self.home).is_relative_to(directory):
                self._parts[self.home].append(())
            elif directory.is_relative_to(self.home):
                self._parts[self.home].append(directory.relative_to(self.home).parts)
            else:
                self._parts.setdefault(str(directory), [()])
                self._spellings += _spellings(Path(self.home) / given)

    def covers(self, root: str, where: tuple[str, ...], *, on_the_way: bool = False) -> bool:
        """Whether components below `root` lie in a part that may be read, or lead to one."""
        return any(
            where[: len(part)] == part or (on_the_way and part[: len(where)] == where)
            for part in self._parts[root]
        )

    def locate(self, path: str, asked: str) -> tuple[str, Names]:
        """The root a path belongs to, and its components below it, with ".." still in them."""
        try:
            raw = os.fsencode(path)
        except UnicodeEncodeError as exc:  # a lone surrogate: no file can have that name
            raise FileRefused("not_found", path=asked) from exc
        if b"\0" in raw:
            raise FileRefused("not_found", path=asked)
        if len(raw) > _MAX_PATH:
            raise FileRefused("too_deep", path=asked)
        parts = _parts(path)
        if not path.startswith("/"):
            return self.home, parts
        for prefix, root in self._spellings:
            if parts[: len(prefix)] == prefix:
                return root, parts[len(prefix) :]
        raise FileRefused("outside", path=asked)


class _Descent:
    """One way down from a root. `_trail` holds the open directories from the root to here.

    ".." takes the last one off: the file system is never asked for it, since a directory may have moved.
    """

    def __init__(self, roots: _Roots, path: str, *, links: bool = True) -> None:
        self._roots = roots
        self._may_follow = links
        self._path = path
        self._root, parts = roots.locate(path, path)
        self._parts = parts[::-1]  # the next one last
        self._links = 0
        self._trail: list[int] = []
        self._where: list[str] = []

    def to_end(self, *, follow_last: bool) -> _Found:
        self._enter(self._root, None)
        while self._parts:
            part = self._parts.pop()
            if part == "..":
                self._leave()
                continue
            if _is_git(part):
                raise FileRefused("git_internal", path=self._path)
            here = self._trail[-1]
            status = os.stat(part, dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode) and (self._parts or follow_last):
                self._follow(os.readlink(part, dir_fd=here))
            elif stat.S_ISDIR(status.st_mode):
                self._enter(part, here)
            elif self._parts:  # a file used as a directory
                raise FileRefused("not_found", path=self._path)
            else:
                return _Found(self._root, (*self._where, part), here, part, status)
        return _Found(self._root, tuple(self._where), self._trail[-1])

    def close(self) -> None:
        while self._trail:
            os.close(self._trail.pop())

    def _enter(self, name: str, parent: int | None) -> None:
        if len(self._trail) > _MAX_DEPTH:
            raise FileRefused("too_deep", path=self._path)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._trail.append(os.open(name, flags, dir_fd=parent))
        if parent is not None:
            self._where.append(name)

    def _leave(self) -> None:
        os.close(self._trail.pop())
        if not self._trail:
            raise FileRefused("outside", path=self._path)
        self._where.pop()

    def _follow(self, target: str) -> None:
        if not self._may_follow:
            raise FileRefused("symlink", path=self._path)
        self._links += 1
        if self._links > _MAX_LINKS:
            raise FileRefused("loop", path=self._path)
        if not target.startswith("/"):
            self._parts.extend(reversed(_parts(target)))
            return
        root, parts = self._roots.locate(target, self._path)
        if root != self._root:  # a link of the repository must not lead to another directory the user allowed
            raise FileRefused("outside", path=self._path)
        while len(self._trail) > 1:
            self._leave()
        self._parts.extend(reversed(parts))


def _spellings(root: Path) -> list[tuple[Names, str]]:
    real = os.path.realpath(root)
    return [(_parts(spelling), real) for spelling in (real, os.path.abspath(root))]


def check_write_target(path: Path, *, root: Path) -> None:
    """Refuse a place for our own output that the reviewed repository could have prepared.

    Inside `root` no part may be a link and none may be `.git`; what exists must be a regular file. Outside,
    links are the user's own (`/tmp` on macOS, `/dev/stdout`).
    """
    if "\0" in str(path):
        raise FileRefused("not_found", path=str(path))
    home = Path(os.path.realpath(root))
    parts = path.absolute().parts
    place = Path(parts[0])
    for part in parts[1:]:
        if part == "..":
            place = place.parent
            continue
        step = place / part
        if place.is_relative_to(home):
            if _is_git(part):
                raise FileRefused("git_internal", path=str(path))
            if os.path.islink(step):
                raise FileRefused("symlink", path=str(path))
        place = Path(os.path.realpath(step))
    if place.is_relative_to(home) and os.path.lexists(place) and not os.path.isfile(place):
        raise FileRefused("not_regular", path=str(path))


def _names(found: _Found, path: str) -> Names:
    """Names in an open directory, in git's order: a directory sorts as if its name ended with "/"."""
    if found.status is not None:
        raise FileRefused("not_directory", path=path)
    with os.scandir(found.directory) as entries:
        names = [entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries]
    return sorted(names, key=os.fsencode)


def _parts(path: str) -> Names:
    return [part for part in path.split("/") if part not in ("", ".")]


def _is_git(name: str) -> bool:
    """Whether some file system takes this name, with or without a "/" at its end, for `.git`."""
    return name.rstrip("/").translate(_IGNORED_BY_HFS).rstrip(" .").casefold() in (".git", "git~1")
