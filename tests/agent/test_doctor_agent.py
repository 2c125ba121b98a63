"""What `doctor` knows of the agent, without asking anybody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from review_agent.agent.commands.doctor_agent import agent_json, agent_lines
from review_agent.agent.doctor_agent import AgentState, Program, Where, look
from review_agent.agent.settings import Settings

LOCAL, KEY = Settings(), "sk-ant-not-to-be-shown"
AGENT = replace(LOCAL, orchestrator="agent")
HYBRID = replace(LOCAL, mode="hybrid")
OFFICIAL = "https://api.anthropic.com"


def looked(settings: Settings, environ: dict[str, str], managed: Path = Path("/nonexistent")) -> AgentState:
    return look(settings, environ, managed)[0]


@pytest.mark.parametrize(
    ("settings", "environ", "run"),
    [
        (LOCAL, {}, None),
        (LOCAL, {"ANTHROPIC_API_KEY": KEY}, None),  # a key is no consent
        (replace(HYBRID, orchestrator="direct"), {"ANTHROPIC_API_KEY": KEY}, None),
        (AGENT, {"ANTHROPIC_BASE_URL": "https://evil.example"}, Where("local", "", "loopback", "")),
        (
            replace(AGENT, agent_base_url="http://localhost:1", verify_model="big"), {},
            Where("local", "http://localhost:1", "loopback", "big"),
        ),
        (
            replace(AGENT, agent_base_url="http://box:1", allowed_hosts=("box",)), {},
            Where("local", "http://box:1", "lan", ""),
        ),
        (replace(AGENT, agent_base_url="http://box:1"), {}, None),  # a run refuses it
        (HYBRID, {}, Where("hybrid", OFFICIAL, "cloud", "claude-sonnet-5-5")),
        (
            HYBRID, {"ANTHROPIC_BASE_URL": "http://127.0.0.1:4000", "ANTHROPIC_MODEL": "glm-5"},
            Where("hybrid", "http://127.0.0.1:4000", "cloud", "glm-5"),  # a gateway may send it on
        ),
        (replace(LOCAL, backend="anthropic", model="m"), {}, Where("cloud", OFFICIAL, "cloud", "m")),
        (replace(HYBRID, backend="anthropic"), {}, None),  # which is an error of its own
    ],
)  # fmt: skip
def test_where_the_agent_of_a_run_is(settings: Settings, environ: dict[str, str], run: Where | None) -> None:
    assert looked(settings, environ).run == run


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, ""),
        ({"ANTHROPIC_API_KEY": " "}, ""),
        ({"ANTHROPIC_API_KEY": KEY}, "ANTHROPIC_API_KEY"),
        ({"ANTHROPIC_AUTH_TOKEN": KEY}, "ANTHROPIC_AUTH_TOKEN"),
        ({"ANTHROPIC_AUTH_TOKEN": "x", "ANTHROPIC_API_KEY": KEY}, "ANTHROPIC_API_KEY"),
    ],
)
@pytest.mark.parametrize("lang", ["zh-CN", "en"])
def test_a_key_is_named_and_never_shown(environ: dict[str, str], name: str, lang: str) -> None:
    state = looked(HYBRID, environ)
    lines = agent_lines(state, lang)
    assert (state.key, f"`{name or 'ANTHROPIC_API_KEY'}`" in lines[-1]) == (name, True)
    assert KEY not in repr(state) + "".join(lines) + str(agent_json(state))


def test_the_versions_are_those_that_are_installed() -> None:
    """Read without importing the package, which takes seconds."""
    import claude_agent_sdk
    from claude_agent_sdk._cli_version import __cli_version__

    assert looked(LOCAL, {}).program == Program(claude_agent_sdk.__version__, __cli_version__)


@pytest.mark.parametrize(
    ("files", "problems"),
    [
        ((), []),
        (("managed-settings.json",), ["managed_settings"]),
        (("managed-settings.d",), ["managed_settings"]),
        (("managed-mcp.json", "managed-settings.json"), ["managed_settings", "managed_mcp"]),
        (("CLAUDE.md",), []),
    ],
)
def test_what_an_administrator_has_put_there_is_warned_of(
    files: tuple[str, ...], problems: list[str], tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    state, wrong = look(LOCAL, {}, tmp_path)
    assert [error.key for error in wrong] == [f"doctor_agent_problems.{key}" for key in problems]
    assert [error.fields["path"] for error in wrong] == list(state.managed)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (AgentState(Program("", ""), None, None, "", ()), ["没有安装"]),
        (AgentState(Program("1", ""), None, None, "", ()), ["缺少自带的", "没有智能体", "没有设置"]),
        (
            AgentState(Program("1", "2"), None, Where("hybrid", OFFICIAL, "cloud", "m"), "K", ()),
            ["`claude` 2", "没有智能体", f"{OFFICIAL}（云端", "`K` 已设置"],
        ),
        (
            AgentState(Program("1", "2"), Where("local", "", "loopback", ""), None, "", ()),
            ["`claude` 2", "本地引擎自己的地址（本机，代码不离开），模型 与本地引擎相同", "没有设置"],
        ),
    ],
    ids=["no sdk", "no program", "hybrid", "local"],
)
def test_what_is_said(state: AgentState, words: list[str]) -> None:
    lines = agent_lines(state, "zh-CN")
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))
