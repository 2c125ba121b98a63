"""Every way in which the agent's endpoint can fail, and one review that meets it: by the installed command."""

from __future__ import annotations

import queue
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from claude_scripts import reviewer
from driver import DEMO, Server, free_port, launch
from hybrid import Desk, Done, judgements
from scripted_claude import Asked, Fault, Reply, ScriptedClaude

SUMMARY = "总评：已核对。"
WHOLE = reviewer(summary=SUMMARY)
REFUSED = "refused"  # nobody listens


@dataclass(frozen=True)
class Row:
    """`asked`: requests that the failure costs, the retries among them. `words`: what the reason tells the user to do."""

    asked: int
    reason: str
    words: str
    seconds: float = 25.0


ROWS = {
    "hang": Row(3, "agent_api_timeout", "请检查网络", 45),
    "stall": Row(1, "agent_api_timeout", "请检查网络", 35),
    "400": Row(1, "agent_api_400", "请检查模型名"),
    "401": Row(3, "agent_api_401", "ANTHROPIC_API_KEY"),
    "404": Row(2, "agent_api_404", "verify_model"),
    "429": Row(3, "agent_api_429", "请稍后"),
    "429_retry_after_3600": Row(1, "agent_api_429", "请稍后"),
    "500": Row(3, "agent_api_500", "请稍后"),
    "529": Row(3, "agent_api_529", "请稍后"),
    "html": Row(1, "agent_api_other", "请检查它是否兼容"),
    "malformed": Row(1, "agent_api_other", "请检查它是否兼容"),
    "cut": Row(3, "agent_api_cut", "请检查网络"),
    "error_event": Row(1, "agent_api_529", "请稍后"),
    "empty": Row(2, "agent_empty", "resume"),
    "max_tokens": Row(4, "agent_api_max_tokens", "请缩小审查范围|请换一个"),
    "refusal": Row(2, "agent_api_refusal", "请换一个"),
    REFUSED: Row(0, "agent_api_refused", "agent_base_url"),
}  # the slow ones first: two are tried at a time


@dataclass(frozen=True)
class Tried:
    failed: Done
    resumed: Done | None
    first: list[Asked]  # by the first session
    second: list[Asked]
    local: tuple[int, int]  # requests of the local model by each
    left: list[str]

    @property
    def judged(self) -> list[str]:
        """Each judgement of both sessions."""
        return judgements([*self.first, *self.second])


@dataclass
class Place:
    """Where failures are tried, two at a time: three files of the demo, and a local server for each lane."""

    folder: Path
    tree: Path
    servers: queue.SimpleQueue[Server] = field(default_factory=queue.SimpleQueue)

    def attempt(self, kind: str, *, go_on: bool) -> Tried:
        """The third request fails, and all after it; then the endpoint is well, and the run may go on."""
        local = self.servers.get()
        try:
            return self._attempt(kind, local, go_on=go_on)
        finally:
            self.servers.put(local)

    def _attempt(self, kind: str, local: Server, *, go_on: bool) -> Tried:
        well: list[bool] = []

        def script(asked: Asked) -> Reply:
            return WHOLE(asked) if well or asked.turn < 2 else Fault(kind, after=2)

        (self.folder / kind).mkdir()
        desk = Desk(self.folder / kind, local, self.tree, {"request_timeout": 3})
        start, port = len(local.requests()), free_port()
        with ScriptedClaude(script, port=port) as claude:
            if kind == REFUSED:
                claude.close()
            failed = desk.run(claude.url)
        first, middle, left = list(claude.asked), len(local.requests()), desk.left(claude.url)
        if not go_on:
            return Tried(failed, None, first, [], (middle - start, 0), left)
        well.append(True)
        with ScriptedClaude(script, port=port) as claude:
            resumed = desk.do(claude.url, "resume", failed.resume)
        counts = middle - start, len(local.requests()) - middle
        return Tried(failed, resumed, first, list(claude.asked), counts, left)


@contextmanager
def make_place(folder: Path) -> Iterator[Place]:
    place = Place(folder, folder / "tree")
    place.tree.mkdir(parents=True)
    for name in ("auth.py", "coupons.py", "orders.py"):
        shutil.copy(DEMO / "api" / "app" / name, place.tree)
    made: list[Server] = []
    try:
        for _ in range(2):
            made.append(launch(folder, review="def "))
            place.servers.put(made[-1])
        yield place
    finally:
        for server in made:
            server.stop()
