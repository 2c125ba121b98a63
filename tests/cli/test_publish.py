"""`run --pr` and `publish` through the installed command, against a GitHub that refuses what the real one does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from driver import Cli, Server
from fake_github import FakeGitHub, Fault
from gitrepo import Repo, make_repo

from review_agent.agent.models import (
    Category,
    Coverage,
    EngineInfo,
    FileResult,
    FileStatus,
    Finding,
    Outcome,
    Report,
    Severity,
    Usage,
    Verdict,
    VerdictWord,
)
from review_agent.agent.reports.json_report import to_json

Start = Callable[..., Server]
FILES = 3
PLAIN = "".join(f"value_{n} = {n}\n" for n in range(40))


def bad(n: int) -> str:
    return PLAIN.replace("value_20 = 20\n", f"value_20 = 20\nBUG_{n} = open('x')\n")


class Scene:
    """A repository with a pull request, its forge, and the command in its runner's environment."""

    def __init__(self, cli: Cli, repo: Repo, fake: FakeGitHub, tmp: Path, model: str = "") -> None:
        self.cli, self.repo, self.fake, self.tmp, self.model = cli, repo, fake, tmp, model
        self.output, self.step = tmp / "output", tmp / "step"
        cli.env |= {
            "GITHUB_API_URL": fake.url,
            "GITHUB_REPOSITORY": "team/app",
            "GITHUB_TOKEN": "token-bot",
            "GITHUB_OUTPUT": str(self.output),
            "GITHUB_STEP_SUMMARY": str(self.step),
        }

    def publish(self, run: str | Path, *args: str, code: int = 0, **env: str) -> str:
        self.output.unlink(missing_ok=True)
        done = self.cli.run("publish", run, "--github", "--pr", "7", *args, cwd=self.repo.path, **env)
        assert done.returncode == code, (done.returncode, done.stderr.decode(), done.stdout.decode())
        return done.stderr.decode() + done.stdout.decode()

    def outputs(self) -> dict[str, str]:
        rows = self.output.read_text().splitlines()
        return dict(row.split("=", 1) for row in rows)

    def review(self, *args: str, code: int = 0) -> dict:
        argv = ("run", str(self.repo.path), "--pr", "7", "--base-url", self.model, *args)
        return self.cli.json(*argv, code=code)

    def round(self, *args: str, code: int = 0) -> dict[str, str]:
        """Review and publish, as the Action does; its outputs. `code`: the review's."""
        self.publish(str(self.review(*args, code=code)["run_id"]))
        return self.outputs()

    def push(self, files: dict[str, str]) -> str:
        head = self.repo.commit(dict(files))
        self.fake.push(head)
        return head

    def open(self) -> list[str]:
        return sorted(thread.path for thread in self.fake.threads if not thread.resolved)

    def writes(self) -> list[tuple[str, str, int]]:
        return [row for row in self.fake.log if row[0] != "GET" and row[1] != "/graphql"]


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = make_repo(tmp_path / "repo")
    repo.commit({f"f{n}.py": PLAIN for n in range(FILES)})
    repo.git("checkout", "-q", "-b", "topic")
    repo.commit({f"f{n}.py": bad(n) for n in range(FILES)})
    return repo


@pytest.fixture
def fake(repo: Repo) -> Iterator[FakeGitHub]:
    fake = FakeGitHub(repo.path, "main", "topic")
    with fake.serving():
        yield fake


@pytest.fixture
def scene(cli: Cli, repo: Repo, fake: FakeGitHub, tmp_path: Path) -> Scene:
    return Scene(cli, repo, fake, tmp_path)


@pytest.fixture
def live(scene: Scene, start_server: Start) -> Scene:
    """With a model that finds one problem in each file that says BUG."""
    scene.model = start_server(review="BUG").url
    return scene


# --- the life of a pull request ---


