"""Whole reports, byte for byte.

`REVIEW_AGENT_UPDATE_GOLDEN=1 pytest tests/agent/reports/test_golden.py` rewrites them; then read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from review_agent.agent.reports import FORMATS, render

GOLDEN = Path(__file__).parents[2] / "golden"
SUFFIX = {"terminal": "txt", "markdown": "md", "json": "json", "sarif": "sarif"} | {
    "codequality": "codequality.json",
    "rdjson": "rdjson",
}


@pytest.mark.parametrize("lang", ["zh-CN", "en"])
@pytest.mark.parametrize("fmt", FORMATS)
def test_golden_report(make, lang: str, fmt: str) -> None:
    golden = GOLDEN / f"report.{lang}.{SUFFIX[fmt]}"
    text = render(make(lang=lang), fmt)
    if os.environ.get("REVIEW_AGENT_UPDATE_GOLDEN") == "1":
        golden.write_bytes(text.encode())
    assert text.encode() == golden.read_bytes()
