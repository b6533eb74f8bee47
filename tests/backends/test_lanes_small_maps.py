"""Convolutions of small maps with many channels: sums over taps inside, of the whole batch."""

from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends.lanes.convolution.direct_batch import records
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.layers import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from tests.backends.one_convolution import Convolution
from tests.backends.one_step import check_threads

KERNELS = {records.K_PRODUCT, records.K_TURN, records.K_GRADIENT}


@pytest.mark.parametrize(
    "case",
    [
        (37, 48, 40, (2, 2), (3, 3), (1, 1), (1, 1), (1, 1)),
        (5, 32, 16, (1, 1), (5, 5), (1, 1), (2, 2), (1, 1)),
        (20, 32, 24, (2, 2), (1, 1), (1, 1), (0, 0), (1, 1)),
        (16, 16, 8, (3, 4), (3, 3), (2, 2), (1, 1), (1, 1)),
        (50, 48, 24, (4, 4), (3, 2), (1, 1), (1, 0), (1, 1)),
        (33, 16, 8, (4, 4), (5, 3), (2, 1), (2, 1), (1, 1)),
        (17, 32, 16, (4, 3), (2, 2), (1, 1), (0, 0), (2, 2)),
        (200, 32, 16, (1, 4), (1, 3), (1, 1), (0, 1), (1, 1)),
        # Channels that do not fill a tile, and a kernel that extends beyond all pixels.
        (21, 5, 11, (2, 3), (3, 3), (1, 1), (1, 1), (1, 1)),
        (16, 7, 9, (1, 2), (3, 3), (1, 1), (3, 3), (1, 1)),
    ],
)
def test_against_float64(case: tuple[Any, ...]) -> None:
    made = Convolution(*case)
    made.check(made.by("direct_batch"))


def network(pools: bool) -> Sequential:
    """Two of these layers next to each other, and one with fused operations."""
    last = [Conv2d(160, 8, 3, padding=1, seed=4), ReLU(), *([MaxPool2d(2)] if pools else [])]
    return Sequential(
        Conv2d(3, 24, 3, padding=1, seed=0), ReLU(), MaxPool2d(2),
        Conv2d(24, 160, 3, padding=1, bias=False, seed=1), BatchNorm2d(160), ReLU(),
        Conv2d(160, 208, 3, padding=1, seed=2), ReLU(),
        Conv2d(208, 160, 3, padding=1, seed=3), ReLU(),
        *last, Flatten(), Linear(8 if pools else 32, 5, seed=5), input_shape=(3, 4, 4),
    )  # fmt: skip


def test_they_are_used_where_maps_are_small_and_channels_many() -> None:
    program = fastcnn.plan(network(pools=False), 40)
    names = {
        name.partition(":")[0]
        for name, kernel in zip(program.names, program.rows[:, L.KERNEL].tolist(), strict=True)
        if kernel in KERNELS
    }
    assert names == {"6", "8"}
    assert set(program.rows[:, L.KERNEL].tolist()) >= KERNELS


@pytest.mark.parametrize("pools", [False, True])
def test_the_same_step_on_any_threads(pools: bool) -> None:
    """Equal to direct sums up to float32 rounding; the same bits on any number of threads."""
    generator = np.random.default_rng(1)
    x = generator.standard_normal((150, 3, 4, 4)).astype(np.float32)
    y = generator.integers(0, 5, 150)
    step = {"momentum": 0.9, "lr": 0.1}
    check_threads(lambda: network(pools), x, y, "direct_batch", 1e-5, logits=70, **step)


def test_products_with_zeros_are_not_counted() -> None:
    """Two maps of 2x2 have sixteen pairs of pixels, for a kernel of nine taps."""
    program = fastcnn.plan(network(pools=False), 32, threads=1)
    found = dict(zip(program.names, program.costs(), strict=True))
    for name in ("6: convolution + ReLU", "6: weight gradient", "6: input gradient"):
        assert found[name].flops == 32 * 2 * 16 * 160 * 208
    assert found["6: weight gradient"].written == 4 * 9 * 160 * 208
