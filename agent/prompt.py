"""The question put to a model: system prompt, fenced pieces of code, answer schema."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from review_agent.agent.display import inline, path_text
from review_agent.agent.globs import spec
from review_agent.agent.models import Category, ReviewUnit, Severity
from review_agent.agent.tokens import estimate
from review_agent.agent.units import render
from review_agent.prompts import digest, load, messages, say

SCHEMA_VERSION = 1
FINDINGS_PER_UNIT = 5
FINDINGS_PER_REQUEST = 12
_PATH = 1000


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that an answer may hold: findings a request, and characters of each text."""

    findings: int
    summary: int
    title: int
    quote: int
    explanation: int
    suggestion: int
    replacement: int


FULL = Bounds(FINDINGS_PER_REQUEST, 300, 120, 400, 600, 400, 600)
BRIEF = Bounds(1, 40, 30, 60, 60, 40, 0)


@dataclass(frozen=True, slots=True)
class Asker:
    """Builds prompts of one run: the language, and guidance that stands in each request.

    `brief` asks for one short finding a request, in few words: the demo model understands none of them, and
    each costs time. `fixed` has one schema for all requests: a server that keeps the beginning of a prompt
    for the next one counts it to that. `guidance_path` names the guidance's file, for the ledger.
    """

    lang: str
    guidance: str = ""
    rules: tuple[tuple[tuple[str, ...], str], ...] = ()  # (path globs, text); no globs = every path
    brief: bool = False
    fixed: bool = False
    guidance_path: str = ""

    @property
    def version(self) -> str:
        """Digest of everything but the code that shapes an answer: part of the cache key."""
        words = "\0".join(f"{key}={text}" for key, text in sorted(messages(self.lang)["prompt"].items()))
        kind = f"{SCHEMA_VERSION}brief" if self.brief else str(SCHEMA_VERSION)
        parts = (self.lang, digest(self._template), words, self.guidance, kind)
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def rules_for(self, path: str) -> str:
        """The user's rules for one path, a line each."""
        return "\n".join(text for globs, text in self.rules if not globs or spec(globs).match_file(path))

    @property
    def _template(self) -> str:
        return f"{'demo' if self.brief else 'review'}.{self.lang}.md"

    def system(self) -> str:
        text = load(self._template).strip()
        if self.guidance and not self.brief:
            mark = fence(self.guidance)
            text += f"\n\n{say(self.lang, 'prompt', 'guidance')}\n{mark}\n{self.guidance}\n{mark}"
        return text

    def user(self, units: Sequence[ReviewUnit], error: str = "") -> str:
        bodies = [self._piece(unit) for unit in units]
        mark = fence("\n".join(bodies))
        lines = [say(self.lang, "prompt", "intro", fence=mark)]
        for body in bodies:
            lines += [mark, body]
        lines += [mark, say(self.lang, "prompt", "outro")]
        if error:
            lines.append(say(self.lang, "prompt", "retry", error=error))
        return "\n".join(lines)

    def _title(self, unit: ReviewUnit) -> str:
        symbol = say(self.lang, "prompt", "symbol", symbol=_symbol(unit)) if unit.symbol else ""
        title = say(
            self.lang, "prompt", "piece", path=alias(unit.path), language=unit.language, symbol=symbol
        )
        rules = self.rules_for(unit.path)
        return f"{title}\n{say(self.lang, 'prompt', 'rules')}\n{rules}" if rules else title

    def _piece(self, unit: ReviewUnit) -> str:
        code = "\n".join(render(line) for line in unit.shown)
        return self._title(unit) + "\n" + code.encode("utf-8", "replace").decode()

    def schema(self, units: Sequence[ReviewUnit]) -> dict[str, object]:
        return answer_schema(() if self.fixed else units, BRIEF if self.brief else FULL)

    def overhead(self) -> int:
        """Tokens of a request around its pieces, a retry sentence included."""
        return estimate(self.system()) + estimate(self.user((), error="x" * 80)) + 16

    def piece_cost(self, unit: ReviewUnit) -> int:
        """Tokens that one unit adds to a request."""
        return unit.tokens + estimate(self._title(unit)) + 24


def alias(path: str) -> str:
    """A path as the model sees it: one line, no control characters; different paths stay different."""
    return path_text(path)


def _symbol(unit: ReviewUnit) -> str:
    return inline(unit.symbol)[:200]


def fence(text: str) -> str:
    """A mark around `text`. Text cannot hold a digest of itself, so nothing in it can close the fence."""
    return "<<" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12] + ">>"


def answer_schema(units: Sequence[ReviewUnit], bounds: Bounds = FULL) -> dict[str, object]:
    """JSON schema of the answer for one request, without units for any; every string and list is bounded."""
    paths = list(dict.fromkeys(alias(unit.path) for unit in units))

    def text(limit: int) -> dict[str, object]:
        return {"type": "string", "maxLength": limit}

    line = {"type": "integer", "minimum": 0, "maximum": 10_000_000}
    properties: dict[str, object] = {
        "path": {"type": "string", "enum": paths} if paths else text(_PATH),
        "title": text(bounds.title),
        "category": {"type": "string", "enum": [item.value for item in Category]},
        "severity": {"type": "string", "enum": [item.value for item in Severity]},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "line_start": line,
        "line_end": line,
        "quote": text(bounds.quote),
        "explanation": text(bounds.explanation),
        "suggestion": text(bounds.suggestion),
        "replacement": text(bounds.replacement),
    }
    finding = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    most = min(FINDINGS_PER_UNIT * len(units), bounds.findings) if units else bounds.findings
    return {
        "type": "object",
        "properties": {
            "summary": text(bounds.summary),
            "findings": {"type": "array", "maxItems": most, "items": finding},
        },
        "required": ["summary", "findings"],
        "additionalProperties": False,
    }
