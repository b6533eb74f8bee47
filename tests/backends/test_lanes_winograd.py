"""Winograd's convolution: exact on small whole numbers, and only where it applies."""

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn.backends import im2col, lanes
from fastcnn.backends.lanes import layout as L
from fastcnn.layers import Conv2d, Sequential

WINOGRAD = (L.K_WINOGRAD, L.K_WINOGRAD_GRADIENT)


def kernels(layer: Conv2d, input_shape: tuple[int, ...]) -> set[int]:
    """Numbers of the kernels in a training program of a layer behind another."""
    first = Conv2d(1, input_shape[0], 1, seed=0)
    model = Sequential(first, layer, input_shape=(1, *input_shape[1:]))
    return set(fastcnn.plan(model, 16).rows[:, L.KERNEL].tolist())


@pytest.mark.parametrize(
    ("count", "inputs", "outputs", "size", "padding"),
    [
        (16, 32, 32, (8, 8), 1),
        (21, 32, 56, (12, 6), 1),
        (5, 48, 32, (10, 14), 0),
        (33, 64, 40, (4, 2), 2),
        (1, 33, 35, (6, 6), 1),
    ],
)
def test_whole_numbers_are_exact(
    count: int, inputs: int, outputs: int, size: tuple[int, int], padding: int
) -> None:
    """Transforms halve twice at most, so that nothing is rounded and the order does not matter."""
    generator = np.random.default_rng(0)
    x = generator.integers(-3, 4, (count, inputs, *size)).astype(np.float32)
    weight = generator.integers(-3, 4, (outputs, inputs, 3, 3)).astype(np.float32)
    bias = generator.integers(-3, 4, outputs).astype(np.float32)
    geometry = ((1, 1), ((padding, padding), (padding, padding)), (1, 1), 1)
    y = lanes.conv2d(x, weight, bias, *geometry)
    assert (y == im2col.conv2d(x, weight, bias, *geometry)).all()
    dy = generator.integers(-3, 4, y.shape).astype(np.float32)
    expected = im2col.conv2d_backward(dy, x, weight, *geometry)
    got = lanes.conv2d_backward(dy, x, weight, *geometry)
    for mine, wanted in zip(got, expected, strict=True):
        assert (mine == wanted).all()


def test_it_is_used_where_it_applies() -> None:
    assert set(WINOGRAD) <= kernels(Conv2d(32, 64, 3, padding=1), (32, 8, 8))
    # The gradient of the weights needs channels in whole vectors.
    assert kernels(Conv2d(40, 64, 3, padding=1), (40, 8, 8)) & set(WINOGRAD) == {L.K_WINOGRAD}
    for layer, shape in (
        (Conv2d(16, 64, 3, padding=1), (16, 8, 8)),
        (Conv2d(32, 64, 3, padding=1), (32, 7, 8)),
        (Conv2d(32, 64, 3, padding=1, stride=2), (32, 8, 8)),
        (Conv2d(32, 64, 3, padding=2, dilation=2), (32, 8, 8)),
        (Conv2d(64, 64, 3, padding=1, groups=2), (64, 8, 8)),
        (Conv2d(32, 64, 5, padding=2), (32, 8, 8)),
    ):
        assert not kernels(layer, shape) & set(WINOGRAD)


def test_it_is_no_less_exact_than_the_direct_sum() -> None:
    """Against float64: within the error of a sum of products in float32, term after term."""
    generator = np.random.default_rng(1)
    x = np.maximum(generator.standard_normal((16, 64, 16, 16)), 0).astype(np.float32)
    weight = (generator.standard_normal((64, 64, 3, 3)) / 17).astype(np.float32)
    exact = F.conv2d(x.astype(np.float64), weight.astype(np.float64), padding=1, backend="im2col")
    error = np.abs(F.conv2d(x, weight, padding=1, backend="lanes") - exact).max()
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    direct = np.zeros(exact.shape, np.float32)
    for c in range(64):
        for i in range(3):
            for j in range(3):
                pixels = padded[:, c, i : i + 16, j : j + 16]
                direct += pixels[:, None] * weight[:, c, i, j][:, None, None]
    assert error <= np.abs(direct - exact).max()
