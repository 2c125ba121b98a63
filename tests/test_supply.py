"""What CI fetches is named by its hash: the lock files fit what asks for them, and a changed file is refused."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements"
LOCKS = sorted(REQUIREMENTS.glob("*.txt"))
GO_FOLDERS = sorted(path.parent for path in REQUIREMENTS.glob("*/go.mod"))
WORKFLOWS = sorted(
    path
    for path in [
        *ROOT.glob(".github/**/*.y*ml"),
        *ROOT.glob("action.y*ml"),
        *ROOT.glob("examples/**/*.y*ml"),
    ]
    if re.search(r"^(jobs|runs):", path.read_text(), re.M)
)

_ENTRY = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\]+?))? \\")
_HASH = re.compile(r" {4}--hash=sha256:[0-9a-f]{64}(?P<more> \\)?")
_COMMENT = re.compile(r"(?: {4})?#[\w ().:-]*(?:/?[\w.-]+)?\)?")


@dataclass(frozen=True)
class Entry:
    name: str
    version: Version
    marker: Marker | None
    hashes: int


def entries(text: str) -> Iterator[Entry]:
    """Each pinned package. Raises ValueError at a line that is not a pin, one of its hashes or a comment."""
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if entry := _ENTRY.fullmatch(line):
            hashes, more = 0, True
            while more:
                found = _HASH.fullmatch(next(lines, (0, ""))[1])
                if not found:
                    raise ValueError(f"line {number}: {line}")
                hashes, more = hashes + 1, bool(found["more"])
            marker = Marker(entry["marker"]) if entry["marker"] else None
            yield Entry(canonicalize_name(entry["name"]), Version(entry["version"]), marker, hashes)
        elif not _COMMENT.fullmatch(line):
            raise ValueError(f"line {number}: {line}")


def asked() -> list[tuple[str, str]]:
    """(lock file, requirement) for all that pyproject.toml and requirements/*.in name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    groups = [project["build-system"]["requires"], project["project"]["dependencies"], *extras]
    found = {("ci.txt", requirement) for group in groups for requirement in group}
    shipped = [*groups[:2], project["project"]["optional-dependencies"]["embedded"]]
    found |= {("action.txt", requirement) for group in shipped for requirement in group}
    for path in REQUIREMENTS.glob("*.in"):
        lines = path.read_text().splitlines()
        found |= {(path.with_suffix(".txt").name, line) for line in lines if not line.startswith("#")}
    return sorted(found)


PLACES = [
    {"python_full_version": f"{python}.0", "python_version": python, "sys_platform": platform}
    | {"platform_machine": machine, "platform_system": system, "os_name": "posix"}
    for python in ("3.11", "3.12", "3.13")
    for platform, system, machine in (
        ("linux", "Linux", "x86_64"),
        ("linux", "Linux", "aarch64"),
        ("darwin", "Darwin", "arm64"),
        ("darwin", "Darwin", "x86_64"),
    )
]


@pytest.mark.parametrize(("lock", "line"), asked())
def test_what_is_asked_for_is_locked_once_for_every_place(lock: str, line: str) -> None:
    requirement = Requirement(line)
    name = canonicalize_name(requirement.name)
    locked = [entry for entry in entries((REQUIREMENTS / lock).read_text()) if entry.name == name]
    for place in PLACES:
        found = [e.version for e in locked if e.marker is None or e.marker.evaluate(dict(place))]
        assert len(found) == 1, f"{line} in {place}: {found}; run scripts/lock"
        assert found[0] in requirement.specifier, f"{line}: {found[0]} is locked; run scripts/lock"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_holds_pins_hashes_and_comments_only(lock: Path) -> None:
    assert all(entry.hashes for entry in entries(lock.read_text()))


HASH = f"    --hash=sha256:{'0' * 64}"


@pytest.mark.parametrize(
    "text",
    [
        "click==8.2.0\n",
        "click==8.2.0 \\\n    # via x\n",
        f"click>=8.2.0 \\\n{HASH}\n",
        f"click==8.2.0 \\\n{HASH} \\\n",
        "click==8.2.0 \\\n    --hash=md5:0123\n",
        f"--index-url=https://pypi.example/simple\nclick==8.2.0 \\\n{HASH}\n",
        "--find-links /opt/x\n",
        f"click @ https://files.example/click.whl \\\n{HASH}\n",
        "# https://pypi.example/simple\n",
        "#    uv pip compile /home/me/pyproject.toml\n",
        "-e .\n",
    ],
)
def test_anything_else_in_a_lock_is_found(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        list(entries(text))


@pytest.mark.parametrize("folder", GO_FOLDERS, ids=lambda path: path.name)
def test_a_go_program_and_its_modules_have_their_sums(folder: Path) -> None:
    sums = (folder / "go.sum").read_text().splitlines()
    assert all(re.fullmatch(r"\S+ v\S+ h1:[\w+/]{43}=", line) for line in sums)
    module, version = re.findall(
        r"^\s+(github\.com/\w+/" + folder.name + r") (v\S+)", read_mod(folder), re.M
    )[0]
    assert any(line.startswith(f"{module} {version} h1:") for line in sums)
    assert not re.search(r"^(replace|exclude)\b", read_mod(folder), re.M)


def read_mod(folder: Path) -> str:
    return (folder / "go.mod").read_text()


def test_the_action_installs_what_ci_tests() -> None:
    tested, installed = (
        {(entry.name, entry.version) for entry in entries((REQUIREMENTS / lock).read_text())}
        for lock in ("ci.txt", "action.txt")
    )
    assert installed < tested


def test_every_kind_of_lock_is_there() -> None:
    assert [path.name for path in LOCKS] == ["action.txt", "audit.txt", "ci.txt", "engines.txt"]
    assert [path.name for path in GO_FOLDERS] == ["actionlint", "ollama"]
    assert ROOT / ".github/workflows/ci.yml" in WORKFLOWS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_actions_are_pinned_by_commit_and_say_their_version(path: Path) -> None:
    used = re.findall(r"^\s*(?:- )?uses: *(.+)$", path.read_text(), re.M)
    for action in used:
        pinned = re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
        assert pinned or action.startswith("./"), action
    assert "pull_request_target" not in path.read_text()


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the scripts, importable as it is when one of them runs."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return ROOT / "scripts"


def load(path: Path) -> ModuleType:
    name = path.stem.replace("-", "_")
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    loader.exec_module(module)
    return module


def test_only_a_wheel_with_the_locked_hash_is_installed(scripts: Path, tmp_path: Path) -> None:
    pinned = load(scripts / "pinned.py")
    wheel = tmp_path / "harmless-1.0-py3-none-any.whl"
    info = "harmless-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as z:
        z.writestr("harmless.py", "")
        z.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: harmless\nVersion: 1.0\n")
        z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", f"harmless.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock = tmp_path / "lock.txt"
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    options = ["--no-index", "--find-links", tmp_path]

    lock.write_text(f"harmless==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    with pytest.raises(SystemExit, match="DO NOT MATCH THE HASHES"):
        pinned.pip(python, "install", pinned.locked("harmless", lock)[1], tmp_path, *options)
    with pytest.raises(SystemExit, match="Hashes are required"):
        pinned.pip(python, "install", "harmless==1.0\n", tmp_path, *options)
    assert not imports(python, "harmless")

    lock.write_text(f"harmless==1.0 \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{digest}\n")
    version, requirement = pinned.locked("harmless", lock)
    pinned.pip(python, "install", requirement, tmp_path, *options)
    assert (version, imports(python, "harmless")) == ("1.0", True)


def imports(python: Path, module: str) -> bool:
    return subprocess.run([python, "-I", "-c", f"import {module}"], capture_output=True).returncode == 0


@pytest.mark.parametrize("text", ["", "harmless==1.0\n", "harmless-not==1.0 \\\n    --hash=sha256:00\n"])
def test_a_wheel_without_a_hash_is_not_locked(scripts: Path, tmp_path: Path, text: str) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(text)
    with pytest.raises(SystemExit, match="has no harmless with a hash"):
        load(scripts / "pinned.py").locked("harmless", lock)


def test_ci_installs_from_the_lock_and_nothing_behind_it() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert [line.partition(" #")[0] for line in lines if "pip install" in line] == [
        "pip install --quiet --require-hashes -r requirements/ci.txt",
        "pip install --quiet --no-deps --no-build-isolation -e .",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="the tests that need these tools are for Linux")
def test_ci_stops_and_names_the_tools_that_it_cannot_bring(tmp_path: Path) -> None:
    for needed in ("bash", "cut", "env", "id", "uname"):
        (tmp_path / needed).symlink_to(str(shutil.which(needed)))
    got = subprocess.run(
        [ROOT / ".ci/system-tools"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    missing = re.findall(r"^system-tools: no (\w+) .*It is needed to test: \w", got.stderr, re.M)
    assert (got.returncode, missing) == (1, ["bwrap", "strace", "ip", "unshare", "rg", "tree", "file"])


CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
UNFIXED = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]}
SKIPPED = {"name": "d", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "vulnerable", "silent"),
    [
        ([CLEAN], 0, (), ()),
        ([CLEAN, BAD], 1, ("b 2: PYSEC-1 (fixed in 3)",), ()),
        ([UNFIXED], 1, ("c 2: PYSEC-2 (fixed in no version yet)",), ()),
        ([CLEAN, SKIPPED], 3, (), ("d: not found",)),
        ([SKIPPED], 3, (), ("d: not found",)),
        ([SKIPPED, BAD], 1, ("b 2: PYSEC-1 (fixed in 3)",), ("d: not found",)),
        ([], 3, (), ()),
    ],
)
def test_what_could_not_be_audited_is_not_called_clean(
    scripts: Path, packages: list[object], code: int, vulnerable: tuple[str, ...], silent: tuple[str, ...]
) -> None:
    audit = load(scripts / "audit")
    found = audit.read(json.dumps({"dependencies": packages, "fixes": []}))
    assert (found.vulnerable, found.silent, audit.verdict(found)) == (vulnerable, silent, code)


@pytest.mark.parametrize("page", ["SECURITY.md", "SECURITY.zh-CN.md"])
def test_the_page_names_files_that_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|tools|agent|checkpoints|scripts)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert len(named) > 20
