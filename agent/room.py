"""How much of a conversation its model's context still holds. Pure.

A server that was given too much either refuses it or, as Ollama does, drops the beginning and answers as if
nothing were missing. So a session ends before that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from review_agent.agent.tokens import estimate
from review_agent.prompts import say
from review_agent.tools.server import TOOLS, full_name

PROGRAM = 420  # what the program adds to a conversation: who it is, and where it stands
MOST_ANSWER, LEAST_ANSWER = 4096, 1024
RESULT = 2000  # what a tool gives back, as a rule; some give twice that


@dataclass
class Room:
    """In tokens, estimated on the safe side. `context` 0 = unknown: then there always is room."""

    context: int = 0
    used: int = 0

    @property
    def answer(self) -> int:
        """What one answer may take. A model that rambles would write until the context is full."""
        return max(LEAST_ANSWER, min(MOST_ANSWER, self.context // 8)) if self.context else MOST_ANSWER

    @property
    def full(self) -> bool:
        """Whether one more answer might not fit."""
        return bool(self.context) and self.used + self.answer > self.context

    @property
    def least(self) -> int:
        """The least context that what was said, an answer, and what a tool then tells fit in."""
        return self.used + self.answer + RESULT

    @property
    def cramped(self) -> bool:
        """Whether nothing but what was said so far has room."""
        return bool(self.context) and self.least > self.context

    def add(self, text: str) -> None:
        self.used += estimate(text)


def opening(system: str, tools: Iterable[str], lang: str) -> int:
    """Tokens of a first request, but for the words of the user."""
    told = [
        {"name": full_name(name), "description": say(lang, "agent_tools", name), "schema": TOOLS[name].schema}
        for name in tools
    ]
    return PROGRAM + estimate(system) + estimate(json.dumps(told, ensure_ascii=False))
