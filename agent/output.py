"""Where rendered reports go: stdout for the result, files written whole or not at all."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from review_agent.agent.errors import UsageError
from review_agent.agent.models import Report
from review_agent.agent.reports import render

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
    """Write every report; returns the files written."""
    written = []
    for fmt, name in outputs:
        if name:
            _write_file(Path(name), render(report, fmt))
            written.append(name)
        else:
            _write_stdout(report, fmt)
    return written


def _write_stdout(report: Report, fmt: str) -> None:
    if fmt in TEXT_FORMATS:
        terminal = sys.stdout.isatty()
        width = min(100, max(60, shutil.get_terminal_size((80, 24)).columns)) if terminal else 80
        color = terminal and "NO_COLOR" not in os.environ
        data = render(report, fmt, width=width, color=color)
        _to_stdout(data.encode(sys.stdout.encoding, sys.stdout.errors or "strict"))
    else:  # formats for machines are UTF-8, whatever the terminal speaks
        _to_stdout(render(report, fmt).encode("utf-8", "backslashreplace"))


def _to_stdout(data: bytes) -> None:
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has enough (`| head`). The exit code says how the review went: nothing may fail later.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_file(path: Path, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    try:
        if _is_stream(path):
            path.write_bytes(data)
            return
        # A symbolic link is replaced, not followed: the reviewed tree may hold one that points anywhere.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".review-agent-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(name, 0o666 & ~umask)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
            raise
    except OSError as exc:
        raise UsageError("output_unwritable", path=str(path)) from exc
