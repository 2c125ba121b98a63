"""The path gate: the corpus of hostile paths, and what the corpus leaves open."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from review_agent.agent.errors import FileRefused
from review_agent.tools.files import FileGate, check_write_target

CORPUS = Path(os.environ.get("REVIEW_AGENT_CORPUS", Path(__file__).parents[1] / "corpus")) / "paths"
CASES = [json.loads(line) for line in (CORPUS / "paths.jsonl").read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True)
class Place:
    tmp: Path

    @property
    def root(self) -> Path:
        return self.tmp / "repo"

    @property
    def out(self) -> Path:
        return self.tmp / "outside"

    def fill(self, text: str) -> str:
        names = {"{TMP}": self.tmp, "{ROOT}": self.root, "{OUT}": self.out, "{HOME}": Path.home()}
        for name, value in names.items():
            text = text.replace(name, str(value))
        return text

    def build(self, step: dict[str, Any]) -> None:
        path = self.root / self.fill(step["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        match step["op"]:
            case "file" | "file_abs":
                path.write_text(step["text"], encoding="utf-8")
            case "dir":
                path.mkdir()
            case "symlink" | "symlink_root":
                path.symlink_to(self.fill(step["to"]))
            case "sparse":
                with path.open("wb") as file:
                    file.truncate(step["size"])
            case "fifo":
                os.mkfifo(path)
            case "socket":
                self.bind(path)
            case unknown:
                raise AssertionError(unknown)

    def bind(self, path: Path) -> None:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket is limited to some hundred bytes
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path.name)
        finally:
            os.chdir(here)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path.resolve())
    place.root.mkdir()
    (place.out / "sub").mkdir(parents=True)
    (place.out / "secret.txt").write_text("S")
    return place


@contextmanager
def seconds(limit: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"not done after {limit} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def swap(place: Place, race: dict[str, Any]) -> Callable[[str], None]:
    def act(_: str) -> None:
        victim = place.root / race["path"]
        if victim.is_dir():
            shutil.rmtree(victim)
        else:
            victim.unlink()
        victim.symlink_to(race["becomes"]["symlink"])

    return act


def attempt(case: dict[str, Any], place: Place) -> bytes | None:
    """What the operation gives; None for an ordinary refusal."""
    hook = swap(place, case["race"]) if "race" in case else None
    gate = FileGate(Path(place.fill(case["root"])), before_open=hook)
    path = place.fill(case["path"])
    try:
        match case["op"]:
            case "read":
                return gate.read(path)
            case "list":
                return "\n".join(gate.list(path)).encode()
            case "state_write" | "report_write":
                check_write_target(place.root / path, root=place.root)
                return b""
            case "write":  # there is nothing to call
                assert {name for name in vars(FileGate) if not name.startswith("_")} == {
                    "read",
                    "list",
                    "walk",
                    "git_mode",
                    "check",
                    "covers",
                }
    except FileRefused:
        pass
    return None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_corpus(case: dict[str, Any], place: Place) -> None:
    for step in case["setup"]:
        place.build(step)
    with seconds(5):
        got = attempt(case, place)
    if case["verdict"] == "no_escape":
        assert got != b"S"
    else:
        assert (got is not None) == (case["verdict"] == "allow"), case["why"]


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("../outside/secret.txt", "outside"),
        ("/etc/passwd", "outside"),
        ("{ROOT}-evil/a.py", "outside"),  # though the root has an a.py
        ("leak", "outside"),
        ("missing.py", "not_found"),
        ("a.py/b", "not_found"),
        ("a\0b", "not_found"),
        ("\ud800", "not_found"),
        ("src", "not_regular"),
        ("pipe", "not_regular"),
        ("big", "too_large"),
        (".git/config", "git_internal"),
        (".GIT/config", "git_internal"),
        (".g\u200cit/config", "git_internal"),
        ("GIT~1/config", "git_internal"),
        ("loop", "loop"),
        ("x/" * 3000, "too_deep"),
        ("deep/" * 101, "too_deep"),
        ("src/../" * 500 + "../x", "outside"),  # no descriptor is left open on the way
    ],
)
def test_read_says_why(path: str, key: str, place: Place) -> None:
    (place.root / "src").mkdir()
    (place.root / "a.py").write_text("x")
    (place.root / "big").write_bytes(b"x" * 101)
    (place.root / "leak").symlink_to(place.out / "secret.txt")
    (place.root / "loop").symlink_to("loop")
    os.mkfifo(place.root / "pipe")
    os.makedirs(place.root / ("deep/" * 101))
    path = place.fill(path)
    with seconds(5), pytest.raises(FileRefused) as refusal:
        FileGate(place.root, max_file_size=100).read(path)
    assert (refusal.value.key, refusal.value.fields["path"]) == (key, path)


def test_a_file_swapped_for_a_link_is_refused(place: Place) -> None:
    (place.root / "a.py").write_text("x")
    hook = swap(place, {"path": "a.py", "becomes": {"symlink": "../outside/secret.txt"}})
    with pytest.raises(FileRefused, match="symlink"):
        FileGate(place.root, before_open=hook).read("a.py")


def test_a_file_swapped_for_a_pipe_does_not_block(place: Place) -> None:
    (place.root / "a.py").write_text("x")

    def hook(path: str) -> None:
        (place.root / path).unlink()
        os.mkfifo(place.root / path)

    with seconds(5), pytest.raises(FileRefused, match="not_regular"):
        FileGate(place.root, before_open=hook).read("a.py")


@pytest.mark.skipif(not os.path.exists("/dev/null") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(place: Place) -> None:
    (place.root / "a.py").write_text("x")
    (place.root / "a.py").chmod(0)
    with pytest.raises(FileRefused, match="not_readable"):
        FileGate(place.root).read("a.py")


def test_a_pipe_is_not_even_opened(place: Place) -> None:
    os.mkfifo(place.root / "pipe")
    opened: list[str] = []
    with pytest.raises(FileRefused, match="not_regular"):
        FileGate(place.root, before_open=opened.append).read("pipe")
    assert opened == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that is longer than it says")
def test_never_reads_more_than_the_limit() -> None:
    with pytest.raises(FileRefused, match="too_large"):
        FileGate(Path(f"/proc/{os.getpid()}"), max_file_size=100).read("status")


def test_a_device_is_refused() -> None:
    with pytest.raises(FileRefused, match="device"):
        FileGate(Path("/dev")).read("null")


def test_absolute_links_inside_work_and_never_lead_to_another_root(place: Place) -> None:
    (place.root / "a.py").write_text("x")
    (place.root / "inside").symlink_to(place.root / "a.py")
    (place.root / "leak").symlink_to(place.out / "secret.txt")
    gate = FileGate(place.root, allowed_directories=[place.root, place.out])
    assert gate.read("inside") == b"x"
    assert gate.read(str(place.out / "secret.txt")) == b"S"  # asked for by its name
    with pytest.raises(FileRefused, match="outside"):
        gate.read("leak")


READABLE = {  # allowed directories → what can be read of a repository with three files, and one outside
    (): "README.md src/a.py src/sub/b.py",
    (".",): "README.md src/a.py src/sub/b.py",
    ("..",): "README.md src/a.py src/sub/b.py",  # it holds the repository: that, and nothing beside it
    ("{ROOT}",): "README.md src/a.py src/sub/b.py",
    ("src",): "src/a.py src/sub/b.py",
    ("src/sub", "docs"): "src/sub/b.py",
    ("{ROOT}/src/sub",): "src/sub/b.py",
    ("{OUT}",): "{OUT}/secret.txt",
    ("src/sub", "{OUT}"): "src/sub/b.py {OUT}/secret.txt",
    ("src/a.py",): "src/a.py",
    ("sr",): "",
    ("none",): "",
}


@pytest.mark.parametrize(("allowed", "expected"), READABLE.items())
def test_allowed_directories_say_what_can_be_read(
    place: Place, allowed: tuple[str, ...], expected: str
) -> None:
    (place.root / "src/sub").mkdir(parents=True)
    for name in ("README.md", "src/a.py", "src/sub/b.py"):
        (place.root / name).write_text("x")
    (place.root / "link.md").symlink_to("README.md")
    gate = FileGate(place.root, allowed_directories=[Path(place.fill(entry)) for entry in allowed])
    names = ["README.md", "src/a.py", "src/sub/b.py", place.fill("{OUT}/secret.txt")]

    def can(read: Callable[[str], object], path: str) -> bool:
        try:
            read(path)
        except FileRefused as exc:
            return exc.key != "outside"
        return True

    assert [name for name in names if can(gate.read, name)] == place.fill(expected).split()
    assert [name for name in names if can(gate.check, name)] == place.fill(expected).split()
    assert [name for name in names[:3] if gate.covers(name)] == [
        name for name in names[:3] if name in expected.split()
    ]
    assert can(gate.read, "link.md") == ("README.md" in expected)  # a link counts as what it leads to


def test_a_folder_lists_only_what_may_be_read(place: Place) -> None:
    for folder in ("src/sub", "docs"):
        (place.root / folder).mkdir(parents=True)
    (place.root / "README.md").write_text("x")
    gate = FileGate(place.root, allowed_directories=[Path("src/sub")])
    assert (gate.list(), gate.list("src"), gate.list("src/sub")) == (["src/"], ["sub/"], [])
    with pytest.raises(FileRefused, match="outside"):
        gate.list("docs")


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("README.md", ""), ("src", ""), (".", ""), ("none.py", ""), ("src/none/x", ""), ("none/../README.md", ""),
        ("src/none/../../..", "outside"), ("../none", "outside"), ("none/.git/config", "git_internal"),
        ("/none", "outside"), ("link/none", "outside"), ("a\0b", "not_found"),
        ("big", "too_large"), ("pipe", "not_regular"), ("loop", "loop"), ("dangling", "outside"),
    ],
)  # fmt: skip
def test_what_another_program_may_be_handed(place: Place, path: str, key: str) -> None:
    (place.root / "src").mkdir()
    (place.root / "README.md").write_text("x")
    (place.root / "big").write_bytes(b"x" * 101)
    (place.root / "link").symlink_to(place.out)
    (place.root / "loop").symlink_to("loop")
    (place.root / "dangling").symlink_to("../none")
    os.mkfifo(place.root / "pipe")
    gate = FileGate(place.root, max_file_size=100)
    if not key:
        gate.check(path)
        return
    with pytest.raises(FileRefused) as caught:
        gate.check(path)
    assert caught.value.key == key


def test_list_marks_directories_and_hides_git(place: Place) -> None:
    for name in (".git", "src", "b"):
        (place.root / name).mkdir()
    (place.root / "a.py").write_text("x")
    gate = FileGate(place.root)
    assert gate.list() == ["a.py", "b/", "src/"]
    with pytest.raises(FileRefused, match="not_directory"):
        gate.list("a.py")


def test_walk_gives_every_path_in_gits_order(place: Place) -> None:
    for folder in (".git", "a", "sub/x", "sub/y/.git", "empty"):
        (place.root / folder).mkdir(parents=True)
    raw = os.fsdecode(b"\xff.py")
    for name in (
        ".git/config",
        "a/b.py",
        "a.py",
        "a-b.py",
        "sub/x/.git",
        "sub/x/hidden.py",
        "sub/y/z.py",
        raw,
    ):
        (place.root / name).write_text("x")
    (place.root / "up").symlink_to("..")
    (place.root / "dangling").symlink_to("nowhere")
    os.mkfifo(place.root / "pipe")
    gate = FileGate(place.root)
    found = list(gate.walk())
    assert found == ["a-b.py", "a.py", "a/b.py", "dangling", "pipe", "sub/x/", "sub/y/", "up", raw]
    assert [gate.git_mode(path) for path in found] == [
        *["100644"] * 3,
        *["120000", "", "160000", "160000", "120000", "100644"],
    ]


def test_git_mode_of_directories_and_programs(place: Place) -> None:
    (place.root / ".git").mkdir()
    (place.root / "src").mkdir()
    (place.root / "run").write_text("x")
    (place.root / "run").chmod(0o755)
    gate = FileGate(place.root)
    assert [gate.git_mode(path) for path in ("", "src", "run")] == ["040000", "040000", "100755"]


def test_walk_shows_a_directory_that_is_too_deep(place: Place) -> None:
    os.makedirs(place.root / ("d/" * 120))
    (place.root / "d/a.py").write_text("x")
    assert list(FileGate(place.root).walk()) == ["d/a.py", "d/" * 101]


def test_a_missing_root_is_an_error(place: Place) -> None:
    with pytest.raises(FileRefused, match="not_found"):
        list(FileGate(place.root / "none").walk())


def test_descriptors_are_closed(place: Place) -> None:
    (place.root / "a").mkdir()
    (place.root / "a/b.py").write_text("x")
    before = os.dup(0)
    os.close(before)
    gate = FileGate(place.root)
    gate.read("a/b.py")
    with pytest.raises(FileRefused):
        gate.read("a/../../x")
    list(gate.walk())
    after = os.dup(0)
    os.close(after)
    assert after == before


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("repo/new.md", None),
        ("repo/report.md", None),
        ("repo/sub/../new.md", None),
        ("outside/link.md", None),  # the user's own link
        ("repo/planted.md", "symlink"),
        ("repo/planted/new.md", "symlink"),
        ("outside/into/planted.md", "symlink"),  # into the repository by a way of the user's
        ("repo/.git/hooks/pre-commit", "git_internal"),
        ("repo/sub", "not_regular"),
        ("repo/pipe", "not_regular"),
        ("repo/\0", "not_found"),
    ],
)
def test_check_write_target(target: str, key: str | None, place: Place) -> None:
    (place.root / "sub").mkdir()
    (place.root / "report.md").write_text("old")
    (place.root / "planted.md").symlink_to("../outside/secret.txt")
    (place.root / "planted").symlink_to("../outside")
    (place.out / "link.md").symlink_to("secret.txt")
    (place.out / "into").symlink_to(place.root)
    os.mkfifo(place.root / "pipe")
    if key is None:
        check_write_target(place.tmp / target, root=place.root)
    else:
        with pytest.raises(FileRefused, match=key):
            check_write_target(place.tmp / target, root=place.root)
