"""The bars of docs/benchmarks.md hold on the data that REVIEW_AGENT_BENCH names."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPTS = ("pr_repos", "replay", "coverage", "anchors", "salvage", "checks", "publishing")
NUM_CTX = 8192


@pytest.fixture(scope="module")
def folder() -> Path:
    bench = os.environ.get("REVIEW_AGENT_BENCH")
    if not bench:
        pytest.skip("REVIEW_AGENT_BENCH is not set: third-party review data is not part of the project")
    return Path(bench)


@pytest.fixture(scope="module")
def scripts(folder: Path) -> Iterator[SimpleNamespace]:
    """The scripts as modules; their names are gone afterwards, `coverage` is also a well-known package."""
    with pytest.MonkeyPatch.context() as patch:
        for name in SCRIPTS:
            patch.delitem(sys.modules, name, raising=False)
        patch.syspath_prepend(BENCHMARKS)
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in SCRIPTS})
        for name in SCRIPTS:
            del sys.modules[name]


@pytest.fixture(scope="module")
def prepared(scripts: SimpleNamespace, folder: Path) -> Iterator[list[Any]]:
    with scripts.replay.cases(folder) as cases:
        assert cases, f"no pull requests in {folder}"
        yield cases


@pytest.fixture(scope="module")
def reach(scripts: SimpleNamespace, prepared: list[Any]) -> Any:
    row = scripts.coverage.Row()
    for case in prepared:
        scripts.coverage.measure(case.pr, NUM_CTX, row)
    return row


def test_every_added_line_is_asked_about_and_no_file_is_dropped(reach: Any) -> None:
    assert reach.added > 0
    assert (reach.covered / reach.added, reach.dropped) == (1.0, 0)


def test_what_reviewers_commented_on_is_in_small_requests(reach: Any) -> None:
    assert reach.found / reach.golden >= 0.99, reach.missed
    assert reach.largest <= 4096
    assert reach.tokens <= 3 * reach.diff_tokens


def test_comments_land_on_their_lines_in_every_disguise(
    scripts: SimpleNamespace, prepared: list[Any]
) -> None:
    rows = asyncio.run(scripts.anchors.table(prepared))
    row = sum(rows.values(), scripts.anchors.Row())
    unseen = sum(map(scripts.replay.never_shown, prepared))
    shown = sum(len(case.goldens) for case in prepared) - unseen
    assert all(one.replayed >= shown > 0 for one in rows.values())
    assert row.share >= 0.95, row.missed
    assert row.outside == 0


def test_what_was_said_is_kept_and_nothing_else(scripts: SimpleNamespace, prepared: list[Any]) -> None:
    """On a part of the set: answers that never end are asked for again in ever smaller pieces."""
    salvage = scripts.salvage
    whole = [name for name in salvage.BREAKERS if name not in salvage.UNFINISHED]
    rows = asyncio.run(salvage.table(prepared[::2], whole))
    rows |= asyncio.run(salvage.table(prepared[::6], sorted(salvage.UNFINISHED)))
    assert rows.keys() == salvage.BREAKERS.keys()
    row = sum(rows.values(), salvage.Row())
    assert row.present > 0
    assert row.share >= 0.95, row.missed
    assert {name: one.share for name, one in rows.items() if one.share < 0.95} == {}
    assert (row.crashes, row.invented, row.false_clean) == (0, 0, 0), row.missed


def test_checks_are_silent_on_clean_files_and_find_what_was_planted(
    scripts: SimpleNamespace, folder: Path
) -> None:
    result = scripts.checks.measure(folder)
    assert result.per_thousand("high") + result.per_thousand("critical") <= 0.1, result.found
    assert result.planted == result.planted_found, result.missed
    assert result.secrets_found / result.secrets >= 0.9, result.missed
    assert result.false_alarms / result.harmless <= 0.05, result.missed


def test_reviewers_comments_are_published_on_their_lines_and_none_is_refused(
    scripts: SimpleNamespace, folder: Path, tmp_path: Path
) -> None:
    rows = asyncio.run(scripts.publishing.table(folder, tmp_path))
    row = sum(rows.values(), scripts.publishing.Row())
    assert row.comments > 100
    assert (row.refused, row.repeated) == (0, 0)
    assert row.inline + row.summarised == row.comments
    assert row.share >= 0.95, row.missed
