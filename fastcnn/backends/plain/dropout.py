"""Dropout: masks depend on a sample's index in its batch, not on how the work is divided."""

import math
from collections.abc import Callable

import numpy as np

from fastcnn.backends.counter_random import drop_threshold, kept_factor, uniform_bits


def dropout(x: np.ndarray, p: float, key: int, first_sample: int = 0) -> np.ndarray:
    """Zero each element with probability ``p`` and divide the others by ``1 - p``.

    ``first_sample`` is the index of ``x`` in a batch that is divided among processes.
    """
    return _dropped(x, x.shape, p, key, first_sample)


def dropout2d(x: np.ndarray, p: float, key: int, first_sample: int = 0) -> np.ndarray:
    """Zero each channel with probability ``p`` and divide the others by ``1 - p``."""
    return _dropped(x, (*x.shape[:2], 1, 1), p, key, first_sample)


def _dropped(
    x: np.ndarray, mask: tuple[int, ...], p: float, key: int, first_sample: int
) -> np.ndarray:
    """``x`` times a mask of a given shape, scaled."""
    bits = uniform_bits(key, first_sample * math.prod(mask[1:]), math.prod(mask))
    kept = bits.reshape(mask) >= np.uint32(drop_threshold(p))
    return np.where(kept, x * x.dtype.type(kept_factor(p)), x.dtype.type(0))


def dropout_loops(x: np.ndarray, p: float, key: int, first_sample: int = 0) -> np.ndarray:
    """Zero each element with probability ``p`` and divide the others by ``1 - p``."""
    return _dropped_loops(x, x.shape[1:], p, key, first_sample)


def dropout2d_loops(x: np.ndarray, p: float, key: int, first_sample: int = 0) -> np.ndarray:
    """Zero each channel with probability ``p`` and divide the others by ``1 - p``."""
    return _dropped_loops(x, x.shape[1:2], p, key, first_sample)


def _dropped_loops(
    x: np.ndarray, mask: tuple[int, ...], p: float, key: int, first_sample: int
) -> np.ndarray:
    """``x`` scaled, where a mask of a given shape for each sample keeps it."""
    y = np.zeros(x.shape, x.dtype)
    for n in range(len(x)):
        for e, index in enumerate(np.ndindex(mask)):
            bits = int(uniform_bits(key, (first_sample + n) * math.prod(mask) + e, 1)[0])
            if bits >= drop_threshold(p):
                y[n][index] = np.float64(x[n][index]) * kept_factor(p)
    return y


def _same_mask(forward: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The gradient's function: it applies the same mask and scale."""

    def backward(
        grad_output: np.ndarray, x: np.ndarray, p: float, key: int, first_sample: int = 0
    ) -> np.ndarray:
        return forward(grad_output, p, key, first_sample)

    return backward


dropout_backward, dropout2d_backward = _same_mask(dropout), _same_mask(dropout2d)
dropout_backward_loops, dropout2d_backward_loops = map(_same_mask, (dropout_loops, dropout2d_loops))
