"""Runs accepted commands inside the fuzzer's sandbox and says what each did. Started by `command_fuzz.py`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from review_agent.agent.errors import CommandRefused
from review_agent.tools.command_rules import rule_of
from review_agent.tools.files import FileGate
from review_agent.tools.git import Repository, find
from review_agent.tools.shell import CommandGate
from review_agent.tools.shell_run import CommandRunner

LIMIT = 4.0
SECRETS = (b"5ECRET-OUTSIDE", b"root:x:0")
TOKEN = b"T0KEN-OF-GIT"
GIT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
}


def plant(place: Path, names: list[str]) -> None:
    """Programs of all names that no rule knows; each leaves a marker. The allowed ones are the machine's."""
    programs = place / "programs"
    programs.mkdir(exist_ok=True)
    for name in [*names, "touch", "sh", "id", "rm", "gpg", "pager", "less", "vi", "ssh", "sensible-pager"]:
        try:
            rule_of(name)
        except CommandRefused:
            if not name.isdigit() and name not in ("bash", "env"):
                (programs / name).write_text(f"#!/bin/bash\n: > {place}/markers/{name}\n")
                (programs / name).chmod(0o755)


def state(place: Path) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for folder, folders, files in os.walk(place):
        for name in [*folders, *files]:
            status = os.lstat(os.path.join(folder, name))
            if not os.path.isdir(os.path.join(folder, name)):
                found[os.path.join(folder, name)] = (status.st_size, status.st_mtime_ns)
    return found


class Trial:
    """A folder that no command may change; it is made anew after one that did."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(exist_ok=True)
        self.pristine = place.with_name(f"{place.name}-pristine")
        if not self.pristine.exists():
            shutil.copytree(place, self.pristine, symlinks=True)
        self.before = state(place)

    def harm(self, output: bytes = b"", secrets: tuple[bytes, ...] = ()) -> str:
        """What the command did, "" for nothing."""
        read = "read a secret" if any(secret in output for secret in secrets) else ""
        after = state(self.place)
        if after == self.before:
            return read
        changed = sorted(set(after.items()) ^ set(self.before.items()))
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.pristine, self.place, symlinks=True, dirs_exist_ok=True)
        self.before = state(self.place)
        return f"changed {changed[0][0]}"


def in_bash(source: str, repo: Path) -> tuple[bytes, bool]:
    with subprocess.Popen(
        ["/bin/bash", "--norc", "--noprofile", "-c", source],
        cwd=repo,
        env={**os.environ, **GIT},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as shell:
        try:
            return shell.communicate(timeout=LIMIT)[0], False
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, 9)
            return shell.communicate()[0], True


def main() -> int:
    place = Path(sys.argv[1])
    commands = json.loads((place / "commands.json").read_text())
    plant(place, json.loads((place / "names.json").read_text()))
    own, bash, markers = (Trial(place / name) for name in ("ours", "bash", "markers"))
    root = place / "ours" / "repo"
    location = find(root)
    if location is None:
        raise RuntimeError("no repository")
    repo = Repository(location)
    gate = CommandGate(FileGate(root))
    search = os.environ["PATH"].split(os.pathsep, 1)[1]
    runner = CommandRunner(gate, root, search=search, timeout=LIMIT, git=repo.calling(), sandboxed=False)
    elsewhere = set(os.listdir("/tmp"))
    for source in commands:
        begun = time.monotonic()
        ours = ""
        try:
            ran = runner.run(source)
            ours = own.harm(ran.stdout + ran.stderr, (*SECRETS, TOKEN))
        except CommandRefused:  # a program or a folder that is not there
            pass
        slow = time.monotonic() - begun >= LIMIT
        output, hung = in_bash(source, place / "bash" / "repo")
        shell = bash.harm(output, SECRETS) or markers.harm()
        if set(os.listdir("/tmp")) - elsewhere:
            shell = shell or "wrote into /tmp"
            elsewhere = set(os.listdir("/tmp"))
        print(json.dumps({"cmd": source, "ours": ours, "bash": shell, "slow": slow or hung}))
    repo.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
