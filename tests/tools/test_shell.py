"""The command gate: which command lines may run, as the corpus of attacks and a table of ours say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from review_agent.agent.errors import CommandRefused
from review_agent.tools.files import FileGate
from review_agent.tools.shell import CommandGate
from review_agent.tools.shell_grammar import MAX_CHARS

CORPUS = Path(os.environ.get("REVIEW_AGENT_CORPUS") or Path(__file__).parents[1] / "corpus") / "commands"
ROWS = [
    json.loads(line)
    for path in sorted(CORPUS.glob("*.jsonl"))
    for line in path.read_text(encoding="utf-8").splitlines()
]
ATTACKS = [row for row in ROWS if row["verdict"] == "deny"]
HARMLESS = [row for row in ROWS if row["verdict"] == "allow"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    (root / "src").mkdir(parents=True)
    for name in ("README.md", "src/app.py", "src/util.py", "-rf", "[x].py"):
        (root / name).write_text("x\n")
    (tmp_path / "secret").write_text("S")
    (root / "leak").symlink_to("../secret")
    (root / "out").symlink_to("..")
    return root


@pytest.fixture
def gate(root: Path) -> CommandGate:
    return CommandGate(FileGate(root))


def key(gate: CommandGate, source: str) -> str:
    """Why a command is refused, "" when it is not."""
    try:
        gate.plan(source)
    except CommandRefused as exc:
        return exc.key.removeprefix("policy.")
    return ""


def argvs(gate: CommandGate, source: str) -> list[list[str]]:
    return [list(process.argv) for step in gate.plan(source) for process in step.processes]


@pytest.mark.parametrize("row", ATTACKS, ids=lambda row: row["id"])
def test_attacks_are_refused(gate: CommandGate, row: dict[str, str]) -> None:
    assert key(gate, row["cmd"]), row["why"]


def test_harmless_commands_are_allowed(gate: CommandGate) -> None:
    refused = {row["id"]: (row["cmd"], why) for row in HARMLESS if (why := key(gate, row["cmd"]))}
    print(f"{len(HARMLESS) - len(refused)} of {len(HARMLESS)} harmless commands allowed; refused: {refused}")
    assert len(refused) <= 0.02 * len(HARMLESS), refused


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "empty"), ("   ", "empty"), ("a" * (MAX_CHARS + 1), "too_long"), ("echo " + "x " * 400, "too_long"),
        ("ls\n", "character"), ("ls\tx", "character"), ("ls\0", "character"), ("ls \ud800", "character"),
        ("ls $x", "character_unquoted"), ("ls {a,b}", "character_unquoted"), ("ls #x", "character_unquoted"),
        ('echo "$x"', "character_unquoted"), ('echo "`x`"', "character_unquoted"), ("r\\m x", "character_unquoted"),
        ("ls &", "operator"), ("ls |& cat", "operator"), ("cat <x", "redirect"), ("ls > x", "redirect"), ("ls>x", "redirect"),
        ("! ls", "construct"), ("(ls)", "character_unquoted"), ("if ls", "construct"),
        ("ls |", "syntax"), ("| ls", "construct"), ("ls && && ls", "construct"), ("ls ;; ls", "construct"),
        ("cat ~/x", "home"), ("ls --x=~", "home"),
        ("'rm' x", "command"), ("LS", "command"), ("./ls", "command"), ("l*", "command"), ("bash -c ls", "command"),
        ("ls --zzz", "option"), ("ls --al", "option"), ("ls -Z", "option"), ("tail -f x", "option"),
        ("ls --all=x", "no_value"), ("head -n", "value_missing"), ("head -n x", "value"), ("sort -k -f README.md", "value_dash"),
        ("uniq a b", "operand"), ("pwd x", "operand"), ("git branch x", "operand"), ("git tag x", "operand"),
        ("grep", "pattern_missing"), ("sed", "pattern_missing"), ("rg", "pattern_missing"),
        ("cat", "input"), ("grep x", "input"), ("sort -u", "input"), ("cat -", "input"), ("sed -n 1p", "input"), ("tr a b", "input"),
        ("cat leak", "path"), ("cat out/secret", "path"), ("cat ../secret", "path"), ("cat .git/config", "path"),
        ("cat src/../../secret", "path"), ('cat ""', "path"), ("cat out/*", "path"), ("find out", "path"),
        ("cd .. && ls", "path"), ("cd out && ls", "path"), ("cd src/../.. && ls", "path"), ("git diff /etc/passwd x", "path"),
        ("git log -- ../x", "path"), ("realpath --relative-to=.. src", "path"), ("find . -newer ../secret", "path"),
        ("cd src", "cd_alone"), ("cd src; cat ../../secret", "path"), ("cd src; cat ../secret", "path"), ("cd src && cd ..; ls", "cd_place"), ("cd src; cd ..", "cd_place"), ("ls && cd src && ls", "cd_place"), ("cd && ls", "cd_place"),
        ("cd - && ls", "cd_place"), ("cd src | ls", "cd_place"), ("cd src | ls && ls", "cd_place"), ("cd src 2>&1 && ls", "cd_place"), ("cd src || ls", "cd_place"), ("cd * && ls", "cd_place"),
        ("git", "git_command"), ("git push", "git_command"), ("git stash pop", "git_command"), ("git stash", "git_command"),
        ("git -C src log", "option"), ("git -c a=b log", "option"), ("git --git-dir=x log", "option"),
        ("git log --output=x", "option"), ("git log -oX", "option"), ("git diff --no-index a b", "option"),
        ("git log --format=%G?", "value"), ("git for-each-ref --format=%(signature)", "character_unquoted"),
        ("git for-each-ref '--format=%(signature)'", "value"), ("git status --recurse", "option"),
        ("find . -delete", "option"), ("find . -exec ls ;", "option"), ("find -L .", "option"), ("find . -name", "value_missing"),
        ("sed -i s/a/b/ x", "option"), ("sed 'w x' README.md", "value"), ("sed 's/a/b/w x' README.md", "value"),
        ("sed 's/a/b/e' README.md", "value"), ("sed 'r ../secret' README.md", "value"), ("sed '/[/]e x' README.md", "value"),
        ("sed -n '1p;w x' README.md", "value"), ("sed '1{w x' README.md", "value"), ("sed -e p -f x README.md", "option"),
        ("test -f ../secret", "path"), ("test a = a", "option"),
    ],
)  # fmt: skip
def test_refusals_name_their_reason(gate: CommandGate, source: str, expected: str) -> None:
    assert key(gate, source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("cat -n README.md", [["cat", "-n", "--", "README.md"]]),
        ("cat -- -rf", [["cat", "--", "-rf"]]),
        ("cat *rf", [["cat", "--", "./-rf"]]),  # a name is never an option
        ("wc -l src/*.py", [["wc", "-l", "--", "src/app.py", "src/util.py"]]),
        ("wc -l ./src/a*", [["wc", "-l", "--", "./src/app.py"]]),
        ("wc -l s?c/[a-t]*.py", [["wc", "-l", "--", "src/app.py"]]),
        ("cat '*.py'", [["cat", "--", "*.py"]]),
        ("cat \\[x\\].py", [["cat", "--", "[x].py"]]),
        ("cat no*where", [["cat", "--", "no*where"]]),
        ("head -3 README.md", [["head", "-3", "--", "README.md"]]),
        ("head --lines 3 README.md", [["head", "--lines=3", "--", "README.md"]]),
        ("grep -rn --include=*.py -e x src", [["grep", "-rn", "--include=*.py", "-e", "x", "--exclude-dir=.git", "--exclude=.git", "--", "src"]]),
        ("egrep -c 'a|b' README.md", [["grep", "-E", "-c", "--exclude-dir=.git", "--exclude=.git", "--", "a|b", "README.md"]]),
        ('echo "a\\"b" \'$x\' c"d"e "f$"', [["echo", 'a"b', "$x", "cde", "f$"]]),
        ("cd src && cat app.py | sort", [["cat", "--", "app.py"], ["sort", "--"]]),
        ("cat README.md | grep -v x -", [["cat", "--", "README.md"], ["grep", "-v", "--exclude-dir=.git", "--exclude=.git", "--", "x", "-"]]),
        ("find src '(' -name '*.py' -o -type d ')' ! -empty", [["find", "-P", "./src", "(", "-name", "*.py", "-o", "-type", "d", ")", "!", "-empty"]]),
        ("sed -nE '1,3p;/x/p' README.md", [["sed", "-n", "-E", "-e", "1,3p;/x/p", "--", "README.md"]]),
        ("sed -n -e 1p -e 2p README.md", [["sed", "-n", "-e", "1p", "-e", "2p", "--", "README.md"]]),
        ("git --no-pager log -n3 HEAD~2.. -- src", [["git", "--no-pager", "log", "-n3", "--no-ext-diff", "--no-textconv", "--submodule=short", "HEAD~2..", "--", "src"]]),
        ("git show HEAD@{1}:src/app.py", [["git", "show", "--no-ext-diff", "--no-textconv", "--submodule=short", "HEAD@{1}:src/app.py"]]),
        ("git --version", [["git", "version"]]),
        ("test ! -f README.md && echo no", [["test", "!", "-f", "README.md"], ["echo", "no"]]),
    ],
)  # fmt: skip
def test_what_would_be_started(gate: CommandGate, source: str, expected: list[list[str]]) -> None:
    assert argvs(gate, source) == expected


def test_paths_are_those_of_the_folder_gone_to(gate: CommandGate) -> None:
    step, after = gate.plan("cd src && cat ../README.md a*; ls .")
    assert (step.folder, after.folder, after.after) == ("src", "src", ";")
    assert step.processes[0].argv == ("cat", "--", "../README.md", "app.py")
    assert key(gate, "cd src && cat ../../secret") == "path"
    assert gate.plan("cd src && cd .. && ls")[0].folder == "src/.."
    assert [step.folder for step in gate.plan("cd src; ls; cat app.py")] == ["src", "src"]


@pytest.mark.parametrize("text", ["git log", "GIT  LOG", " log -p "])
def test_blocked_commands_are_refused_first(root: Path, text: str) -> None:
    source = "git  log -p src"
    assert key(CommandGate(FileGate(root)), source) == ""
    assert key(CommandGate(FileGate(root), [text]), source) == "blocked"
    assert key(CommandGate(FileGate(root), ["rm -rf", "", " "]), source) == ""


@given(st.text(max_size=60) | st.lists(st.sampled_from(["ls", "cat", "|", "&&", "'", '"', "\\", "*", "-n", "$(", ">", " ", "[", "git", "log", "~", "é"]), max_size=20).map(" ".join))  # fmt: skip
def test_any_text_gets_a_verdict(source: str) -> None:
    assert key(CommandGate(FileGate(Path(__file__).parent)), source) is not None
