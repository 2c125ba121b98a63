"""How jobs with the Action end: what the user is told, and that nothing ends in silence."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import acting
import psutil
import pytest
import yaml
from acting import Scene, Start, passed
from driver import ROOT, free_port

from review_agent.prompts import LANGS, messages, say

scene = acting.scene
INSTALL, FIND, REVIEW = "Install review-agent", "Find the pull request", "Review"
WRONG = "错误：--fail-on：`fail_on` 的值不对，只能是以下之一：critical, high, medium, low, never。"
SCRIPTS = ROOT / "scripts" / "action"


def told(key: str, value: object = "", lang: str = "zh-CN") -> str:
    return say(lang, "action", key, value=value)


@pytest.mark.parametrize(
    ("inputs", "fault", "failed", "code", "said"),
    [
        ({"fail_on": "low"}, "", "Judge", 3, f"error: {told('found', 'low')}"),
        (
            {"on_error": "allow", "language": "en"},
            "http500",
            "",
            0,
            f"warning: {told('not_reviewed', lang='en')}",
        ),
        ({"fail_on": "nonsense"}, "", REVIEW, 2, f"error: {told('failed', WRONG)}"),
        (
            {"full_review": "yes"},
            "",
            REVIEW,
            2,
            f"error: {told('bad_input', '`full_review`: `true`, `false`')}",
        ),
        ({"on_error": "alow"}, "", REVIEW, 2, f"error: {told('bad_input', '`on_error`: `allow`, `block`')}"),
    ],
)
def test_how_the_job_ends(
    scene: Scene, start_server: Start, inputs: dict[str, str], fault: str, failed: str, code: int, said: str
) -> None:
    if fault:
        scene.model = start_server(fault=fault).url
    job = scene.review(token="", installed=True, **inputs)
    assert (job.failed, job.code) == (failed, code), job.said
    assert job.told() == [said]
    assert ("Publish" in job.ran) == (failed != REVIEW)  # what was found is told before the job fails


def test_a_later_push_does_not_get_past_findings_that_are_still_open(scene: Scene) -> None:
    for _ in range(2):
        job = scene.review(installed=True, fail_on="low")
        assert (job.failed, job.code, job.outputs["findings_count"]) == ("Judge", 3, "3")
        assert len(scene.open()) == 3
        scene.push({"f9.py": "harmless = 1\n"})


def test_an_incomplete_review_is_published_and_the_next_does_not_count_on_it(scene: Scene) -> None:
    scene.env["REVIEW_AGENT_MAX_FILES"] = "1"
    for on_error, ends, told_as, done in (
        ("block", ("Judge", 4), "error", "1/3"),
        ("allow", ("", 0), "warning", "2/3"),
    ):
        job = scene.review(installed=True, on_error=on_error)
        assert (job.failed, job.code) == ends
        assert job.told() == [f"{told_as}: {told('incomplete')}"]
        assert (job.outputs["verdict"], job.outputs["coverage"]) == ("incomplete", done)
        assert job.outputs["checkpoint_after"] == ""
        assert say("zh-CN", "verdict", "incomplete") in scene.fake.comments[0]["body"]
    del scene.env["REVIEW_AGENT_MAX_FILES"]
    again = passed(scene.review(installed=True))
    assert (again["verdict"], again["coverage"], len(scene.open())) == ("issues", "3/3", 3)


@pytest.mark.parametrize("on_error", ["block", "allow"])
def test_a_model_server_that_is_down_is_told_and_not_taken_for_a_clean_review(
    scene: Scene, on_error: str
) -> None:
    scene.model = f"http://127.0.0.1:{free_port()}"
    runner = scene.runner()
    job = scene.review(runner, installed=True, on_error=on_error)
    assert (job.failed, job.code) == (("Judge", 1) if on_error == "block" else ("", 0)), job.said
    level = "error" if on_error == "block" else "warning"
    reason, judged = job.told()
    assert reason.startswith(f"{level}: {told('failed')}")
    assert scene.model in reason
    assert judged == f"{level}: {told('not_reviewed')}"
    summary = runner.summary.read_text()
    assert told("not_reviewed") in summary
    assert scene.model in summary
    assert (job.outputs["verdict"], job.outputs["results_file"]) == ("", "")
    assert (scene.fake.threads, scene.fake.comments) == ([], [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fetch-depth": "1"}, ["error", told("shallow")]),
        ({"ref": "", "fetch-depth": "1"}, ["error", told("shallow")]),
    ],
)
def test_a_shallow_checkout_is_told_what_to_write(
    scene: Scene, given: dict[str, str], said: list[str]
) -> None:
    scene.merge()
    runner = scene.runner()
    scene.checkout(runner, **given)
    job = scene.review(runner, installed=True)
    assert (job.failed, job.code) == (REVIEW, 2), job.said
    assert job.told()[1] == ": ".join(said)


def test_the_merge_commit_of_a_default_checkout_is_not_taken_for_the_head(scene: Scene) -> None:
    scene.repo.git("checkout", "-q", "main")
    scene.fake.base = scene.repo.commit({"other.py": "BUG_on_main = 1\n"})  # not of the pull request
    scene.repo.git("checkout", "-q", "topic")
    scene.merge()
    runner = scene.runner()
    place = scene.checkout(runner, ref="")
    assert (place / "other.py").exists()
    assert passed(scene.review(runner, installed=True))["comments_inline"] == "3"
    assert scene.open() == ["f0.py", "f1.py", "f2.py"]


# --- events ---


@pytest.mark.parametrize(
    ("name", "event", "failed", "said"),
    [
        ("push", {"ref": "refs/heads/main"}, FIND, f"error: {told('no_pull_request', 'push')}"),
        ("issue_comment", {"issue": {"number": 7, "pull_request": {}}}, FIND, f"error: {told('no_pull_request', 'issue_comment')}"),
        ("merge_group", {"merge_group": {"head_sha": "0" * 40}}, "", f"notice: {told('merge_group')}"),
        ("pull_request_target", {"pull_request": {"number": 7, "head": {"sha": "0" * 40}}}, FIND, f"error: {told('target_event')}"),
        ("pull_request", {"pull_request": {"number": 7, "head": {"sha": "main\nx=1"}}}, FIND, f"error: {told('no_commit')}"),
        ("pull_request", {"pull_request": {"number": "7\nx=1"}}, FIND, f"error: {told('not_named', 'KeyError')}"),
        ("workflow_run", {"workflow_run": {"head_sha": "0" * 40, "head_repository": None}}, "", f"notice: {told('stale')}"),
        ("workflow_run", {"workflow_run": {"head_repository": "x"}}, FIND, f"error: {told('not_named', 'KeyError')}"),
    ],
)  # fmt: skip
def test_an_event_that_is_about_no_pull_request(
    scene: Scene, name: str, event: dict[str, Any], failed: str, said: str
) -> None:
    runner = scene.runner()
    runner.env["GITHUB_EVENT_NAME"] = name
    job = runner.run(event, installed=True, **scene.inputs())
    assert (job.failed, job.told()) == (failed, [said]), job.said
    assert job.ran == [FIND]
    assert scene.fake.log == []


def test_a_token_goes_to_no_address_without_tls(scene: Scene) -> None:
    scene.env["GITHUB_API_URL"] = "http://192.0.2.1"  # nothing answers there, and nothing is asked
    started = time.monotonic()
    job = scene.runner().run(scene.finished(), installed=True, report="any.json", github_token="token-bot")
    assert job.told() == [f"error: {told('not_named', 'ConfigError')}"]
    assert time.monotonic() - started < 10


def test_the_api_of_a_github_enterprise_has_a_path(scene: Scene) -> None:
    scene.env["GITHUB_API_URL"] += "/api/v3"
    job = scene.runner().run(scene.finished(), installed=True, report="any.json", github_token="token-bot")
    assert job.told() == [f"error: {told('not_named', 404)}"]  # the fake one has none
    assert [row[:2] for row in scene.fake.log] == [("GET", "/api/v3/repos/team/app/pulls")]


# --- where it runs ---


@pytest.mark.parametrize(
    ("system", "python", "key"),
    [("Windows", "", "no_windows"), ("Linux", "#!/bin/sh\nexit 1\n", "needs_python")],
)
@pytest.mark.parametrize("lang", LANGS)
def test_a_runner_that_does_not_fit_is_refused(
    scene: Scene, system: str, python: str, key: str, lang: str
) -> None:
    runner = scene.runner()
    runner.env["RUNNER_OS"] = system
    if python:
        (runner.temp / "bin" / "python3").write_text(python)
    job = runner.run(scene.event(), language=lang)
    assert (job.failed, job.told()) == (INSTALL, [f"error: {told(key, lang=lang)}"])


def test_a_runner_without_a_home_and_with_variables_of_git_and_python(scene: Scene, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    touch = f"touch {mark}"
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        del scene.env[name]
    config = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsmonitor", "GIT_CONFIG_VALUE_0": touch}
    planted = {
        "GIT_DIR": "/nonexistent",
        "GIT_EXTERNAL_DIFF": touch,
        "PYTHONHOME": "/nonexistent",
        "PYTHONSTARTUP": "/x",
    }
    runner = scene.runner()
    runner.env |= {**config, **planted, "REVIEW_AGENT_CHECKPOINT_PATH": str(tmp_path / "state")}
    assert passed(scene.review(runner, installed=True))["comments_inline"] == "3"
    assert not mark.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_cancelled_step_takes_the_tool_with_it(
    scene: Scene, start_server: Start, number: signal.Signals
) -> None:
    """GitHub tells only the process of the step; what it has started must not go on."""
    server = start_server(review="BUG", latency=60)
    scene.model = server.url
    runner = scene.runner()
    scene.checkout(runner)
    inputs = scene.inputs("")
    assert not runner.run(scene.event(), installed=True, last=FIND, **inputs).failed
    steps = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    at, step = next((at, step) for at, step in enumerate(steps) if step["name"] == REVIEW)
    context = {"inputs": runner.given(inputs), "steps": {"pull": {"outputs": {"number": "7"}}}}
    with subprocess.Popen(
        runner.argv(at, step, context),
        cwd=runner.workspace,
        env={**runner.environment(at, step, context), "CANCELLED": str(scene.tmp)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=heeding_all,  # noqa: PLW1509
    ) as process:
        wait_for(lambda: server.in_flight() > 0)
        process.send_signal(number)
        said = process.communicate(timeout=20)[0].decode()
    assert process.returncode == 143, said
    assert "::stop-commands::" in said
    assert alive(str(scene.tmp)) == []


def heeding_all() -> None:
    """The tests may run in the background, or under nohup: there some signals are ignored, by their programs too."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for(condition: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(mark: str) -> list[list[str]]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("CANCELLED") == mark:
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


# --- what it says ---


@pytest.mark.parametrize("lang", LANGS)
def test_the_shell_reads_the_catalogue_as_the_tool_does(scene: Scene, lang: str) -> None:
    keys = messages(lang)["action"]
    value = "a & b \\1 100% `x`\nsecond"
    script = f'. "{SCRIPTS}/common"; for key in {" ".join(keys)}; do tell error "$key" "$VALUE"; done'
    env = {**scene.runner().env, "INPUT_LANGUAGE": lang, "VALUE": value}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, check=True)
    shown = [
        line.partition("review-agent::")[2].replace("%0A", "\n").replace("%25", "%")
        for line in done.stdout.decode().splitlines()
    ]
    assert shown == [say(lang, "action", key, value=value) for key in keys]


def test_every_sentence_of_the_catalogue_is_used() -> None:
    code = "".join(path.read_text() for path in SCRIPTS.iterdir() if path.is_file())
    assert [key for key in messages("en")["action"] if key not in code] == []
    assert not [
        line for line in code.splitlines() if "::error" in line or "::warning" in line or "::notice" in line
    ]
