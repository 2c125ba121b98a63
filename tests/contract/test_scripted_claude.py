"""The scripted Messages server itself, asked by Anthropic's own client, and the scripts of a review."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from claude_scripts import (
    DONE,
    OURS,
    SNIPPET,
    looping,
    obedient,
    plain_text,
    reviewer,
    stops_at,
    unknown_tools,
)
from scripted_claude import (
    END,
    ERRORS,
    FAULTS,
    Asked,
    Calls,
    Fault,
    Reply,
    Script,
    ScriptedClaude,
    Text,
    Usage,
)

HELLO: Any = [{"role": "user", "content": "hello"}]


@cache
def anyone() -> anthropic.Anthropic:
    """One client for all, for making one takes longer than asking."""
    return anthropic.Anthropic(base_url="http://127.0.0.1:1", api_key="dummy", max_retries=0)


def ask(claude: ScriptedClaude, messages: Any = HELLO, *, stream: bool = True, timeout: float = 5) -> Any:
    client = anyone().with_options(base_url=claude.url, timeout=timeout)
    given: Any = {"model": "m", "max_tokens": 9, "messages": messages}
    if not stream:
        return client.messages.create(**given)
    with client.messages.stream(**given) as answer:
        return answer.get_final_message()


@pytest.mark.parametrize("stream", [True, False])
def test_a_script_is_said_turn_by_turn(stream: bool) -> None:
    calls = [("read", {"path": "中.py"}), ("list", {})]
    with ScriptedClaude([Calls(calls, "Let me see."), Text("Fine.")], usage=Usage(7, 5, 3, 2)) as claude:
        first, second, third = (ask(claude, stream=stream) for _ in range(3))
    assert [block.type for block in first.content] == ["text", "tool_use", "tool_use"]
    assert [(block.name, block.input) for block in first.content[1:]] == calls
    assert (first.stop_reason, second.stop_reason) == ("tool_use", "end_turn")
    assert [second.content[0].text, third.content[0].text] == ["Fine.", END]
    used = first.usage
    assert (used.input_tokens, used.output_tokens) == (7, 5)
    assert (used.cache_creation_input_tokens, used.cache_read_input_tokens) == (3, 2)
    assert [asked.number for asked in claude.asked] == [1, 2, 3]


def test_what_was_asked_is_kept_and_can_be_read() -> None:
    inner = json.dumps({"path": "a\\b.py", "quote": 'say "中"'}, ensure_ascii=True)
    messages = [
        *HELLO,
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "read", "input": {"n": 1}}],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": inner}]},
                {"type": "tool_result", "tool_use_id": "t2", "content": "no", "is_error": True},
            ],
        },
    ]
    with ScriptedClaude([]) as claude:
        ask(claude, messages)
    (asked,) = claude.asked
    assert asked.called == [("t1", "read", {"n": 1})]
    assert asked.results == [("t1", inner, False), ("t2", "no", True)]
    assert (asked.turn, asked.tools, asked.path) == (1, set(), "/v1/messages")
    assert 'say "中"' in asked.text  # JSON in a string, read
    assert "a\\b.py" in asked.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/", 200),
        ("HEAD", "/api/hello", 200),
        ("GET", "/v1/models", 404),
        ("POST", "/v1/complete", 404),
    ],
)
def test_whatever_else_is_asked_is_kept(method: str, path: str, status: int) -> None:
    with ScriptedClaude([]) as claude:
        connection = http.client.HTTPConnection("127.0.0.1", claude.port, timeout=5)
        connection.request(method, path, body="{}" if method == "POST" else None)
        assert connection.getresponse().status == status
        connection.close()
    assert [(one.method, one.path) for one in claude.everything] == [(method, path)]
    assert claude.asked == []


def test_tokens_are_counted_apart() -> None:
    with ScriptedClaude([]) as claude:
        client = anyone().with_options(base_url=claude.url)
        assert client.messages.count_tokens(model="m", messages=HELLO).input_tokens > 0
    assert (len(claude.asked), len(claude.counted)) == (0, 1)


BROKEN = (anthropic.APIError, httpx2.TransportError, AssertionError, ValueError)  # as the client tells it


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", sorted(set(FAULTS) - {"empty", "max_tokens", "refusal"}))
def test_a_fault_is_one_to_the_client(kind: str, stream: bool) -> None:
    with ScriptedClaude([Fault(kind, after=2)]) as claude:
        if kind == "html" and not stream:
            assert "<html>" in ask(claude, stream=False)
            return
        with pytest.raises(BROKEN) as caught:
            ask(claude, stream=stream, timeout=0.3)
    if kind in ERRORS:
        assert getattr(caught.value, "status_code", None) == ERRORS[kind][0]


@pytest.mark.parametrize("kind", ["empty", "max_tokens", "refusal"])
def test_an_answer_that_is_no_good_is_well_formed(kind: str) -> None:
    with ScriptedClaude([Fault(kind)]) as claude:
        answer = ask(claude)
    assert (answer.stop_reason, len(answer.content)) == (("end_turn", 0) if kind == "empty" else (kind, 1))


def test_many_may_ask_at_once() -> None:
    with ScriptedClaude(lambda asked: Text(str(asked.number))) as claude:
        threads = [threading.Thread(target=ask, args=(claude,)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert sorted(asked.number for asked in claude.asked) == list(range(1, 13))


def test_closing_lets_go_of_who_waits() -> None:
    claude = ScriptedClaude([Fault("hang")])
    closing = threading.Timer(0.3, claude.close)
    closing.start()
    with pytest.raises(anthropic.APIConnectionError):
        ask(claude, timeout=30)
    closing.join()


def test_it_is_a_command_too(tmp_path: Path) -> None:
    program = Path(__file__).parents[1] / "harness" / "scripted_claude.py"
    log = tmp_path / "log.jsonl"
    argv = [sys.executable, str(program), "--script", "looping", "--stop-at", "2", "--log", str(log)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = json.loads(process.stdout.readline())["url"]
            client = anyone().with_options(base_url=url)
            answer: Any = client.messages.create(model="m", max_tokens=9, messages=HELLO)
        finally:
            process.terminate()
    assert answer.content[0].name == OURS + "list_units"
    (line,) = log.read_text().splitlines()
    assert json.loads(line)["body"]["messages"] == HELLO


# --- the scripts, with a review that is played


@dataclass
class Review:
    """The tools of a review, played: two pages of candidates; what is judged stays judged from one session to the next."""

    status: dict[str, str] = field(
        default_factory=lambda: {"c1": "open", "c2": "open", "c3": "open", "c4": "confirmed"}
    )
    reasons: dict[str, str] = field(default_factory=dict)
    added: list[dict[str, Any]] = field(default_factory=list)
    summaries: list[str] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def candidate(self, number: int) -> dict[str, Any]:
        key = f"c{number}"
        if number == 2:
            return {
                "id": key,
                "category": "bug",
                "severity": "high",
                "status": self.status[key],
                "local_only": True,
            }
        shown: dict[str, Any] = {
            "id": key, "path": f"{key}.py", "start_line": number, "end_line": number, "title": f"title {number}",
            "status": self.status[key], "local_only": False,
        }  # fmt: skip
        return shown

    def do(self, name: str, given: Mapping[str, Any]) -> str:
        self.calls.append((name, dict(given)))
        match name.removeprefix(OURS):
            case "get_candidates":
                start = int(given.get("offset", 0))
                rows = [self.candidate(number) for number in (start + 1, start + 2)]
                return json.dumps({"candidates": rows, "next": 2 if start == 0 else None})
            case "judge_finding":
                self.status[given["id"]] = {"confirm": "confirmed", "refute": "refuted"}[given["verdict"]]
            case "record_finding":
                self.added.append(dict(given))
            case "submit_summary":
                self.summaries.append(given["summary"])
            case "local_model_analyze" | "list_units":
                pass
            case _:
                raise LookupError(name)
        return "{}"

    def tools(self) -> list[dict[str, Any]]:
        names = (
            "get_candidates",
            "judge_finding",
            "record_finding",
            "local_model_analyze",
            "submit_summary",
            "list_units",
        )
        schema = {
            "type": "object",
            "properties": {"limit": {"type": "integer"}, "offset": {"type": "integer"}},
        }
        return [{"name": OURS + name, "input_schema": schema} for name in names]


def session(script: Script, review: Review, turns: int = 40) -> tuple[str, int]:
    """A fresh conversation until a text, or for so many turns: (the text, turns)."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "go"}]
    for turn in range(1, turns + 1):
        reply: Reply = script(
            Asked({"messages": messages, "tools": review.tools()}, {}, "/v1/messages", turn)
        )
        if isinstance(reply, Text):
            return reply.text, turn
        assert isinstance(reply, Calls)
        blocks: list[object] = []
        results: list[object] = []
        for index, (name, given) in enumerate(reply.calls):
            key = f"t{turn}.{index}"
            blocks.append({"type": "tool_use", "id": key, "name": name, "input": dict(given)})
            result: dict[str, object]
            try:
                result = {"content": review.do(name, given)}
            except LookupError:
                result = {"content": "No such tool", "is_error": True}
            results.append({"type": "tool_result", "tool_use_id": key, **result})
        messages += [{"role": "assistant", "content": blocks}, {"role": "user", "content": results}]
    return "", turns


