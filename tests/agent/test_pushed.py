"""The lines that git gives to a pre-push hook, and the variables of pre-commit."""

from __future__ import annotations

import pytest

from review_agent.agent.pushed import ZERO, Push, PushedRef, from_pre_commit, read_push

A, B = "a" * 40, "b" * 40
LONG = "c" * 64


@pytest.mark.parametrize(
    ("line", "ref"),
    [
        (f"refs/heads/x {A} refs/heads/x {B}", PushedRef("refs/heads/x", A, "refs/heads/x", B)),
        (f"HEAD@{{1 day ago}} {A} refs/heads/x {B}", PushedRef("HEAD@{1 day ago}", A, "refs/heads/x", B)),
        (f"(delete) {ZERO} refs/tags/v1 {B}", PushedRef("(delete)", ZERO, "refs/tags/v1", B)),
        (f"refs/heads/分支 {LONG} refs/heads/分支 {'0' * 64}", PushedRef("refs/heads/分支", LONG, "refs/heads/分支", "0" * 64)),
        (f"HEAD {A} refs/for/main {ZERO}", PushedRef("HEAD", A, "refs/for/main", ZERO)),
    ],
)  # fmt: skip
def test_a_line(line: str, ref: PushedRef) -> None:
    assert read_push("origin", line + "\n") == Push("origin", (ref,))


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        f"refs/heads/x {A} refs/heads/x",
        f"refs/heads/x {A} refs/heads/x {B} more",
        f"refs/heads/x {A[:39]} refs/heads/x {B}",
        f"refs/heads/x {A.upper()} refs/heads/x {B}",
        f"refs/heads/x {A} --output=x {B}",
        f"refs/heads/x {A} refs/heads/x -{B}",
    ],
)
def test_what_is_no_line(line: str) -> None:
    assert read_push("origin", f"{line}\n") == Push("origin", (), (line,))


def test_blank_lines_say_nothing() -> None:
    assert read_push("origin", "\n \n") == Push("origin")


@pytest.mark.parametrize(
    ("remote_ref", "local", "remote", "answers"),
    [
        ("refs/heads/a/b", A, B, ("a/b", False, False, False)),
        ("refs/tags/v1", A, ZERO, ("v1", True, False, True)),
        ("refs/for/main", ZERO, B, ("refs/for/main", False, True, False)),
    ],
)
def test_what_a_line_means(
    remote_ref: str, local: str, remote: str, answers: tuple[str, bool, bool, bool]
) -> None:
    ref = PushedRef("x", local, remote_ref, remote)
    assert (ref.name, ref.is_tag, ref.deletes, ref.creates) == answers


BRANCHES = {
    "PRE_COMMIT_LOCAL_BRANCH": "refs/heads/x",
    "PRE_COMMIT_REMOTE_BRANCH": "refs/heads/y",
    "PRE_COMMIT_REMOTE_NAME": "origin",
}


@pytest.mark.parametrize(
    ("variables", "push"),
    [
        ({}, None),
        ({"PRE_COMMIT": "1"}, None),
        (BRANCHES, None),
        (
            {"PRE_COMMIT": "1", **BRANCHES, "PRE_COMMIT_FROM_REF": B, "PRE_COMMIT_TO_REF": A},
            Push("origin", (PushedRef("refs/heads/x", A, "refs/heads/y", B),)),
        ),
        (
            {"PRE_COMMIT": "1", **BRANCHES},
            Push("origin", (PushedRef("refs/heads/x", LONG, "refs/heads/y", ZERO),)),
        ),
    ],
)
def test_pre_commit(variables: dict[str, str], push: Push | None) -> None:
    assert from_pre_commit(variables, LONG) == push
