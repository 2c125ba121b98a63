"""Every byte of every request of hybrid and cloud runs: nothing that must stay is in it, and what is in it is in the ledger.

The scripted agent asks for all that it is told of, then for what it is not; the local model repeats whatever it was shown.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mock_llm
import planted
import pytest
from claude_scripts import GUESSING, LOOKING, OURS, analyst, greedy, reviewer
from driver import Cli, Server, launch
from gitrepo import make_repo
from planted import Planted, plant
from scripted_claude import Asked, Fault, ScriptedClaude, flat

from review_agent.tools.redact import mask

KEY = "sk-ant-dummy-0123456789"
LEAST = 12  # characters without blanks: a shorter line does not tell where it comes from
SCENES = [("cloud", "range"), ("hybrid", "tree")]


@dataclass
class Seen:
    """One run, and all that the server was sent."""

    mode: str
    kind: str
    planted: Planted
    asked: list[Asked]
    others: list[Asked]
    report: dict[str, Any]
    audit: dict[str, Any]
    markdown: str
    local: list[str] = field(default_factory=list)  # prompts to the local model

    @property
    def agent(self) -> list[Asked]:
        return [one for one in self.asked if any(name.startswith(OURS) for name in one.tools)]

    @property
    def units(self) -> list[Asked]:
        return [one for one in self.asked if not any(name.startswith(OURS) for name in one.tools)]

    @property
    def last(self) -> Asked:
        return max(self.agent, key=lambda one: len(one.called))

    @property
    def answers(self) -> list[tuple[int, str, dict[str, Any], str, bool]]:
        """(turn, tool, arguments, what the agent was told, whether it failed) of each call."""
        told = {call: (text, failed) for call, text, failed in self.last.results}
        turns = turns_of(self.last)
        return [
            (turns[call], name.removeprefix(OURS), given, *told[call])
            for call, name, given in self.last.called
            if call in told
        ]


def turns_of(asked: Asked) -> dict[str, int]:
    """The turn of each call, from 1: the message of the assistant that made it."""
    said = [one for one in asked.body["messages"] if one["role"] == "assistant"]
    return {
        block["id"]: turn
        for turn, one in enumerate(said, start=1)
        for block in one["content"]
        if isinstance(block, dict) and block.get("type") == "tool_use"
    }


def configure(cli: Cli) -> None:
    folder = cli.home / "config" / "review-agent"
    folder.mkdir(parents=True, exist_ok=True)
    rows = {"local_only": planted.LOCAL_ONLY, "cloud_allowed": planted.CLOUD_ALLOWED}
    (folder / "config.toml").write_text(
        "".join(f"{name} = {json.dumps(globs)}\n" for name, globs in rows.items())
    )


def nosy(prompt: str, schema: dict[str, Any]) -> str:
    return mock_llm.nosy_review(prompt, schema)


def environment(claude: ScriptedClaude) -> dict[str, str]:
    return {"ANTHROPIC_BASE_URL": claude.url, "ANTHROPIC_API_KEY": KEY}


def command(mode: str, kind: str, made: Planted, local: Server) -> list[str]:
    target = ["--from", made.base, "--to", made.head] if kind == "range" else []
    engine = ["--base-url", local.url, "--model", "mock:7b", "--max-turns", "300"]
    return ["run", str(made.root), "--mode", mode, *target, *engine]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = launch(tmp_path_factory.mktemp("local"), review="*", nosy=1, slots=4)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted") / "repo")


@pytest.fixture(scope="module", params=SCENES, ids="-".join)
def seen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, made: Planted, local: Server
) -> Seen:
    mode, kind = request.param
    home = tmp_path_factory.mktemp(mode)
    cli = Cli(home)
    configure(cli)
    before = len(local.prompts())
    script = analyst(nosy, greedy(made.paths(), [*planted.WORDS, *planted.SECRETS[:8]]))
    with ScriptedClaude(script) as claude:
        out = [f"--out=json={home}/r.json", f"--out=markdown={home}/r.md"]
        done = cli.run(*command(mode, kind, made, local), *out, timeout=120, **environment(claude))
        report = json.loads((home / "r.json").read_text(encoding="utf-8"))
        told = cli.run("audit", report["run_id"], "--json")
        assert (report["verdict"], told.returncode) == ("issues", 0), done.stderr.decode()
        return Seen(
            mode, kind, made, list(claude.asked), [*claude.counted, *claude.others], report, json.loads(told.stdout),
            (home / "r.md").read_text(encoding="utf-8"), local.prompts()[before:],
        )  # fmt: skip


# --- what must not be there


def bodies(seen: Seen) -> list[str]:
    """All requests as they were sent and without escapes, without what the scripted model said itself.

    What it was told of a call that failed may name what it had asked for; that much is left out, too.
    """
    texts: list[str] = []
    for asked in [*seen.asked, *seen.others]:
        own = [
            block
            for one in asked.body.get("messages", [])
            if one["role"] == "assistant"
            for block in one["content"]
        ]
        said = {block["id"]: block["input"] for block in own if block.get("type") == "tool_use"}
        body = json.loads(json.dumps(asked.body))
        body["messages"] = [one for one in body.get("messages", []) if one["role"] != "assistant"]
        for one in body["messages"]:
            for block in one["content"] if isinstance(one["content"], list) else []:
                if block.get("type") == "tool_result" and block.get("is_error"):
                    path = said[block["tool_use_id"]].get("path", "")
                    block["content"] = json.dumps(block["content"], ensure_ascii=False).replace(
                        path or "\0", ""
                    )
        others = f"{asked.method} {asked.path} {json.dumps(asked.headers)}"
        texts.append(Asked(body, {}, "", 0).text + others)
    return texts


def raw(seen: Seen) -> list[str]:
    """The bytes of the requests before it began to guess: nobody had named anything yet."""
    return [
        asked.raw.decode()
        for asked in seen.asked
        if json.dumps(GUESSING, ensure_ascii=False)[1:-1] not in asked.raw.decode()
    ]


def hits(texts: list[str], wanted: list[str]) -> dict[str, int]:
    return {one: count for one in wanted if (count := sum(one in text for text in texts))}


def unique_lines(made: Planted, of: list[str], other: list[str]) -> dict[str, tuple[str, int]]:
    """Lines of the first files that tell where they come from."""
    everything = "\n".join(text for _, _, text in made.lines(other))
    found: dict[str, list[tuple[str, int]]] = {}
    for path, number, text in made.lines(of):
        found.setdefault(text.strip(), []).append((path, number))
    return {
        text: where[0]
        for text, where in found.items()
        if len(re.sub(r"\s", "", text)) >= LEAST and len(where) == 1 and text not in everything
    }


def test_nothing_hidden_is_in_any_request(seen: Seen) -> None:
    made = seen.planted
    lines = unique_lines(made, made.hidden(seen.kind), made.visible(seen.kind))
    assert len(lines) > 60
    for texts in (bodies(seen), raw(seen)):
        assert len(texts) > 5
        assert hits(texts, made.words(seen.kind)) == {}
        assert hits(texts, list(planted.SECRETS)) == {}
        assert hits(texts, list(lines)) == {}
    assert len(made.words("range")) == 30


def test_what_is_hidden_could_have_been_found(seen: Seen) -> None:
    """Else silence proves nothing: the local model saw it, and the agent was told of all else."""
    made = seen.planted
    shown = "\n".join(seen.local)
    contents = [word for at, word in enumerate(planted.WORDS, 1) if at < 20]
    assert len(hits([shown], contents)) == len(contents)
    assert set(planted.FOUND) <= set(hits([shown], list(planted.FOUND)))
    visible = unique_lines(made, made.visible(seen.kind), made.hidden(seen.kind))
    if seen.mode == "hybrid":
        assert len(hits(bodies(seen), list(visible))) > 0.9 * len(visible)
    tools = {name for _, name, _, _, _ in seen.answers}
    assert tools == {*LOOKING, "record_finding", "judge_finding", "submit_summary"}


def test_of_hidden_candidates_only_category_severity_and_an_id_are_told(seen: Seen) -> None:
    rows = [
        row
        for _, name, _, text, failed in seen.answers
        if name == "get_candidates" and not failed
        for row in json.loads(text)["candidates"]
    ]
    hidden = [row for row in rows if row["local_only"]]
    assert len(hidden) > 10
    assert {frozenset(row) for row in hidden} == {frozenset({"id", "category", "severity", "local_only"})}
    assert all(re.fullmatch(r"L\d+", row["id"]) for row in hidden)
    said = [
        text
        for _, name, given, text, _ in seen.answers
        if name == "local_model_analyze" and str(given.get("path", "")).startswith("L")
    ]
    assert len(said) >= len(hidden)
    for text in said:
        for one in json.loads(text)["findings"]:
            assert set(one) == {"id", "category", "severity", "local_only"}
    for _, name, given, _, failed in seen.answers:
        if name == "judge_finding" and given["id"].startswith("L"):
            assert failed


# --- the ledger


def ledger(rows: list[Mapping[str, Any]]) -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    for row in rows:
        for part in filter(None, row["lines"].split(",")):
            first, _, last = part.partition("-")
            found |= {(row["path"], number) for number in range(int(first), int(last or first) + 1)}
    return found


def test_each_turn_sends_the_lines_of_its_rows_and_no_others(seen: Seen) -> None:
    made = seen.planted
    lines = unique_lines(made, made.visible(seen.kind), made.hidden(seen.kind))
    lines = {text: (mask(path), number) for text, (path, number) in lines.items()}  # as `audit` names files
    countable = set(lines.values())
    turns: dict[int, list[str]] = {}
    for turn, _, _, text, _ in seen.answers:
        turns.setdefault(turn, []).append(text)
    compared = 0
    for turn, texts in turns.items():
        text = Asked({"": texts}, {}, "", 0).text
        sent = {where for line, where in lines.items() if line in text}
        written = ledger([row for row in seen.audit["egress"] if row["turn"] == turn]) & countable
        tools = {name for at, name, _, _, _ in seen.answers if at == turn}
        assert (turn, tools, sorted(written - sent), sorted(sent - written)) == (turn, tools, [], [])
        compared += len(sent)
    assert compared > 100


def test_the_bytes_of_each_turn_are_those_of_its_answers(seen: Seen) -> None:
    for turn in {turn for turn, *_ in seen.answers}:
        told = [
            text
            for at, name, _, text, failed in seen.answers
            if at == turn and name in LOOKING and not failed
        ]
        written = [row["bytes"] for row in seen.audit["egress"] if row["turn"] == turn]
        assert (turn, sum(written)) == (turn, sum(len(text.encode()) for text in told))


FENCED = re.compile(r"^(<<[0-9a-f]{12}>>)$")
TITLE = re.compile(r"^文件：(.+?)（")


def shown(prompt: str) -> tuple[set[tuple[str, int]], int]:
    """The numbered lines of the pieces in a prompt, as (path, number), and how many lines of code it has in all."""
    found: set[tuple[str, int]] = set()
    path, count = "", 0
    for row in prompt.split("\n"):
        if title := TITLE.match(row):
            path = title[1]
        elif path and (line := re.match(r"^ *(\d+) [+ ] ", row)):
            found.add((path, int(line[1])))
            count += 1
        elif path and re.match(r"^ +- ", row):
            count += 1
    return found, count


def test_what_the_cloud_reviews_is_in_the_ledger(seen: Seen) -> None:
    """Units, and the guidance that goes along with each request and to the agent."""
    assert bool(seen.units) is (seen.mode == "cloud")
    texts = ["\n".join(flat(one["content"]) for one in asked.body["messages"]) for asked in seen.units]
    sent = [shown(text) for text in texts]
    code = set().union(*(lines for lines, _ in sent))
    # of the commit that the change begins at, else of the newest
    guidance = {(planted.GUIDANCE, number) for number in ((1, 2) if seen.kind == "range" else (1, 2, 3))}
    rows = [row for row in seen.audit["egress"] if row["turn"] == 0]
    assert ledger(rows) == code | guidance
    every = [text + flat(asked.body.get("system")) for text, asked in zip(texts, seen.units, strict=True)]
    every.append(flat(seen.last.body["messages"][0]["content"]))
    for line in planted.VISIBLE[planted.GUIDANCE].strip().split("\n"):
        assert all(line in text for text in every)
    assert sum(row["bytes"] for row in rows) <= sum(len(text.encode()) for text in every)
    if seen.mode == "cloud":
        assert {path for path, _ in code} == {mask(path) for path in seen.planted.visible(seen.kind)}


def test_the_rows_say_all_that_is_asked_of_them(seen: Seen) -> None:
    rows = seen.audit["egress"]
    assert seen.audit["intact"] == {"egress": True, "calls": True}
    assert {row["host"] for row in rows} == {seen.report["engine"]["cloud_host"]}
    assert {row["model"] for row in rows} == {asked.body["model"] for asked in seen.asked}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["time"]) for row in rows)
    assert {row["turn"] for row in rows if row["turn"]} == {
        turn for turn, name, _, _, failed in seen.answers if name in LOOKING and not failed
    }
    size = sum(len(asked.raw) for asked in seen.asked)
    assert 0 < sum(row["bytes"] for row in rows) < size
    assert seen.report["egress"] == rows
    panel = seen.markdown.partition("## 出网清单")[2]
    assert f"共 {len(rows)} 条记录，{sum(row['bytes'] for row in rows)} 字节" in panel
    parts = re.findall(r"(\d+) 字节，(\d+) 次，脱敏 (\d+) 处", panel)
    total = (sum(row["bytes"] for row in rows), len(rows), sum(row["redactions"] for row in rows))
    assert tuple(sum(map(int, column)) for column in zip(*parts, strict=True)) == total


def test_the_rows_of_a_killed_run_stay(tmp_path: Path, made: Planted, local: Server) -> None:
    cli = Cli(tmp_path)
    configure(cli)
    inner = greedy()
    running: list[int] = []

    def script(asked: Asked) -> Any:
        if asked.turn == 5:
            os.kill(running[0], signal.SIGKILL)
            return Fault("hang")  # until the program has heard that its parent is gone
        return inner(asked)

    with ScriptedClaude(script) as claude:
        process = cli.start(*command("hybrid", "range", made, local), **environment(claude))
        running.append(process.pid)
        assert (process.communicate(timeout=60), process.returncode)[1] == -signal.SIGKILL
        told = json.loads(cli.run("audit", "--json", cwd=made.root).stdout)
        seen = Seen("hybrid", "range", made, list(claude.asked), [], {}, told, "")
    assert told["intact"]["egress"]
    assert {turn for turn, *_ in seen.answers} == {1, 2, 3, 4, 5}
    test_each_turn_sends_the_lines_of_its_rows_and_no_others(seen)


# --- what was said before the policy was what it is


def test_what_was_said_in_a_run_without_a_policy_is_not_believed(tmp_path: Path, local: Server) -> None:
    """The local model saw both files at once then. Nothing is asked again, and the agent judges by the code."""
    repo = make_repo(tmp_path / "repo")
    files = {
        "src/app.py": planted.code("app", 2),
        "src/alone.py": planted.code("alone", 1),
        "private/keys.py": f"def {planted.WORDS[0]}(value): return value + 1\n",
    }
    repo.commit(files)
    cli = Cli(tmp_path)
    local.configure(nosy=2)  # half lines: no line of a hidden file is whole
    try:
        cli.json("run", repo.path, "--base-url", local.url, "--model", "mock:7b")
        before = len(local.prompts())
        assert "private/keys.py" in local.prompts()[-1]
        assert "src/app.py" in local.prompts()[-1]
        with ScriptedClaude(reviewer(analyze=False)) as claude:
            configure(cli)
            report = cli.json(
                "run",
                repo.path,
                "--mode",
                "hybrid",
                "--base-url",
                local.url,
                "--model",
                "mock:7b",
                **environment(claude),
            )
        assert len(local.prompts()) == before
    finally:
        local.configure(nosy=1)
    text = "\n".join(asked.text + asked.raw.decode() for asked in claude.asked)
    assert planted.WORDS[0] not in text
    rows = json.loads(next(text for _, text, _ in claude.asked[-1].results if '"candidates"' in text))[
        "candidates"
    ]
    told = [row for row in rows if not row["local_only"]]
    assert len(told) > 3
    assert {row["title"] for row in told} == {""}
    assert all(row["quote"] and row["explanation"] for row in told)
    found = report["findings"]
    assert isinstance(found, list)
    assert planted.WORDS[0] in json.dumps(found)  # the report stays on this machine


# --- secrets of a set that is not ours


def test_secrets_of_the_bench_stay(tmp_path: Path, local: Server) -> None:
    rows = _bench()
    repo = make_repo(tmp_path / "repo")
    secret = {f"src/{row['id']}.{row['lang']}": "".join(row["parts"]) + "\n" for row in rows}
    repo.commit(
        {"src/app.py": planted.code("app", 3), **secret}
    )  # the agent is asked only where there is something to see
    cli = Cli(tmp_path)
    with ScriptedClaude(greedy()) as claude:
        argv = ["run", str(repo.path), "--mode", "hybrid", "--base-url", local.url, "--model", "mock:7b"]
        done = cli.run(*argv, timeout=120, **environment(claude))
    assert done.returncode == 0, done.stderr.decode()
    text = "\n".join(asked.text + asked.raw.decode() for asked in claude.asked)
    assert len(claude.asked) > 4
    left = [row["id"] for row in rows if max(row["parts"][1:], key=len) in text]
    print(f"secrets of the bench in request bodies: {len(left)} of {len(rows)}: {' '.join(left)}")
    assert len(rows) == 36
    assert len(left) <= 4


def _bench() -> list[dict[str, Any]]:
    folder = os.environ.get("REVIEW_AGENT_BENCH")
    if not folder or not (path := Path(folder) / "secrets" / "items.jsonl").exists():
        pytest.skip("REVIEW_AGENT_BENCH has no secrets: hits are counted only where the data is")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["label"] == 1]
