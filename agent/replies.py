"""How the tools of an agent answer: sentences of the catalogue, and pages of rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from review_agent.agent.outbox import Leaving, Outbox
from review_agent.prompts import say as sentence
from review_agent.tools.server import MOST_CHARACTERS, Answered

ROOM = MOST_CHARACTERS - 400  # for what stands around a list


@dataclass(frozen=True)
class Replies:
    lang: str
    outbox: Outbox

    def say(self, key: str, **fields: object) -> str:
        return sentence(self.lang, "agent", key, **fields)

    def ok(self, key: str, **fields: object) -> Answered:
        return Answered(self.say(key, **fields))

    def no(self, key: str, **fields: object) -> Answered:
        return Answered(self.say(key, **fields), error=True)

    def listed(
        self,
        name: str,
        rows: Sequence[dict[str, Any]],
        start: int,
        leaving: Callable[[dict[str, Any]], Leaving | None],
    ) -> Answered:
        """As many rows as fit, from `start` on, and where to go on."""
        page: list[dict[str, Any]] = []
        spent = 0
        for row in rows[start:]:
            spent += len(json.dumps(row, ensure_ascii=False)) + 2
            if spent > ROOM and page:
                break
            page.append(row)
        following = start + len(page)
        body = {name: page, "next": following if following < len(rows) else None, "total": len(rows)}
        parts = [part for part in map(leaving, page) if part is not None]
        return Answered(self.outbox.send(json.dumps(body, ensure_ascii=False), parts))


def size(row: Mapping[str, Any]) -> int:
    return len(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
