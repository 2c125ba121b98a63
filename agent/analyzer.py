"""One request to the model and what comes of it: retries, cut answers, anchors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import stamina

from review_agent.agent.anchor import place
from review_agent.agent.answer import parse
from review_agent.agent.errors import (
    AnswerUnreadable,
    EngineBusy,
    EngineError,
    EngineFault,
    ModelUnavailable,
    OtherForm,
    PromptTooLong,
    Stopped,
)
from review_agent.agent.meter import Meter
from review_agent.agent.models import Analysis, Answer, Candidate, Placed, ReviewUnit, TrustClass
from review_agent.agent.plan import Budget
from review_agent.agent.prompt import Asker, alias
from review_agent.agent.tokens import estimate
from review_agent.agent.units import halves
from review_agent.prompts import say
from review_agent.tools.backends import Backend, ChatRequest, Done, Message

Home = tuple[ReviewUnit, Placed]  # a finding and the unit it belongs to
GIVE_UP_FAULTS = 3
GIVE_UP_UNREADABLE = 6
_MAX_SPLITS = 2
# The schema asks for fewer. What a server that ignores it wrote beyond that was found all the same.
FINDINGS_PER_ANSWER = 40


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as it left, for the ledger: path, bytes and lines of each piece; lines as in "3-9,12"."""

    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    redactions: int
    lines: tuple[str, ...]


@dataclass
class Health:
    """Failures in a row: a dead server or a model that cannot answer must not be asked for hours."""

    faults: int = 0
    unreadable: int = 0
    good: bool = False

    def answered(self) -> None:
        self.faults = self.unreadable = 0
        self.good = True

    def failed(self) -> None:
        self.faults += 1
        if self.faults >= GIVE_UP_FAULTS:
            raise Stopped("engine_gave_up")

    def garbled(self) -> None:
        self.faults = 0  # the server is well, its model is not
        self.unreadable += 1
        if not self.good and self.unreadable >= GIVE_UP_UNREADABLE:
            raise Stopped("engine_cannot_answer")


