"""The guards of a session, one by one: what each denies, and that the next denies where one is gone.

Every action is one that an attacker would like, tried in a repository that was written to take over its reviewer. The
tables name who denied it: `absent` there is no such tool, `hook` our guard before each call, `restricted` and `mode` the
program, `tool` our tool itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from canaries import canary_server
from claude_agent_sdk import ClaudeAgentOptions, HookMatcher
from converse import STRICT, denial
from scripted_claude import ScriptedClaude
from stage import OFFERED, OUTSIDE, PASSWD, VISIBLE, Row, Stage, talk

from review_agent.agent.errors import UsageError
from review_agent.tools.claude import check_guards
from review_agent.tools.server import NAME, full_name

WIDTH = 28  # of the first column
ONE = """
guard removed               passwd     beside     Grep       Bash       Write      WebFetch   server     unoffered  hidden     ../        allowed
-                           absent     absent     absent     absent     absent     absent     absent     absent     hook       hook       done
tools                       hook       hook       hook       hook       hook       hook       absent     absent     hook       hook       done
allowed                     absent     absent     absent     absent     absent     absent     absent     absent     hook       hook       done
settings                    absent     absent     absent     absent     absent     absent     absent     absent     hook       hook       done
strict                      absent     absent     absent     absent     absent     absent     absent     absent     hook       hook       done
folder                      absent     absent     absent     absent     absent     absent     absent     absent     hook       hook       done
restricted                  absent     absent     absent     absent     absent     absent     absent     absent     hook       hook       done
prompts                     absent     absent     absent     absent     absent     absent     absent     absent     hook       hook       done
mode                        absent     absent     absent     absent     absent     absent     absent     absent     hook       hook       done
hook                        absent     absent     absent     absent     absent     absent     absent     absent     tool       tool       done
launcher                    absent     absent     absent     absent     absent     absent     absent     absent     hook       hook       done
offered                     absent     absent     absent     absent     absent     absent     absent     hook       hook       hook       done
check                       absent     absent     absent     absent     absent     absent     absent     absent     hook       hook       done
server                      absent     absent     absent     absent     absent     absent     hook       absent     hook       hook       done
"""
SEVERAL = """
guards removed              passwd     beside     Grep       Bash       Write      WebFetch   server     unoffered  hidden     ../        allowed
folder settings             absent     absent     absent     absent     absent     absent     absent     absent     hook       hook       done
folder strict               absent     absent     absent     absent     absent     absent     absent     absent     hook       hook       done
folder restricted           absent     absent     absent     absent     absent     absent     absent     absent     hook       hook       done
tools allowed server        hook       hook       hook       hook       hook       hook       hook       absent     hook       hook       done
tools hook                  restricted restricted restricted mode       restricted mode       absent     absent     tool       tool       done
tools hook restricted       mode       mode       mode       mode       mode       mode       absent     absent     tool       tool       done
tools hook restricted mode  mode       mode       mode       mode       mode       mode       absent     absent     tool       tool       done
hook offered server         absent     absent     absent     absent     absent     absent     mode       mode       tool       tool       done
hook offered allowed        absent     absent     absent     absent     absent     absent     absent     tool       tool       tool       done
"""


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[list[Stage]]:
    """Two, so that two programs can run at a time."""
    with canary_server() as (canary, hits), ScriptedClaude([]) as evil:
        stages = [Stage(tmp_path / name, canary, hits, evil) for name in ("a", "b")]
        yield stages
        assert (hits, evil.everything) == ([], [])


async def play(stages: Sequence[Stage], table: str) -> dict[tuple[str, ...], Row]:
    """A row for each of the table, by the guards that are removed."""
    wanted = [tuple(line[:WIDTH].split()) for line in table.strip().split("\n")[1:]]
    found: dict[tuple[str, ...], Row] = {}

    async def lane(stage: Stage) -> None:
        while len(found) < len(wanted):
            guards = next((one for one in wanted if one not in taken), None)
            if guards is None:
                return
            taken.add(guards)
            found[guards] = await stage.play([one for one in guards if one != "-"])

    taken: set[tuple[str, ...]] = set()
    await asyncio.gather(*map(lane, stages))
    return {guards: found[guards] for guards in wanted}


def written(table: str, rows: dict[tuple[str, ...], Row]) -> str:
    lines = [
        f"{' '.join(guards):<{WIDTH}}" + " ".join(f"{who:<10}" for who in row.who.values()).rstrip()
        for guards, row in rows.items()
    ]
    return "\n".join([table.strip().split("\n")[0], *lines])


@pytest.mark.parametrize("table", [ONE, SEVERAL], ids=["one removed", "several removed"])
async def test_where_guards_are_removed_the_next_denies(stages: list[Stage], table: str) -> None:
    rows = await play(stages, table)
    print("\n" + written(table, rows))
    assert written(table, rows) == table.strip()
    for guards, row in rows.items():
        assert (guards, row.marks, row.changed, row.seen) == (guards, set(), False, {VISIBLE})
        assert bool(row.heard) is ("hook" not in guards), guards


async def test_without_any_guard_all_of_it_happens(stages: list[Stage]) -> None:
    """So the tables can fail. (WebFetch asks its maker first, and is left out here.)"""
    everything = ("tools", "hook", "restricted", "allowed", "check")
    tried = ("passwd", "beside", "Grep", "Bash", "Write", "hidden", "../")
    row = await stages[0].play(everything, tried)
    ours = {"hidden": "tool", "../": "tool"}  # what a tool gives is what the policy lets be seen, even so
    assert row.who == {name: "done" for name in tried} | ours
    assert (row.marks, row.changed) == ({"Bash"}, True)
    assert row.seen == {OUTSIDE, PASSWD}


async def test_a_session_has_every_guard(stages: list[Stage]) -> None:
    with ScriptedClaude([]) as claude, stages[0].session(claude, []) as (session, _):
        options, folder = session.options, Path(session.options.env["HOME"])
        assert (options.tools, options.setting_sources, options.skills, options.add_dirs) == ([], [], [], [])
        assert (options.strict_mcp_config, options.verbatim_prompts) == (True, True)
        assert (options.permission_mode, options.can_use_tool) == ("dontAsk", None)
        assert options.extra_args == STRICT
        assert options.allowed_tools == [full_name(name) for name in sorted(OFFERED)]
        assert list(options.mcp_servers) == [NAME]
        assert (options.cwd, list((folder / "work").iterdir())) == (folder / "work", [])
        assert options.cli_path == folder / "claude"
        assert [one.on_failure for one in (options.hooks or {})["PreToolUse"]] == ["block"]


# --- the hook


async def raises(call: Any, call_id: str | None, context: Any) -> dict[str, Any]:
    raise RuntimeError("broken")


async def returns_nothing(call: Any, call_id: str | None, context: Any) -> dict[str, Any]:
    return None  # type: ignore[return-value]


async def says_it_wrong(call: Any, call_id: str | None, context: Any) -> dict[str, Any]:
    return denial("no", "Deny")


@pytest.mark.parametrize("broken", [raises, returns_nothing, says_it_wrong])
async def test_a_broken_hook_denies_what_every_other_guard_allows(
    stages: list[Stage], broken: Callable[..., Any]
) -> None:
    """With the hook of a review, as it is matched there, but for what it does."""

    def breaks(options: ClaudeAgentOptions) -> ClaudeAgentOptions:
        (matcher,) = (options.hooks or {})["PreToolUse"]
        return replace(options, hooks={"PreToolUse": [replace(matcher, hooks=[broken])]})

    row = await stages[0].play([], ["allowed"], breaks)
    assert (row.who, row.seen) == ({"allowed": "hook"}, set())


async def test_a_session_does_not_start_without_its_hook(stages: list[Stage]) -> None:
    with ScriptedClaude([]) as claude, stages[0].session(claude, []) as (session, _):
        check_guards(session.options)
        session.options = replace(session.options, extra_args={**session.options.extra_args, "bare": None})
        with pytest.raises(UsageError):
            await talk(session)
    assert claude.everything == []


async def nothing(call: Any, call_id: str | None, context: Any) -> dict[str, Any]:
    return {}


CLOSED = HookMatcher(hooks=[nothing], on_failure="block")


CHECKED: dict[str, tuple[dict[str, Any], bool]] = {
    "as it should be": ({}, True),
    "bare": ({"extra_args": {"bare": None}}, False),
    "simple": ({"env": {"CLAUDE_CODE_SIMPLE": "1"}}, False),
    "simple, in a word": ({"env": {"CLAUDE_CODE_SIMPLE": "true"}}, False),
    "simple, empty": ({"env": {"CLAUDE_CODE_SIMPLE": ""}}, False),
    "simple, inherited": ({"env": {}}, False),
    "no hooks": ({"hooks": None}, False),
    "no hook before a tool": ({"hooks": {"PreToolUse": []}}, False),
    "a hook after a tool": ({"hooks": {"PostToolUse": [CLOSED]}}, False),
    "a matcher without a hook": ({"hooks": {"PreToolUse": [replace(CLOSED, hooks=[])]}}, False),
    "fails open by default": ({"hooks": {"PreToolUse": [replace(CLOSED, on_failure=None)]}}, False),
    "fails open": ({"hooks": {"PreToolUse": [replace(CLOSED, on_failure="continue")]}}, False),
    "one of two fails open": ({"hooks": {"PreToolUse": [CLOSED, replace(CLOSED, on_failure=None)]}}, False),
    "for one tool": ({"hooks": {"PreToolUse": [replace(CLOSED, matcher="Bash")]}}, False),
    "for one tool, and for all": ({"hooks": {"PreToolUse": [CLOSED, replace(CLOSED, matcher="Bash")]}}, True),
}


@pytest.mark.parametrize(("change", "starts"), CHECKED.values(), ids=CHECKED)
def test_what_is_checked_before_a_session_starts(change: dict[str, Any], starts: bool) -> None:
    usual: dict[str, Any] = {"env": {"CLAUDE_CODE_SIMPLE": "0"}, "hooks": {"PreToolUse": [CLOSED]}}
    options = ClaudeAgentOptions(**(usual | change))
    if starts:
        check_guards(options)
    else:
        with pytest.raises(UsageError):
            check_guards(options)