ADDED = {
    "path": "c1.py", "start_line": 1, "end_line": 1, "quote": "x", "title": "added", "category": "bug",
    "severity": "high", "confidence": 0.9, "explanation": "e", "suggestion": "s",
}  # fmt: skip


def check(review: Review) -> None:
    assert review.status == {"c1": "confirmed", "c2": "open", "c3": "refuted", "c4": "confirmed"}
    judged = [given["id"] for name, given in review.calls if name == OURS + "judge_finding"]
    assert sorted(judged) == ["c1", "c3"]  # each once; not what only stays here, not what is judged
    assert review.added == [ADDED]
    assert review.summaries[-1] == "总评"


def test_the_reviewer_does_the_whole_of_a_review() -> None:
    review = Review()
    assert session(reviewer(["c3"], ADDED, "总评"), review)[0] == DONE
    check(review)
    forms = [given for name, given in review.calls if name == OURS + "local_model_analyze"]
    assert forms == [{"path": "c1.py", "start_line": 1, "end_line": 1}, SNIPPET]


@pytest.mark.parametrize("turn", range(1, 9))
def test_the_reviewer_goes_on_in_a_fresh_session(turn: int) -> None:
    """Wherever the first session ends. What it recorded is known to the review, so `add` comes up as a candidate."""
    review = Review()
    script = reviewer(["c3"], ADDED, "总评", at_once=1)
    assert session(stops_at(turn, script), review) == ("就到这里。", turn)
    rest = reviewer(["c3"], None if review.added else ADDED, "总评", at_once=1)
    assert session(rest, review)[0] == DONE
    check(review)


