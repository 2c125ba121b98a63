"""Hardware is read from files and from a driver; what is missing or odd is left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from review_agent.tools.hardware import Gpu, amd, detect, nvidia, within_cgroup

GIB = 1 << 30


class Broken(Exception):
    pass


@dataclass
class Memory:
    total: int
    free: int


@dataclass
class Driver:
    """NVIDIA's library with these cards; `fails` are the functions that raise."""

    cards: list[tuple[str | bytes, Memory | None]] = field(default_factory=list)
    fails: frozenset[str] = frozenset()
    closed: bool = False
    NVMLError: type[Exception] = Broken

    def _may(self, name: str) -> None:
        if name in self.fails:
            raise Broken

    def nvmlInit(self) -> None:
        self._may("init")

    def nvmlShutdown(self) -> None:
        self.closed = True

    def nvmlDeviceGetCount(self) -> int:
        self._may("count")
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:
        return index

    def nvmlDeviceGetName(self, handle: object) -> str | bytes:
        return self.cards[int(str(handle))][0]

    def nvmlDeviceGetMemoryInfo(self, handle: object) -> Memory:
        memory = self.cards[int(str(handle))][1]
        if memory is None:
            raise Broken
        return memory


def test_cards_of_nvidia() -> None:
    driver = Driver(
        [("RTX 4090", Memory(24 * GIB, 20 * GIB)), (b"T4", Memory(16 * GIB, GIB)), ("GB10", None)]
    )
    assert nvidia(driver) == (Gpu("RTX 4090", 24 * GIB, 20 * GIB), Gpu("T4", 16 * GIB, GIB))
    assert driver.closed


@pytest.mark.parametrize("fails", ["init", "count"])
def test_a_driver_that_fails_has_no_cards(fails: str) -> None:
    driver = Driver([("RTX", Memory(GIB, GIB))], frozenset({fails}))
    assert nvidia(driver) == ()
    assert driver.closed == (fails != "init")


def test_no_library_has_no_cards() -> None:
    assert nvidia(None) == ()


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_cards_of_amd(tmp_path: Path) -> None:
    drm = "sys/class/drm"
    files = {
        f"{drm}/card0/device/mem_info_vram_total": f"{512 << 20}\n",  # a slice for the processor's own graphics
        f"{drm}/card1/device/mem_info_vram_total": f"{16 * GIB}\n",
        f"{drm}/card1/device/mem_info_vram_used": f"{GIB}\n",
        f"{drm}/card1/device/product_name": "Radeon RX 7800\n",
        f"{drm}/card2/device/mem_info_vram_total": "??\n",
        f"{drm}/card3/device/mem_info_vram_total": f"{8 * GIB}\n",
        f"{drm}/card3-DP-1/device/mem_info_vram_total": f"{8 * GIB}\n",
    }
    assert amd(write(tmp_path, files)) == (
        Gpu("Radeon RX 7800", 16 * GIB, 15 * GIB),
        Gpu("AMD GPU", 8 * GIB, 8 * GIB),
    )
    assert amd(tmp_path / "nothing") == ()


CG = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, (64 * GIB, 40 * GIB), id="no control groups"),
        pytest.param({f"{CG}/memory.max": "max"}, (64 * GIB, 40 * GIB), id="no limit"),
        pytest.param(
            {f"{CG}/memory.max": str(8 * GIB), f"{CG}/memory.current": str(2 * GIB)},
            (8 * GIB, 6 * GIB),
            id="container",
        ),
        pytest.param(
            {
                f"{CG}/memory.max": str(8 * GIB),
                f"{CG}/memory.current": str(7 * GIB),
                f"{CG}/memory.stat": f"anon 1\ninactive_file {5 * GIB}\n",
            },
            (8 * GIB, 6 * GIB),
            id="file cache is given back",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/user.slice/app\n", f"{CG}/user.slice/memory.max": str(4 * GIB)},
            (4 * GIB, 4 * GIB),
            id="a group around ours",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:cpu,memory:/docker/x\n4:pids:/other\n",
                f"{CG}/memory/docker/x/memory.limit_in_bytes": str(2 * GIB),
                f"{CG}/other/memory.max": "1",
            },
            (2 * GIB, 2 * GIB),
            id="version 1",
        ),
        pytest.param(
            {f"{CG}/memory/memory.limit_in_bytes": str(2**63 - 4096)},
            (64 * GIB, 40 * GIB),
            id="version 1, no limit",
        ),
        pytest.param({"proc/self/cgroup": "garbage\n0::/../..\n"}, (64 * GIB, 40 * GIB), id="odd lines"),
    ],
)
def test_a_container_has_what_its_group_allows(
    tmp_path: Path, files: dict[str, str], expected: tuple[int, int]
) -> None:
    assert within_cgroup(64 * GIB, 40 * GIB, write(tmp_path, files)) == expected


def test_this_machine() -> None:
    found = detect()
    assert found.cpu
    assert found.cores >= 1
    assert 0 < found.ram_available <= found.ram
