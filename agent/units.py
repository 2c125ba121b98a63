"""Review units: what a model is shown of a file, as numbered new-side lines with the changed ones marked."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from review_agent.agent.models import ReviewUnit, ShownLine, SourceFile, Symbol
from review_agent.agent.tokens import estimate

MAX_LINE = 2000
CUT = "…"
_GAP = ShownLine(0, "", CUT)


@dataclass(frozen=True, slots=True)
class Shape:
    """How much is shown around a change, in lines, and how large a unit may become, in tokens."""

    max_tokens: int
    symbol_lines: int = 60
    context: int = 6
    removed_lines: int = 12


def render(line: ShownLine) -> str:
    """One prompt line: number, mark, text. Removed lines have no number, a gap is a lone `…`."""
    if line.mark == CUT:
        return f"      {CUT}"
    number = str(line.number) if line.number else ""
    return f"{number:>5} {line.mark} {line.text}"


def build_units(file: SourceFile, symbols: Sequence[Symbol], shape: Shape) -> tuple[ReviewUnit, ...]:
    """The units of one file, in line order; together they show every line that is under review."""
    wanted = _wanted(file, symbols, shape)
    if not wanted:
        return ()
    shown = _show(file, wanted, shape)
    chunks = _split(shown, symbols, shape.max_tokens)
    if file.changed is not None:
        chunks = [chunk for chunk in chunks if any(line.mark in "+-" for line in chunk)]
    names = [_symbol_name(chunk, symbols) for chunk in chunks]
    return tuple(
        _unit(file, index, tuple(chunk), name)
        for index, (chunk, name) in enumerate(zip(chunks, names, strict=True))
    )


def halves(unit: ReviewUnit) -> tuple[ReviewUnit, ...]:
    """A unit cut in two near its middle, for an answer that did not fit; itself when it cannot be cut."""
    middle = len(unit.shown) // 2
    if len(unit.shown) < 8:
        return (unit,)
    blank = [
        at for at in range(middle - middle // 2, middle + middle // 2) if not unit.shown[at].text.strip()
    ]
    cut = min(blank, key=lambda at: abs(at - middle), default=middle)
    parts = [part for part in (unit.shown[:cut], unit.shown[cut:]) if any(line.number for line in part)]
    changed = frozenset(unit.changed_lines)
    return tuple(_make(unit.path, unit.index, unit.language, part, unit.symbol, changed) for part in parts)


def _wanted(file: SourceFile, symbols: Sequence[Symbol], shape: Shape) -> list[int]:
    """Line numbers to show, sorted."""
    total = len(file.lines)
    if file.changed is None:
        return [number for number in range(1, total + 1) if file.known is None or number in file.known]
    lines: set[int] = set()
    spots = set(file.changed)
    for hunk in file.hunks:
        for gone in hunk.removed:  # a pure deletion is shown between its neighbours
            spots.update(number for number in (gone.before - 1, gone.before) if 1 <= number <= total)
        lines.update(range(hunk.new_start, hunk.new_start + hunk.new_count))
    for spot in spots:
        lines.update(range(max(1, spot - shape.context), min(total, spot + shape.context) + 1))
    for symbol in _around(spots, symbols, shape.symbol_lines):
        lines.update(range(symbol.start, symbol.end + 1))
    for symbol in symbols:  # the headers of what encloses a change, however long it is
        if any(symbol.start <= spot <= symbol.end for spot in spots):
            lines.update((symbol.start, min(symbol.start + 1, symbol.end)))
    inside = (number for number in lines if 1 <= number <= total)
    return sorted(number for number in inside if file.known is None or number in file.known)


def _around(spots: set[int], symbols: Sequence[Symbol], limit: int) -> set[Symbol]:
    """For each changed line the largest enclosing definition of at most `limit` lines."""
    chosen: set[Symbol] = set()
    for spot in spots:
        fitting = [s for s in symbols if s.start <= spot <= s.end and s.end - s.start < limit]
        if fitting:
            chosen.add(max(fitting, key=lambda s: s.end - s.start))
    return chosen


def _show(file: SourceFile, wanted: Sequence[int], shape: Shape) -> list[ShownLine]:
    removed: dict[int, tuple[bytes, ...]] = {}
    for hunk in file.hunks:
        for gone in hunk.removed:
            removed[gone.before] = removed.get(gone.before, ()) + gone.lines
    shown: list[ShownLine] = []
    changed = file.changed or frozenset()
    previous = 0
    for number in wanted:
        if number != previous + 1:
            shown.extend(_removed(removed.pop(previous + 1, ()), file.encoding, shape))
            shown.append(_GAP)
        shown.extend(_removed(removed.pop(number, ()), file.encoding, shape))
        shown.append(ShownLine(number, _cut(file.lines[number - 1]), "+" if number in changed else " "))
        previous = number
    shown.extend(_removed(removed.pop(previous + 1, ()), file.encoding, shape))
    return shown


def _removed(lines: tuple[bytes, ...], encoding: str, shape: Shape) -> list[ShownLine]:
    texts = [line.decode(encoding, "replace").rstrip("\r") for line in lines[: shape.removed_lines]]
    rows = [ShownLine(0, _cut(text), "-") for text in texts]
    return [*rows, _GAP] if len(lines) > shape.removed_lines else rows


def _cut(text: str) -> str:
    return text if len(text) <= MAX_LINE else text[:MAX_LINE] + CUT


def _split(shown: list[ShownLine], symbols: Sequence[Symbol], limit: int) -> list[list[ShownLine]]:
    """Chunks of at most `limit` tokens.

    Each is cut at the outermost definition that starts in its second half, else at a gap or blank line, else
    anywhere. A chunk that starts inside a definition repeats its header.
    """
    costs = [estimate(render(line)) for line in shown]
    if sum(costs) <= limit:
        return [shown] if shown else []
    rank = _boundary_ranks(symbols)
    by_number = {line.number: line for line in shown if line.number}
    chunks: list[list[ShownLine]] = []
    at = 0
    while at < len(shown):
        head = _headers(shown[at], symbols, by_number) if chunks else []
        spent = sum(estimate(render(line)) for line in head)
        if spent > limit // 4:
            head, spent = [], 0
        end = at
        while end < len(shown) and (spent + costs[end] <= limit or end == at):
            spent += costs[end]
            end += 1
        if end < len(shown):
            end = _best_cut(shown, at, end, rank)
        chunks.append([*head, *shown[at:end]])
        at = end
    return chunks


def _boundary_ranks(symbols: Sequence[Symbol]) -> Callable[[ShownLine], int]:
    """How good a line is to start a chunk with: 0 is best. An outer definition beats an inner one."""
    depth: dict[int, int] = {}
    open_ends: list[int] = []
    for symbol in symbols:
        while open_ends and open_ends[-1] < symbol.start:
            open_ends.pop()
        depth.setdefault(symbol.start, len(open_ends))
        open_ends.append(symbol.end)

    def rank(line: ShownLine) -> int:
        if line.number in depth and line.number:
            return depth[line.number]
        if line.mark == CUT:
            return 5
        return 6 if not line.text.strip() else 9

    return rank


def _best_cut(shown: list[ShownLine], at: int, end: int, rank: Callable[[ShownLine], int]) -> int:
    """The index to cut at, in the second half of `shown[at:end]`; later wins among equals."""
    first = at + max(1, (end - at) // 2)
    return min(range(first, end + 1), key=lambda index: (rank(shown[index]), -index), default=end)


def _headers(
    first: ShownLine, symbols: Sequence[Symbol], by_number: dict[int, ShownLine]
) -> list[ShownLine]:
    """First lines of the definitions that a chunk starts in the middle of, as context."""
    if not first.number:
        return []
    around = [s for s in symbols if s.start < first.number <= s.end and s.start in by_number]
    rows: list[ShownLine] = []
    for symbol in around[-3:]:
        rows += [ShownLine(symbol.start, by_number[symbol.start].text, " "), _GAP]
    return rows


def _symbol_name(chunk: Sequence[ShownLine], symbols: Sequence[Symbol]) -> str:
    """Name of the innermost definition that encloses the chunk's marked lines; '' when there is none."""
    numbers = [line.number for line in chunk if line.number and line.mark == "+"] or [
        line.number for line in chunk if line.number
    ]
    if not numbers:
        return ""
    return enclosing(symbols, min(numbers), max(numbers))


