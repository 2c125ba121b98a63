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
        if name:
            folder = Path(name).resolve().parent
            if not folder.is_dir() or not os.access(folder, os.W_OK) or Path(name).is_dir():
                raise UsageError("output_unwritable", path=name)


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
        sys.stdout.write(render(report, fmt, width=width, color=color))
    else:  # formats for machines are UTF-8, whatever the terminal speaks
        sys.stdout.flush()
        sys.stdout.buffer.write(render(report, fmt).encode("utf-8", "backslashreplace"))
    sys.stdout.flush()


def _write_file(path: Path, text: str) -> None:
    try:
        handle, name = tempfile.mkstemp(dir=path.resolve().parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(text.encode("utf-8", "backslashreplace"))
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path.resolve() if not path.is_symlink() else path)
    except OSError as exc:
        raise UsageError("output_unwritable", path=str(path)) from exc
