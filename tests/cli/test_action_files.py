"""What stands in action.yml, in the workflows for users and in the pages about them."""

from __future__ import annotations

import re
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