def enclosing(symbols: Sequence[Symbol], start: int, end: int) -> str:
    """Dotted name of the definitions around lines `start`..`end`, outermost first."""
    last = bisect_right(symbols, start, key=lambda symbol: symbol.start)
    return ".".join(symbol.name for symbol in symbols[:last] if symbol.end >= end)


def _unit(file: SourceFile, index: int, shown: tuple[ShownLine, ...], symbol: str) -> ReviewUnit:
    under_review = frozenset(range(1, len(file.lines) + 1)) if file.changed is None else file.changed
    return _make(file.path, index, file.language, shown, symbol, under_review)


def _make(
    path: str, index: int, language: str, shown: tuple[ShownLine, ...], symbol: str, changed: frozenset[int]
) -> ReviewUnit:
    return ReviewUnit(
        path=path,
        index=index,
        language=language,
        shown=shown,
        changed_lines=tuple(line.number for line in shown if line.number in changed),
        symbol=symbol,
        tokens=sum(estimate(render(line)) for line in shown),
        digest=_digest(language, shown),
    )


def _digest(language: str, shown: tuple[ShownLine, ...]) -> str:
    first = next((line.number for line in shown if line.number), 0)
    content = hashlib.sha256(language.encode())
    for line in shown:
        offset = line.number - first if line.number else -1
        content.update(f"\0{offset}\0{line.mark}\0{line.text}".encode("utf-8", "surrogatepass"))
    return content.hexdigest()
