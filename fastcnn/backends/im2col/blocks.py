"""A convolution's passes over blocks of columns, each one compiled call.

For float32 on processors with 512-bit registers; conv.py handles the other cases. Images are
padded a few samples at a time, so that rows of columns are copied as whole vectors; a block of
columns is used while it is in the second-level cache. Axes are named as in columns.py.
"""

import math
import threading
from functools import lru_cache
from typing import Any

import numpy as np

from fastcnn.backends.alignment import aligned
from fastcnn.backends.im2col.columns import Window
from fastcnn.backends.im2col.kernels import over_blocks, scatter_blocks
from fastcnn.backends.im2col.memory import empty
from fastcnn.codegen.simd import LANES

#: Bytes of a block: leaves room in the second-level cache for the other operand.
BLOCK_BYTES = 512 * 2**10
#: Minimum positions of a block: a product of fewer does not amortise reading the weights.
LEAST_POSITIONS = 128
_NONE = np.empty(0, np.float32)


def pass_over(
    image: np.ndarray,
    window: Window,
    output: tuple[int, ...],
    *,
    matrix: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    other: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute ``matrix @ columns + bias``, and ``other @ columns^T``, for the columns of an image.

    Parameters
    ----------
    image : ndarray, shape (C, N, H, W), contiguous
    window : Window
    output : tuple of int
        Rows and columns of the output's maps.
    matrix : ndarray, shape (M, C * KH * KW), optional
    bias : ndarray, shape (M,), optional
    other : ndarray, shape (M, N, OH, OW), contiguous, optional

    Returns
    -------
    y : ndarray, shape (M, N, OH, OW)
        Empty if ``matrix`` is None.
    gradient : ndarray, shape (M, C * KH * KW)
        Empty if ``other`` is None.
    """
    left_side = other if matrix is None else matrix
    assert left_side is not None
    M, K = len(left_side), image.shape[0] * window.kernel[0] * window.kernel[1]
    padded, columns, numbers = _room(image.shape, window, output, M)
    if window.is_point(image.shape[2:], output):
        padded, columns = _NONE, image.reshape(-1)
    y = empty((M, image.shape[1], *output) if matrix is not None else (0,), np.float32)
    gradient = np.zeros((M, K) if other is not None else 0, np.float32)
    over_blocks(
        image.reshape(-1),
        _NONE if matrix is None else matrix.reshape(-1),
        np.zeros(M, np.float32) if bias is None else bias,
        _NONE if other is None else other.reshape(-1),
        padded,
        columns,
        y.reshape(-1),
        gradient.reshape(-1),
        numbers,
    )
    return y, gradient


def scattered(
    dy: np.ndarray, matrix: np.ndarray, window: Window, shape: tuple[int, ...]
) -> np.ndarray:
    """``col2im(matrix^T dy)``, an image of ``shape`` (C, N, H, W).

    ``dy``, of shape (M, N, OH, OW), is contiguous; ``matrix`` has the shape (M, C * KH * KW).
    """
    padded, columns, numbers = _room(shape, window, dy.shape[2:], len(dy), is_apart=True)
    zeros, image = np.zeros(matrix.shape[1], np.float32), empty(shape, np.float32)
    scatter_blocks(
        dy.reshape(-1), matrix.reshape(-1), zeros, padded, columns, image.reshape(-1), numbers
    )
    return image


def _room(*geometry: Any, is_apart: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Buffers for padded images and for columns, and the kernels' integer arguments."""
    padded, columns, numbers = _sizes(*geometry, is_apart)
    if not columns:
        return _NONE, _NONE, numbers
    return _buffer("padded", padded), _buffer("columns", columns), numbers


@lru_cache(maxsize=1024)
def _sizes(
    shape: tuple[int, ...], window: Window, output: tuple[int, ...], M: int, is_apart: bool
) -> tuple[int, int, np.ndarray]:
    """Floats of padded images and of columns, and the kernels' integer arguments.

    With ``is_apart``, rows of pixels are padded to whole vectors. If a store reached into the next
    row, a load of that row would wait for it.
    """
    C, N, H, W = shape
    (top, bottom), (left, right) = window.padding
    padded_size = (H + top + bottom, W + left + right)
    if is_apart:
        padded_size = (padded_size[0], -(-padded_size[1] // LANES) * LANES)
    K, floats = C * window.kernel[0] * window.kernel[1], C * padded_size[0] * padded_size[1]
    is_point = window.is_point((H, W), output)
    group = N if is_point else _samples(N, floats * 4, output[0] * output[1])
    rows = _rows(K, group * output[0], output[1])
    padded, columns, width = 0, 0, N * output[0] * output[1]
    if not is_point:
        # An odd number of cache lines: otherwise all rows of columns would map to a few cache sets.
        width = -(-rows * output[1] // LANES) * LANES + LANES
        width += LANES if width // LANES % 2 == 0 else 0
        padded, columns = group * floats + 4 * LANES, LANES + K * width
    numbers = (*shape, top, left, *padded_size, *output, *window.kernel)
    numbers += (*window.stride, *window.dilation, group, rows, width, M)
    return padded, columns, np.array(numbers)


def _samples(N: int, size: int, positions: int) -> int:
    """Samples of a group, whose images are padded together."""
    unit = LANES // math.gcd(LANES, positions)
    if size * unit > BLOCK_BYTES:
        unit = 1
    return min(N, max(1, BLOCK_BYTES // (size * unit)) * unit)


def _rows(K: int, total: int, width: int) -> int:
    """Output rows of a block: all but the last have a multiple of 16 positions if possible."""
    unit = LANES // math.gcd(LANES, width)
    most = max(BLOCK_BYTES // (K * 4), LEAST_POSITIONS)
    units = -(-total // unit)
    blocks = max(1, -(-units // max(1, most // (width * unit))))
    return -(-units // blocks) * unit


_memory = threading.local()


def _buffer(name: str, size: int) -> Any:
    """Floats of this thread, the same memory at each call: fresh pages cost page faults."""
    held = getattr(_memory, name, None)
    if held is None or held.size < size:
        held = aligned(size, np.float32, np.empty)
        setattr(_memory, name, held)
    return held[:size]
