"""Reads a model's answer: strict JSON first, then json-repair, then the findings that are whole, one by one.

Small models wrap, cut, translate and repeat what they were asked for. Two things never happen here: an answer
that cannot be read becoming "no findings", and a finding that was said completely being lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from review_agent.agent.answer_fields import (
    candidate,
    findings_of,
    holds_objects,
    is_entry,
    is_finding,
    key_pattern,
    named,
    path_of,
    says_something,
    summary_of,
)
from review_agent.agent.answer_json import (
    MAX_REPAIR,
    REPAIR_STEPS,
    Part,
    decode,
    is_closed,
    repair,
    scan,
    tidy,
    without_reasoning,
)
from review_agent.agent.errors import AnswerUnreadable
from review_agent.agent.models import Answer, Candidate

_MAX_TEXT = 1_500_000  # characters looked at; a longer answer counts as cut
_MAX_BROKEN = 400_000  # of an answer that is not plain JSON
_MAX_ENTRIES = 6000
_MAX_DEPTH = 6
_MAX_REPAIRS = 1000  # pieces of an answer, beyond which it is not repaired as a whole

_ERRORS = ("error", "errors", "错误")
_CARRIERS = ("arguments", "content", "response", "output", "answer", "result", "text")
_LIST_KEY = key_pattern("findings")
_SPOKEN_KEY = key_pattern("findings", "title", "explanation")
_REFUSAL = re.compile(r"sorry|can(?:no|'|’)t|unable|抱歉|无法|不能|对不起", re.IGNORECASE)
_WIDE = str.maketrans("｛｝［］：，＂", '{}[]:,"')


def parse(text: str, *, cut: bool = False, max_findings: int = 40) -> Answer:
    """Raises `AnswerUnreadable` for anything but findings, or a complete and empty list of them.

    `cut` says that the server stopped the model. Findings beyond `max_findings` are counted in `dropped`.
    An answer with `dropped` and without candidates is not a clean one.
    """
    text = text.strip("\ufeff\0 \t\r\n")
    if not text:
        raise AnswerUnreadable("answer_empty")
    try:
        pile, closed = _read(text[:_MAX_TEXT])
    except AnswerUnreadable as exc:
        if cut and exc.key == "answer_not_json":
            raise AnswerUnreadable("answer_cut") from exc
        raise
    complete = closed and not cut and len(text) <= _MAX_TEXT
    kept, dropped = _keep(pile.entries, complete)
    if not kept and not complete:
        raise AnswerUnreadable("answer_cut")
    dropped += pile.overflow + max(0, len(kept) - max_findings)
    return Answer(tuple(kept[:max_findings]), pile.summary, complete, dropped)


def _keep(entries: list[tuple[object, str]], complete: bool) -> tuple[list[Candidate], int]:
    """Findings without their repetitions, and the number of entries that say nothing."""
    kept: dict[tuple[str, int, str, str, str], Candidate] = {}
    dropped = 0
    for number, (entry, path) in enumerate(entries, start=1):
        found = candidate(entry, path)
        last_of_cut = number == len(entries) and not complete
        if found is None:
            dropped += not last_of_cut
        elif not (last_of_cut and _repeats(found, list(kept.values()))):
            said = (found.path, found.line_start, found.title, found.explanation, found.quote)
            kept.setdefault(said, found)
    return list(kept.values()), dropped


def _repeats(cut: Candidate, others: list[Candidate]) -> bool:
    """Whether a finding that was cut off is the beginning of one that was not."""
    return any(
        other.title.startswith(cut.title)
        and other.explanation.startswith(cut.explanation)
        and other.quote.startswith(cut.quote)
        and cut.line_start in {0, other.line_start}
        for other in others
    )


@dataclass
class _Pile:
    """Entries of findings lists, with the path their wrapper named. `answered`: there was such a list."""

    entries: list[tuple[object, str]] = field(default_factory=list)
    answered: bool = False
    refused: bool = False
    summary: str = ""
    overflow: int = 0

    def add(self, value: object, path: str, depth: int = 0) -> None:
        """An element of a findings list: lists in it are flattened, groups by file opened."""
        if len(self.entries) >= _MAX_ENTRIES:
            self.overflow += 1
        elif isinstance(value, list) and depth < _MAX_DEPTH:
            for item in value:
                self.add(item, path, depth + 1)
        elif isinstance(value, dict) and _is_group(named(value)):
            self.take(value, path, depth + 1)
        else:
            self.entries.append((value, path))

    def take(self, value: object, path: str = "", depth: int = 0) -> None:
        """Anything decoded: the findings lists in it are added."""
        if depth > _MAX_DEPTH:
            return
        if isinstance(value, dict):
            self._take_object(named(value), value, path, depth)
        elif isinstance(value, list):
            if any(isinstance(item, dict) and is_finding(named(item)) for item in value):
                self.answered = True
                self.add(value, path, depth)
            else:
                for item in value:
                    self.take(item, path, depth + 1)

    def _take_object(self, fields: dict[str, object], value: object, path: str, depth: int) -> None:
        found = findings_of(fields)
        failed = any(fields.get(name) for name in _ERRORS)
        self.refused = self.refused or failed
        if is_finding(fields) and not holds_objects(found):
            self.answered = True
            self.add(value, path, depth)
        elif found is not None:
            self.summary = self.summary or summary_of(fields)
            before = len(self.entries)
            self._take_list(found, path_of(fields) or path, depth)
            if len(self.entries) == before:  # an empty list: it must be the only one
                self.take([item for item in fields.values() if item is not found], path, depth + 1)
        elif not failed:
            for name, item in fields.items():
                inner = decode(item) if isinstance(item, str) and name in _CARRIERS else item
                # JSON inside a string may be a quotation: it can add findings, but never say "clean".
                if inner is item or _pile(inner).entries:
                    self.take(inner, path_of(fields) or path, depth + 1)

    def _take_list(self, found: object, path: str, depth: int) -> None:
        before = len(self.entries)
        if isinstance(found, list):
            self.answered = True
            self.add(found, path, depth)
        elif isinstance(found, dict) and says_something(named(found)):
            self.add(found, path, depth)
        elif isinstance(found, dict):  # findings grouped by severity, number or file
            for item in found.values():
                if holds_objects(item) or (isinstance(item, dict) and says_something(named(item))):
                    self.add(item, path, depth + 1)
                else:
                    self.take(item, path, depth + 1)
        elif isinstance(found, str):
            self.take(decode(found), path, depth + 1)
        self.answered = self.answered or len(self.entries) > before


def _is_group(fields: dict[str, object]) -> bool:
    return not says_something(fields) and findings_of(fields) is not None


def _pile(value: object) -> _Pile:
    pile = _Pile()
    pile.take(value)
    return pile


_Found = tuple[Part, _Pile]


def _read(text: str) -> tuple[_Pile, bool]:
    """The entries, and whether the answer came to its end."""
    whole = decode(text)
    whole = decode(whole) if isinstance(whole, str) else whole
    if isinstance(whole, dict | list):
        pile = _pile(whole)
        if whole == [] or (pile.answered and (pile.entries or not pile.refused)):
            return pile, True
        raise AnswerUnreadable("answer_no_findings_list")
    text, ended = without_reasoning(text)
    if not text.strip():
        raise AnswerUnreadable("answer_only_reasoning")
    if "{" not in text and "｛" in text:
        text = text.translate(_WIDE)
    parts, answers = _parts(text)
    if not answers and len(text) <= _MAX_BROKEN:
        tidied = tidy(text)
        tidy_parts, tidy_answers = _parts(tidied)
        if tidy_answers:
            text, parts, answers = tidied, tidy_parts, tidy_answers
    text = _blanked(text, [part for part, _ in answers])
    for part, pile in reversed(answers):
        if pile.entries:
            rest = text[part.end :]
            return pile, ended and len(rest) <= _MAX_BROKEN and _SPOKEN_KEY.search(rest) is None
    refused = _REFUSAL.search(text[:_MAX_BROKEN]) or any(pile.refused for _, pile in parts)
    if answers and not refused and len(text) <= _MAX_BROKEN and not _SPOKEN_KEY.search(text):
        return answers[-1][1], ended
    pile, closed = _mend(text[:_MAX_BROKEN], parts)
    return pile, ended and closed


def _parts(text: str) -> tuple[list[_Found], list[_Found]]:
    """The JSON values in a text, and those of them that are answers."""
    parts = [(part, _pile(part.value)) for part in scan(text)]
    return parts, [(part, pile) for part, pile in parts if _stands_alone(part, pile, text)]


def _blanked(text: str, parts: list[Part]) -> str:
    ends = [0, *(part.end for part in parts)]
    starts = [*(part.start for part in parts), len(text)]
    between = (text[end:start] for end, start in zip(ends, starts, strict=True))
    gaps = (" " * (part.end - part.start) for part in parts)
    return "".join(kept + gap for kept, gap in zip(between, [*gaps, ""], strict=True))


def _stands_alone(part: Part, pile: _Pile, text: str) -> bool:
    """Whether this is an answer of its own, and not a piece of one that is broken around it."""
    if part.value == []:
        return not (text[: part.start] + text[part.end :]).strip("`jsonJSON \r\n\t")
    if not isinstance(part.value, dict) or not pile.answered:
        return False
    before = text[max(0, part.start - 200) : part.start].rstrip()
    return findings_of(named(part.value)) is not None and before[-1:] not in {"[", ","}


def _mend(text: str, parts: list[_Found]) -> tuple[_Pile, bool]:
    """A broken answer: the findings in it that are whole, and what json-repair makes of the rest.

    It is never clean: json-repair closes what was cut, and leaves out what it cannot read.
    """
    spoken, listed = _SPOKEN_KEY.search(text), _LIST_KEY.search(text)
    if spoken is None:
        raise AnswerUnreadable("answer_not_json")
    first = min(at for at in (text.find("{"), text.find("["), len(text)) if at >= 0)
    steps = [REPAIR_STEPS]
    pieces = _Pile(answered=True)
    at = first
    for part, pile in parts:
        if part.end <= len(text) and _is_piece(part, pile, text, listed.start() if listed else len(text)):
            pieces.entries += _mended(text[at : part.start], steps, listed is not None)
            pieces.entries += pile.entries or [(part.value, "")]
            at = part.end
    pieces.entries += _mended(text[at:], steps, listed is not None)
    whole = _pile(repair(text[first:], steps)) if len(parts) < _MAX_REPAIRS else _Pile()
    best = max(pieces, whole, key=_spots)
    closed = len(text) - first <= MAX_REPAIR and is_closed(text[first:])
    if closed and not best.entries:
        raise AnswerUnreadable("answer_not_json")
    return best, closed


def _spots(pile: _Pile) -> int:
    """How many findings there are, not counting one finding in two wordings."""
    return len({(found.path, found.line_start, found.title) for found in _keep(pile.entries, True)[0]})


def _is_piece(part: Part, pile: _Pile, text: str, listed: int) -> bool:
    """Whether this is a finding or a list of them, and not JSON in the code that one quotes."""
    before = text[max(0, part.start - 200) : part.start].rstrip()[-1:]
    if before in {"'", '"', "`", "\\"}:
        return False
    fields = named(part.value) if isinstance(part.value, dict) else {}
    return bool(pile.entries) or (part.start > listed and is_entry(fields))


def _mended(text: str, steps: list[int], listed: bool) -> list[tuple[object, str]]:
    """Findings in what lies between whole ones, by json-repair."""
    if not _SPOKEN_KEY.search(text):
        return []
    value = repair(text, steps)
    pile = _pile(value)
    if pile.answered or not listed:
        return pile.entries
    items = value if isinstance(value, list) else [value]
    return [(item, "") for item in items if isinstance(item, dict) and is_entry(named(item))]
