"""The agent's place in a run, with a stand-in for its session: what it is given, and what is made of its end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
import scripted
from findings_of import finding, reported
from gitrepo import Repo

from review_agent.agent.errors import Stopped, StoreError
from review_agent.agent.models import (
    Analysis,
    Change,
    CloudUsage,
    Egress,
    Note,
    Outcome,
    SourceFile,
    TrustClass,
    Verdict,
)
from review_agent.agent.orchestrator import Agent
from review_agent.agent.orchestrator import Outcome as Ending
from review_agent.agent.planner import make_plan
from review_agent.agent.served import Served
from review_agent.agent.settings import Settings
from review_agent.agent.target import Selection, Target, select
from review_agent.agent.verification import Scene, Verified, local_analyzer, offered, verify, work_of
from review_agent.checkpoints.store import Store
from review_agent.tools.claude import Side
from review_agent.tools.endpoints import Endpoint
from review_agent.tools.server import TOOLS

CLOUD = Endpoint("https://cloud.example", TrustClass.CLOUD)
HERE = Endpoint("http://127.0.0.1:1", TrustClass.LOOPBACK)
LAN = Endpoint("http://10.0.0.1:1", TrustClass.LAN)
SECRET = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
FINE = Ending("", usage=CloudUsage(turns=3), tools_used=True)


def scene(repo: Repo, store: Store | None = None, **more: Any) -> Scene:
    """A review of the whole repository, with the cloud."""
    settings = more.pop("settings", Settings(lang="en", local_only=("hush/",)))
    selection, target = select(Target("tree", str(repo.path)), max_file_size=10**6)
    plan = make_plan(selection, settings, model_key="m", model_context=8192, store=None)
    made = Scene(
        Side(CLOUD, "claude", "key"),
        plan,
        settings,
        target,
        {},
        "run",
        store,
        asyncio.Event(),
        scripted.analyzer(scripted.Scripted([scripted.CLEAN])),
        {},
    )
    return replace(made, **more)


@pytest.fixture
def repository(repo: Repo) -> Repo:
    repo.commit({"a.py": "a = 1\nb = 2\n", "b.py": "c = 3\n", "hush/c.py": "d = 4\n", "note.lock": "x\n"})
    return repo


VERDICTS = reported(finding("a.py", 1, "one"), finding("a.py", 2, "two"), finding("hush/c.py", 1, "three"))


def acting(*calls: tuple[str, dict[str, Any]], ends: Ending = FINE) -> Callable[[Agent], Awaitable[Ending]]:
    """A session in which the model makes these calls, which must all be allowed."""

    async def run(agent: Agent) -> Ending:
        for tool, arguments in calls:
            assert agent.toolbox.refusal(tool, arguments) == ""
            await agent.toolbox.call(tool, arguments)
        return ends

    return run


async def never(_: Agent) -> Ending:
    raise AssertionError("no session was needed")


def judge(name: str, verdict: str = "confirm") -> tuple[str, dict[str, Any]]:
    return "judge_finding", {"id": name, "verdict": verdict, "reason": f"{verdict}s it"}


SUM_UP = ("submit_summary", {"summary": "all in all"})


def keys(verified: Verified) -> list[str]:
    return [note.key for note in verified.notes]


def said(verified: Verified, verdicts: Sequence[Verdict] = VERDICTS) -> list[tuple[Outcome, str]]:
    return [(verdict.outcome, verdict.reason) for verdict in verified.judged(verdicts)]


# --- the usual way, and going on


async def test_what_the_agent_says_becomes_of_the_findings(repository: Repo) -> None:
    own = {
        "path": "b.py",
        "quote": "c = 3",
        "title": "t",
        "category": "bug",
        "severity": "low",
        "confidence": 0.9,
        "explanation": "e",
    }
    lines: list[tuple[str, dict[str, object]]] = []
    asked = scene(repository, progress=lambda key, fields: lines.append((key, fields)))
    verified = await verify(
        asked, VERDICTS, acting(judge("C1", "refute"), judge("C2"), ("record_finding", own), SUM_UP)
    )
    assert said(verified) == [
        (Outcome.REFUTED, "refuted_by_review"),
        (Outcome.REPORTED, "confirmed_by_review"),
        (Outcome.REPORTED, ""),
    ]
    assert [(one.path, one.start_line, why) for one, why in verified.found] == [("b.py", 1, "")]
    assert (verified.summary, verified.why, verified.notes, verified.usage.turns) == ("all in all", "", (), 3)
    assert lines == [
        ("agent_start", {"model": "claude", "open": 2}),
        ("agent_end", {"turns": 3, "judged": 2, "found": 1}),
    ]


async def test_a_session_that_broke_off_is_gone_on_with_and_a_whole_one_is_not_repeated(
    repository: Repo, tmp_path: Path
) -> None:
    with Store(tmp_path / "s.db") as store:
        first = await verify(
            scene(repository, store),
            VERDICTS,
            acting(judge("C1"), ends=Ending("agent_died", "key ghp_", CloudUsage())),
        )
        assert (first.why, keys(first)) == ("agent_died", ["agent_stopped", "agent_detail"])
        assert first.notes[0].fields["open"] == 1

        async def second(agent: Agent) -> Ending:
            assert [case.id for case in agent.toolbox.open_cases] == ["C2"]
            return await acting(judge("C2", "refute"), SUM_UP)(agent)

        await verify(scene(repository, store), VERDICTS, second)
        third = await verify(scene(repository, store), VERDICTS, never)
        assert keys(third) == ["agent_reused"]
        assert third.summary == "all in all"
        assert [outcome for outcome, _ in said(third)] == [
            Outcome.REPORTED,
            Outcome.REFUTED,
            Outcome.REPORTED,
        ]
        repository.write("b.py", "c = 4\n")  # other code is other work
        with pytest.raises(AssertionError, match="no session"):
            await verify(scene(repository, store), VERDICTS, never)


# --- how it ends


@pytest.mark.parametrize(
    ("side", "ends", "why", "fell_back", "notes"),
    [
        (CLOUD, Ending("", tools_used=True), "", False, ["agent_left_open"]),
        (CLOUD, Ending("limit_max_turns", tools_used=True), "limit_max_turns", False, ["agent_stopped"]),
        (CLOUD, Ending("agent_unfinished"), "agent_unfinished", False, ["agent_stopped"]),
        (CLOUD, Ending("agent_died", "said ghp_x"), "agent_died", False, ["agent_stopped", "agent_detail"]),
        (HERE, Ending("agent_unfinished"), "", True, ["agent_fell_back"]),
        (HERE, Ending("agent_empty"), "", True, ["agent_fell_back"]),
        (HERE, Ending("agent_empty", tools_used=True), "agent_empty", False, ["agent_stopped"]),
        (HERE, Ending("agent_died"), "agent_died", False, ["agent_stopped"]),
    ],
)
async def test_every_end_says_what_it_was(
    repository: Repo, side: Endpoint, ends: Ending, why: str, fell_back: bool, notes: list[str]
) -> None:
    asked = scene(repository, side=Side(side, "claude", "key", cloud=side is CLOUD))
    verified = await verify(asked, VERDICTS, acting(ends=ends))
    assert (verified.why, verified.fell_back, keys(verified)) == (why, fell_back, notes)


async def test_what_the_program_said_is_masked_before_it_is_cut(repository: Repo) -> None:
    secret = "ghp_Zk3vQx81LmN0pRtYw7BcDfGhJk2S4a6E8uXz"
    detail = "x" * 280 + f" {secret} and more"
    verified = await verify(scene(repository), VERDICTS, acting(ends=Ending("agent_died", detail)))
    assert "ghp_" not in str(verified.notes)


async def test_a_store_that_fails_ends_the_session_and_the_run_hears_of_it(
    repository: Repo, tmp_path: Path
) -> None:
    class Full(Store):
        def judge(self, *_: object) -> bool:
            raise StoreError("store_busy", path="s.db")

    with Full(tmp_path / "s.db") as store:
        asked = scene(repository, store)

        async def run(agent: Agent) -> Ending:
            with pytest.raises(StoreError):
                await agent.toolbox.call(*judge("C1"))
            assert asked.stop.is_set()
            return Ending("interrupted")

        with pytest.raises(StoreError):
            await verify(asked, VERDICTS, run)


async def test_a_fault_of_ours_is_in_the_report(repository: Repo) -> None:
    async def run(agent: Agent) -> Ending:
        with pytest.raises(KeyError):
            await agent.toolbox.call("no such tool", {})
        return FINE

    verified = await verify(scene(repository), VERDICTS, run)
    assert Note("agent_tool_broke", {"tool": "no such tool", "kind": "KeyError"}) in verified.notes


# --- what leaves, and what does not


async def test_rows_are_kept_before_anything_is_answered(repository: Repo) -> None:
    kept: list[Egress] = []
    asked = scene(repository, keep_egress=kept.extend)
    verified = await verify(asked, VERDICTS, acting(("read_lines", {"path": "a.py"})))
    assert [(row.host, row.path, row.lines) for row in kept if row.path] == [("cloud.example", "a.py", "1-2")]
    assert verified.egress == tuple(kept)

    def full(_: list[Egress]) -> None:
        raise Stopped("store_failed")

    async def run(agent: Agent) -> Ending:
        said = await agent.toolbox.call("read_lines", {"path": "a.py"})
        assert said.error
        assert "b = 2" not in said.text
        return FINE

    assert (await verify(scene(repository, keep_egress=full), VERDICTS, run)).egress == ()


async def test_where_nothing_may_be_seen_there_is_no_session(repository: Repo) -> None:
    asked = scene(repository, settings=Settings(lang="en", local_only=("*",)))
    assert keys(await verify(asked, VERDICTS, never)) == ["agent_nothing_visible"]


async def test_a_model_on_this_machine_sees_all_and_nothing_is_written_down(repository: Repo) -> None:
    asked = scene(
        repository,
        side=Side(HERE, "m", "key", cloud=False),
        keep_egress=lambda _: pytest.fail("nothing leaves"),
    )
    verified = await verify(asked, VERDICTS, acting(("read_lines", {"path": "hush/c.py"}), judge("C3")))
    assert [case.id for case in verified.cases] == ["C1", "C2", "C3"]


async def test_a_model_in_the_local_network_is_told_as_little_as_one_in_the_cloud(repo: Repo) -> None:
    """Though it is the team's own: code leaves this machine, so it is masked and written down first."""
    repo.commit({"a.py": "a = 1\n", "hush/c.py": "d = 4\n", "key.py": f'K = "{SECRET}"\n'})
    kept: list[Egress] = []
    side, settings = (
        Side(LAN, "m", "key", cloud=False),
        Settings(lang="en", local_only=("hush/",), allow_commands=True),
    )
    asked = scene(repo, side=side, settings=settings, keep_egress=kept.extend)

    async def run(agent: Agent) -> Ending:
        assert [agent.toolbox.refusal("read_lines", {"path": path}) == "" for path in ("a.py", "hush/c.py", "key.py")] == [
            True, False, False,
        ]  # fmt: skip
        told = [await agent.toolbox.call("read_lines", {"path": "a.py"})]
        told.append(await agent.toolbox.call("search_code", {"pattern": "="}))
        assert SECRET not in "".join(answer.text for answer in told)
        return FINE

    verified = await verify(asked, VERDICTS[:1], run=run)
    assert kept == list(verified.egress)
    assert {(row.host, row.path, row.lines) for row in kept if row.path} == {("10.0.0.1:1", "a.py", "1")}
    assert Note("commands_unused") in verified.notes


