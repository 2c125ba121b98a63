"""Text in a file that is aimed at the model reviewing it: orders, verdicts put into its mouth, made-up turns.

Nothing here keeps such text from the model. It is reported, so that a review which fell for it does not pass
unnoticed. Words are matched by what they do (drop the instructions, nothing to report, use a tool), and
several of them must come together; see `bait_words.toml`.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from review_agent.agent.models import SourceFile
from review_agent.tools.bait_text import ENCODED, fold, rot13, uncovered, unleet
from review_agent.tools.bait_words import languages

ORDER, VERDICT, FRAME, ACTION = "order", "verdict", "frame", "action"
PLAIN, NAME, ELEMENT = "plain", "name", "element"

_BREAK = " \x1e "
_BEFORE, _AFTER = 260, 360  # characters around an anchor that are read
_SENTENCE = 400  # longer ones are cut
_MAX_LINE = 20_000
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s|[\u3002\u2026]|\x1e")

_COMMENT = re.compile(r"\s*(?:#|//|/?\*|--|;|%|<!--|\"\"\"|'''|>|rem\b|\[//\])", re.IGNORECASE)
_QUOTED = re.compile(r"\s*(?:[frbu]{0,2}[\"'`])", re.IGNORECASE)
_TRAILING = re.compile(r"(?:^|\s)(?:#|//|/\*|--|<!--|;|%)")
_HIDING = re.compile(
    r"<!--|^\s*\[//\]: ?#|\shidden[\s>]"
    r"|(?:display ?: ?none|visibility ?: ?hidden|(?:font-size|opacity) ?: ?0)\b",
    re.I,
)
_PROSE_LANGUAGES = frozenset({"markdown", "restructuredtext", "asciidoc", "text", "latex", "tex"})
_BLOCKS = (("/*", "*/"), ("<!--", "-->"), ('"""', '"""'), ("'''", "'''"))
_PARTS_OF_NAME = re.compile(r"[_\-.+/\s]+|(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Bait:
    """Lines `line` to `end` hold it, line 0 is the file's name; `how` it was hidden.

    `in_comment`: or in prose, where people are spoken to, not in a string or in code.
    """

    line: int
    end: int
    family: str
    how: str
    in_comment: bool


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where bait was read, and how."""

    first: int
    last: int
    family: str
    how: str


@dataclass(frozen=True, slots=True)
class _Flow:
    """The lines of a file as one folded text; line `i + 1` begins at `starts[i]`."""

    text: str
    starts: tuple[int, ...]

    def line(self, at: int) -> int:
        return max(1, bisect_right(self.starts, at))


def find_bait(file: SourceFile) -> list[Bait]:
    """All bait of `file` in line order, at most one for a line."""
    kinds = _kinds(file)
    found: dict[int, Bait] = {}
    for spot in (*_disguised(file.lines), *_in_flow(_flow(file.lines, kinds))):
        if not any(number in found for number in range(spot.first, spot.last + 1)):
            found[spot.first] = _bait(file, kinds, spot)
    if family := _in_name(file.path):
        found[0] = Bait(0, 0, family, NAME, in_comment=True)
    return [found[number] for number in sorted(found)]


def _disguised(lines: Sequence[str]) -> Iterator[_Spot]:
    for number, line in enumerate(lines, start=1):
        for text, how in uncovered(line[:_MAX_LINE]):
            if family := _family(text):
                yield _Spot(number, number, family, how)
                break


def _in_flow(flow: _Flow) -> Iterator[_Spot]:
    readings = (
        (PLAIN, flow.text, None),
        (ENCODED, rot13(flow.text), ("en",)),
        (ENCODED, unleet(flow.text), ("en",)),
    )
    for how, text, names in readings:
        for start, end, family in _hits(text, names):
            yield _Spot(flow.line(start), flow.line(max(start, end - 1)), family, how)


def _bait(file: SourceFile, kinds: Sequence[str], spot: _Spot) -> Bait:
    lines = file.lines[spot.first - 1 : spot.last]
    hidden = spot.how == PLAIN and any(_HIDING.search(line) for line in lines)
    in_comment = kinds[spot.first - 1] == "comment" or bool(_TRAILING.search(lines[0]))
    return Bait(spot.first, spot.last, spot.family, ELEMENT if hidden else spot.how, in_comment)


def _family(text: str) -> str:
    return next((family for _, _, family in _hits(fold(text))), "")


def _in_name(path: str) -> str:
    return _family(_PARTS_OF_NAME.sub(" ", path))


def _kinds(file: SourceFile) -> list[str]:
    """For each line: comment (prose, docstrings too), quoted (a string on its own) or code."""
    prose = file.language in _PROSE_LANGUAGES
    kinds: list[str] = []
    closing = ""
    for line in file.lines:
        if prose or closing or _COMMENT.match(line):
            kinds.append("comment")
        else:
            kinds.append("quoted" if _QUOTED.match(line) else "code")
        if closing:
            closing = "" if closing in line else closing
        elif not prose:
            closing = next((end for begin, end in _BLOCKS if _opens(line, begin, end)), "")
    return kinds


def _opens(line: str, begin: str, end: str) -> bool:
    if begin not in line:
        return False
    if begin == end:
        return line.count(begin) % 2 == 1
    return line.rfind(end) < line.rfind(begin)


