"""What an engine was asked, and how much more it may be."""

from __future__ import annotations

from dataclasses import dataclass, replace

from review_agent.agent.errors import Stopped
from review_agent.agent.models import CloudUsage
from review_agent.tools.backends import Done
from review_agent.tools.prices import cost


@dataclass
class Meter:
    """Tokens and requests of one engine, and their limits. An answer under way counts by estimate.

    Prompt tokens exclude those that a server kept from earlier requests, or keeps for later ones; these count
    apart. `max_tokens` limits what is spent here and `beside`, `max_own` what is spent here.
    """

    max_tokens: int = 0  # 0 = no limit
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    pending: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    max_own: int = 0
    beside: Meter | None = None

    @property
    def counted(self) -> int:
        """Tokens of answers that have ended."""
        kept = self.cache_read_tokens + self.cache_write_tokens
        return self.prompt_tokens + kept + self.completion_tokens

    @property
    def spent(self) -> int:
        return self.counted + self.pending

    def check(self, more: int = 0) -> None:
        if self.max_own and self.spent + more > self.max_own:
            raise Stopped("limit_max_cloud_tokens")
        whole = self.spent + (self.beside.spent if self.beside is not None else 0)
        if self.max_tokens and whole + more > self.max_tokens:
            raise Stopped("limit_max_tokens")

    def count(self, done: Done, *, asked: int, written: int) -> None:
        """The end of an answer; `asked` and `written` are our estimates, for a server that does not tell."""
        self.prompt_tokens += done.prompt_tokens or (0 if done.cache_read_tokens else asked)
        self.completion_tokens += done.completion_tokens or written
        self.cache_read_tokens += done.cache_read_tokens
        self.cache_write_tokens += done.cache_write_tokens

    def of_cloud(self, model: str, host: str) -> CloudUsage:
        """What the cloud was asked, and what that costs."""
        used = CloudUsage(
            requests=self.requests,
            prompt_tokens=self.prompt_tokens,
            cache_read_tokens=self.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens,
            completion_tokens=self.completion_tokens,
        )
        return replace(used, cost=cost(model, host, used)) if used.requests else used


def added(one: CloudUsage, other: CloudUsage, model: str, host: str) -> CloudUsage:
    """Both together, and what they cost together."""
    used = CloudUsage(
        requests=one.requests + other.requests,
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        cache_read_tokens=one.cache_read_tokens + other.cache_read_tokens,
        cache_write_tokens=one.cache_write_tokens + other.cache_write_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        turns=one.turns + other.turns,
    )
    return replace(used, cost=cost(model, host, used)) if used.requests else used
