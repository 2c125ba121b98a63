"""Anthropic's Messages API, and endpoints that speak it.

https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from enum import IntEnum
from typing import Literal

import anthropic
import httpx2
from anthropic.types import JSONOutputFormatParam, MessageParam, RawMessageStreamEvent, ToolParam
from pydantic import Field, ValidationError

from review_agent.agent.errors import (
    EngineBusy,
    EngineError,
    EngineFault,
    EngineRejected,
    ModelMissing,
    ModelUnavailable,
    OtherForm,
    PromptTooLong,
)
from review_agent.tools.backends import CLOUD_CONTEXT, ChatRequest, Delta, Done, Message, ModelInfo
from review_agent.tools.backends.wire import Shape, is_too_long, seconds
from review_agent.tools.endpoints import Endpoint

Auth = Literal["api_key", "auth_token"]
VARIABLES: dict[Auth, str] = {"api_key": "ANTHROPIC_API_KEY", "auth_token": "ANTHROPIC_AUTH_TOKEN"}
TOOL = "submit_review"
_MAY_THINK = 16_000  # tokens that Claude may think beside its answer; what it does not use costs nothing
_USUAL_ANSWER = 8192  # the most that many compatible endpoints allow
# https://platform.claude.com/docs/en/models/sonnet-5-5/whats-new-sonnet-5-5#forced-tool-use-is-not-supported
_UNFORCED = re.compile(r"claude-(?:(?:opus|sonnet)-5-5|(?:fable|mythos)-5-[12])\b")
_CUT = ("max_tokens", "model_context_window_exceeded")
_STATUS = {  # of an error that comes within the stream
    "invalid_request_error": 400, "authentication_error": 401, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "overloaded_error": 529,
}  # fmt: skip


class _Form(IntEnum):
    """How the answer's form is asked for, the surest first. The prompt asks for JSON in any case."""

    TOOL = 1
    SCHEMA = 2
    WORDS = 3


_REFUSES = {
    _Form.TOOL: re.compile(r"tool|thinking", re.I),
    _Form.SCHEMA: re.compile(
        r"output_config|output format|schema|extra inputs|unexpected|unknown|not permitted", re.I
    ),
}


class _Usage(Shape):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0

    def joined(self, later: _Usage) -> _Usage:
        """Counts grow, and some endpoints tell the prompt's only at the end."""
        both = zip(self.model_dump().items(), later.model_dump().values(), strict=True)
        return _Usage(**{name: max(now, then) for (name, now), then in both})


class _Message(Shape):
    usage: _Usage = Field(default_factory=_Usage)


class _Piece(Shape):
    """A content block at its start, or what is added to it, or to the message."""

    type: str = ""
    text: str = ""
    partial_json: str = ""
    stop_reason: str = ""
    input: object = None


class _Event(Shape):
    type: str = ""
    message: _Message = Field(default_factory=_Message)
    content_block: _Piece = Field(default_factory=_Piece)
    delta: _Piece = Field(default_factory=_Piece)
    usage: _Usage = Field(default_factory=_Usage)


class _Blocks:
    """The text of an answer: of text blocks, and of the tool's input."""

    def __init__(self) -> None:
        self._whole = ""  # some endpoints give the input whole, where others begin with none

    def text_of(self, event: _Event) -> str:
        """What one event adds."""
        if event.type == "content_block_start":
            block = event.content_block
            self._whole = json.dumps(block.input, ensure_ascii=False) if block.input else ""
            return block.text
        if text := event.delta.text or event.delta.partial_json:
            self._whole = ""
            return text
        whole, self._whole = self._whole, ""
        return whole if event.type == "content_block_stop" else ""


class _Client(anthropic.AsyncAnthropic):
    """Takes nothing from the environment: address and key are ours, extra headers there are none.

    A key travels as `x-api-key`, as the API's documentation and compatible endpoints have it; this version of
    the package would send it as a bearer token.
    """

    def __init__(self, http: httpx2.AsyncClient, url: str, key: str, auth: Auth) -> None:
        super().__init__(
            api_key=key if auth == "api_key" else None,
            auth_token=key if auth == "auth_token" else None,
            base_url=url,
            timeout=http.timeout,
            max_retries=0,
            open_telemetry=False,
            http_client=http,
        )
        self._custom_headers = {}  # of ANTHROPIC_CUSTOM_HEADERS

    @property
    def auth_headers(self) -> dict[str, str]:
        return {"X-Api-Key": self.api_key} if self.api_key is not None else super().auth_headers


