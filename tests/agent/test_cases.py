"""What an agent is asked about, and that what it said is kept: once, whole, and only when it can be believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from findings_of import finding, reported

from review_agent.agent.cases import Case, Docket, Judgement, Notebook, case_key, judged_verdicts, make_cases
from review_agent.agent.models import Outcome, Severity, Verdict
from review_agent.checkpoints.store import Store

CONFIRM, REFUTE = Judgement("confirm", "it is so"), Judgement("refute", "it is not")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "s.db") as opened:
        yield opened


def cases(*paths: str, hidden: str = "") -> tuple[Case, ...]:
    return make_cases(reported(*(finding(path) for path in paths)), lambda path: path != hidden)


# --- cases


def test_cases_are_the_reported_findings_with_ids_that_tell_nothing_of_hidden_ones() -> None:
    verdicts = [
        *reported(finding("a"), finding("secret"), finding("b", source="check")),
        Verdict(finding("c"), Outcome.DUPLICATE, "merged_into"),
        *reported(finding("secret", 2), finding("d")),
    ]
    made = make_cases(verdicts, lambda path: path != "secret")
    assert [(case.id, case.finding.path, case.judgeable) for case in made] == [
        ("C1", "a", True),
        ("L1", "secret", False),
        ("C2", "b", False),  # a fact: no model judges it
        ("L2", "secret", False),
        ("C3", "d", True),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "other"},
        {"path": "other"},
        {"title": "other"},
        {"message": "other"},
        {"severity": Severity.LOW},
        {"evidence": ()},
    ],
)
def test_a_judgement_is_about_these_words_on_this_code(change: dict[str, object]) -> None:
    one = finding()
    assert case_key(one) == case_key(replace(one, confidence=0.1))
    assert case_key(one) != case_key(replace(one, **change))  # type: ignore[arg-type]


def test_a_file_name_that_is_not_utf8_has_a_key() -> None:
    assert case_key(finding("\udcff.py")) != case_key(finding("\udcfe.py"))


# --- what was said of them


def test_the_first_word_on_a_case_stays() -> None:
    (case,) = cases("a")
    notebook = Notebook("work", "run")
    assert [notebook.judge(case, word, 1) for word in (REFUTE, CONFIRM)] == [True, False]
    assert notebook.judged == {case.key: REFUTE}
    assert Docket((case,), notebook).open == []


def test_a_later_session_knows_what_was_said(store: Store) -> None:
    first, second = cases("a", "b")
    one = Notebook("work", "run1", store)
    own = finding("\udcff", title="\ud800 own", source="agent", fingerprint="f")
    assert one.judge(first, CONFIRM, 1)
    assert one.find(own, 2)
    assert one.sum_up("总评 \udcff", 3)
    two = Notebook("work", "run2", store)
    assert (two.judged, two.found, two.summary) == (
        {first.key: CONFIRM},
        {own.fingerprint: own},
        "总评 \udcff",
    )
    assert two.recalled == 1
    assert [case.id for case in Docket((first, second), two).open] == [second.id]
    assert Notebook("other work", "run3", store).judged == {}


def test_two_notebooks_of_one_store_do_not_judge_twice_and_hear_of_each_other(store: Store) -> None:
    (case,) = cases("a")
    own = finding(source="agent")
    one, two = Notebook("work", "run1", store), Notebook("work", "run2", store)
    assert (one.judge(case, REFUTE, 1), two.judge(case, CONFIRM, 1)) == (True, False)
    assert (one.find(own, 1), two.find(own, 1)) == (True, False)
    assert (one.sum_up("first", 1), two.sum_up("second", 1)) == (True, False)
    for notebook in (one, two):  # nothing is left open in either, and both report the same
        assert (notebook.judged, list(notebook.found)) == ({case.key: REFUTE}, [own.fingerprint])
        assert notebook.summary == "first"


AGENTS = asdict(finding(source="agent"))


@pytest.mark.parametrize(
    ("key", "payload"),
    [
        ("judge:k", "not json"),
        ("judge:k", "[]"),
        ("judge:k", '"confirm"'),
        ("judge:k", "null"),
        ("judge:k", "{}"),
        ("judge:k", '{"verdict": "confirm"}'),
        ("judge:k", '{"verdict": "maybe", "reason": "r"}'),
        ("judge:k", '{"verdict": "Refute", "reason": "r"}'),
        ("judge:k", '{"verdict": ["confirm"], "reason": "r"}'),
        ("judge:k", '{"verdict": "confirm", "reason": 3}'),
        ("judge:k", "[" * 100_000),
        ("found:k", "{}"),
        ("found:k", json.dumps(AGENTS)),  # another's name
        (f"found:{AGENTS['fingerprint']}", json.dumps({**AGENTS, "severity": "dire"})),
        (f"found:{AGENTS['fingerprint']}", json.dumps({**AGENTS, "start_line": "x"})),
        (f"found:{AGENTS['fingerprint']}", json.dumps({**AGENTS, "source": "check"})),
        ("summary:", '["s"]'),
        ("summary:", "3"),
        ("else:k", '"x"'),
        ("", '"x"'),
    ],
)
def test_what_cannot_be_read_was_never_said(store: Store, key: str, payload: str) -> None:
    assert store.judge("work", key, "run", 1, payload)
    assert store.judge("work", "judge:good", "run", 1, '{"verdict": "confirm", "reason": "r"}')
    notebook = Notebook("work", "run", store)
    assert (list(notebook.judged), notebook.found, notebook.summary) == (["good"], {}, "")


def test_the_state_is_kept_whole(store: Store) -> None:
    first, second = cases("a", "b")
    notebook = Notebook("work", "run", store)
    notebook.judge(first, REFUTE, 1)
    notebook.snapshot(7, Docket((first, second), notebook).open)
    turn, payload = store.state("work") or (0, "")
    state = json.loads(payload)
    assert (turn, state["judged"], state["open"]) == (7, {first.key: "refute"}, [second.key])


# --- what becomes of the findings


@pytest.mark.parametrize(
    ("outcome", "word", "after", "reason"),
    [
        (Outcome.REPORTED, REFUTE, Outcome.REFUTED, "refuted_by_review"),
        (Outcome.REPORTED, CONFIRM, Outcome.REPORTED, "confirmed_by_review"),
        (Outcome.DUPLICATE, CONFIRM, Outcome.DUPLICATE, "as_before"),
        (Outcome.SUPPRESSED, CONFIRM, Outcome.SUPPRESSED, "as_before"),
        (Outcome.DUPLICATE, REFUTE, Outcome.REFUTED, "refuted_by_review"),
    ],
)
def test_a_judgement_counts_where_the_finding_stands_by_itself(
    outcome: Outcome, word: Judgement, after: Outcome, reason: str
) -> None:
    (case,) = cases("a")
    notebook = Notebook("work", "run", judged={case.key: word})
    (verdict,) = judged_verdicts([Verdict(case.finding, outcome, "as_before")], [case], notebook)
    assert (verdict.outcome, verdict.reason) == (after, reason)
    assert verdict.fields == ({"said": word.reason} if reason != "as_before" else {})


def test_no_judgement_touches_a_fact_or_what_is_hidden() -> None:
    verdicts = reported(finding("a", source="check"), finding("secret"), finding("b"))
    made = make_cases(verdicts, lambda path: path != "secret")
    notebook = Notebook("work", "run", judged={case.key: REFUTE for case in made[:2]})
    assert judged_verdicts(verdicts, made, notebook) == verdicts


# --- what is carried over where something else has changed


def test_a_confirmation_holds_as_long_as_its_file_does_a_refutation_only_for_all_the_same(
    store: Store,
) -> None:
    files = {"a": "a as it is", "b": "b as it is"}
    known = cases("a", "b")
    before = Notebook("before", "r1", store, files)
    before.judge(known[0], CONFIRM, 1)
    before.judge(known[1], REFUTE, 1)

    after = Notebook("something else changed", "r2", store, files)
    assert after.judged == {}
    assert after.carry(known) == 1
    assert after.judged == {known[0].key: CONFIRM}

    changed = Notebook("this file changed", "r3", store, {**files, "a": "a with another line"})
    assert (changed.carry(known), changed.judged) == (0, {})


@pytest.mark.parametrize(
    "payload", ['{"verdict": "refute", "reason": "x"}', "[]", "{", '{"verdict": "confirm"}']
)
def test_nothing_else_is_carried(payload: str, store: Store) -> None:
    (case,) = cases("a")
    store.judge("a as it is", f"judge:{case.key}", "r1", 1, payload)
    again = Notebook("w", "r2", store, {"a": "a as it is"})
    assert (again.carry([case]), again.judged) == (0, {})
