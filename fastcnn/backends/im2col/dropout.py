"""Inverted dropout over whole arrays."""

import numpy as np

from fastcnn.backends.counter_random import drop_threshold, uniform_bits


def dropout(x: np.ndarray, p: float, key: int) -> np.ndarray:
    """Zero each element with probability ``p`` and divide the others by ``1 - p``."""
    kept = uniform_bits(key, 0, x.size).reshape(x.shape) >= np.uint32(drop_threshold(p))
    return np.where(kept, x / x.dtype.type(1.0 - p), x.dtype.type(0))


def dropout_backward(grad_output: np.ndarray, x: np.ndarray, p: float, key: int) -> np.ndarray:
    """The gradient passes through the same mask, scaled alike."""
    return dropout(grad_output, p, key)


def dropout2d(x: np.ndarray, p: float, key: int) -> np.ndarray:
    """Zero each channel with probability ``p`` and divide the others by ``1 - p``."""
    bits = uniform_bits(key, 0, x.shape[0] * x.shape[1]).reshape(*x.shape[:2], 1, 1)
    kept = bits >= np.uint32(drop_threshold(p))
    return np.where(kept, x / x.dtype.type(1.0 - p), x.dtype.type(0))


def dropout2d_backward(grad_output: np.ndarray, x: np.ndarray, p: float, key: int) -> np.ndarray:
    """The gradient passes through the same mask, scaled alike."""
    return dropout2d(grad_output, p, key)
