"""Convolution as im2col followed by a matrix product.

N samples, C input channels, O output channels, G groups, K = C / G * KH * KW, P = N * OH * OW
output positions.

With channels as the first axis, a convolution of the whole batch is one product,
``(O, K) @ (K, P)``, without transposes. Results are therefore arrays of shape (N, O, OH, OW) whose
memory is ordered (O, N, OH, OW), and later layers keep that order. Columns are built for a few rows
of the output at a time, so that they stay in the second-level cache.
"""

import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastcnn.backends.geometry import ALL, Mask, Padding, Pair, conv_output
from fastcnn.backends.im2col.blocks import pass_over, scattered
from fastcnn.backends.im2col.columns import Window, col2im, im2col, turned
from fastcnn.backends.im2col.kernels import row_sums
from fastcnn.backends.im2col.products import LANES, are_compiled
from fastcnn.backends.one_row import on_sequences

#: Bytes of columns in memory at a time.
COLUMN_BYTES = 1024 * 2**10
#: Minimum positions of a block: a product of fewer does not amortise reading the weights.
MIN_POSITIONS = 128
#: Maximum ratio of input to output pixels at which gradients use columns of dy.
MOST_PIXELS = 1.3


@on_sequences
def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """``y = W columns + b``."""
    output = conv_output(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    window = Window(weight.shape[2:], stride, padding, dilation)
    x = _channels_first(x)
    if groups == 1 and are_compiled(x, weight):
        matrix = np.ascontiguousarray(weight).reshape(len(weight), -1)
        return _samples_first(pass_over(x, window, output, matrix=matrix, bias=bias)[0])
    y = np.empty((len(weight), x.shape[1], *output), x.dtype)
    by_group = y.reshape(groups, len(weight) // groups, -1)
    matrices = _weight_matrices(weight, groups)
    for first, columns in _blocks(x, window, output, groups):
        np.matmul(matrices, columns, out=by_group[:, :, first : first + columns.shape[2]])
        if bias is not None:
            by_group[:, :, first : first + columns.shape[2]] += bias.reshape(groups, -1, 1)
    return _samples_first(y)


@on_sequences
def conv2d_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    output_mask: Mask = ALL,
) -> tuple[Any, Any, Any]:
    """``dW = dy columns^T``, ``dx = col2im(W^T dy)``, ``db`` the sum of dy over all positions."""
    wants_x, wants_weight, wants_bias = output_mask
    window = Window(weight.shape[2:], stride, padding, dilation)
    grad_output = _samples_first(_channels_first(grad_output))
    grad_bias = bias_gradient(grad_output) if wants_bias else None
    over_dy = turned(window) if groups == 1 and are_compiled(x, grad_output) else None
    # Without padding the output may be much smaller, and so are products with dy.
    few = math.prod(x.shape[2:]) <= MOST_PIXELS * math.prod(grad_output.shape[2:])
    if wants_x and over_dy and few:
        dy, pixels = _channels_first(grad_output), _channels_first(x) if wants_weight else None
        return *_from_columns_of_dy(dy, pixels, weight, over_dy, x.shape[2:]), grad_bias
    return (
        input_gradient(grad_output, weight, x.shape, window, groups) if wants_x else None,
        weight_gradient(grad_output, x, weight, window, groups) if wants_weight else None,
        grad_bias,
    )


def _from_columns_of_dy(
    dy: np.ndarray, x: np.ndarray | None, weight: np.ndarray, window: Window, size: Pair
) -> tuple[np.ndarray, np.ndarray | None]:
    """``dx``, and with an ``x`` also ``dW``, from the same columns: those of dy at input pixels.

    With stride 1, output q - k reads input pixel q at kernel position k. So dx is the convolution
    of dy with the weights rotated by 180 degrees, and the products of x with these columns are dW,
    rotated as well.
    """
    O, C, *kernel = weight.shape
    matrix = weight[:, :, ::-1, ::-1].swapaxes(0, 1).reshape(C, -1)
    grad_x, gradient = pass_over(dy, window, size, matrix=matrix, other=x)
    if x is None:
        return _samples_first(grad_x), None
    return _samples_first(grad_x), gradient.reshape(C, O, *kernel).swapaxes(0, 1)[:, :, ::-1, ::-1]


def input_gradient(
    grad_output: np.ndarray,
    weight: np.ndarray,
    shape: tuple[int, ...],
    window: Window,
    groups: int,
) -> np.ndarray:
    """``dx = col2im(W^T dy)`` for an input of ``shape``: the transposed convolution of dy."""
    dy = _channels_first(grad_output)
    if groups == 1 and are_compiled(dy, weight):
        matrix = np.ascontiguousarray(weight).reshape(len(weight), -1)
        if window.is_point(shape[2:], dy.shape[2:]):
            matrix = np.ascontiguousarray(matrix.T)
            return _samples_first(pass_over(dy, window, dy.shape[2:], matrix=matrix)[0])
        image = scattered(dy, matrix, window, (shape[1], shape[0], *shape[2:]))
        return _samples_first(image)
    matrices = _weight_matrices(weight, groups).swapaxes(1, 2)
    by_group = dy.reshape(groups, dy.shape[0] // groups, -1)
    grad_x = np.zeros((shape[1], shape[0], *shape[2:]), dy.dtype)
    if window.is_point(shape[2:], dy.shape[2:]):
        np.matmul(matrices, by_group, out=grad_x.reshape(groups, shape[1] // groups, -1))
        return _samples_first(grad_x)
    width = dy.shape[3]
    for first, end in _row_blocks(grad_x, window, dy.shape[1] * dy.shape[2], width):
        columns = _buffer((shape[1], window.kernel[0] * window.kernel[1], end - first, width), dy)
        part = by_group[:, :, first * width : end * width]
        np.matmul(matrices, part, out=columns.reshape(groups, -1, part.shape[2]))
        col2im(columns, grad_x, window, dy.shape[2:], (first, end))
    return _samples_first(grad_x)


def weight_gradient(
    grad_output: np.ndarray, x: np.ndarray, weight: np.ndarray, window: Window, groups: int
) -> np.ndarray:
    """``dW = dy columns^T``, in the shape of ``weight``."""
    dy = _channels_first(grad_output)
    if groups == 1 and are_compiled(x, dy):
        _, gradient = pass_over(_channels_first(x), window, dy.shape[2:], other=dy)
        return gradient.reshape(weight.shape)
    by_group = dy.reshape(groups, dy.shape[0] // groups, -1)
    gradient = np.zeros(_weight_matrices(weight, groups).shape, x.dtype)
    for first, columns in _blocks(_channels_first(x), window, dy.shape[2:], groups):
        dy_here = by_group[:, :, first : first + columns.shape[2]]
        gradient += np.matmul(dy_here, columns.swapaxes(1, 2))
    return gradient.reshape(weight.shape)


def bias_gradient(grad_output: np.ndarray) -> np.ndarray:
    """``db``, the sum of dy over all positions."""
    if not are_compiled(grad_output):
        return np.asarray(grad_output.sum(axis=(0, 2, 3)))
    sums = np.empty(grad_output.shape[1], np.float32)
    row_sums(_channels_first(grad_output).reshape(-1), sums)
    return sums


def _blocks(
    x: np.ndarray, window: Window, output: tuple[int, ...], groups: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Start position of each block, and its columns of shape (G, K, positions)."""
    if window.is_point(x.shape[2:], output):
        yield 0, x.reshape(groups, x.shape[0] // groups, -1)
        return
    rows, width = output
    for first, end in _row_blocks(x, window, rows * x.shape[1], width):
        size = (x.shape[0], window.kernel[0] * window.kernel[1], end - first, width)
        columns = _buffer(size, x)
        im2col(x, columns, window, output, (first, end))
        yield first * width, columns.reshape(groups, -1, (end - first) * width)


def _row_blocks(x: np.ndarray, window: Window, rows: int, width: int) -> Iterator[tuple[int, int]]:
    """Start and end of blocks of rows, of roughly equal size, whose columns fit the cache.

    All blocks but the last have a multiple of 16 positions, if that is possible.
    """
    column = x.shape[0] * window.kernel[0] * window.kernel[1] * x.itemsize
    unit = LANES // math.gcd(LANES, width)
    most = max(1, max(COLUMN_BYTES // column, MIN_POSITIONS) // (width * unit))
    units = -(-rows // unit)
    count = -(-units // most)
    for block in range(count):
        end = (block + 1) * units // count
        yield block * units // count * unit, min(end * unit, rows)


_memory = threading.local()


def _buffer(shape: tuple[int, ...], like: np.ndarray) -> np.ndarray:
    """An array of this thread, the same memory at each call: fresh pages cost page faults."""
    size = int(np.prod(shape)) * like.itemsize
    held = getattr(_memory, "bytes", None)
    if held is None or held.size < size:
        held = _memory.bytes = np.empty(max(size, COLUMN_BYTES), np.uint8)
    return held[:size].view(like.dtype).reshape(shape)


def _weight_matrices(weight: np.ndarray, groups: int) -> np.ndarray:
    """Weights of shape (G, O / G, K)."""
    return np.ascontiguousarray(weight).reshape(groups, len(weight) // groups, -1)


def _channels_first(x: np.ndarray) -> np.ndarray:
    """(N, C, H, W) as contiguous (C, N, H, W); copies only if the memory order differs."""
    return np.ascontiguousarray(x.swapaxes(0, 1))


def _samples_first(y: np.ndarray) -> np.ndarray:
    """A view of (C, N, H, W) as (N, C, H, W)."""
    return y.swapaxes(0, 1)
