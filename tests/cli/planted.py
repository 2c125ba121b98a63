"""A repository with things that must not leave: words planted in what the policy hides, and secrets of many formats.

Every line of it is like no other, so that a line which is met elsewhere tells where it comes from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gitrepo import Repo, make_repo
from leaky import FILES as LEAKY
from leaky import SECRETS as LEAKED

LOCAL_ONLY = ("private/**", "*.hidden.py", "vault*/**")
CLOUD_ALLOWED = ("src/**", "docs/**", "AGENTS.md", "legacy/**", "web/**")
GUIDANCE = "AGENTS.md"


def word(at: int) -> str:
    """The planted word of a number: letters only, like nothing else."""
    digest = hashlib.sha256(f"planted {at}".encode()).hexdigest()
    return "zq" + "".join(chr(ord("a") + int(char, 16)) for char in digest[:12])


def code(stem: str, lines: int, *more: str) -> str:
    """Code of which no line is like another's."""
    rows = [f'"""The module {stem} of the shop."""', ""]
    for at in range(lines):
        rows += [f"def {stem}_step{at}(order):", f"    return order.{stem}_total[{at}] * {at + 7}", ""]
    return "\n".join([*rows, *more]) + "\n"


# 30 planted words: 1 to 22 in contents, 23 to 30 in names and history.
WORDS = tuple(word(at) for at in range(1, 31))
MOVED_WORDS = (
    word(20),
    word(21),
)  # in a file that was renamed out of a hidden folder: hidden where that is the change
NAMED = word(23), word(24)  # a file's and a folder's name

# No value stands here whole: programs that look for secrets read this repository, too.
FOUND = (
    "AKIA" + "Z7Q3XW5RT2KP9M4B",
    "xoxb-" + "03307666193-451450612310-DdzfLrjMcgMuxIapYHZaNAR3",
    "sk_live_" + "zlT4BNLZ2mpkGCJNcQAxnV1S",
    "glpat-" + "QUwOgSBEkxGZG2SYE9B2",
    "sk-ant-api03-" + "NNEgeyg1lWIQd9JjbaCIi05fHFWkvQLuR5qREC8tnECJ9InoRJJ5vFQrtK8J1D",
)
REMOVED_SECRET = "ghp_" + "Q9w8E7r6T5y4U3i2O1p0A9s8D7f6G5h4J3k2"
SUBJECT_SECRET = "ghp_" + "M1n2B3v4C5x6Z7l8K9j0H1g2F3d4S5a6P7o8"
NAME_SECRET = "glpat-" + "Zx8vN2xW7pLmRt4Qs6Yb"  # in the name of a file that may be seen
SECRETS = (*LEAKED, *FOUND, REMOVED_SECRET, SUBJECT_SECRET, NAME_SECRET)

VISIBLE: Mapping[str, str] = {
    "src/app.py": code("app", 8),
    "src/cart.py": code("cart", 6),
    "src/money.py": code("money", 90),  # more than one page
    "docs/notes.md": "# Notes of the shop\n\nThe till rounds down to whole cents.\n",
    f"web/{NAME_SECRET}.js": "export function tillSlip(total) {\n  return `${total} in all`;\n}\n",
    GUIDANCE: "Orders are never negative here.\nTotals are kept in whole cents only.\n",
}
HIDDEN: Mapping[str, str] = {
    "private/keys.py": code(
        "keys", 3, f"# {word(1)}", f"{word(2)} = 1", f"def {word(3)}(value): return value"
    ),
    "private/deep/plan.md": f"# Plan {word(4)}\n\nWe will buy {word(5)} next year.\n",
    f"private/{NAMED[0]}.py": code("named", 2, f"x_{word(6)} = '{word(7)}'"),
    f"vault-{NAMED[1]}/box.py": code("box", 2, f"class {word(8)}: pass  # {word(9)}"),
    "src/tax.hidden.py": code("tax", 3, f"RATE_{word(10)} = 3", f"# TODO {word(11)}"),
    "other/notallowed.py": code("notallowed", 3, f"# {word(12)}", f"def {word(13)}(): ..."),
    "other/config.ini": f"[{word(14)}]\nname = {word(15)}\n",
    "src/tokens.py": code("tokens", 2, f'AWS = "{FOUND[0]}"', f"# {word(16)}"),
    "src/slack.go": f'package main\n\nvar slackToken = "{FOUND[1]}"\n\nfunc {word(17)}() int {{ return 17 }}\n',
    "src/pay.ts": f'export const STRIPE_KEY = "{FOUND[2]}";\nexport const {word(18)} = 18;\n',
    "src/ci.yaml": f"gitlab_token: {FOUND[3]}\nstage_{word(19)}: build\n",
    "src/ask.sh": f"export ANTHROPIC_API_KEY={FOUND[4]}\n",
    **{f"src/leaky/{name}": text for name, text in LEAKY.items()},
}
MOVED = "src/moved.py"  # was in private/
MOVED_TEXT = code("moved", 9, f"# {MOVED_WORDS[0]}", f"def {MOVED_WORDS[1]}(): return 20")
CLEANED = "src/cleaned.py"  # held a secret that the change takes out: hidden where that is the change


