"""A fake GitHub runner: runs the steps of a composite action as a runner would, as far as action.yml asks.

Expressions, each step's own environment, the GITHUB_* files, and workflow commands on the steps' two streams with
`::stop-commands::`. `python3` is a stand-in that writes down how it
was called and installs nothing; the Python of the virtualenv that it makes is the one that runs the tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from fake_expressions import fill, holds

_COMMAND = re.compile(r"^::([\w-]+)(?: [^:]*)?::(.*)$")

PYTHON3 = r"""#!/bin/sh
printf '%s\n' "python3 $*" | tr '\n' ' ' >>"{log}"
echo >>"{log}"
if [ "$1 $2 $3" = "-I -m venv" ]; then
  mkdir -p "$4/bin" && cp "{venv_python}" "$4/bin/python"
else
  exec "{real}" "$@"
fi
"""
VENV_PYTHON = r"""#!/bin/sh
printf '%s\n' "venv $*" | tr '\n' ' ' >>"{log}"
echo >>"{log}"
case "$*" in "-I -m pip "*) exit 0 ;; esac
exec "{real}" "$@"
"""


@dataclass
class Said:
    """What a step said. Between its two streams there is no order: a runner reads each as it comes."""

    out: str
    err: str

    def __str__(self) -> str:
        return self.out + self.err


@dataclass
class Job:
    """What an action left behind."""

    outputs: dict[str, str]
    ran: list[str]
    failed: str = ""
    code: int = 0
    said: dict[str, Said] = field(default_factory=dict)

    def commands(self) -> list[tuple[str, str]]:
        """Workflow commands that the runner would have carried out: on stderr nothing stops them."""
        found = []
        for said in self.said.values():
            for text in (said.out, said.err):
                stopped = ""
                for line in text.splitlines():
                    command = _COMMAND.match(line.strip())
                    if stopped:
                        stopped = "" if line.strip() == f"::{stopped}::" else stopped
                    elif command and command[1] == "stop-commands":
                        stopped = command[2]
                    elif command:
                        found.append((command[1], line.strip()))
        return found

    def told(self) -> list[str]:
        """What the Action itself says, not the report."""
        ours = [(name, line.removeprefix(f"::{name} title=review-agent::"), line) for name, line in self.commands()]
        return [f"{name}: {text}" for name, text, line in ours if text != line]


class FakeRunner:
    def __init__(self, action: Path, workspace: Path, temp: Path, env: dict[str, str]) -> None:
        """`temp`: a new folder for the runner's own files; `env`: of every step."""
        self.action, self.workspace, self.temp = action, workspace, temp
        self.log, self.summary = temp / "python.log", temp / "summary.md"
        self.files = {name: temp / name.lower() for name in ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE")}
        binaries = temp / "bin"
        binaries.mkdir(parents=True)
        made = {"log": self.log, "real": sys.executable, "venv_python": temp / "venv-python"}
        (temp / "venv-python").write_text(VENV_PYTHON.format(**made))
        (binaries / "python3").write_text(PYTHON3.format(**made))
        for path in (temp / "venv-python", binaries / "python3"):
            path.chmod(0o755)
        for path in [*self.files.values(), self.summary]:
            path.touch()
        self.env = {
            **env,
            "PATH": f"{binaries}{os.pathsep}{env['PATH']}",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(action),
            "GITHUB_EVENT_PATH": str(temp / "event.json"),
            "GITHUB_WORKSPACE": str(workspace),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "RUNNER_OS": "Linux",
            "RUNNER_TEMP": str(temp / "temp"),
            **{name: str(path) for name, path in self.files.items()},
        }
        (temp / "temp").mkdir()

    def run(self, event: dict[str, Any], *, installed: bool = False, last: str = "", **inputs: str) -> Job:
        """Every step of the action whose `if:` holds, up to the first that fails, or that is named `last`.

        `installed`: the first step was done.
        """
        (self.temp / "event.json").write_text(json.dumps(event))
        self.env.setdefault("GITHUB_EVENT_NAME", "workflow_run" if "workflow_run" in event else "pull_request")
        action = self.read()
        context: dict[str, Any] = {"inputs": self.given(inputs), "steps": {}}
        job = Job({}, [])
        if installed:
            python = self.temp / "temp" / "review-agent" / "venv" / "bin" / "python"
            python.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.temp / "venv-python", python)
        for number, step in list(enumerate(action["runs"]["steps"]))[int(installed) :]:
            if not job.code and holds(step.get("if", ""), context):
                self._step(number, step, context, job)
            if step["name"] == last:
                break
        rows = action.get("outputs", {}).items()
        job.outputs = {name: fill(row["value"], context) for name, row in rows}
        return job

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((self.action / "action.yml").read_text())
        return found

    def given(self, inputs: Mapping[str, str]) -> dict[str, str]:
        """Every input of the action: as given, else its default."""
        known = self.read()["inputs"]
        assert set(inputs) <= set(known), set(inputs) - set(known)
        return {name: str(row["default"]) for name, row in known.items()} | dict(inputs)

    def _step(self, number: int, step: dict[str, Any], context: dict[str, Any], job: Job) -> None:
        assert step["shell"] == "bash"
        output = self.temp / f"output-{number}"
        output.touch()
        with subprocess.Popen(
            self.argv(number, step, context),
            cwd=self.workspace,
            env=self.environment(number, step, context),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            out, err = process.communicate(timeout=120)
        job.ran.append(step["name"])
        job.said[step["name"]] = Said(out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))
        if process.returncode:
            job.failed, job.code = step["name"], process.returncode
        rows = (row.partition("=") for row in output.read_text().splitlines())
        context["steps"][step.get("id", "")] = {"outputs": {name: value for name, _, value in rows}}

    def argv(self, number: int, step: dict[str, Any], context: Mapping[str, Any]) -> list[str]:
        """How a runner starts `shell: bash`."""
        script = self.temp / f"step-{number}.sh"
        script.write_text(fill(step["run"], context))
        return [shutil.which("bash") or "bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]

    def environment(self, number: int, step: dict[str, Any], context: Mapping[str, Any]) -> dict[str, str]:
        own = {name: fill(str(value), context) for name, value in step.get("env", {}).items()}
        return {**self.env, "GITHUB_OUTPUT": str(self.temp / f"output-{number}"), **own}
