"""Memos: the same result with and without them, and none that is believed for the wrong file or the wrong words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from review_agent.agent.errors import StoreError
from review_agent.agent.memos import Checks, Memos, outlines
from review_agent.agent.models import Change, Hunk, Note, Removed, SourceFile, Symbol
from review_agent.checkpoints.store import Store

PYTHON = ("def one():", "    return 1", "", "class Two:", "    x = 2")
CONFLICT = ("<<<<<<< ours", "a = 1", "=======", "a = 2", ">>>>>>> theirs")
NAME = "injection/a\udcff.py"
HUNK = Hunk(1, 1, 1, 2, (b"a", b"b"), frozenset({2}), (Removed(2, (b"gone",)),))


def source(*lines: str, path: str = "a.py", language: str = "python") -> SourceFile:
    return SourceFile(path, language, lines, "", Change.WHOLE)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.sqlite3") as store:
        yield store


def rows(store: Store) -> list[tuple[str, str]]:
    with sqlite3.connect(store.path) as db:
        found = db.execute("SELECT key, payload FROM memos ORDER BY key").fetchall()
    db.close()
    return found


def only_key(store: Store) -> str:
    ((key, _),) = rows(store)
    return key


def outlined(store: Store | None, *sources: SourceFile, read: bool = True) -> dict[str, tuple[Symbol, ...]]:
    memos = Memos(store, read=read)
    found = outlines(sources, memos)
    memos.save()
    return found


def checked(store: Store | None, *sources: SourceFile, lang: str = "en", read: bool = True) -> list[object]:
    memos = Memos(store, read=read)
    found = list(Checks(sources, lang, memos).run())
    memos.save()
    return found


def test_outlines_are_the_same_from_memos(store: Store) -> None:
    files = [source(*PYTHON), source(*PYTHON, path="b.js", language="javascript"), source("text", path="c")]
    plain = outlined(None, *files)
    assert [symbol.name for symbol in plain["a.py"]] == ["one", "Two"]
    assert outlined(store, *files) == outlined(store, *files) == plain


def test_checks_are_the_same_from_memos(store: Store) -> None:
    files = [
        source(*CONFLICT),
        source("def f(:", path="b.py"),
        source("x = 1", path="c.py"),
        source("x\u202e = 1", path="d.py"),
        source(*CONFLICT, path=NAME),
    ]
    plain = checked(None, *files)
    assert len(plain) >= 4
    assert checked(store, *files) == checked(store, *files) == plain


def test_a_memo_is_what_counts_when_it_is_there(store: Store) -> None:
    outlined(store, source(*PYTHON))
    store.memorise({only_key(store): '[{"name":"Known","kind":"class","start":1,"end":5}]'})
    assert outlined(store, source(*PYTHON))["a.py"] == (Symbol("Known", "class", 1, 5),)
    assert outlined(store, source(*PYTHON), read=False) == outlined(None, source(*PYTHON))


def test_an_outline_is_known_under_another_name(store: Store) -> None:
    outlined(store, source(*PYTHON))
    outlined(store, source(*PYTHON, path="moved/b.py"))
    assert len(rows(store)) == 1


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "nonsense",
        "{}",
        '[{"name":"x","kind":"class","start":0,"end":5}]',
        '[{"name":"x","kind":"class","start":3,"end":2}]',
        '[{"name":"x","kind":"class","start":1,"end":6}]',
        '[{"name":"x","start":1,"end":5}]',
    ],
)
def test_an_outline_that_cannot_be_is_a_miss(store: Store, payload: str) -> None:
    outlined(store, source(*PYTHON))
    store.memorise({only_key(store): payload})
    assert outlined(store, source(*PYTHON)) == outlined(None, source(*PYTHON))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"start_line":1', '"start_line":9'),
        ('"end_line":5', '"end_line":6'),
        ('"source":"check"', '"source":"model"'),
        ('"severity":"high"', '"severity":"awful"'),
        ("}]", ""),
    ],
)
def test_a_finding_that_cannot_be_is_a_miss(store: Store, old: str, new: str) -> None:
    checked(store, source(*CONFLICT))
    ((key, payload),) = rows(store)
    assert old in payload
    store.memorise({key: payload.replace(old, new)})
    assert checked(store, source(*CONFLICT)) == checked(None, source(*CONFLICT))


def test_a_planted_memo_is_not_believed(store: Store) -> None:
    checked(store, source(*CONFLICT))
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE memos SET payload='[]'")
    db.close()
    assert checked(store, source(*CONFLICT)) == checked(None, source(*CONFLICT)) != []


BASE = source("a", "b")


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, path="test/a.py"),
        replace(BASE, language="text"),
        replace(BASE, lines=("a", "b", "")),
        replace(BASE, lines=("a\x00b",)),
        replace(BASE, change=Change.ADDED),
        replace(BASE, changed=frozenset({1})),
        replace(BASE, known=frozenset({1})),
        replace(BASE, encoding="gb18030"),
        replace(BASE, notes=(Note("mixed_encoding"),)),
        replace(BASE, hunks=(HUNK,)),
    ],
)
def test_checks_are_kept_by_all_that_they_look_at(store: Store, other: SourceFile) -> None:
    checked(store, BASE)
    checked(store, other)
    assert len(rows(store)) == 2


@pytest.mark.parametrize(
    "hunk",
    [
        replace(HUNK, new_start=2),
        replace(HUNK, new_count=1),
        replace(HUNK, added=frozenset({1})),
        replace(HUNK, new_lines=(b"a", b"c")),
        replace(HUNK, removed=()),
    ],
)
def test_checks_are_kept_by_their_hunks(store: Store, hunk: Hunk) -> None:
    checked(store, replace(BASE, hunks=(HUNK,)))
    checked(store, replace(BASE, hunks=(hunk,)))
    assert len(rows(store)) == 2


def test_checks_are_kept_by_language_of_the_report(store: Store) -> None:
    assert checked(store, source(*CONFLICT), lang="zh-CN") != checked(store, source(*CONFLICT), lang="en")


def test_what_cannot_be_kept_ends_no_run(store: Store) -> None:
    with sqlite3.connect(store.path) as db:
        db.execute("CREATE TRIGGER no BEFORE INSERT ON memos BEGIN SELECT RAISE(ABORT, 'no'); END")
    db.close()
    assert outlined(store, source(*PYTHON)) == outlined(None, source(*PYTHON))
    with pytest.raises(StoreError):
        store.memorise({"k": "v"})
