"""Which run the next one goes on with, and which not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from driver import Cli, Server

Start = Callable[..., Server]


def status_of(cli: Cli, run: object) -> str:
    shown = cli.run("runs", "show", str(run)).stdout.decode()
    return next(line for line in shown.splitlines() if line.startswith("状态：")).removeprefix("状态：")


def test_one_file_that_always_fails_makes_no_endless_run(cli: Cli, start_server: Start, demo: Path) -> None:
    server = start_server(fault="garbage")
    one = ("run", demo, "--base-url", server.url, "--include", "api/app/auth.py")
    first, second = (cli.json(*one, code=1) for _ in range(2))
    assert status_of(cli, first["run_id"]) == "部分失败"
    assert first["run_id"] != second["run_id"]
    server.configure(fault="")
    done = cli.json("resume", str(first["run_id"]), code=0)  # by its name it can still be gone on with
    assert done["run_id"] == first["run_id"]
    assert status_of(cli, first["run_id"]) == "已完成"


def test_other_directories_are_not_reviewed_on_the_quiet(cli: Cli, start_server: Start, demo: Path) -> None:
    server = start_server()
    narrow = {"REVIEW_AGENT_ALLOWED_DIRECTORIES": "api"}
    first = cli.json("run", demo, "--base-url", server.url, "--max-files", "2", code=4, **narrow)
    before = len(server.requests())
    refused = cli.run("resume", str(first["run_id"]))
    assert refused.returncode == 2
    assert "api" in refused.stderr.decode()
    assert len(server.requests()) == before
    done = cli.json("resume", str(first["run_id"]), **narrow)
    files = done["files"]
    assert isinstance(files, list)
    reviewed = {file["path"] for file in files if file["status"] == "reviewed"}
    assert all(path.startswith("api/") for path in reviewed)
    wide = cli.json("run", demo, "--base-url", server.url)
    assert wide["run_id"] != first["run_id"]


def test_a_run_with_nothing_left_comes_to_its_end(cli: Cli, start_server: Start, tmp_path: Path) -> None:
    server = start_server()
    repo = tmp_path / "repo"
    repo.mkdir()
    git = ["git", "-C", str(repo), "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    for name in ("a.py", "b.py"):
        (repo / name).write_text("x = 1\n")
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "c"]):
        subprocess.run([*git, *args], check=True)
    for name in ("a.py", "b.py"):
        (repo / name).write_text("x = 2\n")
    first = cli.json("run", repo, "--working", "--base-url", server.url, "--max-files", "1", code=4)
    subprocess.run([*git, "checkout", "-q", "."], check=True)
    done = cli.run("resume", cwd=repo)
    assert done.returncode == 0, done.stderr.decode()
    assert status_of(cli, first["run_id"]) == "已完成"
    assert cli.run("resume", cwd=repo).returncode == 1  # there is none to go on with


@pytest.mark.parametrize("kept", [True, False])
def test_a_report_that_cannot_be_written_is_not_lost(
    cli: Cli, start_server: Start, demo: Path, tmp_path: Path, kept: bool
) -> None:
    server = start_server()
    extra = {"REVIEW_AGENT_FAULT": "error:report_begin", "REVIEW_AGENT_CHECKPOINT_ENABLED": str(kept).lower()}
    out = tmp_path / "report.json"
    done = cli.run("run", demo, "--base-url", server.url, "--format", "json", "--output", out, **extra)
    assert done.returncode == 2
    said = done.stderr.decode()
    assert ("review-agent report" in said) == kept
    if kept:
        command = next(line for line in said.splitlines() if "review-agent report" in line)
        run = command.split("review-agent report ")[1].split()[0]
        assert cli.json("report", run)["run_id"] == run
