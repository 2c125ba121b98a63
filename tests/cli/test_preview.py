"""`run --preview`: routes, tokens and cost of a run in each mode, without a word to the cloud."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driver import Cli, Server
from gitrepo import make_repo
from netaudit import Canary, read_trace, under_strace

Start = Callable[..., Server]
KEY = "A" + "KIAZ7QXN3VWPL5D2R6T"  # looks like a key of a cloud; nobody's
LIST_PRICE = {"ANTHROPIC_MODEL": "claude-sonnet-5-5"}


@pytest.fixture
def canary() -> Iterator[Canary]:
    made = Canary()
    yield made
    made.close()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = make_repo(tmp_path / "repo")
    repo.commit(
        {
            "src/login.py": "eval(x)\n",
            "src/billing/pay.py": "eval(x)\n",
            "src/key.py": f"eval(x)\nkey = '{KEY}'\n",
            "README.md": "text\n",
            ".review-agent.toml": 'local_only = ["src/billing/**"]\nexclude = [".review-agent.toml"]\n',
        }
    )
    return repo.path


def preview(cli: Cli, *args: str | Path, **extra: str) -> str:
    done = cli.run("run", *args, "--preview", **extra)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def rows(text: str) -> dict[str, tuple[str, str]]:
    """Route and reason of each path."""
    found = re.findall(r"^ +\d+ +\d+ 行 .* token  (\S+)  (\S+)（(.+)）$", text, re.MULTILINE)
    return {path: (route, reason) for route, path, reason in found}


HYBRID = {
    "src/login.py": ("本地和智能体", "与安全有关，由智能体再核对一遍"),
    "src/billing/pay.py": ("本地", "匹配 `local_only`，代码不会发往云端"),
    "src/key.py": ("本地", "文件里有密钥，代码不会发往云端"),
    "README.md": ("本地", "文字、配置、普通测试或很小的改动，本地模型足够"),
}


def test_hybrid_shows_each_route_and_what_the_agent_may_cost(cli: Cli, repo: Path) -> None:
    text = preview(cli, repo, "--mode", "hybrid", **LIST_PRICE)
    assert rows(text) == HYBRID
    assert "\n本地：3 个单元，约 " in text
    assert "\n本地和智能体：1 个单元，约 " in text
    assert "云端：0" not in text
    assert "云端：api.anthropic.com，模型 claude-sonnet-5-5" in text
    assert re.search(r"智能体：.*按 5 至 50 轮粗略估算，.*约 \d+\.\d\d–\d+\.\d\d 美元", text)
    assert "云端分析" not in text


def test_without_an_agent_none_is_counted(cli: Cli, repo: Path) -> None:
    text = preview(cli, repo, "--mode", "cloud", "--orchestrator", "direct", **LIST_PRICE)
    assert "云端分析：1 个请求" in text
    assert "轮粗略估算" not in text


def test_an_agent_that_is_asked_for_by_name_may_be_anywhere_in_the_cloud(cli: Cli, repo: Path) -> None:
    elsewhere = {"REVIEW_AGENT_AGENT_BASE_URL": "https://gateway.example/anthropic"}
    text = preview(cli, repo, "--mode", "hybrid", "--orchestrator", "agent", **elsewhere)
    assert "云端：gateway.example" in text


def test_cloud_shows_what_its_analysis_costs(cli: Cli, repo: Path) -> None:
    text = preview(cli, repo, "--mode", "cloud", **LIST_PRICE)
    assert {path: route for path, (route, _) in rows(text).items()} == {
        "src/login.py": "云端", "src/billing/pay.py": "本地", "src/key.py": "本地", "README.md": "云端",
    }  # fmt: skip
    assert "本地引擎 1 个请求" in text
    assert re.search(r"云端分析：1 个请求，.*写出约 800 token.*约 \d+\.\d\d 美元.*不含智能体轮次", text)


@pytest.mark.parametrize(
    "extra",
    [
        {"ANTHROPIC_MODEL": "claude-unheard-of"},
        {**LIST_PRICE, "ANTHROPIC_BASE_URL": "https://gateway.example/anthropic"},
        {**LIST_PRICE, "REVIEW_AGENT_AGENT_BASE_URL": "https://gateway.example/anthropic"},
        {**LIST_PRICE, "REVIEW_AGENT_VERIFY_MODEL": "glm-4.6"},
    ],
)
def test_no_price_is_guessed(cli: Cli, repo: Path, extra: dict[str, str]) -> None:
    text = preview(cli, repo, "--mode", "cloud", **extra)
    assert text.count("费用未知") == 2
    assert "美元" not in text


def test_limits_are_shown_and_heeded(cli: Cli, repo: Path) -> None:
    text = preview(cli, repo, "--mode", "cloud", "--max-cloud-tokens", "1", "--max-turns", "3", **LIST_PRICE)
    assert "云端的 token 预算：1\n" in text
    assert {route for route, _ in rows(text).values()} == {"本地"}
    assert "按 3 至 3 轮" in text


def test_local_mode_speaks_of_no_cloud(cli: Cli, repo: Path) -> None:
    text = preview(cli, repo)
    assert "方式：local" in text
    assert "云端" not in text
    assert "美元" not in text


def test_a_backend_in_the_cloud_needs_no_local_engine(cli: Cli, repo: Path) -> None:
    place = ("--base-url", "https://gateway.example", "--model", "glm-5")
    text = preview(cli, repo, "--mode", "cloud", "--backend", "anthropic", *place, **LIST_PRICE)
    assert "云端：gateway.example，模型 glm-5" in text
    assert "目前没有可用的引擎（所选的后端只用云端，本机没有引擎）" in text
    assert rows(text)["src/login.py"][0] == "云端"


def test_what_the_local_model_said_is_not_known_of_the_cloud(
    cli: Cli, repo: Path, start_server: Start
) -> None:
    url = start_server().url
    cli.json("run", repo, "--base-url", url)
    assert "4 个单元沿用已有结果" in preview(cli, repo, "--base-url", url, "--mode", "hybrid")
    text = preview(cli, repo, "--base-url", url, "--mode", "cloud")
    assert "2 个单元沿用已有结果，本地引擎 0 个请求" in text
    assert "云端分析：1 个请求" in text


@pytest.mark.parametrize("mode", ["hybrid", "cloud"])
def test_nothing_is_sent_but_to_the_local_engine(
    mode: str, cli: Cli, repo: Path, start_server: Start, canary: Canary, tmp_path: Path
) -> None:
    server = start_server()
    away = f"http://127.0.0.1:{canary.port}"
    named = {name: away for name in ("ANTHROPIC_BASE_URL", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")}
    environment = cli.environment(**named, ANTHROPIC_API_KEY="dummy", ANTHROPIC_AUTH_TOKEN="dummy")
    for what in (["route", str(repo)], ["run", str(repo), "--preview", "--base-url", server.url]):
        folder = tmp_path / what[0]
        argv = under_strace(folder, cli.argv(*what, "--mode", mode))
        done = subprocess.run(argv, env=environment, cwd=cli.home, capture_output=True, timeout=90)
        assert done.returncode == 0, done.stderr.decode()
        port = int(server.url.rpartition(":")[2])
        assert read_trace(folder).sent == ({("127.0.0.1", port)} if what[0] == "run" else set())
    assert server.requests() == []
    assert canary.hits() == 0
