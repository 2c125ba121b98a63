"""The error tree. An error carries a message key and its fields; `agent.main` alone turns them into text.

The key names a sentence in `prompts/messages/<lang>/` under `[errors]`.
"""

from __future__ import annotations


class ReviewError(Exception):
    """Anything we tell the user about and stop for."""

    exit_code = 1

    def __init__(self, key: str, **fields: object) -> None:
        super().__init__(key, fields)
        self.key = key
        self.fields = fields


class UsageError(ReviewError):
    """Wrong options, target or configuration: the user can fix it and nothing was reviewed."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or variable that cannot be accepted."""


class TargetError(UsageError):
    """What should be reviewed does not exist or cannot be read as asked."""


class GitError(TargetError):
    """git refused or failed."""


class FileRefused(ReviewError):
    """The path gate said no. `key` is the reason (shown as the file's skip or failure reason)."""


class CommandRefused(ReviewError):
    """The command gate said no. `key` names the reason in `[policy]`."""


class StoreError(ReviewError):
    """The run store could not be read or written."""


class EngineError(ReviewError):
    """A model server failed. `retryable` says whether the same request may succeed later."""

    retryable = False


class ModelUnavailable(EngineError):
    """Nothing answers at the endpoint."""

    retryable = True


class ModelMissing(EngineError):
    """The server has no such model, or none that can be used."""


class EndpointRefused(EngineError, UsageError):
    """The endpoint is outside what the user's configuration trusts."""


class EngineBusy(EngineError):
    """429 or 503. `retry_after` is in seconds."""

    retryable = True

    def __init__(self, key: str, retry_after: float | None = None, **fields: object) -> None:
        super().__init__(key, **fields)
        self.retry_after = retry_after


class EngineFault(EngineError):
    """5xx, a broken connection, an answer that is not the protocol."""

    retryable = True


class OtherForm(EngineError):
    """The server does not take a question in this form. The same question, asked again, takes another."""

    retryable = True


class EngineRejected(EngineError):
    """4xx: the server understood the request and will never accept it."""


class PromptTooLong(EngineRejected):
    """The server says that the prompt does not fit its context."""


class Stopped(ReviewError):
    """The run must end here; `key` (of `[reasons]`) says why."""


class AnswerUnreadable(ReviewError):
    """The model's text holds no answer in the asked form."""


class ForgeError(ReviewError):
    """A forge (GitHub) failed, or refused what was asked of it."""


class ForgeDenied(ForgeError):
    """401 or 403: the token may not do that. Tokens of pull requests from forks may only read."""


class ForgeMissing(ForgeError):
    """404: no such repository or pull request, or none that the token may see."""


class ForgeRejected(ForgeError):
    """422: what was sent is not acceptable."""


class ForgeBusy(ForgeError):
    """A limit of requests, for longer than we wait."""


class ForgeFault(ForgeError):
    """5xx, a broken connection, an answer that cannot be read: it may have been carried out all the same."""
