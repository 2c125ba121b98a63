"""Which models fit a machine, and which one to take. Pure: hardware and catalogue come in, rows go out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from review_agent.agent.models import Note
from review_agent.tools.catalog import CatalogModel
from review_agent.tools.hardware import Hardware

NUM_CTX = 8192
# The driver, the desktop and other programs keep a part; macOS lets graphics use about three quarters.
GPU_SHARE = 0.95
UNIFIED_SHARE = 0.75
RAM_SHARE = 0.8
# Smaller models find little; denser ones than that take a processor many minutes a file.
USEFUL_B = 7.0
PATIENT_B = 8.0
QUICK_B = 5.0
# Cache per token where only the parameters are known (llmfit's rule: 8e-6 GB per 10^9 parameters).
KV_PER_BILLION = 8000


class Fit(StrEnum):
    GPU = "fits_gpu"
    RAM = "fits_ram"
    NO = "too_large"


class Speed(StrEnum):
    """A word, not a number: what a machine's memory can move per second is not known."""

    QUICK = "quick"
    SLOW = "slow"
    MINUTES = "minutes"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Advice:
    """One model on one machine. `need` in bytes; `reason` is a sentence of `[models]`.

    `crowded`: it fits, but other programs use the memory now. `pick`: the one to take.
    """

    model: CatalogModel
    fit: Fit
    speed: Speed
    need: int
    reason: Note
    crowded: bool = False
    pick: bool = False


def need(size: int, kv_bytes_per_token: int, num_ctx: int = NUM_CTX) -> int:
    """Bytes of memory: weights, the cache of `num_ctx` tokens, and working space."""
    return size + kv_bytes_per_token * num_ctx + max(500_000_000, size // 10)


def guessed_kv(parameters_b: float) -> int:
    """Cache bytes per token of a model of which only the parameters are known. Rough: up to twice off."""
    return round(parameters_b * KV_PER_BILLION)


def fit_of(bytes_needed: int, hardware: Hardware) -> Fit:
    """Graphics memory first; then main memory, with graphics memory taking a part of the layers."""
    on_gpu, in_all = _budgets(hardware)
    if bytes_needed <= on_gpu:
        return Fit.GPU
    return Fit.RAM if bytes_needed <= in_all else Fit.NO


def recommend(
    hardware: Hardware, catalogue: Sequence[CatalogModel], num_ctx: int = NUM_CTX
) -> tuple[Advice, ...]:
    """The catalogue without demo models, best for this machine first; the pick, if any, is the first row."""
    rows = [_advice(hardware, model, num_ctx) for model in catalogue if not model.demo]
    ranked = sorted(enumerate(rows), key=lambda pair: (_tier(pair[1]), not pair[1].model.commercial, pair[0]))
    return tuple(
        replace(row, pick=place == 0 and row.fit is not Fit.NO) for place, (_, row) in enumerate(ranked)
    )


def _advice(hardware: Hardware, model: CatalogModel, num_ctx: int) -> Advice:
    needed = need(model.size, model.kv_bytes_per_token, min(num_ctx, model.context))
    fit = fit_of(needed, hardware)
    free = sum(gpu.vram_free for gpu in hardware.gpus)
    if fit is Fit.RAM or hardware.unified:
        free += hardware.ram_available
    return Advice(
        model,
        fit,
        _speed(fit, model),
        needed,
        Note(f"reason_{fit}", {"need": needed, "budget": _budgets(hardware)[fit is not Fit.GPU]}),
        crowded=fit is not Fit.NO and needed > free,
    )


def _budgets(hardware: Hardware) -> tuple[int, int]:
    """Bytes a model may take: in graphics memory alone, and in graphics and main memory together."""
    if hardware.unified:
        return int(hardware.ram * UNIFIED_SHARE), int(hardware.ram * RAM_SHARE)
    vram = int(sum(gpu.vram for gpu in hardware.gpus) * GPU_SHARE)
    return vram, vram + int(hardware.ram * RAM_SHARE)


def _speed(fit: Fit, model: CatalogModel) -> Speed:
    if fit is Fit.GPU:
        return Speed.QUICK
    if fit is Fit.NO:
        return Speed.NONE
    return Speed.SLOW if model.active_b < QUICK_B else Speed.MINUTES


def _tier(row: Advice) -> int:
    """Useful and quick first, then useful and bearable, small, slow, impossible."""
    useful = row.model.parameters_b >= USEFUL_B
    if row.fit is Fit.NO:
        return 5
    if row.fit is Fit.GPU:
        return 0 if useful else 2
    if useful:
        return 1 if row.model.active_b <= PATIENT_B else 4
    return 3
