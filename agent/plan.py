"""The plan of a run: order of files by risk, units, and requests packed to the token budget."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from review_agent.agent.models import ReviewUnit, SourceFile
from review_agent.agent.prompt import Asker
from review_agent.agent.units import SYMBOL_TOKENS, Shape

BUCKETS = (8192, 16384, 32768)
UNITS_PER_REQUEST = 8
BRIEF_ANSWER = 640  # `prompt.BRIEF` in the worst of tokenizers, three tokens a character
LEAST_PIECES, LEAST_CODE = 400, 200
ENTRY_PATH = re.compile(
    r"(^|/)(main|app|server|index|manage|wsgi|asgi|cli|__main__|program|startup|handler|routes?|views?|api|"
    r"controllers?|urls)(\.|/|_|$)",
    re.I,
)
SECURITY_PATH = re.compile(
    r"auth|login|session|token|passw|crypt|secur|permission|acl|oauth|jwt|sign|admin|payment|upload|download|"
    r"sql|query|db|exec|shell|deserial|pickle|secret",
    re.I,
)
RISKY_CODE = re.compile(
    r"\beval\(|\bexec\(|os\.system|subprocess|child_process|innerHTML|dangerouslySetInnerHTML|pickle\.|"
    r"yaml\.load\(|SELECT .*(\+|%|\{)|md5|sha1\b|verify\s*=\s*False|InsecureSkipVerify|strcpy|malloc|"
    r"unsafe\b|Runtime\.getRuntime|ObjectInputStream|password|secret",
    re.I,
)
TEST_PATH = re.compile(
    r"(^|/)(tests?|spec|__tests__|testdata|fixtures|docs?|examples?)(/|$)|(_test|\.test|\.spec|test_)", re.I
)
PROSE = frozenset({"markdown", "text", "json", "yaml", "toml", "ini", "xml", "css", "html"})


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens of one request: `context` for prompt and answer, `answer` of them kept for the answer."""

    context: int
    answer: int
    overhead: int

    @property
    def pieces(self) -> int:
        """Tokens left for code."""
        return self.context - self.answer - self.overhead


def make_budget(asker: Asker, num_ctx: int) -> Budget:
    """The split of a context window. A quarter goes to the answer, within 512 to 4096 tokens."""
    return Budget(num_ctx, _answer(num_ctx, asker), asker.overhead())


def _answer(num_ctx: int, asker: Asker) -> int:
    return min(BRIEF_ANSWER if asker.brief else 4096, max(512, num_ctx // 4))


def smallest_context(asker: Asker) -> int:
    """The least `num_ctx` that leaves room for some code."""
    overhead = asker.overhead()
    sizes = count(1024, 256)
    return next(size for size in sizes if Budget(size, _answer(size, asker), overhead).pieces >= LEAST_PIECES)


def shape_for(path: str, asker: Asker, budget: Budget) -> Shape | None:
    """The shape of units of one file; None when its name and its rules leave no room for code."""
    room = budget.pieces - _title_cost(path, asker) - SYMBOL_TOKENS
    return Shape(max_tokens=room) if room >= LEAST_CODE else None


def _title_cost(path: str, asker: Asker) -> int:
    """What a unit costs without its code and without the name of its definition."""
    longest_language = "x" * 16
    return asker.piece_cost(ReviewUnit(path, 0, longest_language, (), (), ".", 0, ""))


def choose_context(model_context: int, asked: int | None) -> int:
    """`num_ctx` of a run: what the user asked, else the smallest bucket; never more than the model holds."""
    wanted = asked if asked is not None else BUCKETS[0]
    return min(wanted, model_context) if model_context else wanted


def by_risk(files: Iterable[SourceFile], churn: Mapping[str, int]) -> list[SourceFile]:
    """Riskiest first, so that a limited run spends its time well; ties by path."""
    busiest = max(churn.values(), default=1)
    return sorted(files, key=lambda file: (-risk(file, churn.get(file.path, 0) / busiest), file.path))


def risk(file: SourceFile, churn: float) -> float:
    """Points for entry points, security words in path and code, churn (0 to 1) and size.

    Tests and prose lose some.
    """
    score = 0.0
    if file.language in PROSE:
        score -= 4.0
    if TEST_PATH.search(file.path):
        score -= 3.0
    if ENTRY_PATH.search(file.path):
        score += 1.5
    if SECURITY_PATH.search(file.path):
        score += 2.0
    changed = range(1, len(file.lines) + 1) if file.changed is None else sorted(file.changed)
    hits = sum(1 for number in list(changed)[:5000] if RISKY_CODE.search(file.lines[number - 1][:500]))
    score += min(3.0, math.log2(1 + hits))
    score += 2.0 * churn
    return score + min(2.0, math.log10(1 + file.changed_count))


def pack(units: Sequence[ReviewUnit], asker: Asker, budget: Budget) -> list[tuple[ReviewUnit, ...]]:
    """Requests: consecutive units that fit the budget together. Every unit is in exactly one."""
    requests: list[tuple[ReviewUnit, ...]] = []
    batch: list[ReviewUnit] = []
    spent = 0
    for unit in units:
        cost = asker.piece_cost(unit)
        if batch and (spent + cost > budget.pieces or len(batch) >= UNITS_PER_REQUEST):
            requests.append(tuple(batch))
            batch, spent = [], 0
        batch.append(unit)
        spent += cost
    if batch:
        requests.append(tuple(batch))
    return requests
