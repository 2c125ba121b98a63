"""Line wrapping for mixed Chinese and Latin text, by terminal cells."""

from __future__ import annotations

import re

from rich.cells import cell_len

# A line may break before and after a wide character, but closing marks stay with what they close and opening
# marks with what they open.
_CLOSING = r"，。；：！？、）】〉》」』”’…%,.;:!?)\]}>"
_OPENING = r"（【〈《「『“‘(\[{<"
_WIDE = "\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6"
_TOKEN = re.compile(rf"\s+|[{_OPENING}]*(?:[{_WIDE}]|[^\s{_WIDE}]+|)[{_CLOSING}]*")


def wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` cells; its own line breaks stay. Longer words are cut."""
    return [row for line in text.split("\n") for row in _wrap_line(line, width)]


def _wrap_line(line: str, width: int) -> list[str]:
    rows: list[str] = []
    row, used = "", 0
    for token in _TOKEN.findall(line):
        size = cell_len(token)
        if used + size <= width:
            row, used = row + token, used + size
        elif token.isspace():
            rows.append(row)
            row, used = "", 0
        else:
            if row.strip():
                rows.append(row)
                row = ""
            *full, row = fold(row + token, width)
            rows += full
            used = cell_len(row)
    rows.append(row)
    return [done.rstrip() for done in rows]


def fold(line: str, width: int) -> list[str]:
    """`line` cut every `width` cells; at least one row."""
    rows, row, used = [], "", 0
    for char in line:
        size = cell_len(char)
        if used + size > width and row:
            rows.append(row)
            row, used = "", 0
        row, used = row + char, used + size
    return [*rows, row]