def test_a_first_push_is_commented_and_a_second_look_says_nothing_new(live: Scene) -> None:
    first = live.round()
    assert len(live.fake.reviews) == 1
    assert live.open() == ["f0.py", "f1.py", "f2.py"]
    assert [thread.line for thread in live.fake.threads] == [22, 22, 22]
    assert len(live.fake.comments) == 1
    summary = live.fake.comments[0]["body"]
    assert summary.startswith("<!-- review-agent:summary -->\n<!-- review-agent:checkpoint head=")
    assert "## 代码审查报告" in summary
    assert "审查结论：有问题" in summary
    assert first == {
        "comments_total": "3",
        "comments_inline": "3",
        "comments_skipped": "0",
        "comments_failed": "0",
        "summary_comment_url": f"{live.fake.url}/team/app/pull/7#issuecomment-{live.fake.comments[0]['id']}",
        "findings_count": "3",
        "verdict": "issues",
        "coverage": "3/3",
        "range_mode": "full",
        "range_reason": "first_run",
        "checkpoint_after": live.fake.head,
    }
    before = len(live.writes())
    again = live.round()
    assert (again["comments_inline"], again["range_mode"]) == ("0", "incremental")
    assert again["verdict"] == "issues"  # nothing new to review does not end what is open
    assert len(live.fake.threads) == 3
    assert len(live.fake.reviews) == 1
    assert len(live.writes()) == before
    whole = live.round("--full")
    assert (whole["comments_inline"], whole["comments_skipped"], whole["range_reason"]) == (
        "0",
        "3",
        "asked_for_all",
    )
    assert len(live.fake.threads) == 3


def test_a_fix_resolves_its_thread_and_the_others_are_carried(live: Scene) -> None:
    live.round()
    head = live.push({"f1.py": PLAIN + "done = 1\n"})
    out = live.round()
    assert (out["range_mode"], out["range_reason"], out["checkpoint_after"]) == (
        "incremental",
        "new_commits",
        head,
    )
    assert out["coverage"] == "1/1"
    assert out["verdict"] == "issues"
    assert live.open() == ["f0.py", "f2.py"]
    (closed,) = [thread for thread in live.fake.threads if thread.resolved]
    assert closed.body.startswith("<!-- review-agent:gone -->\n最新一次审查")
    assert "以前的问题仍未解决：2 个" in live.fake.comments[0]["body"]
    assert len(live.fake.comments) == 1


def test_a_fault_in_a_new_commit_of_an_old_file_is_one_new_comment(live: Scene) -> None:
    live.round()
    live.push({"f1.py": bad(1) + "more = 1\n"})
    out = live.round()
    assert out["comments_inline"] == "0"  # the file was looked at again, and its old problem found again
    assert live.open() == ["f0.py", "f1.py", "f2.py"]
    live.push({"f9.py": "BUG_9 = 1\n"})
    out = live.round()
    assert (out["comments_inline"], out["coverage"]) == ("1", "1/1")
    assert live.open() == ["f0.py", "f1.py", "f2.py", "f9.py"]


def test_equal_code_in_two_files_is_two_conversations(live: Scene) -> None:
    """The second run looks at one of them only: the other one's conversation is not taken for this one's."""
    same = "def load(path):\n    BUG = path\n    return path\n"
    live.push({f"f{n}.py": PLAIN for n in range(FILES)} | {"a.py": same, "b.py": same})
    assert live.round()["comments_inline"] == "2"
    assert live.open() == ["a.py", "b.py"]
    live.push({"b.py": f"{same}\n\ndone = 1\n"})
    out = live.round()
    assert (out["range_mode"], out["comments_inline"]) == ("incremental", "0")
    assert live.open() == ["a.py", "b.py"]
    live.push({"b.py": same.replace("BUG", "good")})
    live.round()
    assert live.open() == ["a.py"]


def test_a_force_push_is_reviewed_in_full_with_the_reason(live: Scene) -> None:
    live.round()
    live.repo.git("reset", "-q", "--hard", "main")
    live.push({f"f{n}.py": bad(n) + "rebased = 1\n" for n in range(FILES)})
    out = live.round()
    assert (out["range_mode"], out["range_reason"], out["coverage"]) == ("full", "history_rewritten", "3/3")
    assert out["comments_inline"] == "0"
    assert "强制推送" in live.fake.comments[0]["body"]


def test_with_fail_on_the_older_findings_count(live: Scene) -> None:
    live.round()
    live.push({"f9.txt": "no code\n"})
    out = live.round("--fail-on", "low", code=3)
    assert (out["range_mode"], out["range_reason"]) == ("full", "gated")
    assert "`fail_on`" in live.fake.comments[0]["body"]


