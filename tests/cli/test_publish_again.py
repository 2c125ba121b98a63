"""What is published again: after a kill, by two at once, after people edited, deleted, answered or closed."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from threading import Event

import pytest
from fake_github import Fault
from test_publish import PLAIN, Scene, bad, big, fake, finding, repo, report_of, scene, send

from review_agent.agent.markers import said_of
from review_agent.agent.models import Report
from review_agent.agent.reports.json_report import to_json

__all__ = ["big", "fake", "repo", "scene"]  # fixtures
ONE = finding(22, "f0.py")
TWO = report_of(ONE, finding(22, "f1.py", fingerprint="cd" * 16))


def gone(report: Report) -> Report:
    return replace(report, verdicts=())


def begin(scene: Scene, report: Report, **env: str) -> subprocess.Popen[bytes]:
    path = scene.tmp / "begun.json"
    path.write_text(to_json(report))
    return scene.cli.start("publish", path, "--github", "--pr", "7", "--head", scene.fake.head, **env)


def end(child: subprocess.Popen[bytes]) -> str:
    out, err = child.communicate(timeout=30)
    assert child.returncode == 0, err.decode()
    return (out + err).decode()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("match", "report"),
    [
        ("POST .*/reviews", TWO),
        ("POST .*/issues/7/comments", TWO),
        ("PATCH .*/pulls/comments", gone(TWO)),
        ("resolveReviewThread", gone(TWO)),
        ("PATCH .*/issues/comments", gone(TWO)),
    ],
)
def test_killed_at_any_request_the_next_one_says_nothing_twice(
    scene: Scene, match: str, report: Report, after: bool
) -> None:
    if report != TWO:
        send(scene, TWO)
    fault = Fault(match, 0, after=after, hold=Event())
    scene.fake.faults.append(fault)
    child = begin(scene, report)
    assert fault.reached.wait(30)
    child.kill()
    child.communicate(timeout=30)
    send(scene, report)
    assert sorted(thread.path for thread in scene.fake.threads) == ["f0.py", "f1.py"]
    assert len(scene.fake.comments) == 1
    done = report != TWO
    assert [thread.resolved for thread in scene.fake.threads] == [done, done]
    assert all(thread.body.count("不再报告") == done for thread in scene.fake.threads)


@pytest.mark.parametrize("match", ["POST .*/reviews", "POST .*/issues/7/comments"])
def test_two_publishers_at_once_end_with_one_of_each(scene: Scene, match: str) -> None:
    """Both have read that nothing is there; the one that writes last takes its own back."""
    fault = Fault(match, 0, hold=Event())
    scene.fake.faults.append(fault)
    slow = begin(scene, TWO)
    assert fault.reached.wait(30)
    send(scene, TWO)
    first = [thread.id for thread in scene.fake.threads], [row["id"] for row in scene.fake.comments]
    assert fault.hold is not None
    fault.hold.set()
    end(slow)
    assert ([thread.id for thread in scene.fake.threads], [row["id"] for row in scene.fake.comments]) == first
    send(scene, TWO)
    assert len(scene.fake.threads) == 2


def test_a_comment_that_two_made_and_somebody_answered_stays(scene: Scene) -> None:
    send(scene, TWO)
    copy = scene.fake.threads[0]
    scene.fake.threads.append(replace(copy, id="PRRT_2", comment_id=copy.comment_id + 50, replies=1))
    send(scene, TWO)
    assert len(scene.fake.threads) == 3


# --- what people do ---


def test_a_comment_that_somebody_deleted_is_not_made_again(scene: Scene) -> None:
    send(scene, TWO)
    del scene.fake.threads[0]
    for _ in range(2):
        send(scene, TWO)
        assert [thread.path for thread in scene.fake.threads] == ["f1.py"]
    assert "不再提起：1 个" in scene.fake.comments[0]["body"]


def test_a_comment_that_somebody_rewrote_is_theirs(scene: Scene) -> None:
    send(scene, TWO)
    scene.fake.threads[0].body = "我改写了这条评论"
    send(scene, TWO)
    send(scene, gone(TWO))
    assert len(scene.fake.threads) == 2
    assert (scene.fake.threads[0].body, scene.fake.threads[0].resolved) == ("我改写了这条评论", False)


def test_words_that_somebody_added_stay(scene: Scene) -> None:
    send(scene, TWO)
    scene.fake.threads[0].body = "我补充一句\n" + scene.fake.threads[0].body
    send(scene, TWO)
    assert len(scene.fake.threads) == 2
    send(scene, gone(TWO))
    assert scene.fake.threads[0].resolved
    assert "我补充一句" in scene.fake.threads[0].body


def test_a_review_that_somebody_else_edited_or_wrote_tells_nothing(scene: Scene) -> None:
    """Else a name in it would silence a finding."""
    send(scene, TWO)
    names = said_of(scene.fake.reviews[0]["body"])
    assert len(names) == 2
    scene.fake.reviews[0]["editor"] = "mallory"
    scene.fake.reviews.append({**scene.fake.reviews[0], "author": "mallory"})
    scene.fake.threads.clear()
    send(scene, TWO)
    assert len(scene.fake.threads) == 2


def test_a_conversation_with_an_answer_is_left_to_people(scene: Scene) -> None:
    send(scene, TWO)
    scene.fake.threads[0].replies = 1
    send(scene, gone(TWO))
    first, second = scene.fake.threads
    assert (first.resolved, second.resolved) == (False, True)
    assert first.body.count("不再报告这个问题") == 1
    assert "有人回复过：1 个" in scene.fake.comments[0]["body"]
    edits = len([row for row in scene.writes() if "/pulls/comments/" in row[1]])
    send(scene, gone(TWO))
    assert len([row for row in scene.writes() if "/pulls/comments/" in row[1]]) == edits
    assert not first.resolved


@pytest.mark.parametrize("match", ["PATCH .*/pulls/comments", "PATCH .*/issues/comments"])
def test_what_somebody_deletes_meanwhile_is_no_failure(scene: Scene, match: str) -> None:
    send(scene, TWO)
    scene.fake.faults.append(Fault(match, 404, {"message": "Not Found"}))
    send(scene, gone(TWO))


def test_what_cannot_all_be_closed_is_closed_by_the_next_one(big: Scene) -> None:
    many = report_of(*(finding(n) for n in range(1, 61)))
    send(big, many)
    said = send(big, gone(many))
    assert sum(thread.resolved for thread in big.fake.threads) == 40
    assert "已关闭：40 个" in big.fake.comments[0]["body"]
    assert "这次还没有关闭：20 个" in big.fake.comments[0]["body"]
    assert "这次还没有关闭：20 个" in said
    send(big, gone(many))
    assert all(thread.resolved for thread in big.fake.threads)


def test_a_finding_that_moves_with_its_code_is_not_said_again(scene: Scene) -> None:
    send(scene, TWO)
    scene.push({"f0.py": "# one\n# more\n" + bad(0), "f1.py": PLAIN})
    assert scene.fake.threads[0].line == 24
    send(scene, report_of(replace(ONE, start_line=24, end_line=24)))
    assert len(scene.fake.threads) == 2
    assert not scene.fake.threads[0].resolved