class AnthropicBackend:
    """`key` goes to `endpoint` as `auth` says. `endpoint.url` may or may not end in `/v1`."""

    name = "anthropic"

    def __init__(self, http: httpx2.AsyncClient, endpoint: Endpoint, *, key: str, auth: Auth) -> None:
        self._http = http
        self._client = _Client(http, endpoint.url.removesuffix("/v1"), key, auth)
        self._auth = auth
        self._form = _Form.TOOL  # narrowed by what the endpoint refuses; remembered for the run
        self.endpoint = endpoint

    async def aclose(self) -> None:
        await self._http.aclose()

    async def models(self) -> list[ModelInfo]:
        """None: which models a key may use is not asked; the user names one."""
        return []

    async def describe(self, model: str) -> ModelInfo:
        return ModelInfo(model, context=CLOUD_CONTEXT, capabilities=frozenset({"completion"}), remote=True)

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Delta | Done, None]:
        """As the protocol says. Raises OtherForm where the question has to be asked in another form."""
        form = max(self._form, _Form.SCHEMA) if _UNFORCED.search(request.model) else self._form
        usage, finish, blocks, silent = _Usage(), "", _Blocks(), True
        async with self._translated(form, request.model), aclosing(self._events(request, form)) as events:
            async for event in events:
                silent = False
                usage = usage.joined(event.message.usage).joined(event.usage)
                finish = event.delta.stop_reason or finish
                if text := blocks.text_of(event):
                    yield Delta(text)
        if not finish:
            raise EngineFault("engine_not_protocol" if silent else "engine_cut_stream", url=self.endpoint.url)
        if finish == "refusal":
            raise EngineRejected("errors_cloud.refused", model=request.model, url=self.endpoint.url)
        yield Done(
            "length" if finish in _CUT else "stop",
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_input_tokens,
            usage.cache_creation_input_tokens,
        )

    async def _events(self, request: ChatRequest, form: _Form) -> AsyncGenerator[_Event, None]:
        """Events that say something. The endpoint's pings keep a connection open, but are no progress."""
        stream = await self._ask(request, form)
        async with stream:
            rows = aiter(stream)
            while True:
                async with asyncio.timeout(self._http.timeout.read):
                    try:
                        row = await anext(rows)
                    except StopAsyncIteration:
                        return
                yield _Event.model_validate(row.to_dict(warnings=False))

    async def _ask(self, request: ChatRequest, form: _Form) -> anthropic.AsyncStream[RawMessageStreamEvent]:
        """What stands before the code is the same in each request of a run: the endpoint reads it once."""
        forced, by_schema = form is _Form.TOOL, form is _Form.SCHEMA
        system = "\n\n".join(_clean(m.content) for m in request.messages if m.role == "system")
        messages = [_turn(m) for m in request.messages if m.role != "system"]
        tool: ToolParam = {
            "name": TOOL,
            "description": "The result of the review.",
            "input_schema": request.schema,
        }
        return await self._client.messages.create(
            model=request.model,
            max_tokens=_room(request),
            system=[{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}],
            messages=messages,
            tools=[tool] if forced else anthropic.omit,
            tool_choice={"type": "tool", "name": TOOL} if forced else anthropic.omit,
            output_config={"format": _format(request.schema)} if by_schema else anthropic.omit,
            stream=True,
        )

    @asynccontextmanager
    async def _translated(self, form: _Form, model: str) -> AsyncIterator[None]:
        """Foreign failures as EngineErrors."""
        url = self.endpoint.url
        try:
            yield
        except anthropic.APIStatusError as exc:
            raise self._refusal(exc, form, model) from exc
        except anthropic.APIConnectionError as exc:
            raise self._broken(exc.__cause__ or exc) from exc
        except (httpx2.HTTPError, httpx2.StreamError, TimeoutError) as exc:
            raise self._broken(exc) from exc
        except (anthropic.AnthropicError, ValidationError, ValueError, AttributeError, RecursionError) as exc:
            raise EngineFault("engine_not_protocol", url=url) from exc

    def _broken(self, cause: BaseException) -> EngineError:
        url = self.endpoint.url
        if isinstance(cause, EngineError):  # our transport's
            return cause
        if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
            return ModelUnavailable("errors_cloud.unavailable", url=url)
        if isinstance(cause, httpx2.TimeoutException | TimeoutError):
            return EngineFault("engine_stalled", url=url)
        return EngineFault("engine_broken_stream", url=url, detail=type(cause).__name__)

    def _refusal(self, exc: anthropic.APIStatusError, form: _Form, model: str) -> EngineError:
        """The EngineError that a status, or an error within the stream, means."""
        url, said = self.endpoint.url, _said(exc)
        status = exc.status_code if exc.status_code >= 400 else _STATUS.get(str(exc.type), 500)
        if status in (429, 503, 529):
            wait = seconds(exc.response.headers.get("retry-after"))
            return EngineBusy("engine_busy", retry_after=wait, url=url)
        if status == 404:
            return ModelMissing("errors_cloud.model_missing", url=url, model=model, detail=said)
        if status >= 500:
            return EngineFault("engine_status", url=url, status=status, detail=said)
        if status in (401, 403):
            fields = {"url": url, "status": status, "variable": VARIABLES[self._auth], "detail": said}
            return EngineRejected("errors_cloud.key_refused", **fields)
        if status == 413 or is_too_long(said):
            return PromptTooLong("prompt_too_long", url=url, detail=said)
        if status in (400, 422) and form in _REFUSES and _REFUSES[form].search(said):
            self._form = max(self._form, _Form(form + 1))
            return OtherForm("engine_status", url=url, status=status, detail=said)
        return EngineRejected("engine_status", url=url, status=status, detail=said)


def _turn(message: Message) -> MessageParam:
    content = _clean(message.content)
    if message.role == "assistant":
        return {"role": "assistant", "content": content}
    return {"role": "user", "content": content}


def _room(request: ChatRequest) -> int:
    """`max_tokens`: thoughts count, too, and what is not used costs nothing."""
    if "claude" in request.model:
        return request.max_answer + _MAY_THINK
    return max(request.max_answer, _USUAL_ANSWER)


def _format(schema: dict[str, object]) -> JSONOutputFormatParam:
    return {"type": "json_schema", "schema": anthropic.transform_schema(schema)}


def _said(exc: anthropic.APIStatusError) -> str:
    """The endpoint's own error sentence, shortened; '' when there is none in a known form."""
    body = exc.body
    error = (body.get("error") or body.get("message") or body.get("detail")) if isinstance(body, dict) else ""
    if isinstance(error, dict):
        error = error.get("message")
    return error[:300] if isinstance(error, str) else ""


def _clean(text: str) -> str:
    """Names of files may hold lone surrogates, which no JSON text can."""
    return text.encode("utf-8", "replace").decode()
