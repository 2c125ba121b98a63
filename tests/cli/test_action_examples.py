"""The workflows for users: each is driven step by step as it is written, and so are its conditions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import acting
import pytest
from acting import Scene, Start, passed
from claude_scripts import reviewer
from driver import ROOT
from fake_runner import Job
from fake_workflow import FakeWorkflow
from hub import Hub
from scripted_claude import ScriptedClaude

from review_agent.prompts import say

scene = acting.scene
FOLDER = ROOT / "examples" / "workflows"
KEY = "sk-ant-dummy"
FILE = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"


class Office:
    """One repository's workflows. What a job of one uploads, a job of another may download."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.artifacts, self.runner = scene, scene.tmp / "artifacts", scene.runner()
        self.workflow = FakeWorkflow(FOLDER / "none.yml", scene.repo.path, self.artifacts)

    def engine(self) -> dict[str, str]:
        """In place of the engine inside the runner."""
        return {"provider": "ollama", "api_base": self.scene.model, "model": ""}

    def run(self, name: str, event: dict[str, Any], given: dict[str, str], **more: Any) -> Job | None:
        """`given`: the inputs that the file must hand to the Action."""
        self.runner = self.scene.runner()
        self.workflow = workflow = replace(self.workflow, file=FOLDER / f"{name}.yml")
        job = workflow.run(self.runner, event, **more)
        if job is not None:
            assert workflow.given == {
                key: value.format(temp=self.runner.env["RUNNER_TEMP"]) for key, value in given.items()
            }
        return job


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", FILE).serving() as hub:
        yield hub


@pytest.fixture
def office(scene: Scene) -> Office:
    return Office(scene)


SMALL = {
    "provider": "embedded",
    "model": "qwen2.5-coder-1.5b",
    "max_review_seconds": "2400",
    "on_error": "allow",
}
CHECKED_OUT = {"path": "pull-request"}
READ = {**CHECKED_OUT, **SMALL}
HANDED = {"report": "{temp}/from-pull-request/report.json", "github_token": "token-bot"}


def test_a_fork_is_read_by_one_workflow_and_commented_by_another(office: Office) -> None:
    scene = office.scene
    scene.fork()
    read = office.run("review", scene.event(), READ, token="token-read", instead=office.engine())
    assert passed(read)["findings_count"] == "3"
    assert scene.fake.log == []  # it has no token to ask with
    assert "# 代码审查报告" in office.runner.summary.read_text()
    uploaded = sorted(path.name for path in (office.artifacts / "review-agent").iterdir())
    assert uploaded == ["report.json", "report.md", "report.sarif"]
    told = office.run("comment", scene.finished(), HANDED, token="token-bot")
    assert passed(told)["comments_inline"] == "3"
    assert told is not None
    assert told.ran == ["Install review-agent", "Find the pull request", "Publish"]
    assert scene.open() == ["f0.py", "f1.py", "f2.py"]


@pytest.mark.parametrize(("event", "conclusion"), [("push", "success"), ("pull_request", "cancelled")])
def test_what_is_not_commented(office: Office, event: str, conclusion: str) -> None:
    finished = office.scene.finished()
    finished["workflow_run"] |= {"event": event, "conclusion": conclusion}
    assert office.run("comment", finished, HANDED) is None


def test_a_hosted_runner_gets_the_model_from_a_hub_even_beside_an_ollama(
    office: Office, hub: Hub, start_server: Start
) -> None:
    """As written, but for the weights: the engine cannot load these, and that is told, not taken for a clean review."""
    ollama = start_server()
    office.scene.env |= {"HF_ENDPOINT": hub.url, "OLLAMA_HOST": ollama.url}
    given = {**READ, "github_token": "token-bot"}
    job = office.run("hosted-embedded", office.scene.event(), given, token="token-bot")
    assert job is not None
    assert (job.failed, job.ran[2]) == ("", "Get the model"), job.said  # on_error: allow
    assert hub.fetched
    assert not ollama.log.exists() or "api/pull" not in ollama.log.read_text()
    (cached,) = office.workflow.cached
    home = office.scene.env["HOME"]
    assert Path(cached.replace("~", home), SMALL["model"], FILE).read_bytes() == hub.data
    assert job.told() == [f"warning: {say('zh-CN', 'action', 'not_reviewed')}"]
    assert job.outputs["verdict"] == "not_reviewed"
    assert say("zh-CN", "verdict", "not_reviewed") in office.scene.fake.comments[0]["body"]