async def test_files_that_are_not_asked_about_keep_their_old_names(repo: Repo) -> None:
    """Renamed out of what may not be seen, and over the limit, or not reviewed at all because nothing changed."""
    text = "".join(f"value_{n} = {n}\n" for n in range(30))
    base = repo.commit({"hush/one.py": text, "hush/two.py": text.replace("v", "w"), "a.py": "a = 1\n"})
    repo.git("mv", "hush/one.py", "one.py")
    repo.git("mv", "hush/two.py", "two.py")
    head = repo.commit({"one.py": text + "more = 1\n", "a.py": "a = 2\n"})
    settings = Settings(lang="en", local_only=("hush/",))
    selection, target = select(Target("range", str(repo.path), base, head), max_file_size=10**6)
    plan = make_plan(selection, settings, model_key="m", model_context=8192, store=None)
    assert list(plan.units) == ["a.py", "one.py"]
    plan = replace(plan, units={"a.py": plan.units["a.py"]}, contexts={"a.py": plan.contexts["a.py"]})
    asked = replace(scene(repo, settings=settings), plan=plan, target=target)

    async def run(agent: Agent) -> Ending:
        box = agent.toolbox
        assert box.refusal("read_lines", {"path": "a.py"}) == ""
        assert [bool(box.refusal("read_lines", {"path": path})) for path in ("one.py", "two.py")] == [
            True,
            True,
        ]
        found = json.loads((await box.call("search_code", {"pattern": "value_"})).text)
        assert found["hits"] == []
        return FINE

    await verify(asked, (), run)


