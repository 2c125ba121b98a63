"""FPK and secrets: are the checks without a model silent on clean files, and do they find what was planted?

    REVIEW_AGENT_BENCH=FOLDER python benchmarks/checks.py

FPK: findings per 1,000 lines of `clean`, by severity. A secret, a deceptive character or a merge conflict at
the end of such a file must be found, so that silence does not pass. Secrets: recall and false alarms line by
line.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replay import bench_folder

from review_agent.agent.models import Finding, Severity, SourceFile
from review_agent.agent.settings import DEFAULTS
from review_agent.agent.target import make_target, select
from review_agent.tools.evidence import check
from review_agent.tools.secrets import find_secrets

_LANGUAGES = {"py": "Python", "go": "Go", "java": "Java", "js": "JavaScript", "ts": "TypeScript"}
_CONFIG_SUFFIXES = frozenset({"yaml"})
_DECEPTIVE = {
    "text/bidi": "level = 'user\u202e \u2066# admin only\u2069 \u2066'",
    "text/invisible": "is\u200b_admin = True",
    "text/homoglyph": "\u0430ccess = granted",  # a Cyrillic a
}
_CONFLICT = "<<<<<<< HEAD\nlimit = 10\n=======\nlimit = 20\n>>>>>>> feature/limits"


@dataclass(frozen=True, slots=True)
class Planted:
    """Something at the end of a file that must be found: `rule` is the beginning of its rule id."""

    rule: str
    path: str
    text: str


@dataclass
class Result:
    files: int = 0
    lines: int = 0
    by_severity: Counter[Severity] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)
    planted: Counter[str] = field(default_factory=Counter)
    planted_found: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    secrets: int = 0
    secrets_found: int = 0
    harmless: int = 0
    false_alarms: int = 0

    def per_thousand(self, severity: Severity) -> float:
        return 1000 * self.by_severity[severity] / max(1, self.lines)


def items(bench: Path, name: str) -> list[dict[str, Any]]:
    text = (bench / name / "items.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def files_of(texts: dict[str, str]) -> dict[str, SourceFile]:
    """What the production target makes of a folder with these files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        selection, _ = select(make_target(Path(folder)), max_file_size=DEFAULTS.max_file_size)
    return {file.path: file for file in selection.files}


def clean(bench: Path, result: Result) -> None:
    texts = {
        f"c{number}/{item['path']}": item["content"] for number, item in enumerate(items(bench, "clean"))
    }
    for path, file in files_of(texts).items():
        result.files += 1
        result.lines += len(file.lines)
        for finding in check(file, DEFAULTS.lang):
            result.by_severity[finding.severity] += 1
            result.found.append(f"{finding.severity} {finding.rule_id} {path}:{finding.start_line}")


def plant(bench: Path) -> Iterator[Planted]:
    """Every secret in a clean file of its language, or alone when there is none; also the other kinds."""
    hosts = {item["language"]: item["content"] for item in reversed(items(bench, "clean"))}
    for item in items(bench, "secrets"):
        if item["label"]:
            host = hosts.get(_LANGUAGES.get(item["lang"], ""), "")
            yield Planted(
                "secret/", f"{item['id']}/main.{item['lang']}", host + "".join(item["parts"]) + "\n"
            )
    for rule, line in _DECEPTIVE.items():
        yield Planted(rule, f"{rule}/main.py", f"{hosts['Python']}{line}\n")
    for suffix, language in _LANGUAGES.items():
        text = f"{hosts[language]}{_CONFLICT}\n"
        yield Planted("text/conflict-marker", f"conflict/main.{suffix}", text)


def planted(bench: Path, result: Result) -> None:
    wanted = list(plant(bench))
    files = files_of({one.path: one.text for one in wanted})
    for one in wanted:
        result.planted[one.rule] += 1
        last = len(one.text.split("\n")) - 1
        findings = check(files[one.path], DEFAULTS.lang) if one.path in files else []
        if any(_is(finding, one, last) for finding in findings):
            result.planted_found[one.rule] += 1
        else:
            result.missed.append(f"planted {one.rule} {one.path}")


def _is(finding: Finding, one: Planted, last: int) -> bool:
    return finding.rule_id.startswith(one.rule) and finding.end_line == last


def secrets(bench: Path, result: Result) -> None:
    for item in items(bench, "secrets"):
        found = bool(find_secrets(["".join(item["parts"])], config=item["lang"] in _CONFIG_SUFFIXES))
        if item["label"]:
            result.secrets += 1
            result.secrets_found += found
        else:
            result.harmless += 1
            result.false_alarms += found
        if found != bool(item["label"]):
            result.missed.append(f"secrets {item['id']} {item['rule']}")


def measure(bench: Path) -> Result:
    result = Result()
    clean(bench, result)
    planted(bench, result)
    secrets(bench, result)
    return result


def main() -> int:
    result = measure(bench_folder())
    print(f"{result.files} clean files, {result.lines} lines\n")
    print("| severity | findings | per 1,000 lines |")
    print("|---|---|---|")
    for severity in Severity:
        print(f"| {severity} | {result.by_severity[severity]} | {result.per_thousand(severity):.2f} |")
    print("\n| planted | found | of |")
    print("|---|---|---|")
    for rule, count in result.planted.items():
        print(f"| {rule.rstrip('/')} | {result.planted_found[rule]} | {count} |")
    print("\n| secrets | found | of | share |")
    print("|---|---|---|---|")
    for name, found, count in (
        ("recall", result.secrets_found, result.secrets),
        ("false alarms", result.false_alarms, result.harmless),
    ):
        print(f"| {name} | {found} | {count} | {found / count:.3f} |")
    for line in (*result.found, *result.missed):
        print(f"    {line}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
