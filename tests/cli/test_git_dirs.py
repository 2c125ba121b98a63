"""Git directories that lie elsewhere, as a user of the installed command meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from driver import Cli
from gitrepo import Repo, make_repo


@pytest.fixture
def apart(tmp_path: Path) -> Repo:
    repo = make_repo(tmp_path / "work", f"--separate-git-dir={tmp_path / 'apart.git'}")
    repo.commit({"a.py": "a = 1\n"})
    repo.write("a.py", "a = 2\n")
    return repo


def allow(cli: Cli, folder: Path) -> None:
    file = cli.home / "config" / "review-agent" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f'allowed_directories = [".", {json.dumps(str(folder))}]\n')


COMMANDS = [
    ["run", "--preview"],
    ["run", "--preview", "--working"],
    ["run", "--preview", "--commit", "HEAD"],
    ["run", "--preview", "{repo}", "--staged"],
    ["config", "show"],
    ["resume"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_it_is_refused_until_the_user_allows_it(cli: Cli, apart: Repo, command: list[str]) -> None:
    argv = [word.format(repo=apart.path) for word in command]
    done = cli.run(*argv, cwd=apart.path)
    where = str(apart.path.parent / "apart.git")
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b"")
    assert f'`allowed_directories = [".", "{where}"]`' in said
    allow(cli, Path(where))
    done = cli.run(*argv, cwd=apart.path)
    # There is no run to resume, and that is what it says then.
    assert done.returncode == (1 if command == ["resume"] else 0), done.stderr.decode()
    assert "allowed_directories" not in done.stderr.decode()


def test_the_repository_cannot_allow_it_itself(cli: Cli, apart: Repo) -> None:
    apart.write(".review-agent.toml", f'allowed_directories = ["{apart.path.parent}"]\n')
    apart.git("add", "-A")
    done = cli.run("run", apart.path, "--preview")
    assert done.returncode == 2
    assert "apart.git" in done.stderr.decode()
