"""Arrays that begin where a line of the cache does."""

from collections.abc import Callable
from typing import Any

import numpy as np

#: Bytes of a line of the cache.
LINE = 64


def aligned(
    size: int, dtype: Any = np.float32, make: Callable[[int, Any], np.ndarray] = np.zeros
) -> np.ndarray:
    """An array at the beginning of a line: a vector across two lines takes twice as long."""
    kind = np.dtype(dtype)
    made = make(size + LINE // kind.itemsize, kind)
    first = -made.ctypes.data % LINE // kind.itemsize
    return made[first : first + size]


def is_aligned(array: np.ndarray) -> bool:
    """Whether an array begins with a line."""
    return array.ctypes.data % LINE == 0
