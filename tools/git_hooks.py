"""A repository's hooks: where git looks for them, and putting ours there and away again.

Here alone git is asked with the user's own configuration, because that says where hooks are. It is only asked
for paths, which runs nothing.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from review_agent.agent.errors import GitError, UsageError
from review_agent.tools.git_process import Bounds, Program, execute
from review_agent.tools.programs import find_program, trusted_folders

NAME = "pre-push"
KEPT = "pre-push.before-review-agent"
MARK = "# review-agent-hook 1 sha256:"
_MODE = 0o755
_MAX_HOOK = 64 * 1024  # bytes; ours has two thousand
_BOUNDS = Bounds(seconds=10.0, output=64 * 1024)
# What decides where git finds a repository and its configuration. No more: an environment holds secrets, and
# what a program is started with can be seen by others.
_OF_THE_USER = (
    "HOME", "XDG_CONFIG_HOME", "GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_CEILING_DIRECTORIES",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM",
)  # fmt: skip
_OURS = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "LANGUAGE": "C"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a repository's hooks are. `top` is the root of its work tree, None in a bare one.

    `husky`: git runs husky's own file, which runs the one in `folder` by `sh -e`, executable or not.
    """

    folder: Path
    common: Path
    top: Path | None
    husky: bool = False

    @property
    def hook(self) -> Path:
        return self.folder / NAME

    @property
    def kept(self) -> Path:
        return self.folder / KEPT

    @property
    def in_tree(self) -> bool:
        """Whether the hooks are files of the work tree, which git tracks or lists."""
        top = self.top
        return top is not None and _is_in(self.folder, top) and not _is_in(self.folder, self.common)

    @property
    def shared(self) -> bool:
        """Whether they are neither in the git directory nor in the tree: other repositories use them, too."""
        return not self.in_tree and not _is_in(self.folder, self.common)


class State(StrEnum):
    ABSENT = "absent"
    OURS = "ours"
    EDITED = "edited"  # ours, and changed by someone since
    FOREIGN = "foreign"


class Done(StrEnum):
    INSTALLED = "installed"
    RENEWED = "renewed"
    CURRENT = "current"
    REMOVED = "removed"
    RESTORED = "restored"
    NONE = "none"
    NOT_OURS = "not_ours"


def place_of(path: Path, environ: Mapping[str, str]) -> Place:
    """Where git looks for the hooks of the repository at `path`. Raises GitError outside any."""
    folder = path.resolve()
    program = _program(folder, environ)
    stated = _ask(program, folder, "--git-path", f"hooks/{NAME}").removesuffix(f"/{NAME}")
    hooks = folder / stated
    if not stated or (os.path.lexists(hooks) and not hooks.is_dir()):  # '' and /dev/null turn hooks off
        raise UsageError("hook.no_folder", path=stated)
    common = (folder / _ask(program, folder, "--git-common-dir")).resolve()
    bare = _ask(program, folder, "--is-inside-work-tree") != "true"
    top = None if bare else Path(_ask(program, folder, "--show-toplevel")).resolve()
    hooks = Path(os.path.normpath(hooks))
    husky = hooks.name == "_" and hooks.parent.name == ".husky"
    return Place(hooks.parent if husky else hooks, common, top, husky)


def _program(folder: Path, environ: Mapping[str, str]) -> Program:
    """git with what of the user's environment leads to repository and configuration."""
    above = (each for each in (folder, *folder.parents) if os.path.lexists(each / ".git"))
    reviewed = next(above, folder)
    folders = trusted_folders(environ.get("PATH", os.defpath), reviewed)
    git, env = (find_program(name, folders, reviewed) for name in ("git", "env"))
    if git is None or env is None or "=" in git:
        raise GitError("git_missing")
    variables = {"PATH": os.pathsep.join(folders)}
    variables |= {name: environ[name] for name in _OF_THE_USER if name in environ} | _OURS
    return Program(git, env, tuple(f"{name}={value}" for name, value in variables.items()))


