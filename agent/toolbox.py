"""The port of `tools.server` over one review: which tool does what, and what is against the rules.

Whatever a tool returns may leave this machine. So each answer is made of what the policy lets be seen, goes
through the mask, and is in the ledger before it is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from review_agent.agent.analyzer import Analyzer
from review_agent.agent.cases import Case, Docket, Notebook
from review_agent.agent.display import inline
from review_agent.agent.errors import CommandRefused, FileRefused, GitError, Stopped
from review_agent.agent.findings import Context
from review_agent.agent.hearsay import Hearsay
from review_agent.agent.library import Library
from review_agent.agent.models import Finding, ReviewUnit, SourceFile
from review_agent.agent.opinions import Opinions
from review_agent.agent.outbox import Outbox
from review_agent.agent.policy import refusal as command_refusal
from review_agent.agent.provenance import Words
from review_agent.agent.replies import ROOM, Replies
from review_agent.agent.statements import Statements
from review_agent.agent.views import Views
from review_agent.prompts import say
from review_agent.tools.server import Answered
from review_agent.tools.shell_run import CommandRunner

Did = Answered | Awaitable[Answered]


@dataclass
class Toolbox:
    """The tools of one agent. `analyzer` asks the local model; None = there is none."""

    lang: str
    cases: tuple[Case, ...]
    notebook: Notebook
    library: Library
    units: Mapping[str, Sequence[ReviewUnit]]
    contexts: Mapping[str, Context]
    route: Callable[[ReviewUnit], str]
    outbox: Outbox
    offered: frozenset[str]
    analyzer: Analyzer | None = None
    runner: Callable[[], CommandRunner] | None = None
    on_found: Callable[[Finding], None] = lambda _: None
    parallel: int = 1
    on_broken: Callable[[str, Exception], None] = lambda _tool, _why: None  # a tool that failed, by our fault
    foreign: frozenset[Words] = frozenset()
    guidance: SourceFile | None = None  # that the local model is shown

    def __post_init__(self) -> None:
        self._replies = replies = Replies(self.lang, self.outbox)
        self._docket = docket = Docket(self.cases, self.notebook)
        hearsay = Hearsay(self.library, self.lang, bool(self.outbox.host), self.foreign, self.guidance)
        views = Views(docket, self.library, self.units, self.route, replies, hearsay)
        opinions = Opinions(docket, self.library, replies, hearsay, self.analyzer, self.parallel)
        self._statements = Statements(docket, self.contexts, replies, self.on_found)
        self._tools: dict[str, Callable[[dict[str, Any]], Did]] = {
            "list_units": views.list_units,
            "get_candidates": views.get_candidates,
            "read_lines": views.read_lines,
            "search_code": views.search_code,
            "git_log": views.git_log,
            "git_blame": views.git_blame,
            "local_model_analyze": opinions.local_model_analyze,
            "record_finding": self._statements.record_finding,
            "judge_finding": self._statements.judge_finding,
            "submit_summary": self._statements.submit_summary,
            "run_command": self._run_command,
        }

    @property
    def open_cases(self) -> list[Case]:
        return self._docket.open

    @property
    def done(self) -> bool:
        """Whether the assessment is in."""
        return self._statements.done

    @property
    def visible_units(self) -> int:
        return sum(len(units) for path, units in self.units.items() if self.library.visible(path) is not None)

    def refusal(self, tool: str, arguments: dict[str, Any]) -> str:
        """Nothing of a hidden file is told, not even whether it exists. For threads: it may take a second."""
        with self._noting(tool):
            return self._refusal(tool, arguments)

    def _refusal(self, tool: str, arguments: dict[str, Any]) -> str:
        say = self._replies.say
        if tool not in self.offered:
            return say("tool_not_offered", tool=inline(tool)[:60])
        path = str(arguments.get("path", ""))
        by_id = tool == "local_model_analyze" and self._docket.case(path) is not None
        if path and not by_id and self.library.visible(path) is None:
            return say("file_unavailable", path=inline(path)[:200])
        if tool == "judge_finding":
            case = self._docket.case(str(arguments.get("id", "")))
            if case is None:
                return say("case_unknown", id=inline(str(arguments.get("id", "")))[:40])
            if not case.judgeable:
                return say("case_not_judgeable", id=case.id)
        return self._command_refusal(str(arguments.get("command", ""))) if tool == "run_command" else ""

    def _command_refusal(self, command: str) -> str:
        if self.runner is None:
            return self._replies.say("tool_not_offered", tool="run_command")
        try:
            self.runner().check(command)
        except (CommandRefused, FileRefused) as exc:
            return command_refusal(exc, self.lang)
        return ""

    async def call(self, tool: str, arguments: dict[str, Any]) -> Answered:
        """Raises what only we, or a store that cannot be written, are to blame for, and tells `on_broken`."""
        try:
            with self._noting(tool):
                answer = self._tools[tool](arguments)
                return answer if isinstance(answer, Answered) else await answer
        except GitError as exc:
            return self._replies.no("git_failed", detail=exc.key)
        except Stopped as exc:
            return self._replies.no("engine_stopped", reason=say(self.lang, "reasons", exc.key))

    def _noting(self, tool: str) -> ExitStack:
        """Tells of an exception that is on its way."""

        def note(_: object, fault: BaseException | None, __: object) -> None:
            if isinstance(fault, Exception) and not isinstance(fault, GitError | Stopped):
                self.on_broken(tool, fault)

        stack = ExitStack()
        stack.push(note)
        return stack

    async def _run_command(self, arguments: dict[str, Any]) -> Answered:
        if self.runner is None:
            return self._replies.no("tool_not_offered", tool="run_command")
        try:
            ran = await asyncio.to_thread(self.runner().run, str(arguments["command"]))
        except (CommandRefused, FileRefused) as exc:
            return Answered(command_refusal(exc, self.lang), error=True)
        said = (ran.stdout + ran.stderr).decode("utf-8", "replace")
        status = "timeout" if ran.timed_out else f"exit {ran.exit_code}"
        return Answered(self.outbox.send(f"{status}\n{said}"[:ROOM]), error=ran.exit_code != 0)
