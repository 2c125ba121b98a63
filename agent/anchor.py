"""Places a candidate on real lines. The quote decides; the model's line number only breaks ties.

Texts are compared without blanks: a quote is looked for in the joined text of lines that stand together, and
so may be part of a line, a line or a run of lines, in any layout.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from review_agent.agent.models import Candidate, ReviewUnit

_MAX_RANGE = 30
_MAX_QUOTE_LINES = 100
_MIN_PART = 6  # characters without blanks, for less than a whole line
_MIN_ALONE = 8  # for one line of a quote that does not fit as a whole
_MIN_FUZZY = 12
_MAX_FUZZY = 400
_MIN_RATIO = 0.85
_NEAR = 3

_SIGNS = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "＂": '"', "\u200b": None, "\ufeff": None})
_FENCE = re.compile(r"\s*(?:```|~~~)")
_OUR_PREFIX = re.compile(r"\s*(\d{1,7}) [+ ](?: |$)|\s*()- ")
_ANY_PREFIX = re.compile(r"\s*(?:[Ll](?=\d))?(\d{1,7})(?:\s*[:|│]\s?|\s+)(?:[+-]\s)?|\s*()[+-]\s?")
_ELLIPSIS = re.compile(r"\.{3,}|…+")
_TRIVIAL = re.compile(r"return(?:none|nil|null|true|false|err)?|continue|finally")


@dataclass(frozen=True)
class Anchor:
    """Lines `start` to `end` of a unit. `exact`: the whole quote stands there, on the new side."""

    unit: ReviewUnit
    start: int
    end: int
    exact: bool


@dataclass(frozen=True)
class _Place:
    anchor: Anchor
    changed: bool


@dataclass(frozen=True)
class _Row:
    """A shown line that is not blank: where its text begins in the joined text of its block."""

    number: int
    changed: bool
    offset: int
    end: int
    following: int  # the numbered line a removed one is reported at


@dataclass(frozen=True)
class _Block:
    """Lines of a unit that stand together, without blanks and joined."""

    unit: ReviewUnit
    text: str
    rows: tuple[_Row, ...]

    def places(self, key: str, whole: bool) -> Iterator[_Place]:
        at = self.text.find(key)
        while at >= 0:
            end = at + len(key)
            first = bisect_right(self.rows, at, key=lambda row: row.offset) - 1
            rows = self.rows[first : bisect_left(self.rows, end, key=lambda row: row.offset)]
            lines_only = rows[0].offset == at and rows[-1].end == end
            if lines_only if whole else len(key) >= _MIN_PART:
                yield self._place(rows)
            at = self.text.find(key, rows[0].end)

    def _place(self, rows: Sequence[_Row]) -> _Place:
        numbers = [row.number for row in rows if row.number]
        start = numbers[0] if numbers else rows[-1].following
        end = min(numbers[-1] if numbers else start, start + _MAX_RANGE - 1)
        exact = len(numbers) == len(rows)
        return _Place(Anchor(self.unit, start, end, exact), any(row.changed for row in rows))


def place(candidate: Candidate, units: Sequence[ReviewUnit]) -> Anchor | None:
    """None: what is quoted was not shown, or stands in several places and nothing says which is meant.

    `units` are those that stood in the request.
    """
    readings = list(_readings(candidate.quote))
    if not readings:
        return None
    hint = _number_of(candidate.quote) or candidate.line_start
    paths = _matching_paths(candidate.path, units)
    named = _Scope([unit for unit in units if unit.path in paths], hint)
    if named.units:
        if fit := named.fit(readings):
            return named.choose(*fit)
        fit = _Scope([unit for unit in units if unit.path not in paths], 0).fit(readings)
        if fit and len(fit[0]) == 1 and len(fit[1]) >= _MIN_ALONE:
            return fit[0][0].anchor
        return named.partly(readings) or named.roughly(readings)
    everything = _Scope(list(units), hint)
    if fit := everything.fit(readings):
        return everything.choose(*fit)
    return everything.partly(readings) or everything.roughly(readings)


class _Scope:
    """The units a quote is looked for in."""

    def __init__(self, units: list[ReviewUnit], hint: int) -> None:
        self.units = units
        self._hint = hint
        shown = [list(_blocks(unit, removed=False)) for unit in units]
        every = [list(_blocks(unit, removed=True)) for unit in units]
        self._new = [block for blocks in shown for block in blocks]
        self._all = [block for blocks in every for block in blocks]

    def fit(self, readings: list[list[str]]) -> tuple[list[_Place], str] | None:
        """Where all of the quote stands: whole lines before parts of lines, new lines before removed ones."""
        for whole in (True, False):
            for blocks in (self._new, self._all):
                for lines in readings:
                    key = "".join(lines)
                    if places := self._places(blocks, key, whole):
                        return places, key
        return None

    def partly(self, readings: list[list[str]]) -> Anchor | None:
        """The place of the quote's longest beginning, or of its first line that stands in one place."""
        for lines in readings:
            for count in range(len(lines) - 1, 0, -1):
                key = "".join(lines[:count])
                places = self._places(self._new, key, whole=True) or self._places(self._new, key, whole=False)
                clear = len(places) == 1 or (places and self._hint)
                if len(key) >= _MIN_ALONE and clear and (found := self.choose(places, key)):
                    return _inexact(found)
        for lines in readings:
            for key in lines[1:]:
                places = self._places(self._new, key, whole=False) if len(key) >= _MIN_ALONE else []
                if len(places) == 1:
                    return _inexact(places[0].anchor)
        return None

    def roughly(self, readings: list[list[str]]) -> Anchor | None:
        """The one line that is most like a line of the quote."""
        keys = (line for lines in readings for line in lines[:3])
        for key in (line for line in keys if _MIN_FUZZY <= len(line) <= _MAX_FUZZY):
            ratios: dict[tuple[str, int], tuple[float, Anchor]] = {}
            for block in self._new:
                for row in block.rows:
                    ratio = _likeness(key, block.text[row.offset : row.end])
                    spot = (block.unit.path, row.number)
                    if ratio >= _MIN_RATIO and (spot not in ratios or row.changed):
                        anchor = Anchor(block.unit, row.number, row.number, exact=False)
                        ratios[spot] = (ratio, anchor)
            best = sorted(ratios.values(), key=lambda item: -item[0])
            if best and (len(best) == 1 or best[0][0] > best[1][0]):
                return best[0][1]
        return None

    def _places(self, blocks: list[_Block], key: str, whole: bool) -> list[_Place]:
        """In order; a place that two units show is one, of the unit that changes it."""
        found: dict[tuple[str, int, int], _Place] = {}
        for block in blocks:
            for fit in block.places(key, whole):
                spot = (fit.anchor.unit.path, fit.anchor.start, fit.anchor.end)
                if fit.anchor.start and (spot not in found or fit.changed > found[spot].changed):
                    found[spot] = fit
        return sorted(found.values(), key=lambda fit: fit.anchor.start)

    def choose(self, places: list[_Place], key: str) -> Anchor | None:
        if len({fit.anchor.unit.path for fit in places}) > 1:
            return None
        if len(places) > 1 and _is_trivial(key):
            places = [fit for fit in places if self._hint and self._distance(fit) <= _NEAR]
        best = min(places, key=lambda fit: (self._distance(fit), not fit.changed), default=None)
        return best.anchor if best else None

    def _distance(self, fit: _Place) -> int:
        if not self._hint:
            return 0
        return max(fit.anchor.start - self._hint, self._hint - fit.anchor.end, 0)


