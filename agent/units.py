"""Review units: what a model is shown of a file, as numbered new-side lines with the changed ones marked."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from review_agent.agent.models import ReviewUnit, ShownLine, SourceFile, Symbol
from review_agent.agent.tokens import estimate

MAX_LINE = 2000
CUT = "…"
SYMBOL_TOKENS = 48
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
    shown = _show(file, _wanted(file, symbols, shape), shape)
    pieces = _split(shown, symbols, shape.max_tokens)
    if file.changed is not None:
        pieces = [piece for piece in pieces if any(line.mark in "+-" for line in piece.body)]
    return tuple(_unit(file, index, piece, symbols) for index, piece in enumerate(pieces))


def halves(unit: ReviewUnit) -> tuple[ReviewUnit, ...]:
    """A unit cut in two near its middle, for an answer that did not fit; itself when it cannot be cut.

    Every line is in one of the two.
    """
    middle = len(unit.shown) // 2
    if len(unit.shown) < 8:
        return (unit,)
    blank = [
        at for at in range(middle - middle // 2, middle + middle // 2) if not unit.shown[at].text.strip()
    ]
    cut = min(blank, key=lambda at: abs(at - middle), default=middle)
    parts = (unit.shown[:cut], unit.shown[cut:])
    if not all(any(line.mark != CUT for line in part) for part in parts):
        return (unit,)
    return tuple(
        replace(
            unit,
            shown=part,
            changed_lines=_among(part, frozenset(unit.changed_lines)),
            tokens=_cost(part),
            digest=_digest(unit.language, part),
        )
        for part in parts
    )


def _wanted(file: SourceFile, symbols: Sequence[Symbol], shape: Shape) -> list[int]:
    """Line numbers to show, sorted."""
    total = len(file.lines)
    if file.changed is None:
        return [number for number in range(1, total + 1) if file.known is None or number in file.known]
    lines: set[int] = set()
    spots = set(file.changed)
    for hunk in file.hunks:
        for gone in hunk.removed:
            if gone.before not in file.changed:  # a pure deletion is shown between its neighbours
                spots.update(number for number in (gone.before - 1, gone.before) if 1 <= number <= total)
        lines.update(range(hunk.new_start, hunk.new_start + hunk.new_count))
    for spot in spots:
        lines.update(range(max(1, spot - shape.context), min(total, spot + shape.context) + 1))
    for symbol in _around(sorted(spots), symbols):
        # All of a short definition; of a long one that encloses a change, its header.
        last = symbol.end if symbol.end - symbol.start < shape.symbol_lines else symbol.start + 1
        lines.update(range(symbol.start, last + 1))
    inside = (number for number in lines if 1 <= number <= total)
    return sorted(number for number in inside if file.known is None or number in file.known)


def _around(spots: Sequence[int], symbols: Sequence[Symbol]) -> Iterator[Symbol]:
    """The definitions that have one of the sorted `spots` in them."""
    for symbol in symbols:
        first = bisect_left(spots, symbol.start)
        if first < len(spots) and spots[first] <= symbol.end:
            yield symbol


def _show(file: SourceFile, wanted: Sequence[int], shape: Shape) -> list[ShownLine]:
    removed: dict[int, tuple[bytes, ...]] = {}
    for hunk in file.hunks:
        for gone in hunk.removed:
            removed[gone.before] = removed.get(gone.before, ()) + gone.lines
    shown: list[ShownLine] = []
    changed = file.changed or frozenset()
    present = frozenset(wanted)
    previous = 0
    for number in sorted(present | removed.keys()):  # removed lines may have no known neighbour
        if number > previous + 1:
            shown.append(_GAP)
        if number in removed:
            shown.extend(_removed(removed[number], file.encoding, shape))
        previous = number - 1
        if number in present:
            text = _cut(file.lines[number - 1], shape.max_tokens)
            shown.append(ShownLine(number, text, "+" if number in changed else " "))
            previous = number
    return shown


def _removed(lines: tuple[bytes, ...], encoding: str, shape: Shape) -> list[ShownLine]:
    texts = (line.decode(encoding, "replace").removesuffix("\r") for line in lines[: shape.removed_lines])
    rows = [ShownLine(0, _cut(text, shape.max_tokens), "-") for text in texts]
    return [*rows, _GAP] if len(lines) > shape.removed_lines else rows


def _cut(text: str, limit: int) -> str:
    """A line of at most MAX_LINE characters that fits a unit of `limit` tokens."""
    if len(text) > MAX_LINE:
        text = text[:MAX_LINE] + CUT
    while len(text) > limit // 2 and estimate(render(ShownLine(10_000_000, text, "+"))) > limit:
        text = text[: len(text) * 3 // 4] + CUT
    return text


@dataclass(frozen=True, slots=True)
class _Piece:
    """Lines of one unit; `head` repeats the first lines of the definitions that `body` starts in."""

    head: Sequence[ShownLine]
    body: Sequence[ShownLine]


def _split(shown: list[ShownLine], symbols: Sequence[Symbol], limit: int) -> list[_Piece]:
    """Pieces of at most `limit` tokens.

    Each is cut at the outermost definition that starts in its second half, else at a gap or blank line, else
    anywhere.
    """
    costs = [estimate(render(line)) for line in shown]
    if sum(costs) <= limit:
        return [_Piece((), shown)] if shown else []
    rank = _boundary_ranks(symbols)
    by_number = {line.number: line for line in shown if line.number}
    pieces: list[_Piece] = []
    at = 0
    while at < len(shown):
        first = next((line.number for line in shown[at:] if line.number), 0)
        head = _headers(first, symbols, by_number) if pieces else []
        spent = _cost(head)
        if spent > limit // 4 or spent + costs[at] > limit:
            head, spent = [], 0
        end = at
        while end < len(shown) and (spent + costs[end] <= limit or end == at):
            spent += costs[end]
            end += 1
        if end < len(shown):
            end = _best_cut(shown, at, end, rank)
        pieces.append(_Piece(head, shown[at:end]))
        at = end
    return pieces


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


def _headers(first: int, symbols: Sequence[Symbol], by_number: dict[int, ShownLine]) -> list[ShownLine]:
    """First lines of the definitions that line `first` is in the middle of, as context."""
    around = [s for s in symbols if s.start < first <= s.end and s.start in by_number]
    rows: list[ShownLine] = []
    for symbol in around[-3:]:
        rows += [ShownLine(symbol.start, by_number[symbol.start].text, " "), _GAP]
    return rows


def _symbol_name(body: Sequence[ShownLine], symbols: Sequence[Symbol]) -> str:
    """Name of the innermost definition that encloses the marked lines; '' when there is none."""
    numbers = [line.number for line in body if line.number and line.mark == "+"] or [
        line.number for line in body if line.number
    ]
    if not numbers:
        return ""
    name = enclosing(symbols, min(numbers), max(numbers))
    while estimate(name) > SYMBOL_TOKENS:  # the innermost part tells most
        name = CUT + name[len(name) // 4 + 1 :]
    return name


def enclosing(symbols: Sequence[Symbol], start: int, end: int) -> str:
    """Dotted name of the definitions around lines `start`..`end`, outermost first."""
    last = bisect_right(symbols, start, key=lambda symbol: symbol.start)
    return ".".join(symbol.name for symbol in symbols[:last] if symbol.end >= end)


def _unit(file: SourceFile, index: int, piece: _Piece, symbols: Sequence[Symbol]) -> ReviewUnit:
    shown = (*piece.head, *piece.body)
    return ReviewUnit(
        path=file.path,
        index=index,
        language=file.language,
        shown=shown,
        changed_lines=_among(piece.body, file.changed),
        symbol=_symbol_name(piece.body, symbols),
        tokens=_cost(shown),
        digest=_digest(file.language, shown),
    )


def _among(shown: Sequence[ShownLine], wanted: frozenset[int] | None) -> tuple[int, ...]:
    """The new-side lines among `shown` that are under review; None = all of them."""
    return tuple(line.number for line in shown if line.number and (wanted is None or line.number in wanted))


def _cost(shown: Sequence[ShownLine]) -> int:
    return sum(estimate(render(line)) for line in shown)


def _digest(language: str, shown: tuple[ShownLine, ...]) -> str:
    first = next((line.number for line in shown if line.number), 0)
    content = hashlib.sha256(language.encode())
    for line in shown:
        offset = line.number - first if line.number else -1
        row = f"{offset} {line.mark} {len(line.text)} {line.text}"
        content.update(row.encode("utf-8", "surrogatepass"))
    return content.hexdigest()