@dataclass(frozen=True)
class Planted:
    repo: Repo
    base: str
    head: str

    @property
    def root(self) -> Path:
        return self.repo.path

    def hidden(self, kind: str) -> list[str]:
        """Paths of files whose code must not leave in a review of this kind of target."""
        return [*HIDDEN, *((MOVED, CLEANED) if kind == "range" else ())]

    def visible(self, kind: str) -> list[str]:
        return [*VISIBLE, *(() if kind == "range" else (MOVED, CLEANED))]

    def words(self, kind: str) -> list[str]:
        return [one for one in WORDS if kind == "range" or one not in MOVED_WORDS]

    def lines(self, paths: list[str]) -> Iterator[tuple[str, int, str]]:
        """(path, number, text) of each line."""
        for path in paths:
            for number, text in enumerate((self.root / path).read_text(encoding="utf-8").split("\n"), 1):
                yield path, number, text

    def paths(self) -> list[str]:
        """All files, and the folders that they are in."""
        files = [*HIDDEN, MOVED, CLEANED, *VISIBLE, f"private/old_{word(30)}.py"]
        folders = {str(parent) for path in files for parent in Path(path).parents if str(parent) != "."}
        return [*files, *sorted(folders)]


def plant(folder: Path) -> Planted:
    """Two commits of code with more between them, a branch and a merge."""
    repo = make_repo(folder)
    before = {path: text for path, text in VISIBLE.items() if path != "src/cart.py"}
    before["src/app.py"] = VISIBLE["src/app.py"].replace("app_step3", "app_before3")
    old = f"private/old_{word(30)}.py"
    hidden = {
        path: text + f"# gone {word(22)}\n" if path == "private/keys.py" else text
        for path, text in HIDDEN.items()
    }
    with_secret = code("cleaned", 3, f'token = "{REMOVED_SECRET}"')
    base = repo.commit(before | hidden | {old: MOVED_TEXT, CLEANED: with_secret}, f"First of {word(25)}")
    repo.git("mv", old, MOVED)
    repo.commit({CLEANED: code("cleaned", 3)}, f"Move {word(26)} out")
    repo.commit({"private/keys.py": HIDDEN["private/keys.py"]}, f"Drop {word(27)} of keys")
    repo.commit({"src/app.py": VISIBLE["src/app.py"]}, f"Log in with {SUBJECT_SECRET}")
    repo.commit({"src/cart.py": VISIBLE["src/cart.py"]}, "Add the cart of the shop")
    repo.git("checkout", "-q", "-b", f"topic/{word(28)}")
    repo.commit(
        {"src/money.py": VISIBLE["src/money.py"] + "# the last line of money\n"}, "Say where money ends"
    )
    repo.git("checkout", "-q", "main")
    repo.commit(
        {"private/deep/plan.md": HIDDEN["private/deep/plan.md"] + f"Or {word(29)}.\n"}, f"Plan {word(29)}"
    )
    repo.git("merge", "-q", "--no-ff", "-m", f"Merge topic/{word(28)}", f"topic/{word(28)}")
    for path in (
        *HIDDEN,
        "docs/notes.md",
        "src/money.py",
        f"web/{NAME_SECRET}.js",
        GUIDANCE,
    ):  # so that a range has them all
        file = folder / path
        repo.write(
            path,
            file.read_text(encoding="utf-8") + f"# end of {hashlib.sha256(path.encode()).hexdigest()[:8]}\n",
        )
    head = repo.commit({}, f"End files, {word(26)} too")
    return Planted(repo, base, head)
