"""Winograd convolutions: their matrices, rounding errors, and where they are used."""

import pickle
from copy import deepcopy
from functools import partial, reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastcnn
from fastcnn.backends import im2col, lanes
from fastcnn.backends.lanes import conv_algorithm
from fastcnn.backends.lanes.convolution.algorithms import ALGORITHMS
from fastcnn.backends.lanes.convolution.winograd import (
    EXACT,
    OUTPUTS,
    PAIRED,
    Transforms,
    factors,
    operations,
    points,
    tiles,
    transforms,
)
from fastcnn.backends.lanes.convolution.winograd1d.geometry import (
    WIDTHS,
    Strip,
    piece_width,
    pieces,
    strips,
)
from fastcnn.backends.lanes.convolution.winograd1d.records import (
    K_WINOGRAD1D,
    K_WINOGRAD1D_DILATED,
    K_WINOGRAD1D_DILATED_GRADIENT,
    K_WINOGRAD1D_GRADIENT,
    K_WINOGRAD1D_TRANSPOSED,
)
from fastcnn.backends.lanes.convolution.winograd2d.edge_tiles import EDGE
from fastcnn.backends.lanes.convolution.winograd2d.records import (
    K_WINOGRAD2D,
    K_WINOGRAD2D_ADJOINT,
    K_WINOGRAD2D_GRADIENT,
    K_WINOGRAD2D_STRIDED_ADJOINT,
    K_WINOGRAD2D_STRIDED_GRADIENT,
)
from fastcnn.backends.lanes.convolution.winograd2d.strided import EVEN
from fastcnn.backends.lanes.convolution.winograd2d_phases.records import K_GRADIENT, K_PRODUCT
from fastcnn.backends.lanes.kernels import layout as L
from fastcnn.backends.lanes.kernels.pool import K_UNPOOL
from fastcnn.errors import ConfigurationError
from fastcnn.execution import loss_and_gradients, predict_logits
from fastcnn.execution.prepared import make_inference
from fastcnn.layers import Conv2d, Flatten, Layer, Linear, MaxPool2d, ReLU, Sequential
from tests.backends.one_convolution import Convolution, error
from tests.backends.one_step import check_threads

FORWARD, INPUT, WEIGHT = K_WINOGRAD1D, K_WINOGRAD1D_TRANSPOSED, K_WINOGRAD1D_GRADIENT
BOTH_WAYS, BOTH_WAYS_WEIGHT = K_WINOGRAD2D[False, False], K_WINOGRAD2D_GRADIENT[(False,) * 3]
DILATED_KERNELS = K_WINOGRAD2D[False, True], K_WINOGRAD2D_GRADIENT[False, False, True]
DILATED_ROWS = K_WINOGRAD1D_DILATED, K_WINOGRAD1D_DILATED_GRADIENT
STRIDED_INPUT, STRIDED_WEIGHT = K_WINOGRAD2D_STRIDED_ADJOINT, K_WINOGRAD2D_STRIDED_GRADIENT
MATRICES = [*(transforms(width, PAIRED) for width in WIDTHS), transforms(3, EXACT), EVEN, EDGE]
#: Unit roundoff of float32.
ROUNDOFF = 2.0**-24


@pytest.mark.parametrize("t", MATRICES)
def test_matrices_make_a_correlation(t: Transforms) -> None:
    generator = np.random.default_rng(0)
    size, width = t.weight.shape
    weights, pixels = generator.standard_normal(width), generator.standard_normal(size)
    found = t.output @ ((t.weight @ weights) * (t.input @ pixels))
    np.testing.assert_allclose(found, np.correlate(pixels, weights), atol=1e-13)


@pytest.mark.parametrize("t", MATRICES)
def test_factors_of_a_matrix(t: Transforms) -> None:
    """Their product is the matrix, and the saved operations are counted."""
    for matrix in t:
        for either in (matrix, matrix.T):
            np.testing.assert_array_equal(reduce(np.matmul, factors(either)), either)
            without = (either != 0).sum() + (~np.isin(either, (-1, 0, 1))).sum() - len(either)
            assert operations(either) <= without
    assert [operations(m) for m in transforms(3)] == [13, 20, 13]
    # 4x4 tiles have the fewest operations.
    exact = transforms(3, EXACT).input
    assert [operations(m) for m in (exact, exact.T)] == [20, 21]


