"""Which model suits which machine."""

from __future__ import annotations

import pytest

from review_agent.agent.advisor import Fit, Speed, fit_of, need, recommend
from review_agent.tools.catalog import load
from review_agent.tools.hardware import Gpu, Hardware

GIB = 1 << 30
MODELS = load().models


def machine(ram: int, *vram: int, unified: bool = False, available: int | None = None) -> Hardware:
    """Sizes in GiB."""
    free = ram if available is None else available
    gpus = tuple(Gpu("card", size * GIB, size * GIB) for size in vram)
    return Hardware("cpu", 8, ram * GIB, free * GIB, gpus, unified)


@pytest.mark.parametrize(
    ("hardware", "pick", "fit", "speed"),
    [
        # graphics cards: the classes of the research notes
        (machine(16, 8), "qwen2.5-coder-7b", Fit.GPU, Speed.QUICK),
        (machine(32, 12), "qwen2.5-coder-14b", Fit.GPU, Speed.QUICK),
        (machine(32, 16), "gpt-oss-20b", Fit.GPU, Speed.QUICK),
        (machine(32, 24), "qwen3-coder-30b", Fit.GPU, Speed.QUICK),
        (machine(64, 24, 24), "qwen3-coder-30b", Fit.GPU, Speed.QUICK),
        (machine(128, 80), "gpt-oss-120b", Fit.GPU, Speed.QUICK),
        # Apple silicon: a part of the memory is for graphics
        (machine(8, unified=True), "qwen2.5-coder-7b", Fit.GPU, Speed.QUICK),
        (machine(16, unified=True), "qwen2.5-coder-14b", Fit.GPU, Speed.QUICK),
        (machine(32, unified=True), "qwen3-coder-30b", Fit.GPU, Speed.QUICK),
        (machine(96, unified=True), "gpt-oss-120b", Fit.GPU, Speed.QUICK),
        # a processor alone: few active parameters, or patience
        (machine(4), "qwen2.5-coder-1.5b", Fit.RAM, Speed.SLOW),
        (machine(8), "qwen2.5-coder-7b", Fit.RAM, Speed.MINUTES),
        (machine(16), "qwen2.5-coder-7b", Fit.RAM, Speed.MINUTES),
        (machine(32), "qwen3-coder-30b", Fit.RAM, Speed.SLOW),
        # a card too small to be of use
        (machine(32, 2), "qwen3-coder-30b", Fit.RAM, Speed.SLOW),
        # main and graphics memory together
        (machine(14, 5), "gpt-oss-20b", Fit.RAM, Speed.SLOW),
    ],
)
def test_the_pick(hardware: Hardware, pick: str, fit: Fit, speed: Speed) -> None:
    first, *others = recommend(hardware, MODELS)
    assert (first.model.name, first.fit, first.speed, first.pick) == (pick, fit, speed, True)
    assert not any(row.pick for row in others)


@pytest.mark.parametrize("gib", [1, 2, 4, 8, 16, 24, 48, 64, 512])
@pytest.mark.parametrize("unified", [True, False])
def test_the_pick_is_never_the_demo_nor_what_a_company_may_not_use(gib: int, unified: bool) -> None:
    rows = recommend(machine(gib, unified=unified), MODELS)
    assert len(rows) == len(MODELS) - 1
    assert not any(row.model.demo for row in rows)
    assert all(row.model.commercial and row.fit is not Fit.NO for row in rows if row.pick)


def test_nothing_fits() -> None:
    rows = recommend(machine(1), MODELS)
    assert {(row.fit, row.speed, row.pick, row.crowded) for row in rows} == {
        (Fit.NO, Speed.NONE, False, False)
    }
    assert {row.reason.key for row in rows} == {"reason_too_large"}


def test_what_fits_comes_before_what_does_not() -> None:
    fits = [row.fit is not Fit.NO for row in recommend(machine(16, 8), MODELS)]
    assert fits == sorted(fits, reverse=True)
    assert any(fits)
    assert not all(fits)


@pytest.mark.parametrize(
    ("available", "crowded"),
    [(16, False), (2, True)],
)
def test_memory_that_others_use_now_is_told(available: int, crowded: bool) -> None:
    assert recommend(machine(16, available=available), MODELS)[0].crowded is crowded


def test_a_longer_context_takes_more_memory() -> None:
    def verdict(num_ctx: int) -> Fit:
        rows = recommend(machine(16, 12), MODELS, num_ctx)
        return next(row.fit for row in rows if row.model.name == "qwen2.5-coder-14b")

    assert (verdict(8192), verdict(32768)) == (Fit.GPU, Fit.RAM)


@pytest.mark.parametrize(
    ("size", "kv", "num_ctx", "expected"),
    [
        (4_600_000_000, 57_344, 8192, 4_600_000_000 + 469_762_048 + 500_000_000),
        (20_000_000_000, 262_144, 8192, 20_000_000_000 + 2_147_483_648 + 2_000_000_000),
        (0, 0, 8192, 500_000_000),
    ],
)
def test_memory_needed(size: int, kv: int, num_ctx: int, expected: int) -> None:
    assert need(size, kv, num_ctx) == expected


@pytest.mark.parametrize(
    ("bytes_needed", "fit"),
    [(7 * GIB, Fit.GPU), (8 * GIB, Fit.RAM), (20 * GIB, Fit.RAM), (21 * GIB, Fit.NO)],
)
def test_fit(bytes_needed: int, fit: Fit) -> None:
    assert fit_of(bytes_needed, machine(16, 8)) is fit  # 7.6 GiB on the card, 20.4 in all
