"""What a failure of the agent's endpoint is called, and that each name has a text that says what to do."""

from __future__ import annotations

import pytest

from review_agent.agent.failures import failure_key
from review_agent.prompts import say

ROWS = [
    (400, "unknown", "API Error: 400", "400"),
    (400, "unknown", "API Error: 400 registry.ollama.ai/library/m:7b does not support tools", "tools"),
    (
        400,
        "unknown",
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        "tools",
    ),
    (400, "unknown", "messages.1: `tool_use` ids were found without `tool_result` blocks", "400"),
    (400, "invalid_request", "Prompt is too long", "context"),
    (400, "unknown", "request (9031 tokens) exceeds the available context size (8192 tokens)", "context"),
    (401, "authentication_failed", "Failed to authenticate", "401"),
    (402, "billing_error", "", "402"),
    (403, "authentication_failed", "", "401"),
    (404, "model_not_found", "", "404"),
    (413, "invalid_request", "", "413"),
    (429, "rate_limit", "", "429"),
    (500, "server_error", "connection timed out upstream", "500"),
    (503, "server_error", "", "529"),
    (529, "server_error", "Overloaded", "529"),
    (418, "unknown", "timed out", "other"),
    (0, "server_error", "API Error: Request timed out.", "timeout"),
    (0, "unknown", "API Error: Stream idle timeout - no chunks received", "timeout"),
    (0, "server_error", "API Error: Connection to the API was lost (ECONNRESET).", "cut"),
    (0, "server_error", "API Error: Connection refused — a firewall (ECONNREFUSED)", "refused"),
    (0, "server_error", "getaddrinfo ENOTFOUND gateway.example", "refused"),
    (0, "server_error", "unable to verify the first certificate", "refused"),
    (0, "max_output_tokens", "exceeded the 128000 output token maximum", "max_tokens"),
    (0, "invalid_request", "safeguards flagged this message", "refusal"),
    (0, "unknown", "API Error: JSON Parse error: Unexpected EOF", "other"),
    (0, "", "", "other"),
]


@pytest.mark.parametrize(("status", "kind", "detail", "name"), ROWS)
def test_what_a_failure_is_called(status: int, kind: str, detail: str, name: str) -> None:
    assert failure_key(status, kind, detail) == f"agent_api_{name}"


@pytest.mark.parametrize("name", sorted({row[3] for row in ROWS}))
@pytest.mark.parametrize(("lang", "colon"), [("zh-CN", "：请"), ("en", ": ")])
def test_its_text_says_what_to_do(name: str, lang: str, colon: str) -> None:
    assert colon in say(lang, "reasons", f"agent_api_{name}")
