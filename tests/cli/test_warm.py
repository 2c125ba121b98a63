"""What is sent a second time: nothing that is known, on this branch or another, under this name or another."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from driver import Cli, Server, steady
from gitrepo import Repo, make_repo

from review_agent.checkpoints.store import Store

Start = Callable[..., Server]
CHECKS = ["syntax/parse-error", "text/conflict-marker"]
NAMES = ("pay", "store", "mail", "auth")


def body(name: str, value: int = 0) -> str:
    rows = [f"def {name}_{at}(order):\n    return order.{name} + {at + value}\n" for at in range(12)]
    return "\n".join(rows)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """`main`, and `feature` that changes each of the files."""
    repo = make_repo(tmp_path / "repo")
    repo.commit({f"src/{name}.py": body(name) for name in NAMES})
    repo.git("checkout", "-q", "-b", "feature")
    repo.commit({f"src/{name}.py": body(name, 7) for name in NAMES})
    return repo


def review(cli: Cli, server: Server, repo: Repo, head: str = "feature", *args: str) -> dict[str, object]:
    return cli.json("run", repo.path, "--from", "main", "--to", head, "--base-url", server.url, *args)


def sent(server: Server, before: int) -> list[str]:
    """Names of the files that stand in the requests after the first `before`."""
    text = "\n".join(server.prompts()[before:])
    return [name for name in NAMES if f"src/{name}.py" in text or f"lib/{name}.py" in text]


def test_a_second_run_asks_nothing_and_says_the_same(cli: Cli, start_server: Start, repo: Repo) -> None:
    server = start_server(review="*")
    first = review(cli, server, repo)
    count = len(server.requests())
    second = review(cli, server, repo)
    assert count == len(server.requests()) > 0
    assert steady(first) == steady(second)
    assert first["findings"] != []


def test_what_is_used_again_is_not_old(cli: Cli, start_server: Start, repo: Repo) -> None:
    server = start_server()
    review(cli, server, repo)
    with sqlite3.connect(store_of(cli)) as db:
        db.execute("UPDATE analyses SET used=1")
        db.execute("UPDATE runs SET updated=1")
    db.close()
    review(cli, server, repo)
    done = cli.run("runs", "prune")
    assert "1 次运行、0 个单元" in done.stdout.decode()


def test_only_the_changed_file_is_sent(cli: Cli, start_server: Start, repo: Repo) -> None:
    server = start_server(review="*")
    review(cli, server, repo)
    count = len(server.requests())
    repo.commit({"src/mail.py": body("mail", 9)})
    review(cli, server, repo)
    assert len(server.requests()) == count + 1
    assert sent(server, count) == ["mail"]


def test_the_same_change_on_another_branch_is_known(cli: Cli, start_server: Start, repo: Repo) -> None:
    server = start_server(review="*")
    review(cli, server, repo)
    count = len(server.requests())
    repo.git("checkout", "-q", "-b", "other", "main")
    repo.commit({"README": "elsewhere\n"})
    repo.commit({f"src/{name}.py": body(name, 7) for name in NAMES})
    review(cli, server, repo, "other", "--exclude", "README")
    assert len(server.requests()) == count


def test_a_renamed_file_is_known(cli: Cli, start_server: Start, repo: Repo) -> None:
    server = start_server(review="*")
    review(cli, server, repo)
    count = len(server.requests())
    (repo.path / "lib").mkdir()
    repo.git("mv", "src/auth.py", "lib/auth.py")
    repo.commit()
    report = review(cli, server, repo)
    assert len(server.requests()) == count
    files = report["files"]
    assert isinstance(files, list)
    assert {row["path"]: row["status"] for row in files}["lib/auth.py"] == "reviewed"


# --- memos: outlines and checks that are not computed twice


def store_of(cli: Cli) -> Path:
    return cli.home / "state" / "review-agent" / "store.sqlite3"


def memos(cli: Cli, sql: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(store_of(cli)) as db:
        found = db.execute(sql).fetchall()
    db.close()
    return found


@pytest.fixture
def marked(repo: Repo) -> Repo:
    """With findings that need no model, so that a memo of them is worth something."""
    merge = "<<<<<<< a\n1\n=======\n2\n>>>>>>> b\n"
    repo.commit({"src/bad.py": "def broken(:\n    pass\n", "src/merge.py": merge})
    return repo


def checks(report: dict[str, object]) -> list[str]:
    findings = report["findings"]
    assert isinstance(findings, list)
    return sorted(row["rule_id"] for row in findings if row["source"] == "check")


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE memos SET payload='[]'",  # planted: nothing is wrong with this file
        "UPDATE memos SET payload=substr(payload, 2)",
        "UPDATE memos SET seal=''",
        "DELETE FROM memos",
    ],
)
def test_a_report_is_the_same_without_memos(cli: Cli, start_server: Start, marked: Repo, spoil: str) -> None:
    server = start_server(review="*")
    first = review(cli, server, marked)
    assert checks(first) == CHECKS
    warm = review(cli, server, marked)
    memos(cli, spoil)
    cold = review(cli, server, marked)
    assert steady(first) == steady(warm) == steady(cold)
    assert len(memos(cli, "SELECT key FROM memos WHERE length(payload)>2 AND seal!=''")) > 2  # and kept anew


def test_fresh_reads_no_memos(cli: Cli, start_server: Start, marked: Repo) -> None:
    """A memo that is wrong, and sealed all the same, shows who reads it."""
    server = start_server()
    review(cli, server, marked)
    ((key,),) = memos(cli, "SELECT key FROM memos WHERE payload LIKE '%conflict-marker%'")
    with Store(store_of(cli)) as store:
        store.memorise({str(key): "[]"})
    assert checks(review(cli, server, marked)) == ["syntax/parse-error"]
    assert checks(review(cli, server, marked, "feature", "--fresh")) == CHECKS
    assert checks(review(cli, server, marked)) == CHECKS  # and that run has put it right


def test_without_checkpoints_there_are_none(cli: Cli, start_server: Start, marked: Repo) -> None:
    server = start_server()
    cli.env["REVIEW_AGENT_CHECKPOINT_ENABLED"] = "false"
    assert checks(review(cli, server, marked)) == checks(review(cli, server, marked)) == CHECKS
    assert not store_of(cli).exists()
