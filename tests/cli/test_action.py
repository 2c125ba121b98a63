"""The Action, step by step as a runner runs it, against the fake GitHub and a mock model."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from driver import ROOT, Cli, Server
from fake_github import FakeGitHub, Fault
from fake_runner import FakeRunner, Job
from gitrepo import Repo, make_repo

Start = Callable[..., Server]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
SCRIPTS = ROOT / "scripts" / "action"
EXAMPLES = sorted((ROOT / "examples" / "workflows").glob("*.yml"))
FILES = 3
PLAIN = "".join(f"value_{n} = {n}\n" for n in range(40))
HOSTILE = "::warning::x.py"  # a workflow command, if it were to begin a line


def bad(n: int) -> str:
    return PLAIN.replace("value_20 = 20\n", f"value_20 = 20\nBUG_{n} = open('x')\n")


class Scene:
    """A repository with a pull request, its forge, a model, and a runner with the commits checked out."""

    def __init__(self, cli: Cli, repo: Repo, fake: FakeGitHub, tmp: Path, model: str) -> None:
        self.repo, self.fake, self.model, self.tmp, self.jobs = repo, fake, model, tmp, 0
        self.env = cli.environment(GITHUB_API_URL=fake.url, GITHUB_REPOSITORY="team/app")

    def runner(self) -> FakeRunner:
        self.jobs += 1
        return FakeRunner(ROOT, self.repo.path.parent, self.tmp / f"runner-{self.jobs}", self.env)

    def event(self) -> dict[str, Any]:
        head = {"sha": self.fake.head, "ref": "topic", "repo": {"full_name": self.fake.head_repo}}
        base = {"sha": self.fake.base, "ref": "main", "repo": {"full_name": "team/app"}}
        return {"pull_request": {"number": 7, "changed_files": FILES, "head": head, "base": base}}

    def finished(self) -> dict[str, Any]:
        """The event of a workflow that ends when that of the pull request has."""
        owner = {"login": self.fake.head_repo.split("/")[0]}
        home = {"full_name": self.fake.head_repo, "owner": owner}
        run = {"id": 1, "head_sha": self.fake.head, "head_branch": "topic", "head_repository": home}
        return {"workflow_run": {**run, "pull_requests": []}}

    def review(self, runner: FakeRunner | None = None, token: str = "token-bot", **inputs: str) -> Job:
        given = {"path": "repo", "provider": "ollama", "api_base": self.model, "github_token": token}
        return (runner or self.runner()).run(self.event(), **{**given, **inputs})

    def push(self, files: dict[str, str]) -> None:
        self.fake.push(self.repo.commit(dict(files)))

    def open(self) -> list[str]:
        return sorted(thread.path for thread in self.fake.threads if not thread.resolved)


@pytest.fixture
def scene(cli: Cli, tmp_path: Path, start_server: Start) -> Iterator[Scene]:
    repo = make_repo(tmp_path / "workspace" / "repo")
    repo.commit({f"f{n}.py": PLAIN for n in range(FILES)})
    repo.git("checkout", "-q", "-b", "topic")
    repo.commit({f"f{n}.py": bad(n) for n in range(FILES)})
    fake = FakeGitHub(repo.path, "main", "topic")
    with fake.serving():
        yield Scene(cli, repo, fake, tmp_path, start_server(review="BUG").url)


def passed(job: Job) -> dict[str, str]:
    assert not job.failed, (job.failed, job.said[job.failed])
    return job.outputs


# --- the life of a pull request ---


def test_comments_follow_a_pull_request_from_push_to_push(scene: Scene) -> None:
    runner = scene.runner()
    first = passed(scene.review(runner))
    assert scene.open() == ["f0.py", "f1.py", "f2.py"]
    temp = runner.temp / "temp" / "review-agent"
    assert first == {
        "comments_total": "3",
        "comments_inline": "3",
        "comments_skipped": "0",
        "comments_failed": "0",
        "summary_comment_url": f"{scene.fake.url}/team/app/pull/7#issuecomment-{scene.fake.comments[0]['id']}",
        "findings_count": "3",
        "verdict": "issues",
        "coverage": "3/3",
        "range_mode": "full",
        "range_reason": "first_run",
        "checkpoint_after": scene.fake.head,
        "results_file": str(temp / "report.json"),
        "report_file": str(temp / "report.md"),
        "sarif_file": str(temp / "report.sarif"),
    }
    assert json.loads((temp / "report.sarif").read_text())["version"] == "2.1.0"
    assert [path.read_text() for path in runner.files.values()] == ["", "", ""]
    again = passed(scene.review())
    assert (again["comments_inline"], again["range_mode"], len(scene.fake.threads)) == ("0", "incremental", 3)
    scene.push({"f1.py": PLAIN + "done = 1\n"})
    fixed = passed(scene.review())
    assert (fixed["range_mode"], fixed["coverage"], scene.open()) == (
        "incremental",
        "1/1",
        ["f0.py", "f2.py"],
    )
    scene.repo.git("reset", "-q", "--hard", "main")
    scene.push({f"f{n}.py": bad(n) + "rebased = 1\n" for n in range(FILES)})
    forced = passed(scene.review())
    assert (forced["range_mode"], forced["range_reason"]) == ("full", "history_rewritten")


@pytest.mark.parametrize("token", ["", "token-read"])
def test_a_fork_needs_no_token(scene: Scene, token: str) -> None:
    scene.fake.head_repo = "mallory/app"
    runner = scene.runner()
    job = scene.review(runner, token)
    assert passed(job)["findings_count"] == "3"
    assert [row for row in scene.fake.log if row[0] != "GET" and row[2] < 300 and row[1] != "/graphql"] == []
    assert [name for name, _ in job.commands()] == ["warning"] * 3
    assert "# 代码审查报告" in runner.summary.read_text()


def test_another_run_comments_what_a_fork_wrote(scene: Scene) -> None:
    scene.fake.head_repo = "mallory/app"
    report = passed(scene.review(token=""))["results_file"]
    job = scene.runner().run(scene.finished(), report=report, github_token="token-bot")
    assert passed(job)["comments_inline"] == "3"
    assert job.ran == ["Install review-agent", "Find the pull request", "Publish"]
    assert scene.open() == ["f0.py", "f1.py", "f2.py"]


@pytest.mark.parametrize("why", ["moved on", "closed", "other fork"])
def test_a_report_of_no_open_pull_request_goes_nowhere(scene: Scene, why: str, tmp_path: Path) -> None:
    event = scene.finished()
    if why == "moved on":
        scene.push({"f1.py": PLAIN})
    elif why == "closed":
        scene.fake.open = False
    else:
        event["workflow_run"]["head_repository"] = {"full_name": "team/other", "owner": {"login": "team"}}
    job = scene.runner().run(event, report=str(tmp_path / "any.json"), github_token="token-bot")
    assert not job.failed
    assert "Publish" not in job.ran
    assert [name for name, _ in job.commands()] == ["notice"]


@pytest.mark.parametrize(("status", "token"), [(503, "token-bot"), (302, "token-bot"), (401, "wrong")])
def test_a_github_that_does_not_say_which_pull_request_it_is(scene: Scene, status: int, token: str) -> None:
    if token == "token-bot":
        scene.fake.faults.append(Fault("GET /repos/team/app/pulls ", status, headers={"Location": "/user"}))
    job = scene.runner().run(scene.finished(), report="any.json", github_token=token)
    assert job.failed == "Find the pull request"
    said = job.said[job.failed]
    assert said == f"review-agent: GitHub did not say which pull request this is ({status})\n"
    assert [row[1] for row in scene.fake.log] == ["/repos/team/app/pulls"]


@pytest.mark.parametrize("kind", ["too large", "link", "folder", "missing", "no report"])
def test_a_hostile_artifact_is_refused(scene: Scene, kind: str, tmp_path: Path) -> None:
    report = tmp_path / "handed" / "report.json"
    report.parent.mkdir()
    if kind == "too large":
        report.write_bytes(b" " * (1024 * 1024 + 1))
    elif kind == "link":
        report.symlink_to("/etc/passwd")
    elif kind == "folder":
        report.mkdir()
    elif kind == "no report":
        report.write_text('{"schema_version": "::error::x", "findings": []}')
    job = scene.runner().run(scene.finished(), report=str(report), github_token="token-bot")
    assert job.failed == "Publish"
    assert "Traceback" not in job.said["Publish"]
    assert [name for name, _ in job.commands()] == ([] if kind == "no report" else ["error"])
    assert (scene.fake.threads, scene.fake.comments) == ([], [])


# --- what the pull request may try ---


def test_nothing_of_the_checkout_is_imported_or_taken_for_a_command(scene: Scene) -> None:
    mark = scene.tmp / "imported"
    planted = f"open({str(mark)!r}, 'w')\n"
    scene.push({HOSTILE: "BUG_9 = 1\n"})
    for folder in (scene.repo.path, scene.repo.path.parent):
        for name in ("json.py", "secrets.py", "click.py", "sitecustomize.py", "review_agent.py"):
            (folder / name).write_text(planted)
    scene.env["PYTHONPATH"] = str(scene.repo.path)
    runner = scene.runner()
    job = scene.review(runner, "")
    assert passed(job)["findings_count"] == "4"
    assert not mark.exists()
    assert [name for name, _ in job.commands()] == ["warning"] * 4
    assert all(line.startswith("::warning title=") for _, line in job.commands())
    calls = runner.log.read_text().splitlines()
    assert calls
    assert all(re.match(r"(?:python3|venv) -I ", call) for call in calls), calls


def test_what_is_installed_is_named_by_its_hash_and_lies_outside_the_checkout(scene: Scene) -> None:
    runner = scene.runner()
    passed(scene.review(runner, ""))
    installs = [call for call in runner.log.read_text().splitlines() if " pip " in call]
    own = runner.temp / "temp" / "review-agent"
    assert len(installs) == 2
    assert "--require-hashes --only-binary=:all:" in installs[0]
    assert installs[0].rstrip().endswith(f"-r {ROOT}/requirements/action.txt")
    assert "--no-index --no-deps --no-build-isolation" in installs[1]
    assert installs[1].rstrip().endswith(f" {own}/source")
    assert (own / "source" / "agent" / "main.py").is_file()


def test_what_a_guarded_command_says_is_no_workflow_command(scene: Scene) -> None:
    runner = scene.runner()
    passed(scene.review(runner, ""))
    script = f'. "{SCRIPTS}/common"; code=0; guarded printf "::add-path::x\\n::error::y" || code=$?; echo ::notice::$code'
    env = {**runner.env, "GITHUB_OUTPUT": os.devnull}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, check=True)
    said = done.stdout.decode()
    assert "\n::add-path::x\n::error::y\n" in said
    assert Job({}, [], said={"": said}).commands() == [("notice", "::notice::0")]


def test_the_tool_runs_guarded_only() -> None:
    uses = [
        line.strip()
        for path in SCRIPTS.iterdir()
        for line in path.read_text().splitlines()
        if re.search(r"\bagent (?:run|publish|models|resume|report)\b", line)
    ]
    assert len(uses) == 3
    assert all(line.startswith("guarded ") or line.endswith(">annotations") for line in uses), uses


# --- how a job ends ---


@pytest.mark.parametrize(
    ("inputs", "fault", "failed", "code"),
    [
        ({"fail_on": "low"}, "", "Judge", 3),
        ({"on_error": "block"}, "http500", "Judge", 1),
        ({"on_error": "allow"}, "http500", "", 0),
        ({"fail_on": "nonsense"}, "", "Review", 2),
    ],
)
def test_how_the_job_ends(
    scene: Scene, start_server: Start, inputs: dict[str, str], fault: str, failed: str, code: int
) -> None:
    if fault:
        scene.model = start_server(fault=fault).url
    job = scene.review(token="", **inputs)
    assert (job.failed, job.code) == (failed, code), job.said
    assert ("Publish" in job.ran) == (failed != "Review")  # what was found is told before the job fails


# --- the files ---


def test_steps_take_nothing_by_expression() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"]
        assert re.fullmatch(r'"\$GITHUB_ACTION_PATH/scripts/action/\w+"', step["run"])


def test_only_steps_that_need_a_secret_see_it() -> None:
    seen = {step["name"]: step.get("env", {}) for step in ACTION["runs"]["steps"]}
    assert [name for name, env in seen.items() if "ANTHROPIC_API_KEY" in env] == ["Review"]
    assert [name for name, env in seen.items() if "GITHUB_TOKEN" in env] == [
        "Find the pull request",
        "Review",
        "Publish",
    ]


def test_inputs_are_in_snake_case_and_have_a_default() -> None:
    for name, row in ACTION["inputs"].items():
        assert re.fullmatch(r"[a-z]+(?:_[a-z]+)*", name)
        assert isinstance(row["default"], str)


@pytest.mark.parametrize("page", ["github.md", "github.en.md"])
def test_the_pages_list_every_input_and_every_example(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    rows = "".join(re.findall(r"(?m)^\| `.*?(?=\|)\|", text.split("###")[1]))
    assert set(re.findall(r"`(\w+)`", rows)) == set(ACTION["inputs"])
    assert {f"(../examples/workflows/{path.name})" for path in EXAMPLES} <= set(
        re.findall(r"\(\.\./\S+\)", text)
    )
    assert all(f"`{name}`" in text for name in ACTION["outputs"])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_asks_for_what_the_action_has(path: Path) -> None:
    (job,) = yaml.safe_load(path.read_text())["jobs"].values()
    steps = job["steps"]
    (ours,) = [step for step in steps if step["uses"].startswith("OWNER/review-agent@")]
    assert set(ours["with"]) <= set(ACTION["inputs"])
    for step in steps:
        if step["uses"].startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
            assert step["with"]["path"] == ours["with"]["path"]
        for name in re.findall(r"steps\.review\.outputs\.(\w+)", str(step)):
            assert name in ACTION["outputs"]


def test_the_workflow_for_forks_can_only_read() -> None:
    text = (ROOT / "examples" / "workflows" / "review.yml").read_text()
    workflow = yaml.safe_load(text)
    assert (workflow["permissions"], workflow["jobs"]["review"]["permissions"]) == ({}, {"contents": "read"})
    assert "secrets." not in text
    assert "token" not in text.split("jobs:")[1]


def test_the_workflow_that_comments_checks_out_nothing() -> None:
    text = (ROOT / "examples" / "workflows" / "comment.yml").read_text()
    assert "actions/checkout" not in text
    assert yaml.safe_load(text)["jobs"]["comment"]["permissions"] == {
        "actions": "read",
        "pull-requests": "write",
    }
    review = yaml.safe_load((ROOT / "examples" / "workflows" / "review.yml").read_text())
    assert f"workflows: [{review['name']}]" in text
