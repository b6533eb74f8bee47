"""Dropout: masks depend on a sample's index in its batch, not on how the work is divided."""

import math

import numpy as np

from fastcnn.backends.counter_random import drop_threshold, kept_factor, uniform_bits


def dropout(x: np.ndarray, p: float, key: int, first_sample: int = 0) -> np.ndarray:
    """Zero each element with probability ``p`` and divide the others by ``1 - p``.

    ``first_sample`` is the index of ``x`` in a batch that is divided among processes.
    """
    return _dropped(x, x.shape, p, key, first_sample)


def dropout_backward(
    grad_output: np.ndarray, x: np.ndarray, p: float, key: int, first_sample: int = 0
) -> np.ndarray:
    """Apply the same mask and scale to the gradient."""
    return dropout(grad_output, p, key, first_sample)


def dropout2d(x: np.ndarray, p: float, key: int, first_sample: int = 0) -> np.ndarray:
    """Zero each channel with probability ``p`` and divide the others by ``1 - p``."""
    return _dropped(x, (*x.shape[:2], 1, 1), p, key, first_sample)


def dropout2d_backward(
    grad_output: np.ndarray, x: np.ndarray, p: float, key: int, first_sample: int = 0
) -> np.ndarray:
    """Apply the same mask and scale to the gradient."""
    return dropout2d(grad_output, p, key, first_sample)


def _dropped(
    x: np.ndarray, mask: tuple[int, ...], p: float, key: int, first_sample: int
) -> np.ndarray:
    """``x`` times a mask of a given shape, scaled."""
    bits = uniform_bits(key, first_sample * math.prod(mask[1:]), math.prod(mask))
    kept = bits.reshape(mask) >= np.uint32(drop_threshold(p))
    return np.where(kept, x * x.dtype.type(kept_factor(p)), x.dtype.type(0))


def dropout_loops(x: np.ndarray, p: float, key: int, first_sample: int = 0) -> np.ndarray:
    """Zero each element with probability ``p`` and divide the others by ``1 - p``."""
    y = np.zeros(x.shape, x.dtype)
    elements = math.prod(x.shape[1:])
    for n in range(len(x)):
        for e, index in enumerate(np.ndindex(x.shape[1:])):
            bits = int(uniform_bits(key, (first_sample + n) * elements + e, 1)[0])
            if bits >= drop_threshold(p):
                y[n][index] = float(x[n][index]) * kept_factor(p)
    return y


def dropout_backward_loops(
    grad_output: np.ndarray, x: np.ndarray, p: float, key: int, first_sample: int = 0
) -> np.ndarray:
    """Apply the same mask and scale to the gradient."""
    return dropout_loops(grad_output, p, key, first_sample)


def dropout2d_loops(x: np.ndarray, p: float, key: int, first_sample: int = 0) -> np.ndarray:
    """Zero each channel with probability ``p`` and divide the others by ``1 - p``."""
    y = np.zeros(x.shape, x.dtype)
    for n, c in np.ndindex(x.shape[:2]):
        bits = int(uniform_bits(key, (first_sample + n) * x.shape[1] + c, 1)[0])
        if bits >= drop_threshold(p):
            for index in np.ndindex(x.shape[2:]):
                y[n, c][index] = float(x[n, c][index]) * kept_factor(p)
    return y


def dropout2d_backward_loops(
    grad_output: np.ndarray, x: np.ndarray, p: float, key: int, first_sample: int = 0
) -> np.ndarray:
    """Apply the same mask and scale to the gradient."""
    return dropout2d_loops(grad_output, p, key, first_sample)
