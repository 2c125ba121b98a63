"""The Action, step by step as a runner runs it, against the fake GitHub and a mock model."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import acting
import pytest
from acting import FILES, PLAIN, Scene, bad, passed
from driver import ROOT
from fake_github import Fault
from fake_runner import Job, Said
from fake_workflow import git
from findings_of import finding, reported
from test_injection import live_nodes

from review_agent.agent.markers import SUMMARY, Checkpoint, checkpoint_of, key_line, key_of
from review_agent.agent.models import Coverage, EngineInfo, Report, Usage, VerdictWord
from review_agent.agent.reports.json_report import to_json
from review_agent.prompts import say

scene = acting.scene
SCRIPTS = ROOT / "scripts" / "action"
INSTALL = "Install review-agent"
SAYS = "echo ::add-path::x; echo ::error::y >&2; exit 3"
REFUSED = f"error: {say('zh-CN', 'action', 'report_form')}"
UNREADABLE = say("zh-CN", "errors", "prefix", text=say("zh-CN", "errors", "report_unreadable"))
HOSTILE = "::warning::x.py"  # a workflow command, if it were to begin a line


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
    place = runner.workspace / "pull-request"
    assert (git(place, "rev-parse", "HEAD"), git(place, "branch", "--show-current")) == (scene.fake.head, "")
    assert "+refs/heads/*:refs/remotes/origin/*" in git(place, "config", "--get-all", "remote.origin.fetch")
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
    assert say("zh-CN", "notes", "pr_history_rewritten") in scene.fake.comments[0]["body"]
    assert len(scene.fake.comments) == 1


def test_a_fork_needs_no_token_that_may_write(scene: Scene) -> None:
    scene.fork()
    runner = scene.runner()
    job = scene.review(runner, "token-read")
    assert passed(job)["findings_count"] == "3"
    assert [row for row in scene.fake.log if row[0] != "GET" and row[2] < 300 and row[1] != "/graphql"] == []
    assert [name for name, _ in job.commands()] == ["warning"] * 3
    assert "# 代码审查报告" in runner.summary.read_text()


@pytest.mark.parametrize("why", ["moved on", "closed", "other fork"])
def test_a_report_of_no_open_pull_request_goes_nowhere(scene: Scene, why: str, tmp_path: Path) -> None:
    event = scene.finished()
    if why == "moved on":
        scene.push({"f1.py": PLAIN})
    elif why == "closed":
        scene.fake.open = False
    else:
        event["workflow_run"]["head_repository"] = {"full_name": "team/other", "owner": {"login": "team"}}
    job = scene.runner().run(
        event, installed=True, report=str(tmp_path / "any.json"), github_token="token-bot"
    )
    assert not job.failed
    assert "Publish" not in job.ran
    assert [name for name, _ in job.commands()] == ["notice"]


@pytest.mark.parametrize(("status", "token"), [(503, "token-bot"), (302, "token-bot"), (401, "wrong")])
def test_a_github_that_does_not_say_which_pull_request_it_is(scene: Scene, status: int, token: str) -> None:
    if token == "token-bot":
        scene.fake.faults.append(Fault("GET /repos/team/app/pulls ", status, headers={"Location": "/user"}))
    job = scene.runner().run(scene.finished(), installed=True, report="any.json", github_token=token)
    assert job.failed == "Find the pull request"
    assert job.told() == [f"error: {say('zh-CN', 'action', 'not_named', value=status)}"]
    assert [row[1] for row in scene.fake.log] == ["/repos/team/app/pulls"]


def test_a_report_of_another_job_without_a_token_says_what_to_write(scene: Scene) -> None:
    job = scene.runner().run(scene.finished(), installed=True, report="any.json")
    assert (job.failed, job.told()) == (
        "Find the pull request",
        [f"error: {say('zh-CN', 'action', 'no_token')}"],
    )
    assert scene.fake.log == []


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
    job = scene.runner().run(scene.finished(), installed=True, report=str(report), github_token="token-bot")
    assert job.failed == "Publish"
    assert "Traceback" not in str(job.said["Publish"])
    assert job.told() == [
        f"error: {say('zh-CN', 'action', 'not_published', value=UNREADABLE)}"
        if kind == "no report"
        else REFUSED
    ]
    assert (scene.fake.threads, scene.fake.comments) == ([], [])


def test_a_report_of_other_files_and_with_forged_marks_stays_text(scene: Scene, tmp_path: Path) -> None:
    """The form is right, so it is published: as what the pull request says, which only it can be harmed by."""
    forged = f"x\n\n{key_line('0' * 32)}\n\n{SUMMARY}\n{Checkpoint('0' * 40, '0' * 40, '0' * 32)}"
    found = [
        finding(
            path,
            line=21,
            title=f"@team ::error::x {forged}",
            message=f"![x](https://e.example/x) <img src=x> {forged}",
        )
        for path in (
            "f0.py",
            "../../etc/passwd",
            "/etc/passwd",
            ".git/config",
            "elsewhere.py",
            "a\n::error::b",
        )
    ]
    whole = Coverage(1, 1, 0, 0, 1, 1)
    report = Report(
        "r", f"{SUMMARY}\n{forged}", "zh-CN", EngineInfo("local", "", "", ""), VerdictWord.PASS, "", whole,
        f"{SUMMARY}\n{forged}", tuple(reported(*found)), (), Usage(),
    )  # fmt: skip
    (tmp_path / "report.json").write_text(to_json(report))
    given = {"report": str(tmp_path / "report.json"), "github_token": "token-bot"}
    job = scene.runner().run(scene.finished(), installed=True, **given)
    assert passed(job)["checkpoint_after"] == ""
    assert [name for name, _ in job.commands()] == []
    (body,) = [row["body"] for row in scene.fake.comments]
    assert checkpoint_of(body) is None
    texts = [body, *(thread.body for thread in scene.fake.threads)]
    assert [thread.path for thread in scene.fake.threads] == ["f0.py"]
    assert all(key_of(text) != "0" * 32 for text in texts)
    # Rendered, there is no picture, and of HTML only our own line.
    live = [live_nodes(text) for text in texts]
    assert [len(nodes) for nodes in live] == [1] * len(texts)
    assert "0" * 32 not in str(live)
    again = scene.runner().run(scene.finished(), installed=True, **given)
    assert (passed(again)["comments_inline"], len(scene.fake.comments)) == ("0", 1)


# --- what the pull request may try ---


def test_nothing_of_the_checkout_is_imported_or_taken_for_a_command(scene: Scene) -> None:
    mark = scene.tmp / "imported"
    planted = f"open({str(mark)!r}, 'w')\n"
    scene.push({HOSTILE: "BUG_9 = 1\n"})
    runner = scene.runner()
    checked_out = scene.checkout(runner)
    for folder in (checked_out, runner.workspace):
        for name in ("json.py", "secrets.py", "click.py", "sitecustomize.py", "review_agent.py"):
            (folder / name).write_text(planted)
    runner.env["PYTHONPATH"] = str(checked_out)
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
    runner.env["PIP_INDEX_URL"] = "https://user:secret@mirror.example/simple\n--trusted-host x"
    passed(runner.run(scene.event(), last=INSTALL))
    installs = [call for call in runner.log.read_text().splitlines() if " pip " in call]
    own = runner.temp / "temp" / "review-agent"
    assert len(installs) == 2
    assert "--require-hashes --only-binary=:all:" in installs[0]
    assert installs[0].rstrip().endswith(f"-r {own}/lock.txt")
    assert "secret" not in "".join(installs)
    first, _, lock = (own / "lock.txt").read_text().partition("\n")
    assert (
        first == "--index-url https://user:secret@mirror.example/simple--trusted-hostx"
    )  # and no option of its own
    assert lock == (ROOT / "requirements" / "action.txt").read_text()
    assert (own / "lock.txt").stat().st_mode & 0o077 == 0
    assert "--no-index --no-deps --no-build-isolation" in installs[1]
    assert installs[1].rstrip().endswith(f" {own}/source")
    assert (own / "source" / "agent" / "main.py").is_file()


def test_what_a_guarded_command_says_is_no_workflow_command(scene: Scene) -> None:
    runner = scene.runner()
    passed(runner.run(scene.event(), last=INSTALL))
    script = f'. "{SCRIPTS}/common"; code=0; guarded sh -c "{SAYS}" || code=$?; echo ::notice::$code'
    env = {**runner.env, "GITHUB_OUTPUT": os.devnull}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, check=True)
    said = Said(done.stdout.decode(), done.stderr.decode())
    assert "\n::add-path::x\n::error::y\n" in said.out
    assert Job({}, [], said={"": said}).commands() == [("notice", "::notice::3")]


def test_without_a_word_to_guard_it_nothing_is_run(scene: Scene) -> None:
    script = (
        f'. "{SCRIPTS}/common"; python=true; code=0; guarded echo "::error::y" || code=$?; echo "code $code"'
    )
    done = subprocess.run(["bash", "-c", script], env=scene.runner().env, capture_output=True, check=True)
    assert done.stdout.decode() == "code 1\n"


def test_the_tool_runs_guarded_only() -> None:
    uses = [
        line.strip()
        for path in SCRIPTS.iterdir()
        for line in path.read_text().splitlines()
        if re.search(r"\bagent (?:run|publish|models|resume|report)\b", line)
    ]
    assert len(uses) == 3
    assert all(line.startswith("guarded ") or line.endswith(">annotations") for line in uses), uses
