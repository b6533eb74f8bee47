"""A convolution's passes over blocks of columns, each in one compiled call.

For float32 on processors with registers of 512 bits; conv.py has the others. A block of columns is
made of an image with zeros around it, so that a row of columns is copied by whole vectors, and is
read while it is in the second-level cache. Names of axes are those of columns.py.
"""

import threading
from typing import Any

import numpy as np

from fastcnn.backends.im2col.columns import Window
from fastcnn.backends.im2col.products import outer, product
from fastcnn.codegen import compiled, linked
from fastcnn.codegen.simd import LANES, load, splat, store

#: Bytes of a block: it leaves room in the second-level cache for what is multiplied with it.
BLOCK_BYTES = 512 * 2**10
#: The fewest positions of a block: a product of fewer does not repay reading the weights.
LEAST_POSITIONS = 128


@linked
def _copy(target, at, source, begin, count):
    """Copy floats by whole vectors: up to 15 more are read, and written."""
    for j in range(0, count, LANES):
        store(target, at + j, load(source, begin + j))


@linked
def _clear(target, at, count):
    """Set floats to zero by whole vectors, as in :func:`_copy`."""
    zero = splat(np.float32(0))
    for j in range(0, count, LANES):
        store(target, at + j, zero)


@linked
def _pad(image, padded, maps, H, W, PH, PW, top, left):
    """Copy maps into larger ones, with zeros around them.

    In the order of memory: what a copy writes too much is written again.
    """
    for m in range(maps):
        at, begin = m * PH * PW, m * H * W
        _clear(padded, at, top * PW + left)
        at += top * PW + left
        for h in range(H):
            if begin + W + LANES <= image.size:
                _copy(padded, at, image, begin, W)
            else:
                for j in range(W):
                    padded[at + j] = image[begin + j]
            after = PW - W
            if h == H - 1:
                after += (PH - top - H) * PW - left
            _clear(padded, at + W, after)
            at += PW
            begin += W
    _clear(padded, maps * PH * PW, LANES)


@linked
def _gather(padded, columns, width, first, rows, numbers):
    """Fill columns of some output rows; their own rows begin ``width`` floats apart."""
    C, N, H, W, OH, OW, KH, KW, stride_h, stride_w, dilation_h, dilation_w = numbers
    line = 0
    for c in range(C):
        for k in range(KH * KW):
            tap = k // KW * dilation_h * W + k % KW * dilation_w
            n, i = first // OH, first % OH
            source = ((c * N + n) * H + i * stride_h) * W + tap
            at = line * width
            for _ in range(rows):
                if stride_w == 1:
                    _copy(columns, at, padded, source, OW)
                else:
                    for j in range(OW):
                        columns[at + j] = padded[source + j * stride_w]
                at += OW
                source += stride_h * W
                i += 1
                if i == OH:
                    n, i = n + 1, 0
                    source = (c * N + n) * H * W + tap
            line += 1


@compiled(
    "float32[:]", "float32[:]", "float32[:]", "float32[:]",
    "out float32[:]", "out float32[:]", "out float32[:]", "out float32[:]", "int64[:]",
)  # fmt: skip
def _pass(image, matrix, bias, other, padded, columns, y, gradient, numbers):
    C, N, H, W, top, left, PH, PW, OH, OW, KH, KW = numbers[:12]
    stride_h, stride_w, dilation_h, dilation_w, rows, width, M = numbers[12:]
    gathers, multiplies, sums = padded.size > 0, y.size > 0, gradient.size > 0
    if gathers:
        _pad(image, padded, C * N, H, W, PH, PW, top, left)
    K, total = C * KH * KW, N * OH
    window = (C, N, PH, PW, OH, OW, KH, KW, stride_h, stride_w, dilation_h, dilation_w)
    for first in range(0, total, rows):
        R = min(rows, total - first)
        at, count = first * OW, R * OW
        begin = at
        if gathers:
            _gather(padded, columns, width, first, R, window)
            begin = 0
        if multiplies:
            product(matrix, M, K, K, 1, columns, begin, width, count, y, at, total * OW, bias)
        if sums:
            outer(other, M, at, total * OW, columns, K, begin, width, count, gradient)


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
    """``matrix @ columns + bias``, and ``other @ columns^T``, of the columns of an image.

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
        Empty without a matrix.
    gradient : ndarray, shape (M, C * KH * KW)
        Empty without another array.
    """
    C, N, H, W = image.shape
    (top, bottom), (left, right) = window.padding
    padded_size = (H + top + bottom, W + left + right)
    K, total = C * window.kernel[0] * window.kernel[1], N * output[0]
    left_side = other if matrix is None else matrix
    assert left_side is not None
    M = len(left_side)
    rows = _rows(K, total, output[1])
    if window.is_point:
        width, padded, columns = total * output[1], _NONE, image.reshape(-1)
    else:
        # An odd number of cache lines: else all rows of columns would share a few sets.
        width = -(-rows * output[1] // LANES) * LANES + LANES
        width += LANES if width // LANES % 2 == 0 else 0
        padded = _buffer("padded", C * N * padded_size[0] * padded_size[1] + 2 * LANES)
        columns = _buffer("columns", K * width)
    y = np.empty((M, N, *output) if matrix is not None else 0, np.float32)
    gradient = np.zeros((M, K) if other is not None else 0, np.float32)
    numbers = (*image.shape, top, left, *padded_size, *output, *window.kernel)
    numbers += (*window.stride, *window.dilation, rows, width, M)
    _pass(
        image.reshape(-1),
        _NONE if matrix is None else matrix.reshape(-1),
        np.zeros(M, np.float32) if bias is None else bias,
        _NONE if other is None else other.reshape(-1),
        padded,
        columns,
        y.reshape(-1),
        gradient.reshape(-1),
        np.array(numbers),
    )
    return y, gradient


def _rows(K: int, total: int, width: int) -> int:
    """Output rows of a block: all but the last have a multiple of 16 positions if possible."""
    unit = LANES // np.gcd(LANES, width)
    most = max(BLOCK_BYTES // (K * 4), LEAST_POSITIONS)
    units = -(-total // unit)
    blocks = -(-units // max(1, most // (width * unit)))
    return int(-(-units // blocks) * unit)


_memory = threading.local()


def _buffer(name: str, size: int) -> Any:
    """Floats of this thread, the same memory at each call: new memory costs its first touch."""
    held = getattr(_memory, name, None)
    if held is None or held.size < size:
        held = np.empty(size, np.float32)
        setattr(_memory, name, held)
    return held[:size]