@settings(deadline=None, derandomize=True)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 5), st.integers(0, 4),
    st.integers(1, 20), st.integers(1, 4), st.integers(1, 2),
)  # fmt: skip
def test_strips_cover_all_rows(
    rows: int, inputs: int, kernel: int, before: int, pairs: int, parts: int, down: int
) -> None:
    most = 2 * (pairs // 2) or 1
    found = strips(rows, inputs, kernel, before, most, parts, down)
    assert [s.first for s in found] == np.cumsum([0, *(s.rows for s in found)])[:-1].tolist()
    assert sum(s.rows for s in found) == rows
    windows: dict[int, list[Strip]] = {}
    for strip in found:
        assert 1 <= strip.rows <= most
        windows.setdefault(strip.window, []).append(strip)
        for y in range(strip.first, strip.first + strip.rows):
            seen = [k for k in range(kernel) if 0 <= down * y + k - before < inputs]
            assert all(strip.low <= k < strip.high for k in seen)
    for window in windows.values():
        start = down * window[0].first + window[0].low
        stops = [down * (s.first + s.rows - 1) + s.high for s in window]
        assert max(stops) <= start + down * (most - 1) + kernel
        assert all(down * s.first + s.low >= start for s in window)


SHAPES = [
    # samples, inputs, outputs, height and width, kernel, padding: along rows ...
    (16, 6, 16, (14, 14), (5, 5), (0, 0)),
    (37, 12, 12, (9, 13), (3, 3), (1, 1)),
    (5, 5, 14, (7, 8), (4, 5), (2, 1)),
    (16, 8, 8, (6, 6), (1, 5), (0, 2)),
    (1, 9, 7, (3, 4), (3, 3), (2, 3)),
    (16, 8, 8, (11, 8), (5, 5), (3, 2)),
    (4, 8, 8, (2, 9), (2, 3), (3, 1)),
    (18, 14, 31, (23, 30), (3, 3), (0, 1)),
    (2, 1, 4, (28, 28), (5, 5), (4, 4)),
    # Kernels of several pieces, and sequences; long ones are several rows.
    (16, 9, 32, (1, 128), (1, 9), (0, 4)),
    (37, 32, 64, (1, 61), (1, 9), (0, 4)),
    (5, 5, 7, (1, 301), (1, 31), (0, 15)),
    (3, 64, 64, (1, 333), (1, 7), (0, 0)),
    (18, 8, 8, (13, 19), (7, 7), (3, 3)),
    (2, 6, 14, (9, 40), (3, 15), (1, 2)),
    (16, 6, 12, (6, 30), (1, 11), (0, 10)),
    (4, 200, 90, (1, 50), (1, 3), (0, 1)),
    # Rows that are too wide for the cache, one way, both ways, and with several pieces.
    (2, 2, 140, (28, 28), (3, 3), (1, 1)),
    (17, 64, 64, (16, 18), (5, 5), (2, 2)),
    (3, 128, 70, (13, 11), (5, 5), (0, 1)),
    (2, 33, 64, (15, 30), (7, 7), (3, 3)),
    (2, 96, 20, (9, 21), (7, 8), (3, 4)),
    # ... and both ways.
    (16, 32, 32, (8, 8), (3, 3), (1, 1)),
    (21, 16, 56, (12, 9), (3, 3), (1, 1)),
    (5, 48, 32, (10, 14), (3, 3), (0, 2)),
    (33, 64, 40, (4, 2), (3, 3), (2, 3)),
    (1, 33, 35, (7, 7), (3, 3), (1, 1)),
    # Weight gradients in several strips of tiles, and of channels of either side.
    (2, 49, 143, (5, 5), (3, 3), (1, 1)),
    (3, 36, 17, (61, 58), (3, 3), (1, 1)),
    (2, 33, 130, (17, 30), (3, 3), (0, 1)),
    # The transpose of fewer tiles than cover the input, and of one.
    (21, 16, 24, (13, 14), (3, 3), (0, 0)),
    (17, 18, 16, (6, 3), (3, 3), (0, 0)),
    (2, 64, 80, (30, 6), (3, 3), (1, 0)),
    # Tiles and channels for which every register tile is used.
    (3, 20, 23, (9, 19), (3, 3), (1, 1)),
    (18, 37, 31, (20, 19), (3, 3), (1, 2)),
]


@pytest.mark.parametrize(("count", "inputs", "outputs", "size", "kernel", "padding"), SHAPES)
def test_rounding_errors(
    count: int, inputs: int, outputs: int, size: tuple[int, int], kernel: tuple[int, int],
    padding: tuple[int, int],
) -> None:  # fmt: skip
    """Forward, within the bound given by each rounding; all within a few times im2col's errors.

    A sum of n products of rounded factors differs from the exact one by at most about n + k units
    of roundoff of the sum of absolute products, where k counts the roundings of either factor and
    of the sum in the inverse transform (Higham, 2002, section 3.1).
    """
    made = Convolution(count, inputs, outputs, size, kernel, padding=padding, rectified=True)
    x, weight = made.x, made.weight
    both = kernel == (3, 3) and min(inputs, outputs) >= 16
    absolute = _both_ways(x, weight, padding) if both else _along_rows(x, weight, padding)
    roundings = (
        8 * points(3) + inputs
        if both
        else 4 * points(piece_width(kernel[1])) + inputs * kernel[0] * pieces(kernel[1])
    )
    ours = made.by(None)
    _check_bound(ours[0], made, roundings, absolute)
    made.check_errors(ours, 12, 1.5e-6)


STRIDED = [
    # samples, inputs, outputs, height and width, kernel, stride, padding: even and odd sizes ...
    (16, 3, 32, (32, 32), (5, 5), (2, 2), (2, 2)),
    (37, 3, 9, (33, 29), (7, 7), (2, 2), (3, 3)),
    (5, 8, 16, (15, 40), (7, 7), (2, 2), (0, 1)),
    (16, 12, 20, (11, 14), (6, 6), (2, 2), (1, 2)),
    (3, 4, 8, (24, 50), (9, 9), (2, 2), (4, 4)),
    # ... of one direction ...
    (18, 8, 12, (9, 21), (3, 3), (2, 1), (1, 1)),
    (18, 8, 12, (9, 21), (3, 6), (1, 2), (1, 2)),
    # ... of sequences, long ones in several rows, and kernels of several pieces ...
    (21, 12, 16, (1, 100), (1, 9), (1, 2), (0, 4)),
    (2, 9, 16, (1, 1501), (1, 31), (1, 2), (0, 15)),
    (2, 2, 40, (12, 40), (15, 15), (2, 2), (7, 7)),
    # ... and rows that are too wide for the cache.
    (2, 3, 64, (19, 225), (7, 7), (2, 2), (3, 3)),
    (2, 64, 64, (18, 72), (5, 5), (2, 2), (2, 2)),
    # Images of one row, for which a vertical stride has no effect.
    (2, 16, 16, (1, 1000), (1, 7), (2, 2), (0, 3)),
    (3, 16, 8, (1, 700), (1, 3), (2, 1), (0, 1)),
    # Windows of only zeros.
    (2, 4, 4, (32, 64), (3, 7), (2, 2), (20, 3)),
    # Kernels of four columns.
    (16, 8, 12, (9, 13), (4, 4), (1, 1), (1, 2)),
]


@pytest.mark.parametrize(
    ("count", "inputs", "outputs", "size", "kernel", "stride", "padding"), STRIDED
)
def test_rounding_errors_with_stride(
    count: int, inputs: int, outputs: int, size: tuple[int, int], kernel: tuple[int, int],
    stride: tuple[int, int], padding: tuple[int, int],
) -> None:  # fmt: skip
    """The same for strides along rows: even and odd columns are two channels."""
    made = Convolution(count, inputs, outputs, size, kernel, stride, padding, rectified=True)
    ours = made.by("winograd1d")
    columns = -(-kernel[1] // stride[1])
    terms = inputs * stride[1] * kernel[0] * pieces(columns)
    roundings = 4 * points(piece_width(columns)) + terms
    _check_bound(ours[0], made, roundings, _along_rows(made.x, made.weight, padding, stride))
    made.check_errors(ours, 12, 1.5e-6)


@pytest.mark.parametrize(
    ("size", "batch"), [((40, 37), 33), ((12, 90), 70), ((23, 14), 16), ((90, 61), 19)]
)
def test_strides_give_the_same_bits_on_any_threads(size: tuple[int, int], batch: int) -> None:
    """A step equals that of direct sums up to float32 rounding, with ReLU, pooling and masks."""
    generator = np.random.default_rng(batch)
    x = generator.standard_normal((batch, 3, *size)).astype(np.float32)
    y = generator.integers(0, 5, batch)

    def network() -> Sequential:
        return Sequential(
            Conv2d(3, 20, 7, stride=2, padding=3, seed=0), ReLU(), MaxPool2d(2),
            Conv2d(20, 11, (3, 5), stride=(1, 2), padding=(1, 2), seed=1), ReLU(),
            Conv2d(11, 6, 5, stride=2, padding=4, bias=False, seed=2), fastcnn.GlobalAvgPool2d(),
            Flatten(), Linear(6, 5, seed=3), input_shape=(3, *size),
        )  # fmt: skip

    check_threads(network, x, y, "winograd1d", 2e-6, threads=(1, 2, 4))


@pytest.mark.parametrize(
    ("kernel", "size", "groups"),
    [(5, (19, 27), [17, 17, 16]), (7, (19, 27), [13, 13, 13, 11]), (5, (6, 152), [50])],
)
def test_rows_in_parts_give_the_same_bits_on_any_threads(
    kernel: int, size: tuple[int, int], groups: list[int]
) -> None:
    """Rows of maps that are too wide for the cache, with ReLU, pooling and masks.

    Weight gradients are computed for GROUPS of input channels, unless a row of a few is too wide.
    """
    generator = np.random.default_rng([kernel, *size])
    x = generator.standard_normal((20, 2, *size)).astype(np.float32)
    y = generator.integers(0, 5, 20)

    def network() -> Sequential:
        return Sequential(
            Conv2d(2, 50, 1, seed=3), ReLU(),
            Conv2d(50, 48, kernel, padding=kernel // 2, seed=0), ReLU(), MaxPool2d(2),
            Conv2d(48, 96, 5, padding=1, seed=1), ReLU(), fastcnn.GlobalAvgPool2d(), Flatten(),
            Linear(96, 5, seed=2), input_shape=(2, *size),
        )  # fmt: skip

    for threads in (1, 2, 3):
        rows = fastcnn.plan(network(), 20, threads=threads).rows
        kernels = rows[:, L.KERNEL]
        assert np.count_nonzero(kernels == K_WINOGRAD1D) > 4
        summed = rows[kernels == K_WINOGRAD1D_GRADIENT]
        parts = summed[summed[:, L.CHANNELS] == 48][:, [L.IN, L.ADDS]]
        assert parts[parts[:, 1] == 0][:, 0].tolist() == groups
        assert (parts[:, 1] > 0).any() == (len(groups) == 1)
    check_threads(network, x, y, None, 2e-6)


@pytest.mark.parametrize(
    ("inputs", "outputs", "size", "batch"),
    [(16, 16, (32, 32), 37), (24, 35, (13, 9), 70), (17, 144, (23, 26), 48), (67, 24, (4, 7), 5)],
)
def test_gradients_both_ways_have_the_same_bits_on_any_threads(
    inputs: int, outputs: int, size: tuple[int, int], batch: int
) -> None:
    """A step equals that of direct sums up to rounding, also for blocks that threads share."""
    generator = np.random.default_rng(batch)
    x = generator.standard_normal((batch, inputs, *size)).astype(np.float32)
    y = generator.integers(0, 5, batch)

    def network() -> Sequential:
        return Sequential(
            Conv2d(inputs, outputs, 3, padding=1, seed=0), fastcnn.GlobalAvgPool2d(), Flatten(),
            Linear(outputs, 5, seed=1), input_shape=(inputs, *size),
        )  # fmt: skip

    check_threads(network, x, y, "winograd2d", 2e-6)


@pytest.mark.parametrize(
    ("inputs", "outputs", "size", "padding", "batch"),
    [(24, 35, (13, 9), 1, 37), (32, 64, (13, 13), 0, 16), (17, 40, (11, 14), 0, 33),
     (16, 16, (5, 8), 1, 3), (67, 24, (4, 7), 1, 5), (24, 35, (6, 6), 0, 18)],
)  # fmt: skip
def test_gradients_through_pooling(
    inputs: int, outputs: int, size: tuple[int, int], padding: int, batch: int
) -> None:
    """Rows of both gradients route that of windows to the argmax, and one of them sums biases.

    Some tiles have no window, one, or two of four, and some windows are closed by the ReLU.
    """
    generator = np.random.default_rng(batch)
    x = generator.standard_normal((batch, 2, *size)).astype(np.float32)
    y = generator.integers(0, 5, batch)
    left = [(side + 2 * padding - 2) // 2 for side in size]

    def network() -> Sequential:
        return Sequential(
            Conv2d(2, inputs, 1, seed=3), ReLU(),
            Conv2d(inputs, outputs, 3, padding=padding, seed=0), ReLU(), MaxPool2d(2), Flatten(),
            Linear(outputs * left[0] * left[1], 5, seed=1), input_shape=(2, *size),
        )  # fmt: skip

    edge = size != (6, 6)
    ways = {K_WINOGRAD2D_ADJOINT[True, edge], K_WINOGRAD2D_GRADIENT[True, edge, False]}
    for name, threads in (("direct", 1), *(("winograd2d", count) for count in (1, 2, 3))):
        with conv_algorithm(name):
            kernels = fastcnn.plan(network(), batch, threads=threads).rows[:, L.KERNEL]
        assert (K_UNPOOL in kernels) == (name == "direct")
        assert ways.issubset(kernels) == (name == "winograd2d")
    check_threads(network, x, y, "winograd2d", 2e-6)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("side", range(4, 19))
def test_tiles_at_the_edge(side: int, padding: int) -> None:
    """All sizes of edge tiles: correct up to rounding, and NaN stays in its sample.

    A NaN of the first row and column does not reach tiles that do not read it.
    """
    generator = np.random.default_rng(side)
    geometry = ((1, 1), ((padding,) * 2,) * 2, (1, 1), 1)
    weight = generator.standard_normal((20, 17, 3, 3)).astype(np.float32)
    bias = generator.standard_normal(20).astype(np.float32)
    with conv_algorithm("winograd2d"):
        for other in (side, side % 4 + 4):
            x = generator.standard_normal((19, 17, side, other)).astype(np.float32)
            y = lanes.conv2d(x, weight, bias, *geometry)
            dy = generator.standard_normal(y.shape).astype(np.float32)
            back = lanes.conv2d_backward(dy, x, weight, *geometry)
            exact = [a.astype(np.float64) for a in (dy, x, weight, bias)]
            wanted = (
                im2col.conv2d(*exact[1:], *geometry),
                *im2col.conv2d_backward(*exact[:3], *geometry),
            )
            for got, right in zip((y, *back), wanted, strict=True):
                assert error(got, right) < 2e-6
            x[3, 5, 0, 0] = dy[3, 5, 0, 0] = np.nan
            spoilt = lanes.conv2d(x, weight, bias, *geometry)
            grad = lanes.conv2d_backward(dy, x, weight, *geometry)[0]
            for got, before in ((spoilt, y), (grad, back[0])):
                assert np.isnan(got[3]).any()
                got[3, :, :6, :6] = before[3, :, :6, :6]
                np.testing.assert_array_equal(got, before)


STRIDE_2 = [
    # samples, inputs, outputs, height and width, zeros at the four sides ...
    (16, 32, 64, (16, 16), ((1, 1), (1, 1))),
    (21, 20, 17, (31, 33), ((1, 1), (0, 0))),
    (5, 5, 3, (12, 20), ((2, 2), (1, 1))),
    (3, 33, 130, (9, 14), ((0, 1), (0, 1))),
    (2, 70, 66, (17, 8), ((0, 0), (3, 2))),
    # ... in several strips of the gradients, more channels than are processed at a time, one pixel.
    (2, 24, 40, (57, 40), ((1, 1), (1, 0))),
    (1, 100, 90, (26, 31), ((0, 2), (1, 2))),
    (18, 16, 16, (3, 2), ((0, 0), (1, 0))),
]
DILATED = [
    # The same, and the dilation: phases of equal and of different sizes ...
    (16, 16, 24, (16, 16), ((2, 2), (2, 2)), (2, 2)),
    (21, 20, 17, (13, 10), ((3, 3), (3, 3)), (3, 3)),
    (5, 33, 130, (14, 23), ((2, 2), (1, 1)), (2, 1)),
    (3, 24, 16, (9, 31), ((1, 1), (5, 5)), (1, 5)),
    # ... of one pixel and of none, without padding, with more of it than the kernel reaches, ...
    (2, 17, 18, (3, 8), ((4, 4), (4, 4)), (4, 4)),
    (18, 16, 16, (11, 12), ((0, 0), (0, 0)), (3, 2)),
    (2, 9, 20, (6, 7), ((6, 6), (5, 7)), (2, 2)),
    # ... in several strips of the weight gradient, and prefetched.
    (1, 70, 66, (40, 37), ((2, 2), (4, 4)), (2, 4)),
]
#: The same with stride 2, and the kernel: halves of two and of three pixels, equal and not, ...
HALVES = [
    (16, 32, 64, (16, 16), (4, 4), ((1, 1), (1, 1))),
    (21, 20, 17, (31, 33), (5, 5), ((2, 2), (2, 1))),
    (3, 33, 130, (9, 14), (6, 6), ((3, 2), (0, 4))),
    (5, 5, 3, (12, 20), (3, 4), ((2, 2), (1, 1))),
    (2, 17, 18, (11, 8), (6, 5), ((0, 0), (3, 2))),
    # ... in several strips of the weight gradient, more channels than are processed at a time, ...
    (2, 24, 40, (57, 40), (4, 3), ((1, 1), (1, 0))),
    (1, 70, 140, (26, 31), (5, 6), ((0, 2), (1, 2))),
    # ... one pixel, and columns of which a phase has none.
    (18, 16, 16, (6, 5), (6, 5), ((0, 0), (0, 0))),
    (17, 16, 18, (9, 1), (4, 4), ((1, 1), (2, 2))),
]
SEQUENCES = [
    # Samples, inputs, outputs, length, kernel, padding and dilation of rows of phases ...
    (16, 16, 32, 64, 3, (4, 4), 4),
    (21, 5, 9, 61, 5, (6, 6), 3),
    (3, 33, 40, 70, 7, (48, 0), 8),
    # ... of one pixel and of none, and too long for the cache.
    (2, 8, 12, 5, 4, (12, 12), 7),
    (2, 64, 70, 601, 3, (2, 2), 2),
    (2, 40, 24, 250, 9, (0, 0), 5),
]
BY_PHASES = [
    *(("winograd2d", *case[:4], (3, 3), case[4], (2, 2), (1, 1)) for case in STRIDE_2),
    *(("winograd2d", *case[:4], (3, 3), case[4], (1, 1), case[5]) for case in DILATED),
    *(("winograd2d_phases", *case, (2, 2), (1, 1)) for case in HALVES),
    *(
        ("winograd1d", *case[:3], (1, case[3]), (1, case[4]), ((0, 0), case[5]), (1, 1),
         (1, case[6])) for case in SEQUENCES
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "count", "inputs", "outputs", "size", "kernel", "padding", "stride", "dilation"),
    BY_PHASES,
)
def test_rounding_errors_by_phases(
    name: str, count: int, inputs: int, outputs: int, size: tuple[int, int],
    kernel: tuple[int, int], padding: tuple[tuple[int, int], tuple[int, int]],
    stride: tuple[int, int], dilation: tuple[int, int],
) -> None:  # fmt: skip
    """Forward and both gradients of strides and dilations, within a few times im2col's errors."""
    sizes = (count, inputs, outputs, size, kernel)
    made = Convolution(*sizes, stride, padding, dilation, rectified=True, seed=count)
    # Without fused multiply-adds, 5 x 6 reaches 1.8e-6.
    made.check_errors(made.by(name), 6, 2e-6)


@pytest.mark.parametrize(
    ("convolution", "kernel", "stride", "dilation"),
    [
        ("winograd2d", 3, (2, 2), (1, 1)),
        ("winograd2d", 3, (1, 1), (2, 3)),
        ("winograd2d_phases", 4, (2, 2), (1, 1)),
        ("winograd2d_phases", (5, 6), (2, 2), (1, 1)),
    ],
)
@pytest.mark.parametrize(("size", "batch"), [((24, 17), 33), ((13, 30), 70), ((33, 16), 16)])
def test_gradients_by_phases_on_any_threads(
    size: tuple[int, int], batch: int, convolution: str, kernel: int | tuple[int, int],
    stride: tuple[int, int], dilation: tuple[int, int],
) -> None:  # fmt: skip
    """The same bits, also for blocks that threads share; with ReLU's masks, and transposed.

    A value within rounding of a ReLU's kink, on some processors, changes a sum by one pixel, by up
    to 2e-5; otherwise differences are below 1e-6.
    """
    generator = np.random.default_rng(0)
    x = generator.standard_normal((batch, 6, *size)).astype(np.float32)
    y = generator.integers(0, 5, batch)

    def network() -> Sequential:
        return Sequential(
            Conv2d(6, 20, 3, padding=1, seed=0), ReLU(),
            Conv2d(20, 35, kernel, stride, (1, 0), dilation, seed=1), ReLU(),
            fastcnn.ConvTranspose2d(35, 18, kernel, stride, (1, 0), dilation=dilation, seed=2),
            ReLU(),
            Conv2d(18, 17, kernel, stride, 2, dilation, bias=False, seed=3), ReLU(),
            fastcnn.GlobalAvgPool2d(), Flatten(), Linear(17, 5, seed=4), input_shape=(6, *size),
        )  # fmt: skip

    check_threads(network, x, y, convolution, 5e-5, logits=batch - 3)


@pytest.mark.parametrize("batch", [16, 37])
def test_dilated_sequences_and_pooling_on_any_threads(batch: int) -> None:
    """A step equals that of direct sums up to rounding; a dilated kernel's tiles do not pool.

    No value of this draw is within rounding of a ReLU's kink.
    """
    generator = np.random.default_rng(0)
    sequences = (
        fastcnn.Conv1d(3, 64, 1, seed=0), ReLU(),
        fastcnn.Conv1d(64, 64, 3, padding=5, dilation=5, seed=1), ReLU(),
        fastcnn.Conv1d(64, 32, 5, dilation=2, seed=2), ReLU(), Flatten(),
        Linear(32 * 142, 5, seed=3),
    )  # fmt: skip
    maps = (
        Conv2d(3, 16, 1, seed=0), ReLU(), Conv2d(16, 20, 3, padding=2, dilation=2, seed=1),
        fastcnn.BatchNorm2d(20), ReLU(), Conv2d(20, 24, 3, padding=3, dilation=3, seed=2), ReLU(),
        MaxPool2d(2), Flatten(), Linear(24 * 48, 5, seed=3),
    )  # fmt: skip
    for name, layers, shape in (
        ("winograd1d", sequences, (3, 150)), ("winograd2d", maps, (3, 17, 12)),
    ):  # fmt: skip
        x = generator.standard_normal((batch, *shape)).astype(np.float32)
        y = generator.integers(0, 5, batch)
        model = Sequential(*layers, input_shape=shape)
        check_threads(partial(deepcopy, model), x, y, name, 4e-6)


def _check_bound(y: np.ndarray, made: Convolution, roundings: int, absolute: np.ndarray) -> None:
    """Errors are within units of roundoff of the sum of absolute products, in whole tiles."""
    absolute = absolute[:, :, : y.shape[2], : y.shape[3]] + np.abs(made.bias)[:, None, None]
    assert (np.abs(y - made.exact[0]) <= ROUNDOFF * roundings * absolute).all()


def _magnitudes(t: Transforms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transforms with only positive terms: of weights, inputs and outputs."""
    weight, inputs, output = (reduce(np.matmul, map(np.abs, factors(matrix))) for matrix in t)
    return weight, inputs, output


def _along_rows(
    x: np.ndarray, weight: np.ndarray, padding: tuple[int, int], stride: tuple[int, int] = (1, 1)
) -> np.ndarray:
    """The convolution with the absolute value of every term, in whole tiles of a row."""
    down, along = padding
    kh, kernel = weight.shape[2:]
    columns = -(-kernel // stride[1])
    width, count = piece_width(columns), pieces(columns)
    g, b, a = _magnitudes(transforms(width))
    beyond = stride[1] * (OUTPUTS * (count + 1) + points(width))
    padded = np.pad(np.abs(x), ((0, 0), (0, 0), (down, down), (along, along + beyond)))
    rows = (padded.shape[2] - kh) // stride[0] + 1
    across = tiles((x.shape[3] + 2 * along - kernel) // stride[1] + 1)
    sums = 0
    for phase, k, piece in np.ndindex(stride[1], kh, count):
        lines = padded[:, :, k :: stride[0], phase :: stride[1]][:, :, :rows]
        windows = np.lib.stride_tricks.sliding_window_view(lines, points(width), axis=3)
        seen = (windows[:, :, :, ::OUTPUTS] @ b.T)[:, :, :, piece : piece + across]
        first = piece * OUTPUTS
        taps = np.abs(weight[:, :, k, phase :: stride[1]])
        taps = taps[..., first : first + OUTPUTS if piece + 1 < count else columns]
        sums = sums + np.einsum("ncytp,ocp->noytp", seen, taps @ g[:, : taps.shape[2]].T)
    return (sums @ a.T).reshape(*sums.shape[:3], -1)


def _both_ways(x: np.ndarray, weight: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    """The same in tiles of 4x4."""
    down, along = padding
    g, b, a = _magnitudes(transforms(3, EXACT))
    padded = np.pad(
        np.abs(x), ((0, 0), (0, 0), (down, down + OUTPUTS), (along, along + OUTPUTS))
    )  # fmt: skip
    shape = (points(3), points(3))
    windows = np.lib.stride_tricks.sliding_window_view(padded, shape, axis=(2, 3))
    pixels = b @ windows[:, :, ::OUTPUTS, ::OUTPUTS] @ b.T
    weights = g @ np.abs(weight) @ g.T
    sums = np.einsum("ncyxpq,ocpq->noyxpq", pixels, weights)
    outputs = (a @ sums @ a.T).transpose(0, 1, 2, 4, 3, 5)
    return outputs.reshape(*outputs.shape[:2], outputs.shape[2] * OUTPUTS, -1)


def kernels(layer: Conv2d, input_shape: tuple[int, ...]) -> set[int]:
    """Numbers of the kernels in a training program whose second layer is the given one."""
    first = Conv2d(1, input_shape[0], 1, seed=0)
    model = Sequential(first, layer, input_shape=(1, *input_shape[1:]))
    rows = fastcnn.plan(model, 16).rows[:, L.KERNEL].tolist()
    known = {FORWARD, INPUT, WEIGHT, BOTH_WAYS, BOTH_WAYS_WEIGHT, STRIDED_INPUT, STRIDED_WEIGHT}
    known |= {*DILATED_KERNELS, *DILATED_ROWS, *K_PRODUCT.values(), *K_GRADIENT.values()}
    return known & set(rows)


def test_they_are_used_where_they_apply() -> None:
    assert kernels(Conv2d(6, 16, 5), (6, 14, 14)) == {FORWARD, INPUT, WEIGHT}
    assert kernels(Conv2d(12, 16, 3, padding=1), (12, 9, 9)) == {FORWARD, INPUT, WEIGHT}
    # If few products are saved, the weight gradient is a direct sum ...
    assert kernels(Conv2d(4, 8, 3, padding=1), (4, 14, 14)) == {FORWARD, INPUT}
    # ... and so are many outputs of few inputs.
    assert kernels(Conv2d(1, 16, 3, padding=1), (1, 28, 28)) == {INPUT}
    # With more channels both ways, in vectors of output channels that are more than half full.
    assert kernels(Conv2d(24, 17, 3), (24, 33, 33)) == {BOTH_WAYS, WEIGHT}
    assert kernels(Conv2d(16, 24, 3, padding=1), (16, 8, 8)) == {BOTH_WAYS, BOTH_WAYS_WEIGHT}
    assert kernels(Conv2d(40, 64, 3, padding=1), (40, 8, 8)) == {BOTH_WAYS, BOTH_WAYS_WEIGHT}
    assert kernels(Conv2d(24, 35, 3), (24, 33, 33)) == {BOTH_WAYS, BOTH_WAYS_WEIGHT}
    # A wider kernel is divided into pieces; the gradient of its input is a convolution, too.
    assert kernels(Conv2d(16, 24, (1, 9)), (16, 1, 40)) == {FORWARD, WEIGHT}
    assert kernels(Conv2d(16, 16, (3, 7), padding=(1, 3)), (16, 8, 8)) == {FORWARD, WEIGHT}
    # So is that of maps whose rows are cut into parts, for the cache; the weight gradient of many
    # inputs is computed in groups.
    assert kernels(Conv2d(64, 64, 5, padding=2), (64, 16, 16)) == {FORWARD, WEIGHT}
    assert kernels(Conv2d(96, 96, 7, padding=3), (96, 12, 12)) == {FORWARD, WEIGHT}
    # A sequence's input gradient is not a transpose, and a long sequence is several rows.
    assert kernels(Conv2d(64, 64, (1, 5)), (64, 1, 1000)) == {FORWARD, WEIGHT}
    assert kernels(Conv2d(16, 32, 3, padding=1, stride=2), (16, 16, 16)) == {BOTH_WAYS}
    # Its gradients use the phases of the stride from more channels on.
    every = {BOTH_WAYS, STRIDED_INPUT, STRIDED_WEIGHT}
    assert kernels(Conv2d(32, 64, 3, padding=1, stride=2), (32, 32, 32)) == every
    assert kernels(Conv2d(128, 128, 3, padding=1, stride=2), (128, 8, 8)) == every - {BOTH_WAYS}
    assert kernels(Conv2d(32, 32, 3, padding=1, stride=2), (32, 16, 16)) == every - {STRIDED_WEIGHT}
    assert kernels(Conv2d(256, 256, 3, padding=1, stride=2), (256, 8, 8)) == {STRIDED_WEIGHT}
    # Without padding there are more tiles of the input than of the output.
    assert kernels(Conv2d(64, 64, 3, stride=2), (64, 17, 17)) == every - {STRIDED_INPUT}
    # Halves of kernels are those of phases ...
    phases = {K_PRODUCT[3], K_GRADIENT[3]}
    assert kernels(Conv2d(16, 32, 5, padding=2, stride=2), (16, 16, 16)) == phases
    phases = {K_PRODUCT[2], K_GRADIENT[2]}
    assert kernels(Conv2d(64, 128, 4, padding=1, stride=2), (64, 8, 8)) == phases
    transposed = fastcnn.ConvTranspose2d(128, 64, 4, padding=1, stride=2)
    assert kernels(transposed, (128, 4, 4)) == phases
    # ... unless most of a tile is outside of the map, or weights exceed the cache.
    assert not kernels(Conv2d(64, 64, 4, padding=1, stride=2), (64, 4, 4)) & phases
    assert kernels(Conv2d(128, 256, 4, padding=1, stride=2), (128, 8, 8)) == {K_GRADIENT[2]}
    # With stride along rows the input gradient is a direct sum.
    assert kernels(Conv2d(3, 64, 7, padding=3, stride=2), (3, 224, 224)) == {FORWARD, WEIGHT}
    assert kernels(Conv2d(16, 16, 4), (16, 19, 19)) == {FORWARD, INPUT, WEIGHT}
    # A dilated kernel's tiles are those of its phases; its input gradient is a convolution.
    layer = Conv2d(16, 16, 3, padding=2, dilation=2)
    assert kernels(layer, (16, 32, 32)) == set(DILATED_KERNELS)
    layer = Conv2d(64, 64, (1, 3), padding=(0, 8), dilation=8)
    assert kernels(layer, (64, 1, 128)) == set(DILATED_ROWS)
    for layer, shape in (
        (Conv2d(3, 32, 5, padding=2, stride=2), (3, 64, 64)),
        (Conv2d(1, 16, 7, padding=3, stride=2), (1, 28, 28)),
        (Conv2d(16, 16, 3, padding=1, stride=2), (16, 8, 8)),
        (Conv2d(16, 32, 3, padding=1, stride=2), (16, 9, 9)),
        (Conv2d(8, 32, 3, padding=1, stride=2), (8, 32, 32)),
        # Phases of two pixels, kernels of several rows in less than 16 channels, and with stride.
        (Conv2d(16, 16, 3, padding=4, dilation=4), (16, 8, 8)),
        (Conv2d(32, 32, (1, 3), padding=(0, 4), dilation=4), (32, 1, 64)),
        (Conv2d(12, 16, 3, padding=2, dilation=2), (12, 16, 16)),
        (Conv2d(32, 64, 3, stride=2, padding=2, dilation=2), (32, 16, 16)),
        # No tap of the first phase of the stride reads a pixel.
        (Conv2d(16, 16, 3, stride=3, padding=1, dilation=3), (16, 16, 16)),
        (Conv2d(16, 16, 3, padding=1, groups=2), (16, 8, 8)),
        (Conv2d(16, 16, (3, 1)), (16, 8, 8)),
        # Two pieces of four columns save a third of the products of six.
        (Conv2d(16, 16, (1, 6)), (16, 1, 32)),
        # Tiles of four for rows of five.
        (Conv2d(16, 16, 3, padding=1), (16, 5, 5)),
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


def test_flops_both_ways() -> None:
    """FLOPs of the transforms of a tile and of kernels."""
    layers = {
        "a": Conv2d(1, 16, 1), "c": Conv2d(16, 24, 3, padding=1), "r": ReLU(), "p": MaxPool2d(2),
        "f": Flatten(), "l": Linear(24 * 35, 2),
    }  # fmt: skip
    model = Sequential(layers, input_shape=(1, 14, 10))
    program = fastcnn.plan(model, 32, threads=1)
    found = dict(zip(program.names, program.costs(), strict=True))
    t = transforms(3, EXACT)
    weight, turned = operations(t.weight), 16 * 9 * operations(t.weight.T)

    def of(matrices: str) -> int:
        """FLOPs of transforms: of six whole tiles, of 3 and 2 at the edges, and the corner."""
        whole, few = (getattr(either, matrices.removesuffix("T")) for either in (t, EDGE))
        if matrices.endswith("T"):
            whole, few = whole.T, few.T
        return sum(
            count * (along.shape[1] * operations(down) + down.shape[0] * operations(along))
            for count, down, along in ((6, whole, whole), (3, whole, few), (2, few, whole),
                                       (1, few, few))
        )  # fmt: skip

    products = 2 * (6 * 36 + 5 * 24 + 16) * 16 * 24
    # Adjacent tiles share 20 of a tile's 36 pixels.
    back = products + 24 * of("outputT") + 16 * (of("inputT") + 12 * (20 + 16))
    assert found["c: input gradient"].flops == 32 * back
    # Seven by five pooling windows are in tiles of two by two.
    forward = products + 16 * of("input") + 24 * (of("output") + 14 * 10)
    assert found["c: convolution + ReLU + 2x2 max pooling"].flops == 32 * forward
    assert found["c: convolution + ReLU + 2x2 max pooling"].written == 2 * 64 * 24 * 35 * 2
    # The bias gradient is the sum of one of the products.
    sums = products + 16 * of("input") + 24 * (of("outputT") + 12)
    assert found["c: weight gradient"].flops == 32 * sums + 2 * 24 * turned
    # For a block shared by two threads, a separate row transforms the sums back, in vectors.
    program = fastcnn.plan(model, 16, threads=2)
    found = dict(zip(program.names, program.costs(), strict=True))
    assert found["c: weight gradient"].flops == 16 * sums
    assert found["c: weight gradient, transformed back"].flops == 32 * turned
    assert weight == 16


def test_flops_of_stride_2() -> None:
    """For tiles of 4x4 outputs, or of 8x8 input pixels, and for phases of both or one direction."""
    layers = {
        "a": Conv2d(1, 24, 1), "c": Conv2d(24, 40, 3, padding=1, stride=2), "r": ReLU(),
        "g": fastcnn.GlobalAvgPool2d(), "f": Flatten(), "l": Linear(40, 2),
    }  # fmt: skip
    model = Sequential(layers, input_shape=(1, 24, 16))
    pixels, outputs = operations(EVEN.input), operations(EVEN.output)
    gradient = operations(EVEN.output.T)
    tiles, products = 3 * 2, 2 * 81 * 24 * 40
    # Both ways a phase has five rows and columns, or the number of the other side; one way four.
    of_pixels = (5 + 5 + 4 + 4) * pixels
    program = fastcnn.plan(model, 32, threads=1)
    found = dict(zip(program.names, program.costs(), strict=True))
    back = products + 40 * of_pixels + 24 * ((5 + 4 + 4 + 4) * outputs + 64)
    assert found["c: input gradient"].flops == 32 * tiles * back
    assert found["c: input gradient"].written == 32 * 4 * 24 * 24 * 16
    sums = tiles * (products + 24 * of_pixels + 40 * (4 + 5 + 4 + 4) * gradient)
    turned = 24 * (5 + 2 + 1 + 1) * operations(EVEN.weight.T)
    assert found["c: weight gradient"].flops == 32 * sums + 2 * 40 * turned
    program = fastcnn.plan(model, 16, threads=2)
    found = dict(zip(program.names, program.costs(), strict=True))
    assert found["c: weight gradient"].flops == 16 * sums
    # As vectors, of which the last is half full.
    assert found["c: weight gradient, transformed back"].flops == 48 * turned


def test_an_algorithm_can_be_forced() -> None:
    """It is used where it fits, is named by the program, and gives the same results."""
    x = np.random.default_rng(0).standard_normal((16, 16, 4, 4)).astype(np.float32)
    names = {
        "winograd2d_batch": "Winograd 2-D products",
        "winograd2d": "Winograd 2-D",
        "winograd2d_phases": "Winograd 2-D by phases",
        "direct_batch": "convolution of small maps",
        "winograd1d": "Winograd 1-D",
        "depthwise": "depthwise",
        # Only for weight gradients.
        "input_lanes": "convolution",
        "direct": "convolution",
    }
    assert list(names) == [found.name for found in ALGORITHMS]
    for name, kernel in names.items():
        groups, stride = 16 if name == "depthwise" else 1, 2 if "phases" in name else 1
        layer = fastcnn.Conv2d(16, 16, 3, stride, padding=1, groups=groups, seed=0)
        model = fastcnn.Sequential(layer, input_shape=(16, 4, 4))
        expected = model.logits(x, backend="im2col")
        with conv_algorithm(name):
            program = fastcnn.plan(model, 16, training=False, threads=1)
            output = fastcnn.Sequential(layer, input_shape=(16, 4, 4)).logits(x)
        assert kernel in [program.kernel(row) for row in range(len(program.rows))]
        used = "direct" if name == "input_lanes" else name
        assert program.algorithms == [("0", {"forward": used})]
        assert output == pytest.approx(expected, abs=1e-4)
    wanted = f"no algorithm 'fft': must be one of {', '.join(names)}"
    with pytest.raises(ConfigurationError, match=wanted), conv_algorithm("fft"):
        pass


@pytest.mark.parametrize("convolution", ["winograd2d", "winograd2d_batch"])
@pytest.mark.parametrize(("size", "batch"), [(8, 33), (4, 70), (7, 20), (13, 16)])
def test_both_ways_on_any_threads(size: int, batch: int, convolution: str) -> None:
    """The same step as by direct sums, up to float32 rounding; the same bits on any threads.

    No value of this draw is within rounding of a ReLU's kink.
    """
    generator = np.random.default_rng(3)
    x = generator.standard_normal((batch, 6, size, size)).astype(np.float32)
    y = generator.integers(0, 5, batch)

    def network() -> Sequential:
        return Sequential(
            Conv2d(6, 20, 3, padding=1, seed=0), ReLU(), MaxPool2d(2),
            Conv2d(20, 30, 3, padding=2, seed=1), fastcnn.BatchNorm2d(30), ReLU(),
            fastcnn.Residual(Sequential(Conv2d(30, 30, 3, padding=1, bias=False, seed=2), ReLU())),
            Conv2d(30, 17, 3, seed=3), ReLU(),
            fastcnn.ConvTranspose2d(17, 20, 3, padding=(1, 0), seed=4), ReLU(), Flatten(),
            Linear(20 * (size // 2) * (size // 2 + 2), 5, seed=5), input_shape=(6, size, size),
        )  # fmt: skip

    check_threads(network, x, y, convolution, 2e-6, logits=batch - 3)


@pytest.mark.parametrize(("size", "batch"), [(4, 33), (9, 70), (13, 1)])
def test_gradients_of_many_channels_are_summed_over_the_batch(size: int, batch: int) -> None:
    """Equal to direct sums up to float32 rounding, in several strips of tiles; always equal."""
    generator = np.random.default_rng(5)
    x = generator.standard_normal((batch, 16, size, size)).astype(np.float32)
    y = generator.integers(0, 5, batch)

    def network() -> Sequential:
        return Sequential(
            Conv2d(16, 80, 3, padding=1, seed=0), fastcnn.Tanh(),
            Conv2d(80, 48, 3, padding=(2, 0), seed=1), fastcnn.Tanh(), Flatten(),
            Linear(48 * (size + 2) * (size - 2), 5, seed=2), input_shape=(16, size, size),
        )  # fmt: skip

    for name, threads in (("direct", 1), *(("winograd2d_batch", count) for count in (1, 2, 3))):
        with conv_algorithm(name):
            program = fastcnn.plan(network(), batch, threads=threads)
        named = [program.kernel(row) for row in range(len(program.rows))]
        assert named.count("Winograd 2-D gradient") == 2 * (name != "direct")
        assert "sum of kernels over blocks" not in named
    check_threads(network, x, y, "winograd2d_batch", 5e-6)


def test_weights_of_many_channels_are_read_once() -> None:
    """If transformed weights exceed the cache, rows process the whole batch."""
    model = Sequential(Conv2d(256, 256, 3, padding=1, seed=0), input_shape=(256, 4, 4))
    program = fastcnn.plan(model, 128, threads=2)
    kernels = [program.kernel(row) for row in range(len(program.rows))]
    assert kernels.count("Winograd 2-D products") == 1
    few = Sequential(Conv2d(64, 64, 3, padding=1, seed=0), input_shape=(64, 4, 4))
    program = fastcnn.plan(few, 128, threads=2)
    assert "Winograd 2-D products" not in map(program.kernel, range(len(program.rows)))


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize(
    ("inputs", "outputs", "size", "padding"),
    [(16, 32, (32, 32), 1), (20, 17, (31, 33), (1, 0)), (5, 3, (12, 20), (2, 1))],
)
def test_stride_2_both_ways(
    inputs: int, outputs: int, size: tuple[int, int], padding: int | tuple[int, int], pooled: bool
) -> None:
    """Border tiles, any channels, several threads; the bound is that of float32 sums."""
    layers: list[Layer] = [Conv2d(inputs, outputs, 3, stride=2, padding=padding, seed=0), ReLU()]
    layers += [MaxPool2d(2)] * pooled
    model = Sequential(*layers, input_shape=(inputs, *size))
    x = np.random.default_rng(0).standard_normal((21, inputs, *size)).astype(np.float32)
    exact = predict_logits(deepcopy(model).to(np.float64), x, backend="im2col")
    found: list[np.ndarray] = []
    scale = np.repeat(np.float32([1, 0]), inputs)
    for threads in (1, 2, 3):
        with conv_algorithm("winograd2d"):
            made = make_inference(model, model.graph(), 21, threads).by_samples(21)
        (row,) = (row for row in made.program.rows if row[L.KERNEL] == BOTH_WAYS)
        assert row[L.DOWN] == 2
        found.append(np.empty(exact.shape, np.float32))
        made.run(x, found[-1], scale, (x.ctypes.data, found[-1].ctypes.data))
    assert error(found[0], exact) < 2e-6
    for other in found[1:]:
        assert np.array_equal(other, found[0])


def test_what_an_algorithm_does_not_fit_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    layers = {"fits": fastcnn.Conv2d(1, 16, 3), "differs": fastcnn.Conv2d(16, 16, 5)}
    model = fastcnn.Sequential(
        {**layers, "f": fastcnn.Flatten(), "fc": fastcnn.Linear(64, 2)}, input_shape=(1, 8, 8)
    )
    with conv_algorithm("winograd2d"):
        for _ in range(2):
            assert fastcnn.plan(model, 16).algorithms == [
                ("fits", {"forward": "winograd2d", "weight gradient": "winograd2d"}),
                (
                    "differs",
                    dict.fromkeys(("forward", "input gradient", "weight gradient"), "direct"),
                ),
            ]
    wanted = "differs (forward, weight gradient, input gradient)"
    assert caplog.messages == [f"winograd2d does not fit, and direct computes: {wanted}"]


def test_a_session_keeps_the_algorithm_of_its_block() -> None:
    """Also for numbers of samples that it plans for after the block, and in another process."""
    model = fastcnn.Sequential(fastcnn.Conv2d(16, 16, 3, padding=1, seed=0), input_shape=(16, 8, 8))
    x = np.random.default_rng(0).standard_normal((40, 16, 8, 8)).astype(np.float32)
    found = {}
    for name in (None, "direct"):
        with conv_algorithm(name):
            session, whole = (fastcnn.session(model, max_batch=most) for most in (256, 40))
            inside = whole.logits(x)
        found[name] = session.logits(x)
        np.testing.assert_array_equal(found[name], inside)
        received = pickle.loads(pickle.dumps(session))
        np.testing.assert_array_equal(received.logits(x), inside)
    assert (found[None] != found["direct"]).any()


def test_a_model_predicts_with_the_algorithm_of_the_block() -> None:
    """Also if it has predicted before."""
    model = fastcnn.Sequential(fastcnn.Conv2d(16, 16, 3, padding=1, seed=0), input_shape=(16, 8, 8))
    x = np.random.default_rng(0).standard_normal((40, 16, 8, 8)).astype(np.float32)
    before = model(x)
    with conv_algorithm("direct"):
        direct = model(x)
        np.testing.assert_array_equal(direct, fastcnn.session(model).logits(x))
    assert (direct != before).any()
    np.testing.assert_array_equal(model(x), before)


def test_gradients_use_the_algorithm_of_the_block() -> None:
    """Also if the model's idle engine is of another one, before the block or after it."""
    layers = fastcnn.Conv2d(16, 16, 3, padding=1), fastcnn.Flatten(), fastcnn.Linear(1024, 3)
    model = fastcnn.Sequential(*layers, input_shape=(16, 8, 8))
    x = np.random.default_rng(0).standard_normal((40, 16, 8, 8)).astype(np.float32)
    found = []
    for name in (None, "direct", None):
        with conv_algorithm(name):
            found.append(loss_and_gradients(model, x, np.arange(40) % 3)[2])
    assert (found[1] != found[0]).any()
    np.testing.assert_array_equal(found[2], found[0])
