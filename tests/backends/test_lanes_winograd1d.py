"""Winograd's convolution along rows: its matrices, its rounding errors, and where it is used."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastcnn
from fastcnn.backends import im2col, lanes
from fastcnn.backends.lanes import layout as L
from fastcnn.backends.lanes.winograd1d import (
    OUTPUTS,
    WIDTHS,
    Strip,
    factors,
    operations,
    points,
    strips,
    transforms,
)
from fastcnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential

FORWARD, INPUT, WEIGHT = L.K_WINOGRAD1D, L.K_WINOGRAD1D_TRANSPOSED, L.K_WINOGRAD1D_GRADIENT
#: Unit roundoff of float32.
ROUNDOFF = 2.0**-24


@pytest.mark.parametrize("width", WIDTHS)
def test_matrices_make_a_correlation(width: int) -> None:
    generator = np.random.default_rng(0)
    weights, pixels = generator.standard_normal(width), generator.standard_normal(points(width))
    t = transforms(width)
    found = t.output @ ((t.weight @ weights) * (t.input @ pixels))
    np.testing.assert_allclose(found, np.correlate(pixels, weights), atol=1e-13)


@pytest.mark.parametrize("width", WIDTHS)
def test_factors_of_a_matrix(width: int) -> None:
    """Their product is the matrix, and what they save is counted."""
    for matrix in transforms(width):
        for either in (matrix, matrix.T):
            second, first = factors(either)
            np.testing.assert_array_equal(second @ first, either)
            without = (either != 0).sum() + (~np.isin(either, (-1, 0, 1))).sum() - len(either)
            assert operations(either) < without
    assert [operations(m) for m in transforms(3)] == [13, 20, 13]


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 5), st.integers(0, 4),
    st.integers(1, 10), st.integers(1, 4),
)  # fmt: skip
def test_strips_cover_all_rows(
    rows: int, inputs: int, kernel: int, before: int, pairs: int, parts: int
) -> None:
    most = 2 * pairs
    found = strips(rows, inputs, kernel, before, most, parts)
    assert [s.first for s in found] == np.cumsum([0, *(s.rows for s in found)])[:-1].tolist()
    assert sum(s.rows for s in found) == rows
    windows: dict[int, list[Strip]] = {}
    for strip in found:
        assert 1 <= strip.rows <= most
        windows.setdefault(strip.window, []).append(strip)
        for y in range(strip.first, strip.first + strip.rows):
            seen = [k for k in range(kernel) if 0 <= y + k - before < inputs]
            assert all(strip.low <= k < strip.high for k in seen)
    for window in windows.values():
        start = window[0].first + window[0].low
        stops = [s.first + s.rows + s.high - 1 for s in window]
        assert max(stops) <= start + most + kernel - 1
        assert all(s.first + s.low >= start for s in window)


SHAPES = [
    # samples, inputs, outputs, height and width, kernel, padding
    (16, 6, 16, (14, 14), (5, 5), (0, 0)),
    (37, 16, 12, (9, 13), (3, 3), (1, 1)),
    (5, 5, 14, (7, 8), (4, 5), (2, 1)),
    (16, 8, 8, (6, 6), (1, 5), (0, 2)),
    (1, 9, 7, (3, 4), (3, 3), (2, 3)),
    (16, 8, 8, (11, 8), (5, 5), (3, 2)),
    (4, 8, 8, (2, 9), (2, 3), (3, 1)),
    (18, 24, 31, (23, 30), (3, 3), (0, 1)),
    (2, 1, 4, (28, 28), (5, 5), (4, 4)),
]


@pytest.mark.parametrize(("count", "inputs", "outputs", "size", "kernel", "padding"), SHAPES)
def test_rounding_errors(
    count: int, inputs: int, outputs: int, size: tuple[int, int], kernel: tuple[int, int],
    padding: tuple[int, int],
) -> None:  # fmt: skip
    """Forward, within the bound that each rounding gives; all within a few times im2col's errors.

    A sum of n products of rounded factors differs from the exact one by at most about n + k units
    of roundoff of the sum of absolute products, where k counts the roundings of either factor and
    of the sum's way through the transform behind it (Higham, 2002, section 3.1).
    """
    generator = np.random.default_rng(0)
    x = np.maximum(generator.standard_normal((count, inputs, *size)), 0).astype(np.float32)
    weight = generator.standard_normal((outputs, inputs, *kernel)).astype(np.float32)
    bias = generator.standard_normal(outputs).astype(np.float32)
    down, along = padding
    geometry = ((1, 1), ((down, down), (along, along)), (1, 1), 1)
    exact = im2col.conv2d(*(a.astype(np.float64) for a in (x, weight, bias)), *geometry)
    y = lanes.conv2d(x, weight, bias, *geometry)
    roundings = 4 * points(kernel[1]) + inputs * kernel[0]
    bound = ROUNDOFF * roundings * _absolute(x, weight, bias, padding)
    assert (np.abs(y - exact) <= bound[:, :, :, : y.shape[3]]).all()
    dy = generator.standard_normal(y.shape).astype(np.float32)
    wanted = im2col.conv2d_backward(*(a.astype(np.float64) for a in (dy, x, weight)), *geometry)
    ours = (y, *lanes.conv2d_backward(dy, x, weight, *geometry))
    direct = (im2col.conv2d(x, weight, bias, *geometry),
              *im2col.conv2d_backward(dy, x, weight, *geometry))  # fmt: skip
    for got, other, right in zip(ours, direct, (exact, *wanted), strict=True):
        assert _error(got, right) <= max(10 * _error(other, right), 1e-6)


def _error(found: np.ndarray, exact: np.ndarray) -> float:
    """Root of the mean square, as a share of the values'."""
    return float(np.sqrt(((found - exact) ** 2).mean() / (exact**2).mean()))


