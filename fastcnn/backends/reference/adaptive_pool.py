"""Adaptive pooling in nested loops."""

from collections.abc import Iterator

import numpy as np

from fastcnn.backends.geometry import AdaptiveSize, Pair, adaptive_output, adaptive_windows
from fastcnn.backends.one_row import on_sequences
from fastcnn.backends.reference.pool import winner


@on_sequences
def adaptive_avg_pool2d(x: np.ndarray, output_size: AdaptiveSize) -> np.ndarray:
    """Mean over windows that share the map out over the output's pixels."""
    rows, columns = adaptive_output(x.shape[2:], output_size)
    y = np.empty((*x.shape[:2], rows, columns), x.dtype)
    for n, c in np.ndindex(x.shape[:2]):
        for pixel, window in _windows(x.shape[2:], (rows, columns)):
            y[n, c][pixel] = sum(float(x[n, c][place]) for place in window) / len(window)
    return y


@on_sequences
def adaptive_avg_pool2d_backward(
    grad_output: np.ndarray, x: np.ndarray, output_size: AdaptiveSize
) -> np.ndarray:
    """The gradient of each window is spread evenly over its pixels."""
    rows, columns = grad_output.shape[2:]
    grad_x = np.zeros(x.shape)
    for n, c in np.ndindex(x.shape[:2]):
        for pixel, window in _windows(x.shape[2:], (rows, columns)):
            for place in window:
                grad_x[n, c][place] += float(grad_output[n, c][pixel]) / len(window)
    return grad_x.astype(x.dtype)


@on_sequences
def adaptive_max_pool2d(x: np.ndarray, output_size: AdaptiveSize) -> np.ndarray:
    """Maximum over windows that share the map out over the output's pixels."""
    rows, columns = adaptive_output(x.shape[2:], output_size)
    y = np.empty((*x.shape[:2], rows, columns), x.dtype)
    for n, c in np.ndindex(x.shape[:2]):
        for pixel, window in _windows(x.shape[2:], (rows, columns)):
            y[n, c][pixel] = x[n, c][winner(x[n, c], window)]
    return y


@on_sequences
def adaptive_max_pool2d_backward(
    grad_output: np.ndarray, x: np.ndarray, output_size: AdaptiveSize
) -> np.ndarray:
    """The whole gradient of a window goes to its winner."""
    rows, columns = grad_output.shape[2:]
    grad_x = np.zeros(x.shape)
    for n, c in np.ndindex(x.shape[:2]):
        for pixel, window in _windows(x.shape[2:], (rows, columns)):
            grad_x[n, c][winner(x[n, c], window)] += float(grad_output[n, c][pixel])
    return grad_x.astype(x.dtype)


def _windows(size: tuple[int, ...], output: Pair) -> Iterator[tuple[Pair, list[Pair]]]:
    """Each pixel of the output with the pixels of its window."""
    for i, (top, bottom) in enumerate(adaptive_windows(size[0], output[0])):
        for j, (left, right) in enumerate(adaptive_windows(size[1], output[1])):
            yield (i, j), [(h, w) for h in range(top, bottom) for w in range(left, right)]
