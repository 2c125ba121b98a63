"""`route`: what is said of files and folders, in and outside of repositories, under which settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from driver import Cli
from gitrepo import Repo, make_repo

KEY = "A" + "KIAZ7QXN3VWPL5D2R6T"  # looks like a key of a cloud; nobody's
LONG = "".join(f"total = total + {number}\n" for number in range(2000))
FILES: dict[str, str | bytes] = {
    "src/billing/pay.py": "eval(x)\n",
    "src/login.py": "eval(x)\n",
    "src/key.py": f"eval(x)\nkey = '{KEY}'\n",
    "src/long.py": LONG,
    "db/schema.SQL": "select 1;\n",
    "README.md": "text\n",
    "logo.png": b"\x89PNG\r\n\x1a\n\0\0",
}
USER = 'local_only = ["*.sql"]\nmax_cloud_tokens = 100000\n'
TEAM = 'local_only = ["src/billing/**"]\nmode = "cloud"\ncloud_allowed = ["none"]\n'


@pytest.fixture
def repo(cli: Cli, tmp_path: Path) -> Repo:
    config = cli.home / "config" / "review-agent"
    config.mkdir(parents=True)
    (config / "config.toml").write_text(USER)
    repo = make_repo(tmp_path / "repo")
    repo.commit({**FILES, ".review-agent.toml": TEAM})
    return repo


def ask(cli: Cli, *args: str | Path, cwd: Path | None = None) -> dict[str, object]:
    done = cli.run("route", *args, "--json", cwd=cwd)
    assert (done.returncode, done.stderr) == (0, b"")
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def said(answer: dict[str, object]) -> dict[str, tuple[str, bool, str]]:
    units = answer["units"]
    assert isinstance(units, list)
    return {unit["path"]: (unit["route"], unit["visible"], unit["reason"]) for unit in units}


HYBRID = {
    "src/billing/pay.py": ("local", False, "routes.local_only"),
    "src/login.py": ("hybrid", True, "routes.security"),
    "src/key.py": ("local", False, "routes.secret"),
    "src/long.py": ("local", True, "routes.usual"),
    "db/schema.SQL": ("local", False, "routes.local_only"),
    "README.md": ("local", True, "routes.simple"),
    ".review-agent.toml": ("local", True, "routes.simple"),
}


def test_a_repository_in_hybrid_mode(cli: Cli, repo: Repo) -> None:
    answer = ask(cli, repo.path, "--mode", "hybrid")
    assert (answer["mode"], said(answer)) == ("hybrid", HYBRID)
    assert [result["path"] for result in answer["skipped"]] == ["logo.png"]  # type: ignore[attr-defined]


def test_cloud_mode_sends_what_the_policy_allows(cli: Cli, repo: Repo) -> None:
    sent = {
        path for path, (kind, _, _) in said(ask(cli, repo.path, "--mode", "cloud")).items() if kind == "cloud"
    }
    assert sent == {path for path, (_, visible, _) in HYBRID.items() if visible}


@pytest.mark.parametrize("options", [(), ("--mode", "local"), ("--mode", "auto")])
def test_what_the_repository_asks_for_chooses_no_cloud(
    cli: Cli, repo: Repo, options: tuple[str, ...]
) -> None:
    answer = ask(cli, repo.path, *options)
    assert answer["mode"] == "local"
    assert set(said(answer).values()) == {("local", False, "routes.mode_local")}


@pytest.mark.parametrize("name", [*HYBRID, "src/../src/login.py"])
def test_one_file_is_answered_as_in_its_repository(cli: Cli, repo: Repo, name: str) -> None:
    path = name.replace("src/../", "")
    assert said(ask(cli, name, "--mode", "hybrid", cwd=repo.path)) == {path: HYBRID[path]}
    assert said(ask(cli, repo.path / name, "--mode", "hybrid")) == {path: HYBRID[path]}


def test_files_and_folders_together_are_named_once(cli: Cli, repo: Repo) -> None:
    answer = ask(cli, "src/billing", "src/billing/pay.py", "logo.png", "--mode", "hybrid", cwd=repo.path)
    assert list(said(answer)) == ["src/billing/pay.py"]
    assert [result["reason"] for result in answer["skipped"]] == ["binary"]  # type: ignore[attr-defined]


def test_units_that_go_one_way_are_one_row(cli: Cli, repo: Repo) -> None:
    answer = ask(cli, repo.path / "src/long.py", "--mode", "hybrid")
    assert [unit["lines"] for unit in answer["units"]] == [[1, 2000]]  # type: ignore[attr-defined]


def test_the_budget_ends_inside_a_file(cli: Cli, repo: Repo) -> None:
    path = repo.path / "src/long.py"
    few = cli.run("route", path, "--mode", "cloud", "--json", REVIEW_AGENT_MAX_CLOUD_TOKENS="6000")
    rows = json.loads(few.stdout)["units"]
    assert [row["reason"] for row in rows] == ["routes.mode_cloud", "routes.budget"]
    assert (rows[0]["lines"][0], rows[0]["lines"][1] + 1, rows[1]["lines"][1]) == (
        1,
        rows[1]["lines"][0],
        2000,
    )


def test_outside_of_git_a_folder_has_its_own_rules(cli: Cli, repo: Repo, tmp_path: Path) -> None:
    plain, other = tmp_path / "plain", tmp_path / "other"
    for folder in (plain, other):
        (folder / "src/billing").mkdir(parents=True)
        (folder / "src/billing/pay.py").write_text("eval(x)\n")
    (plain / ".review-agent.toml").write_text('local_only = ["/src/billing/"]\n')
    hidden, shown = HYBRID["src/billing/pay.py"], HYBRID["src/login.py"]
    config = HYBRID[".review-agent.toml"]
    here = ask(cli, ".", "--mode", "hybrid", cwd=plain)
    assert said(here) == {"src/billing/pay.py": hidden, ".review-agent.toml": config}
    file = ask(cli, "src/billing/pay.py", "--mode", "hybrid", cwd=plain)
    assert said(file) == {"src/billing/pay.py": hidden}
    both = ask(cli, "plain", "other", "--mode", "hybrid", cwd=tmp_path)
    assert said(both) == {
        "plain/src/billing/pay.py": hidden,
        "plain/.review-agent.toml": config,
        "other/src/billing/pay.py": shown,
    }


def test_every_file_that_is_named_is_answered(cli: Cli, repo: Repo) -> None:
    done = cli.run("route", repo.path, "--mode", "hybrid", "--json", REVIEW_AGENT_MAX_FILES="1")
    assert said(json.loads(done.stdout)) == HYBRID


def test_two_names_never_look_the_same(cli: Cli, repo: Repo) -> None:
    repo.write("src/a b.md", "text\n")
    repo.write("src/a\nb.md", "text\n")
    text = cli.run("route", "src", cwd=repo.path).stdout.decode()
    assert "\nsrc/a b.md " in text
    assert "\nsrc/a\\x0ab.md " in text


def test_a_link_is_not_followed(cli: Cli, repo: Repo, tmp_path: Path) -> None:
    (repo.path / "link.py").symlink_to(tmp_path / "secret.py")
    answer = ask(cli, repo.path / "link.py")
    assert (answer["units"], [row["reason"] for row in answer["skipped"]]) == ([], ["symlink"])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("args", "code"), [(["nowhere.py"], 2), (["src", "nowhere"], 2), ([], 2), (["src", "--mode", "x"], 2)]
)
def test_what_cannot_be_answered(cli: Cli, repo: Repo, args: list[str], code: int) -> None:
    done = cli.run("route", *args, cwd=repo.path)
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.decode().startswith("错误：")


def test_the_table_speaks_chinese_and_hides_what_a_name_holds(cli: Cli, repo: Repo) -> None:
    repo.write(f"src/\x1b[31m-{KEY}.md", "text\n")
    text = cli.run("route", repo.path, "--mode", "hybrid").stdout.decode()
    assert text.startswith("方式：hybrid（本地模型审查，云端的智能体核对）\n")
    assert "匹配 `local_only`，代码不会发往云端" in text
    assert "不审查 logo.png：" in text
    assert KEY not in text
    assert "\x1b" not in text
    assert KEY not in cli.run("route", repo.path, "--mode", "hybrid", "--json").stdout.decode()
