"""Adaptive average pooling: means over rows, then over columns."""

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
