"""What becomes of findings: where they stand, what is reported, which say the same, and who is who."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from scripted import unit

from review_agent.agent.findings import (
    EVIDENCE_LINES,
    PER_FILE,
    Context,
    Gate,
    complete,
    decide,
    model_findings,
)
from review_agent.agent.models import (
    Analysis,
    Candidate,
    Category,
    Change,
    Finding,
    Hunk,
    Outcome,
    Placed,
    Severity,
    SourceFile,
    Symbol,
    Verdict,
)
from review_agent.tools.redact import mask

LINES = tuple(f"line_{number} = work({number})" for number in range(1, 101))
WHOLE = SourceFile("a.py", "python", LINES, "", Change.WHOLE)
HUNKS = (
    Hunk(10, 3, 10, 7, tuple(line.encode() for line in LINES[9:16]), frozenset({12, 13})),
    Hunk(50, 3, 54, 5, tuple(line.encode() for line in LINES[53:58]), frozenset({56})),
)
DIFF = replace(WHOLE, change=Change.MODIFIED, changed=frozenset({12, 13, 56}), hunks=HUNKS)


def made(
    title: str = "title",
    start: int = 12,
    end: int = 0,
    *,
    severity: Severity = Severity.MEDIUM,
    confidence: float = 0.9,
    category: Category = Category.BUG,
    message: str = "",
    source: str = "model",
    path: str = "a.py",
) -> Finding:
    return Finding(
        f"ai/{category}",
        category,
        severity,
        confidence,
        path,
        start,
        end or start,
        title,
        message,
        source=source,
    )


def judged(*findings: Finding, file: SourceFile = WHOLE, gate: Gate | None = None) -> list[Verdict]:
    context = Context(file, (), mask)
    found = [(complete(finding, context), "") for finding in findings]
    return decide(found, {file.path: file}, gate or Gate())


@pytest.mark.parametrize(
    ("lines", "source", "outcome", "shown"),
    [
        ((12, 13), "model", Outcome.REPORTED, (12, 13)),
        ((10, 10), "model", Outcome.REPORTED, (10, 10)),  # context of the hunk: a forge takes it
        ((16, 16), "model", Outcome.REPORTED, (16, 16)),
        ((5, 12), "model", Outcome.REPORTED, (10, 12)),
        ((13, 40), "model", Outcome.REPORTED, (13, 16)),
        ((14, 58), "model", Outcome.REPORTED, (54, 58)),  # the larger part wins
        ((1, 100), "model", Outcome.REPORTED, (10, 16)),
        ((9, 9), "model", Outcome.OUT_OF_DIFF, (9, 9)),
        ((17, 53), "model", Outcome.OUT_OF_DIFF, (17, 53)),
        ((10, 10), "agent", Outcome.REPORTED, (10, 10)),  # what a change breaks in another file
        ((9, 9), "agent", Outcome.OUT_OF_DIFF, (9, 9)),
        ((12, 12), "check", Outcome.REPORTED, (12, 12)),
        ((10, 10), "check", Outcome.OUT_OF_DIFF, (10, 10)),
        ((11, 12), "check", Outcome.REPORTED, (11, 12)),
    ],
)
def test_a_finding_stays_in_its_hunk(
    lines: tuple[int, int], source: str, outcome: Outcome, shown: tuple[int, int]
) -> None:
    (got,) = judged(made(start=lines[0], end=lines[1], source=source), file=DIFF)
    assert (got.outcome, got.finding.start_line, got.finding.end_line) == (outcome, *shown)


@pytest.mark.parametrize("file", [WHOLE, replace(DIFF, hunks=(), changed=frozenset(range(1, 101)))])
def test_in_a_whole_or_untracked_file_every_line_counts(file: SourceFile) -> None:
    assert judged(made(start=80, end=90), file=file)[0].outcome is Outcome.REPORTED


@pytest.mark.parametrize(
    ("finding", "gate", "outcome", "reason"),
    [
        (made(), Gate(), Outcome.REPORTED, ""),
        (made(start=0), Gate(), Outcome.UNANCHORED, "quote_not_shown"),
        (made(confidence=0.3), Gate(min_confidence=0.5), Outcome.LOW_CONFIDENCE, "below_min_confidence"),
        (made(confidence=0.5), Gate(min_confidence=0.5), Outcome.REPORTED, ""),
        (made(severity=Severity.LOW), Gate(Severity.MEDIUM), Outcome.SUPPRESSED, "below_min_severity"),
        (made(severity=Severity.MEDIUM), Gate(Severity.MEDIUM), Outcome.REPORTED, ""),
        (made(), Gate(demo=True), Outcome.LOW_CONFIDENCE, "demo_model"),
        (made(start=0), Gate(demo=True), Outcome.LOW_CONFIDENCE, "demo_model"),
        (made(source="check"), Gate(demo=True), Outcome.REPORTED, ""),
    ],
)
def test_gates(finding: Finding, gate: Gate, outcome: Outcome, reason: str) -> None:
    (got,) = judged(finding, gate=gate)
    assert (got.outcome, got.reason) == (outcome, reason)


def test_why_a_quote_was_not_placed_is_kept() -> None:
    candidate = Candidate("t", Category.BUG, Severity.LOW, 0.5, "q", path="a.py")
    analysis = Analysis(unit("a.py", "x"), (Placed(candidate, 0, 0, "quote_ambiguous"),))
    (verdict,) = decide(
        model_findings([analysis], {"a.py": Context(WHOLE, (), mask)}), {"a.py": WHOLE}, Gate()
    )
    assert (verdict.outcome, verdict.reason) == (Outcome.UNANCHORED, "quote_ambiguous")


# --- duplicates ---


def test_bait_on_a_faulty_line_does_not_swallow_the_fault() -> None:
    bait = replace(
        made("Text that tries to steer the model", source="check", category=Category.SECURITY),
        rule_id="injection/bait",
    )
    fault = made("SQL built from input", severity=Severity.LOW, category=Category.SECURITY)
    assert [verdict.outcome for verdict in judged(bait, fault)] == [Outcome.REPORTED, Outcome.REPORTED]
    secret = replace(bait, rule_id="secret/token")
    assert [verdict.outcome for verdict in judged(secret, fault)] == [Outcome.REPORTED, Outcome.DUPLICATE]


SAME = [
    ("SQL 语句由用户输入拼接，存在注入风险", "变量 `name` 来自请求，未经转义就进入查询语句。")
    + ("用户输入直接拼接进 SQL，可能被注入", "`name` 未经转义进入查询语句，攻击者可以改变查询。"),
    ("文件句柄未关闭", "`open` 之后发生异常时，文件不会被关闭。")
    + ("打开的文件没有关闭，会泄漏句柄", "发生异常时 `open` 得到的文件不会被关闭。"),
    (
        "SQL injection through string concatenation",
        "`name` comes from the request and enters the query unescaped.",
    )
    + (
        "Query is built by concatenating user input: SQL injection",
        "The request's `name` is put into the query without escaping.",
    ),
    ("Off-by-one in loop bound", "The last iteration reads past the end of `items`.")
    + ("Loop bound is off by one", "Reads past the end of `items` in its last iteration."),
]
DIFFERENT = [
    ("SQL 语句由用户输入拼接，存在注入风险", "变量 `name` 来自请求，未经转义就进入查询语句。")
    + ("数据库连接没有关闭", "查询抛出异常时，连接留在池外，最终耗尽。"),
    ("未检查空指针", "`user` 可能为空，下一行访问其字段时崩溃。")
    + ("循环边界多一，越界访问", "最后一次迭代读取数组末尾之后的元素。"),
    ("Missing null check on user", "`user` may be None when the session has expired; the access raises.")
    + ("Missing timeout on request", "The call blocks for ever when the remote server does not answer."),
    ("The runCommand method duplicates process handling", "It repeats the stream handling of `run` and should share it.")
    + ("Missing error listener", "If spawning `node` fails, the promise of `runCommand` never settles."),
    ("Command injection through shell=True", "The file name goes to a shell; a semicolon starts another command.")
    + ("Path traversal through file name", "A name with `..` leaves the upload folder and overwrites any file."),
]  # fmt: skip


@pytest.mark.parametrize("texts", SAME)
@pytest.mark.parametrize("shift", [0, 1])
def test_the_same_in_other_words_is_one(texts: tuple[str, str, str, str], shift: int) -> None:
    one = made(texts[0], 12, 14, message=texts[1], severity=Severity.LOW)
    two = made(texts[2], 12 + shift, 14, message=texts[3], severity=Severity.HIGH)
    got = judged(one, two)
    assert [(v.outcome, v.finding.severity) for v in got] == [
        (Outcome.REPORTED, Severity.HIGH),
        (Outcome.DUPLICATE, Severity.LOW),
    ]


@pytest.mark.parametrize("texts", DIFFERENT)
@pytest.mark.parametrize("other", [Category.BUG, Category.SECURITY])
def test_different_problems_of_one_line_stay_two(texts: tuple[str, str, str, str], other: Category) -> None:
    got = judged(made(texts[0], message=texts[1]), made(texts[2], message=texts[3], category=other))
    assert [v.outcome for v in got] == [Outcome.REPORTED] * 2


def test_the_same_words_far_apart_or_in_another_file_stay_two() -> None:
    assert [v.outcome for v in judged(made(start=12), made(start=40))] == [Outcome.REPORTED] * 2
    other = replace(WHOLE, path="b.py")
    found = [(made(), ""), (made(path="b.py"), "")]
    got = decide(found, {"a.py": WHOLE, "b.py": other}, Gate())
    assert [v.outcome for v in got] == [Outcome.REPORTED] * 2


def test_a_model_that_repeats_a_check_is_a_duplicate() -> None:
    secret = made("密钥", category=Category.SECURITY, source="check", severity=Severity.HIGH)
    said = made("Hard-coded credential", category=Category.SECURITY)
    assert [v.outcome for v in judged(said, secret)] == [Outcome.REPORTED, Outcome.DUPLICATE]
    assert [v.outcome for v in judged(replace(said, category=Category.STYLE), secret)] == [
        Outcome.REPORTED
    ] * 2


def test_what_is_not_reported_hides_nothing() -> None:
    sure, unsure = made(confidence=0.9, severity=Severity.LOW), made(confidence=0.1, severity=Severity.HIGH)
    got = judged(sure, unsure, gate=Gate(min_confidence=0.5))
    assert [v.outcome for v in got] == [Outcome.LOW_CONFIDENCE, Outcome.REPORTED]


def test_a_flood_is_capped_but_counted() -> None:
    many = SourceFile("a.py", "python", tuple(f"x{at}" for at in range(400)), "", Change.WHOLE)
    findings = [made(f"{'甲乙丙丁'[at % 4]}{at}", 1 + 4 * at) for at in range(PER_FILE + 15)]
    worst = made("worst of all", 399, severity=Severity.CRITICAL)
    got = judged(*findings, worst, file=many)
    assert len(got) == PER_FILE + 16
    assert got[0].finding.title == "worst of all"
    assert [v.outcome for v in got].count(Outcome.REPORTED) == PER_FILE
    assert {(v.outcome, v.reason) for v in got[PER_FILE:]} == {(Outcome.SUPPRESSED, "too_many_in_file")}


def test_order_of_arrival_changes_nothing() -> None:
    findings = [
        made("a", 12), made("b", 12, severity=Severity.HIGH), made("a", 12, confidence=0.2),
        made("c", 0), made("d", 90), made("d", 91, category=Category.STYLE),
    ]  # fmt: skip
    expected = judged(*findings, file=DIFF)
    orders = itertools.islice(itertools.permutations(findings), 0, None, 13)
    assert all(judged(*order, file=DIFF) == expected for order in orders)


# --- identity ---


def print_of(code: str, *, start: int = 12, symbol: str = "", path: str = "a.py", **more: str) -> str:
    lines = [*LINES[: start - 1], code, *LINES[start:]]
    symbols = [Symbol(symbol, "function", start - 1, start + 1)] if symbol else []
    file = SourceFile(path, "python", tuple(lines), "", Change.WHOLE)
    finding = replace(made(start=start, path=path), **more)  # type: ignore[arg-type]
    return complete(finding, Context(file, symbols, mask)).fingerprint


def test_a_finding_keeps_its_fingerprint() -> None:
    one = print_of("x = eval(text)", symbol="load")
    assert print_of("x = eval(text)", symbol="load", start=19) == one
    assert print_of("    x  =  eval( text )", symbol="load") == one
    assert print_of("x = eval(text)", symbol="load", title="other words", message="quite other") == one
    assert print_of("x = eval(text)", symbol="load", path="moved/b.py") == one
    assert print_of("y = eval(text)", symbol="load") != one
    assert print_of("x = eval(text)", symbol="save") != one
    assert print_of("x = eval(text)", symbol="load", rule_id="ai/style") != one
    assert print_of("x = eval(text)") != print_of("x = eval(text)", path="b.py")


def test_fingerprints_are_unique() -> None:
    same = replace(WHOLE, lines=("x = 1",) * 100)
    got = judged(
        *(made("t", line) for line in (10, 30, 50)), made("t", 10), made("t", 0), made("t", 0), file=same
    )
    prints = [v.finding.fingerprint for v in got]
    assert len(set(prints)) == len(got) == 6
    first = next(v.finding for v in got if v.finding.start_line == 10).fingerprint
    assert {f"{first}-2", f"{first}-3"} <= set(prints)


@pytest.mark.parametrize(
    "company",
    [
        [],
        [made("t", 10, confidence=0.1, severity=Severity.CRITICAL)],  # not reported: renames nothing
        [made("t", 30, severity=Severity.CRITICAL)],  # later in the file, however bad
    ],
)
def test_company_does_not_rename_a_finding(company: list[Finding]) -> None:
    same = replace(WHOLE, lines=("x = 1",) * 100)
    got = judged(made("t", 10), *company, file=same, gate=Gate(min_confidence=0.5))
    named = next(v.finding for v in got if v.finding.start_line == 10 and v.outcome is Outcome.REPORTED)
    assert "-" not in named.fingerprint


# --- evidence ---


@pytest.mark.parametrize(
    ("lines", "first", "count"),
    [((50, 50), 48, 5), ((1, 1), 1, 3), ((100, 100), 98, 3), ((40, 90), 38, EVIDENCE_LINES)],
)
def test_evidence_is_the_code_around(lines: tuple[int, int], first: int, count: int) -> None:
    (shown,) = complete(made(start=lines[0], end=lines[1]), Context(WHOLE, (), mask)).evidence
    assert (shown.start_line, shown.lines) == (first, LINES[first - 1 : first - 1 + count])


def test_evidence_of_a_diff_without_its_repository_shows_known_lines_only() -> None:
    partial = replace(WHOLE, known=frozenset({12, 13}))
    (shown,) = complete(made(start=12), Context(partial, (), mask)).evidence
    assert (shown.start_line, shown.lines) == (12, LINES[11:13])


KEY = (
    "-----BEGIN RSA PRIVATE KEY-----",
    *(f"MIIEpAIBAAKCAQEA{at:02d}7bq3Fj0x9Zk5Wv8TnYcRsLdGhEuPiOaQmXwKz" for at in range(25)),
)
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


def test_secrets_are_masked_even_where_only_a_part_is_shown() -> None:
    pem = replace(WHOLE, lines=(*KEY, "-----END RSA PRIVATE KEY-----"))
    (shown,) = complete(made(start=12), Context(pem, (), mask)).evidence
    assert not any("7bq3Fj0x9" in line for line in shown.lines)
    wide = replace(WHOLE, lines=("#" * 380 + " " + TOKEN,))
    (shown,) = complete(made(start=1), Context(wide, (), mask)).evidence
    assert "ghp_" not in shown.lines[0]


def test_secrets_in_the_models_words_are_masked() -> None:
    said = f"The token {TOKEN} is in the code."
    candidate = Candidate(
        "", Category.BUG, Severity.LOW, 0.5, TOKEN, "a.py", 1, 1, "x" * 50 + " " + said, said, said
    )
    analysis = Analysis(unit("a.py", "x"), (Placed(candidate, 1, 1),))
    ((finding, _),) = model_findings([analysis], {"a.py": Context(WHOLE, (), mask)})
    assert "ghp_" not in repr(finding)
    assert finding.title.startswith("xxx")
