"""A fake GitHub runner: runs the steps of a composite action as a runner would, as far as action.yml asks.

Expressions (`inputs.x`, `steps.x.outputs.y`, comparisons with &&), each step's own environment, the GITHUB_* files,
and workflow commands on the steps' output with `::stop-commands::`. `python3` is a stand-in that writes down how it
was called and installs nothing; the Python of the virtualenv that it makes is the one that runs the tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_EXPRESSION = re.compile(r"\$\{\{ *(.*?) *\}\}")
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
class Job:
    """What an action left behind."""

    outputs: dict[str, str]
    ran: list[str]
    failed: str = ""
    code: int = 0
    said: dict[str, str] = field(default_factory=dict)

    def commands(self) -> list[tuple[str, str]]:
        """Workflow commands that the runner would have carried out."""
        found, stopped = [], ""
        for line in "\n".join(self.said.values()).splitlines():
            command = _COMMAND.match(line.strip())
            if stopped:
                stopped = "" if line.strip() == f"::{stopped}::" else stopped
            elif command and command[1] == "stop-commands":
                stopped = command[2]
            elif command:
                found.append((command[1], line.strip()))
        return found


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
        for path in self.files.values():
            path.touch()
        self.env = {
            **env,
            "PATH": f"{binaries}{os.pathsep}{env['PATH']}",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(action),
            "GITHUB_WORKSPACE": str(workspace),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "RUNNER_TEMP": str(temp / "temp"),
            **{name: str(path) for name, path in self.files.items()},
        }
        (temp / "temp").mkdir()

    def run(self, event: dict[str, Any], **inputs: str) -> Job:
        (self.temp / "event.json").write_text(json.dumps(event))
        action = yaml.safe_load((self.action / "action.yml").read_text())
        unknown = set(inputs) - set(action["inputs"])
        assert not unknown, unknown
        values = {f"inputs.{name}": str(row["default"]) for name, row in action["inputs"].items()}
        values |= {f"inputs.{name}": value for name, value in inputs.items()}
        job = Job({}, [])
        for number, step in enumerate(action["runs"]["steps"]):
            if job.code or not self._wanted(step.get("if", ""), values):
                continue
            self._step(number, step, values, job)
        rows = action.get("outputs", {}).items()
        job.outputs = {name: self._fill(row["value"], values) for name, row in rows}
        return job

    def _step(self, number: int, step: dict[str, Any], values: dict[str, str], job: Job) -> None:
        assert step["shell"] == "bash"
        output, script = self.temp / f"output-{number}", self.temp / f"step-{number}.sh"
        output.write_text("")
        script.write_text(self._fill(step["run"], values))
        own = {name: self._fill(str(value), values) for name, value in step.get("env", {}).items()}
        event = {"GITHUB_EVENT_PATH": str(self.temp / "event.json"), "GITHUB_OUTPUT": str(output)}
        done = subprocess.run(
            [shutil.which("bash") or "bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.workspace,
            env={**self.env, **event, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        job.ran.append(step["name"])
        job.said[step["name"]] = done.stdout.decode("utf-8", "replace")
        if done.returncode:
            job.failed, job.code = step["name"], done.returncode
        for row in output.read_text().splitlines():
            name, _, value = row.partition("=")
            values[f"steps.{step.get('id', '')}.outputs.{name}"] = value

    def _fill(self, text: str, values: dict[str, str]) -> str:
        return _EXPRESSION.sub(lambda found: values.get(found[1], ""), text)

    def _wanted(self, condition: str, values: dict[str, str]) -> bool:
        for part in condition.split("&&") if condition else []:
            left, sign, right = re.fullmatch(r"\s*([\w.]+) (==|!=) '([^']*)'\s*", part).groups()  # type: ignore[union-attr]
            if (values.get(left, "") == right) != (sign == "=="):
                return False
        return True
