"""A real Ollama server: started, killed, watched through its log."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

# The same weights, shown by example to answer in a few words, and spared the long system prompt: seconds instead
# of minutes. Neither its name nor its size, which this store does not know, makes it the demo model: so verdicts and
# exit codes mean what they say.
LACONIC = "laconic:135m"
TOOLED = "tooled:135m"  # and this one is said to call tools, which it does not
_TEMPLATE = """{{ range .Messages }}{{ if ne .Role "system" }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}{{ end }}<|im_start|>assistant
"""
_EXAMPLE = [
    {"role": "user", "content": "文件：x.py（python）\n    1 + x = 1\n片段结束。只输出一个 JSON 对象。"},
    {"role": "assistant", "content": '{"summary": "没有问题", "findings": []}'},
]


@dataclass
class Ollama:
    """One server of ours on one port; it can be killed and started again there."""

    argv: list[str]
    env: dict[str, str]
    model: str
    url: str
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        for _ in range(300):
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            try:
                urllib.request.urlopen(f"{self.url}/api/version", timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"the server did not start: {self.log.read_text()[-2000:]}")

    def add_laconic(self) -> None:
        self._add(LACONIC, _TEMPLATE)

    def add_tooled(self) -> None:
        # Its template makes the server say so; without an end it would chat for thousands of tokens.
        self._add(TOOLED, _TEMPLATE + "{{ if .Tools }}{{ end }}", parameters={"stop": ["\n", ".", "。"]})

    def _add(self, name: str, template: str, **more: object) -> None:
        made = {"model": name, "from": self.model, "template": template, "messages": _EXAMPLE, **more}
        assert self.ask("/api/create", **made, stream=False) == {"status": "success"}
        store = Path(self.env["OLLAMA_MODELS"])
        file = store / "manifests/registry.ollama.ai/library" / name.replace(":", "/")
        manifest = json.loads(file.read_text())
        config = json.loads((store / "blobs" / manifest["config"]["digest"].replace(":", "-")).read_text())
        data = json.dumps({**config, "model_type": ""}).encode()
        digest = hashlib.sha256(data).hexdigest()
        (store / "blobs" / f"sha256-{digest}").write_bytes(data)
        manifest["config"] |= {"digest": f"sha256:{digest}", "size": len(data)}
        file.write_text(json.dumps(manifest))

    def kill(self) -> None:
        """As the kernel would: no chance to tidy up."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def runner(self, seconds: float = 30) -> psutil.Process:
        """The process that holds the model; waits until there is one."""
        assert self.process is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                if "--model" in child.cmdline():
                    return child
            time.sleep(0.02)
        raise AssertionError("no model was loaded")

    def loads(self) -> int:
        """How often a model was loaded since the beginning."""
        lines = self.log.read_text(errors="replace").splitlines()
        return sum('msg="starting llama-server"' in line and "--model " in line for line in lines)

    def answers(self) -> int:
        """How many answers were finished: status 200 of a chat, unloading included."""
        lines = self.log.read_text(errors="replace").splitlines()
        return sum("[GIN]" in line and "/api/chat" in line and "| 200 |" in line for line in lines)

    def reading(self, seconds: float = 60) -> None:
        """Wait until the model is at work on something that was not there before."""
        before = self._prompts()
        deadline = time.monotonic() + seconds
        while self._prompts() == before:
            assert time.monotonic() < deadline, "the model was given nothing"
            time.sleep(0.02)

    def _prompts(self) -> int:
        return self.log.read_text(errors="replace").count("| new prompt,")

    def loaded(self) -> list[str]:
        return [model["name"] for model in self.ask("/api/ps")["models"]]

    def unload(self) -> None:
        for name in self.loaded():
            self.ask("/api/chat", model=name, messages=[], stream=False, keep_alive=0)
        assert self.empties(), "the server kept a model"

    def empties(self, seconds: float = 10) -> bool:
        """Whether nothing is loaded any more, soon. Unloading goes on after its answer."""
        deadline = time.monotonic() + seconds
        while self.loaded():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def ask(self, path: str, **body: object) -> dict[str, Any]:
        """A request of anybody else's; the answer, or the error's body."""
        data = json.dumps(body).encode() if body else None
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, data), timeout=120) as got:
                answer = json.load(got)
        except urllib.error.HTTPError as exc:
            answer = json.load(exc)
        assert isinstance(answer, dict)
        return answer


def own_store(shared: Path, own: Path) -> Path:
    """The same models, in a store that may be written to: a server tidies its store when it starts."""
    shutil.copytree(shared / "manifests", own / "manifests")
    (own / "blobs").mkdir()
    for blob in (shared / "blobs").iterdir():
        (own / "blobs" / blob.name).symlink_to(blob)
    return own