async def test_a_repository_that_git_cannot_read_is_reviewed_without_its_history(repository: Repo) -> None:
    asked = scene(repository)
    (repository.path / ".git" / "HEAD").write_text("nonsense")
    (repository.path / ".git" / "config").write_text("[core]\n\trepositoryformatversion = 99\n")

    async def run(agent: Agent) -> Ending:
        assert not (await agent.toolbox.call("read_lines", {"path": "a.py"})).error
        return FINE

    await verify(asked, VERDICTS, run)


# --- the local model


def test_the_local_model_tells_the_agent_and_not_the_run() -> None:
    heard: list[Analysis] = []
    cut = scripted.answer(*[scripted.finding("value_1 = compute(1)")] * 2)[:-40]
    mine = replace(
        scripted.analyzer(scripted.Scripted([scripted.Reply(cut, "length")])),
        on_unit=heard.append,
    )
    analyzer = local_analyzer(replace(bare(), analyzer=mine))
    assert analyzer is not None
    (analysis,) = asyncio.run(analyzer.analyze([scripted.long_unit("a.py")]))
    assert (analysis.failure, heard) == ("truncated", [])
    assert (analyzer.meter, analyzer.health) == (mine.meter, mine.health)  # what it costs counts
    assert mine.meter.requests > 0


