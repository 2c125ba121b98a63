"""Text in a file that is aimed at the model reviewing it: orders, verdicts put into its mouth, made-up turns.

Nothing here keeps such text from the model. It is reported, so that a review which fell for it does not pass
unnoticed. Words are matched by what they do (drop the instructions, nothing to report, use a tool) and several
of them must come together; see `bait_words.toml`.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from review_agent.agent.models import SourceFile
from review_agent.tools.bait_text import fold, rot13, uncovered, unleet
from review_agent.tools.bait_words import languages

ORDER, VERDICT, FRAME, ACTION = "order", "verdict", "frame", "action"
PLAIN, CIPHER, NAME, ELEMENT = "plain", "encoded", "name", "element"

_BREAK = " \x1e "
_BEFORE, _AFTER = 260, 360  # characters around an anchor that are read
_SENTENCE = 400  # longer ones are cut
_MAX_LINE = 20_000
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s|[\u3002\u2026]|\x1e")

_COMMENT = re.compile(r"\s*(?:#|//|/?\*|--|;|%|<!--|\"\"\"|'''|>|rem\b|\[//\])", re.IGNORECASE)
_QUOTED = re.compile(r"\s*(?:[frbu]{0,2}[\"'`])", re.IGNORECASE)
_TRAILING = re.compile(r"(?:^|\s)(?:#|//|/\*|--|<!--|;|%)")
_HIDING = re.compile(
    r"<!--|^\s*\[//\]: ?#|display ?: ?none|visibility ?: ?hidden|font-size ?: ?0|opacity ?: ?0\b|\shidden[\s>]", re.I
)
_PROSE_LANGUAGES = frozenset({"markdown", "restructuredtext", "asciidoc", "text", "latex", "tex"})
_BLOCKS = (("/*", "*/"), ("<!--", "-->"), ('"""', '"""'), ("'''", "'''"))
_PARTS_OF_NAME = re.compile(r"[_\-.+/\s]+|(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Bait:
    """Lines `line` to `end` hold it; line 0 is the file's name. `how` it was hidden, `in_comment` where it stands."""

    line: int
    end: int
    family: str
    how: str
    in_comment: bool


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
    flow = _flow(file.lines, kinds)
    found: dict[int, Bait] = {}
    readings = [(PLAIN, flow.text)]
    readings += [(CIPHER, text) for text in (rot13(flow.text), unleet(flow.text)) if flow.text.isascii() or True]
    for how, text in readings:
        for start, end, family in _hits(text, names=None if how == PLAIN else ("en",)):
            first, last = flow.line(start), flow.line(max(start, end - 1))
            if not any(number in found for number in range(first, last + 1)):
                found[first] = _bait(file, kinds, first, last, family, how)
    for number, line in enumerate(file.lines, start=1):
        if number in found or len(line) < 8:
            continue
        for text, how in uncovered(line[:_MAX_LINE]):
            if family := next((hit[2] for hit in _hits(fold(text))), ""):
                found[number] = _bait(file, kinds, number, number, family, how)
                break
    if family := _in_name(file.path):
        found[0] = Bait(0, 0, family, NAME, True)
    return [found[number] for number in sorted(found)]


def _bait(file: SourceFile, kinds: Sequence[str], first: int, last: int, family: str, how: str) -> Bait:
    lines = file.lines[first - 1 : last]
    if how == PLAIN and any(_HIDING.search(line) for line in lines):
        how = ELEMENT
    in_comment = kinds[first - 1] == "comment" or any(_TRAILING.search(line) for line in lines[:1])
    return Bait(first, last, family, how, in_comment)


def _in_name(path: str) -> str:
    text = _PARTS_OF_NAME.sub(" ", path)
    return next((family for _, _, family in _hits(fold(text))), "")


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
        yield from _read(text, start, end, sorted(here))


def _anchors(text: str, names: Sequence[str] | None) -> Iterator[tuple[int, str]]:
    for name, language in languages().items():
        if names is not None and name not in names:
            continue
        for anchor in language.anchors:
            at = text.find(anchor)
            while at >= 0:
                yield at, name
                at = text.find(anchor, at + len(anchor))


def _read(text: str, start: int, end: int, names: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Sentence by sentence, alone and with the one before."""
    before: Mapping[str, object] = {}
    last_start = start
    for first, last in _sentences(text, start, end):
        sentence = text[first:last].strip()
        cues = {cue for name in names for cue, pattern in languages()[name].cues.items() if pattern.search(sentence)}
        if family := _judge(cues):
            yield first, last, family
            before = {}
        elif before and (family := _judge(cues | set(before))):
            yield last_start, last, family
            before = {}
        else:
            before = dict.fromkeys(cues)
            last_start = first


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    at = start
    bounds = [match.start() for match in _SENTENCE_END.finditer(text, start, end)]
    for bound in (*bounds, end):
        while bound - at > _SENTENCE:
            yield at, at + _SENTENCE
            at += _SENTENCE
        if bound - at > 3:
            yield at, bound
        at = bound + 1


def _judge(cues: set[str]) -> str:
    """What the cues of one or two sentences are together; '' for nothing."""
    has = cues.__contains__
    if has("override"):
        return ORDER
    spoken = has("address")
    plain = not has("condition") or spoken
    if has("frame") and cues & {"clean", "mute", "silence", "reviewer", "mode", "address"}:
        return FRAME
    if has("turn") and (cues & {"silence"} or len(cues & {"tell", "clean", "place", "mode", "mute", "reviewer"}) > 1):
        return FRAME
    if has("result") and cues & {"clean", "mute", "silence"}:
        return FRAME
    if has("silence") and plain:
        return VERDICT
    if has("act_first") and plain and (spoken or has("reviewer") or has("act")):
        return ACTION
    if (has("tool") or has("send")) and plain:
        return ACTION
    if (has("word") or has("tag")) and cues & {"place", "your_place"} and plain:
        return ACTION
    if has("reviewer_must") and ((has("place") and has("tell") and has("url")) or cues & {"mute"}):
        return ACTION
    if has("url") and has("place") and cues & {"reviewer", "address"} and has("tell") and plain:
        return ACTION
    if has("permit") and cues & {"address", "reviewer", "act"}:
        return ACTION
    if has("leak") and has("order") and cues & {"place", "your_place"}:
        return ACTION
    if spoken and (cues & {"mute"} or (has("clean") and cues & {"tell", "audit", "reviewer"})):
        return VERDICT
    if spoken and has("leak") and cues & {"tell", "act"}:
        return ACTION
    if spoken and has("act") and cues & {"reviewer", "place"}:
        return ACTION
    if has("audit") and has("mute") and cues & {"clean", "reviewer"} and plain:
        return VERDICT
    if has("reviewer") and has("clean") and cues & {"mute", "audit"} and has("tell") and plain:
        return VERDICT
    if has("mode") and has("tell") and cues & {"clean", "mute", "place"} and plain:
        return ORDER
    return ""