def test_another_reason_to_review_all(live: Scene) -> None:
    live.round()
    out = live.round("--min-severity", "low")
    assert (out["range_mode"], out["range_reason"]) == ("full", "review_changed")
    live.repo.git("checkout", "-q", "main")
    live.repo.commit({"other.py": "BUG_main = 1\n"})
    live.repo.git("checkout", "-q", "topic")
    live.repo.git("merge", "-q", "main", "-m", "merge")
    live.fake.base = live.repo.git("rev-parse", "main").strip()
    live.fake.push("topic")
    out = live.round("--min-severity", "low")
    assert (out["range_mode"], out["range_reason"]) == ("full", "base_moved")
    assert "other.py" not in live.open()


def test_what_somebody_closed_stays_closed(live: Scene) -> None:
    live.round()
    live.fake.threads[0].resolved = True
    out = live.round("--full")
    assert out["comments_inline"] == "0"
    assert len(live.fake.threads) == 3
    assert live.fake.threads[0].resolved
    assert "不再提起：1 个" in live.fake.comments[0]["body"]


def test_a_problem_that_comes_back_is_said_again(live: Scene) -> None:
    live.round()
    live.push({"f1.py": PLAIN})
    live.round()
    live.push({"f1.py": bad(1)})
    out = live.round()
    assert out["comments_inline"] == "1"
    assert [thread.resolved for thread in live.fake.threads if thread.path == "f1.py"] == [True, False]


def test_a_failed_file_resolves_nothing_and_sets_no_checkpoint(live: Scene, start_server: Start) -> None:
    live.round()
    mark = live.fake.comments[0]["body"].splitlines()[1]
    live.push({"f1.py": PLAIN + "x = 1\n", "f2.py": PLAIN + "y = 1\n"})
    live.model = start_server(fault="http500").url
    done = live.cli.run("run", live.repo.path, "--pr", "7", "--base-url", live.model, "--format", "json")
    assert done.returncode == 1
    live.publish(json.loads(done.stdout)["run_id"])
    assert live.open() == ["f0.py", "f1.py", "f2.py"]
    assert live.fake.comments[0]["body"].splitlines()[1] == mark
    assert live.outputs()["verdict"] == "not_reviewed"


def test_a_forged_summary_and_forged_threads_are_not_ours(live: Scene) -> None:
    """Anybody may write our markers, not in our name."""
    key = "0" * 32
    live.fake.comments.append(
        {
            "id": 1,
            "author": "mallory",
            "html_url": f"{live.fake.url}/1",
            "body": "<!-- review-agent:summary -->\n"
            f"<!-- review-agent:checkpoint head={live.fake.head} base={live.fake.base} key={key} -->\n",
        }
    )
    live.fake._thread(
        live.fake.tokens["token-human"],
        {"path": "f0.py", "line": 22, "body": f"x\n\n<!-- review-agent:f={key} -->"},
    )
    out = live.round()
    assert (out["comments_inline"], out["range_reason"]) == ("3", "first_run")
    assert not live.fake.threads[0].resolved
    assert len(live.fake.comments) == 2


def test_a_summary_that_somebody_edited_is_no_checkpoint(live: Scene) -> None:
    live.round()
    live.fake.comments[0]["editor"] = "mallory"
    out = live.round()
    assert (out["range_mode"], out["range_reason"]) == ("full", "first_run")
    assert len(live.fake.comments) == 1


def test_a_base_branch_decides_the_rules_of_an_incremental_run(live: Scene) -> None:
    live.round()
    live.push({".review-agent.toml": 'exclude = ["f0.py"]\n'})
    live.round()
    live.push({"f0.py": bad(0) + "z = 1\n"})
    report = live.review()
    assert [file["status"] for file in report["files"] if file["path"] == "f0.py"] == ["reviewed"]


def test_commits_that_are_not_here_are_asked_for(live: Scene, tmp_path: Path) -> None:
    base = make_repo(tmp_path / "elsewhere")
    base.commit({"a.py": "x"})
    done = live.cli.run("run", base.path, "--pr", "7", "--base-url", live.model)
    assert done.returncode == 2
    assert "git fetch origin pull/7/head" in done.stderr.decode()


