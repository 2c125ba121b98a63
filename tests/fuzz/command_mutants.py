"""Command lines made from a corpus by small changes of the kind that slips past a check. Deterministic."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

_SIGNS = list(";&|<>$`\\'\"(){}[]*?!~#^=%@:,-+./ \t\n\r\0") + [
    "\u00a0",
    "\u200b",
    "\u202e",
    "\u2028",
    "\uff1b",
    "\uff5c",
    "\u037e",
]
_INSERTS = (
    "$(touch {M})", "`touch {M}`", ";touch {M}", "&&touch {M}", "||touch {M}", "|touch {M}", "\ntouch {M}", "&touch {M}",
    ">{M}", ">>{M}", "2>{M}", "&>{M}", "<{O}", " {O}", " {L}", " --output={M}", " -o {M}", " -o{M}", " --output {M}",
    " -exec touch {M} ;", " -exec touch {M} \\;", " -delete", " -fprint {M}", " --pre touch", " -ok id ;", " --files0-from={O}",
    " -c core.pager=id", " --ext-diff", " --textconv", " --no-index", " --no-index /dev/null {O}", " -O id", " -Oid", " -f {O}",
    " -L", " -R", " --follow", " --dereference", " -i", " -e id", " 1e id", " 'w {M}'", " 's/x/id/e'", " 's/a/b/w {M}'", " -- {O}",
    " 2>&1", " >/dev/null", " 2>/dev/null", " $HOME", " ${{HOME}}", " {{a,{O}}}", " ~", " ..", " .git/config", " */../../outside/secret.txt",
    "<(id)", "<<<id", "<<E\nid\nE\n", " --", " -", " ''", ' ""', "\\", "'", '"', "#", " # ",
)  # fmt: skip
_PREFIXES = (
    "A=b ", "PATH=.:$PATH ", "! ", "time ", "env ", "command ", "exec ", "\\", "'", "( ", "{ ", "cd .. && ", "cd src && ", "cd src; ",
    "cd src || ", "GIT_PAGER=id ", "echo x | ", "true && ", "false || ", "ls; ", "coproc ", "builtin ", "eval ", "if ", "nohup ",
)  # fmt: skip
_PATHS = (
    "../outside/secret.txt",
    "/etc/passwd",
    "link.txt",
    "linkdir",
    "linkdir/secret.txt",
    ".git/config",
    "/dev/zero",
    "pipe",
    "src",
    ".",
    "*",
    "src/*",
    "-x",
    "/",
    "~/x",
)

Mutator = Callable[[random.Random, str, Sequence[str]], str]


def _sign(dice: random.Random, text: str, _: Sequence[str]) -> str:
    at = dice.randrange(len(text) + 1)
    return text[:at] + dice.choice(_SIGNS) + text[at + dice.randrange(2) :]


def _delete(dice: random.Random, text: str, _: Sequence[str]) -> str:
    at = dice.randrange(len(text) + 1)
    return text[:at] + text[at + dice.randrange(1, 4) :]


def _insert(dice: random.Random, text: str, _: Sequence[str]) -> str:
    at = dice.choice([len(text), dice.randrange(len(text) + 1)])
    return text[:at] + dice.choice(_INSERTS) + text[at:]


def _prefix(dice: random.Random, text: str, _: Sequence[str]) -> str:
    return dice.choice(_PREFIXES) + text


def _word(dice: random.Random, text: str, corpus: Sequence[str]) -> str:
    """A word, or an option, of another command in the place of one here."""
    words = text.split(" ")
    donors = dice.choice(corpus).split(" ")
    words[dice.randrange(len(words))] = dice.choice(donors)
    return " ".join(words)


def _add_word(dice: random.Random, text: str, corpus: Sequence[str]) -> str:
    words = text.split(" ")
    words.insert(dice.randrange(1, len(words) + 1), dice.choice(dice.choice(corpus).split(" ")))
    return " ".join(words)


def _path(dice: random.Random, text: str, _: Sequence[str]) -> str:
    words = text.split(" ")
    words[dice.randrange(len(words))] = dice.choice(_PATHS)
    return " ".join(words)


def _swap(dice: random.Random, text: str, _: Sequence[str]) -> str:
    words = text.split(" ")
    dice.shuffle(words)
    return " ".join(words)


def _join(dice: random.Random, text: str, corpus: Sequence[str]) -> str:
    return text + dice.choice([" | ", "|", " && ", ";", " || ", "\n", " & "]) + dice.choice(corpus)


def _quote(dice: random.Random, text: str, _: Sequence[str]) -> str:
    words = text.split(" ")
    at = dice.randrange(len(words))
    mark = dice.choice(["'", '"'])
    words[at] = f"{mark}{words[at]}{mark}"
    return " ".join(words)


_MUTATORS: tuple[Mutator, ...] = (
    _sign, _delete, _insert, _insert, _prefix, _word, _word, _add_word, _path, _swap, _join, _quote,
)  # fmt: skip


def mutants(
    harmless: Sequence[str], attacks: Sequence[str], count: int, *, seed: int, marker: str, outside: str
) -> Iterator[str]:
    """`count` different command lines. In them `marker` is a file to create, `outside` one not to be read.

    Most begin as a harmless one: that is what a check lets through, and what an attack is hidden in.
    """
    dice = random.Random(seed)
    corpus = [*harmless, *attacks]
    seen = set(corpus)
    while count:
        text = dice.choice(harmless if dice.random() < 0.75 else attacks)
        for _ in range(dice.choice([1, 1, 1, 2, 2, 3])):
            text = dice.choice(_MUTATORS)(dice, text, corpus)
        text = text.replace("{M}", marker).replace("{O}", outside).replace("{L}", "link.txt")
        text = text.replace("{{", "{").replace("}}", "}")
        if text not in seen:
            seen.add(text)
            count -= 1
            yield text
