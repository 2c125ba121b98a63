"""Odd source files through the real command: each is reviewed or listed with a reason, nothing is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from driver import ROOT, Cli, Server

CORPUS = Path(os.environ.get("REVIEW_AGENT_CORPUS", ROOT / "tests" / "corpus"))
FLAG_RULES = {
    "bidi": "text/bidi",
    "invisible": "text/invisible",
    "homoglyph": "text/homoglyph",
    "mixed-encoding": "text/mixed-encoding",
    "secret": "secret/",
}


def test_every_odd_file_has_its_state(cli: Cli, start_server: Callable[..., Server], tmp_path: Path) -> None:
    tree = tmp_path / "weird"
    script = CORPUS / "weird_files" / "make_weird.py"
    subprocess.run([sys.executable, str(script), str(tree)], check=True, capture_output=True)
    manifest = [json.loads(line) for line in (tree / "manifest.jsonl").read_text().splitlines()]
    (tree / "manifest.jsonl").unlink()
    server = start_server()
    report = cli.json("run", tree, "--base-url", server.url)
    files = {file["path"]: file for file in report["files"]}  # type: ignore[attr-defined]
    found = {(f["path"], f["rule_id"]) for f in report["findings"]}  # type: ignore[attr-defined]
    wrong = []
    for case in manifest:
        name = case["file"]
        state = files.get(name) or files.get(f"{name.rsplit('/', 1)[0]}/")  # a nested repository is one entry
        allowed = {case["expect"], case.get("also_ok", case["expect"])}
        status = {"reviewed": "review", "skipped": "skip"}.get(state["status"] if state else "", "missing")
        ok = status != "missing" if case["expect"] == "special" else status in allowed
        rule = FLAG_RULES.get(case.get("flag", ""), "")
        if rule and not any(path == name and rule_id.startswith(rule) for path, rule_id in found):
            ok = False
        if not ok:
            wrong.append((name, case["expect"], status, case.get("flag")))
    assert not wrong, wrong
    assert len(manifest) == 74 or "REVIEW_AGENT_CORPUS" in os.environ
    assert "EXAMPLEKEY" * 4 not in json.dumps(report)
