"""What stands in action.yml, in the workflows for users and in the pages about them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from driver import ROOT

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
EXAMPLES = sorted((ROOT / "examples" / "workflows").glob("*.yml"))


def test_steps_take_nothing_by_expression() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"]
        assert re.fullmatch(r'exec "\$GITHUB_ACTION_PATH/scripts/action/\w+"', step["run"])


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


PAGES = [ROOT / "docs" / name for name in ("github.md", "github.en.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_list_every_input_with_its_default_and_every_output(page: Path) -> None:
    text = page.read_text()
    table = re.findall(r"(?m)^\| `(\w+)` \| (?:`([^`]+)` )?\| \S", text.split("###")[1])
    assert table == [(name, row["default"]) for name, row in ACTION["inputs"].items()]
    assert [name for name in ACTION["outputs"] if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_name_every_example(page: Path) -> None:
    linked = re.findall(r"\(\.\./examples/workflows/(\S+)\)", page.read_text())
    assert sorted(linked) == [path.name for path in EXAMPLES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_yaml_in_the_pages_fits_the_workflow_that_it_is_for(page: Path, tmp_path: Path) -> None:
    (block,) = re.findall(r"(?ms)^```yaml\n(.*?)^```", page.read_text())
    added = yaml.safe_load(block)
    name = "review.yml"
    workflow = yaml.safe_load((ROOT / "examples" / "workflows" / name).read_text())
    (job,) = workflow["jobs"].values()
    assert job["permissions"].items() <= added["permissions"].items()
    job["permissions"], job["steps"] = added["permissions"], [*job["steps"], *added["steps"]]
    for step in added["steps"]:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"])
        assert set(re.findall(r"steps\.review\.outputs\.(\w+)", str(step))) <= set(ACTION["outputs"])
    # Dumped, YAML 1.1 calls `on` true; and comments are gone, those behind permissions, too.
    text = yaml.safe_dump(workflow, sort_keys=False).replace(
        "true:\n  pull_request: null", "on:\n  pull_request:"
    )
    (tmp_path / name).write_text(text)
    rules = tmp_path / "zizmor.yml"
    rules.write_text("rules:\n  undocumented-permissions:\n    disable: true\n")
    command = ["zizmor", "--quiet", "--offline", "--pedantic", "--config", rules, tmp_path / name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


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


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_ends_by_itself_and_may_do_little(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    (job,) = workflow["jobs"].values()
    assert workflow["permissions"] == {}
    assert 0 < job["timeout-minutes"] <= 60
    given = job["steps"][[step["uses"].startswith("OWNER/") for step in job["steps"]].index(True)]["with"]
    if "report" not in given:  # a job that GitHub ends publishes nothing: the review must end before
        assert 0 < int(given["max_review_seconds"]) <= (job["timeout-minutes"] - 10) * 60
    assert workflow["concurrency"]["cancel-in-progress"] == (path.stem != "comment")
    assert set(job["permissions"]) <= {"actions", "contents", "pull-requests"}
    assert job["permissions"].get("contents", "read") == job["permissions"].get("actions", "read") == "read"
    assert "run" not in {key for step in job["steps"] for key in step}
    assert ("secrets." in path.read_text()) == (path.stem == "cloud-trusted")
