"""One report with everything in it, hostile strings in every place that text from outside can reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from review_agent.agent.models import (
    Category,
    Coverage,
    Egress,
    EngineInfo,
    Evidence,
    FileResult,
    FileStatus,
    Finding,
    Note,
    Outcome,
    Report,
    Severity,
    Usage,
    Verdict,
    VerdictWord,
)

INJECTION = Finding(
    rule_id="security/sql-injection",
    category=Category.SECURITY,
    severity=Severity.CRITICAL,
    confidence=0.93,
    path="src/db/user.py",
    start_line=12,
    end_line=13,
    title="SQL 由用户输入拼接而成",
    message="查询语句直接拼接了 `name`，攻击者可以读取任意数据。" * 3
    + "\n\n- 见 execute() 的文档\n1. 第二点",
    suggestion="改用参数化查询，由数据库驱动负责转义。",
    replacement='cursor.execute("SELECT * FROM t WHERE name = %s", (name,))\n',
    symbol="find_user",
    evidence=(
        Evidence(11, ("def find_user(name):", "\tsql = 'SELECT * FROM t'", "\tcursor.execute(sql + name)")),
        Evidence(99, ("find_user(request.args['name'])  # " + "很长的注释" * 12,)),
    ),
    fingerprint="5f2d9a",
    exact=True,
)
HOSTILE = Finding(
    rule_id="bug/[x](http://evil.example)",
    category=Category.BUG,
    severity=Severity.HIGH,
    confidence=0.6,
    path="src/\u202egpj.exe\n## 假标题/[a](b)|@team\udcff.py",
    start_line=3,
    end_line=3,
    title="\x1b[2J<img src=x onerror=alert(1)> ![p](http://evil.example/p.png) @all #1\n"
    "# 审查结论：全部没有问题",
    message="::set-output name=verdict::pass\n##[add-path]/tmp\n```\n</details>\n"
    "| a | b |\n|---|---|\n/close",
    suggestion="www.evil.example\r\x1b]0;title\x07 &lt;b&gt; {{ 7 * 7 }} {name} %s",
    replacement="````\n</pre>\n::error::x\n",
    evidence=(Evidence(3, ("x = '\u2066```\u2069' # \x9b31m ::stop-commands::x",)),),
    fingerprint="77aa01",
)
WHOLE_FILE = Finding(
    "maintainability/no-tests",
    Category.TEST,
    Severity.INFO,
    0.5,
    "src/pay/refund.py",
    0,
    0,
    "退款流程没有测试",
    "",
)


def _hidden(outcome: Outcome, reason: str, line: int) -> Verdict:
    finding = replace(INJECTION, severity=Severity.LOW, path="src/old.py", start_line=line, end_line=line)
    return Verdict(replace(finding, evidence=(), replacement="", fingerprint=f"old{line}"), outcome, reason)


VERDICTS = (
    Verdict(WHOLE_FILE, Outcome.REPORTED),
    Verdict(HOSTILE, Outcome.REPORTED),
    Verdict(INJECTION, Outcome.REPORTED),
    Verdict(
        replace(INJECTION, severity=Severity.MEDIUM, source="secrets", start_line=40, end_line=40),
        Outcome.REPORTED,
    ),
    _hidden(Outcome.SUPPRESSED, "inline_suppression", 1),
    _hidden(Outcome.SUPPRESSED, "below_min_severity", 2),
    _hidden(Outcome.BASELINED, "", 3),
    _hidden(Outcome.OUT_OF_DIFF, "outside_changed_lines", 4),
    _hidden(Outcome.LOW_CONFIDENCE, "below_min_confidence", 5),
    _hidden(Outcome.LOW_CONFIDENCE, "below_min_confidence", 6),
    _hidden(Outcome.UNANCHORED, "quote_not_shown", 0),
    _hidden(Outcome.DUPLICATE, "merged_into", 7),
    _hidden(Outcome.REFUTED, "a_reason_we_do_not_know", 8),
)

FILES = (
    FileResult("src/db/user.py", FileStatus.REVIEWED, units=2, changed_lines=40, reviewed_lines=40),
    FileResult(
        HOSTILE.path,
        FileStatus.REVIEWED,
        units=1,
        changed_lines=9,
        reviewed_lines=9,
        notes=(Note("mixed_encoding"),),
    ),
    FileResult(
        "src/slow.py", FileStatus.FAILED, "engine_stalled", units=3, changed_lines=30, reviewed_lines=10
    ),
    FileResult("a b/\x1b[31m.py", FileStatus.FAILED, "limit_max_files", changed_lines=5),
    *(FileResult(f"vendor/lib{n}.js", FileStatus.SKIPPED, "vendored") for n in range(5)),
    FileResult("logo.png", FileStatus.SKIPPED, "binary"),
    FileResult("uv.lock", FileStatus.SKIPPED, "lock_file"),
)

REPORT = Report(
    run_id="20261122-0a1b2c",
    target="main..feature/支付",
    lang="zh-CN",
    engine=EngineInfo("hybrid", "ollama", "qwen2.5-coder:7b", "sha256:2b0496514337a3d5", "agent"),
    verdict=VerdictWord.INCOMPLETE,
    verdict_reason="some_failed",
    coverage=Coverage(11, 2, 7, 2, 84, 59),
    summary="改动集中在数据库访问层。\n\n# 不是标题",
    verdicts=VERDICTS,
    files=FILES,
    usage=Usage(7, 12345, 678, 3, 95.25),
    egress=(
        Egress("2026-11-22T08:00:00Z", "api.anthropic.com", "src/db/user.py", 512, 1, "claude-opus"),
        Egress("2026-11-22T08:00:09Z", "api.anthropic.com", "src/a|b@c.py", 90, 0, "claude-opus"),
    ),
    notes=(
        Note("merge_first_parent", {"commit": "`0123`<b>"}),
        Note("repo_setting_ignored", {"file": ".review-agent.toml", "name": "base_url`@x"}),
        Note("encoding_guessed"),
    ),
    created="2026-11-22T08:01:35Z",
)

Make = Callable[..., Report]


@pytest.fixture
def make() -> Make:
    """`make(field=value)`: the report above with other fields."""
    return lambda **changes: replace(REPORT, **changes)
