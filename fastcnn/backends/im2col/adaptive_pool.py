"""Adaptive pooling: means over rows, then over columns; maxima of one window after the other."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastcnn.backends.geometry import AdaptiveSize, adaptive_output, adaptive_windows
from fastcnn.backends.one_row import on_sequences


@on_sequences
def adaptive_avg_pool2d(x: np.ndarray, output_size: AdaptiveSize) -> np.ndarray:
    """Mean over windows that divide the map evenly among the output's pixels."""
    rows, columns = adaptive_output(x.shape[2:], output_size)
    return _means(_means(x, rows, axis=2), columns, axis=3)


@on_sequences
def adaptive_avg_pool2d_backward(
    grad_output: np.ndarray, x: np.ndarray, output_size: AdaptiveSize
) -> np.ndarray:
    """Spread each window's gradient evenly over its pixels."""
    return _spread(_spread(grad_output, x.shape[3], axis=3), x.shape[2], axis=2)


@on_sequences
def adaptive_max_pool2d(x: np.ndarray, output_size: AdaptiveSize) -> np.ndarray:
    """Maximum over windows that divide the map evenly among the output's pixels."""
    output = adaptive_output(x.shape[2:], output_size)
    y = np.empty((*x.shape[:2], *output), x.dtype)
    for i, j, winners in _winners(x, output):
        y[:, :, i, j] = x[winners]
    return y


@on_sequences
def adaptive_max_pool2d_backward(
    grad_output: np.ndarray, x: np.ndarray, output_size: AdaptiveSize
) -> np.ndarray:
    """Each window's gradient goes to its maximum."""
    grad_x = np.zeros(x.shape, x.dtype)
    for i, j, winners in _winners(x, grad_output.shape[2:]):
        grad_x[winners] += grad_output[:, :, i, j]
    return grad_x


def _winners(x: np.ndarray, output: tuple[int, ...]) -> Iterator[tuple[int, int, Any]]:
    """Row and column of each window, and the index of its maximum in each map.

    The first of equal values wins, and NaN beats every number, as in ``argmax``.
    """
    maps = np.ix_(range(x.shape[0]), range(x.shape[1]))
    rows, columns = map(list, map(adaptive_windows, x.shape[2:], output))
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            window = x[:, :, top:bottom, left:right].reshape(*x.shape[:2], -1)
            row, column = np.divmod(window.argmax(axis=2), right - left)
            yield i, j, (*maps, top + row, left + column)


def _means(x: np.ndarray, output: int, axis: int) -> np.ndarray:
    """Mean over each window along one axis.

    Not a product with a matrix of weights: an infinity times the weight 0 of a window without it
    would be NaN.
    """
    along = np.moveaxis(x, axis, 0)
    means = np.empty((output, *along.shape[1:]), x.dtype)
    for i, (first, end) in enumerate(adaptive_windows(len(along), output)):
        along[first:end].mean(axis=0, out=means[i])
    return np.moveaxis(means, 0, axis)


def _spread(gradient: np.ndarray, size: int, axis: int) -> np.ndarray:
    """The gradient of :func:`_means` with respect to an input of ``size`` along the axis."""
    along = np.moveaxis(gradient, axis, 0)
    spread = np.zeros((size, *along.shape[1:]), gradient.dtype)
    for i, (first, end) in enumerate(adaptive_windows(size, len(along))):
        spread[first:end] += along[i] / (end - first)
    return np.ascontiguousarray(np.moveaxis(spread, 0, axis))
