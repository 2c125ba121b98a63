"""Mutation fuzzing of the command gate: what it accepts is run where it can do harm, and must not.

Accepted mutants run twice in a bubblewrap of their own: as bash understands them, and as `CommandRunner` starts
them, without its sandbox. There everything may be written that belongs to the experiment, programs that no
rule names leave a marker, a secret lies beside the repository and links lead to it.

    python tests/fuzz/command_fuzz.py --mutants 50000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from command_mutants import mutants

from review_agent.agent.errors import CommandRefused
from review_agent.tools.files import FileGate
from review_agent.tools.shell import CommandGate

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CORPUS = Path(os.environ.get("REVIEW_AGENT_CORPUS") or HERE.parent / "corpus") / "commands"
SECRET = "5ECRET-OUTSIDE"
TOKEN = "T0KEN-OF-GIT"
MARKER = "MARKER"
BATCH = 200


@dataclass
class Outcome:
    mutants: int = 0
    accepted: int = 0
    ran: int = 0
    escapes: list[dict[str, object]] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def table(self) -> str:
        share = self.accepted / max(1, self.mutants)
        return (
            f"| mutants | accepted | run (bash and ours) | escapes | over 4 s | seconds |\n|---|---|---|---|---|---|\n"
            f"| {self.mutants:,} | {self.accepted:,} ({share:.1%}) | {self.ran:,} | {len(self.escapes)} "
            f"| {len(self.slow)} | {self.seconds:.0f} |"
        )


def corpus(verdict: str, files: str = "*.jsonl") -> list[str]:
    rows = [
        json.loads(line)
        for path in sorted(CORPUS.glob(files))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return [row["cmd"] for row in rows if row["verdict"] == verdict]


def make_place(place: Path, *, hostile: bool) -> Path:
    """A repository, a secret beside it, and a folder of programs that leave a marker. Returns the repository."""
    repo, outside = place / "repo", place / "outside"
    for folder in (repo / "src", outside):
        folder.mkdir(parents=True)
    (outside / "secret.txt").write_text(f"{SECRET}\n")
    for name in ("README.md", "src/app.py", "src/util.py", "src/a.py", "src/b.py", "data.csv", "files.txt"):
        (repo / name).write_text("import os\nmain TODO eval(x)\na:b:c\n")
    (repo / "link.txt").symlink_to("../outside/secret.txt")
    (repo / "linkdir").symlink_to("../outside")
    (repo / "src" / "up").symlink_to("../..")
    if hostile:  # names that a shell hands on as options; bash itself would, so not in its copy
        for name in (
            "-delete",
            "--output=MARKER",
            "-o",
            "--pre=touch",
            "-f",
            "$(touch MARKER)",
            ";touch MARKER",
            "!x",
            "(",
        ):
            (repo / name).write_text("x\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", "-C", str(repo)]
    for args in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "a"], ["tag", "v1"]):
        subprocess.run([*git, *args], check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull})
    with (repo / ".git" / "config").open("a") as config:
        config.write(f"[x]\n\ttoken = {TOKEN}\n")
    return repo


def judge(texts: Sequence[str], root: Path) -> tuple[list[str], list[str]]:
    """The accepted ones, and those that took more than a second to judge."""
    gate = CommandGate(FileGate(root))
    accepted: list[str] = []
    slow: list[str] = []
    for text in texts:
        begun = time.monotonic()
        try:
            gate.plan(text)
            accepted.append(text)
        except CommandRefused:
            pass
        if time.monotonic() - begun > 1:
            slow.append(text)
    return accepted, slow


def run(accepted: Sequence[str], place: Path) -> list[dict[str, object]]:
    """What the driver says of each command; `place` is writable in its sandbox, the rest of the machine is not."""
    (place / "commands.json").write_text(json.dumps(list(accepted)))
    lines = [*corpus("deny"), *accepted]
    words = {word for line in lines for word in line.replace("'", " ").replace('"', " ").split()}
    names = {word for word in words if word.isalnum() and len(word) < 40}
    (place / "names.json").write_text(json.dumps(sorted(names)))
    # Python and this checkout may lie in the `/tmp` that is made empty.
    needed = [
        word for path in (sys.prefix, sys.base_prefix, ROOT) for word in ("--ro-bind", str(path), str(path))
    ]
    argv = [
        "bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
        "--tmpfs", "/tmp", *needed, "--bind", str(place), str(place), "--chdir", str(place), "--clearenv",
        "--setenv", "PATH", f"{place}/programs:{os.environ['PATH']}", "--setenv", "LC_ALL", "C.UTF-8",
        "--setenv", "HOME", str(place / "outside"),
        sys.executable, "-B", str(HERE / "fuzz_driver.py"), str(place),
    ]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode:
        raise RuntimeError(f"the driver failed: {done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def fuzz(count: int, seed: int = 1) -> Outcome:
    begun = time.monotonic()
    outcome = Outcome(mutants=count)
    seeds, attacks = corpus("allow"), corpus("deny")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        place = Path(folder).resolve()
        for kind in ("bash", "ours"):
            make_place(place / kind, hostile=kind == "ours")
        made = list(mutants(seeds, attacks, count, seed=seed, marker=MARKER, outside="../outside/secret.txt"))
        accepted, slow = judge(made, place / "ours" / "repo")
        outcome.accepted = len(accepted)
        outcome.slow += slow
        for at in range(0, len(accepted), BATCH):
            for row in run(accepted[at : at + BATCH], place):
                outcome.ran += 1
                if row["slow"]:
                    outcome.slow.append(str(row["cmd"]))
                if row["ours"] or row["bash"]:
                    outcome.escapes.append(row)
    outcome.seconds = time.monotonic() - begun
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutants", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    outcome = fuzz(given.mutants, given.seed)
    print(outcome.table())
    for row in outcome.escapes[:50]:
        print(json.dumps(row, ensure_ascii=True))
    for text in outcome.slow[:10]:
        print("slow:", json.dumps(text))
    return 1 if outcome.escapes else 0


if __name__ == "__main__":
    raise SystemExit(main())
