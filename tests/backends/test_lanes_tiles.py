"""Register tiles of the vector kernels, each compared with numpy."""

import numpy as np
import pytest
from numba import njit

from fastcnn.backends.lanes.convolution.depthwise import tiles as depthwise_tiles
from fastcnn.backends.lanes.convolution.direct import tiles as conv_tiles
from fastcnn.backends.lanes.kernels import linear_tiles
from fastcnn.codegen import simd, transpose_tiles

LANES = simd.LANES


def integers(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Small integers: sums are exact in float32 in any order."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


@njit
def run_conv(x, xpix, taps, w, b, y, ypix, ystride, relu):  # type: ignore[no-untyped-def]
    kernel, outputs = (taps, len(taps), w, 0, b, 0), (y, 0, ypix, ystride)
    conv_tiles.conv_tile(2, 3, (x, 0, xpix, 0), kernel, outputs, relu, 0, (0, ypix))


@pytest.mark.parametrize("relu", [0, 1])
def test_conv_tile(relu: int) -> None:
    taps, positions = np.array([0, 2, 5]), np.array([0, 1, 3])
    x, w, b = integers((9, LANES), 0), integers((3, 2), 1), integers((2,), 2)
    y = np.zeros((2, 4, LANES), np.float32)
    run_conv(
        x.ravel(), (positions * LANES).astype(np.int32), (taps * LANES).astype(np.int32),
        w.ravel(), b, y.reshape(-1), (positions * LANES).astype(np.int32), 4 * LANES, relu,
    )  # fmt: skip
    for channel in range(2):
        for position in positions:
            expected = b[channel] + w[:, channel] @ x[position + taps]
            expected = np.maximum(expected, 0) if relu else expected
            assert (y[channel, position] == expected).all()
    assert (y[:, 2] == 0).all()


@njit
def run_mask(x, xpix, taps, w, y):  # type: ignore[no-untyped-def]
    kernel, outputs = (taps, len(taps), w, 0, w, -1), (y, 0, xpix, 0)
    conv_tiles.conv_tile(1, 2, (x, 0, xpix, 0), kernel, outputs, 0, 1, (-1, xpix))


def test_a_masked_tile_may_pass_a_place_twice() -> None:
    x, w, mask = integers((2, LANES), 0), integers((1,), 1), np.maximum(integers((2, LANES), 2), 0)
    y = mask.copy()
    for _ in range(2):
        run_mask(x.ravel(), np.array([0, LANES], np.int32), np.zeros(1, np.int32), w, y.reshape(-1))
        assert (y == np.where(mask > 0, w * x, 0)).all()


@njit
def run_pool(x, xpix, taps, w, y, ypix, winners):  # type: ignore[no-untyped-def]
    kernel, outputs = (taps, 1, w, 0, w, -1), (y, 0, ypix, 0)
    conv_tiles.conv_pool_tile(1, 4, (x, 0, xpix, 0), kernel, outputs, 1, winners, 0)


def test_conv_pool_tile() -> None:
    x = integers((4, LANES), 3)
    x[2, 3] = np.nan
    y, winners = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    run_pool(
        x.ravel(), (np.arange(4) * LANES).astype(np.int32), np.zeros(1, np.int32),
        np.ones(1, np.float32), y, np.zeros(1, np.int32), winners,
    )  # fmt: skip
    best = x.argmax(axis=0)
    largest = x[best, range(LANES)]
    assert np.isnan(y[3])
    assert winners[3] == 2
    rest = np.arange(LANES) != 3
    assert (y[rest] == np.maximum(largest, 0)[rest]).all()
    assert (winners[rest] == np.where(largest > 0, best, 4)[rest]).all()


@njit
def run_gradients(d, x, dx, pix, taps, chosen, w, sums, between, masked):  # type: ignore[no-untyped-def]
    for t, last in ((0, 0), (2, 1)):
        depthwise_tiles.gradients_tile(
            2, ((d, 0, pix), (x, 0, pix), (dx, 0, pix)), (1, len(pix)), (taps, chosen, t), (w, 0),
            (sums, 0), (between, 0), t == 0, last, masked, (16, 16),
        )  # fmt: skip


@pytest.mark.parametrize("masked", [0, 1])
def test_gradients_tile(masked: int) -> None:
    """Four taps as two times two, stored over the input, from the second of five pixels on."""
    d, x, w = integers((9, LANES), 0), integers((5, LANES), 1), integers((6,), 2)
    taps, chosen = np.array([0, 1, 4, 2]), np.array([5, 0, 2, 3])
    sums, between = np.ones((6, LANES), np.float32), np.full((4, LANES), np.nan, np.float32)
    x[2, 3], d[8, 5] = np.nan, np.inf
    dx = x.copy()
    run_gradients(
        d.ravel(), dx.ravel(), dx.reshape(-1), (np.arange(5) * LANES).astype(np.int32),
        (taps * LANES).astype(np.int32), chosen.astype(np.int32), w, sums.reshape(-1),
        between.reshape(-1), masked,
    )  # fmt: skip
    windows = np.stack([d[tap + 1 : tap + 5] for tap in taps])
    whole = np.einsum("t,tpl->pl", w[chosen], windows)
    np.testing.assert_array_equal(dx[1:], np.where(x[1:] == 0, 0, whole) if masked else whole)
    np.testing.assert_array_equal(dx[0], x[0])
    expected = np.ones((6, LANES), np.float32)
    expected[chosen] += np.einsum("tpl,pl->tl", windows, x[1:])
    np.testing.assert_array_equal(sums, expected)


@njit
def run_linear(x, w, b, y, outputs, more):  # type: ignore[no-untyped-def]
    size = x.shape[1]
    linear_tiles.linear_tile(
        2, 3, (x.reshape(-1), 0, size * 16), size, (w.reshape(-1), 0, size, 1), (b, 0),
        (y.reshape(-1), 0, outputs * 16), 0, 0, more,
    )  # fmt: skip


def test_linear_tile() -> None:
    x, w, b = integers((3, 5, LANES), 0), integers((2, 5), 1), integers((2,), 2)
    y = np.full((3, 2, LANES), np.nan, np.float32)
    products = np.einsum("ok,nkl->nol", w, x)
    run_linear(x, w, b, y, 2, 0)
    assert (y == products + b[:, None]).all()
    run_linear(x, w, b, y, 2, 1)
    assert (y == 2 * products + b[:, None]).all()


@njit
def run_outer(d, x, g, more):  # type: ignore[no-untyped-def]
    flat = g.reshape(-1)
    return linear_tiles.outer_tile(
        2, 1, 2, (d.reshape(-1), 0, 2 * 16), len(d), (x.reshape(-1), 0, 16), (flat, 0, 16), more,
        (flat, flat, 0, 16, 0),
    )  # fmt: skip


def test_outer_tile() -> None:
    d, x = integers((2, 2, LANES), 0), integers((32, 16), 1)
    g = np.full((2, 16), np.nan, np.float32)
    expected = np.einsum("bol,bli->oi", d, x.reshape(2, LANES, 16))
    assert run_outer(d, x, g, False) == (expected**2).sum()
    assert (g == expected).all()
    run_outer(d, x, g, True)
    assert (g == 2 * expected).all()


@njit
def run_transpose(x, y):  # type: ignore[no-untyped-def]
    transpose_tiles.transpose_tile(x.reshape(-1), 0, 16, y.reshape(-1), 0, 16)


def test_transpose_tile() -> None:
    x, y = integers((16, 16), 0), np.zeros((16, 16), np.float32)
    run_transpose(x, y)
    assert (y == x.T).all()


@njit
def run_transpose_sums(x, count, blocks, y, valid):  # type: ignore[no-untyped-def]
    transpose_tiles.transpose_sums_tile(
        x.reshape(-1), 16, count, x.shape[1] * 16, blocks, y.reshape(-1), 3, y.shape[1], valid
    )


@pytest.mark.parametrize(
    ("count", "blocks", "valid"), [(16, 3, 16), (16, 1, 5), (9, 4, 16), (1, 2, 1)]
)
def test_transpose_sums_tile(count: int, blocks: int, valid: int) -> None:
    """No vectors after the last are read, and no floats after a row's last are written."""
    x = integers((blocks, count + 1, LANES), 0)
    y = np.full((LANES, 20), np.nan, np.float32)
    run_transpose_sums(x, count, blocks, y, valid)
    expected = np.full_like(y, np.nan)
    expected[:valid, 3 : 3 + count] = x.sum(0)[1:].T[:valid]
    np.testing.assert_array_equal(y, expected)
