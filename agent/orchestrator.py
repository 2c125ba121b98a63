"""The agent's part of a run: one session with a model that looks across files, judges candidates and sums up.

The pipeline has seen every file before it begins. However the session ends, what was said until then is kept
and the report is made of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

from review_agent.agent.audit import Call, arguments_digest
from review_agent.agent.errors import EngineFault
from review_agent.agent.failures import failure_key
from review_agent.agent.models import CloudUsage
from review_agent.agent.outbox import Letter
from review_agent.agent.prompt import fence
from review_agent.agent.room import Room, opening
from review_agent.agent.spans import span
from review_agent.agent.toolbox import Toolbox
from review_agent.agent.wording import sentence
from review_agent.prompts import load, say
from review_agent.tools.claude import Limits, Session, Side
from review_agent.tools.claude_events import Called, Ended, Pushed, Result, Retrying, Tokens, Turn
from review_agent.tools.server import TOOLS, full_name, short_name

DEFAULT_SECONDS = 3600.0  # the whole session, where the user set no limit
MOST_EQUAL_CALLS = 8


Decision = Literal["allowed", "denied", "unknown"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """`deadline` is a time of `time.monotonic()`. Tokens: 0 = no limit.

    With `room`, an answer is held to its size, and the session ends before the conversation outgrows it.
    """

    turns: int
    tokens: int = 0
    deadline: float = 0.0
    idle: int = 120
    interval: int = 10
    room: Room | None = None  # None = the endpoint's own affair


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the session ended. `why` is a key of `[reasons]`, '' = it came to its end.

    `tools_used` is False where the model called none of ours.
    """

    why: str
    detail: str = ""
    usage: CloudUsage = field(default_factory=CloudUsage)
    tools_used: bool = False


def prompt_version(lang: str, addition: str) -> str:
    """Digest of what the agent is told: part of the name of its work."""
    words = [load(f"agent.{lang}.md"), addition, *(say(lang, "agent_tools", name) for name in TOOLS)]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def system_prompt(lang: str, addition: str) -> str:
    text = load(f"agent.{lang}.md").strip()
    return f"{text}\n\n{addition.strip()}" if addition.strip() else text


@dataclass(frozen=True, slots=True)
class Briefing:
    """What a team wants reviews to heed: its rules, and the repository's guidance (of the file `path`)."""

    rules: str = ""
    guidance: str = ""
    path: str = ""


