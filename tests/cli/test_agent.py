"""`--mode hybrid` by the installed command: a scripted Claude judges, adds, sums up, or misbehaves.

However it behaves, the report is complete and says what happened, nothing of the agent is left running, and a second run
asks for nothing again.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from claude_scripts import OURS, looping, obedient, plain_text, reviewer, stops_at, unknown_tools
from driver import DEMO, Server, launch
from hybrid import RACE, Desk, Done, Finding, judgements, kill_program, programs, two_at_a_time
from markdown_it import MarkdownIt
from scripted_claude import Asked, Calls, Fault, Reply, Script, ScriptedClaude

from review_agent.checkpoints.store import Store
from review_agent.tools.server import TOOLS

REFUTED = ("api/app/auth.py", "api/app/coupons.py")
SUMMARY = "总评：接口与工作进程总体可读，并发写 map 须先修复。"
MODEL, TOKEN, ADDITION = "claude-of-the-user", "token-of-the-user", "请特别留意并发。"
BOUND = 40.0  # seconds; without load a run takes five
API_KEY = {"ANTHROPIC_API_KEY": "sk-dummy"}
MARKED = "def "  # what the local model finds fault with


def whole_review() -> Script:
    return reviewer(refute=REFUTED, add=RACE, summary=SUMMARY)


@pytest.fixture(scope="module")
def make_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Desk]]:
    """Users of one repository, each with a home; of one local server, too, where none is given."""
    folder = tmp_path_factory.mktemp("shared")
    shared, demo = launch(folder, review=MARKED), Path(shutil.copytree(DEMO, folder / "demo"))

    def make(local: Server = shared, environ: Mapping[str, str] = API_KEY, **config: object) -> Desk:
        return Desk(tmp_path_factory.mktemp("desk"), local, demo, config, environ)

    yield make
    shared.stop()


# --- a review as it should be ---


@dataclass(frozen=True)
class Whole:
    first: Done
    again: Done
    direct: Done
    asked: list[Asked]
    asked_after: tuple[int, int, int]  # of the agent's endpoint, after each run
    local_after: tuple[int, int, int]
    audit: dict[str, Any]
    left: list[str]


@pytest.fixture(scope="module")
def whole(make_desk: Callable[..., Desk]) -> Whole:
    """Three runs by one user: the second with nothing changed, the third without an agent."""
    token = {"ANTHROPIC_AUTH_TOKEN": TOKEN}
    desk = make_desk(environ=token, verify_model=MODEL, system_prompt=ADDITION)
    before = len(desk.local.requests())
    runs: list[Done] = []
    counts: list[tuple[int, int]] = []
    with ScriptedClaude(whole_review()) as claude:
        for more in ((), (), ("--orchestrator", "direct", "--fresh")):
            runs.append(desk.run(claude.url, *more))
            counts.append((len(claude.asked), len(desk.local.requests()) - before))
        audit = desk.audit(claude.url, runs[0].report["run_id"])
        left = desk.left(claude.url)
    asked, local = zip(*counts, strict=True)
    return Whole(*runs, claude.asked, asked, local, audit, left)


def test_two_candidates_are_refuted_and_the_reason_is_told(whole: Whole) -> None:
    refuted = [one for one in whole.first.findings if one["outcome"] == "refuted"]
    assert [one["path"] for one in refuted] == list(REFUTED)
    assert {one["reason"] for one in refuted} == {"复核认为不成立：脚本：并非问题。"}
    confirmed = [one for one in whole.first.findings if one["reason"] == "复核确认属实：脚本：属实。"]
    assert {(one["source"], one["outcome"]) for one in confirmed} == {("model", "reported")}
    assert len(judgements(whole.asked)) == len(set(judgements(whole.asked))) == len(refuted) + len(confirmed)
    for text in (whole.first.shown, whole.first.markdown):
        section = flat(text[text.index("复核推翻的问题（2 个，不计入结论）") :])
        assert all(path in section for path in REFUTED)
        assert section.count("（复核认为不成立：脚本：并非问题。）") == 2


def test_the_agent_adds_what_one_file_cannot_show(whole: Whole) -> None:
    (added,) = [one for one in whole.first.findings if one["source"] == "agent"]
    place = ("worker/stats.go", 27, 28)
    assert (added["path"], added["start_line"], added["end_line"]) == place
    assert (added["title"], added["outcome"], added["severity"]) == (RACE["title"], "reported", "high")
    quoted = [line for piece in added["evidence"] for line in piece["lines"]]
    assert set(RACE["quote"].split("\n")) <= set(quoted)
    for text in (whole.first.shown, whole.first.markdown):
        assert RACE["title"] in text
        assert "由智能体发现" in text
    assert "worker/stats.go:27" in whole.first.said  # shown as soon as it is found


def test_the_assessment_is_in_each_report(whole: Whole) -> None:
    assert whole.first.report["summary"] == SUMMARY
    for text in (whole.first.shown, whole.first.markdown):
        assert "总评" in text
        assert flat(SUMMARY.removeprefix("总评：")) in flat(text)


def test_every_file_is_reviewed(whole: Whole) -> None:
    assert (whole.first.code, whole.first.report["verdict"]) == (0, "issues")
    coverage = whole.first.report["coverage"]
    assert (coverage["files_failed"], coverage["files_reviewed"]) == (0, coverage["files_selected"])
    assert whole.first.report["engine"]["orchestrator"] == "agent"
    assert (whole.first.resume, whole.first.seconds < BOUND) == ("", True)


def test_both_forms_of_asking_the_local_model_are_answered(whole: Whole) -> None:
    last = whole.asked[-1]
    answers = {call: (text, failed) for call, text, failed in last.results}
    forms = {
        tuple(sorted(given)): answers[call]
        for call, name, given in last.called
        if name == OURS + "local_model_analyze"
    }
    assert set(forms) == {("code", "language"), ("end_line", "path", "start_line")}
    assert [failed for _, failed in forms.values()] == [False, False]
    assert forms["code", "language"][0].startswith('{"findings": [{"category"')


def test_what_the_user_says_of_the_agent_is_honoured(whole: Whole) -> None:
    assert {asked.body["model"] for asked in whole.asked} == {MODEL}
    assert {asked.headers["authorization"] for asked in whole.asked} == {f"Bearer {TOKEN}"}
    assert not [asked for asked in whole.asked if "x-api-key" in asked.headers]
    for asked in whole.asked:
        assert ADDITION in "".join(block["text"] for block in asked.body["system"])
        assert asked.tools == {OURS + name for name in TOOLS if name != "run_command"}
    assert whole.first.report["engine"]["agent_model"] == MODEL


def test_each_call_is_in_the_audit_once(whole: Whole) -> None:
    called = {(call, name) for call, name, _ in whole.asked[-1].called}
    rows = [(row["tool_use_id"], row["tool"]) for row in whole.audit["calls"]]
    assert sorted(rows) == sorted(called)
    assert {(row["decision"], row["error"]) for row in whole.audit["calls"]} == {("allowed", False)}
    assert whole.audit["intact"] == {"egress": True, "calls": True}


def test_nothing_is_asked_again(whole: Whole) -> None:
    assert whole.asked_after[1] == whole.asked_after[0] == len(whole.asked)
    assert whole.local_after[1] == whole.local_after[0]
    assert (whole.again.code, whole.again.judged) == (0, whole.first.judged)
    assert whole.again.report["summary"] == SUMMARY
    assert "agent_reused" in whole.again.notes
    assert "沿用之前的复核结果" in whole.again.markdown
    assert whole.again.report["egress"] == []


def test_direct_asks_no_agent(whole: Whole) -> None:
    assert whole.asked_after[2] == whole.asked_after[1]
    assert whole.local_after[2] > whole.local_after[1]
    assert (whole.direct.code, whole.direct.report["summary"]) == (0, "")
    assert {one["source"] for one in whole.direct.findings} == {"model", "check"}
    assert {one["outcome"] for one in whole.direct.findings if one["source"] == "model"} == {"reported"}


def test_nothing_is_left_behind(whole: Whole) -> None:
    assert whole.left == []


# --- agents that do not do their work ---


def killed(claude: ScriptedClaude, desk: Desk) -> Script:
    """Its program is killed while the local model is asked, which is held until then."""

    def kill() -> None:
        end = time.monotonic() + 30
        while desk.local.in_flight() == 0 and time.monotonic() < end:
            time.sleep(0.05)
        kill_program(claude.url)
        desk.local.configure(latency=0)

    def script(asked: Asked) -> Reply:
        if asked.turn < 3:
            return whole_review()(asked)
        desk.local.configure(latency=30)
        threading.Thread(target=kill).start()
        return Calls([(OURS + "local_model_analyze", {"code": "x = 1 / 0\n", "language": "python"})])

    return script


@dataclass(frozen=True)
class Case:
    """`asked`: the most requests; `judged`: candidates with a judgement in the report."""

    script: Script | None
    code: int
    reason: str
    asked: int
    judged: int
    args: tuple[str, ...] = ()


CASES = {
    "stops at turn 3": Case(stops_at(3, whole_review()), 4, "agent_unfinished", 3, 2),
    "is killed in a tool": Case(None, 4, "agent_died", 4, 4),
    "loops": Case(looping(), 4, "agent_looping", 10, 0),
    "speaks": Case(plain_text(), 4, "agent_unfinished", 1, 0),
    "has no turn left": Case(whole_review(), 4, "limit_max_turns", 3, 4, ("--max-turns", "3")),
    "speaks, findings count": Case(plain_text(), 3, "agent_unfinished", 1, 0, ("--fail-on", "medium")),
    "unknown tools, then a review": Case(unknown_tools(whole_review()), 0, "", 20, 7),
}


@dataclass(frozen=True)
class Played:
    done: Done
    asked: list[Asked]
    audit: dict[str, Any]
    left: list[str]


@pytest.fixture(scope="module")
def played(make_desk: Callable[..., Desk], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    """Each case; the one that is killed has a local server of its own, which is slow."""

    def play(case: Case) -> Played:
        with ScriptedClaude(case.script or []) as claude, ExitStack() as closing:
            desk = make_desk()
            if case.script is None:
                desk = make_desk(local=launch(tmp_path_factory.mktemp("slow"), review=MARKED))
                closing.callback(desk.local.stop)
                claude.script = killed(claude, desk)
            done = desk.run(claude.url, *case.args)
            return Played(
                done, claude.asked, desk.audit(claude.url, done.report["run_id"]), desk.left(claude.url)
            )

    return two_at_a_time({name: partial(play, case) for name, case in CASES.items()})


@pytest.mark.parametrize("name", CASES)
def test_however_the_agent_ends_the_report_is_whole(
    name: str, played: dict[str, Played], whole: Whole
) -> None:
    case, done, audit = CASES[name], played[name].done, played[name].audit
    assert (done.code, done.report["verdict_reason"]) == (case.code, case.reason), done.said
    assert played[name].left == []
    assert 1 <= len(played[name].asked) <= case.asked
    assert done.seconds < BOUND
    coverage = done.report["coverage"]
    assert (coverage["files_failed"], coverage["files_reviewed"]) == (0, coverage["files_selected"])
    assert local_part(done) == local_part(whole.first)
    spoken = [one for one in done.findings if one["reason"].startswith("复核")]
    judging = [row for row in audit["calls"] if row["tool"] == OURS + "judge_finding" and not row["error"]]
    assert len(spoken) == len(judging) == case.judged
    called = {call for call, _, _ in played[name].asked[-1].called}
    assert {row["tool_use_id"] for row in audit["calls"]} >= called
    if case.reason:
        told(done)
        return
    assert (done.report["verdict"], done.report["summary"]) == ("issues", SUMMARY)
    unknown = [row["tool"] for row in audit["calls"] if row["decision"] == "unknown"]
    assert unknown == ["Bash", "mcp__other__x", OURS + "nope"]


def test_a_call_that_was_cut_short_is_in_the_audit(played: dict[str, Played]) -> None:
    last = played["is killed in a tool"].audit["calls"][-1]
    assert (last["tool"], last["decision"], last["error"]) == (OURS + "local_model_analyze", "allowed", True)
    assert last["reason"] == "调用没有结束，会话就中断了"


def local_part(done: Done) -> list[tuple[str, int, str]]:
    """What the pipeline found, whatever was said of it."""
    return [
        (one["path"], one["start_line"], one["title"]) for one in done.findings if one["source"] != "agent"
    ]


def flat(text: str) -> str:
    """Without what a terminal or Markdown puts in between."""
    return re.sub(r"[\s`\\]|<[^>]*>", "", text)


def told(done: Done) -> None:
    """That it is not finished, why, and how to go on."""
    assert done.report["verdict"] == "incomplete"
    assert done.resume == done.report["run_id"]
    fields = done.notes["agent_stopped"]
    for text in (done.shown, MarkdownIt().render(done.markdown)):
        assert flat(fields["reason"]) in flat(text)
        assert "未完成" in text
        assert "智能体没有做完复核" in text
    assert re.search(r"[一-鿿]{4}", fields["reason"])


def test_one_call_allowed_one_denied_one_unknown(make_desk: Callable[..., Desk]) -> None:
    calls = [
        (OURS + "read_lines", {"path": "worker/main.go"}),
        (OURS + "read_lines", {"path": "../../../etc/passwd"}),
        ("Bash", {"command": "id"}),
    ]
    desk = make_desk()
    with ScriptedClaude(obedient(calls)) as claude:
        done = desk.run(claude.url)
        audit = desk.audit(claude.url, done.report["run_id"])
    rows = [(row["tool"], row["decision"], row["error"], bool(row["reason"])) for row in audit["calls"]]
    assert rows == [
        (OURS + "read_lines", "allowed", False, False),
        (OURS + "read_lines", "denied", True, True),
        ("Bash", "unknown", True, True),
    ]
    assert [row["turn"] for row in audit["calls"]] == [1, 2, 3]
    assert [failed for _, _, failed in claude.asked[-1].results] == [False, True, True]


# --- what the user may choose ---


def test_the_users_tools_and_no_others_are_offered(make_desk: Callable[..., Desk]) -> None:
    chosen = ["get_candidates", "judge_finding", "submit_summary"]
    desk = make_desk(tools=chosen)
    with ScriptedClaude(obedient([(OURS + "list_units", {})], whole_review())) as claude:
        done = desk.run(claude.url)
        audit = desk.audit(claude.url, done.report["run_id"])
    assert (done.code, done.report["summary"]) == (0, SUMMARY)
    assert {frozenset(asked.tools) for asked in claude.asked} == {frozenset(OURS + name for name in chosen)}
    assert [row["decision"] for row in audit["calls"] if row["tool"] == OURS + "list_units"] == ["unknown"]


@pytest.mark.parametrize(
    ("name", "near"), [("judge_findings", "judge_finding"), ("Bash", "-"), ("readlines", "read_lines")]
)
def test_a_tool_that_there_is_not_is_a_mistake(name: str, near: str, make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(tools=["list_units", name])
    before = len(desk.local.requests())
    with ScriptedClaude([]) as claude:
        done = desk.run(claude.url)
    assert (done.code, done.shown, claude.everything) == (2, "", [])
    assert len(desk.local.requests()) == before
    assert f"没有名为 `{name}` 的工具，最接近的是 `{near}`" in done.said


def test_the_state_is_saved_every_so_many_turns(make_desk: Callable[..., Desk]) -> None:
    """Seen in the store of a run that is killed as it saves for the first time."""
    interval = 3
    desk = make_desk(checkpoint_interval=interval)
    with ScriptedClaude(whole_review()) as claude:
        done = desk.run(claude.url, REVIEW_AGENT_FAULT="kill:state_saved")
        assert done.code == -9
        assert gone(claude.url)
    with Store(desk.home / "state" / "review-agent" / "store.sqlite3") as store:
        (row,) = store._db.read("SELECT work, turn FROM agent_states")
        assert row[1] == interval
        assert store.state(row[0]) is not None
    assert len(claude.asked) in (interval, interval + 1)


def gone(url: str) -> bool:
    """Whether every program of ours ends within seconds: their parent was killed."""
    end = time.monotonic() + 5
    while programs(url) and time.monotonic() < end:
        time.sleep(0.05)
    return not programs(url)


# --- signals ---

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def interrupted(desk: Desk, number: signal.Signals) -> tuple[Done, Done, list[Asked], list[str]]:
    """A run that gets a signal while the agent waits for an answer, and the `resume` that it names.

    The signal goes to the whole group of processes, as a Ctrl-C in a terminal does.
    """
    waits = threading.Event()

    def script(asked: Asked) -> Reply:
        if asked.turn < 3 or waits.is_set():
            return whole_review()(asked)
        waits.set()
        return Fault("hang")

    with ScriptedClaude(script) as claude:
        process = desk.start(claude.url)
        try:
            assert waits.wait(60)
            os.killpg(process.pid, number)
            shown, said = process.communicate(timeout=15)
        finally:
            process.kill()
        done, left = desk.ended(process.returncode, shown, said), desk.left(claude.url)
        return done, desk.do(claude.url, "resume", done.resume), claude.asked, left


def test_a_signal_while_the_agent_works(make_desk: Callable[..., Desk], whole: Whole) -> None:
    desks = {number: make_desk() for number in CODES}
    local = desks[signal.SIGINT].local
    plan = len(local.requests())
    ended = two_at_a_time({number.name: partial(interrupted, desk, number) for number, desk in desks.items()})
    for number, code in CODES.items():
        done, resumed, asked, left = ended[number.name]
        assert (done.code, done.report["verdict_reason"], left) == (code, "interrupted", []), done.said
        told(done)
        assert local_part(done) == local_part(whole.first)
        assert resumed.code == 0, resumed.said
        assert judged_by_place(resumed.findings) == judged_by_place(whole.first.findings)
        assert resumed.report["summary"] == SUMMARY
        assert len(judgements(asked)) == len(set(judgements(asked)))
    assert len(local.requests()) - plan == 2 * whole.local_after[0]  # as in two runs that nobody interrupts


def judged_by_place(findings: list[Finding]) -> list[tuple[str, int, str, str]]:
    return [(one["path"], one["start_line"], one["outcome"], one["reason"]) for one in findings]