def test_a_model_that_cannot_be_had_ends_the_job(office: Office, hub: Hub) -> None:
    office.scene.env["HF_ENDPOINT"] = hub.url
    job = office.runner.run(
        office.scene.event(), installed=True, provider="embedded", model="no-such-model", language="en"
    )
    assert (job.failed, job.code) == ("Get the model", 2)
    assert "no-such-model" in job.told()[0]


def test_a_runner_of_ones_own_asks_its_ollama(office: Office, start_server: Start) -> None:
    scene = office.scene
    scene.env["OLLAMA_HOST"] = start_server(review="BUG", model="qwen2.5-coder:7b").url
    given = {
        **CHECKED_OUT,
        "provider": "ollama",
        "model": "qwen2.5-coder:7b",
        "max_review_seconds": "3000",
        "github_token": "token-bot",
    }
    assert (
        passed(office.run("self-hosted-ollama", scene.event(), given, token="token-bot"))["comments_inline"]
        == "3"
    )
    scene.fake.head_repo = "mallory/app"
    assert office.run("self-hosted-ollama", scene.event(), given) is None


CLOUD = {
    **CHECKED_OUT,
    "mode": "cloud",
    "max_review_seconds": "1200",
    "anthropic_api_key": KEY,
    "github_token": "token-bot",
}


def test_the_cloud_is_asked_for_authors_who_are_trusted(office: Office, start_server: Start) -> None:
    scene, cloud = office.scene, start_server(review="BUG", model="cloud")
    scene.env |= {"ANTHROPIC_BASE_URL": cloud.url, "REVIEW_AGENT_ORCHESTRATOR": "direct"}
    secrets = {"ANTHROPIC_API_KEY": KEY}
    job = office.run("cloud-trusted", scene.event(), CLOUD, token="token-bot", secrets=secrets)
    assert passed(job)["comments_inline"] == "3"
    assert {str(row["auth"]) for row in cloud.requests()} == {str({"X-Api-Key": KEY})}
    report = json.loads(Path(job.outputs["results_file"]).read_text()) if job else {}
    assert {row["path"] for row in report["egress"]} == {"f0.py", "f1.py", "f2.py"}
    kept = [path for folder in (office.runner.temp.parent, scene.cli.home) for path in folder.rglob("*")]
    assert [path for path in kept if path.is_file() and KEY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    "change",
    [
        {"author_association": "CONTRIBUTOR"},
        {"author_association": "NONE"},
        {"head": {"repo": {"full_name": "mallory/app"}}},
        {"user": {"type": "Bot"}},
        {"sender": {"type": "Bot"}},
    ],
)
def test_the_cloud_is_not_asked_for_others(office: Office, change: dict[str, Any]) -> None:
    event = office.scene.event()
    (event if "sender" in change else event["pull_request"]).update(change)
    assert office.run("cloud-trusted", event, CLOUD, secrets={"ANTHROPIC_API_KEY": KEY}) is None


def test_hybrid_has_the_local_model_read_and_claude_judge(office: Office) -> None:
    scene = office.scene
    with ScriptedClaude(reviewer(refute=["f1.py"])) as claude:
        scene.env["ANTHROPIC_BASE_URL"] = claude.url
        job = scene.review(installed=True, mode="hybrid", anthropic_api_key=KEY)
        assert passed(job)["findings_count"] == "2"
        assert claude.asked
    assert scene.open() == ["f0.py", "f2.py"]
