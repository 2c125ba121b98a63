"""MOR: golden comments in broken answers, through the production review; is what was said kept, and no more?

    REVIEW_AGENT_BENCH=FOLDER python benchmarks/salvage.py

Present: the comment stood in full in an answer. Recovered: a finding on its lines has the whole text.
Invented: a finding that is not the beginning of a comment. False-clean: a file called reviewed although no
answer about it could be read to its end, or although a comment on it that was said in full is missing.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from replay import Case, Golden, Said, ScriptedBackend, bench_folder, cases, entry, number_of, run

from review_agent.agent.models import FileStatus, Finding, Report, VerdictWord

_CHINESE = {
    "findings": "问题列表",
    "summary": "总结",
    "path": "文件",
    "title": "标题",
    "category": "类别",
    "severity": "严重程度",
    "confidence": "置信度",
    "line_start": "起始行",
    "line_end": "结束行",
    "quote": "引用代码",
    "explanation": "说明",
    "suggestion": "建议",
    "replacement": "替换代码",
}
_LAST_OF = re.compile(r'(["\d\]}])\n( *[\]}])')
_ENDLESS = 2000  # characters after which the server stops a model that repeats itself


@dataclass(frozen=True, slots=True)
class Broken:
    """An answer as it leaves the model. `whole` is the number of comments that stand in it in full."""

    text: str
    whole: int
    finish: str = "stop"


Breaker = Callable[[list[Said]], Broken]


def _object(said: Sequence[Said]) -> dict[str, object]:
    return {"summary": "看过了。", "findings": [entry(one) for one in said]}


def _json(said: Sequence[Said]) -> str:
    return json.dumps(_object(said), ensure_ascii=False, indent=2)


def fenced(said: list[Said]) -> Broken:
    return Broken(f"```json\n{_json(said)}\n```", len(said))


def in_prose(said: list[Said]) -> Broken:
    before = "好的，我来审查这段代码 {共一个文件}。下面是结果：\n\n"
    return Broken(f"{before}{_json(said)}\n\n以上就是全部内容 [完]，希望有帮助！", len(said))


def trailing_commas(said: list[Said]) -> Broken:
    text = _json(said)
    while (once := _LAST_OF.sub(r"\1,\n\2", text)) != text:
        text = once
    return Broken(text, len(said))


def _cut(said: list[Said]) -> tuple[str, int]:
    """In the middle of the last comment's text, or of the summary when there is none."""
    text = _json(said)
    if not said:
        return text[: text.index("看过") + 1], 0
    begin = text.rindex('"explanation": "')
    end = text.index('"suggestion"', begin)
    return text[: (begin + 16 + end) // 2], len(said) - 1


def cut(said: list[Said]) -> Broken:
    return Broken(*_cut(said), finish="length")


def cut_unsaid(said: list[Said]) -> Broken:
    """As `cut`, by a server that does not say so."""
    return Broken(*_cut(said))


def single_quotes(said: list[Said]) -> Broken:
    """As Python prints it: a text that holds a single quote stays in double ones."""
    return Broken(repr(_object(said)), len(said))


def bare_quotes(said: list[Said]) -> Broken:
    """Single quotes throughout, with those inside a text escaped."""
    text = _json(said).replace("'", "\\'")
    return Broken(re.sub(r'(?<!\\)"', "'", text).replace('\\"', '"'), len(said))


def chinese_keys(said: list[Said]) -> Broken:
    items = [{_CHINESE[key]: value for key, value in entry(one).items()} for one in said]
    text = json.dumps({"总结": "看过了。", "问题列表": items}, ensure_ascii=False)
    return Broken(text, len(said))


def empty(said: list[Said]) -> Broken:
    return Broken("", 0)


def repeated_finding(said: list[Said]) -> Broken:
    """The last comment again and again, until the server stops it."""
    if not said:
        return repeated_words(said)
    last = ",\n" + json.dumps(entry(said[-1]), ensure_ascii=False)
    text = _json(said)
    text = text[: text.rindex("]")].rstrip() + last * (3 + _ENDLESS // len(last))
    return Broken(text[: -len(last) // 2], len(said), "length")


def repeated_words(said: list[Said]) -> Broken:
    """A phrase without end in the last field but one, so that the last comment is never whole."""
    text = _json(said)
    key = '"suggestion": "' if said else '"summary": "'
    text = text[: text.rindex(key) + len(key)]
    return Broken(text + "请注意检查，" * (_ENDLESS // 6), max(0, len(said) - 1), "length")


BREAKERS: dict[str, Breaker] = {
    "fenced": fenced,
    "in prose": in_prose,
    "trailing commas": trailing_commas,
    "single quotes": single_quotes,
    "single quotes, escaped": bare_quotes,
    "Chinese keys": chinese_keys,
    "cut mid-object": cut,
    "cut, not said": cut_unsaid,
    "empty": empty,
    "finding repeated": repeated_finding,
    "words repeated": repeated_words,
}
# No file that got one of these is reviewed.
UNFINISHED = frozenset({"cut mid-object", "cut, not said", "empty", "finding repeated", "words repeated"})


@dataclass
class Row:
    present: int = 0
    recovered: int = 0
    crashes: int = 0
    invented: int = 0
    false_clean: int = 0
    failed_files: int = 0
    missed: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.recovered / self.present if self.present else 1.0

    def __add__(self, other: Row) -> Row:
        return Row(*(getattr(self, name) + getattr(other, name) for name in Row.__dataclass_fields__))


async def measure(case: Case, name: str, row: Row) -> None:
    present: set[int] = set()

    def write(said: list[Said]) -> tuple[str, str]:
        broken = BREAKERS[name](said)
        present.update(one.golden.number for one in said[: broken.whole])
        return broken.text, broken.finish

    # Whatever a review raises is a crash to be counted, and gather hands it over.
    (done,) = await asyncio.gather(run(case, ScriptedBackend(case.goldens, write)), return_exceptions=True)
    row.present += len(present)
    if isinstance(done, BaseException):
        row.crashes += 1
        row.missed.append(f"{name} {case.pr.item['id']} crashed: {done!r}")
        return
    count(case, name, present, done[0], row)


def count(case: Case, name: str, present: set[int], report: Report, row: Row) -> None:
    found: dict[int, list[Finding]] = {}
    for finding in (verdict.finding for verdict in report.verdicts):
        if finding.source != "model":
            continue
        if not any(_begins(finding, golden) for golden in case.goldens):
            row.invented += 1
            row.missed.append(f"{name} {case.pr.item['id']} invented: {finding.title!r}")
        found.setdefault(number_of(finding), []).append(finding)
    lost = [g for g in case.goldens if g.number in present and not _kept(g, found.get(g.number, []))]
    row.recovered += len(present) - len(lost)
    row.missed += [f"{name} {case.pr.item['id']} lost: {golden.title}" for golden in lost]
    reviewed = {file.path for file in report.files if file.status is FileStatus.REVIEWED}
    clean = reviewed if name in UNFINISHED else reviewed & {golden.path for golden in lost}
    row.false_clean += len(clean) + (report.verdict is VerdictWord.PASS and bool(present))
    row.failed_files += sum(file.status is FileStatus.FAILED for file in report.files)


def _kept(golden: Golden, findings: list[Finding]) -> bool:
    return any(
        golden.overlaps(finding.path, finding.start_line, finding.end_line)
        and finding.message == golden.note.strip()
        for finding in findings
    )


def _begins(finding: Finding, golden: Golden) -> bool:
    """A finding that was cut off is the beginning of a comment."""
    message = finding.message.removesuffix("…")
    return golden.title.startswith(finding.title.removesuffix("…")) and golden.note.strip().startswith(
        message
    )


async def table(prepared: Sequence[Case], names: Iterable[str] = BREAKERS) -> dict[str, Row]:
    rows = {name: Row() for name in names}
    for case in prepared:
        for name, row in rows.items():
            await measure(case, name, row)
    return rows


def main() -> int:
    with cases(bench_folder()) as prepared:
        rows = asyncio.run(table(prepared))
    rows["all"] = sum(rows.values(), Row())
    print("| answer | present in full | recovered | MOR | crashes | invented | false-clean | files failed |")
    print("|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        share = f"{row.share:.4f}" if row.present else "-"
        print(
            f"| {name} | {row.present} | {row.recovered} | {share} | {row.crashes} | {row.invented} "
            f"| {row.false_clean} | {row.failed_files} |"
        )
    for missed in rows["all"].missed:
        print(f"    {missed}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
