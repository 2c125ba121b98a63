"""Where reports go: whole files or none, and nothing that a name could trick us into overwriting."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from review_agent.agent.coverage import cover
from review_agent.agent.errors import UsageError
from review_agent.agent.models import EngineInfo, Report, Usage, VerdictWord
from review_agent.agent.output import check_outputs, write_outputs
from review_agent.agent.reports import render

REPORT = Report(
    "r1", "tree", "zh-CN", EngineInfo("local", "ollama", "模型", ""), VerdictWord.NOT_REVIEWED,
    "nothing_to_review", cover(()), "", (), (), Usage(),
)  # fmt: skip


def test_files_are_written_whole_and_named(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    names = [str(tmp_path / "a.json"), str(tmp_path / "b.md")]
    outputs = [("json", names[0]), ("markdown", names[1]), ("json", "")]
    check_outputs(outputs)
    assert write_outputs(REPORT, outputs) == names
    expected = render(REPORT, "json").encode()
    assert Path(names[0]).read_bytes() == expected == capsysbinary.readouterr().out
    assert Path(names[1]).read_text() == render(REPORT, "markdown")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "b.md"]


def test_permissions_are_the_users_own(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_outputs(REPORT, [("json", str(tmp_path / "a.json"))])
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["no/such/folder/a.json", ".", "file/a.json"])
def test_a_place_that_cannot_be_written_is_refused_before_the_review(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    target = str(tmp_path / name)
    with pytest.raises(UsageError, match="output_unwritable"):
        check_outputs([("json", target)])
    with pytest.raises(UsageError, match="output_unwritable"):
        write_outputs(REPORT, [("json", target)])


def test_a_link_is_replaced_and_what_it_points_at_stays(tmp_path: Path) -> None:
    victim = tmp_path / "elsewhere" / "victim"
    victim.parent.mkdir()
    victim.write_text("precious")
    link = tmp_path / "report.json"
    link.symlink_to(victim)
    write_outputs(REPORT, [("json", str(link))])
    assert victim.read_text() == "precious"
    assert not link.is_symlink()
    assert link.read_text() == render(REPORT, "json")
    assert list(victim.parent.iterdir()) == [victim]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """As `/dev/null` must be. Never try that one: a failing test would replace the machine's own."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    check_outputs([("json", str(pipe))])
    write_outputs(REPORT, [("json", str(pipe))])
    reader.join(5)
    assert got == [render(REPORT, "json")]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "ascii"])
@pytest.mark.parametrize("fmt", ["terminal", "json"])
def test_any_terminal_gets_the_report(fmt: str, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    write_outputs(REPORT, [(fmt, "")])
    text = raw.getvalue().decode("utf-8" if fmt == "json" else encoding)
    expected = render(REPORT, fmt, width=80) if fmt == "terminal" else render(REPORT, fmt)
    assert text == (
        expected.encode(encoding, "backslashreplace").decode(encoding) if fmt == "terminal" else expected
    )


@pytest.mark.parametrize("fmt", ["terminal", "json"])
def test_a_reader_that_has_enough_is_no_failure(fmt: str) -> None:
    code = (
        "from test_output import REPORT; from review_agent.agent.output import write_outputs; import sys;"
        f"write_outputs(REPORT, [({fmt!r}, '')] * 50); sys.exit(3)"
    )
    read, write = os.pipe()
    os.close(read)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, env=env, cwd="/"
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (3, b"")
