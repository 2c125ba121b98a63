"""Scripts of sed that only print, delete and replace, told apart from those that write, run or read files.

Where an expression ends must be certain, since behind it `w` writes a file and `e` starts a program. So each
is read as every sed reads it, old and new, GNU and BSD; one that they could end in different places is not
understood. https://www.gnu.org/software/sed/manual/sed.html
"""

from __future__ import annotations

import re

_BRACKET = r"\[\^?\]?(?:\[:[a-z]+:\]|\\[^\]\[\\\n]|[^\]\[\\\n])*\]"
# One piece of a regular expression: an escape, a bracket expression, a character. The escapes left out give
# a character by its number, in old versions of sed before it looks for the end.
_OF_PATTERN = re.compile(rf"\\[^\ncdox]|{_BRACKET}|[^\\\[\n]")
_OF_TEXT = re.compile(r"\\[^\ncdox]|[^\\\n]")
_LINE = re.compile(r"\d{1,9}(?:~\d{1,9})?|\$")
_DISTANCE = re.compile(r"[+~]\d{1,9}")
_SIMPLE = re.compile(r"[pd=nN]|[qQ]\d{0,3}")
_FLAGS = re.compile(r"[gpIim0-9]*")
_DELIMITERS = "/|,#@!%~_"


class _Unclear(Exception):
    pass


def only_prints(script: str) -> bool:
    """Whether a script of sed is sure to do nothing but write to standard output."""
    try:
        return _Script(script).holds()
    except _Unclear:
        return False


class _Script:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def holds(self) -> bool:
        depth = 0
        while True:
            self._skip(" ;")
            if self._at == len(self._text):
                return depth == 0
            if self._take("}"):
                depth -= 1
                if depth < 0:
                    return False
            else:
                self._address()
                if self._take("{"):
                    depth += 1
                    continue
                self._command()
            self._skip(" ")
            if self._peek() not in ("", ";", "}"):
                return False

    def _address(self) -> None:
        if self._take("/"):
            self._expression("/")
        elif not self._match(_LINE):
            return
        if self._take(","):
            if self._take("/"):
                self._expression("/")
            elif not (self._match(_LINE) or self._match(_DISTANCE)):
                raise _Unclear
        self._skip(" ")
        self._take("!")
        self._skip(" ")

    def _expression(self, delimiter: str) -> None:
        self._part(_OF_PATTERN, delimiter)
        self._take("I")

    def _command(self) -> None:
        if self._match(_SIMPLE):
            return
        kind = self._peek()
        delimiter = self._text[self._at + 1 : self._at + 2]
        if kind not in ("s", "y") or delimiter == "" or delimiter not in _DELIMITERS:
            raise _Unclear
        self._at += 2
        self._part(_OF_PATTERN if kind == "s" else _OF_TEXT, delimiter)
        self._part(_OF_TEXT, delimiter)
        if kind == "s":
            self._match(_FLAGS)

    def _part(self, piece: re.Pattern[str], delimiter: str) -> None:
        while not self._take(delimiter):
            found = self._match(piece)
            if not found or (found.startswith("[") and delimiter in found):
                raise _Unclear

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, char: str) -> bool:
        took = self._text.startswith(char, self._at)
        self._at += took
        return took

    def _skip(self, chars: str) -> None:
        while self._peek() and self._peek() in chars:
            self._at += 1

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        text = match[0] if match else ""
        self._at += len(text)
        return text