def _flow(lines: Sequence[str], kinds: Sequence[str]) -> _Flow:
    """Lines of one comment flow together; lines of code stand apart."""
    pieces: list[str] = []
    before = "code"
    for line, kind in zip(lines, kinds, strict=True):
        pieces.append((_BREAK if kind == "code" or kind != before else " ") + fold(line[:_MAX_LINE]))
        before = kind
    ends = list(accumulate(map(len, pieces)))
    return _Flow("".join(pieces), tuple([0, *ends[:-1]]) if ends else ())


def _hits(text: str, names: Sequence[str] | None = None) -> Iterator[tuple[int, int, str]]:
    """(start, end, family) of each bait in a folded text."""
    anchors = sorted(_anchors(text, names))
    spots = [at for at, _ in anchors]
    covered = -1
    for at in spots:
        if at < covered:
            continue
        start = max(text.rfind("\x1e", max(0, at - _BEFORE), at) + 1, at - _BEFORE, 0)
        stop = text.find("\x1e", at, at + _AFTER)
        end = stop if stop >= 0 else min(len(text), at + _AFTER)
        here = {name for _, name in anchors[bisect_left(spots, start) : bisect_right(spots, end)]}
        covered = end if stop >= 0 else max(at + 1, end - 150)
        yield from _read(text, start, end, tuple(sorted(here)))


def _anchors(text: str, names: Sequence[str] | None) -> Iterator[tuple[int, str]]:
    for name, language in languages().items():
        if names is not None and name not in names:
            continue
        for anchor in language.anchors:
            at = text.find(anchor)
            while at >= 0:
                yield at, name
                at = text.find(anchor, at + len(anchor))


def _read(text: str, start: int, end: int, names: tuple[str, ...]) -> Iterator[tuple[int, int, str]]:
    """Sentence by sentence, alone and with the one before."""
    before: frozenset[str] = frozenset()
    before_start = start
    for first, last in _sentences(text, start, end):
        cues = _cues(text[first:last], names)
        alone = _judge(cues)
        family = alone or (_judge(cues | before) if before else "")
        if family:
            yield first if alone else before_start, last, family
        before, before_start = (frozenset() if family else cues), first


@lru_cache(maxsize=4096)  # comments repeat themselves, and so does a flood
def _cues(sentence: str, names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(
        cue for name in names for cue, pattern in languages()[name].cues.items() if pattern.search(sentence)
    )


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    at = start
    bounds = [match.start() for match in _SENTENCE_END.finditer(text, start, end)]
    for bound in (*bounds, end):
        while bound - at > _SENTENCE:
            yield at, at + _SENTENCE
            at += _SENTENCE
        sentence = text[at:bound]
        if len(sentence.strip()) > 3:
            yield bound - len(sentence.lstrip()), at + len(sentence.rstrip())
        at = bound + 1


def _judge(cues: Set[str]) -> str:
    """What the cues of one or two sentences are together; '' for nothing."""
    if "condition" in cues and "address" not in cues:
        cues = cues - _NOT_WITH_A_CONDITION
    return next((family for family, wanted in _COMBINATIONS if all(one & cues for one in wanted)), "")


# "Report no issues if the folder is empty" says how a program behaves.
_NOT_WITH_A_CONDITION = frozenset(
    ("silence", "act_first", "tool", "send", "word", "tag", "audit", "mode", "reviewer")
)


def _together(*wanted: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(one.split("|")) for one in wanted)


# Which cues make bait: one of each group must be there.
_COMBINATIONS = (
    (ORDER, _together("override")),
    (FRAME, _together("frame", "clean|mute|silence|reviewer|mode|address")),
    (FRAME, _together("turn", "silence")),
    (FRAME, _together("turn", "tell", "clean|place|mode|mute|reviewer")),
    (FRAME, _together("turn", "clean", "mute|reviewer|mode|place")),
    (FRAME, _together("result", "clean|mute|silence")),
    (VERDICT, _together("silence")),
    (ACTION, _together("act_first", "address|reviewer|act")),
    (ACTION, _together("tool|send")),
    (ACTION, _together("word|tag", "place|your_place")),
    (ACTION, _together("reviewer_must", "place", "tell", "url")),
    (VERDICT, _together("reviewer_must", "mute")),
    (ACTION, _together("url", "place|your_place", "reviewer|address|your_place", "tell")),
    (ACTION, _together("address", "run")),
    (ACTION, _together("permit", "address|reviewer|act")),
    (ACTION, _together("leak", "order", "place|your_place")),
    (VERDICT, _together("address", "mute")),
    (VERDICT, _together("address", "clean", "tell|audit|reviewer")),
    (ACTION, _together("address", "leak", "tell|act")),
    (ACTION, _together("address", "act", "reviewer|place")),
    (VERDICT, _together("audit", "mute", "clean|reviewer")),
    (VERDICT, _together("reviewer", "clean", "mute|audit", "tell")),
    (VERDICT, _together("address", "rank")),
    (ORDER, _together("mode", "tell", "clean|mute|place")),
    (ORDER, _together("mode", "address")),
    (ORDER, _together("your_orders", "mute")),
    (VERDICT, _together("audit", "mute", "machine")),
)
