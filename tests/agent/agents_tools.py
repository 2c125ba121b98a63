"""The tools of an agent over a repository, called as its model calls them, with everything that left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jsonschema
from scripted import unit

from review_agent.agent.cases import Notebook, make_cases
from review_agent.agent.findings import Context
from review_agent.agent.library import Library
from review_agent.agent.models import Egress, Finding, ReviewUnit, SourceFile, Verdict
from review_agent.agent.outbox import Outbox
from review_agent.agent.toolbox import Toolbox
from review_agent.tools.redact import Masker
from review_agent.tools.server import MOST_CHARACTERS, TOOLS, handler


@dataclass(frozen=True)
class Said:
    text: str
    error: bool

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Bench:
    """A toolbox, and one ledger row list per answer."""

    library: Library
    verdicts: Sequence[Verdict] = ()
    host: str = "cloud.example"
    more: Mapping[str, Any] = field(default_factory=dict)
    notebook: Notebook = field(default_factory=lambda: Notebook("work", "run"))
    kept: list[list[Egress]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    found: list[Finding] = field(default_factory=list)
    broken: list[tuple[str, Exception]] = field(default_factory=list)

    def __post_init__(self) -> None:
        files = self.library.files.values()
        masker = Masker()
        for file in files:
            masker.learn(file.lines)
        units: dict[str, list[ReviewUnit]] = {
            file.path: [unit(file.path, "\n".join(file.lines))] for file in files
        }
        self.box = Toolbox(
            **{
                "lang": "en",
                "cases": make_cases(self.verdicts, lambda path: self.library.visible(path) is not None),
                "notebook": self.notebook,
                "library": self.library,
                "units": units,
                "contexts": {file.path: Context(file, (), masker.mask) for file in files},
                "route": lambda _: "local",
                "outbox": Outbox(self.host, "model", masker.mask_counted, self.kept.append),
                "offered": frozenset(TOOLS),
                "on_found": self.found.append,
                "on_broken": lambda tool, why: self.broken.append((tool, why)),
                **self.more,
            }
        )

    def call(self, tool: str, /, **arguments: Any) -> Said:
        """As the SDK does it: the schema first, then the handler."""
        return asyncio.run(self.acall(tool, **arguments))

    async def acall(self, tool: str, /, **arguments: Any) -> Said:
        jsonschema.validate(arguments, TOOLS[tool].schema)
        result = await handler(TOOLS[tool], self.box, "en")(arguments)
        (content,) = result["content"]
        self.answers.append(content["text"])
        assert len(content["text"]) <= MOST_CHARACTERS
        content["text"].encode()  # what cannot be sent would end the session
        return Said(content["text"], result["is_error"])

    def pages(self, tool: str, name: str, **arguments: Any) -> list[dict[str, Any]]:
        """The rows of all pages."""
        rows: list[dict[str, Any]] = []
        start: int | None = 0
        while start is not None:
            page = self.call(tool, start=start, **arguments).json
            assert page[name] or page["next"] is None
            rows += page[name]
            assert page["next"] is None or page["next"] > start
            start = page["next"]
        return rows


def source(path: str, text: str = "x = 1\n", **more: Any) -> SourceFile:
    from review_agent.agent.models import Change

    return SourceFile(path, "python", tuple(text.split("\n")[:-1]), "", Change.WHOLE, **more)
