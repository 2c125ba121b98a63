"""`allowed_directories` hold for every target: what is outside of them is neither read nor reviewed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from gitrepo import Repo
from selecting import LIMIT, files, reasons

from review_agent.agent.errors import TargetError
from review_agent.agent.target import Selection, make_target, select

TARGETS: dict[str, dict[str, object]] = {
    "tree": {},
    "working": {"working": True},
    "staged": {"staged": True},
    "commit": {"commit": "HEAD"},
    "range": {"base": "HEAD~1", "head": "HEAD"},
}


def choose(root: Path, allowed: tuple[str, ...], **options: object) -> Selection:
    target = replace(make_target(root, **options), allowed=allowed)  # type: ignore[arg-type]
    return select(target, max_file_size=LIMIT)[0]


def fill(repo: Repo) -> None:
    repo.commit({"README.md": "1\n", "src/a.py": "1\n", "docs/b.md": "1\n"})
    for text, staged in (("2\n", True), ("3\n", True), ("4\n", False)):
        for name in ("README.md", "src/a.py", "docs/b.md"):
            repo.write(name, text)
        if staged:
            repo.git("add", "-A")
        if text == "2\n":
            repo.git("commit", "-qm", "second")


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize(
    ("allowed", "reviewed"),
    [
        ((), ["README.md", "docs/b.md", "src/a.py"]),
        (("..",), ["README.md", "docs/b.md", "src/a.py"]),
        (("src",), ["src/a.py"]),
        (("src", "{root}/docs", "/none"), ["docs/b.md", "src/a.py"]),
    ],
)
def test_only_allowed_files_are_reviewed(
    repo: Repo, kind: str, allowed: tuple[str, ...], reviewed: list[str]
) -> None:
    fill(repo)
    given = tuple(entry.replace("{root}", str(repo.path)) for entry in allowed)
    selection = choose(repo.path, given, **TARGETS[kind])
    assert sorted(files(selection)) == reviewed
    others = {"README.md", "docs/b.md", "src/a.py"} - set(reviewed)
    assert reasons(selection) == dict.fromkeys(others, "outside")


def test_a_diff_file_too(repo: Repo, tmp_path: Path) -> None:
    fill(repo)
    diff = tmp_path / "x.diff"
    diff.write_bytes(repo.diff("HEAD"))
    selection = choose(repo.path, ("src",), diff_file=str(diff))
    assert sorted(files(selection)) == ["src/a.py"]
    assert reasons(selection) == {"README.md": "outside", "docs/b.md": "outside"}


def test_a_plain_folder_too(tmp_path: Path) -> None:
    for name in ("README.md", "src/a.py", "docs/b.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\n")
    selection = choose(tmp_path, ("src",))
    assert sorted(files(selection)) == ["src/a.py"]
    assert reasons(selection) == {"README.md": "outside", "docs/": "outside"}


@pytest.mark.parametrize("kind", TARGETS)
def test_a_repository_in_none_of_them_is_not_reviewed(repo: Repo, kind: str) -> None:
    fill(repo)
    with pytest.raises(TargetError, match="root_not_allowed"):
        choose(repo.path, ("/none", str(repo.path) + "-evil"), **TARGETS[kind])
