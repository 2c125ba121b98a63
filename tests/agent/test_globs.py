from __future__ import annotations

import pytest

from review_agent.agent.errors import ConfigError
from review_agent.agent.globs import spec


@pytest.mark.parametrize(
    ("globs", "path", "matches"),
    [
        (["*.py"], "a/b.py", True),
        (["src/**"], "src/a/b.ts", True),
        (["src/**"], "lib/src.ts", False),
        (["*.py", "!a.py"], "a.py", False),
        ([], "a.py", False),
    ],
)
def test_globs_match_as_in_gitignore(globs: list[str], path: str, matches: bool) -> None:
    assert spec(globs).match_file(path) is matches


@pytest.mark.parametrize("glob", ["!", "\\", "[z-a]"])
def test_a_glob_that_cannot_be_read_is_named(glob: str) -> None:
    with pytest.raises(ConfigError) as caught:
        spec(["*.py", glob])
    assert (caught.value.key, caught.value.fields) == ("bad_glob", {"glob": glob})