def _ask(program: Program, folder: Path, *question: str) -> str:
    code, out, err = execute(program, ["rev-parse", *question], folder, None, _BOUNDS, "rev-parse")
    if code and "not a git repository" in err:
        raise GitError("hook.no_repository", path=str(folder))
    if code:
        raise GitError("git_failed", command="rev-parse", detail=err.strip()[:300])
    return os.fsdecode(out.removesuffix(b"\n"))


def signed(script: bytes) -> bytes:
    """A script with the digest of all the rest in its second line, by which changes are seen."""
    first, _, rest = script.partition(b"\n")
    digest = hashlib.sha256(first + b"\n" + rest).hexdigest()
    return first + b"\n" + MARK.encode() + digest.encode() + b"\n" + rest


def state_of(hook: Path) -> State:
    """What stands at a hook's place. Raises UsageError where it cannot be read."""
    try:
        mode = os.lstat(hook).st_mode
    except FileNotFoundError:
        return State.ABSENT
    except OSError as exc:
        raise _unusable(hook, exc) from exc
    if stat.S_ISLNK(mode):
        return State.FOREIGN
    if not stat.S_ISREG(mode):
        raise UsageError("hook.no_file", path=str(hook))
    try:
        with hook.open("rb") as file:
            data = file.read(_MAX_HOOK)
    except OSError as exc:
        raise _unusable(hook, exc) from exc
    first, _, rest = data.partition(b"\n")
    mark, _, body = rest.partition(b"\n")
    if data == signed(first + b"\n" + body):
        return State.OURS
    return State.EDITED if MARK.encode() in data or mark.startswith(MARK.encode()) else State.FOREIGN


def install(place: Place, script: bytes) -> Done:
    """Put our hook in its place; another's is kept beside it. The same again changes nothing."""
    state = state_of(place.hook)
    if state is State.EDITED:
        raise UsageError("hook.edited", path=str(place.hook))
    if state is State.FOREIGN and os.path.lexists(place.kept):
        raise UsageError("hook.two_foreign", path=str(place.hook), kept=str(place.kept))
    try:
        if state is State.OURS and _same(place.hook, script):
            return Done.CURRENT
        place.folder.mkdir(parents=True, exist_ok=True)
        _put(place, script, foreign=state is State.FOREIGN)
    except OSError as exc:
        raise _unusable(place.hook, exc) from exc
    return Done.RENEWED if state is State.OURS else Done.INSTALLED


def _same(hook: Path, script: bytes) -> bool:
    return hook.read_bytes() == script and stat.S_IMODE(hook.stat().st_mode) == _MODE


def _put(place: Place, script: bytes, *, foreign: bool) -> None:
    handle, name = tempfile.mkstemp(dir=place.folder, prefix=".review-agent-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(script)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, _MODE)
        if foreign:
            os.rename(place.hook, place.kept)
        try:
            os.replace(name, place.hook)
        except OSError:
            if foreign:
                os.rename(place.kept, place.hook)
            raise
    except OSError:
        os.unlink(name)
        raise


def uninstall(place: Place) -> Done:
    """Take our hook away; what stood there before comes back as it was."""
    state = state_of(place.hook)
    if state is State.EDITED:
        raise UsageError("hook.edited", path=str(place.hook))
    if state is State.FOREIGN:
        return Done.NOT_OURS
    try:
        if os.path.lexists(place.kept):  # ours may have been deleted by hand
            os.replace(place.kept, place.hook)
            return Done.RESTORED
        if state is State.ABSENT:
            return Done.NONE
        os.unlink(place.hook)
    except OSError as exc:
        raise _unusable(place.hook, exc) from exc
    return Done.REMOVED


def _unusable(path: Path, exc: OSError) -> UsageError:
    return UsageError("hook.unusable", path=str(path), detail=exc.strerror or "")


def _is_in(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
