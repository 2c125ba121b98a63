"""Fields of a finding as models name and fill them: synonyms, Chinese names, words for numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

from review_agent.agent.models import Candidate, Category, Severity

_MAX_LINE = 10_000_000
_MAX_SUMMARY = 1000
_MAX_TITLE = 200
_MAX_PROSE = 4000
_MAX_QUOTE = 2000
_MAX_PATH = 1000

# Names are compared in lower case without blanks, `_` and `-`. The first name that holds a usable value wins.
_NAMES = {
    "findings": "findings issues problems comments results defects bugs reviewcomments"
    " 问题 问题列表 发现 发现列表 缺陷 审查结果 检查结果 结果 评论 审查意见",
    "path": "path file filename filepath 路径 文件路径 文件 文件名",
    "title": "title headline subject name 标题 问题标题 名称 问题",
    "explanation": "explanation message msg description desc details detail body comment text reason"
    " rationale issue problem content"
    " 说明 描述 解释 问题描述 问题说明 详情 详细说明 消息 信息 内容 原因 理由",
    "suggestion": "suggestion suggestions recommendation fix advice solution remediation"
    " 建议 修改建议 修复建议 改进建议 解决方案 修复方案",
    "replacement": "replacement suggestedcode fixedcode newcode improvedcode replacementcode"
    " 替换 替换代码 修改后代码 修复代码 修复后代码 建议代码",
    "quote": "quote quotedcode existingcode codesnippet snippet code originalcode evidence"
    " 引用 引用代码 代码片段 代码 原代码 原文 问题代码",
    "category": "category type kind 类别 分类 类型 种类 问题类型",
    "severity": "severity level priority 严重程度 严重性 严重级别 严重等级 级别 等级 优先级",
    "confidence": "confidence certainty 置信度 可信度 确信度 把握 信心",
    "line_start": "linestart startline line lines linenumber lineno fromline linerange start"
    " 起始行 开始行 起始行号 开始行号 行号 行 行数 位置",
    "line_end": "lineend endline toline end 结束行 终止行 结束行号 终止行号",
    "summary": "summary overview conclusion 总结 总评 概述 摘要 小结",
}
_FIELDS = {name: tuple(words.split()) for name, words in _NAMES.items()}
_LISTS = set(_FIELDS["findings"]) - set(_FIELDS["title"])
# What tells a finding from any other object: a server's error has a message, a type and a code as well.
_TELLING = (*_FIELDS["line_start"], "severity", "严重程度", "严重性", "quote", "existingcode", "引用")
_NOTHING = frozenset(
    ("null", "none", "nil", "undefined", "n/a", "string", "str", "...", "…", "-", "无", "暂无", "没有")
)

Word = TypeVar("Word")


def _words(table: Mapping[Word, str]) -> dict[str, Word]:
    return {word: meaning for meaning, words in table.items() for word in words.split()}


_SEVERITIES = _words(
    {
        Severity.CRITICAL: "critical blocker blocking fatal urgent severe 致命 严重 紧急 阻断 极高 p0",
        Severity.HIGH: "high major error important serious 高 高危 较高 重要 重大 主要 错误 p1",
        Severity.MEDIUM: "medium moderate warning warn normal mid 中 中等 中危 一般 普通 警告 p2",
        Severity.LOW: "low minor trivial small 低 低危 较低 轻微 次要 p3",
        Severity.INFO: "info information note notice hint suggestion nit 提示 信息 建议 注意 p4",
    }
)
_CATEGORIES = _words(
    {
        Category.SECURITY: "security vulnerability injection privacy 安全 漏洞 隐私 注入",
        Category.BUG: "bug correctness logic error defect functional 缺陷 错误 逻辑 正确性 功能",
        Category.PERFORMANCE: "performance efficiency speed memory resource 性能 效率 资源",
        Category.MAINTAINABILITY: "maintainability readability design complexity refactor duplication"
        " documentation quality bestpractice 维护性 可读性 设计 复杂度 重构 重复 文档 质量",
        Category.TEST: "test coverage 测试 覆盖率",
        Category.STYLE: "style format naming convention lint 风格 格式 命名 规范 样式",
    }
)
_CONFIDENCES = _words(
    {0.9: "high veryhigh certain 高 很高 确定", 0.6: "medium moderate 中 中等", 0.3: "low verylow 低 较低"}
)
_LINE = re.compile(
    r"(-?)(\d{1,20})(?!\d)(?:\.0+)?(?:\s*行?\s*(?:-|–|—|~|～|\.\.|to|至|到)\s*[Ll第]?\s*(\d{1,20})(?!\d))?"
)
_NUMBER = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(%|％|/100?)?")
_SENTENCE = re.compile(r"(.+?)(?:[。！？!?\n]|\.\s|\Z)", re.DOTALL)


def name_of(key: object) -> str:
    return re.sub(r"[\s_\-\"'“”‘’「」`]", "", str(key)[:60]).lower()


def named(value: Mapping[str, object]) -> dict[str, object]:
    return {name_of(key): item for key, item in value.items()}


def key_pattern(*fields: str) -> re.Pattern[str]:
    """Matches a key of these fields where JSON, or what tries to be JSON, has one."""
    words = (word for field in fields for word in _FIELDS[field])
    names = "|".join(r"[\s_-]?".join(map(re.escape, word)) if word.isascii() else word for word in words)
    quote = "\"'`“”‘’「」"
    return re.compile(rf"(?:[{{,\[]\s*|(?=[{quote}]))[{quote}]?(?:{names})[{quote}]?\s*[:：]", re.IGNORECASE)


def findings_of(fields: Mapping[str, object]) -> object:
    """What an object holds under the names for the list of findings: objects first, an empty list last."""
    held = [fields[name] for name in _FIELDS["findings"] if isinstance(fields.get(name), list | dict | str)]
    usable = [item for item in held if not isinstance(item, str) or item.lstrip()[:1] in {"[", "{"}]
    best = max(usable, key=lambda item: (holds_objects(item), bool(item)), default=None)
    # `"findings": null` beside an empty list of something else does not say that there are none.
    return None if not best and "findings" in fields and not isinstance(fields["findings"], list) else best


def holds_objects(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict | list) for item in value)


def path_of(fields: Mapping[str, object]) -> str:
    return _text(fields, "path", _MAX_PATH).strip()


def summary_of(fields: Mapping[str, object]) -> str:
    return _prose(fields, "summary", _MAX_SUMMARY)


def says_something(fields: Mapping[str, object]) -> bool:
    return bool(_text(fields, "title", _MAX_TITLE) or _text(fields, "explanation", _MAX_TITLE))


def is_finding(fields: Mapping[str, object]) -> bool:
    """Whether an object is a finding although nothing around it says so."""
    return "findings" not in fields and says_something(fields) and any(name in fields for name in _TELLING)


def is_entry(fields: Mapping[str, object]) -> bool:
    """Whether an object found near a broken findings list is one of its findings."""
    return says_something(fields) and (is_finding(fields) or not any(name in fields for name in _LISTS))


def candidate(entry: object, path: str) -> Candidate | None:
    """None when there is no message in it. `path` is what a wrapper said."""
    if not isinstance(entry, dict):
        return None
    fields = named(entry)
    explanation = _prose(fields, "explanation", _MAX_PROSE) or summary_of(fields)
    title = " ".join(_text(fields, "title", _MAX_PROSE).split()) or _first_sentence(explanation)
    if not title:
        return None
    start, end = _lines(fields)
    replacement = _text(fields, "replacement", _MAX_PROSE + 1)
    return Candidate(
        title=_bounded(title, _MAX_TITLE),
        category=_category(fields),
        severity=_severity(fields),
        confidence=_confidence(fields),
        quote=_text(fields, "quote", _MAX_QUOTE),
        path=path_of(fields) or path,
        line_start=start,
        line_end=end,
        explanation=explanation,
        suggestion=_prose(fields, "suggestion", _MAX_PROSE),
        # Half a replacement is broken code: rather none.
        replacement=replacement if len(replacement) <= _MAX_PROSE else "",
    )


def _values(fields: Mapping[str, object], field: str) -> Iterator[object]:
    return (fields[name] for name in _FIELDS[field] if name in fields)


def _text(fields: Mapping[str, object], field: str, limit: int) -> str:
    """The first usable text, cut, without newlines around it; fit to be written as UTF-8."""
    for held in _values(fields, field):
        lines = [item for item in held[:limit] if isinstance(item, str)] if isinstance(held, list) else []
        value = "\n".join(lines) or held
        if isinstance(value, str) and value[:20].strip().lower() not in _NOTHING:
            text = value.strip("\r\n")[:limit]
            if not text.isspace():
                return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return ""


def _prose(fields: Mapping[str, object], field: str, limit: int) -> str:
    return _bounded(_text(fields, field, limit + 1).strip(), limit)


def _bounded(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _first_sentence(text: str) -> str:
    found = _SENTENCE.match(text)
    return " ".join(found[1].split()) if found else ""


def _lines(fields: Mapping[str, object]) -> tuple[int, int]:
    """First and last line, 0 and 0 when not said."""
    starts = (_span(value) for value in _values(fields, "line_start"))
    start, end = next((span for span in starts if span[0]), (0, 0))
    ends = (_span(value)[0] for value in _values(fields, "line_end"))
    end = next((line for line in ends if line), end)
    start = start or end
    return start, max(start, end)


def _span(value: object) -> tuple[int, int]:
    if isinstance(value, dict):
        return _lines(named(value))
    if isinstance(value, list):
        ends = [_span(item)[0] for item in value[:2] if not isinstance(item, list | dict)] or [0]
        return ends[0], ends[-1]
    if isinstance(value, str):
        found = _LINE.search(value[:100])
        if found is None or found[1]:
            return 0, 0
        return _line(int(found[2])), _line(int(found[3] or found[2]))
    line = _line(value)
    return line, line


def _line(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= _MAX_LINE:
        return 0
    return int(value)


def _severity(fields: Mapping[str, object]) -> Severity:
    for value in _values(fields, "severity"):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _severity_of(float(value))
        if isinstance(value, str):
            if re.fullmatch(r"\s*\d{1,2}(\.\d+)?\s*", value[:20]):
                return _severity_of(float(value))
            meant = _meant(value, _SEVERITIES)
            if 0 < len(meant) < 3:  # all of them is the form's "high|medium|low", sent back
                return min(meant, key=lambda severity: severity.rank)
    return Severity.MEDIUM


def _severity_of(number: float) -> Severity:
    """1 to 5, 5 the worst; above that a CVSS score."""
    if number > 5:
        return Severity.CRITICAL if number >= 9 else Severity.HIGH if number >= 7 else Severity.MEDIUM
    worst_last = list(reversed(Severity))
    return worst_last[max(1, int(number)) - 1] if number > 0 else Severity.MEDIUM


def _category(fields: Mapping[str, object]) -> Category:
    for value in _values(fields, "category"):
        meant = _meant(value, _CATEGORIES) if isinstance(value, str) else []
        if 0 < len(meant) < 3:
            return meant[0]
    return Category.BUG


def _meant(text: str, words: Mapping[str, Word]) -> list[Word]:
    """What a word means, or else the words in it; in the table's order."""
    name = name_of(text)
    if name in words:
        return [words[name]]
    found = (meaning for word, meaning in words.items() if len(word) > 1 + word.isascii() and word in name)
    return list(dict.fromkeys(found))


def _confidence(fields: Mapping[str, object]) -> float:
    for value in _values(fields, "confidence"):
        number = float("nan")
        if isinstance(value, str):
            if (word := name_of(value)) in _CONFIDENCES:
                return _CONFIDENCES[word]
            if found := _NUMBER.fullmatch(value[:30].strip()):
                scale = found[2] or ""
                number = float(found[1]) / (10 if scale.endswith("/10") else 100 if scale else 1)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value) if abs(value) < 1000 else number
        number = number / 100 if 1 < number <= 100 else number
        if 0 <= number <= 1 and not math.isnan(number):
            return number
    return 0.5
