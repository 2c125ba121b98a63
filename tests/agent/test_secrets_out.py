"""No secret of the reviewed code leaves: not to a server that is not this machine, not in anything we print."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace

import pytest
from leaky import BARE, BEGIN, FILES, KEY, PASSWORD, SECRETS, TOKEN, found
from scripted import Scripted, answer, finding

from review_agent.agent.errors import EngineRejected
from review_agent.agent.models import (
    Change,
    EngineInfo,
    FileResult,
    FileStatus,
    Hunk,
    Note,
    Outcome,
    Removed,
    Report,
    SourceFile,
    TrustClass,
)
from review_agent.agent.planner import Plan, make_plan
from review_agent.agent.progress import Progress
from review_agent.agent.reports import FORMATS, render
from review_agent.agent.review import Review
from review_agent.agent.settings import Settings
from review_agent.agent.target import Selection, Target
from review_agent.prompts import LANGS, messages
from review_agent.tools.backends import ChatRequest
from review_agent.tools.endpoints import Endpoint
from review_agent.tools.redact import mask

SETTINGS = Settings(num_ctx=4096, lang="en")
LAN = Endpoint("http://10.0.0.9:1", TrustClass.LAN)


def source(path: str, text: str) -> SourceFile:
    return SourceFile(path, "python", tuple(text.rstrip("\n").split("\n")), "", Change.WHOLE)


LEAKY = [source(path, text) for path, text in FILES.items()]
PLAIN = source("plain.py", "a = 1\nb = 2\n")


def plan_of(*files: SourceFile, guidance: str = "") -> Plan:
    selection = Selection(files, ())
    return make_plan(selection, SETTINGS, model_key="k", model_context=0, store=None, guidance=guidance)


async def reviewed(backend: Scripted, plan: Plan) -> tuple[Report, str]:
    stream = io.StringIO()
    engine = EngineInfo("local", "scripted", "m", "digest")
    progress = Progress(stream, "en")
    review = Review("r", plan, engine, SETTINGS, Target("tree", "/r"), None, progress, asyncio.Event())
    return await review.run(backend), stream.getvalue()


def said(text: str) -> str:
    """An answer that repeats a text in every part, for a line that is there and for one that is not."""
    everywhere = {name: f"see {text} here" for name in ("title", "explanation", "suggestion", "replacement")}
    findings = [
        finding("a = 1", "plain.py", **everywhere),
        finding(text, "plain.py", **everywhere),
        finding("not there", "nowhere.py", **{**everywhere, "title": ""}),
    ]
    return answer(*findings, summary=text)


# --- to a server


async def test_a_server_elsewhere_is_sent_no_secret() -> None:
    backend = Scripted([answer()], endpoint=LAN)
    await reviewed(backend, plan_of(*LEAKY))
    sent = "\n".join(message.content for request in backend.requests for message in request.messages)
    assert "x79 = 79" in sent
    assert found(sent) == []
    assert sent.count("<secret:private-key>") >= len(KEY)


async def test_what_was_taken_out_is_masked_too() -> None:
    gone = Removed(1, (f'p = "{TOKEN}"'.encode(), BEGIN.encode(), *(line.encode() for line in KEY)))
    gone = replace(gone, lines=(f"  password: {BARE}".encode(), *gone.lines))
    hunk = Hunk(1, len(gone.lines) + 1, 1, 2, (b"a = 1", b"b = 2"), frozenset({1}), (gone,))
    file = replace(PLAIN, path="deploy.yaml", change=Change.MODIFIED, changed=frozenset({1}), hunks=(hunk,))
    backend = Scripted([answer()], endpoint=LAN)
    await reviewed(backend, plan_of(file))
    (request,) = backend.requests
    assert found(request.messages[-1].content) == []
    assert "<secret:github-token>" in request.messages[-1].content


async def test_guidance_is_masked_too() -> None:
    backend = Scripted([answer()], endpoint=LAN)
    await reviewed(backend, plan_of(PLAIN, guidance=f'Log in with password = "{PASSWORD}" or {TOKEN}.'))
    (request,) = backend.requests
    assert "Log in with" in request.messages[0].content
    assert found(request.messages[0].content) == []


async def test_the_name_of_a_file_is_masked_too() -> None:
    """In the prompt, and in the schema of the answer, which lists the names."""
    backend = Scripted([answer()], endpoint=LAN)
    await reviewed(backend, plan_of(replace(PLAIN, path=f"src/{TOKEN}.py"), replace(PLAIN, path="src/b.py")))
    (request,) = backend.requests
    assert "<secret:github-token>" in request.messages[-1].content
    assert TOKEN not in request.messages[-1].content + str(request.schema)


async def test_this_machine_is_sent_the_code_as_it_is() -> None:
    backend = Scripted([answer()])
    await reviewed(backend, plan_of(*LEAKY))
    sent = "\n".join(prompt for prompt in backend.prompts())
    assert found(sent) == SECRETS


# --- from a server to the user


@pytest.mark.parametrize("secret", [*SECRETS[:5], "\n".join([BEGIN, *KEY])], ids=lambda secret: secret[:6])
async def test_what_a_model_repeats_is_masked_in_every_format(secret: str) -> None:
    """The model names the value alone, in what it says of another file."""
    report, shown = await reviewed(Scripted([said(secret)]), plan_of(*LEAKY, PLAIN))
    outcomes = {verdict.outcome for verdict in report.verdicts}
    assert {Outcome.REPORTED, Outcome.UNANCHORED} <= outcomes
    for text in (shown, repr(report), *(render(report, fmt) for fmt in FORMATS)):
        assert "<secret:" in text
        assert found(text) == []


async def test_what_a_server_repeats_in_an_error_is_masked() -> None:
    def script(request: ChatRequest) -> Exception:
        return EngineRejected(
            "engine_status", url="http://x", status=400, detail=request.messages[-1].content
        )

    report, shown = await reviewed(Scripted(script), plan_of(*LEAKY))
    assert "status 400" in shown
    for text in (shown, *(render(report, fmt) for fmt in FORMATS)):
        assert found(text) == []


def test_fingerprints_are_of_masked_code() -> None:
    """Else a short password could be found by trying: everything around it is in the report."""
    plans = [plan_of(source("s.py", f'password = "{value}"\n')) for value in (PASSWORD, "J3nfu82" + "Kd!pq")]
    prints = []
    for plan in plans:
        report, _ = asyncio.run(reviewed(Scripted([answer()]), plan))
        (verdict,) = report.verdicts
        prints.append(verdict.finding.fingerprint)
    assert prints[0] == prints[1]


# --- whatever else is in a report, or said on the way

EVERYWHERE = f"x {TOKEN} y"


def test_every_part_of_a_report_passes_the_mask(make_report) -> None:
    report: Report = make_report(EVERYWHERE)
    for fmt in FORMATS:
        text = render(report, fmt)
        assert TOKEN not in text, fmt
        assert "<secret:github-token>" in text


@pytest.fixture
def make_report():
    """A report with a text in every field that holds any."""
    file = FileResult("p", FileStatus.FAILED, "engine_fault")
    start, _ = asyncio.run(reviewed(Scripted([answer(finding("a = 1", "plain.py"))]), plan_of(PLAIN)))

    def make(text: str) -> Report:
        (verdict,) = start.verdicts
        evidence = (replace(verdict.finding.evidence[0], lines=(text, text)),)
        names = ("rule_id", "path", "title", "message", "suggestion", "replacement", "symbol")
        finding = replace(verdict.finding, evidence=evidence, **dict.fromkeys(names, text))
        note = Note("encoding_guessed", {"encoding": text})
        return replace(
            start,
            run_id=text,
            target=text,
            summary=text,
            engine=replace(start.engine, backend=text, model=text),
            verdicts=(replace(verdict, finding=finding), replace(verdict, finding=finding, reason=text)),
            files=(replace(file, path=text, reason=text, notes=(note,)), replace(file, fields={"x": text})),
            notes=(note, Note(text)),
        )

    return make


def test_progress_passes_the_mask() -> None:
    stream = io.StringIO()
    Progress(stream, "en").text(f"the server says {TOKEN}")
    assert stream.getvalue() == "the server says <secret:github-token>\n"


@pytest.mark.parametrize("lang", LANGS)
def test_no_sentence_of_ours_is_taken_for_a_secret(lang: str) -> None:
    tables = messages(lang)
    changed = {
        (table, key): text
        for table, rows in tables.items()
        for key, text in rows.items()
        if mask(text) != text
    }
    assert changed == {}