def bare(**settings: Any) -> Scene:
    nothing = Selection((), ())
    return Scene(
        Side(CLOUD, "claude", "key"),
        make_plan(nothing, Settings(**settings), model_key="m", model_context=8192, store=None),
        Settings(**settings),
        Target("tree", "."),
        {},
        "run",
        None,
        asyncio.Event(),
        scripted.analyzer(scripted.Scripted([scripted.CLEAN])),
        {},
    )


@pytest.mark.parametrize(
    ("endpoint", "usable"), [(HERE, True), (LAN, True), (CLOUD, False)], ids=["loopback", "lan", "cloud"]
)
def test_hidden_code_is_never_given_to_a_local_model_in_the_cloud(endpoint: Endpoint, usable: bool) -> None:
    server = scripted.Scripted([scripted.CLEAN], endpoint=endpoint)
    asked = replace(bare(), analyzer=scripted.analyzer(server))
    assert (local_analyzer(asked) is not None) is usable
    assert ("local_model_analyze" in offered(asked, Served())) is usable


@pytest.mark.parametrize(
    ("more", "side", "missing"),
    [
        ({}, CLOUD, {"run_command"}),
        ({"allow_commands": True}, CLOUD, {"run_command"}),
        ({"allow_commands": True}, HERE, set()),
        ({"allow_commands": True}, LAN, {"run_command"}),
        ({"tools": ("read_lines", "Bash")}, CLOUD, set(TOOLS) - {"read_lines"}),
    ],
)
def test_tools_that_are_offered(more: dict[str, Any], side: Endpoint, missing: set[str]) -> None:
    asked = replace(bare(**more), side=Side(side, "m", "k", cloud=side is CLOUD))
    assert offered(asked, Served()) == set(TOOLS) - missing
    assert "local_model_analyze" not in offered(replace(asked, analyzer=None), Served())


