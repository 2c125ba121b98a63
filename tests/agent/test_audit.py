"""What a run sent and which tools it called: out of the store as it was put in, masked, and summed up."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from scripted import CLEAN, Scripted

from review_agent.agent.audit import (
    Audit,
    Call,
    Total,
    arguments_digest,
    call_text,
    document,
    egress_text,
    masked_audit,
    read_audit,
    totals,
)
from review_agent.agent.models import Change, Egress, EngineInfo, SourceFile, TrustClass
from review_agent.agent.planner import make_plan
from review_agent.agent.progress import Progress
from review_agent.agent.review import Review
from review_agent.agent.settings import Settings
from review_agent.agent.target import Selection, Target
from review_agent.checkpoints.store import Store
from review_agent.tools.endpoints import Endpoint

TIME = "2026-11-27T10:15:30Z"
SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
CALL = {
    "time": TIME,
    "turn": 3,
    "tool_use_id": "toolu_01",
    "tool": "mcp__review__read_lines",
    "arguments_sha256": "0123456789abcdef",
    "decision": "allowed",
    "reason": "",
    "error": False,
    "seconds": 0.25,
    "bytes_out": 120,
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.sqlite3") as store:
        yield store


def row(path: str = "a.py", host: str = "cloud", size: int = 10, **more: object) -> Egress:
    return Egress(TIME, host, path, size, 0, "m", **more)  # type: ignore[arg-type]


def call(**changed: object) -> Call:
    return Call.model_validate({**CALL, **changed})


# --- rows


@pytest.mark.parametrize(
    "given",
    [
        row(lines="3-9,12", turn=2),
        row("caf\udce9.py"),
        row("a\ud800\x1b\u202e\n.py", host=""),
        row("文件.py", size=1 << 70),
    ],
)
def test_a_row_of_the_ledger_comes_back_as_it_was(store: Store, given: Egress) -> None:
    store.note_egress("r", [egress_text(given)])
    assert read_audit(store, "r") == Audit("r", (given,), (), True, True)


def test_rows_of_older_versions_lack_lines_and_turn(store: Store) -> None:
    store.note_egress(
        "r", [f'{{"time":"{TIME}","host":"cloud","path":"文.py","bytes":10,"redactions":0,"model":"m"}}']
    )
    assert read_audit(store, "r").egress == (Egress(TIME, "cloud", "文.py", 10, 0, "m", "", 0),)


@pytest.mark.parametrize("decision", ["allowed", "denied", "unknown"])
def test_a_call_comes_back_as_it_was(store: Store, decision: str) -> None:
    given = call(decision=decision, error=decision != "allowed", reason="not allowed\n\x1b[31m")
    store.note_call("r", call_text(given))
    assert json.loads(call_text(given)) == {
        **CALL,
        "decision": decision,
        "error": decision != "allowed",
        "reason": "not allowed\n\x1b[31m",
    }
    assert read_audit(store, "r") == Audit("r", (), (given,), True, True)


@pytest.mark.parametrize("text", ["x" * 100_000, "\ud800" * 500, "\udcff\0\n"])
@pytest.mark.parametrize("name", ["tool", "tool_use_id", "reason", "time"])
def test_what_a_model_calls_a_tool_may_be_anything(store: Store, name: str, text: str) -> None:
    given = call(**{name: text})
    store.note_call("r", call_text(given))
    found = read_audit(store, "r")
    assert (found.calls, found.calls_intact) == ((given,), True)
    assert 0 < len(found.calls[0].model_dump()[name]) <= 500


@pytest.mark.parametrize(
    "changed",
    [
        {"arguments_sha256": "0123"},
        {"arguments_sha256": "0123456789ABCDEF"},
        {"arguments_sha256": "0123456789abcdef\n"},
        {"arguments_sha256": "password = hunter2"},
        {"decision": "perhaps"},
        {"turn": -1},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"seconds": -0.1},
        {"bytes_out": -1},
        {"tool": None},
        {"tool": 7},
    ],
)
def test_what_is_no_call_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        call(**changed)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "7", "not json", "[" * 100_000, "1" * 5000, '{"time": NaN}', '"\\ud800"']
)
@pytest.mark.parametrize("ledger", ["egress", "calls"])
def test_a_row_that_cannot_be_read_is_missed_and_said(store: Store, ledger: str, text: str) -> None:
    """Sealed, so by us: an older or newer version had other rows."""
    store.note_egress("r", [egress_text(row()), *([text] if ledger == "egress" else [])])
    for each in [call_text(call()), *([text] if ledger == "calls" else [])]:
        store.note_call("r", each)
    assert read_audit(store, "r") == Audit("r", (row(),), (call(),), ledger != "egress", ledger != "calls")


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}, True),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, True),
        ({}, {"a": None}, False),
        ({"path": "\udcff"}, {"path": "\udcfe"}, False),
    ],
)
def test_arguments_have_a_digest(one: dict[str, object], other: dict[str, object], equal: bool) -> None:
    assert (arguments_digest(one) == arguments_digest(other)) is equal
    assert call(arguments_sha256=arguments_digest(one))


# --- whole audits


@pytest.mark.parametrize(
    ("sql", "egress", "calls"),
    [
        ("UPDATE egress SET row='{}' WHERE number=1", False, True),
        ("DELETE FROM egress WHERE number=2", False, True),
        ("DELETE FROM calls WHERE number=2", True, False),
        ("UPDATE calls SET seal='' WHERE number=1", True, False),
        ("DELETE FROM heads", False, False),
    ],
)
def test_an_audit_says_which_ledger_was_damaged(store: Store, sql: str, egress: bool, calls: bool) -> None:
    store.start_run("r", "/repo", "tree", "{}")
    for _ in range(2):
        store.note_egress("r", [egress_text(row())])
        store.note_call("r", call_text(call()))
    assert read_audit(store, "r").intact
    with sqlite3.connect(store.path) as db:
        db.execute(sql)
    db.close()
    found = read_audit(store, "r")
    assert (found.egress_intact, found.calls_intact, found.intact) == (egress, calls, False)


def test_no_secret_is_shown() -> None:
    texts = ("tool", "tool_use_id", "reason", "time")
    rows = (
        Egress(SECRET, SECRET, f"{SECRET}.py", 1, 2, SECRET, SECRET, 3),
        row(lines="1-2", turn=4),
    )
    audit = Audit(SECRET, rows, (call(**dict.fromkeys(texts, SECRET)), call()), True, False)
    shown = masked_audit(audit)
    assert SECRET not in json.dumps(document(shown))
    assert json.dumps(document(shown)).count("<secret:") == 1 + 5 + 4
    assert (shown.egress[0].bytes, shown.egress[0].redactions, shown.egress[0].turn) == (1, 2, 3)
    assert (shown.egress[1], shown.calls[1]) == (audit.egress[1], audit.calls[1])
    assert (shown.egress_intact, shown.calls_intact) == (True, False)


def test_the_document_for_machines() -> None:
    assert document(Audit("r", (row(lines="1-2", turn=4),), (call(),), True, False)) == {
        "run_id": "r",
        "intact": {"egress": True, "calls": False},
        "egress": [
            {"time": TIME, "host": "cloud", "path": "a.py", "bytes": 10, "redactions": 0}
            | {"model": "m", "lines": "1-2", "turn": 4}
        ],
        "calls": [CALL],
    }


def test_totals_by_host_and_file() -> None:
    rows = [
        row("b.py", size=1),
        row("a.py", size=2),
        Egress(TIME, "lan", "a.py", 4, 3, "m"),
        row("b.py", size=8),
        row("", size=16),
    ]
    assert totals(rows) == [
        Total("cloud", None, 4, 27, 0),
        Total("cloud", "", 1, 16, 0),
        Total("cloud", "a.py", 1, 2, 0),
        Total("cloud", "b.py", 2, 9, 0),
        Total("lan", None, 1, 4, 3),
        Total("lan", "a.py", 1, 4, 3),
    ]
    assert totals([]) == []


# --- of a review


def test_a_review_on_the_local_network_is_audited_by_its_store(store: Store) -> None:
    """A file may have any name."""
    names = ("a.py", "caf\udce9.py", "文.py")
    files = tuple(
        SourceFile(name, "python", tuple(f"v{at} = {of}" for at in range(60)), "", Change.WHOLE)
        for of, name in enumerate(names)
    )
    settings = Settings(num_ctx=2048, lang="en")
    plan = make_plan(Selection(files, ()), settings, model_key="digest", model_context=0, store=store)
    backend = Scripted([CLEAN], endpoint=Endpoint("http://gpu-box:8000", TrustClass.LAN))
    store.start_run("r", "/repo", "tree", "{}")
    engine, target = EngineInfo("local", "scripted", "m", "digest"), Target("tree", "/repo")
    progress = Progress(io.StringIO(), "en")
    review = Review("r", plan, engine, settings, target, store, progress, asyncio.Event())
    report = asyncio.run(review.run(backend))
    assert report.verdict == "pass"
    assert {each.path for each in report.egress} == {*names}
    assert read_audit(store, "r") == Audit("r", report.egress, (), True, True)
    again = Review("r", plan, engine, settings, target, store, progress, asyncio.Event())
    assert again.report().egress == report.egress
