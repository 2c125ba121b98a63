"""The cloud side of a run: where it is, and which model and key it takes.

Nothing leads here but the user's own choice of a mode or of `--backend anthropic`: a key that happens to be
in the environment is none. What goes there is decided in `agent.lanes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from review_agent.agent.errors import ConfigError, EndpointRefused, UsageError
from review_agent.agent.models import TrustClass
from review_agent.agent.router import Effective
from review_agent.agent.settings import Settings
from review_agent.tools.backends import Backend
from review_agent.tools.endpoints import Endpoint, make_cloud_client, make_endpoint
from review_agent.tools.proxies import proxy_of

ANTHROPIC_URL = "https://api.anthropic.com"
DEFAULT_CLOUD_MODEL = "claude-sonnet-5-5"
_KEYS: tuple[tuple[Literal["api_key", "auth_token"], str], ...] = (
    ("api_key", "ANTHROPIC_API_KEY"),
    ("auth_token", "ANTHROPIC_AUTH_TOKEN"),
)


@dataclass(frozen=True, slots=True)
class CloudSide:
    """The one endpoint that paid requests go to. `auth` says how the key is sent; `proxy` is a URL or ''."""

    endpoint: Endpoint
    model: str
    key: str = field(repr=False)
    auth: Literal["api_key", "auth_token"]
    proxy: str = ""

    @property
    def model_key(self) -> str:
        """What identifies the model in the cache key: endpoints may serve others under the same name."""
        return f"anthropic:{self.endpoint.url}:{self.model}"

    def open(self, settings: Settings) -> Backend:
        """A backend for it; close it."""
        from review_agent.tools.backends.anthropic import AnthropicBackend

        http = make_cloud_client(self.endpoint, stall_seconds=settings.request_timeout, proxy=self.proxy)
        return AnthropicBackend(http, self.endpoint, key=self.key, auth=self.auth)


def effective_mode(settings: Settings) -> Effective:
    """The mode of a run; `auto` is the cloud only for who named its backend. Raises UsageError."""
    if settings.backend == "anthropic":
        if settings.mode in ("local", "hybrid"):
            raise UsageError("errors_cloud.backend_and_mode", mode=settings.mode)
        return "cloud"
    return settings.mode if settings.mode in ("hybrid", "cloud") else "local"


def key_name(environ: Mapping[str, str]) -> str:
    """The variable whose key would be taken; '' = there is none."""
    return next((variable for _, variable in _KEYS if environ.get(variable, "").strip()), "")


def cloud_place(settings: Settings, environ: Mapping[str, str]) -> tuple[Endpoint, str]:
    """Where the cloud of modes hybrid and cloud is, and its model. Raises ConfigError and EndpointRefused."""
    only = settings.backend == "anthropic"  # then `base_url` and `model` are the cloud's
    url = settings.agent_base_url or (settings.base_url if only else "")
    url = url or environ.get("ANTHROPIC_BASE_URL", "").strip() or ANTHROPIC_URL
    model = settings.verify_model or (settings.model if only else "")
    model = model or environ.get("ANTHROPIC_MODEL", "").strip() or DEFAULT_CLOUD_MODEL
    endpoint = make_endpoint(url, settings.allowed_hosts)
    if endpoint.trust is TrustClass.CLOUD and endpoint.url.startswith("http:"):
        raise EndpointRefused("errors_cloud.not_encrypted", url=endpoint.url, host=endpoint.host)
    return endpoint, model


def cloud_side(settings: Settings, environ: Mapping[str, str]) -> CloudSide:
    """The cloud of a run in mode hybrid or cloud. Raises ConfigError and EndpointRefused."""
    endpoint, model = cloud_place(settings, environ)
    for auth, variable in _KEYS:
        if key := environ.get(variable, "").strip():
            return CloudSide(endpoint, model, key, auth, proxy_of(endpoint, environ))
    only = settings.backend == "anthropic"
    what = "--backend anthropic" if only else f"--mode {effective_mode(settings)}"
    raise ConfigError("errors_cloud.no_key", what=what, url=endpoint.url)
