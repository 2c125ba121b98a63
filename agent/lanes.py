"""Which units go to the cloud, and what the plan has to know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from review_agent.agent.models import ReviewUnit, Route, RouteKind, SourceFile
from review_agent.agent.planner import CloudLane, Router, Spot
from review_agent.agent.router import Capabilities, Effective, Policy, cloud_tokens, routes
from review_agent.agent.settings import Settings
from review_agent.tools.evidence import is_config
from review_agent.tools.secrets import find_secrets


class BudgetRouter:
    """Routes files batch by batch; what the cloud may cost is spent in the order in which they come."""

    def __init__(self, settings: Settings, capabilities: Capabilities) -> None:
        self._settings = settings
        self._capabilities = capabilities
        self._left = settings.max_cloud_tokens or None

    def __call__(
        self, files: Sequence[SourceFile], units: Mapping[str, Sequence[ReviewUnit]]
    ) -> Mapping[Spot, Route]:
        found = routes(files, units, self._settings, self._capabilities, self._left)
        if self._left is not None:
            spent = [
                cloud_tokens(unit)
                for pieces in units.values()
                for unit in pieces
                if found[unit.path, unit.index].kind is not RouteKind.LOCAL
            ]
            self._left = max(0, self._left - sum(spent))
        return found


def router_of(settings: Settings, *, mode: Effective, local: bool = True) -> Router | None:
    """The router of a run with a cloud side; None in local mode. `local` = a local engine answers."""
    if mode == "local":
        return None
    return BudgetRouter(settings, Capabilities(mode, local, cloud=True))


def cloud_lane(model_key: str, guidance: str, path: str, settings: Settings) -> CloudLane | None:
    """What the plan has to know of the cloud, by `CloudSide.model_key`; None without one.

    Of the repository's guidance, all goes along where its file may, else nothing.
    """
    if not model_key:
        return None
    secret = bool(find_secrets(guidance.split("\n"), config=is_config(path)))
    hidden = Policy.of(settings).hidden(path, has_secret=secret)
    return CloudLane(model_key, "" if hidden else guidance)
