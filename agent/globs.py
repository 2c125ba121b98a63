"""Path globs of the configuration: the patterns of `.gitignore`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from review_agent.agent.errors import ConfigError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


def spec(globs: Sequence[str]) -> GitIgnoreSpec:
    """What the globs match. Raises ConfigError("bad_glob") naming the first that cannot be read."""
    return _spec(tuple(globs))


@cache
def _spec(globs: tuple[str, ...]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    for glob in globs:
        try:
            GitIgnoreSpec.from_lines([glob])
        except (ValueError, re.error) as exc:
            raise ConfigError("bad_glob", glob=glob) from exc
    return GitIgnoreSpec.from_lines(globs)