def _absolute(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, padding: tuple[int, int]
) -> np.ndarray:
    """The convolution with the absolute value of every term, in whole tiles."""
    down, along = padding
    kh, width = weight.shape[2:]
    t = transforms(width)
    a, g, b = (np.abs(second) @ np.abs(first) for second, first in map(factors, (
        t.output, t.weight, t.input)))  # fmt: skip
    padded = np.pad(np.abs(x), ((0, 0), (0, 0), (down, down), (along, along + OUTPUTS)))
    rows = padded.shape[2] - kh + 1
    tiles = -(-(padded.shape[3] - OUTPUTS - width + 1) // OUTPUTS)
    windows = np.lib.stride_tricks.sliding_window_view(padded, points(width), axis=3)
    pixels = windows[:, :, :, : OUTPUTS * tiles : OUTPUTS] @ b.T
    weights = np.abs(weight) @ g.T
    sums = sum(
        np.einsum("ncytp,ocp->noytp", pixels[:, :, k : k + rows], weights[:, :, k])
        for k in range(kh)
    )
    total = (sums @ a.T).reshape(*sums.shape[:3], -1)
    return total + np.abs(bias)[:, None, None]


def kernels(layer: Conv2d, input_shape: tuple[int, ...]) -> set[int]:
    """Numbers of the kernels in a training program of a layer behind another."""
    first = Conv2d(1, input_shape[0], 1, seed=0)
    model = Sequential(first, layer, input_shape=(1, *input_shape[1:]))
    rows = fastcnn.plan(model, 16).rows[:, L.KERNEL].tolist()
    return {FORWARD, INPUT, WEIGHT} & set(rows)


def test_it_is_used_where_it_applies() -> None:
    assert kernels(Conv2d(6, 16, 5), (6, 14, 14)) == {FORWARD, INPUT, WEIGHT}
    assert kernels(Conv2d(16, 16, 3, padding=1), (16, 9, 9)) == {FORWARD, INPUT, WEIGHT}
    # Where few products are saved, the gradient of the weights is a direct sum ...
    assert kernels(Conv2d(4, 8, 3, padding=1), (4, 14, 14)) == {FORWARD, INPUT}
    # ... and so are many outputs of few inputs.
    assert kernels(Conv2d(1, 16, 3, padding=1), (1, 28, 28)) == {INPUT}
    for layer, shape in (
        (Conv2d(16, 16, 3, padding=1, stride=2), (16, 8, 8)),
        (Conv2d(16, 16, 3, padding=2, dilation=2), (16, 8, 8)),
        (Conv2d(16, 16, 3, padding=1, groups=2), (16, 8, 8)),
        (Conv2d(16, 16, (3, 7), padding=(1, 3)), (16, 8, 8)),
        (Conv2d(16, 16, (3, 1)), (16, 8, 8)),
        # Tiles of four for rows of five.
        (Conv2d(16, 16, 3, padding=1), (16, 5, 5)),
        # The other form takes it.
        (Conv2d(32, 32, 3, padding=1), (32, 8, 8)),
    ):
        assert not kernels(layer, shape)


def test_flops_are_those_that_are_done() -> None:
    layers = {
        "a": Conv2d(1, 8, 1), "c": Conv2d(8, 12, 3, padding=1), "r": ReLU(), "p": MaxPool2d(2),
        "f": Flatten(), "l": Linear(12 * 48, 2),
    }  # fmt: skip
    program = fastcnn.plan(Sequential(layers, input_shape=(1, 16, 12)), 32, threads=1)
    found = dict(zip(program.names, program.costs(), strict=True))
    tiles, pairs = 16 * 3, 8 * 12
    products = 2 * points(3) * tiles * 3 * pairs
    forward = products + tiles * (8 * 20 + 12 * (13 + 4))
    assert found["c: convolution + ReLU + 2x2 max pooling"].flops == 32 * forward
    assert found["c: weight gradient"].flops == 32 * (products + tiles * (8 * 20 + 12 * 11))
    assert found["c: input gradient"].flops == 32 * (products + tiles * (12 * 11 + 8 * (20 + 2)))
    assert found["c: weight gradient"].written == 2 * 4 * points(3) * 3 * pairs
    assert program.sizes(program.names.index("c: input gradient")) == "12 to 8, 48 tiles"
