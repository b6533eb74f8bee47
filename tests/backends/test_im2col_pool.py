"""Max pooling of adjacent 2 x 2 windows, computed as vectors of 16 windows."""

import numpy as np
import pytest

from fastcnn.backends import im2col, reference

WINDOW = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)}
SHAPES = [(1, 1, 2, 2), (2, 3, 14, 14), (3, 2, 7, 9), (2, 2, 5, 66), (1, 5, 3, 34), (2, 3, 28, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("order", ["samples first", "channels first"])
@pytest.mark.parametrize("values", ["numbers", "ties", "nan"])
def test_pairs_are_those_of_the_loops(shape: tuple[int, ...], order: str, values: str) -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal(shape).astype(np.float32)
    if values == "ties":
        x = np.floor(x)
    if values == "nan":
        x[generator.random(shape) < 0.4] = np.nan
    if order == "channels first":
        x = np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
    expected = reference.max_pool2d(x, **WINDOW)
    found = im2col.max_pool2d(x, **WINDOW)
    assert np.array_equal(found, expected, equal_nan=True)
    dy = generator.standard_normal(expected.shape).astype(np.float32)
    expected = reference.max_pool2d_backward(dy, x, **WINDOW)
    assert np.array_equal(im2col.max_pool2d_backward(dy, x, **WINDOW), expected)


@pytest.mark.parametrize("size", [(5, 5), (4, 5), (5, 4), (3, 33)], ids=str)
def test_windows_that_reach_over_the_edge_are_those_of_the_loops(size: tuple[int, int]) -> None:
    """Such windows, of odd sizes with ``ceil_mode``, do not use the vector code."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, 3, *size)).astype(np.float32)
    expected = reference.max_pool2d(x, **WINDOW, ceil_mode=True)
    assert np.array_equal(im2col.max_pool2d(x, **WINDOW, ceil_mode=True), expected)
    dy = generator.standard_normal(expected.shape).astype(np.float32)
    expected = reference.max_pool2d_backward(dy, x, **WINDOW, ceil_mode=True)
    assert np.array_equal(im2col.max_pool2d_backward(dy, x, **WINDOW, ceil_mode=True), expected)
