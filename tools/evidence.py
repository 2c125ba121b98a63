"""Findings that need no model: secrets, deceptive characters, bait, merge markers, unparsable files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from review_agent.agent.models import Category, Change, Finding, Severity, SourceFile
from review_agent.prompts import messages, say
from review_agent.tools.bait_checks import NAME, PLAIN, Bait, find_bait
from review_agent.tools.secrets import GUESSED, PRIVATE_KEY, SecretHit, find_secrets
from review_agent.tools.syntax_checks import conflict_markers, parse_fault
from review_agent.tools.unicode_checks import BIDI, HOMOGLYPH, INVISIBLE, Oddity, unicode_oddities

_MAX_SECRETS = 20
_MAX_ODDITIES = 10
_MAX_BAIT = 10
_CONFIG = re.compile(
    r"(?:^|/)\.?env(?:\.[\w.-]+)?$|(?:^|/)\.(?:npmrc|pypirc|netrc)$"
    r"|\.(?:env|properties|ini|cfg|conf|cnf|ya?ml|toml|tfvars)$"
)
_TEST = re.compile(
    r"(?:^|/)(?:tests?|__tests__|specs?|fixtures?|testdata|docs?)/"
    r"|[_.-](?:test|spec)\.\w+$|(?:^|/)test_[^/]*$"
)
_PROSE_SUFFIXES = (".md", ".markdown", ".rst", ".txt", ".adoc")
# What coding agents read as orders is no mere document.
_AGENT_FILES = re.compile(
    r"(?:^|/)(?:claude(?:\.local)?|agents?|gemini|copilot-instructions|review|skill)\.md$|(?:^|/)\.(?:cursor|windsurf|cline)"
)
_NAMED_ANEW = (Change.WHOLE, Change.ADDED, Change.RENAMED, Change.COPIED)
# Kinds that stand in tests and documents as often as not, without opening any door.
_OFTEN_HARMLESS = GUESSED | {PRIVATE_KEY, "jwt", "url-password"}


def is_config(path: str) -> bool:
    """Whether a file holds settings, where values stand without quotes."""
    return bool(_CONFIG.search(path.lower()))


def check(file: SourceFile, lang: str) -> list[Finding]:
    """All findings of `file` in line order; of a change, those in its hunks.

    Which of them are out of the diff, the caller decides.
    """
    conflicts = _conflicts(file, lang)
    near = _near_changes(file)
    findings = [*_secrets(near, lang), *_characters(near, lang), *_baits(near, lang)]
    findings += [*_mixed_encoding(near, lang), *conflicts]
    if not conflicts:  # else the markers are what does not parse
        findings += _syntax(file, lang)
    return sorted(findings, key=lambda finding: (finding.start_line, finding.rule_id))


def _near_changes(file: SourceFile) -> SourceFile:
    """The file with every line outside its hunks emptied: what was there before is nobody's finding now."""
    if file.changed is None or not file.hunks:
        return file
    lines = [""] * len(file.lines)
    for hunk in file.hunks:
        start = max(0, hunk.new_start - 1)
        lines[start : start + hunk.new_count] = file.lines[start : start + hunk.new_count]
    return replace(file, lines=tuple(lines))


def _finding(
    file: SourceFile,
    lang: str,
    rule_id: str,
    key: str,
    *,
    severity: Severity,
    confidence: float,
    lines: tuple[int, int],
    category: Category = Category.SECURITY,
    **fields: object,
) -> Finding:
    """`key` names the sentences `<key>_title`, `<key>_message` and `<key>_suggestion` of `[checks]`."""
    fields = {"line": lines[0], "end": lines[1], **fields}
    return Finding(
        rule_id=rule_id,
        category=category,
        severity=severity,
        confidence=confidence,
        path=file.path,
        start_line=lines[0],
        end_line=lines[1],
        title=say(lang, "checks", f"{key}_title", **fields),
        message=say(lang, "checks", f"{key}_message", **fields),
        suggestion=say(lang, "checks", f"{key}_suggestion", **fields),
        source="check",
    )


def _secrets(file: SourceFile, lang: str) -> list[Finding]:
    spans = _spans(find_secrets(file.lines, config=is_config(file.path)))
    findings = [_secret(file, lang, kind, lines) for kind, lines in spans[:_MAX_SECRETS]]
    if rest := spans[_MAX_SECRETS:]:
        worst = min((_secret_severity(file, kind) for kind, _ in rest), key=lambda severity: severity.rank)
        findings.append(
            _finding(
                file,
                lang,
                "secret/more",
                "secret_more",
                severity=worst,
                confidence=0.6,
                lines=(rest[0][1][0], rest[-1][1][1]),
                count=len(rest),
            )
        )
    return findings


def _spans(hits: Sequence[SecretHit]) -> list[tuple[str, tuple[int, int]]]:
    """Kind, first and last line: one per line and kind, the lines of a private key as one."""
    spans: list[tuple[str, tuple[int, int]]] = []
    for kind, line in dict.fromkeys((hit.kind, hit.line) for hit in hits):
        last = spans[-1] if spans else None
        if last and kind == PRIVATE_KEY == last[0] and last[1][1] == line - 1:
            spans[-1] = (kind, (last[1][0], line))
        else:
            spans.append((kind, (line, line)))
    return spans


def _spaced(name: str, lang: str) -> str:
    """A Latin name inside a Chinese sentence has a space before it."""
    return f" {name}" if lang == "zh-CN" and name[:1].isascii() else name


