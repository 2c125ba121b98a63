from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fake_github import FakeGitHub, Fault
from gitrepo import make_repo

from review_agent.agent.errors import (
    ConfigError,
    ForgeBusy,
    ForgeDenied,
    ForgeError,
    ForgeFault,
    ForgeMissing,
    ForgeRejected,
)
from review_agent.tools.endpoints import make_endpoint
from review_agent.tools.forges.github import MAX_ANSWER, GitHub, api_endpoint, repository_name


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeGitHub]:
    repo = make_repo(tmp_path / "repo")
    base = repo.commit({"a.py": "one\n"})
    fake = FakeGitHub(repo.path, base, repo.commit({"a.py": "one\ntwo\n", "支付 x.py": "x\n"}))
    with fake.serving():
        yield fake


@asynccontextmanager
async def opened(
    fake: FakeGitHub, token: str = "token-bot", number: int = 7
) -> AsyncIterator[tuple[GitHub, list[float]]]:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async with GitHub(
        make_endpoint(fake.url), "team/app", number, token, sleep=sleep, clock=lambda: 1000.0
    ) as forge:
        yield forge, waited


async def test_what_is_read(fake: FakeGitHub) -> None:
    fake.page_size = 1
    async with opened(fake) as (forge, _):
        assert (await forge.pull()).head.sha == fake.head
        assert [file.filename for file in await forge.files()] == ["a.py", "支付 x.py"]
        for body in ("one", "two"):
            await forge.comment(body)
        comments = [{"path": "a.py", "line": 2, "side": "RIGHT", "body": text} for text in ("x", "y")]
        await forge.review(fake.head, "body", comments)
        assert [(row.body, row.mine) for row in await forge.comments()] == [("one", True), ("two", True)]
        threads = await forge.threads()
        assert [(each.path, each.first and each.first.body) for each in threads] == [
            ("a.py", "x"),
            ("a.py", "y"),
        ]
        await forge.resolve(threads[0].id)
        assert [each.resolved for each in await forge.threads()] == [True, False]


@pytest.mark.parametrize(
    ("comment", "words"),
    [
        ({"path": "a.py", "line": 9}, "line must be part of the diff"),
        ({"path": "b.py", "line": 1}, "path is invalid"),
        ({"path": "a.py", "line": 2, "start_line": 2}, "start line must precede the end line"),
        ({"path": "a.py", "line": 2, "body": "x" * 65_537}, "body is too long"),
        ({"path": "a.py", "line": 2, "body": " "}, "body can't be blank"),
        ({"path": "a.py", "line": 2, "position": 1}, "not permitted"),
    ],
)
async def test_a_review_is_refused_whole(fake: FakeGitHub, comment: dict[str, object], words: str) -> None:
    good = {"path": "a.py", "line": 1, "body": "fine"}
    async with opened(fake) as (forge, _):
        with pytest.raises(ForgeRejected) as caught:
            await forge.review(fake.head, "body", [good, {"body": "x", **comment}])
    assert words in str(caught.value.fields["detail"])
    assert fake.threads == []


@pytest.mark.parametrize(
    ("token", "number", "error"),
    [("token-read", 7, ForgeDenied), ("nobody", 7, ForgeDenied), ("token-bot", 8, ForgeMissing)],
)
async def test_who_may_not(fake: FakeGitHub, token: str, number: int, error: type[ForgeError]) -> None:
    async with opened(fake, token, number) as (forge, waited):
        with pytest.raises(error):
            await forge.comment("x")
    assert waited == []


async def test_the_error_of_a_token_holds_no_token(fake: FakeGitHub) -> None:
    async with opened(fake, "nobody-secret") as (forge, _):
        with pytest.raises(ForgeDenied) as caught:
            await forge.pull()
    assert "nobody-secret" not in repr(caught.value) + repr(caught.value.fields)


