"""Where rendered reports go: stdout for the result, files written whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from review_agent.agent.errors import UsageError
from review_agent.agent.models import Report
from review_agent.agent.reports import render
from review_agent.checkpoints.faultpoint import faultpoint

TEXT_FORMATS = frozenset({"terminal", "markdown"})


def check_outputs(outputs: list[tuple[str, str]]) -> None:
    """Refuse a file that cannot be written before hours are spent on its content."""
    for _, name in outputs:
        if name and not _writable(Path(name)):
            raise UsageError("output_unwritable", path=name)


def _writable(path: Path) -> bool:
    if _is_stream(path):
        return os.access(path, os.W_OK)
    return path.parent.is_dir() and os.access(path.parent, os.W_OK) and not path.is_dir()


def _is_stream(path: Path) -> bool:
    """A device or pipe (`/dev/null`, `>(command)`): written to, never replaced by a file."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_outputs(report: Report, outputs: list[tuple[str, str]]) -> list[str]:
    """Write every report, files first; returns the files written."""
    files = [(fmt, name) for fmt, name in outputs if name]
    for fmt, name in files:
        _write_file(Path(name), render(report, fmt))
    for fmt, name in outputs:
        if not name:
            _write_stdout(report, fmt)
    return [name for _, name in files]


def print_text(text: str) -> None:
    """To standard output, as far as the terminal can show it."""
    if sys.stdout is not None:
        _to_stdout(text.encode(sys.stdout.encoding, sys.stdout.errors or "strict"))


def print_json(text: str) -> None:
    """To standard output. Formats for machines are UTF-8, whatever the terminal speaks."""
    _to_stdout(text.encode("utf-8", "backslashreplace"))


def _write_stdout(report: Report, fmt: str) -> None:
    if fmt in TEXT_FORMATS and sys.stdout is not None:
        terminal = sys.stdout.isatty()
        width = min(100, max(60, shutil.get_terminal_size((80, 24)).columns)) if terminal else 80
        color = terminal and "NO_COLOR" not in os.environ
        print_text(render(report, fmt, width=width, color=color))
    else:
        print_json(render(report, fmt))


def _to_stdout(data: bytes) -> None:
    if sys.stdout is None:  # closed by the caller (`>&-`), who wants no text
        return
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has enough (`| head`). The exit code says how the review went: nothing may fail later.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as exc:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UsageError("stdout_unwritable", detail=exc.strerror or "") from exc


def _mode(path: Path) -> int:
    """Permissions for a new file: those of the one it replaces, else the user's usual ones."""
    if path.is_file() and not path.is_symlink():
        return stat.S_IMODE(path.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _write_file(path: Path, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    try:
        if _is_stream(path):
            path.write_bytes(data)
            return
        # A symbolic link is replaced, not followed: the reviewed tree may hold one that points anywhere.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".review-agent-")
        try:
            faultpoint("report_begin")
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, _mode(path))
            faultpoint("report_written")
            os.replace(name, path)
            faultpoint("report_replaced")
        except OSError:
            os.unlink(name)
            raise
    except OSError as exc:
        raise UsageError("output_unwritable", path=str(path)) from exc
