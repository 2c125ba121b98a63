"""Ctrl-C in the middle of a push, as a terminal sends it: to git, the hook and the reviewer at once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from driver import Server
from pushing import FAULTY, Desk, script

Start = Callable[..., Server]
ONE_BY_ONE = {"REVIEW_AGENT_CONCURRENCY": "1", "REVIEW_AGENT_NUM_CTX": "8192"}


def running(session: int) -> list[str]:
    """The processes of a session that have not ended."""
    found = []
    for process in psutil.process_iter(["name", "status"]):
        try:
            if os.getsid(process.pid) == session and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.info["name"])
        except ProcessLookupError:
            continue
    return found


def until(happened: Callable[[], bool], seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < ends, "nothing happened"
        time.sleep(0.05)


def interrupted(desk: Desk, *refs: str, how: signal.Signals, when: Callable[[], bool]) -> str:
    """Push, send a signal to all of its processes, and wait until the last has ended. What the user saw."""
    push = subprocess.Popen(
        ["git", "push", "origin", *refs], cwd=desk.tree, env=desk.environment(**ONE_BY_ONE),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )  # fmt: skip
    until(when)
    os.killpg(push.pid, how)
    out, _ = push.communicate(timeout=30)
    assert push.returncode == -how
    until(lambda: running(push.pid) == [], 10)
    return out.decode()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_push_ends_and_the_next_one_goes_on(
    pushed_once: Desk, start_server: Start, how: signal.Signals
) -> None:
    server = pushed_once.server = start_server(review="eval", latency=0.3)
    before = pushed_once.remote("main")
    pushed_once.git("branch", "second")
    head = pushed_once.commit(
        **{f"f{number}": FAULTY.replace("run", f"f{number}") * 150 for number in range(4)}
    )
    pushed_once.git("switch", "-q", "second")
    pushed_once.commit(other=FAULTY)
    seen = interrupted(
        pushed_once, "main", "second", how=how, when=lambda: bool(server.requests() and server.in_flight())
    )
    assert "已中断，推送没有进行" in seen
    assert "second：" not in seen  # what is left of a push that is over is not begun
    assert (pushed_once.remote("main"), pushed_once.remote("second")) == (before, "")
    first = next(name for name in ("f0", "f1", "f2", "f3") if f"def {name}" in server.prompts()[0])
    again = pushed_once.push("origin", "main", **ONE_BY_ONE)
    assert (again.code, pushed_once.remote("main")) == (0, head)
    assert "接着未完成的运行" in again.seen
    assert all(f"f{number}.py:2" in again.seen for number in range(4))
    assert sum(f"def {first}" in prompt for prompt in server.prompts()) == 1  # it was finished, and is kept


@pytest.mark.parametrize("code", [129, 130, 143])
def test_a_reviewer_that_was_interrupted_lets_nothing_through(desk: Desk, tmp_path: Path, code: int) -> None:
    """Whatever `on_error` says: only the hook was interrupted then, or Python before it could answer."""
    desk.commit(faulty=FAULTY)
    program = tmp_path / "bin" / "review-agent"
    script(program, f"exit {code}")
    desk.hook("install")
    hook = desk.tree / ".git" / "hooks" / "pre-push"
    hook.write_text(hook.read_text().replace(desk.cli.argv()[0], str(program)))
    assert (desk.push("origin", "main").code, desk.remote("main")) == (1, "")
