"""Each command of docs/hook.md and docs/hook.en.md is run, and what the pages show is what comes of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from driver import ROOT, Cli, Server
from pushing import CLEAN, FAULTY, Desk, make_desk, script

ZH, EN = (ROOT / "docs" / name for name in ("hook.md", "hook.en.md"))
FOLDER = "你的仓库"
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.M | re.S)
_INLINE = re.compile(r"`((?:review-agent|git|pre-commit) [^`\n]+)`")
# pipx is pip with a virtual environment around it. This pip takes nothing from the network and needs none of what
# is installed already.
_PIPX = """[ "$1" = install ] && shift
exec "{python}" -m pip install --no-index --no-deps --no-build-isolation --no-compile --target "{to}" "$@"
"""
_BUILT = ("agent", "tools", "prompts", "checkpoints", "pyproject.toml", "README.md", "LICENSE", "action.yml")


def blocks(page: Path, kind: str) -> list[str]:
    return [body for each, body in _BLOCK.findall(page.read_text(encoding="utf-8")) if each == kind]


def commands(page: Path) -> list[str]:
    """The lines of shell blocks without comments, and commands in the text; each once."""
    lines = [line.split(" #")[0].strip() for body in blocks(page, "sh") for line in body.splitlines()]
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return list(dict.fromkeys([*filter(None, lines), *_INLINE.findall(text)]))


@dataclass
class Reader:
    """Somebody who does what the page says. `at` is where they stand."""

    desk: Desk
    at: Path
    count: int = 0
    said: dict[str, str] = field(default_factory=dict)

    def type(self, line: str, **extra: str) -> str:
        """The output of a line; a push, and what a hook calls, has a new commit with a fault in it."""
        given = ""
        if "git push" in line or "hook run" in line:
            self.count += 1
            head = self.desk.commit(**{f"n{self.count}": FAULTY.replace("run", f"n{self.count}")})
            given = f"refs/heads/main {head} refs/heads/main {self.desk.remote('main')}\n"
        done = subprocess.run(
            ["sh", "-c", line], cwd=self.at, env=self.desk.environment(**extra), input=given.encode(),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
        )  # fmt: skip
        print(f"$ {line}\n{done.stdout.decode()}")
        assert done.returncode == 0, done.stdout.decode()
        if line.startswith("cd "):
            self.at = self.at / line.removeprefix("cd ")
        return done.stdout.decode()


@pytest.fixture
def reader(cli: Cli, eval_server: Server, tmp_path: Path) -> Reader:
    """A clone of the project beside a repository of their own; GitHub's address leads to this machine."""
    desk = make_desk(cli, tmp_path, eval_server)
    desk.commit(clean=CLEAN)
    desk.git("push", "-q", "-u", "origin", "main")
    desk.tree = desk.tree.rename(tmp_path / FOLDER)
    clone = tmp_path / "review-agent"
    clone.mkdir()
    for name in _BUILT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, clone / name)
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", clone)
    for words in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "release"), ("tag", "v0.0.0")):
        desk.git(*words, at=clone)
    desk.git("config", "--global", f"url.{clone}.insteadOf", "https://github.com/OWNER/review-agent")
    script(tmp_path / "bin" / "pipx", _PIPX.format(python=sys.executable, to=tmp_path / "installed"))
    desk.env["PRE_COMMIT_HOME"] = str(cli.home / "pre-commit")
    desk.env["PATH"] = f"{tmp_path / 'bin'}:{desk.environment()['PATH']}"
    return Reader(desk, tmp_path)


# In the order in which one may type them, with some words of what comes.
STEPS = {
    "pipx install ./review-agent": "Successfully installed review-agent",
    "review-agent doctor": "mock:7b",
    "cd 你的仓库": "",
    "review-agent hook install": "已安装推送钩子",
    "git push": "[中等] n1.py:2",
    "git push --dry-run": "[中等] n2.py:2",
    "REVIEW_AGENT_SKIP=1 git push": "已按 `REVIEW_AGENT_SKIP=1` 跳过",
    "git push --no-verify": "main -> main",
    "review-agent hook run pre-push origin git@example.com:team/app.git": "[中等] n5.py:2",
    "review-agent resume": "",
    "review-agent hook uninstall": "已卸载推送钩子",
    "review-agent config init --user": "config.toml",
    "pre-commit install --hook-type pre-push": "pre-commit installed at",
    "pre-commit install-hooks": "",
    "SKIP=review-agent git push": "Skipped",
}


def test_both_pages_have_the_commands_that_are_run_here() -> None:
    english = [line.replace("cd your-repository", f"cd {FOLDER}") for line in commands(EN)]
    assert set(commands(ZH)) == set(english) == set(STEPS)


def test_the_blocks_of_both_pages_say_the_same() -> None:
    for kind in ("toml", "yaml"):
        bare = [[re.sub(r" *#.*", "", body) for body in blocks(page, kind)] for page in (ZH, EN)]
        assert bare[0] == bare[1] != []


def test_every_command_of_the_pages(reader: Reader) -> None:
    desk = reader.desk
    for line, words in STEPS.items():
        if line == "review-agent resume":  # there is something to go on with
            desk.commit(one=FAULTY.replace("run", "one"), two=FAULTY.replace("run", "two"))
            desk.push("origin", "main", REVIEW_AGENT_MAX_FILES="1")
        if line.startswith("pre-commit install "):
            # The page's own, but for the way the hook is installed: the other would be built from the network.
            text = blocks(ZH, "yaml")[0].replace("id: review-agent ", "id: review-agent-system")
            (desk.tree / ".pre-commit-config.yaml").write_text(text)
        if line.startswith("SKIP="):
            assert "[中等] n" in reader.type("git push")
        assert words in reader.type(line.replace("SKIP=review-agent", "SKIP=review-agent-system"))
    assert (desk.tree.parent / "installed" / "review_agent" / "agent" / "main.py").is_file()


def test_the_hooks_of_the_page_are_in_the_manifest() -> None:
    hooks = {hook["id"] for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    (config,) = (yaml.safe_load(body) for body in blocks(ZH, "yaml"))
    (repo,) = config["repos"]
    assert {hook["id"] for hook in repo["hooks"]} < hooks
    for page in (ZH, EN):
        assert hooks == set(re.findall(r"\breview-agent-system\b|(?<=id: )review-agent\b", page.read_text()))


def test_the_settings_of_the_page_are_understood(pushed_once: Desk) -> None:
    (body,) = blocks(ZH, "toml")
    body = body.replace('"high"', '"medium"')  # what the mock finds
    user = pushed_once.cli.home / "config" / "review-agent" / "config.toml"
    user.parent.mkdir(parents=True)
    user.write_text(body)
    shown = pushed_once.cli.run("config", "show", cwd=pushed_once.tree).stdout.decode()
    for name, value in re.findall(r"(?m)^(\w+) = (\S+)", body):
        assert re.search(rf"{name}\W+{value.strip(chr(34))}\b", shown), name
    pushed_once.commit(faulty=FAULTY)
    assert pushed_once.push("origin", "main").code == 1


def test_what_the_english_page_shows_was_seen(pushed_once: Desk) -> None:
    pushed_once.commit(faulty=FAULTY)
    pushed_once.push("origin", "main", REVIEW_AGENT_LANG="en")
    seen = re.sub(r"in \d+ s", "in <n> s", pushed_once.masked()).replace("示例问题：faulty.py", "…")
    (shown,) = blocks(EN, "text")
    assert set(shown.splitlines()) <= set(seen.splitlines())
