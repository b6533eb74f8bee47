"""Arrays aligned to cache lines, as aligned vector loads and stores need them."""

from collections.abc import Callable
from typing import Any

import numpy as np

#: Bytes of a cache line.
LINE = 64


def aligned(
    size: int, dtype: Any = np.float32, make: Callable[[int, Any], np.ndarray] = np.zeros
) -> np.ndarray:
    """An array aligned to cache lines: a vector that spans two lines takes twice as long."""
    kind = np.dtype(dtype)
    made = make(size + LINE // kind.itemsize, kind)
    first = -made.ctypes.data % LINE // kind.itemsize
    return made[first : first + size]


def is_aligned(array: np.ndarray) -> bool:
    """Whether an array begins at a cache line."""
    return array.ctypes.data % LINE == 0
