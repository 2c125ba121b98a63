"""What a failure of the agent's endpoint is called: a key of `[reasons]`, whose text says what to do."""

from __future__ import annotations

import re

_BY_STATUS = {
    400: "400", 401: "401", 402: "402", 403: "401", 404: "404", 413: "413", 429: "429", 500: "500",
    502: "500", 503: "529", 504: "500", 529: "529",
}  # fmt: skip
# What a 400 says of a model that cannot do what an agent must: of many servers, in their own words.
_BY_400 = {
    "tools": re.compile(r"support\w* tool|tool.choice|tool.call.parser|function.call", re.I),
    "context": re.compile(r"too long|context (size|length|window)|maximum context", re.I),
}
# By the program's own word for it.
_BY_KIND = {"max_output_tokens": "max_tokens", "invalid_request": "refusal"}
# By what stands in its text, where no status came; the first that fits.
_BY_WORDS = {
    "timeout": ("timed out", "idle timeout", "ETIMEDOUT"),
    "cut": ("ECONNRESET", "EPIPE", "was lost", "socket hang up"),
    "refused": (
        "ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "certificate",
        "Unable to connect",
    ),
}  # fmt: skip


def failure_key(status: int, kind: str, detail: str) -> str:
    """`status` is of HTTP, 0 = none came; `kind` what the last message calls its error; `detail` its text."""
    if status == 400 and (key := next((key for key, words in _BY_400.items() if words.search(detail)), "")):
        return f"agent_api_{key}"
    if status:
        return f"agent_api_{_BY_STATUS.get(status, 'other')}"
    if kind in _BY_KIND:
        return f"agent_api_{_BY_KIND[kind]}"
    said = detail.lower()
    fitting = (name for name, words in _BY_WORDS.items() if any(word.lower() in said for word in words))
    return f"agent_api_{next(fitting, 'other')}"