@dataclass
class Agent:
    """One session over a toolbox. `on_call` keeps an audit row; `say_line` shows progress."""

    side: Side
    toolbox: Toolbox
    bounds: Bounds
    lang: str
    environ: Mapping[str, str]
    stop: asyncio.Event
    addition: str = ""
    briefing: Briefing = field(default_factory=Briefing)
    on_call: Callable[[Call], None] = lambda _: None
    progress: Callable[[str, dict[str, object]], None] = lambda _key, _fields: None
    _tokens: Tokens = field(default_factory=Tokens)
    _turn: int = 0
    _requests: int = 0
    _saved: int = 0
    _error: str = ""
    _tools_used: bool = False
    _same: dict[str, int] = field(default_factory=dict)  # equal calls
    _open: dict[str, _Under] = field(default_factory=dict)  # calls that have not ended, by id
    _guarded: dict[str, str] = field(default_factory=dict)  # what the guard said, by id

    def fits(self) -> bool:
        """Whether the context has room for the task and a first step of work. To be asked before `run`."""
        room = self.bounds.room
        if room is None:
            return True
        room.used = opening(self._system, sorted(self.toolbox.offered), self.lang)
        room.add(self._prompt())
        return not room.cramped

    @property
    def _system(self) -> str:
        return system_prompt(self.lang, self.addition)

    async def run(self) -> Outcome:
        """Never raises for what the model, the program or the endpoint does."""
        try:
            why, detail = await self._bounded()
        finally:
            self._interrupted()
        self.toolbox.notebook.snapshot(self._turn, self.toolbox.open_cases)
        return Outcome(why, detail, self._usage(), self._tools_used)

    async def _bounded(self) -> tuple[str, str]:
        left = (
            DEFAULT_SECONDS if not self.bounds.deadline else max(0.0, self.bounds.deadline - time.monotonic())
        )
        talking = asyncio.ensure_future(self._talk())
        stopping = asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait({talking, stopping}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if talking.done():
                return talking.result()
            return ("interrupted", "") if stopping.done() else ("limit_max_seconds", "")
        finally:
            talking.cancel()
            stopping.cancel()
            await asyncio.gather(talking, stopping, return_exceptions=True)

    async def _talk(self) -> tuple[str, str]:
        told = self.briefing
        letter = Letter(self.toolbox.outbox)
        prompt = letter.clean(self._prompt())
        if told.guidance:
            letter.cover(told.path, span(1, told.guidance.count("\n") + 1), told.guidance)
        prompt = letter.send(prompt)
        room = self.bounds.room
        limits = Limits(self.bounds.turns, self.bounds.idle, room.answer if room is not None else 0)
        try:
            session = Session(
                self.side,
                self.toolbox,
                sorted(self.toolbox.offered),
                self.guard,
                system_prompt=self._system,
                lang=self.lang,
                limits=limits,
                environ=self.environ,
                on_guarded=self._note_guarded,
            )
            async with session, aclosing(session.run(prompt)) as events:
                async for event in events:
                    if isinstance(event, Result):
                        return self._ended(event)
                    if why := self._take(event):
                        return why, ""
        except EngineFault as exc:
            said = exc.fields.get("detail", "") if exc.key.startswith("agent.program") else ""
            return "agent_died", str(said or sentence(exc, self.lang))
        return "agent_died", ""

    def _prompt(self) -> str:
        cases = self.toolbox.cases
        before = self.toolbox.notebook
        numbers = {
            "units": self.toolbox.visible_units,
            "candidates": len(cases),
            "open": len(self.toolbox.open_cases),
            "judged": len(before.judged),
            "found": len(before.found),
            "turns": self.bounds.turns,
        }
        key = "prompt_again" if before.judged or before.found else "prompt"
        text = say(self.lang, "agent", key, **numbers)
        background = "\n".join(filter(None, [self.briefing.rules, self.briefing.guidance]))
        if not background:
            return text
        mark = fence(background)
        return f"{text}\n\n{say(self.lang, 'agent', 'background')}\n{mark}\n{background}\n{mark}"

    # --- events ---

    def _take(self, event: Turn | Ended | Retrying | Pushed) -> str:
        """Why the session must end now, '' = it goes on."""
        if isinstance(event, Retrying):
            self.progress("agent_retry", {"status": event.status or "-", "seconds": round(event.seconds, 1)})
            return ""
        if isinstance(event, Pushed):  # a model of its own machine that has called nothing yet never will
            idle = self.bounds.room is not None and not self._tools_used
            return ("agent_api_max_tokens" if event.cut else "agent_empty") if idle else ""
        if isinstance(event, Ended):
            self._finish(event)
            return self._outgrown(event.text)
        if event.error:
            self._error = event.error
        if event.number > self._turn:
            self._turn = self.toolbox.outbox.turn = event.number
            self._requests += 1
            self._tokens = _sum(self._tokens, event.tokens)
            self._save_state()
            if not event.error:
                self.progress("agent_turn", {"turn": event.number, "open": len(self.toolbox.open_cases)})
        for call in event.calls:
            self._open[call.id] = _Under(call, event.number, time.monotonic())
            if self._circling(call):
                return "agent_looping"
        if self._turn > self.bounds.turns:
            return "limit_max_turns"
        if self.bounds.tokens and self._tokens.total > self.bounds.tokens:
            return "limit_max_tokens"
        said = [event.text, *(json.dumps(call.arguments, ensure_ascii=False) for call in event.calls)]
        return self._outgrown("\n".join(said))

    def _outgrown(self, text: str) -> str:
        """Count `text` in; why the session must end, '' = there is room for one more answer."""
        room = self.bounds.room
        if room is None:
            return ""
        room.add(text)
        return "agent_context_full" if room.full and not self.toolbox.done else ""

    def _circling(self, call: Called) -> bool:
        """Whether the model has made the same call too often: it would for ever, and each turn costs."""
        digest = f"{call.name}\0{arguments_digest(call.arguments)}"
        self._same[digest] = self._same.get(digest, 0) + 1
        return self._same[digest] > MOST_EQUAL_CALLS

    def _save_state(self) -> None:
        if self._turn - self._saved >= self.bounds.interval:
            self._saved = self._turn
            self.toolbox.notebook.snapshot(self._turn, self.toolbox.open_cases)

    def _ended(self, result: Result) -> tuple[str, str]:
        if result.tokens.total:  # a message tells its prompt, and only the beginning of its answer
            self._tokens = result.tokens
        if result.why == "max_turns":
            return "limit_max_turns", ""
        if result.why == "api":
            return failure_key(result.status, self._error, result.detail), result.detail
        if result.why:
            return "agent_died", result.detail
        if self.toolbox.done or (not result.why and "submit_summary" not in self.toolbox.offered):
            return "", ""
        return ("agent_empty" if not result.text.strip() else "agent_unfinished"), ""

    # --- the guard and the audit ---

    def guard(self, name: str, arguments: dict[str, object]) -> str:
        """Why a call must not be, '' = it may: asked before each call, by the hook of the session."""
        tool = short_name(name)
        if tool not in TOOLS or full_name(tool) != name:
            return say(self.lang, "agent", "tool_unknown", tool=name[:60])
        return self.toolbox.refusal(tool, dict(arguments))

    def _note_guarded(self, call: Called, why: str) -> None:
        self._guarded[call.id] = why
        if not why:
            self._tools_used = True

    def _finish(self, event: Ended) -> None:
        under = self._open.pop(event.id, None)
        if under is None:
            return
        seconds = round(time.monotonic() - under.since, 2)
        if event.id not in self._guarded:  # no hook saw it: the program knows no such tool
            self.on_call(_row(under, "unknown", event.text[:200], True, seconds, len(event.text.encode())))
            return
        why = self._guarded.pop(event.id)
        decision: Decision = "denied" if why else "allowed"
        reason = why or (event.text[:200] if event.error else "")
        self.on_call(_row(under, decision, reason, event.error, seconds, len(event.text.encode())))

    def _interrupted(self) -> None:
        """Calls that never came to an end are in the audit, too."""
        for key, under in self._open.items():
            why = self._guarded.get(key, "")
            decision: Decision = "unknown" if key not in self._guarded else "denied" if why else "allowed"
            seconds = round(time.monotonic() - under.since, 2)
            reason = why or say(self.lang, "agent", "call_interrupted")
            self.on_call(_row(under, decision, reason, True, seconds, 0))
        self._open.clear()

    def _usage(self) -> CloudUsage:
        used = self._tokens
        return CloudUsage(
            requests=self._requests,
            prompt_tokens=used.prompt,
            cache_read_tokens=used.cache_read,
            cache_write_tokens=used.cache_write,
            completion_tokens=used.completion,
            turns=self._turn,
        )


@dataclass(frozen=True, slots=True)
class _Under:
    """A call under way."""

    call: Called
    turn: int
    since: float


def _row(under: _Under, decision: Decision, reason: str, error: bool, seconds: float, size: int) -> Call:
    return Call(
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        turn=under.turn,
        tool_use_id=under.call.id,
        tool=under.call.name,
        arguments_sha256=arguments_digest(under.call.arguments),
        decision=decision,
        reason=reason,
        error=error,
        seconds=seconds,
        bytes_out=size,
    )


def _sum(one: Tokens, other: Tokens) -> Tokens:
    return Tokens(
        one.prompt + other.prompt,
        one.cache_read + other.cache_read,
        one.cache_write + other.cache_write,
        one.completion + other.completion,
    )
