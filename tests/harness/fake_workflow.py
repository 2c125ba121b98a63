"""Runs the one job of a workflow file as a runner would: its `if`, then its steps, with the inputs as written.

`actions/checkout` is done by real git, in the state that the real one leaves (a detached commit, an `origin` with its
refspecs); artifacts are copied; what installs Python or keeps a cache does nothing. Another action is a ValueError.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from fake_expressions import fill, holds
from fake_runner import FakeRunner, Job

OURS = "OWNER/review-agent"
NOTHING = ("actions/setup-python",)


@dataclass
class FakeWorkflow:
    """`artifacts` outlive the job; `given` are the inputs that our action was given, `cached` the paths of a cache."""

    file: Path
    origin: Path
    artifacts: Path
    given: dict[str, str] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)

    def run(
        self, runner: FakeRunner, event: dict[str, Any], *, token: str = "", secrets: Mapping[str, str] | None = None,
        instead: Mapping[str, str] | None = None,
    ) -> Job | None:
        """What our action left behind; None where the job's `if` says no. `instead`: inputs of another engine."""
        (job,) = yaml.safe_load(self.file.read_text())["jobs"].values()
        context: dict[str, Any] = {
            "github": {"event": event, "token": token, "repository": runner.env["GITHUB_REPOSITORY"]},
            "secrets": secrets or {},
            "runner": {"temp": runner.env["RUNNER_TEMP"]},
            "steps": {},
        }
        if not holds(job.get("if", ""), context):
            return None
        done: Job | None = None
        for step in job["steps"]:
            if not holds(step.get("if", ""), context) or (done and done.code and "if" not in step):
                continue
            action, given = step["uses"].split("@")[0], {name: fill(str(value), context) for name, value in step.get("with", {}).items()}
            if action == OURS:
                assert done is None
                self.given = given
                done = runner.run(event, **{**given, **(instead or {})})
                context["steps"][step.get("id", "")] = {"outputs": done.outputs}
            else:
                self._do(action, given, runner, event)
        assert done is not None
        return done

    def _do(self, action: str, given: dict[str, str], runner: FakeRunner, event: dict[str, Any]) -> None:
        kept = self.artifacts / given.get("name", "")
        if action == "actions/checkout":
            checkout(self.origin, runner.workspace, event, given)
        elif action == "actions/upload-artifact":
            kept.mkdir(parents=True)
            for path in given["path"].split("\n"):
                if path.strip():
                    shutil.copy(path.strip(), kept)
        elif action == "actions/download-artifact":
            shutil.copytree(kept, given["path"])
        elif action == "actions/cache":
            self.cached.append(given["path"])
        elif action not in NOTHING:
            raise ValueError(action)


def checkout(origin: Path, workspace: Path, event: Mapping[str, Any], given: Mapping[str, str]) -> Path:
    """As actions/checkout does it for a pull request; without `ref` the merge commit, without `fetch-depth` alone."""
    assert given.get("persist-credentials") == "False", "a token in the checkout's configuration"
    place = workspace / given.get("path", ".")
    place.mkdir(parents=True, exist_ok=True)
    # GitHub hands out every commit of a pull request by its id.
    git(origin, "config", "uploadpack.allowAnySHA1InWant", "true")
    number = event["pull_request"]["number"]
    commit = given.get("ref") or git(origin, "rev-parse", f"refs/pull/{number}/merge")
    shallow = given.get("fetch-depth", "1") != "0"
    git(place, "init", "-q", "-b", "main")
    git(place, "remote", "add", "origin", f"file://{origin}")
    git(place, "config", "--local", "gc.auto", "0")
    refs = [f"+{commit}:refs/remotes/pull/{number}/merge"]
    if not shallow:
        refs = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*", *refs]
    depth = ["--depth=1"] if shallow else []
    git(place, "fetch", "-q", "--no-tags", "--prune", "--no-recurse-submodules", *depth, "origin", *refs)
    git(place, "checkout", "-q", "--force", "--detach", commit)
    return place


def git(folder: Path, *args: str) -> str:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *args], cwd=folder, env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return done.stdout.decode().strip()
