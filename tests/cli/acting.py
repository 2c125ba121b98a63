"""A pull request for the Action: its repository, its forge, a model, and runners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from driver import ROOT, Cli, Server, free_port
from fake_github import FakeGitHub
from fake_runner import FakeRunner, Job
from fake_workflow import checkout
from gitrepo import Repo, make_repo

Start = Callable[..., Server]
FILES = 3
PLAIN = "".join(f"value_{n} = {n}\n" for n in range(40))


def bad(n: int) -> str:
    return PLAIN.replace("value_20 = 20\n", f"value_20 = 20\nBUG_{n} = open('x')\n")


class Scene:
    """A repository with a pull request, its forge and a model; each job has a runner and a checkout of its own."""

    def __init__(self, cli: Cli, repo: Repo, fake: FakeGitHub, tmp: Path, start: Start) -> None:
        self.cli, self.repo, self.fake, self.tmp, self.start, self.jobs = cli, repo, fake, tmp, start, 0
        self.env = cli.environment(GITHUB_API_URL=fake.url, GITHUB_REPOSITORY="team/app")
        self.env["ANTHROPIC_BASE_URL"] = (
            f"http://127.0.0.1:{free_port()}"  # a test that fails reaches no cloud
        )

    @cached_property
    def model(self) -> str:
        """The address of a model server, which is started when it is first asked for."""
        return self.start(review="BUG").url

    def runner(self) -> FakeRunner:
        self.jobs += 1
        place = self.tmp / f"runner {self.jobs}"
        runner = FakeRunner(ROOT, place / "work space", place / "own", self.env)
        runner.workspace.mkdir()
        return runner

    def checkout(self, runner: FakeRunner, **given: str) -> Path:
        given = {"path": "pull-request", "ref": self.fake.head, "fetch-depth": "0", **given}
        return checkout(
            self.repo.path, runner.workspace, self.event(), {"persist-credentials": "False", **given}
        )

    def event(self) -> dict[str, Any]:
        head = {"sha": self.fake.head, "ref": "topic", "repo": {"full_name": self.fake.head_repo}}
        base = {"sha": self.fake.base, "ref": "main", "repo": {"full_name": "team/app"}}
        pull = {"number": 7, "changed_files": FILES, "head": head, "base": base}
        user = {"author_association": "MEMBER", "user": {"type": "User"}}
        return {"pull_request": {**pull, **user}, "sender": {"type": "User"}}

    def finished(self) -> dict[str, Any]:
        """The event of a workflow that ends when that of the pull request has."""
        owner = {"login": self.fake.head_repo.split("/")[0]}
        home = {"full_name": self.fake.head_repo, "owner": owner}
        run = {"id": 1, "head_sha": self.fake.head, "head_branch": "topic", "head_repository": home}
        return {
            "workflow_run": {**run, "event": "pull_request", "conclusion": "failure", "pull_requests": []}
        }

    def inputs(self, token: str = "token-bot", **more: str) -> dict[str, str]:
        engine = {"provider": "ollama", "api_base": self.model}
        return {"path": "pull-request", "github_token": token, **engine, **more}

    def review(
        self,
        runner: FakeRunner | None = None,
        token: str = "token-bot",
        *,
        installed: bool = False,
        **inputs: str,
    ) -> Job:
        """`installed`: without the first step, which other tests run."""
        runner = runner or self.runner()
        if not (runner.workspace / "pull-request").exists():
            self.checkout(runner)
        return runner.run(self.event(), installed=installed, **self.inputs(token, **inputs))

    def push(self, files: dict[str, str]) -> None:
        self.fake.push(self.repo.commit(dict(files)))

    def fork(self) -> None:
        """The branch is in the repository of somebody else."""
        self.fake.head_repo = "mallory/app"
        self.repo.git("checkout", "-q", "--detach")
        self.repo.git("branch", "-q", "-D", "topic")

    def merge(self) -> str:
        """What GitHub would check out without being told: the head merged into the base."""
        tree = self.repo.git("merge-tree", "--write-tree", self.fake.base, self.fake.head).strip()
        parents = ("-p", self.fake.base, "-p", self.fake.head)
        commit = self.repo.git("commit-tree", tree, *parents, "-m", "Merge").strip()
        self.repo.git("update-ref", "refs/pull/7/merge", commit)
        return commit

    def open(self) -> list[str]:
        return sorted(thread.path for thread in self.fake.threads if not thread.resolved)


@pytest.fixture
def scene(cli: Cli, tmp_path: Path, start_server: Start) -> Iterator[Scene]:
    repo = make_repo(tmp_path / "forge")
    repo.commit({f"f{n}.py": PLAIN for n in range(FILES)})
    repo.git("checkout", "-q", "-b", "topic")
    repo.commit({f"f{n}.py": bad(n) for n in range(FILES)})
    fake = FakeGitHub(repo.path, "main", "topic")
    with fake.serving():
        yield Scene(cli, repo, fake, tmp_path, start_server)


def passed(job: Job | None) -> dict[str, str]:
    assert job is not None
    assert not job.failed, (job.failed, str(job.said[job.failed]))
    return job.outputs
