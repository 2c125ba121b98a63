"""Seals: whose key holds, and what becomes of a key that is lost or damaged."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from review_agent.agent.errors import StoreError
from review_agent.checkpoints.seal import KEY_BYTES, Seals, known_seals, load_seals
from review_agent.checkpoints.store import Store


@pytest.mark.parametrize(
    "other",
    [
        ("table", "a", "b", 4),
        ("table", "a", "b"),
        ("table", "ab", "", 3),
        ("other", "a", "b", 3),
        ("table", "b", "a", 3),
        ("tablea", "b", 3),
        ("table", "a\udcff", "b", 3),
    ],
)
def test_a_seal_holds_for_its_own_row_only(other: tuple[str | int, ...]) -> None:
    seals = Seals([b"k" * KEY_BYTES])
    seal = seals.mark("table", "a", "b", 3)
    assert seals.holds(seal, "table", "a", "b", 3)
    assert not seals.holds(seal, str(other[0]), *other[1:])
    assert not Seals([b"x" * KEY_BYTES]).holds(seal, "table", "a", "b", 3)


@pytest.mark.parametrize("seal", ["", "x", "0" * 32, "é" * 32])
def test_what_is_no_seal_does_not_hold(seal: str) -> None:
    assert not Seals([b"k" * KEY_BYTES]).holds(seal, "table", "a")


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    first = load_seals(tmp_path / "home").mark("t", "a")
    assert load_seals(tmp_path / "home").mark("t", "a") == first
    assert load_seals(tmp_path / "other").mark("t", "a") != first
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["seal.key"]
    file = tmp_path / "home" / "seal.key"
    assert (stat.S_IMODE(file.stat().st_mode), len(file.read_bytes())) == (0o600, KEY_BYTES)


def test_the_shared_key_seals_and_both_hold(tmp_path: Path) -> None:
    own = load_seals(tmp_path)
    both = load_seals(tmp_path, "team")
    elsewhere = load_seals(tmp_path / "elsewhere", "team")
    assert both.mark("t", "a") == elsewhere.mark("t", "a") != own.mark("t", "a")
    assert both.holds(own.mark("t", "a"), "t", "a")
    assert not own.holds(both.mark("t", "a"), "t", "a")
    assert not load_seals(tmp_path / "elsewhere", "other").holds(both.mark("t", "a"), "t", "a")


@pytest.mark.parametrize("content", [b"short", b"k" * (KEY_BYTES + 1), b"\0"])
def test_a_damaged_key_is_replaced(tmp_path: Path, content: bytes) -> None:
    before = load_seals(tmp_path).mark("t", "a")
    (tmp_path / "seal.key").write_bytes(content)
    after = load_seals(tmp_path)
    assert not after.holds(before, "t", "a")
    assert load_seals(tmp_path).holds(after.mark("t", "a"), "t", "a")
    assert [path.name for path in tmp_path.iterdir()] == ["seal.key"]


def test_a_key_behind_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "planted").write_bytes(b"k" * KEY_BYTES)
    (tmp_path / "seal.key").symlink_to(tmp_path / "planted")
    with pytest.raises(StoreError, match="store_unusable"):
        load_seals(tmp_path)
    planted = Seals([b"k" * KEY_BYTES]).mark("t", "a")
    assert not known_seals(tmp_path).holds(planted, "t", "a")


def test_without_a_place_for_a_key_the_shared_one_does(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="store_unusable"):
        load_seals(tmp_path / "file")
    assert load_seals(tmp_path / "file", "team").mark("t", "a") == load_seals(tmp_path, "team").mark("t", "a")


# --- what a store believes


def filled(path: Path, home: Path, key: str = "") -> None:
    with Store(path, home=home, cache_key=key) as store:
        store.start_run("r", "/repo", "tree", "{}", "target")
        store.finish_unit("r", "k", "a.py", "payload")
        store.memorise({"m": "memo"})
        store.note_egress("r", ["row"])


def believed(path: Path, home: Path, key: str = "") -> tuple[int, int, int, bool]:
    """Analyses, memos, runs to go on with, and whether the ledger is whole."""
    with Store(path, home=home, cache_key=key) as store:
        found = (store.analyses(["k"]), store.memos(["m"]), store.unfinished("/repo", "target"))
        return len(found[0]), len(found[1]), len(found[2]), store.egress("r")[1]


ALL, NOTHING = (1, 1, 1, True), (0, 0, 0, False)


@pytest.mark.parametrize(
    ("written", "read", "found"),
    [
        (("home", ""), ("home", ""), ALL),
        (("home", ""), ("elsewhere", ""), NOTHING),
        (("home", "team"), ("elsewhere", "team"), ALL),
        (("home", "team"), ("elsewhere", ""), NOTHING),
        (("home", "team"), ("home", ""), NOTHING),
        (("home", "team"), ("elsewhere", "other"), NOTHING),
        (("home", ""), ("home", "team"), ALL),
    ],
)
def test_a_store_is_believed_by_who_has_its_key(
    tmp_path: Path, written: tuple[str, str], read: tuple[str, str], found: tuple[int, int, int, bool]
) -> None:
    path = tmp_path / "cache" / "store.sqlite3"
    filled(path, tmp_path / written[0], written[1])
    assert believed(path, tmp_path / read[0], read[1]) == found


def test_a_lost_key_costs_what_it_sealed_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    filled(path, tmp_path)
    os.unlink(tmp_path / "seal.key")
    assert believed(path, tmp_path) == NOTHING
    with Store(path) as store:
        store.finish_unit("r", "k", "a.py", "anew")
        assert store.analyses(["k"]) == {"k": "anew"}


def test_a_planted_row_is_asked_for_again_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    filled(path, tmp_path / "attacker")
    with Store(path, home=tmp_path / "home") as store:
        claimed = store.claim("r2", ["k"])
        assert (claimed.mine, claimed.done) == (frozenset({"k"}), {})
        store.finish_unit("r2", "k", "a.py", "ours")
        assert store.analyses(["k"]) == {"k": "ours"}
