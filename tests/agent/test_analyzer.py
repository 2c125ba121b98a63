"""One request and what comes of it: retries, cut answers, limits, and to which unit a finding goes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from scripted import CLEAN, Reply, Scripted, analyzer, answer, finding, long_unit, unit, virtually

from review_agent.agent.analyzer import GIVE_UP_UNREADABLE, Analyzer, Sent
from review_agent.agent.errors import (
    EngineBusy,
    EngineError,
    EngineFault,
    EngineRejected,
    ModelMissing,
    ModelUnavailable,
    PromptTooLong,
    Stopped,
)
from review_agent.agent.models import Analysis, ReviewUnit, TrustClass
from review_agent.prompts import say
from review_agent.tools.backends import ChatRequest
from review_agent.tools.endpoints import Endpoint

A = unit("a.py", "open(name)\nshared_call(1)\nreturn 1")
B = unit("b.py", "close(handle)\nshared_call(1)\nreturn 2")
C = unit("sub/c.py", "delete(everything)\nreturn 3")

GARBAGE = [
    "",
    "no json at all",
    '{"findings": 3}',
    "I am sorry, I cannot do that.",
    "<think>hm</think>",
    '{"a":',
]


def ask(agent: Analyzer, *units: ReviewUnit) -> list[Analysis]:
    return virtually(agent.analyze(units))


def until_stopped(agent: Analyzer, requests: int) -> str:
    """Why the run ended within so many requests; '' when it did not."""
    try:
        for at in range(requests):
            ask(agent, long_unit(f"{at}.py"))
    except Stopped as exc:
        return exc.key
    return ""


def first_line(analysis: Analysis) -> list[tuple[int, str]]:
    return [(placed.start, placed.reason) for placed in analysis.placed]


def cut(*whole: dict[str, object]) -> Reply:
    """An answer that ends in the middle of its next finding."""
    text = answer(*whole, finding("value_1 = compute(1)", title="never told in full"))
    return Reply(text[: text.index("never told")], "length")


# --- answers that cannot be read ---


@pytest.mark.parametrize("text", GARBAGE)
def test_an_unreadable_answer_is_asked_for_once_more_with_its_error_named(text: str) -> None:
    backend = Scripted([text])
    (got,) = ask(analyzer(backend), A)
    assert got.failure.startswith("answer_")
    first, second = backend.prompts()
    assert say("en", "reasons", got.failure) not in first
    assert say("en", "reasons", got.failure) in second
    assert second.startswith(first)  # the server's cache of the prompt is of use


def test_the_second_answer_counts() -> None:
    backend = Scripted(["no json", answer(finding("open(name)"))])
    (got,) = ask(analyzer(backend), A)
    assert (got.failure, first_line(got)) == ("", [(1, "")])


def test_unreadable_answers_cost_two_requests_a_unit_at_most() -> None:
    backend = Scripted(["no json"])
    agent = analyzer(backend)
    agent.health.good = True
    for at in range(9):
        ask(agent, unit(f"{at}.py", "x = 1"))
    assert len(backend.requests) == 18


def test_a_model_that_never_answers_readably_is_given_up() -> None:
    agent = analyzer(Scripted(["no json"]))
    for at in range(GIVE_UP_UNREADABLE - 1):
        assert ask(agent, unit(f"{at}.py", "x = 1"))[0].failure
    with pytest.raises(Stopped, match="engine_cannot_answer"):
        ask(agent, A)


def test_a_model_that_never_gets_to_an_end_is_given_up() -> None:
    backend = Scripted([cut()])
    assert until_stopped(analyzer(backend), GIVE_UP_UNREADABLE) == "engine_cannot_answer"
    assert len(backend.requests) <= 2 * GIVE_UP_UNREADABLE


# --- faults of the server ---


@pytest.mark.parametrize(
    ("error", "failure", "requests"),
    [
        (EngineFault("engine_stalled"), "engine_stalled", 1),
        (EngineFault("engine_cut_stream"), "engine_fault", 2),
        (EngineFault("engine_status", status=500), "engine_fault", 2),
        (EngineBusy("engine_busy"), "engine_busy", 4),
        (EngineBusy("engine_busy", retry_after=0.0), "engine_busy", 4),
        (ModelUnavailable("engine_unavailable"), "engine_unavailable", 4),
        (EngineRejected("engine_status", status=400), "engine_rejected", 1),
        (ModelMissing("model_missing"), "engine_rejected", 1),
    ],
)
def test_what_is_tried_again(error: EngineError, failure: str, requests: int) -> None:
    backend = Scripted([error])
    assert [got.failure for got in ask(analyzer(backend), A, B)] == [failure, failure]
    assert len(backend.requests) == requests


@pytest.mark.parametrize(
    ("asked", "waited"), [(0.0, 0.0), (7.0, 7.0), (29.0, 29.0), (86_400.0, 30.0), (float("inf"), 30.0)]
)
def test_a_busy_server_says_how_long_to_wait(asked: float, waited: float) -> None:
    backend = Scripted([EngineBusy("engine_busy", retry_after=asked), CLEAN])

    async def seconds() -> float:
        (got,) = await analyzer(backend).analyze([A])
        assert got.failure == ""
        return asyncio.get_running_loop().time()

    assert virtually(seconds()) == pytest.approx(waited, abs=0.5)


def test_waiting_for_a_busy_server_ends() -> None:
    async def seconds() -> float:
        await analyzer(Scripted([EngineBusy("engine_busy", retry_after=1e9)])).analyze([A])
        return asyncio.get_running_loop().time()

    assert virtually(seconds()) <= 91


@pytest.mark.parametrize(
    ("between", "stops"), [([], True), ([CLEAN], False), (["no json", "no json"], False)]
)
def test_three_faults_in_a_row_end_the_run(between: list[str], stops: bool) -> None:
    fault = EngineFault("engine_stalled")
    agent = analyzer(Scripted([fault, fault, *between, fault, CLEAN]))
    assert until_stopped(agent, 4) == ("engine_gave_up" if stops else "")


# --- cut answers ---


def test_a_cut_answer_leads_to_smaller_pieces_and_keeps_what_it_said() -> None:
    whole = long_unit("a.py")
    said = finding("value_3 = compute(3)")
    backend = Scripted([cut(said), CLEAN, answer(finding("value_39 = compute(39)"))])
    (got,) = ask(analyzer(backend), whole)
    assert (got.unit, got.failure) == (whole, "")
    assert first_line(got) == [(3, ""), (39, "")]
    shown = [prompt.count("= compute(") for prompt in backend.prompts()]
    assert shown[0] == 40 == shown[1] + shown[2]


def test_a_finding_told_before_and_after_the_cut_is_one() -> None:
    said = finding("value_3 = compute(3)")
    (got,) = ask(analyzer(Scripted([cut(said), answer(said), CLEAN])), long_unit("a.py"))
    assert first_line(got) == [(3, "")]


def test_an_answer_cut_before_its_first_finding_is_not_asked_for_again_in_the_same_size() -> None:
    backend = Scripted([cut(), CLEAN])
    (got,) = ask(analyzer(backend), long_unit("a.py"))
    assert got.failure == ""
    assert len(backend.requests) == 3
    assert len(set(backend.prompts())) == 3


def test_what_is_always_cut_fails_with_its_complete_findings_kept() -> None:
    backend = Scripted(lambda request: cut(finding(_first_code(request))))
    (got,) = ask(analyzer(backend), long_unit("a.py", 64))
    assert got.failure == "truncated"
    assert {start for start, _ in first_line(got)} >= {1, 33}
    assert len(backend.requests) <= 15


def test_a_short_unit_is_not_cut_smaller() -> None:
    backend = Scripted([cut(finding("open(name)"))])
    (got,) = ask(analyzer(backend), A)
    assert (got.failure, first_line(got), len(backend.requests)) == ("truncated", [(1, "")], 1)


def test_several_units_of_a_cut_answer_are_asked_for_one_by_one() -> None:
    backend = Scripted([cut(finding("close(handle)", "b.py")), CLEAN])
    agent = analyzer(backend)
    told: list[Analysis] = []
    agent.on_unit = told.append
    got = ask(agent, A, B, C)
    assert [analysis.failure for analysis in got] == ["", "", ""]
    assert [first_line(analysis) for analysis in got] == [[], [(1, "")], []]
    assert len(backend.requests) == 4
    assert [analysis.failure for analysis in told] == ["truncated"] * 3 + [""] * 3
    assert told[3:] == got


def test_units_answered_before_the_run_stopped_are_told() -> None:
    backend = Scripted([cut(finding("delete(everything)", "sub/c.py")), CLEAN, Stopped("limit_max_tokens")])
    agent = analyzer(backend)
    known: dict[str, Analysis] = {}
    agent.on_unit = lambda analysis: known.update({analysis.unit.path: analysis})
    with pytest.raises(Stopped):
        ask(agent, A, B, C)
    assert {path: got.failure for path, got in known.items()} == {
        "a.py": "",
        "b.py": "truncated",
        "sub/c.py": "truncated",
    }
    assert first_line(known["sub/c.py"]) == [(1, "")]


def test_a_prompt_that_does_not_fit_is_split() -> None:
    def server(request: ChatRequest) -> str | Exception:
        lines = request.messages[-1].content.count("= compute(")
        return PromptTooLong("prompt_too_long") if lines > 12 else CLEAN

    backend = Scripted(server)
    assert [got.failure for got in ask(analyzer(backend), long_unit("a.py"), B)] == ["", ""]
    assert [got.failure for got in ask(analyzer(Scripted([PromptTooLong("x")])), B)] == ["prompt_too_long"]


def test_a_server_that_ignores_its_own_bound_is_cut_off() -> None:
    backend = Scripted([Reply('{"findings": [' + " " * 200_000)])
    agent = analyzer(backend)
    assert until_stopped(agent, GIVE_UP_UNREADABLE) == "engine_cannot_answer"
    assert agent.meter.completion_tokens <= len(backend.requests) * agent.budget.answer * 4 + 100


# --- several units in one request ---


@pytest.mark.parametrize(
    ("said", "home", "line", "reason"),
    [
        (finding("close(handle)", "b.py"), B, 1, ""),
        (finding("close(handle)", "a.py"), B, 1, ""),  # the quote decides against the path
        (finding("shared_call(1)", "b.py"), B, 2, ""),
        (finding("shared_call(1)", "./b.py"), B, 2, ""),
        (finding("delete(everything)"), C, 1, ""),
        (finding("delete(everything)", "no/such.py"), C, 1, ""),
        (finding("shared_call(1)"), A, 0, "quote_ambiguous"),
        (finding("shared_call(1)", "no/such.py"), A, 0, "quote_not_shown"),
        (finding("never_shown(at, all)", "b.py"), B, 0, "quote_not_shown"),
        (finding("", "b.py"), B, 0, "quote_not_shown"),
    ],
)
def test_a_finding_goes_to_its_unit(
    said: dict[str, object], home: ReviewUnit, line: int, reason: str
) -> None:
    got = {analysis.unit.path: analysis for analysis in ask(analyzer(Scripted([answer(said)])), A, B, C)}
    assert {path: first_line(analysis) for path, analysis in got.items() if analysis.placed} == {
        home.path: [(line, reason)]
    }
    assert got[home.path].placed[0].candidate.path == home.path


@pytest.mark.parametrize(
    ("paths", "quote", "home"),
    [
        (("a\tb.py", "a b.py"), "same_code(here)", "a b.py"),
        (("x\udcff.py", "x\x1b.py"), "same_code(here)", "x\x1b.py"),
        ((r"n\x1b.py", "n\x1b.py"), "only_second(1)", "n\x1b.py"),
    ],
)
def test_strange_names_are_told_apart(paths: tuple[str, str], quote: str, home: str) -> None:
    units = [unit(paths[0], "same_code(here)"), unit(paths[1], "same_code(here)\nonly_second(1)")]

    def server(request: ChatRequest) -> str:
        findings = request.schema["properties"]["findings"]  # type: ignore[index]
        return answer(finding(quote, findings["items"]["properties"]["path"]["enum"][-1]))

    got = ask(analyzer(Scripted(server)), *units)
    assert [analysis.unit.path for analysis in got if analysis.placed] == [home]


def test_chunks_of_one_file_get_their_own_findings() -> None:
    one, two = unit("a.py", "first(1)\nboth(2)"), unit("a.py", "both(2)\nlast(3)", index=1, first=20)
    got = ask(analyzer(Scripted([answer(finding("last(3)", "a.py"), finding("first(1)", "a.py"))])), one, two)
    assert [first_line(analysis) for analysis in got] == [[(1, "")], [(21, "")]]


def test_only_the_first_unit_carries_the_summary() -> None:
    assert [got.summary for got in ask(analyzer(Scripted([CLEAN])), A, B)] == ["s", ""]


# --- limits and accounts ---


@pytest.mark.parametrize("text", ["x" * 100_000, "问题" * 50_000])
@pytest.mark.parametrize("together", [1, 3])
def test_max_tokens_holds_inside_a_running_answer(text: str, together: int) -> None:
    backend = Scripted([Reply(text, pause=0.1, step=40)])
    agent = analyzer(backend, max_tokens=6000)

    async def run() -> list[object]:
        tasks = [agent.analyze([unit(f"{at}.py", "x = 1")]) for at in range(together)]
        outcomes = list(await asyncio.gather(*tasks, return_exceptions=True))
        assert backend.open == 0  # at once, not when somebody collects garbage
        return outcomes

    outcomes = virtually(run())
    assert all(isinstance(got, Stopped) and got.key == "limit_max_tokens" for got in outcomes)
    assert 6000 < agent.meter.spent <= 6000 + together * 40
    assert agent.meter.pending == 0


def test_a_prompt_over_the_limit_is_not_sent() -> None:
    backend = Scripted([CLEAN])
    with pytest.raises(Stopped, match="limit_max_tokens"):
        ask(analyzer(backend, max_tokens=100), A)
    assert backend.requests == []


@pytest.mark.parametrize("pause", [1.0, 0.0])
def test_cancelling_closes_the_stream_and_settles_the_account(pause: float) -> None:
    backend = Scripted([Reply("x" * 4000, seconds=5 if not pause else 0, pause=pause)])
    agent = analyzer(backend)

    async def run() -> None:
        task = asyncio.ensure_future(agent.analyze([A]))
        await asyncio.sleep(3.5)
        assert backend.open == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert backend.open == 0

    virtually(run())
    assert agent.meter.pending == 0
    assert (agent.meter.completion_tokens > 0) is bool(pause)


def test_the_servers_own_counts_win_over_estimates() -> None:
    agent = analyzer(Scripted([Reply(CLEAN, prompt_tokens=777, completion_tokens=88)]))
    ask(agent, A)
    assert (agent.meter.prompt_tokens, agent.meter.completion_tokens, agent.meter.requests) == (777, 88, 1)
    agent = analyzer(backend := Scripted([CLEAN]))
    ask(agent, A)
    assert agent.meter.prompt_tokens == backend.requests[0].prompt_estimate
    assert agent.meter.completion_tokens == len(CLEAN) // 4


@pytest.mark.parametrize(("text", "least", "most"), [("word " * 400, 400, 600), ("问题" * 1000, 1000, 2000)])
def test_the_estimate_of_an_answer_knows_chinese(text: str, least: int, most: int) -> None:
    agent = analyzer(Scripted([text]))
    agent.health.good = True
    ask(agent, A)
    assert least <= agent.meter.completion_tokens / 2 <= most


def test_every_try_is_counted() -> None:
    agent = analyzer(Scripted(["no json"]))
    ask(agent, A)
    assert agent.meter.requests == 2


# --- what leaves ---


def _star(text: str) -> tuple[str, int]:
    return text.replace("open(name)", "***").replace("hunter2", "***"), text.count("hunter2")


@pytest.mark.parametrize(("trust", "masked"), [(TrustClass.LOOPBACK, False), (TrustClass.LAN, True)])
def test_secrets_stay_here_unless_the_server_is_here(trust: TrustClass, masked: bool) -> None:
    backend = Scripted([CLEAN], endpoint=Endpoint("http://box:1", trust))
    agent = replace(analyzer(backend), redact=_star)
    agent.asker = replace(agent.asker, guidance="our password is hunter2")
    sent: list[Sent] = []
    agent.on_sent = sent.append
    ask(agent, A, B)
    request = backend.requests[0]
    text = "\n".join(message.content for message in request.messages)
    assert ("hunter2" not in text and "open(name)" not in text) is masked
    sizes = [sum(len(line.text) for line in part.shown) for part in (A, B)]
    lines = [f"1-{len(part.shown)}" if len(part.shown) > 1 else "1" for part in (A, B)]
    assert sent == [Sent(("a.py", "b.py"), tuple(sizes), 1 if masked else 0, tuple(lines))]


def test_the_request_keeps_its_bounds() -> None:
    backend = Scripted([CLEAN])
    agent = analyzer(backend, num_ctx=8192)
    ask(agent, A, B)
    (request,) = backend.requests
    assert request.num_ctx == 8192
    assert request.max_answer == agent.budget.answer
    assert 0 < request.prompt_estimate <= 8192 - request.max_answer


def _first_code(request: ChatRequest) -> str:
    line = next(row for row in request.messages[-1].content.splitlines() if "= compute(" in row)
    return line.split(" + ", 1)[1]


@pytest.mark.parametrize(
    ("script", "expected"), [([PromptTooLong("sizes")], ["sizes"]), ([PromptTooLong("sizes"), CLEAN], [])]
)
def test_a_prompt_that_never_fits_is_explained(script: list[str | Exception], expected: list[str]) -> None:
    told: list[str] = []
    asking = analyzer(Scripted(script))
    asking.on_fault = lambda fault: told.append(fault.key)
    ask(asking, long_unit("a.py"))
    assert told == expected