@dataclass
class Analyzer:
    """Asks one model about units. Safe to use from several tasks of one event loop.

    What a server on another machine is sent is masked, and what the cloud is sent, wherever it listens: one
    on this machine may hand it on.
    """

    backend: Backend
    model: str
    asker: Asker
    budget: Budget
    meter: Meter
    redact: Callable[[str], tuple[str, int]]  # masked text, number of secrets masked
    on_sent: Callable[[Sent], None] = lambda _: None
    on_fault: Callable[[EngineError], None] = lambda _: None
    on_unit: Callable[[Analysis], None] = lambda _: None  # what is known of a unit while its request goes on
    names: Callable[[ReviewUnit], Sequence[str]] = lambda unit: (unit.path,)  # for `Placed.beside`
    health: Health = field(default_factory=Health)
    cloud: bool = False

    @property
    def leaves(self) -> bool:
        """Whether what is sent may leave this machine."""
        return self.cloud or self.backend.endpoint.trust is not TrustClass.LOOPBACK

    async def analyze(
        self, units: Sequence[ReviewUnit], splits: int = 0, kept: Sequence[Home] = ()
    ) -> list[Analysis]:
        """One analysis per unit, in their order. Raises Stopped when the run cannot go on.

        `kept` is what earlier, cut answers said of these units.
        """
        try:
            answer = await self._answer(units)
        except PromptTooLong as exc:
            got = await self._smaller(units, kept, splits, "prompt_too_long")
            if splits == 0 and any(analysis.failure == "prompt_too_long" for analysis in got):
                self.on_fault(exc)  # the sizes; a file carries only the kind of failure
            return got
        except AnswerUnreadable as exc:
            self.health.garbled()
            return [Analysis(unit, failure=exc.key) for unit in units]
        except EngineError as exc:
            self.on_fault(exc)
            self.health.failed()
            return [Analysis(unit, failure=_reason(exc)) for unit in units]
        if answer.complete or answer.candidates:
            self.health.answered()
        else:
            self.health.garbled()
        placed = [self._place(candidate, units) for candidate in answer.candidates]
        if not answer.complete:
            return await self._smaller(units, [*kept, *placed], splits, "truncated")
        return [
            Analysis(unit, _of(unit, placed), answer.summary if unit is units[0] else "") for unit in units
        ]

    async def _smaller(
        self,
        units: Sequence[ReviewUnit],
        placed: Sequence[Home],
        splits: int,
        failure: str,
    ) -> list[Analysis]:
        """Ask again in smaller pieces. What the cut answer did say is kept either way."""
        if splits == 0:
            for unit in units:  # until there is something better; the run may end before
                self.on_unit(Analysis(unit, _of(unit, placed), failure=failure))
        if len(units) > 1:
            whole: list[Analysis] = []
            for unit in units:
                own = [home for home in placed if home[0] is unit]
                whole.append(_joined(unit, await self.analyze([unit], splits, own), _of(unit, placed)))
                self.on_unit(whole[-1])
            return whole
        unit = units[0]
        pieces = halves(unit) if splits < _MAX_SPLITS else (unit,)
        if len(pieces) < 2:
            return [Analysis(unit, _of(unit, placed), failure=failure)]
        got: list[Analysis] = []
        for piece in pieces:
            got += await self.analyze([piece], splits + 1)
            if splits == 0:
                so_far = _joined(unit, got, _of(unit, placed))
                self.on_unit(replace(so_far, failure=failure))
        return [_joined(unit, got, _of(unit, placed))]

    async def _answer(self, units: Sequence[ReviewUnit]) -> Answer:
        """A readable answer; an unreadable one is asked for once more, with its error named."""
        try:
            return await self._ask(units)
        except AnswerUnreadable as exc:
            return await self._ask(units, say(self.asker.lang, "reasons", exc.key))

    async def _ask(self, units: Sequence[ReviewUnit], error: str = "") -> Answer:
        request, sent = self._request(units, error)
        tries = _Tries()
        text, done = "", Done("stop")
        # No time limit here: it would count the minutes that a slow server worked before it failed.
        async for attempt in stamina.retry_context(
            on=tries.again, attempts=4, timeout=None, wait_initial=0.3, wait_max=8, wait_jitter=0.2
        ):
            with attempt:
                text, done = await self._stream(request, sent)
        cut = done.finish == "length"
        try:
            answer = parse(text, cut=cut, max_findings=FINDINGS_PER_ANSWER)
        except AnswerUnreadable as exc:
            if cut and exc.key == "answer_cut":  # the same would be cut again, a smaller piece may not
                return Answer((), complete=False)
            raise
        if answer.dropped and not answer.candidates:
            raise AnswerUnreadable("answer_dropped")
        return answer

    def _request(self, units: Sequence[ReviewUnit], error: str) -> tuple[ChatRequest, Sent]:
        system, user = self.asker.system(), self.asker.user(units, error)
        redactions, named = 0, units
        if self.leaves:
            user, redactions = self.redact(user)
            system, more = self.redact(system)
            redactions += more
            if any(self.redact(alias(unit.path))[1] for unit in units):
                named = ()  # the schema would list the names as they are
        request = ChatRequest(
            model=self.model,
            messages=(Message("system", system), Message("user", user)),
            schema=self.asker.schema(named),
            num_ctx=self.budget.context,
            max_answer=self.budget.answer,
            prompt_estimate=estimate(system) + estimate(user),
        )
        return request, self._sent(units, redactions)

    def _sent(self, units: Sequence[ReviewUnit], redactions: int) -> Sent:
        """The pieces of a request, and the guidance that goes along: it is the repository's, too."""
        paths = [unit.path for unit in units]
        sizes = [sum(_octets(line.text) for line in unit.shown) for unit in units]
        lines = [ranges(line.number for line in unit.shown if line.number) for unit in units]
        if self.asker.guidance and self.asker.guidance_path and not self.asker.brief:
            guidance = self.asker.guidance
            paths.append(self.asker.guidance_path)
            sizes.append(_octets(guidance))
            lines.append(ranges(range(1, guidance.count("\n") + 2)))
        return Sent(tuple(paths), tuple(sizes), redactions, tuple(lines))

    async def _stream(self, request: ChatRequest, sent: Sent) -> tuple[str, Done]:
        """The whole text of one answer, held to the token limit and to a bound on its length."""
        meter = self.meter
        meter.check(request.prompt_estimate)
        meter.requests += 1
        self.on_sent(sent)
        reserved = request.prompt_estimate
        meter.pending += reserved
        parts: list[str] = []
        size, octets, written = 0, 0, 0
        done: Done | None = None
        stream = self.backend.chat(request)
        try:
            async for event in stream:
                if isinstance(event, Done):
                    done = event
                    break
                parts.append(event.text)
                size += len(event.text)
                octets += _octets(event.text)
                grown = octets // 4  # by bytes: a Chinese character is nearly a token of its own
                meter.pending += grown - written
                reserved, written = reserved + grown - written, grown
                meter.check()
                if size > request.max_answer * 16:  # the server ignores its own bound
                    done = Done("length")
                    break
        finally:
            meter.pending -= reserved
            asked = request.prompt_estimate if size or done else 0
            meter.count(done or Done("stop"), asked=asked, written=written)
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()  # ends the request: the server must not go on writing for nobody
        if done is None:
            raise EngineFault("engine_cut_stream", url=self.backend.endpoint.url)
        return "".join(parts), done

    def _place(self, candidate: Candidate, units: Sequence[ReviewUnit]) -> Home:
        """The unit a candidate belongs to, with real lines; unanchored ones stay with the unit they name."""
        meant = {unit.path for unit in units if candidate.path == alias(unit.path)}
        if meant:  # two names may look the same; then the quote decides
            candidate = replace(candidate, path=meant.pop() if len(meant) == 1 else "")
        anchor = place(candidate, units)
        if anchor is not None:
            home, start, end, reason = anchor.unit, anchor.start, anchor.end, ""
        else:
            home, start, end = next((unit for unit in units if unit.path == candidate.path), units[0]), 0, 0
            reason = "quote_ambiguous" if candidate.quote and not candidate.path else "quote_not_shown"
        beside = {name for unit in units if unit is not home for name in self.names(unit)}
        return home, Placed(replace(candidate, path=home.path), start, end, reason, tuple(sorted(beside)))


