"""What targets select, in the short form that tests compare."""

from __future__ import annotations

from pathlib import Path

import pytest
from gitrepo import Repo

from review_agent.agent.errors import TargetError
from review_agent.agent.models import FileStatus, SourceFile
from review_agent.agent.target import Selection, make_target, select

LIMIT = 10_000


def choose(root: Path | Repo, **options: object) -> Selection:
    selection, _ = select(make_target(getattr(root, "path", root), **options), max_file_size=LIMIT)
    paths = [*(file.path for file in selection.files), *(result.path for result in selection.skipped)]
    assert len(paths) == len(set(paths)), "a path has two states"
    return selection


def files(selection: Selection) -> dict[str, SourceFile]:
    return {file.path: file for file in selection.files}


def changed(selection: Selection) -> dict[str, list[int] | None]:
    """Path → numbers of the lines under review, None for all."""
    return {file.path: None if file.changed is None else sorted(file.changed) for file in selection.files}


def reasons(selection: Selection) -> dict[str, str]:
    """Path → reason; a failed one stands with a `!`."""
    return {
        result.path: ("!" if result.status is FileStatus.FAILED else "") + result.reason
        for result in selection.skipped
    }


def one(selection: Selection) -> SourceFile:
    (file,) = selection.files
    return file


def refusal(root: Path | Repo, **options: object) -> str:
    with pytest.raises(TargetError) as caught:
        choose(root, **options)
    return caught.value.key