def _secret(file: SourceFile, lang: str, kind: str, lines: tuple[int, int]) -> Finding:
    guessed = kind in GUESSED
    return _finding(
        file,
        lang,
        f"secret/{kind}",
        "secret_guess" if guessed else "secret",
        severity=_secret_severity(file, kind),
        confidence=0.6 if guessed else 0.7 if kind in _OFTEN_HARMLESS else 0.9,
        lines=lines,
        kind=_spaced(messages(lang)["secret_kinds"].get(kind, kind), lang),
    )


def _secret_severity(file: SourceFile, kind: str) -> Severity:
    path = file.path.lower()
    if kind in _OFTEN_HARMLESS and (_TEST.search(path) or path.endswith(_PROSE_SUFFIXES)):
        return Severity.LOW
    return Severity.MEDIUM if kind in GUESSED else Severity.HIGH


def _characters(file: SourceFile, lang: str) -> list[Finding]:
    odd = list(unicode_oddities(file))
    findings: list[Finding] = []
    for kind in (BIDI, INVISIBLE, HOMOGLYPH):
        # The worst lines first, so that a flood of harmless ones cannot push them out.
        of_kind = sorted((item for item in odd if item.kind == kind), key=lambda item: item.severity.rank)
        findings += [_oddity(file, lang, item) for item in of_kind[:_MAX_ODDITIES]]
        if rest := of_kind[_MAX_ODDITIES:]:
            findings.append(
                _finding(
                    file,
                    lang,
                    f"text/{kind}",
                    "more",
                    severity=rest[0].severity,
                    confidence=rest[0].confidence,
                    lines=(min(item.line for item in rest), max(item.line for item in rest)),
                    count=len(rest),
                )
            )
    return findings


def _oddity(file: SourceFile, lang: str, item: Oddity) -> Finding:
    return _finding(
        file,
        lang,
        f"text/{item.kind}",
        item.kind,
        severity=item.severity,
        confidence=item.confidence,
        lines=(item.line, item.line),
        codepoints=item.code_points,
    )


def _baits(file: SourceFile, lang: str) -> list[Finding]:
    """Text for the reviewing model; the most telling first, so that a flood of others cannot push it out."""
    found = sorted(find_bait(file), key=lambda bait: _bait_severity(file, bait).rank)
    findings = [finding for bait in found[:_MAX_BAIT] if (finding := _bait(file, lang, bait))]
    if rest := found[_MAX_BAIT:]:
        findings.append(
            _finding(
                file,
                lang,
                "injection/bait",
                "bait_more",
                severity=_bait_severity(file, rest[0]),
                confidence=0.5,
                lines=(min(bait.line for bait in rest), max(bait.end for bait in rest)),
                count=len(rest),
            )
        )
    return findings


def _bait(file: SourceFile, lang: str, bait: Bait) -> Finding | None:
    lines = (bait.line, bait.end)
    if bait.how == NAME:  # about no line, so it stands at the first that is under review
        first = 1 if file.changed is None else min(file.changed, default=0)
        if not first or file.change not in _NAMED_ANEW:
            return None
        lines = (first, first)
    severity = _bait_severity(file, bait)
    words = messages(lang)
    return _finding(
        file,
        lang,
        "injection/bait",
        "bait_name" if bait.how == NAME else "bait",
        severity=severity,
        confidence=0.5 if severity is Severity.LOW else 0.7 if bait.how == PLAIN else 0.9,
        lines=lines,
        aim=words["bait_aims"][bait.family],
        hidden=words["bait_hidden"].get(bait.how, ""),
    )


def _bait_severity(file: SourceFile, bait: Bait) -> Severity:
    """What is hidden is meant; in the open, tests, documents and strings often only speak of such text."""
    path = file.path.lower()
    if bait.how != PLAIN or _AGENT_FILES.search(path):
        return Severity.MEDIUM
    mild = not bait.in_comment or _TEST.search(path) or path.endswith(_PROSE_SUFFIXES)
    return Severity.LOW if mild else Severity.MEDIUM


def _mixed_encoding(file: SourceFile, lang: str) -> list[Finding]:
    if not any(note.key == "mixed_encoding" for note in file.notes):
        return []
    broken = [number for number, line in enumerate(file.lines, start=1) if "\ufffd" in line]
    first = broken[0] if broken else 0
    return [
        _finding(
            file,
            lang,
            "text/mixed-encoding",
            "mixed_encoding",
            severity=Severity.INFO,
            confidence=1.0,
            lines=(first, first),
            category=Category.MAINTAINABILITY,
            count=len(broken),
            encoding=file.encoding,
        )
    ]


def _conflicts(file: SourceFile, lang: str) -> list[Finding]:
    # A guide to git may show a whole conflict.
    severity = Severity.LOW if file.path.lower().endswith(_PROSE_SUFFIXES) else Severity.HIGH
    return [
        _finding(
            file,
            lang,
            "text/conflict-marker",
            "conflict",
            severity=severity,
            confidence=1.0,
            lines=lines,
            category=Category.BUG,
        )
        for lines in conflict_markers(file.lines)
    ]


def _syntax(file: SourceFile, lang: str) -> list[Finding]:
    fault = parse_fault(file)
    if fault is None:
        return []
    return [
        _finding(
            file,
            lang,
            "syntax/parse-error",
            "python2" if fault.old_python else "syntax",
            severity=Severity.LOW if fault.old_python or fault.test_data else Severity.MEDIUM,
            confidence=0.9,
            lines=(fault.line, fault.line),
            category=Category.BUG,
            language=fault.language,
        )
    ]
