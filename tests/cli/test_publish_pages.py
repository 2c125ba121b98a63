"""Each command of the pages on publishing and on formats is run as it stands there, in both languages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from driver import ROOT, Cli, Server
from fake_github import FakeGitHub
from gitrepo import Repo, make_repo

Start = Callable[..., Server]
GITHUB = [ROOT / "docs" / name for name in ("github.md", "github.en.md")]
FORMATS = [ROOT / "docs" / name for name in ("formats.md", "formats.en.md")]
RUN_ID, HEAD = "20261128-101500-a1b2c3", "0123456789abcdef0123456789abcdef01234567"
# Reads a DiagnosticResult as reviewdog's schema has it, and prints as it does.
REVIEWDOG = f"""#!{sys.executable}
import json, sys
assert sys.argv[1:] == ["-f=rdjson", "-reporter=local", "-diff=git diff origin/main"], sys.argv
for row in json.load(sys.stdin)["diagnostics"]:
    spot = row["location"]
    print(spot["path"], spot["range"]["start"]["line"], row["severity"])
"""


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"(?ms)^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"))


def lines(page: Path) -> list[str]:
    found = [line.split(" #")[0].strip() for body in blocks(page, "sh") for line in body.splitlines()]
    return [line for line in found if line]


class Desk:
    """A clone whose pull request has a fault in it, `review-agent` on the path, and a forge."""

    def __init__(self, cli: Cli, tmp: Path, model: Server) -> None:
        self.cli, self.tmp = cli, tmp
        self.repo: Repo = make_repo(tmp / "work")
        self.repo.commit({"a.py": "x = 1\n"})
        self.repo.git("checkout", "-q", "-b", "topic")
        self.head = self.repo.commit({"a.py": "x = 1\nBUG = 2\n"})
        self.base = self.repo.git("rev-parse", "main").strip()
        origin = tmp / "origin.git"
        self.repo.git("clone", "-q", "--bare", str(self.repo.path), str(origin))
        self.repo.git("remote", "add", "origin", str(origin))
        self.repo.git("push", "-q", "origin", f"{self.head}:refs/pull/12/head")
        self.repo.git("fetch", "-q", "origin")
        dog = tmp / "bin" / "reviewdog"
        dog.parent.mkdir()
        dog.write_text(REVIEWDOG)
        dog.chmod(0o755)
        self.env = cli.environment(REVIEW_AGENT_BASE_URL=model.url)
        self.env["PATH"] = f"{tmp / 'bin'}:{Path(sys.executable).parent}:{self.env['PATH']}"

    def type(self, line: str, code: int = 0, **extra: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.repo.path,
            env={**self.env, **extra},
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == code, (line, done.stderr.decode())
        return done.stdout.decode() + done.stderr.decode()

    def read(self, name: str) -> dict:
        return json.loads((self.repo.path / name).read_text())


@pytest.fixture
def desk(cli: Cli, tmp_path: Path, start_server: Start) -> Desk:
    assert shutil.which("review-agent", path=str(Path(sys.executable).parent))
    return Desk(cli, tmp_path, start_server(review="BUG"))


@pytest.fixture
def fake(desk: Desk) -> Iterator[FakeGitHub]:
    fake = FakeGitHub(desk.repo.path, "main", "topic", number=12)
    with fake.serving():
        yield fake


@pytest.mark.parametrize("pages", [GITHUB, FORMATS], ids=["github", "formats"])
def test_both_languages_have_the_same_commands(pages: list[Path]) -> None:
    zh, en = pages
    assert lines(zh) == lines(en) != []
    assert [yaml.safe_load(body) for body in blocks(zh, "yaml")] == [
        yaml.safe_load(body) for body in blocks(en, "yaml")
    ]


@pytest.mark.parametrize("page", GITHUB, ids=lambda page: page.name)
def test_publishing_by_hand(page: Path, desk: Desk, fake: FakeGitHub) -> None:
    token, fetch, review, publish, from_file = lines(page)
    assert token == "export GITHUB_TOKEN=…"
    forge = {"GITHUB_API_URL": fake.url, "GITHUB_TOKEN": "token-bot"}
    desk.type(fetch)
    desk.type(review, **forge)
    run_id = str(desk.read("report.json")["run_id"])
    assert run_id in desk.type("review-agent runs list")
    publish = publish.replace(RUN_ID, run_id)
    plan = desk.type(f"{publish} --dry-run", **forge)
    assert "a.py:2" in plan
    assert fake.threads == []
    desk.type(publish, **forge)
    assert [(thread.path, thread.line) for thread in fake.threads] == [("a.py", 2)]
    desk.type(from_file.replace(HEAD, desk.head), GITHUB_REPOSITORY="team/app", **forge)
    assert (len(fake.threads), len(fake.comments)) == (1, 1)  # nothing is said twice


@pytest.mark.parametrize("page", FORMATS, ids=lambda page: page.name)
def test_formats(page: Path, desk: Desk) -> None:
    run, report, dog = lines(page)
    desk.type(run)
    assert desk.read("review.sarif")["version"] == "2.1.0"
    (issue,) = desk.read("codequality.json")
    assert issue["location"] == {"path": "a.py", "lines": {"begin": 2}}
    (run_id,) = re.findall(r"\b[0-9]{8}-[0-9]{6}-[0-9a-f]{6}\b", desk.type("review-agent runs list"))
    result = json.loads(desk.type(f"{report.replace(RUN_ID, run_id)} 2>/dev/null"))
    assert [each["location"]["path"] for each in result["diagnostics"]] == ["a.py"]
    assert "a.py 2 " in desk.type(dog)


@pytest.mark.parametrize("page", FORMATS, ids=lambda page: page.name)
def test_jobs_of_the_page_on_formats(page: Path, desk: Desk) -> None:
    github, gitlab = (yaml.safe_load(body) for body in blocks(page, "yaml"))
    review, upload = github["steps"]
    desk.type(review["run"], BASE_SHA=desk.base, HEAD_SHA=desk.head)
    assert desk.read(upload["with"]["sarif_file"])["runs"][0]["results"] != []
    job = gitlab["review"]
    (line,) = job["script"]
    desk.type(line, CI_MERGE_REQUEST_DIFF_BASE_SHA=desk.base, CI_COMMIT_SHA=desk.head)
    assert len(desk.read(job["artifacts"]["reports"]["codequality"])) == 1
