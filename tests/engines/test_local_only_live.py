"""The embedded engine without any network, seen from outside."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from driver import Cli
from netaudit import read_trace, under_strace, without_network


def test_the_embedded_engine_reviews_where_there_is_no_network(tmp_path: Path, models: Path) -> None:
    cli = Cli(tmp_path / "home", {"XDG_DATA_HOME": str(models)})
    tree = tmp_path / "tree"
    for folder in (cli.home, tree):
        folder.mkdir()
    (tree / "app.py").write_text("def share(total, count):\n    return total / count\n")
    command = cli.argv("run", tree, "--backend", "embedded", "--model", "smollm2-135m", "--format", "json")
    argv = without_network(under_strace(tmp_path / "trace", command))
    done = subprocess.run(argv, env=cli.environment(), cwd=cli.home, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["coverage"]["files_reviewed"] == 1
    seen = read_trace(tmp_path / "trace")
    [(host, port)] = seen.sent  # the port that the engine took for itself
    assert (host, seen.bound) == ("127.0.0.1", {("127.0.0.1", 0)})
    assert port > 0
    assert (seen.unix, seen.families) == (set(), {"AF_INET"})