@pytest.mark.parametrize(("named", "there"), [((), False), (("local_model_analyze",), True)])
def test_what_would_load_the_model_anew_each_time_is_for_who_names_it(
    named: tuple[str, ...], there: bool
) -> None:
    asked = replace(bare(tools=named), side=Side(HERE, "m", "k", cloud=False))
    assert ("local_model_analyze" in offered(asked, Served(reloads=True))) is there


@pytest.mark.parametrize(
    ("served", "note"),
    [
        (Served(tools=False), Note("agent_no_tools", {"model": "m"})),
        (Served(context=2048), Note("agent_context_small", {"model": "m", "context": 2048, "least": ANY})),
    ],
)
async def test_a_model_that_cannot_do_it_is_not_asked(served: Served, note: Note, repository: Repo) -> None:
    asked = scene(repository, side=Side(HERE, "m", "k", cloud=False), ask=lambda: nullcontext(served))
    verified = await verify(asked, VERDICTS, run=never)
    assert (verified.fell_back, verified.why, verified.notes) == (True, "", (note,))


# --- the name of the work


def test_other_work_has_another_name(repository: Repo) -> None:
    settings = Settings(lang="en", local_only=("hush/",))
    one = scene(repository)
    others = [
        replace(one, side=Side(CLOUD, "other", "key")),
        replace(one, side=Side(HERE, "claude", "key", cloud=False)),
        replace(one, settings=replace(settings, lang="zh-CN")),
        replace(one, settings=replace(settings, local_only=())),
        replace(one, settings=replace(settings, cloud_allowed=("*",))),
        replace(one, settings=replace(settings, system_prompt="be kind")),
        replace(one, target=replace(one.target, head="f" * 40)),
        replace(one, plan=replace(one.plan, files=one.plan.files[1:])),
    ]
    repository.write("a.py", "a = 2\n")
    others.append(scene(repository))
    names = [work_of(each) for each in (one, *others)]
    assert len(set(names)) == len(names)
    assert work_of(replace(one, run_id="another", settings=replace(settings, max_turns=9))) == names[0]


# --- the loop goes on


async def test_a_large_tree_does_not_hold_up_the_loop(repo: Repo) -> None:
    """What is slow here is to look for secrets: seconds, in all."""
    line = "password_key_token = read(password, key, token)\n" * 100
    asked = scene(repo)
    files = tuple(
        SourceFile(f"f{n}.py", "python", tuple(line.split("\n")), "", Change.WHOLE) for n in range(1200)
    )
    asked = replace(asked, plan=replace(asked.plan, files=files, units={file.path: () for file in files}))
    worst = 0.0

    async def beat() -> None:
        nonlocal worst
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            worst = max(worst, time.monotonic() - before)

    beating = asyncio.ensure_future(beat())
    started = time.monotonic()
    await verify(asked, (), acting())
    took = time.monotonic() - started
    await asyncio.sleep(0.05)  # so that the last beat is heard
    beating.cancel()
    assert took > 1
    assert worst < took / 2
