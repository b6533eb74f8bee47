"""Adaptive average pooling as two products with matrices of shares."""

import numpy as np

from fastcnn.backends.geometry import AdaptiveSize, adaptive_output, adaptive_windows


def adaptive_avg_pool2d(x: np.ndarray, output_size: AdaptiveSize) -> np.ndarray:
    """Mean over windows that share the map out over the output's pixels."""
    rows, columns = _shares(x, output_size)
    return rows @ x @ columns.T


def adaptive_avg_pool2d_backward(
    grad_output: np.ndarray, x: np.ndarray, output_size: AdaptiveSize
) -> np.ndarray:
    """The gradient of each window is spread evenly over its pixels."""
    rows, columns = _shares(x, output_size)
    return rows.T @ grad_output @ columns


def _shares(x: np.ndarray, output_size: AdaptiveSize) -> tuple[np.ndarray, np.ndarray]:
    """Share of each row in each row of the output, and the same of columns."""
    rows, columns = (
        _share(*sizes, x.dtype)
        for sizes in zip(x.shape[2:], adaptive_output(x.shape[2:], output_size), strict=True)
    )
    return rows, columns


def _share(size: int, output: int, dtype: np.dtype) -> np.ndarray:
    share = np.zeros((output, size), dtype)
    for i, (first, end) in enumerate(adaptive_windows(size, output)):
        share[i, first:end] = 1.0 / (end - first)
    return share
