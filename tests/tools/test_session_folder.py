"""Where a session's script may lie: a folder for temporary files may hold no programs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from netaudit import require, unprivileged_mounts

from review_agent.agent.errors import EngineFault
from review_agent.tools.session_folder import PID_VARIABLE, make_folder, put_launcher, runs_programs

Runs = Callable[[Path], bool]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "review-agent"


def test_the_script_lies_in_the_folder_of_the_session(tmp_path: Path, state: Path) -> None:
    script = put_launcher(tmp_path)
    assert script == tmp_path / "claude"
    assert [path.name for path in tmp_path.iterdir()] == ["claude"]
    assert not state.exists()


def test_where_no_program_may_lie_it_is_put_beside_the_state(tmp_path: Path, state: Path) -> None:
    (folder := tmp_path / "t").mkdir()
    script = put_launcher(folder, lambda place: place != folder)
    assert script.parent == state
    assert (state.stat().st_mode & 0o777, script.stat().st_mode & 0o777) == (0o700, 0o700)
    assert list(folder.iterdir()) == []
    assert (
        put_launcher(folder, lambda place: place != folder) == script
    )  # shared: it says nothing of the session
    assert [path.name for path in state.iterdir()] == [script.name]


def test_where_none_may_lie_anywhere_the_message_names_both_places(tmp_path: Path, state: Path) -> None:
    with pytest.raises(EngineFault) as caught:
        put_launcher(tmp_path / "t", lambda _: False)
    assert (caught.value.key, caught.value.fields) == ("agent.noexec", {"folder": tmp_path, "other": state})


@pytest.mark.parametrize("where", ["folder", "state"])
def test_a_place_that_cannot_be_written_to(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    if where == "state":
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
        made: Callable[[], Path] = lambda: put_launcher(tmp_path / "t", lambda _: False)  # noqa: E731
    else:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
        made = make_folder
    with pytest.raises(EngineFault) as caught:
        made()
    assert caught.value.key == "agent.no_folder"
    assert str(tmp_path / "file") in str(caught.value.fields["folder"])


def test_the_script_notes_its_number_and_becomes_the_launcher(tmp_path: Path) -> None:
    """Told to become a program of ours that says what it was started with."""
    (folder := tmp_path / "with space").mkdir()
    program = folder / "program"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\nprint(os.getpid(), sys.argv[1:], sorted(os.environ))\n"
    )
    program.chmod(0o700)
    environ = {
        "REVIEW_AGENT_KEEP": "A,LC_CTYPE",
        "REVIEW_AGENT_PROGRAM": str(program),
        "REVIEW_AGENT_PARENT": str(os.getpid()),
        PID_VARIABLE: str(folder / "pid"),
        "A": "1",
        "B": "2",
    }
    done = subprocess.run([put_launcher(folder), "-x", "y z"], env=environ, capture_output=True, text=True)
    number = int((folder / "pid").read_text())
    said = done.stdout.replace(", 'LC_CTYPE'", "")
    assert said == f"{number} ['-x', 'y z'] ['A']\n", done.stderr


def test_a_file_system_says_that_it_runs_no_programs(tmp_path: Path) -> None:
    assert runs_programs(tmp_path)
    require("unshare")
    unprivileged_mounts()
    code = (
        "import sys; from pathlib import Path; from review_agent.tools.session_folder import *\n"
        "print([runs_programs(Path(name)) for name in sys.argv[1:]])"
    )
    (noexec := tmp_path / "noexec").mkdir()
    mount = 'mount -t tmpfs -o noexec tmpfs "$1" && exec "$0" -P -c "$3" "$1" "$2"'
    argv = ["unshare", "-Urm", "sh", "-c", mount, sys.executable, str(noexec), str(tmp_path), code]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.stdout == "[False, True]\n", done.stderr
