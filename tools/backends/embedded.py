"""llama.cpp inside xllamacpp, in a process of our own that ends with us.

The process starts with the first question: a run that has every answer already needs no model in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from review_agent.agent.errors import EngineFault, EngineRejected, ModelMissing, ModelUnavailable
from review_agent.tools.backends import ChatRequest, Delta, Done, ModelInfo
from review_agent.tools.backends.openai import OpenAIBackend
from review_agent.tools.endpoints import Endpoint, admit, make_client, make_endpoint

CHILD = Path(__file__).with_name("llama_child.py")
START_SECONDS = 600.0  # a large file on a slow disk
STOP_SECONDS = 3.0
RESTARTS = 2
_KEPT = re.compile(
    r"PATH|HOME|LANG|LC_\w+|TMPDIR|(LD|DYLD)_LIBRARY_PATH|(CUDA|HIP|ROCR|GGML|VK|MTL|OMP)_\w+|VIRTUAL_ENV"
)


@dataclass(frozen=True, slots=True)
class Launch:
    """What the process is told. `context` is tokens per slot; 0 `threads` = llama.cpp's own choice."""

    model: str
    alias: str
    context: int
    slots: int
    key: str
    threads: int = 0
    verbosity: int = 1  # errors

    def line(self) -> bytes:
        told = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(told).encode() + b"\n"


def installed() -> bool:
    """Whether the `[embedded]` extra is there. Imports nothing."""
    return find_spec("xllamacpp") is not None


class EmbeddedBackend:
    """One model file. Raises ModelUnavailable when the `[embedded]` extra is missing."""

    name = "embedded"

    def __init__(
        self, file: Path, model: ModelInfo, *, context: int, slots: int, stall_seconds: float
    ) -> None:
        if not installed():
            raise ModelUnavailable("embedded_not_installed")
        self.endpoint = make_endpoint("http://127.0.0.1")
        self._file, self._model = file, model
        self._context, self._slots, self._stall = context, slots, stall_seconds
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._log: IO[bytes] | None = None
        self._server: OpenAIBackend | None = None
        self._starts = 0
        self._key = ""

    async def models(self) -> list[ModelInfo]:
        return [self._model]

    async def describe(self, model: str) -> ModelInfo:
        if model != self._model.name:
            raise ModelMissing("errors_models.model_not_stored", model=model, installed=self._model.name)
        return self._model

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Delta | Done, None]:
        server = await self._running()
        try:
            async with aclosing(server.chat(request)) as events:
                async for event in events:
                    yield event
        except (EngineFault, ModelUnavailable) as exc:
            if not await self._died():
                raise
            raise EngineFault("embedded_died", model=self._model.name, detail=self._said()) from exc

    async def aclose(self) -> None:
        if self._server is not None:
            await self._server.aclose()
            self._server = None
        if self._process is not None:
            await _stop(self._process)
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    @property
    def context(self) -> int:
        """Tokens of one slot."""
        return self._context

    @property
    def pid(self) -> int | None:
        """The process, for tests and `doctor`; None while none runs."""
        return self._process.pid if self._process is not None else None

    async def serving(self) -> tuple[Endpoint, str]:
        """Where the process answers, and the key that it wants. Starts it."""
        server = await self._running()
        return server.endpoint, self._key

    async def _running(self) -> OpenAIBackend:
        async with self._starting:
            if self._server is None or await self._died():
                await self.aclose()
                if self._starts > RESTARTS:
                    raise EngineRejected("embedded_gave_up", model=self._model.name)
                self._starts += 1
                self._server = await self._start()
            return self._server

    async def _died(self) -> bool:
        """A process that just ended may take a moment to be noticed."""
        if self._process is None:
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 0.2)
        return self._process.returncode is not None

    async def _start(self) -> OpenAIBackend:
        key = self._key = secrets.token_urlsafe(24)  # other users of this machine can reach the port, too
        launch = Launch(str(self._file), self._model.name, self._context, self._slots, key)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `aclose`, with the process
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-u", str(CHILD),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
            cwd="/",
            env=_environment(os.environ),
            start_new_session=True,  # Ctrl-C is for us; we end it
        )  # fmt: skip
        try:
            url = await asyncio.wait_for(self._ready(self._process, launch), START_SECONDS)
        except BaseException as exc:
            said = self._said()
            await self.aclose()
            if isinstance(exc, TimeoutError):
                raise EngineRejected("embedded_slow_start", model=self._model.name) from exc
            if isinstance(exc, _NotLoaded):
                said = said or str(exc)
                raise EngineRejected("embedded_load_failed", path=str(self._file), detail=said) from exc
            raise
        endpoint = make_endpoint(url)
        admit(endpoint)
        client = make_client(endpoint, stall_seconds=self._stall, api_key=key)
        return OpenAIBackend(client, endpoint, extra=_no_thinking(self._model.name))

    async def _ready(self, process: asyncio.subprocess.Process, launch: Launch) -> str:
        told, answers = process.stdin, process.stdout
        if told is None or answers is None:  # pipes were asked for
            raise _NotLoaded("no pipe")
        told.write(launch.line())
        with contextlib.suppress(ConnectionError):
            await told.drain()
        line = await answers.readline()
        if not line:
            code = await process.wait()
            raise _NotLoaded(f"exit code {code}")
        answer = json.loads(line)
        if "url" not in answer:
            raise _NotLoaded(str(answer.get("error", "")))
        return str(answer["url"])

    def _said(self) -> str:
        """The first thing that llama.cpp complained about; '' when nothing."""
        if self._log is None:
            return ""
        self._log.seek(0)
        text = self._log.read(65536).decode("utf-8", "replace")
        lines = [re.sub(r"^[\d.]+ E ", "", line).strip() for line in text.splitlines()]
        return next((line for line in lines if line), "")[:300]


class _NotLoaded(Exception):
    """The process ended, or said that it could not load the model."""


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()  # it ends by itself when nobody holds the other end
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Nothing that steers Python or carries keys. OpenMP threads that spin are slow on shared cores."""
    kept = {name: value for name, value in environ.items() if _KEPT.fullmatch(name)}
    return {"OMP_WAIT_POLICY": "passive", **kept}


def _no_thinking(model: str) -> dict[str, object]:
    """Thoughts are not bounded by the schema. gpt-oss knows levels only."""
    known: dict[str, object] = (
        {"reasoning_effort": "low"} if "gpt-oss" in model else {"enable_thinking": False}
    )
    return {"chat_template_kwargs": known}
