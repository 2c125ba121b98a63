"""What of the environment reaches the program: the names on our list, whatever the machine's own may be."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from canaries import canary_server
from converse import running_clis
from scripted_claude import Asked, Calls, Reply, ScriptedClaude, Text
from stage import Stage, talk

from review_agent.agent.models import TrustClass
from review_agent.tools.claude import Limits, Side, environment
from review_agent.tools.endpoints import Endpoint
from review_agent.tools.server import full_name

WORD = "POISONED"
POISONED = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_BEARER_TOKEN_BEDROCK",
    "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_SECRET", "GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN",
    "OPENAI_API_KEY", "HF_TOKEN", "NPM_TOKEN", "SSH_AUTH_SOCK", "DATABASE_URL", "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_MODEL", "ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_BEDROCK_BASE_URL", "ANTHROPIC_UNIX_SOCKET",
    "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY", "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_EXTRA_BODY", "CLAUDE_CODE_REMOTE", "CLAUDE_CODE_SHELL_PREFIX", "CLAUDE_ENV_FILE",
    "CLAUDE_CODE_ENABLE_TELEMETRY", "OTEL_EXPORTER_OTLP_ENDPOINT", "NODE_OPTIONS", "NODE_EXTRA_CA_CERTS",
    "NODE_TLS_REJECT_UNAUTHORIZED", "BUN_OPTIONS", "BUN_INSPECT", "BUN_CONFIG_PRELOAD", "LD_LIBRARY_PATH",
    "PYTHONPATH", "PYTHONSTARTUP", "GIT_DIR", "GIT_SSH_COMMAND", "GIT_CONFIG_COUNT", "BASH_ENV", "ENV", "EDITOR",
    "SHELL", "USER", "LOGNAME", "XDG_CONFIG_HOME", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy",
    "all_proxy", "NO_PROXY", "SSL_CERT_FILE",
)  # fmt: skip
SET_ANEW = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "CLAUDE_CONFIG_DIR",
    "CLAUDE_CODE_SIMPLE",
    "HOME",
    "TMPDIR",
    "IFS",
)
LAUNCHER = {"REVIEW_AGENT_KEEP", "REVIEW_AGENT_PROGRAM", "REVIEW_AGENT_PARENT", "REVIEW_AGENT_PID"}


async def test_nothing_of_the_environment_but_what_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen in the running program."""
    seen: list[dict[str, str]] = []

    def look(asked: Asked) -> Reply:
        seen.extend(one.environ() for one in running_clis())
        return Calls([(full_name("list_units"), {})]) if asked.number == 1 else Text("done")

    with canary_server() as (canary, hits), ScriptedClaude([]) as evil, ScriptedClaude(look) as claude:
        stage = Stage(tmp_path / "stage", canary, hits, evil)
        for name in POISONED + SET_ANEW:
            monkeypatch.setenv(name, f"{WORD}-{name}" if "PROXY" not in name.upper() else canary)
        monkeypatch.setenv("LD_PRELOAD", f"/nonexistent/{WORD}.so")
        with stage.session(claude, []) as (session, _):
            await asyncio.wait_for(talk(session), 45)
            given = session.options.env
        assert (len(seen), hits, evil.everything) == (2, [], [])
    allowed = set(given["REVIEW_AGENT_KEEP"].split(","))
    for environ in seen:
        assert set(environ) <= allowed
        assert not [name for name, value in environ.items() if WORD in value or canary in value]
        assert (environ["ANTHROPIC_BASE_URL"], environ["ANTHROPIC_API_KEY"]) == (claude.url, "dummy")
        assert not set(environ) & (set(POISONED) | LAUNCHER)
    assert WORD not in "".join(f"{asked.text}{asked.headers}" for asked in claude.everything)


@pytest.mark.parametrize("below", ["home", "elsewhere"])
def test_the_folder_that_the_model_is_told_holds_no_name(
    below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, other = tmp_path / "home", tmp_path / "elsewhere"
    (tmp_path / below / "tmp").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(tmp_path / below / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)  # it remembers
    with ScriptedClaude([]) as claude:
        stage = Stage(tmp_path / "stage", "", [], claude)
        with stage.session(claude, []) as (session, _):
            folder = Path(str(session.options.cwd))
            assert not folder.is_relative_to(home)
            assert folder.is_relative_to(other) is (below == "elsewhere")
        assert not folder.exists()


@pytest.mark.parametrize(
    ("trust", "proxy"),
    [(TrustClass.LOOPBACK, ""), (TrustClass.LAN, ""), (TrustClass.CLOUD, "http://proxy.example")],
)
def test_a_proxy_is_for_the_cloud(trust: TrustClass, proxy: str, tmp_path: Path) -> None:
    side = Side(Endpoint("http://model.example", trust), "m", "dummy")
    given = environment(side, Limits(3), tmp_path, {"HTTPS_PROXY": "http://proxy.example"})
    assert given["HTTPS_PROXY"] == proxy
    assert ("HTTPS_PROXY" in given["REVIEW_AGENT_KEEP"].split(",")) is bool(proxy)


@pytest.mark.parametrize("auth", ["api_key", "auth_token"])
def test_one_key_and_no_other(auth: str, tmp_path: Path) -> None:
    side = Side(Endpoint("http://model.example", TrustClass.CLOUD), "m", "dummy", auth)
    theirs = {"ANTHROPIC_API_KEY": "other", "ANTHROPIC_AUTH_TOKEN": "other"}
    given = environment(side, Limits(3), tmp_path, theirs)
    names = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
    assert [given[name] for name in names] == (["dummy", ""] if auth == "api_key" else ["", "dummy"])