class _Tries:
    """What is worth another try: a busy or absent server a few times, a fault once, silence never.

    A question in another form at once, and as often as there are forms.
    """

    def __init__(self) -> None:
        self._faults = 0

    def again(self, exc: Exception) -> bool | float:
        if isinstance(exc, EngineBusy):
            return min(exc.retry_after, 30.0) if exc.retry_after is not None else True
        if isinstance(exc, OtherForm):
            return 0.0
        if isinstance(exc, ModelUnavailable):
            return True
        if isinstance(exc, EngineFault) and exc.key != "engine_stalled":
            self._faults += 1
            return self._faults < 2
        return False


def _reason(exc: EngineError) -> str:
    """The file's failure reason: one of a few words, whatever the server said."""
    if isinstance(exc, EngineBusy):
        return "engine_busy"
    if isinstance(exc, ModelUnavailable):
        return "engine_unavailable"
    if exc.key == "engine_stalled":
        return "engine_stalled"
    return "engine_fault" if isinstance(exc, EngineFault) else "engine_rejected"


def ranges(numbers: Iterable[int]) -> str:
    """Line numbers as in "3-9,12"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _octets(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _of(unit: ReviewUnit, placed: Sequence[Home]) -> tuple[Placed, ...]:
    return tuple(found for home, found in placed if home is unit)


def _joined(unit: ReviewUnit, parts: Sequence[Analysis], kept: tuple[Placed, ...]) -> Analysis:
    """The analyses of a unit's pieces as one of the unit; it failed when any piece did."""
    placed = [*kept, *(found for part in parts for found in part.placed)]
    # An equal finding may be cut in one answer and whole in another: the one that says more stays.
    placed.sort(key=lambda found: len(found.candidate.explanation))
    unique = {(p.candidate.title, p.start, p.end) if p.start else p: p for p in placed}
    failure = next((part.failure for part in parts if part.failure), "")
    return Analysis(unit, tuple(unique.values()), parts[0].summary if parts else "", failure)
