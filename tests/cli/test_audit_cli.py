"""`audit`: what a run sent and which tools it called, for people and machines, also of a run that is going on."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from driver import Cli, Server

from review_agent.agent.audit import Call, call_text, egress_text
from review_agent.agent.models import Egress
from review_agent.checkpoints.store import Store

RUN, OTHER = "20260101-000000-aaaaaa", "20260102-000000-bbbbbb"
TIME = "2026-11-27T10:15:30Z"
SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
SENT = [
    Egress(TIME, "api.example.com", "src/a.py", 1200, 1, "cloud-model", "3-9,12", 2),
    Egress(TIME, "gpu-box:8000", "caf\udce9\x1b[31m.py", 34, 0, "m"),
    Egress(TIME, "api.example.com", "", 56, 0, "cloud-model", "", 3),
    Egress(TIME, "api.example.com", "src/a.py", 800, 0, "cloud-model", "1-2", 3),
]
CALLED = [
    Call(
        time=TIME,
        turn=turn,
        tool_use_id=f"toolu_{turn}",
        tool=tool,
        arguments_sha256="0123456789abcdef",
        decision=decision,
        reason=reason,
        error=decision != "allowed",
        seconds=0.25,
        bytes_out=size,
    )
    for turn, tool, decision, reason, size in (
        (2, "mcp__review__read_lines", "allowed", "", 321),
        (3, "Bash", "denied", "not_finished", 0),
        (4, "no\nsuch::error::tool", "unknown", f"token={SECRET}", 0),
    )
]


def store_of(cli: Cli) -> Path:
    return cli.home / "state" / "review-agent" / "store.sqlite3"


def alter(cli: Cli, sql: str) -> None:
    with sqlite3.connect(store_of(cli)) as db:
        db.execute(sql)
    db.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def filled(cli: Cli, folder: Path) -> Cli:
    """A run of `folder` with four rows and three calls, and a newer one of another place with none."""
    with Store(store_of(cli)) as store:
        store.start_run(RUN, str(folder), "tree", "{}")
        store.note_egress(RUN, [egress_text(row) for row in SENT])
        for call in CALLED:
            store.note_call(RUN, call_text(call))
        store.finish_run(RUN, "finished", "{}")
        store.start_run(OTHER, "/elsewhere", "tree", "{}")
    return cli


def told(cli: Cli, *args: str, cwd: Path | None = None, code: int = 0) -> str:
    done = cli.run("audit", *args, cwd=cwd)
    assert (done.returncode, done.stderr) == (code, b""), done.stderr.decode()
    return done.stdout.decode()


def test_for_people(filled: Cli) -> None:
    lines = told(filled, RUN).splitlines()
    assert lines[0] == f"运行 {RUN}（已完成），审查对象 tree"
    assert [line.split() for line in lines[2:]] == [
        ["出网清单：共", "4", "次，2090", "字节，脱敏", "1", "处"],
        ["主机", "文件", "次数", "字节", "脱敏"],
        ["api.example.com", "合计", "3", "2056", "1"],
        ["api.example.com", "（不含文件）", "1", "56", "0"],
        ["api.example.com", "src/a.py", "2", "2000", "1"],
        ["gpu-box:8000", "合计", "1", "34", "0"],
        ["gpu-box:8000", r"caf\xe9\x1b[31m.py", "1", "34", "0"],
        ["逐次记录"],
        ["时间", "主机", "文件", "行", "字节", "脱敏", "模型", "轮次"],
        [TIME, "api.example.com", "src/a.py", "3-9,12", "1200", "1", "cloud-model", "2"],
        [TIME, "gpu-box:8000", r"caf\xe9\x1b[31m.py", "-", "34", "0", "m", "-"],
        [TIME, "api.example.com", "（不含文件）", "-", "56", "0", "cloud-model", "3"],
        [TIME, "api.example.com", "src/a.py", "1-2", "800", "0", "cloud-model", "3"],
        [],
        ["工具调用：共", "3", "次，允许", "1", "次，拒绝", "1", "次，未知工具", "1", "次"],
        ["时间", "轮次", "工具", "结论", "原因", "出错", "秒", "输出字节", "参数摘要", "调用编号"],
        [
            TIME,
            "2",
            "mcp__review__read_lines",
            "允许",
            "-",
            "-",
            "0.25",
            "321",
            "0123456789abcdef",
            "toolu_2",
        ],
        [TIME, "3", "Bash", "拒绝", "运行结束前没有轮到", "是", "0.25", "0", "0123456789abcdef", "toolu_3"],
        [TIME, "4", r"no\x0asuch::error::tool", "未知工具", "token=<secret:github-token>", "是", "0.25", "0"]
        + ["0123456789abcdef", "toolu_4"],
    ]
    english = told(filled, RUN, "--lang", "en")
    for part in ("What left this machine: 4 times", "Tool calls: 3, of which 1 allowed", "(finished)"):
        assert part in english


def test_for_machines(filled: Cli) -> None:
    found = json.loads(told(filled, "--json", RUN))
    assert list(found) == ["run_id", "intact", "egress", "calls"]
    assert (found["run_id"], found["intact"]) == (RUN, {"egress": True, "calls": True})
    assert [Egress(**row) for row in found["egress"]] == SENT
    *sound, last = [Call(**row) for row in found["calls"]]
    assert sound == CALLED[:2]
    assert (last.tool, last.reason) == (CALLED[2].tool, "token=<secret:github-token>")
    assert all(set(row) == set(Call.model_fields) for row in found["calls"])


@pytest.mark.parametrize("options", [(), ("--json",), ("--lang", "en")])
def test_a_run_that_sent_nothing(filled: Cli, options: tuple[str, ...]) -> None:
    text = told(filled, OTHER, *options)
    if "--json" in options:
        none = {"run_id": OTHER, "intact": {"egress": True, "calls": True}, "egress": [], "calls": []}
        assert json.loads(text) == none
    elif options:
        assert "What left this machine: nothing is recorded" in text
    else:
        assert text.splitlines()[2:] == ["出网清单：没有记录", "", "工具调用：没有记录"]


# --- which run


def test_a_run_is_named_by_a_unique_start(filled: Cli) -> None:
    assert told(filled, "20260101") == told(filled, RUN)


def test_without_a_run_the_newest_of_this_repository(filled: Cli, folder: Path) -> None:
    (folder / "a.py").write_text("x = 1\n")
    assert told(filled, cwd=folder) == told(filled, RUN)
    with Store(store_of(filled)) as store:
        store.start_run("20260103-000000-cccccc", str(folder), "tree", "{}")
    assert json.loads(told(filled, "--json", cwd=folder))["run_id"] == "20260103-000000-cccccc"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nope",), "没有编号为 `nope` 的运行"),
        (("2026",), "对应多个运行"),
        (("",), "对应多个运行"),
        ((), "还没有运行记录"),
        (("nope", "--json"), "没有编号为"),
        ((RUN, OTHER), OTHER),
        (("--format", "json"), "--format"),
    ],
)
def test_a_wrong_use_is_2(filled: Cli, args: tuple[str, ...], said: str) -> None:
    done = filled.run("audit", *args)
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode()


def test_a_store_that_is_switched_off(filled: Cli) -> None:
    config = filled.home / "config" / "review-agent" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("checkpoint_enabled = false\n")
    done = filled.run("audit", RUN)
    assert (done.returncode, "checkpoint_enabled" in done.stderr.decode()) == (2, True)


# --- damage


@pytest.mark.parametrize(
    ("sql", "egress", "calls"),
    [
        ("DELETE FROM egress WHERE number=4", False, True),
        ("UPDATE egress SET row=replace(row, 'src/a.py', 'src/b.py')", False, True),
        ("UPDATE egress SET row='{}' WHERE number=2", False, True),
        ("DELETE FROM calls WHERE number>1", True, False),
        ("DELETE FROM calls", True, False),
        ("DELETE FROM heads", False, False),
    ],
)
def test_a_damaged_ledger_is_shown_and_said(filled: Cli, sql: str, egress: bool, calls: bool) -> None:
    alter(filled, sql)
    found = json.loads(told(filled, RUN, "--json", code=1))
    assert found["intact"] == {"egress": egress, "calls": calls}
    assert found["egress"]
    text = told(filled, RUN, code=1)
    assert ("出网清单不完整" in text, "工具调用的记录不完整" in text) == (not egress, not calls)
    assert "api.example.com" in text


def test_the_ledgers_of_a_run_whose_own_row_is_damaged(filled: Cli) -> None:
    alter(filled, f"UPDATE runs SET label='\x1b[2J {SECRET}', request='x' WHERE run_id='{RUN}'")
    text = told(filled, RUN)
    assert text.splitlines()[0] == rf"运行 {RUN}（记录损坏），审查对象 \x1b[2J <secret:github-token>"
    assert "共 4 次" in text


# --- runs that did not end


def test_a_run_that_is_going_on(filled: Cli) -> None:
    with Store(store_of(filled)) as store, store.locks.hold(OTHER):
        store.note_egress(OTHER, [egress_text(SENT[0])])
        assert told(filled, OTHER).splitlines()[0] == f"运行 {OTHER}（进行中），审查对象 tree"
        assert len(json.loads(told(filled, OTHER, "--json"))["egress"]) == 1
        store.note_egress(OTHER, [egress_text(SENT[1])])
        assert len(json.loads(told(filled, OTHER, "--json"))["egress"]) == 2
    assert "（已中断）" in told(filled, OTHER)


def test_a_real_run_that_was_killed(cli: Cli, start_server: Callable[..., Server], demo: Path) -> None:
    """It talks to this machine alone: the audit of its folder says so."""
    server = start_server(review="*")
    done = cli.run("run", demo, "--base-url", server.url, REVIEW_AGENT_FAULT="kill:unit_committed:2")
    assert done.returncode == -9
    found = json.loads(told(cli, "--json", cwd=demo))
    assert (found["intact"], found["egress"], found["calls"]) == ({"egress": True, "calls": True}, [], [])
    assert "（已中断）" in told(cli, cwd=demo)


def test_a_reader_that_has_enough(filled: Cli) -> None:
    """`audit | head -1`."""
    with Store(store_of(filled)) as store:
        store.note_egress(OTHER, [egress_text(row) for row in SENT * 2000])
    out, into = os.pipe()
    os.close(out)
    with os.fdopen(into, "wb") as closed:
        done = subprocess.run(
            filled.argv("audit", OTHER),
            cwd=filled.home,
            env=filled.environment(),
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (0, b"")