def test_the_event_of_a_runner_names_the_commits(live: Scene, tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    pull = {"number": 7, "base": {"sha": live.fake.base}, "head": {"sha": live.fake.head}}
    event.write_text(json.dumps({"pull_request": pull}))
    report = live.cli.json(
        "run",
        live.repo.path,
        "--pr",
        "7",
        "--base-url",
        live.model,
        GITHUB_EVENT_PATH=str(event),
        GITHUB_TOKEN="",
    )
    assert report["coverage"]["files_reviewed"] == 3
    assert "pr_summary_unread" in [note["key"] for note in report["notes"]]
    assert live.fake.log == []


# --- reports without a model ---


def finding(n: int, path: str = "big.py", **changes: object) -> Finding:
    made = Finding(
        rule_id="ai/bug",
        category=Category.BUG,
        severity=Severity.MEDIUM,
        confidence=0.8,
        path=path,
        start_line=n,
        end_line=n,
        title=f"问题 {n}",
        message="说明",
        fingerprint=f"{n:032x}",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def report_of(*findings: Finding, **changes: object) -> Report:
    paths = sorted({each.path for each in findings})
    made = Report(
        run_id="20261128-000000-abcdef",
        target="range:main..topic",
        lang="zh-CN",
        engine=EngineInfo("local", "ollama", "m", ""),
        verdict=VerdictWord.ISSUES,
        verdict_reason="",
        coverage=Coverage(len(paths), len(paths), 0, 0, 1, 1),
        summary="",
        verdicts=tuple(Verdict(each, Outcome.REPORTED) for each in findings),
        files=tuple(FileResult(path, FileStatus.REVIEWED) for path in paths),
        usage=Usage(),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def big(scene: Scene) -> Scene:
    scene.push({"big.py": "".join(f"line_{n}\n" for n in range(1, 201))})
    return scene


def send(scene: Scene, report: Report, *args: str, code: int = 0, **env: str) -> str:
    path = scene.tmp / "report.json"
    path.write_text(to_json(report))
    return scene.publish(path, "--head", scene.fake.head, *args, code=code, **env)


def test_many_findings_go_in_batches_of_fifty(big: Scene) -> None:
    send(big, report_of(*(finding(n) for n in range(1, 121))))
    assert [review["comments"] for review in big.fake.reviews] == [50, 50, 20]
    assert len({thread.line for thread in big.fake.threads}) == 120
    assert big.outputs()["comments_inline"] == "120"


def test_pages_are_read_to_their_end(big: Scene) -> None:
    big.fake.page_size = 2
    big.push({f"n{n}.py": "x = 1\n" for n in range(7)})
    report = report_of(finding(1, "n6.py"), *(finding(n) for n in range(2, 8)))
    send(big, report)
    send(big, report)
    assert len(big.fake.threads) == 7
    assert len(big.fake.comments) == 1


def test_a_comment_that_is_refused_does_not_take_the_others_with_it(big: Scene) -> None:
    refusal = {
        "message": "Unprocessable Entity",
        "errors": ["Pull request review thread line must be part of the diff"],
    }
    big.fake.faults.append(Fault(r"POST .*/reviews .*问题 7\b", 422, refusal, times=99))
    said = send(big, report_of(*(finding(n) for n in range(1, 61))))
    assert len(big.fake.threads) == 59
    assert big.outputs()["comments_failed"] == "1"
    assert "问题 7" in big.fake.comments[0]["body"].split("没有接受行内评论的问题（1 个）")[1]
    assert "没有接受其中 1 条评论" in said


def test_lines_that_github_does_not_take_go_to_the_summary(scene: Scene) -> None:
    report = report_of(
        finding(22, "f0.py"),
        finding(2, "f0.py"),
        finding(5, "not-in-the-diff.py"),
        finding(0, "f0.py", start_line=0, end_line=0, title="整个文件"),
        finding(15, "f0.py", start_line=15, end_line=30, fingerprint="ab" * 16),
    )
    send(scene, report)
    assert [(thread.start_line, thread.line) for thread in scene.fake.threads] == [(19, 25), (None, 22)]
    listed = scene.fake.comments[0]["body"].split("不在改动行上的问题（3 个）")[1]
    assert all(place in listed for place in ("f0.py:2", "not-in-the-diff.py:5", "整个文件"))
    assert [status for *_, status in scene.fake.log if status >= 400] == []


def test_a_large_file_without_a_patch_takes_no_comment(big: Scene) -> None:
    big.fake.large_files = ("big.py",)
    send(big, report_of(finding(1)))
    assert big.fake.threads == []
    assert "big.py:1" in big.fake.comments[0]["body"]


@pytest.mark.parametrize(
    ("changes", "block"),
    [
        ({"exact": True}, "```suggestion\nnew = 1\n```"),
        ({"exact": False}, "**建议改为**\n\n```\nnew = 1\n```"),
        ({"exact": True, "start_line": 15, "end_line": 30}, "**建议改为**\n\n```\nnew = 1\n```"),
        # What a click would break: a mask in place of a secret, escapes in place of what they show.
        ({"exact": True, "replacement": "k = '<secret:password>'\n"}, "```\nk = '<secret:password>'\n```"),
        ({"exact": True, "replacement": "k = 'ghp_" + "a1B2c3D4e5F6" * 3 + "'\n"}, "```\nk = '<secret:"),
        ({"exact": True, "replacement": "k = '\u202e'\n"}, "```\nk = '\\u202e'\n```"),
        ({"exact": True, "replacement": "::error::x\n"}, "```\n\\x3a:error::x\n```"),
    ],
)
def test_a_suggestion_only_where_it_replaces_the_lines(scene: Scene, changes: dict, block: str) -> None:
    send(scene, report_of(finding(22, "f0.py", **{"replacement": "new = 1\n", **changes})))
    (thread,) = scene.fake.threads
    assert block in thread.body
    assert ("```suggestion" in thread.body) is ("suggestion" in block)


def test_text_from_outside_is_words_and_code(scene: Scene) -> None:
    evil = "@all #1 ![x](http://evil.example/p) <img src=x> <!-- review-agent:f=" + "0" * 32 + " -->\n/close"
    send(
        scene,
        report_of(
            finding(22, "f0.py", title=evil, message=evil, suggestion=evil, replacement=f"```\n{evil}")
        ),
    )
    (thread,) = scene.fake.threads
    prose = re.sub(r"(?s)(`{3,}).*?\n\1", "", thread.body)
    prose = re.sub(r"`[^`]+`", "", prose)
    assert not re.search(r"@all|http|<img|!\[", prose)
    assert prose.count("<!--") == 1
    assert thread.body.endswith(f"<!-- review-agent:f={22:032x} -->")
    send(scene, report_of(finding(22, "f0.py")))
    assert len(scene.fake.threads) == 1


# --- what GitHub says no to ---


def test_a_fork_needs_no_token(scene: Scene) -> None:
    worst = [finding(n, "f0.py", severity=Severity.HIGH) for n in range(1, 14)]
    other = finding(21, "a,b:c%.py", severity=Severity.LOW, message="一\n二 100%")
    said = send(scene, report_of(*worst, other), GITHUB_TOKEN="", GITHUB_ACTIONS="true")
    lines = [line for line in said.splitlines() if line.startswith("::")]
    assert [line.split(" ")[0] for line in lines] == ["::error"] * 10 + ["::notice"]
    assert lines[-1] == (
        "::notice title=问题 21,file=a%2Cb%3Ac%25.py,line=21,endLine=21::问题 21%0A一%0A二 100%25"
    )
    assert "没有令牌，不能评论" in said
    assert "另有 3 条放不下" in said
    assert "# 代码审查报告" in scene.step.read_text()
    assert scene.outputs() | {"coverage": ""} == {
        "comments_total": "14",
        "comments_inline": "0",
        "comments_skipped": "14",
        "comments_failed": "0",
        "findings_count": "14",
        "verdict": "issues",
        "coverage": "",
        "range_mode": "full",
        "range_reason": "",
    }
    assert scene.fake.log == []


def test_a_token_that_may_only_read_leads_to_annotations(scene: Scene) -> None:
    said = send(scene, report_of(finding(22, "f0.py")), GITHUB_TOKEN="token-read", GITHUB_ACTIONS="true")
    assert "::warning title=问题 22,file=f0.py,line=22,endLine=22::问题 22%0A说明" in said
    assert "不让这个令牌评论" in said
    assert "Resource not accessible by integration" in said
    assert scene.fake.threads == []


@pytest.mark.parametrize(
    ("env", "code", "words"),
    [
        ({"GITHUB_TOKEN": "token-read"}, 1, "没有权限（403）"),
        ({"GITHUB_TOKEN": ""}, 1, "GITHUB_TOKEN"),
        ({"GITHUB_TOKEN": "wrong"}, 1, "不接受这个令牌"),
        ({"GITHUB_TOKEN": "wrong", "GITHUB_ACTIONS": "true"}, 1, "不接受这个令牌"),
        ({"GITHUB_REPOSITORY": "team/other"}, 1, "找不到 `team/other`"),
        ({"GITHUB_REPOSITORY": ""}, 2, "--repo"),
        ({"GITHUB_REPOSITORY": "team/../x"}, 2, "OWNER/NAME"),
        ({"GITHUB_API_URL": "http://github.example"}, 2, "https"),
        ({"GITHUB_API_URL": "http://127.0.0.1:9"}, 1, "无法连接"),
    ],
)
def test_what_cannot_be_done_is_said(scene: Scene, env: dict[str, str], code: int, words: str) -> None:
    said = send(scene, report_of(finding(22, "f0.py")), code=code, **env)
    assert words in said
    assert "token-read" not in said
    assert scene.fake.threads == []


def test_threads_that_may_not_be_resolved_are_marked_instead(scene: Scene) -> None:
    """`GITHUB_TOKEN` resolves only with `contents: write`."""
    both = report_of(finding(22, "f0.py"), finding(22, "f1.py", fingerprint="cd" * 16))
    send(scene, both, GITHUB_TOKEN="token-no-contents")
    none = replace(both, verdicts=(), verdict=VerdictWord.PASS)
    said = send(scene, none, GITHUB_TOKEN="token-no-contents")
    assert [thread.resolved for thread in scene.fake.threads] == [False, False]
    assert all("不再报告这个问题" in thread.body for thread in scene.fake.threads)
    assert "contents: write" in said
    send(scene, none)  # a token that may
    assert [thread.resolved for thread in scene.fake.threads] == [True, True]
    assert all(thread.body.count("不再报告这个问题") == 1 for thread in scene.fake.threads)


QUICKLY = {
    "message": "Validation Failed",
    "errors": [{"resource": "PullRequestReview", "code": "custom", "message": "was submitted too quickly"}],
}
SECONDARY = {
    "message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
}


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST .*/reviews", 403, SECONDARY, {"Retry-After": "1"}, times=2),
        Fault("POST .*/reviews", 429, {"message": "Too Many Requests"}, {"Retry-After": "1"}),
        Fault(
            "POST .*/reviews",
            403,
            {"message": "API rate limit exceeded"},
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"},
        ),
        Fault("GET .*/files", 502, times=2),
        Fault("POST .*/reviews", 502),
        Fault("POST .*/reviews", 502, after=True),
        Fault("POST .*/issues/7/comments", 503, after=True),
        Fault("POST .*/reviews", 503, None, {"Retry-After": "1"}, after=True),
        Fault("POST .*/reviews", 422, QUICKLY, {"Retry-After": "1"}),
        Fault(
            "POST /graphql .*reviewThreads",
            200,
            {"data": None, "errors": [{"message": "Something went wrong"}]},
        ),
        Fault("POST /graphql", 500, b"<html>Unicorn!</html>"),
    ],
    ids=lambda fault: f"{fault.match} {fault.status}{' after' if fault.after else ''}",
)
def test_limits_and_faults_are_waited_for_and_nothing_is_said_twice(scene: Scene, fault: Fault) -> None:
    scene.fake.faults.append(replace(fault))
    send(scene, report_of(finding(22, "f0.py"), finding(22, "f1.py", fingerprint="cd" * 16)))
    assert len(scene.fake.threads) == 2
    assert len(scene.fake.comments) == 1
    assert scene.outputs()["comments_inline"] == "2"
    assert scene.fake.faults[0].times == 0


def test_a_limit_that_is_too_long_ends_and_the_next_call_goes_on(big: Scene) -> None:
    big.fake.faults.append(Fault("POST .*/reviews .*问题 60", 403, SECONDARY, {"Retry-After": "3600"}))
    report = report_of(*(finding(n) for n in range(1, 71)))
    said = send(big, report, code=1)
    assert "从没有发布的地方继续" in said
    assert len(big.fake.threads) == 50
    send(big, report)
    assert len(big.fake.threads) == 70
    assert len({thread.line for thread in big.fake.threads}) == 70


def test_an_answer_that_leads_elsewhere_is_not_followed(scene: Scene) -> None:
    scene.fake.faults.append(Fault("GET .*/pulls/7 ", 301, None, {"Location": "http://127.0.0.1:9/x"}))
    assert "转往别处" in send(scene, report_of(finding(22, "f0.py")), code=1)


def test_a_newer_head_is_not_commented_on(scene: Scene) -> None:
    path = scene.tmp / "report.json"
    path.write_text(to_json(report_of(finding(22, "f0.py"))))
    old = scene.fake.head
    scene.push({"f0.py": PLAIN})
    said = scene.publish(path, "--head", old, code=1)
    assert "已经有新的提交" in said
    assert scene.writes() == []


def test_a_head_that_moves_meanwhile_is_noticed_at_the_first_refusal(big: Scene) -> None:
    gone = {"message": "Unprocessable Entity", "errors": ["Commit is not part of the pull request"]}
    report = report_of(*(finding(n) for n in range(1, 41)))
    hold = Event()
    fault = Fault("POST .*/reviews", 0, hold=hold)
    big.fake.faults += [fault, Fault("POST .*/reviews", 422, gone, times=99)]
    path = big.tmp / "report.json"
    path.write_text(to_json(report))
    child = big.cli.start("publish", path, "--github", "--pr", "7", "--head", big.fake.head)
    assert fault.reached.wait(30)
    big.push({"f0.py": PLAIN})
    hold.set()
    said = child.communicate(timeout=30)[1].decode()
    assert child.returncode == 1
    assert "已经有新的提交" in said
    assert posted(big) == [422]


def posted(scene: Scene) -> list[int]:
    return [
        status for method, path, status in scene.fake.log if method == "POST" and path.endswith("/reviews")
    ]


def test_a_review_that_waits_to_be_submitted_is_in_the_way(big: Scene) -> None:
    """Of somebody who publishes in their own name: GitHub allows one, and refuses every other."""
    big.fake.pending.add("github-actions[bot]")
    assert "还没提交的审查" in send(big, report_of(*(finding(n) for n in range(1, 21))), code=1)
    assert posted(big) == [422]
    assert big.fake.comments == []


def test_too_many_comments_may_be_answered_with_404(big: Scene) -> None:
    missing = Fault(r"POST .*/reviews .*问题 1\b.*问题 2\b", 404, {"message": "Not Found"}, times=99)
    big.fake.faults.append(missing)
    send(big, report_of(*(finding(n) for n in range(1, 41))))
    assert len(big.fake.threads) == 40


def test_a_refusal_is_given_in_github_s_words(scene: Scene) -> None:
    locked = {"message": "Unable to create comment because issue is locked."}
    scene.fake.faults.append(Fault("POST .*/(reviews|comments)", 403, locked, times=99))
    assert "issue is locked" in send(scene, report_of(finding(22, "f0.py")), GITHUB_ACTIONS="true")


def test_a_server_that_repeats_the_token_does_not_bring_it_out(scene: Scene) -> None:
    scene.fake.faults.append(Fault("GET", 418, {"message": "no: token-bot"}))
    said = send(scene, report_of(finding(22, "f0.py")), code=1)
    assert "***" in said
    assert "token-bot" not in said


def test_a_dry_run_without_a_token_writes_nothing_either(scene: Scene) -> None:
    send(scene, report_of(finding(22, "f0.py")), "--dry-run", code=1, GITHUB_TOKEN="", GITHUB_ACTIONS="true")
    assert not scene.step.exists()


def test_a_dry_run_writes_nothing(scene: Scene) -> None:
    said = send(scene, report_of(finding(22, "f0.py"), finding(1, "f0.py")), "--dry-run")
    assert "试运行，没有发布：新评论 1 条，已有 0 条，写入汇总 1 条" in said
    assert "f0.py:22" in said
    assert scene.writes() == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--pr", "7"], "--github"),
        (["--github"], "--pr"),
        (["--github", "--pr", "0"], "编号"),
        (["--github", "--pr", "7x"], "编号"),
        (["--github", "--pr", "7"], "--head"),
        (["--github", "--pr", "7", "--head", "main"], "提交编号"),
    ],
)
def test_usage(scene: Scene, args: list[str], words: str) -> None:
    done = scene.cli.run("publish", "report.json", *args)
    assert done.returncode == 2
    assert words in done.stderr.decode()


@pytest.mark.parametrize("text", ["", "{}", "[" * 5000])
def test_a_report_from_another_job_may_be_anything(scene: Scene, text: str) -> None:
    path = scene.tmp / "report.json"
    path.write_text(text)
    scene.publish(path, "--head", scene.fake.head, code=1)
    assert scene.writes() == []
