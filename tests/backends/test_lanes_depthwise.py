"""Depthwise convolutions: all gradients in one row, bitwise equal to those of other kernels."""

import numpy as np
import pytest

import fastcnn
from fastcnn.backends.lanes.convolution.depthwise.records import K_DEPTHWISE, K_DEPTHWISE_GRADIENT
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.layers import (
    Conv2d,
    ConvTranspose2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
)
from tests.backends.one_convolution import Convolution, Pair
from tests.backends.one_step import take_step

#: Samples, channels, outputs per channel, size, kernel, stride, padding, dilation.
CASES = [
    (33, 5, 1, (9, 11), (3, 3), (1, 1), (1, 1), (1, 1)),
    (16, 3, 1, (10, 7), (3, 3), (2, 2), (1, 1), (1, 1)),
    # An input pixel that no output reads, and rows that read only padding.
    (20, 4, 2, (8, 12), (2, 1), (3, 2), (0, 0), (1, 1)),
    (7, 6, 3, (13, 13), (5, 5), (2, 2), (2, 2), (1, 1)),
    (16, 2, 1, (17, 16), (3, 5), (1, 2), (4, 4), (2, 2)),
    (18, 3, 1, (6, 6), (7, 7), (1, 1), (3, 3), (1, 1)),
    (3, 4, 1, (1, 40), (1, 9), (1, 2), (0, 4), (1, 1)),
    (16, 2, 2, (3, 4), (11, 12), (1, 1), (5, 6), (1, 1)),
    # The output's gradient is the largest buffer, and the arena ends soon after it.
    (1, 5, 3, (6, 23), (1, 5), (1, 1), (0, 2), (2, 3)),
    (33, 2, 3, (19, 9), (7, 5), (1, 3), (0, 0), (3, 2)),
    # Tiles of rows of eight positions, and of four.
    (5, 3, 2, (6, 21), (5, 5), (1, 1), (2, 2), (1, 1)),
    (4, 2, 1, (9, 25), (2, 7), (1, 2), (0, 3), (1, 1)),
    (3, 2, 1, (8, 19), (7, 7), (1, 1), (3, 3), (1, 1)),
    (2, 2, 1, (9, 29), (3, 5), (2, 2), (1, 2), (2, 1)),
    (2, 2, 1, (4, 5), (5, 5), (1, 1), (2, 2), (1, 1)),
    (2, 2, 1, (9, 9), (7, 7), (2, 2), (3, 3), (1, 1)),
]


@pytest.mark.parametrize(
    ("count", "channels", "each", "size", "kernel", "stride", "padding", "dilation"), CASES
)
def test_against_float64(
    count: int, channels: int, each: int, size: Pair, kernel: Pair, stride: Pair, padding: Pair,
    dilation: Pair,
) -> None:  # fmt: skip
    sizes = (count, channels, channels * each, size, kernel)
    made = Convolution(*sizes, stride, padding, dilation, groups=channels)
    found = made.by("depthwise")
    for got, direct in zip(found, made.by("direct"), strict=True):
        np.testing.assert_array_equal(got, direct)
    made.check(found, 2e-5)


def network(kind: str) -> Sequential:
    """Depthwise convolutions whose gradients are masked, unmasked, or only partly needed."""
    middle: dict[str, list[Layer]] = {
        "masked": [Conv2d(8, 16, 3, stride=2, padding=1, groups=8, seed=1), ReLU()],
        "pooled": [Conv2d(8, 16, 5, padding=2, groups=8, seed=1), ReLU(), MaxPool2d(2)],
        "without bias": [Conv2d(8, 16, 3, groups=8, bias=False, seed=1), Sigmoid()],
        "transposed": [ConvTranspose2d(8, 16, 3, stride=2, groups=8, seed=1), ReLU()],
        "many outputs": [Conv2d(8, 40, 3, stride=2, groups=8, seed=1), ReLU()],
    }
    outputs = 40 if kind == "many outputs" else 16
    return Sequential(
        Conv2d(3, 8, 3, padding=1, seed=0), ReLU(), *middle[kind],
        Conv2d(outputs, outputs, 3, padding=1, groups=outputs, seed=2), ReLU(),
        Conv2d(outputs, 4, 1, seed=3), GlobalAvgPool2d(), Flatten(), Linear(4, 5, seed=4),
        input_shape=(3, 12, 11),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["masked", "pooled", "without bias", "transposed", "many outputs"])
@pytest.mark.parametrize("batch", [16, 50])
def test_steps_have_the_bits_of_other_kernels_on_any_threads(kind: str, batch: int) -> None:
    generator = np.random.default_rng(batch)
    x = generator.standard_normal((batch, 3, 12, 11)).astype(np.float32)
    y = generator.integers(0, 5, batch)
    found = []
    for name, threads in (("direct", 1), ("depthwise", 1), ("depthwise", 2), ("depthwise", 4)):
        model = network(kind)
        take_step(model, x, y, name, threads)
        found.append(model.parameter_vector.copy())
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_where_they_are_used() -> None:
    """Used if a channel has few outputs; each product is counted once."""
    kernels = {}
    for kind in ("masked", "many outputs"):
        model = network(kind)
        kernels[kind] = [int(row[L.KERNEL]) for row in fastcnn.plan(model, 16).rows]
    assert kernels["masked"].count(K_DEPTHWISE) == 2
    assert kernels["masked"].count(K_DEPTHWISE_GRADIENT) == 2
    assert kernels["many outputs"].count(K_DEPTHWISE) == 1
    program = fastcnn.plan(network("masked"), 16)
    costs = dict(zip(program.names, program.costs(), strict=True))
    assert costs["2: convolution + ReLU"].flops == 16 * 2 * 16 * 6 * 6 * 9
    # Of weights, biases and input: a pixel has 1, 2, 2 or 4 taps, counted twice.
    inputs = 2 * 8 * 2 * (12 * 11 * 9) / 4
    assert abs(costs["2: gradients"].flops / 16 - (16 * 36 * 19 + inputs)) < 0.1 * inputs
