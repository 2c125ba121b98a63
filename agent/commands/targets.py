"""What `run` is to look at, from its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from review_agent.agent.errors import TargetError
from review_agent.agent.target import Target, make_target


def target_of(given: Mapping[str, object], environ: Mapping[str, str]) -> Target:
    root = root_of(given, environ)
    if given["pr"] is not None:
        from review_agent.agent.commands.pull_request import pull_target

        others = [name for name in ("commit", "staged", "working", "diff_file") if given[name]]
        if others:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in ("pr", *others))
            raise TargetError("target_conflict", options=options)
        return pull_target(root, given, environ)
    return make_target(
        root,
        base=_text(given, "from"),
        head=_text(given, "to"),
        commit=_text(given, "commit"),
        staged=bool(given["staged"]),
        working=bool(given["working"]),
        diff_file=_text(given, "diff_file"),
    )


def root_of(given: Mapping[str, object], environ: Mapping[str, str]) -> Path:
    """The folder to review. A change without a path is the whole repository's, wherever we stand."""
    if given["path"] is not None:
        return Path(str(given["path"]))
    from review_agent.agent.session import trusting

    is_change = any(given[name] for name in ("staged", "working")) or any(
        given[name] is not None for name in ("from", "to", "commit", "pr")
    )
    location = trusting(Target("tree", str(Path.cwd())), environ).repository() if is_change else None
    return location.root if location is not None else Path(".")


def _text(given: Mapping[str, object], name: str) -> str | None:
    value = given[name]
    return str(value) if value is not None else None
