"""The whole demo repository, reviewed by both real engines side by side: minutes on two cores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from driver import DEMO, Cli
from real_ollama import Ollama


def test_both_engines_review_the_whole_demo_repository(tmp_path: Path, models: Path, ollama: Ollama) -> None:
    demo = Path(shutil.copytree(DEMO, tmp_path / "demo"))
    engines = {
        "embedded": Cli(tmp_path / "one", {"XDG_DATA_HOME": str(models)}),
        "ollama": Cli(tmp_path / "two", {"OLLAMA_HOST": ollama.url}),
    }
    named = {"embedded": "smollm2-135m", "ollama": ollama.model}
    before = ollama.loads()
    runs = {}
    for backend, cli in engines.items():
        cli.home.mkdir()
        args = ("--backend", backend, "--model", named[backend], "--concurrency", "1", "--format", "json")
        runs[backend] = cli.start("run", demo, *args)
    checked: list[list[str]] = []
    for backend, run in runs.items():
        out, err = run.communicate(timeout=1200)
        report = json.loads(out)
        assert (run.returncode, report["verdict"]) == (0, "not_reviewed"), err.decode()
        coverage = report["coverage"]
        assert coverage["files_reviewed"] == coverage["files_selected"] == 22
        assert coverage["changed_lines_reviewed"] == coverage["changed_lines"] > 1000
        assert report["engine"]["backend"] == backend
        assert len(report["engine"]["model_digest"]) >= 12
        by_model = {found["outcome"] for found in report["findings"] if found["source"] == "model"}
        assert by_model <= {"low_confidence", "unanchored", "duplicate"}
        assert report["egress"] == []
        reported = [found for found in report["findings"] if found["outcome"] == "reported"]
        checked.append([f"{found['rule_id']} {found['path']}:{found['start_line']}" for found in reported])
    assert len(checked[0]) >= 3  # the checks that need no model carry the demo
    assert checked[0] == checked[1]
    assert ollama.loads() == before + 1
    assert ollama.empties()
