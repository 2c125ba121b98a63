"""Git directories: where a repository keeps its own, and the private copy that we let git work with.

The copy borrows the repository's objects (`objects/info/alternates`) and holds its refs and index. It has
nothing that git would obey: no configuration, hook, filter, alias or fsmonitor. Nothing of the repository is
written.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from review_agent.agent.errors import GitError
from review_agent.tools.git_location import Location, read_start

_OF_REPOSITORY = ("packed-refs", "shallow")
_OF_WORKTREE = ("HEAD", "index", "ORIG_HEAD", "FETCH_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD")
# `*.py -diff` in a repository's own .gitattributes would make git call its code binary; this outranks it.
_ATTRIBUTES = "* !diff\n"
_OBJECT_FORMAT = re.compile(r"^\s*objectformat\s*=\s*(sha1|sha256)\s*$", re.I | re.M)
_MAX_COPY = 1024 * 1024 * 1024  # bytes of one file; an index of a million files has a tenth
_REF_FORMAT = re.compile(r"^\s*refstorage\s*=\s*reftable\s*$", re.I | re.M)


def shadow(location: Location, private: Path) -> str:
    """Fill `private`, an empty folder; returns the object format. Raises OSError; GitError for reftable."""
    git_dir, common = location.git_dir, location.common
    config = read_start(common / "config")
    if _REF_FORMAT.search(config):
        raise GitError("git_reftable", path=str(location.root))
    found = _OBJECT_FORMAT.search(config)
    object_format = found.group(1).lower() if found else "sha1"
    _copy_refs(git_dir, common, private)
    _copy_all(git_dir, (*_OF_WORKTREE, *_shared_indexes(git_dir)), private)
    _borrow_objects(common, private)
    (private / "info").mkdir()
    (private / "info" / "attributes").write_text(_ATTRIBUTES, encoding="ascii")
    _copy_all(common / "info", ("exclude",), private / "info")
    _copy_ignored(private)
    version, extension = (
        (1, "[extensions]\n\tobjectformat = sha256\n") if object_format == "sha256" else (0, "")
    )
    (private / "config").write_text(
        f"[core]\n\trepositoryformatversion = {version}\n\tbare = false\n{extension}", encoding="ascii"
    )
    return object_format


def _copy_refs(git_dir: Path, common: Path, private: Path) -> None:
    refs = private / "refs"
    refs.mkdir()
    for source in dict.fromkeys((common / "refs", git_dir / "refs")):
        if source.is_dir():
            shutil.copytree(
                source, refs, dirs_exist_ok=True, ignore=_unwanted, symlinks=True, copy_function=_copy
            )
    # After the loose refs: `git pack-refs` in between moves them from there to here.
    _copy_all(common, _OF_REPOSITORY, private)


def _borrow_objects(common: Path, private: Path) -> None:
    folder = private / "objects" / "info"
    folder.mkdir(parents=True)
    path = os.fsencode(os.path.abspath(common / "objects"))
    quoted = path.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    (folder / "alternates").write_bytes(b'"' + quoted + b'"\n')


def _unwanted(folder: str, names: list[str]) -> list[str]:
    """Links, and the locks of a git that is at work beside us."""
    return [name for name in names if name.endswith(".lock") or os.path.islink(os.path.join(folder, name))]


def _copy(source: str | Path, target: str | Path) -> None:
    """With its time: git compares that of the index with those of the files in it, to know which to read.

    A file that is gone by now is passed over: refs come and go while git works beside us.
    """
    with suppress(FileNotFoundError):
        if os.path.getsize(source) > _MAX_COPY:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        shutil.copy2(source, target)


def _copy_all(folder: Path, names: Iterable[str], target: Path) -> None:
    for name in names:
        if (folder / name).is_file():
            _copy(folder / name, target / name)


def _copy_ignored(private: Path) -> None:
    """What the user never wants to see in any repository; git looks for it in the home that it is given."""
    settings = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    folder = private / ".config" / "git"
    folder.mkdir(parents=True)
    _copy_all(Path(settings) / "git", ("ignore",), folder)


def _shared_indexes(git_dir: Path) -> list[str]:
    """The other halves of a split index."""
    return [path.name for path in git_dir.glob("sharedindex.*")]
