"""Path globs of the configuration: the patterns of `.gitignore`.

A reviewed repository may bring its own, and names of files that fit them badly: so they are matched by RE2,
in time that is linear in the name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from review_agent.agent.errors import ConfigError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


@dataclass(frozen=True, slots=True)
class Globs:
    """Globs that stand together, as in one `.gitignore`."""

    lines: GitIgnoreSpec

    def match_file(self, path: str) -> bool:
        return self.lines.match_file(_legible(path))


class Pattern(Protocol):
    """A compiled expression, of `re` or RE2."""

    def match(self, text: str) -> Any: ...


def spec(globs: Sequence[str]) -> Globs:
    """What the globs match. Raises ConfigError("bad_glob") naming the first that cannot be read."""
    return _spec(tuple(globs))


@cache
def _spec(globs: tuple[str, ...]) -> Globs:
    from pathspec import GitIgnoreSpec

    for glob in globs:
        try:
            GitIgnoreSpec.from_lines([glob], backend="re2")
        except (ValueError, re.error) as exc:
            raise ConfigError("bad_glob", glob=glob) from exc
    return Globs(GitIgnoreSpec.from_lines(globs, backend="re2"))


def _legible(text: str) -> str:
    """A name that is no Unicode, with a sign for each byte that is none."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def hides(globs: Sequence[str], path: str) -> bool:
    """Whether any of the globs means `path` when in doubt it does.

    Case, Unicode normalisation and invisible characters make no difference, and a `!` takes nothing back: a
    reviewed repository may add globs, and must not lift one of the user's. Raises ConfigError as `spec`.
    """
    return _any(_broad(tuple(globs), negated=False), path)


def allows(globs: Sequence[str], path: str) -> bool:
    """Whether one of the globs means exactly `path`, and none with `!` means it when in doubt it does.

    Raises ConfigError as `spec`.
    """
    wanted = tuple(globs)
    if _any(_broad(wanted, negated=True), path):
        return False
    name = _legible(path)
    return any(pattern.match(name) for glob in wanted for pattern in _patterns(glob, negated=False))


def _any(patterns: Sequence[Pattern], path: str) -> bool:
    names = _spellings(_legible(path))
    return any(pattern.match(name) for pattern in patterns for name in names)


@cache
def _broad(globs: tuple[str, ...], *, negated: bool) -> tuple[Pattern, ...]:
    spec(globs)  # what cannot be read is said, not passed over
    found: dict[Pattern, None] = {}
    for glob in globs:
        for spelling in _spellings(re.sub(r"^(!?)\./", r"\1/", glob)):
            found |= dict.fromkeys(_patterns(spelling, negated=negated, options="(?is)"))
    return tuple(found)


@cache
def _patterns(glob: str, *, negated: bool, options: str = "(?s)") -> tuple[Pattern, ...]:
    """The regular expressions of one glob; () when it has none of this sort or cannot be read.

    A name may hold line breaks, which a dot does not match by itself.
    """
    import re2
    from pathspec import GitIgnoreSpec
    from pathspec.pattern import RegexPattern

    try:
        patterns = GitIgnoreSpec.from_lines([glob]).patterns
    except (ValueError, re.error):  # another spelling of a good one: `[Z-a]` in lower case
        return ()
    return tuple(
        re2.compile(options + pattern.regex.pattern)
        for pattern in patterns
        if isinstance(pattern, RegexPattern) and pattern.regex is not None and pattern.include is not negated
    )


def _spellings(text: str) -> tuple[str, ...]:
    """As written, composed, and folded to what looks the same on a file system that ignores case."""
    visible = "".join(char for char in text if unicodedata.category(char) != "Cf")
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", visible).casefold())
    return tuple(dict.fromkeys((text, unicodedata.normalize("NFC", text), folded)))
