"""The tools of an agent: what they tell, what they refuse, and that nothing of a hidden file leaves, nor unwritten."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import scripted
from agents_tools import Bench, Said, source
from findings_of import finding, reported
from gitrepo import Repo, opened

from review_agent.agent.cases import Judgement, Notebook
from review_agent.agent.display import inline
from review_agent.agent.errors import Stopped, StoreError
from review_agent.agent.library import Library, shelf_for
from review_agent.agent.models import (
    Analysis,
    Candidate,
    Category,
    Egress,
    Evidence,
    Placed,
    ReviewUnit,
    Severity,
    SourceFile,
)
from review_agent.agent.plan import Budget
from review_agent.agent.router import Policy
from review_agent.agent.target import Target
from review_agent.checkpoints.store import Store
from review_agent.tools.files import FileGate
from review_agent.tools.server import TOOLS

SECRET = "ghp_Zk3vQx81LmN0pRtYw7BcDfGhJk2S4a6E8uXz"
KEYED = f'token = "{SECRET}"\n'
WORDS = "xyzzy-code", "xyzzy-title", "xyzzy-subject", "xyzzy-why"  # of hidden files; their paths hold "hush"
HIDES = Policy(("hush/", "C1", "*.hush"), ("*", "!not-allowed-hush.py"))


def hides(path: str, secret: bool) -> str:
    return HIDES.hidden(path, has_secret=secret)


def bench(*files: SourceFile, **more: Any) -> Bench:
    return Bench(Library({file.path: file for file in files}, hides), **more)


# --- nothing of a hidden file


@pytest.fixture
def private(repo: Repo) -> Iterator[Bench]:
    """A repository of which most is hidden, in each way there is, and some of that is under review."""
    code = "def f():\n    return 'xyzzy-code'\n"
    repo.commit({"open.py": "def g():\n    return 1\n", "other.py": "y = 2\n"}, "open work")
    repo.commit({"hush/a.py": code, "hush/rest.py": code, "C1": code, "x.hush": code}, "xyzzy-subject 1")
    repo.commit({"key-hush.py": code + KEYED, "rest-key-hush.py": code + KEYED}, "xyzzy-subject 2")
    repo.commit({"not-allowed-hush.py": code, "caf\u00e9.hush": code, "was-hush.py": code}, "xyzzy-subject 3")
    repo.commit({"open.py": "def g():\n    return 2\n", "hush/a.py": code + "\n"}, "xyzzy-subject 4")
    reviewed = [
        source("open.py", "def g():\n    return 2\n"),
        source("hush/a.py", code),
        source("C1", code),
        source("key-hush.py", code + KEYED),
        source("not-allowed-hush.py", code),
        source("was-hush.py", code, old_path="hush/was.py"),
    ]
    verdicts = [
        replace(verdict, finding=replace(verdict.finding, message="xyzzy-why"))
        for file in reviewed[1:]
        for verdict in reported(finding(file.path, 2, f"xyzzy-title of {file.path}"))
    ]
    verdicts += reported(
        *(finding("open.py", 2, f"t{n}") for n in range(2)), finding("open.py", 1, "f", source="check")
    )
    with opened(repo) as git:
        target = Target("tree", str(repo.path))
        files = {file.path: file for file in reviewed}
        shelf = shelf_for(target, git, FileGate(repo.path))
        library = Library(files, hides, shelf, git, git.head() or "")
        local = scripted.analyzer(
            scripted.Scripted([scripted.answer(scripted.finding("return", title="said"))])
        )
        yield Bench(library, verdicts, more={"analyzer": local})


HIDDEN = [
    "hush/a.py",
    "hush/rest.py",
    "C1",
    "x.hush",
    "caf\u00e9.hush",
    "key-hush.py",
    "rest-key-hush.py",
    "not-allowed-hush.py",
    "was-hush.py",
]
SPELLINGS = [
    "./{}",
    "/{}",
    ".//{}",
    "a/../{}",
    "{}/",
    "{} ",
    " {}",
    "{}\0",
    "{}\n",
    "{}\0.md",
    "\u200b{}",
    ":(top){}",
    "{}:1",
    "../repo/{}",
]
WITH_PATH: dict[str, dict[str, Any]] = {
    "read_lines": {"start_line": 1},
    "git_log": {},
    "git_blame": {"start_line": 1, "end_line": 2},
    "local_model_analyze": {},
    "record_finding": {
        "quote": "def f():",
        "title": "t",
        "category": "bug",
        "severity": "low",
        "confidence": 0.5,
        "explanation": "e",
    },
}


def spelled(path: str) -> list[str]:
    other = (
        path.swapcase(),
        path.replace("/", "\\"),
        path.replace("/", "//"),
        path.replace("\u00e9", "e\u0301"),
    )
    return [
        path,
        *(spelling.format(path) for spelling in SPELLINGS),
        *(each for each in other if each != path),
    ]


@pytest.mark.parametrize("tool", WITH_PATH)
def test_a_hidden_file_answers_like_one_that_is_not_there(private: Bench, tool: str) -> None:
    for name in (name for path in HIDDEN for name in spelled(path)):
        if tool == "local_model_analyze" and name == "C1":  # means the candidate
            continue
        absent = "no/such/file"
        told = private.call(tool, path=name, **WITH_PATH[tool])
        expected = private.call(tool, path=absent, **WITH_PATH[tool])
        assert told == replace(expected, text=expected.text.replace(absent, inline(name)))
        assert told.error
    assert private.kept == []
    assert private.found == []


def test_nothing_that_an_obedient_model_asks_tells_of_hidden_files(private: Bench) -> None:
    private.pages("list_units", "units")
    for status in ("open", "all"):
        private.pages("get_candidates", "candidates", status=status)
    for pattern in ("", ".", "xyzzy", "def", "ghp_", "hush", "return|y"):
        for glob in ("*", "*hush*", "hush/*", "**/*"):
            if pattern:
                private.pages("search_code", "hits", pattern=pattern, regex=True, glob=glob)
    private.call("git_log", count=50)
    for path in ("open.py", "other.py"):
        private.call("read_lines", path=path)
        private.call("git_log", path=path)
        private.call("git_blame", path=path, start_line=1, end_line=2)
    for number in range(9):
        for letter in "CL":
            private.call("local_model_analyze", path=f"{letter}{number}")
            private.call("judge_finding", id=f"{letter}{number}", verdict="refute", reason="r")
    private.call("submit_summary", summary="s")
    rows = [row for rows in private.kept for row in rows]
    leaving = [*private.answers, *(f"{row.path} {row.lines}" for row in rows)]
    assert not [text for text in leaving for word in (*WORDS, "hush", SECRET) if word in text]
    assert {row.path for row in rows} == {"", "open.py", "other.py"}
    assert sum("return 2" in text for text in private.answers) > 3  # it did see what it may


@pytest.mark.parametrize("tool", ["read_lines", "local_model_analyze"])
async def test_the_tools_themselves_know_what_is_hidden(private: Bench, tool: str) -> None:
    for path in HIDDEN:
        if path != "C1":
            told = await private.box.call(tool, {"path": path})
            assert told.error
            assert told.text.startswith(inline(path))


def test_of_a_hidden_candidate_there_is_its_kind_and_an_id(private: Bench) -> None:
    rows = private.pages("get_candidates", "candidates")
    assert [row for row in rows if row["local_only"]] == [
        {"id": f"L{number}", "category": "bug", "severity": "high", "local_only": True}
        for number in range(1, 6)
    ]
    assert [(row["id"], row["status"]) for row in rows if not row["local_only"]] == [
        ("C1", "open"),
        ("C2", "open"),
        ("C3", "fact"),
    ]
    told = private.call("local_model_analyze", path="L1")
    assert told.json == {
        "findings": [{"id": "A1", "category": "bug", "severity": "high", "local_only": True}],
        "cut": False,
    }
    assert [row.path for row in private.kept[-1]] == [""]


def test_history_tells_only_of_commits_that_touch_nothing_hidden(private: Bench) -> None:
    log = private.call("git_log", path="open.py").json["commits"]
    assert [row["subject"] for row in log] == ["", "open work"]
    blame = private.call("git_blame", path="open.py", start_line=1, end_line=99).json["lines"]
    assert [(row["lines"], row["subject"]) for row in blame] == [("1", "open work"), ("2", "")]


# --- refusals


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("run_command", {"command": "ls"}, "not offered"),
        ("read_lines", {"path": "open.py", "start_line": 9}, "has only 2 lines"),
        ("record_finding", {"path": "other.py", **WITH_PATH["record_finding"]}, "not under review"),
        (
            "record_finding",
            {"path": "open.py", **WITH_PATH["record_finding"], "quote": "nope nope"},
            "does not stand",
        ),
        ("judge_finding", {"id": "C9", "verdict": "confirm", "reason": "r"}, "no candidate C9"),
        ("judge_finding", {"id": "C3", "verdict": "refute", "reason": "r"}, "C3 is not yours to judge"),
        ("judge_finding", {"id": "L1", "verdict": "refute", "reason": "r"}, "L1 is not yours to judge"),
        ("judge_finding", {"id": "C1", "verdict": "refute", "reason": " \n\t"}, "give a reason for C1"),
        ("local_model_analyze", {}, "Give either"),
        ("local_model_analyze", {"path": "open.py", "code": "x", "language": "go"}, "Give either"),
        ("local_model_analyze", {"code": "x"}, "Give either"),
        ("local_model_analyze", {"path": "open.py", "language": "go"}, "Give either"),
        ("local_model_analyze", {"path": "open.py", "start_line": 3}, "too long, or empty"),
        ("local_model_analyze", {"code": "x = 1\n" * 3000, "language": "python"}, "too long, or empty"),
        ("search_code", {"pattern": "(", "regex": True}, "regular expression is wrong"),
        ("git_blame", {"path": "open.py", "start_line": 9, "end_line": 9}, "git gave no result"),
        ("submit_summary", {"summary": "s"}, "not judged yet: C1, C2"),
    ],
)
def test_refusals(private: Bench, tool: str, arguments: dict[str, Any], says: str) -> None:
    private.box.offered -= {"run_command"}
    told = private.call(tool, **arguments)
    assert told.error
    assert says in told.text
    assert private.kept == []
    assert (private.notebook.judged, private.notebook.found, private.box.done) == ({}, {}, False)


def test_without_a_local_model_there_is_none_to_ask() -> None:
    told = bench(source("a")).call("local_model_analyze", path="a")
    assert told == Said("There is no local model.", error=True)


# --- pages


def many(count: int) -> Bench:
    text = "".join(f"value_{number} = compute({number})\n" for number in range(count))
    verdicts = reported(*(finding("big.py", n, f"title {n} " + "t" * (n % 300)) for n in range(1, count + 1)))
    return bench(source("big.py", text), verdicts=verdicts)


def test_pages_cover_every_candidate_while_they_are_judged() -> None:
    asked = many(5000)
    cases = {case.id: case for case in asked.box.cases}
    seen: list[str] = []
    start: int | None = 0
    while start is not None:
        page = asked.call("get_candidates", start=start).json
        assert page["total"] == 5000 - len(seen)
        start = page["next"]
        for row in page["candidates"]:
            seen.append(row["id"])
            asked.notebook.judge(cases[row["id"]], Judgement("confirm", "r"), 1)
    assert seen == [f"C{number}" for number in range(1, 5001)]
    assert asked.box.open_cases == []
    assert asked.call("get_candidates").json == {"candidates": [], "next": None, "total": 0}


def test_pages_cover_all_hits_and_units() -> None:
    asked = many(5000)
    hits = asked.pages("search_code", "hits", pattern="compute")
    assert [hit["line"] for hit in hits] == list(range(1, 5001))
    files = [source(f"{number:04}/{'long' * 20}.py") for number in range(500)]
    units = bench(*files).pages("list_units", "units")
    assert [row["path"] for row in units] == [file.path for file in files]


@pytest.mark.parametrize("start", [0, 4999, 5000, 1_000_000])
def test_a_page_beyond_the_end_is_empty(start: int) -> None:
    asked = many(5000)
    for tool, name, more in (
        ("get_candidates", "candidates", {}),
        ("search_code", "hits", {"pattern": "compute"}),
    ):
        page = asked.call(tool, start=start, **more).json
        assert bool(page[name]) is (start < 5000)


# --- sizes


@dataclass(frozen=True)
class Talker:
    """A local model that says the same of whatever it is asked."""

    says: Sequence[Candidate]
    budget: Budget = field(default_factory=lambda: Budget(8000, 1000, 1000))

    async def analyze(self, units: Sequence[ReviewUnit]) -> list[Analysis]:
        return [Analysis(unit, tuple(Placed(said, 1, 1) for said in self.says)) for unit in units]


@pytest.mark.parametrize(
    "ugly",
    ["\0", "\x1b[31m", '"', "\\", "中", "\U0001f600", "\udcff", "`", "<secret:", "\u2028", "\r", "a b "],
)
def test_no_answer_is_too_long_or_broken_json(ugly: str) -> None:
    wide = ugly * 3000
    path = (ugly * 900)[:900]
    text = f"{wide}\n" * 40 + KEYED[:-1].replace(SECRET, "short") + "\n"
    one = finding(path, 2, wide, message=wide, end_line=9, evidence=(Evidence(1, (wide,)),))
    said = Candidate(wide, Category.BUG, Severity.LOW, 0.5, "q", explanation=wide, suggestion=wide)
    asked = bench(source(path, text), verdicts=reported(*[one] * 9), more={"analyzer": Talker([said] * 30)})
    lines = asked.call("read_lines", path=path)
    head, _, body = lines.text.partition("\n")
    assert json.loads(head)["of"] == 41
    assert body
    for tool, name, more in (
        ("list_units", "units", {}),
        ("get_candidates", "candidates", {"status": "all"}),
        ("search_code", "hits", {"pattern": ugly[0]}),
    ):
        assert asked.pages(tool, name, **more)
    assert "findings" in asked.call("local_model_analyze", code="x", language="go" * 20).json
    assert not asked.broken


# --- the ledger


def shown_lines(said: Said) -> dict[str, set[int]]:
    """The lines of files that stand in an answer of the library, as a reader would find them."""
    found: dict[str, set[int]] = {}
    head, _, body = said.text.partition("\n")
    if body:
        path = json.loads(head)["path"]
        found[path] = {int(line.split(" ")[0]) for line in body.split("\n")}
    for hit in json.loads(head).get("hits", []):
        found.setdefault(hit["path"], set()).add(hit["line"])
    for row in json.loads(head).get("candidates", []):
        if quote := row.get("quote"):
            lines = range(row["start_line"], row["start_line"] + quote.count("\n") + 1)
            found.setdefault(row["path"], set()).update(lines)
    return found


def ledger_lines(rows: list[Egress]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for row in rows:
        for part in row.lines.split(",") if row.path else ():
            first, _, last = part.partition("-")
            found.setdefault(row.path, set()).update(range(int(first), int(last or first) + 1))
    return found


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("read_lines", {"path": "a.py"}),
        ("read_lines", {"path": "a.py", "start_line": 3, "end_line": 4}),
        ("read_lines", {"path": "a.py", "start_line": 5, "end_line": 2}),
        ("read_lines", {"path": "part.py", "start_line": 1, "end_line": 9}),
        ("search_code", {"pattern": "值"}),
        ("search_code", {"pattern": "nothing at all"}),
        ("get_candidates", {}),
        ("list_units", {}),
        ("git_log", {}),
    ],
)
def test_the_ledger_holds_every_byte_and_line_of_an_answer(tool: str, arguments: dict[str, Any]) -> None:
    text = "".join(f"值{n} = '{'我们的' * n}' # k7Qp2xWm9vT\n" for n in range(1, 200))
    parts = source("part.py", "1\n2\n\n4\n", known=frozenset({1, 2, 4}))
    notes = source("key.py", 'password = "k7Qp2xWm9vT"\n')  # so the mask knows it elsewhere, too
    verdicts = reported(*(finding("a.py", n, "t", end_line=n + n) for n in range(1, 30)), finding("key.py"))
    asked = bench(source("a.py", text), parts, notes, verdicts=verdicts)
    asked.box.outbox.turn = 7
    told = asked.call(tool, **arguments)
    (rows,) = asked.kept
    assert sum(row.bytes for row in rows) == len(told.text.encode())
    assert ledger_lines(rows) == shown_lines(told)
    if ledger_lines(rows):  # what is no file's is the frame round the rows
        assert sum(row.bytes for row in rows if not row.path) < 300
    assert {(row.host, row.model, row.turn) for row in rows} == {("cloud.example", "model", 7)}
    assert sum(row.redactions for row in rows) == told.text.count("<secret:")
    assert "k7Qp" not in told.text
    assert asked.box.outbox.rows == rows


def test_what_cannot_be_written_down_is_not_answered() -> None:
    def full(_: list[Egress]) -> None:
        raise Stopped("store_failed")

    asked = bench(source("a.py", "very own code\n"))
    asked.box.outbox.keep = full
    told = asked.call("read_lines", path="a.py")
    assert told.error
    assert "own code" not in told.text


def test_on_this_machine_nothing_is_masked_or_written_down() -> None:
    asked = Bench(
        Library({"a.py": source("a.py", KEYED)}, lambda _path, _secret: ""),
        host="",
        verdicts=reported(finding("a.py")),
    )
    assert SECRET in asked.call("read_lines", path="a.py").text
    assert SECRET in asked.call("search_code", pattern="ghp_").text
    assert asked.kept == []
    # What it says goes into a report all the same.
    asked.call("judge_finding", id="C1", verdict="confirm", reason=f"leaks {SECRET}")
    asked.call("submit_summary", summary=f"leaks {SECRET}")
    assert [said.reason for said in asked.notebook.judged.values()] == ["leaks <secret:github-token>"]
    assert asked.notebook.summary == "leaks <secret:github-token>"


# --- secrets


@pytest.mark.parametrize("before", [0, 100, 150, 180, 199, 370, 390])
def test_no_cut_leaves_half_a_secret(repo: Repo, before: int) -> None:
    pad = "x" * before
    words = f"{pad} k7Qp2xWm9vT {SECRET}"
    repo.commit({"a.py": "1\n"}, words)
    with opened(repo) as git:
        files = {"key": source("key", 'password = "k7Qp2xWm9vT"\n'), "a.py": source("a.py", f"{words}\n")}
        shelf = shelf_for(Target("tree", str(repo.path)), git, FileGate(repo.path))
        library = Library(
            files, lambda path, _: "hidden" if path == "key" else "", shelf, git, git.head() or ""
        )
        one = finding("a.py", 1, words, message=words)
        asked = Bench(library, reported(one))
        asked.call("git_log")
        asked.call("git_blame", path="a.py", start_line=1, end_line=1)
        asked.call("read_lines", path="a.py")
        asked.call("get_candidates")
        asked.call("search_code", pattern="x" if before else "<")
    assert not [text for text in asked.answers if "k7Q" in text or "ghp_" in text]
    assert any("<sec" in text for text in asked.answers)


def test_a_secret_cannot_be_found_letter_by_letter() -> None:
    asked = bench(source("key", 'password = "k7Qp2xWm9vT"\n'), source("a.py", "see k7Qp2xWm9vT\n"))
    for pattern in ("see", "k7Q", "k7Qp2xWm9vT"):
        hits = asked.call("search_code", pattern=pattern).json
        assert [hit["text"] for hit in hits["hits"]] == (
            ["see <secret:password>"] if pattern == "see" else []
        )
        assert hits["next"] is None


def test_a_quotation_mark_behind_a_secret_stays() -> None:
    line = 'password: Zk3v$Qx81LmN0!"'
    library = Library({"a.py": source("a.py", f"{line}\n")}, lambda _path, _secret: "")
    asked = Bench(library, reported(finding("a.py", 1, line, message=line)))
    (row,) = asked.pages("get_candidates", "candidates")
    assert "Zk3v" not in row["quote"] + row["title"] + row["explanation"]
    assert asked.call("search_code", pattern="word").json["hits"][0]["text"] == 'password: <secret:password>"'


# --- the local model


def test_the_local_model_is_asked_of_lines_of_a_candidate_and_of_code() -> None:
    server = scripted.Scripted([scripted.answer(scripted.finding("value_30", title="said"))])
    more = {"analyzer": scripted.analyzer(server)}
    text = "".join(f"value_{number} = 1\n" for number in range(100))
    asked = bench(source("a.py", text), verdicts=reported(finding("a.py", 50)), more=more)
    by_lines = asked.call("local_model_analyze", path="a.py", start_line=30, end_line=32)
    by_id = asked.call("local_model_analyze", path="C1", start_line=1, end_line=2)
    by_code = asked.call("local_model_analyze", code="value_30\n", language="python")
    prompts = list(server.prompts())
    shown = [{n for n in range(100) if f"value_{n} " in prompt} for prompt in prompts[:2]]
    assert shown == [{29, 30, 31}, set(range(29, 70))]  # its own lines: those the model names do not matter
    assert "value_30" in prompts[2]
    assert [row["start_line"] for said in (by_lines, by_id, by_code) for row in said.json["findings"]] == [
        31,
        31,
        1,
    ]
    assert [(row.path, row.lines) for rows in asked.kept for row in rows if row.path] == [("a.py", "")] * 2


def test_a_failure_of_the_local_model_is_told() -> None:
    more = {"analyzer": scripted.analyzer(scripted.Scripted(["no json"]))}
    told = bench(source("a.py"), more=more).call("local_model_analyze", path="a.py")
    assert told.error
    assert told.text.startswith("The local model gave no result")


async def test_the_local_model_is_not_asked_more_at_once_than_it_can() -> None:
    server = scripted.Scripted([scripted.Reply(scripted.CLEAN, seconds=0.05)])
    peak = 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, server.open)
            await asyncio.sleep(0.005)

    watching = asyncio.ensure_future(watch())
    asked = bench(source("a.py"), more={"analyzer": scripted.analyzer(server), "parallel": 2})
    await asyncio.gather(*(asked.acall("local_model_analyze", path="a.py") for _ in range(8)))
    watching.cancel()
    assert (peak, len(server.requests)) == (2, 8)


# --- what it says

SAYS: dict[str, Any] = {
    "path": "a.py",
    "quote": "b = two()",
    "title": "title of it",
    "category": "bug",
    "severity": "high",
    "confidence": 0.7,
    "explanation": "why it is one",
}


def test_a_finding_is_placed_by_its_quote_and_kept_once() -> None:
    asked = bench(source("a.py", "a = one()\nb = two()\nc = three()\n"))
    first = asked.call("record_finding", **SAYS, start_line=1)
    assert first == Said("Recorded, at line 2.", error=False)
    again = asked.call("record_finding", **{**SAYS, "title": "title of it, again"})
    assert again == Said("This finding is recorded already.", error=False)
    (one,) = asked.found
    assert list(asked.notebook.found.values()) == [one]
    assert (one.source, one.rule_id, one.category, one.start_line) == ("agent", "agent/bug", Category.BUG, 2)
    assert one.evidence[0].lines == ("a = one()", "b = two()", "c = three()")


def test_a_finding_that_is_a_candidate_must_be_judged_instead() -> None:
    one = finding("a.py", 2, "title of it", message="why it is one")
    asked = bench(source("a.py", "a = one()\nb = two()\n"), verdicts=reported(one))
    assert asked.call("record_finding", **SAYS) == Said(
        "That is candidate C1; please judge it with judge_finding.", error=True
    )


def test_secrets_in_what_it_says_are_masked() -> None:
    text = f"a = one()\nb = two()  # {KEYED}"
    asked = Bench(Library({"a.py": source("a.py", text)}, lambda _path, _secret: ""), host="")
    asked.call(
        "record_finding", **{**SAYS, "title": f"see {SECRET}", "suggestion": SECRET, "replacement": SECRET}
    )
    assert SECRET not in str(asked.found)
    assert "<secret:" in asked.found[0].title


def test_a_summary_is_sent_back_twice_while_candidates_are_open() -> None:
    asked = bench(source("a.py"), verdicts=reported(finding("a.py"), finding("a.py", 1, "other")))
    said = [asked.call("submit_summary", summary=f"summary {n}").error for n in range(3)]
    assert said == [True, True, False]
    assert (asked.notebook.summary, asked.box.done, len(asked.box.open_cases)) == ("summary 2", True, 2)


def test_an_empty_summary_is_none() -> None:
    asked = bench(source("a.py"))
    assert asked.call("submit_summary", summary=" \n ").error
    assert not asked.box.done
    assert not asked.call("submit_summary", summary="s").error


def test_judging_twice_keeps_the_first(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db") as store:
        boxes = [
            bench(source("a.py"), verdicts=reported(finding("a.py")), notebook=Notebook("work", run, store))
            for run in ("one", "two")
        ]
        words = [("refute", 0), ("confirm", 0), ("confirm", 1)]
        told = [boxes[at].call("judge_finding", id="C1", verdict=word, reason=word) for word, at in words]
        assert [said.error for said in told] == [False] * 3
        assert [said.text.split(";")[0] for said in told] == ["C1 is judged", *["C1 was judged before"] * 2]
        assert [[said.verdict for said in asked.notebook.judged.values()] for asked in boxes] == [
            ["refute"]
        ] * 2


def test_hostile_text_in_a_reason_is_one_harmless_line() -> None:
    asked = bench(source("a.py"), verdicts=reported(finding("a.py")))
    asked.call("judge_finding", id="C1", verdict="refute", reason="a\n\x1b[31m::error::b\u202e\udcff")
    (said,) = asked.notebook.judged.values()
    assert said.reason == r"a \x1b[31m::error::b\u202e\xff"


# --- our own faults


async def test_a_fault_of_ours_tells_the_user_and_not_the_model(tmp_path: Path) -> None:
    class Broken(Store):
        def judge(self, *_: object) -> bool:
            raise StoreError("store_busy", path="/home/me/s.db")

    with Broken(tmp_path / "s.db") as store:
        asked = bench(source("a.py"), verdicts=reported(finding("a.py")), notebook=Notebook("w", "r", store))
        told = await asked.acall("judge_finding", id="C1", verdict="refute", reason="r")
        assert told.error
        assert "/home" not in told.text
        assert "our side" in told.text
        assert [(tool, type(why)) for tool, why in asked.broken] == [("judge_finding", StoreError)]
        assert asked.notebook.judged == {}


def test_every_tool_that_is_declared_is_there() -> None:
    asked = bench(source("a.py"))
    assert set(TOOLS) == set(asked.box._tools)
    assert all(one <= other for one, other in pairwise(sorted(TOOLS)))
