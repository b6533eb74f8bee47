"""The normal distribution function of an array: numpy has no error function."""

import math

import numpy as np
from numba import njit


def normal_cdf_of_array(x: np.ndarray) -> np.ndarray:
    """``erfc(-x / sqrt(2)) / 2``, element by element."""
    area = np.empty(x.shape, x.dtype)
    _fill(np.ascontiguousarray(x).reshape(-1), area.reshape(-1))
    return area


@njit(cache=True, nogil=True)
def _fill(x: np.ndarray, area: np.ndarray) -> None:
    for i in range(x.size):
        area[i] = 0.5 * math.erfc(-x[i] * math.sqrt(0.5))
