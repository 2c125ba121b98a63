"""For tests of the core: units from text, a model server that follows a script, and a clock that nobody waits for."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from review_agent.agent.analyzer import Analyzer
from review_agent.agent.meter import Meter
from review_agent.agent.models import ReviewUnit, ShownLine, TrustClass
from review_agent.agent.plan import make_budget
from review_agent.agent.prompt import Asker
from review_agent.agent.tokens import estimate
from review_agent.agent.units import render
from review_agent.tools.backends import ChatRequest, Delta, Done, ModelInfo
from review_agent.tools.endpoints import Endpoint

T = TypeVar("T")
HERE = Endpoint("http://127.0.0.1:1", TrustClass.LOOPBACK)


class _Selector(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the clock to it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "every task waits, and nothing is left to happen"
            self.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which an hour of `sleep` takes no time. No sockets, no threads."""

    def __init__(self) -> None:
        self.clock = _Selector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def virtually(main: Coroutine[object, object, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def unit(path: str, text: str, index: int = 0, first: int = 1) -> ReviewUnit:
    rows = [ShownLine(number, line, "+") for number, line in enumerate(text.split("\n"), first)]
    numbers = tuple(row.number for row in rows)
    tokens = sum(estimate(render(row)) for row in rows)
    return ReviewUnit(path, index, "python", tuple(rows), numbers, "", tokens, f"{path}#{index}")


def long_unit(path: str, lines: int = 40) -> ReviewUnit:
    return unit(path, "\n".join(f"value_{number} = compute({number})" for number in range(1, lines + 1)))


def finding(quote: str, path: str = "", title: str = "", **more: object) -> dict[str, object]:
    return {
        "path": path,
        "title": title or f"problem with {quote}",
        "category": "bug",
        "severity": "high",
        "confidence": 0.9,
        "line_start": 0,
        "line_end": 0,
        "quote": quote,
        "explanation": f"explanation of {quote}",
        "suggestion": "",
        "replacement": "",
        **more,
    }


def answer(*findings: dict[str, object], summary: str = "s") -> str:
    return json.dumps({"summary": summary, "findings": list(findings)}, ensure_ascii=False)


CLEAN = answer()


@dataclass(frozen=True)
class Reply:
    """One answer of the script, sent in deltas of `step` characters, `pause` seconds apart."""

    text: str
    finish: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0  # before the first delta
    pause: float = 0.0
    step: int = 40
    error: Exception | None = None  # after the text, instead of an end


Script = Callable[[ChatRequest], "Reply | str | Exception"]


@dataclass
class Scripted:
    """A model server. `script` is asked for each request; a sequence is used up, its last item stays."""

    script: Script | Sequence[Reply | str | Exception]
    name: str = "scripted"
    endpoint: Endpoint = HERE
    requests: list[ChatRequest] = field(default_factory=list)
    open: int = 0

    def _next(self, request: ChatRequest) -> Reply:
        if callable(self.script):
            said = self.script(request)
        else:
            said = self.script[min(len(self.requests), len(self.script)) - 1]
        if isinstance(said, Exception):
            return Reply("", error=said)
        return Reply(said) if isinstance(said, str) else said

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Delta | Done, None]:
        self.requests.append(request)
        reply = self._next(request)
        self.open += 1
        try:
            await asyncio.sleep(reply.seconds)
            for at in range(0, len(reply.text), reply.step):
                yield Delta(reply.text[at : at + reply.step])
                await asyncio.sleep(reply.pause)
            if reply.error is not None:
                raise reply.error
            yield Done(reply.finish, reply.prompt_tokens, reply.completion_tokens)
        finally:
            self.open -= 1

    async def models(self) -> list[ModelInfo]:
        return []

    async def describe(self, model: str) -> ModelInfo:
        return ModelInfo(model)

    async def aclose(self) -> None:
        pass

    def prompts(self) -> Iterator[str]:
        return (request.messages[-1].content for request in self.requests)


def analyzer(backend: Scripted, *, max_tokens: int = 0, lang: str = "en", num_ctx: int = 8192) -> Analyzer:
    asker = Asker(lang)
    meter = Meter(max_tokens)
    return Analyzer(backend, "m", asker, make_budget(asker, num_ctx), meter, redact=lambda text: (text, 0))