def _blocks(unit: ReviewUnit, removed: bool) -> Iterator[_Block]:
    """Runs of lines that follow each other; with `removed`, old lines stand where they stood."""
    rows: list[_Row] = []
    texts: list[str] = []
    length = last = 0
    following = _following(unit)
    for index, line in enumerate(unit.shown):
        apart = line.mark == "…" or (line.number and last and line.number != last + 1)
        if apart and rows:
            yield _Block(unit, "".join(texts), tuple(rows))
            rows, texts, length = [], [], 0
        last = line.number or (0 if line.mark == "…" else last)
        key = _key(line.text)
        if key and (line.number or (removed and line.mark == "-")):
            rows.append(_Row(line.number, line.mark == "+", length, length + len(key), following[index]))
            texts.append(key)
            length += len(key)
    if rows:
        yield _Block(unit, "".join(texts), tuple(rows))


def _following(unit: ReviewUnit) -> list[int]:
    """For each shown line the numbered one to report it at: itself, the next or, at the end, the last."""
    found: list[int] = []
    after = 0
    for line in reversed(unit.shown):
        after = line.number or (0 if line.mark == "…" else after)
        found.append(after)
    found.reverse()
    before = 0
    for index, line in enumerate(unit.shown):
        before = line.number or (0 if line.mark == "…" else before)
        found[index] = found[index] or before
    return found


