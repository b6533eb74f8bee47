"""Samples in other shapes."""

import numpy as np


def flatten(x: np.ndarray) -> np.ndarray:
    """``(N, C, H, W)`` to ``(N, C * H * W)``."""
    return np.array(x, order="C").reshape(len(x), -1)


def unflatten(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Reshape each sample."""
    return np.array(x, order="C").reshape(len(x), *shape)


def flatten_backward(
    grad_output: np.ndarray, x: np.ndarray, shape: tuple[int, ...] = ()
) -> np.ndarray:
    """Back to the shape of ``x``."""
    return np.array(grad_output, order="C").reshape(x.shape)


flatten_loops, unflatten_loops = flatten, unflatten
unflatten_backward = flatten_backward_loops = unflatten_backward_loops = flatten_backward
