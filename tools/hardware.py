"""What this machine has: processor, memory, graphics cards. Nothing here fails: what is unknown is absent."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

ROOT = Path("/")
_LEAST_VRAM = 1 << 30  # below that it is a slice of main memory that the processor's own graphics reserved


@dataclass(frozen=True, slots=True)
class Gpu:
    """A graphics card. Bytes; `vram_free` is at the moment of asking."""

    name: str
    vram: int
    vram_free: int


@dataclass(frozen=True, slots=True)
class Hardware:
    """Bytes. `ram` is what we may use: a container's limit counts. `unified`: graphics use it as theirs."""

    cpu: str
    cores: int
    ram: int
    ram_available: int
    gpus: tuple[Gpu, ...] = ()
    unified: bool = False


def fields_of(hardware: Hardware) -> dict[str, object]:
    """Its fields, with a list for the tuple."""
    return {**asdict(hardware), "gpus": [asdict(gpu) for gpu in hardware.gpus]}


class Nvml(Protocol):
    """The part of `pynvml` that is used."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> object: ...
    def nvmlDeviceGetName(self, handle: object) -> str | bytes: ...
    def nvmlDeviceGetMemoryInfo(self, handle: object) -> NvmlMemory: ...


class NvmlMemory(Protocol):
    total: int
    free: int


def detect() -> Hardware:
    """This machine. Takes milliseconds."""
    import psutil

    memory = psutil.virtual_memory()
    ram, available = within_cgroup(int(memory.total), int(memory.available), ROOT)
    unified = sys.platform == "darwin" and platform.machine() == "arm64"
    return Hardware(
        cpu=_cpu(ROOT),
        cores=_cores(psutil.cpu_count(logical=False)),
        ram=ram,
        ram_available=available,
        gpus=() if sys.platform == "darwin" else (*nvidia(_nvml()), *amd(ROOT)),
        unified=unified,
    )


def nvidia(nvml: Nvml | None) -> tuple[Gpu, ...]:
    """The cards that NVIDIA's driver reports; none without a driver."""
    if nvml is None:
        return ()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:  # no driver, no device, or one of another version
        return ()
    try:
        return tuple(_nvidia_cards(nvml))
    except nvml.NVMLError:
        return ()
    finally:
        nvml.nvmlShutdown()


def _nvidia_cards(nvml: Nvml) -> Iterable[Gpu]:
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        name = nvml.nvmlDeviceGetName(handle)
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        except nvml.NVMLError:  # a chip without memory of its own
            continue
        text = name.decode(errors="replace") if isinstance(name, bytes) else name
        yield Gpu(text, int(memory.total), int(memory.free))


def _nvml() -> Nvml | None:
    try:
        import pynvml
    except (ImportError, OSError):
        return None
    found: Nvml = pynvml
    return found


def amd(root: Path) -> tuple[Gpu, ...]:
    """The cards of Linux' amdgpu driver, which tells their memory in sysfs."""
    cards = sorted((root / "sys/class/drm").glob("card[0-9]*/device/mem_info_vram_total"))
    gpus = []
    for total_file in cards:
        device = total_file.parent
        total = _number(total_file)
        if device.parent.name.count("-") or total is None or total < _LEAST_VRAM:
            continue
        used = _number(device / "mem_info_vram_used") or 0
        gpus.append(Gpu(_text(device / "product_name") or "AMD GPU", total, max(0, total - used)))
    return tuple(gpus)


def within_cgroup(ram: int, available: int, root: Path) -> tuple[int, int]:
    """Memory and available memory under the limits of our control group and those around it."""
    for folder in _cgroups(root):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        if limit is None or limit >= ram:
            continue
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
        ram = limit
        available = min(available, max(0, limit - used + _reclaimable(folder / "memory.stat")))
    return ram, min(ram, available)


def _cgroups(root: Path) -> list[Path]:
    """Folders that may limit us, outermost first. Inside a container the top one is the container's own."""
    folders = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/memory"]
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        top = folders[1] if controllers else folders[0]
        parts = [part for part in path.split("/") if part and part != ".."]
        folders += [top.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    return folders


def _reclaimable(stat: Path) -> int:
    """File cache that the kernel gives back when memory is asked for; `memory.current` counts it as used."""
    for line in _text(stat).splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.strip().isdigit():
            return int(value)
    return 0


def _cpu(root: Path) -> str:
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _cores(physical: int | None) -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(physical or usable, usable)


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.isascii() and text.isdigit() else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