@pytest.mark.parametrize(
    ("fault", "error", "waits"),
    [
        (Fault("pulls/7 ", 500, times=2), None, [0.5, 1.0]),
        (Fault("pulls/7 ", 429, None, {"Retry-After": "5"}, times=2), None, [5.0, 5.0]),
        (Fault("pulls/7 ", 429, None, {"Retry-After": "61"}), ForgeBusy, []),
        (Fault("pulls/7 ", 500, times=99), ForgeFault, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]),
        (Fault("pulls/7 ", 429, None, {"Retry-After": "0"}, times=99), ForgeBusy, [0.0] * 6),
        (Fault("pulls/7 ", 302, None, {"Location": "http://127.0.0.1:9/"}), ForgeError, []),
        (Fault("pulls/7 ", 200, b"no json"), ForgeFault, []),
        (
            Fault("pulls/7 ", 200, {"number": 7, "base": {"sha": "main"}, "head": {"sha": "x"}}),
            ForgeFault,
            [],
        ),
        (Fault("pulls/7 ", 200, b"[" * 100_000), ForgeFault, []),
        (Fault("pulls/7 ", 200, b" " * (MAX_ANSWER + 1)), ForgeError, []),
        (Fault("pulls/7 ", 418, b"\xff"), ForgeError, []),
    ],
    ids=lambda value: (
        f"{value.status}-{len(value.headers)}-{value.times}" if isinstance(value, Fault) else ""
    ),
)
async def test_answers_that_are_none(
    fake: FakeGitHub, fault: Fault, error: type[ForgeError] | None, waits: list[float]
) -> None:
    fake.faults.append(fault)
    async with opened(fake) as (forge, waited):
        if error is None:
            assert (await forge.pull()).number == 7
        else:
            with pytest.raises(ForgeError) as caught:
                await forge.pull()
            assert type(caught.value) is error
    assert waited == waits


@pytest.mark.parametrize("status", [500, 502])
async def test_what_may_have_been_done_is_not_sent_again(fake: FakeGitHub, status: int) -> None:
    fake.faults.append(Fault("POST .*/comments", status, after=True))
    async with opened(fake) as (forge, _):
        with pytest.raises(ForgeFault):
            await forge.comment("once")
    assert len(fake.comments) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"[]",
        b"{}",
        b'{"data":null}',
        b'{"data":{"repository":null}}',
        b'{"errors":[1]}',
        b'{"errors":{"a":1}}',
    ],
)
async def test_graphql_answers_of_another_form(fake: FakeGitHub, answer: bytes) -> None:
    fake.faults.append(Fault("/graphql", 200, answer))
    async with opened(fake) as (forge, _):
        with pytest.raises(ForgeError):
            await forge.threads()


async def test_where_graphql_is(fake: FakeGitHub) -> None:
    places = {
        "https://api.github.com": "https://api.github.com/graphql",
        "https://git.example.com/api/v3": "https://git.example.com/api/graphql",
        fake.url: f"{fake.url}/graphql",
    }
    for url, graphql in places.items():
        async with GitHub(make_endpoint(url), "team/app", 7, "t") as forge:
            assert forge._graphql_path() == graphql


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("", True),
        ("https://git.example.com/api/v3", True),
        ("http://127.0.0.1:8080", True),
        ("http://git.example.com/api/v3", False),
        ("https://user@git.example.com", False),
        ("ftp://git.example.com", False),
    ],
)
def test_a_token_goes_over_tls_only(url: str, fine: bool) -> None:
    if fine:
        assert api_endpoint(url).url == (url or "https://api.github.com")
    else:
        with pytest.raises(ConfigError):
            api_endpoint(url)


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        ("team/app", True),
        ("team/.github", True),
        ("t-1/a_b.c", True),
        *(
            (name, False)
            for name in ("team", "team/..", "../app", "team/app/x", "team/a b", "团队/app", "a/b?c", "a/b\n")
        ),
    ],
)
def test_names_of_repositories(name: str, fine: bool) -> None:
    if fine:
        assert repository_name(name) == name
    else:
        with pytest.raises(ConfigError):
            repository_name(name)


def test_the_fake_tells_its_state(fake: FakeGitHub) -> None:
    status, state, _ = fake.answer("GET", "/__fake/state", "", {})
    assert status == 200
    assert json.loads(json.dumps(state))["head"] == fake.head