def _key(text: str) -> str:
    return "".join(text.translate(_SIGNS).split())


def _readings(quote: str) -> Iterator[list[str]]:
    """What a quote may mean, the literal reading first: lines without blanks, blank ones left out."""
    lines = quote.splitlines()[:_MAX_QUOTE_LINES]
    bare = [line for line in lines if not _FENCE.match(line)]
    unmarked = [_OUR_PREFIX.sub("", line, count=1) for line in bare]
    unnumbered = [_ANY_PREFIX.sub("", line, count=1) for line in bare]
    unescaped = html.unescape("\n".join(bare).replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"'))
    unquoted = "\n".join(unmarked).strip().strip("`\"'").splitlines()
    spread = [part for line in unmarked for part in _ELLIPSIS.split(line)]
    seen: set[tuple[str, ...]] = set()
    for reading in (lines, bare, unmarked, unnumbered, unescaped.splitlines(), unquoted, spread):
        keys = tuple(key for line in reading if (key := _key(line)))
        if keys and keys not in seen:
            seen.add(keys)
            yield list(keys)


def _number_of(quote: str) -> int:
    """The line number of our own prefix, copied with the quote."""
    found = _OUR_PREFIX.match(quote)
    return int(found[1]) if found and found[1] else 0


def _matching_paths(said: str, units: Sequence[ReviewUnit]) -> set[str]:
    """The path of a unit that is meant, as a set of one; empty when none is, or several may be."""
    said = re.sub(r":\d+(?:[:-]\d+)?$", "", said.strip().strip("`\"'").replace("\\", "/"))
    while said.startswith("./"):
        said = said[2:]
    known = {unit.path for unit in units}
    bare = said[2:] if said[:2] in {"a/", "b/"} else said
    for path in (said, bare):
        if path in known:
            return {path}
    bare = bare.strip("/")
    if not bare:
        return set()
    ends = {path for path in known if f"/{path}".endswith(f"/{bare}") or f"/{bare}".endswith(f"/{path}")}
    if not ends:
        ends = {path for path in known if path.casefold() == bare.casefold()}
    return ends if len(ends) == 1 else set()


def _likeness(one: str, other: str) -> float:
    if len(other) > _MAX_FUZZY:
        return 0.0
    matcher = SequenceMatcher(None, other, one, autojunk=False)
    if matcher.real_quick_ratio() < _MIN_RATIO or matcher.quick_ratio() < _MIN_RATIO:
        return 0.0
    return matcher.ratio()


def _is_trivial(key: str) -> bool:
    words = re.sub(r"\W", "", key).lower()
    return len(words) < _MIN_PART or _TRIVIAL.fullmatch(words) is not None


def _inexact(anchor: Anchor) -> Anchor:
    return Anchor(anchor.unit, anchor.start, anchor.end, exact=False)
