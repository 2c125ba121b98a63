from __future__ import annotations

import pytest

from review_agent.agent.errors import ConfigError
from review_agent.agent.globs import allows, hides, spec


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


def test_no_glob_of_a_repository_makes_matching_slow() -> None:
    """A matcher that tries every way to share out the stars would not come back."""
    globs, name = ["*a" * 40 + "b"], "a" * 300
    assert not spec(globs).match_file(name)
    assert not hides(globs, name)
    assert not allows(globs, name)


def test_names_that_are_no_unicode_match() -> None:
    assert spec(["*.py"]).match_file("x\udcff.py")
    assert hides(["x?.py"], "x\udcff.py")
    assert not allows(["y*"], "x\udcff.py")