def test_what_a_session_before_recorded_is_not_recorded_again() -> None:
    review = Review()
    known = review.candidate

    def with_added(number: int) -> dict[str, Any]:
        return known(number) | ({"title": ADDED["title"], "path": ADDED["path"]} if number == 4 else {})

    review.candidate = with_added  # type: ignore[method-assign]
    session(reviewer([], ADDED), review)
    assert review.added == []


@pytest.mark.parametrize(
    ("script", "text", "turns"),
    [(looping(), "", 6), (plain_text("nothing"), "nothing", 1), (stops_at(3, looping()), "就到这里。", 3)],
)
def test_scripts_that_do_not_review(script: Script, text: str, turns: int) -> None:
    assert session(script, Review(), 6) == (text, turns)


def test_unknown_tools_come_first_then_the_review() -> None:
    review = Review()
    assert session(unknown_tools(reviewer(["c3"], ADDED, "总评")), review)[0] == DONE
    assert [name for name, _ in review.calls[:3]] == ["Bash", "mcp__other__x", OURS + "nope"]
    check(review)


def test_the_obedient_tries_each_action_once() -> None:
    review, actions = (
        Review(),
        [("Bash", {"command": "id"}), ("Read", {"path": "/"}), ("Bash", {"command": "ls"})],
    )
    assert session(obedient(actions), review) == (DONE, 4)
    assert review.calls == actions
