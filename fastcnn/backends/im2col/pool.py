"""Max and average pooling, one pass over the windows."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from fastcnn.backends.geometry import (
    AdaptiveSize,
    Pair,
    adaptive_output,
    adaptive_windows,
    average_divisors,
    pool_output,
    pool_windows,
)
from fastcnn.backends.one_row import on_sequences
from fastcnn.codegen import compiled, linked

#: Kinds of the windows' first and last + 1 row, the same of columns, and the steps within them.
WINDOWS = ("int64[:,:]", "int64[:,:]")
STEPS = ("int64", "int64")


@linked
def _winner(
    image: np.ndarray, h0: int, h1: int, w0: int, w1: int, down: int, along: int
) -> tuple[int, int]:
    best_h, best_w = h0, w0
    best = image[h0, w0]
    for h in range(h0, h1, down):
        for w in range(w0, w1, along):
            value = image[h, w]
            if value > best or (value != value and best == best):
                best, best_h, best_w = value, h, w
    return best_h, best_w


@compiled("real[:,:,:,:]", "out real[:,:,:,:]", *WINDOWS, *STEPS)
def _max_forward(
    x: np.ndarray,
    y: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    down: int,
    along: int,
) -> None:
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            for i in range(y.shape[2]):
                h0, h1 = rows[i, 0], rows[i, 1]
                for j in range(y.shape[3]):
                    w0, w1 = columns[j, 0], columns[j, 1]
                    h, w = _winner(x[n, c], h0, h1, w0, w1, down, along)
                    y[n, c, i, j] = x[n, c, h, w]


@compiled("real[:,:,:,:]", "real[:,:,:,:]", "out real[:,:,:,:]", *WINDOWS, *STEPS)
def _max_backward(
    dy: np.ndarray,
    x: np.ndarray,
    dx: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    down: int,
    along: int,
) -> None:
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            for i in range(dy.shape[2]):
                h0, h1 = rows[i, 0], rows[i, 1]
                for j in range(dy.shape[3]):
                    w0, w1 = columns[j, 0], columns[j, 1]
                    h, w = _winner(x[n, c], h0, h1, w0, w1, down, along)
                    dx[n, c, h, w] += dy[n, c, i, j]


@compiled("real[:,:,:,:]", "out real[:,:,:,:]", *WINDOWS, "int64[:,:]")
def _average_forward(
    x: np.ndarray, y: np.ndarray, rows: np.ndarray, columns: np.ndarray, divisors: np.ndarray
) -> None:
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            for i in range(y.shape[2]):
                for j in range(y.shape[3]):
                    total = x.dtype.type(0)
                    for h in range(rows[i, 0], rows[i, 1]):
                        for w in range(columns[j, 0], columns[j, 1]):
                            total += x[n, c, h, w]
                    y[n, c, i, j] = total / divisors[i, j]


@compiled("real[:,:,:,:]", "out real[:,:,:,:]", *WINDOWS, "int64[:,:]")
def _average_backward(
    dy: np.ndarray, dx: np.ndarray, rows: np.ndarray, columns: np.ndarray, divisors: np.ndarray
) -> None:
    for n in range(dx.shape[0]):
        for c in range(dx.shape[1]):
            for i in range(dy.shape[2]):
                for j in range(dy.shape[3]):
                    share = dy[n, c, i, j] / divisors[i, j]
                    for h in range(rows[i, 0], rows[i, 1]):
                        for w in range(columns[j, 0], columns[j, 1]):
                            dx[n, c, h, w] += share


def _ends(windows: Sequence[Any]) -> np.ndarray:
    """First and last + 1 row (or column) of each window."""
    if isinstance(windows[0], range):
        windows = [(window.start, window.stop) for window in windows]
    return np.array(windows, np.int64).reshape(-1, 2)


def _windows(
    size: tuple[int, ...],
    output: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair = (1, 1),
) -> tuple[np.ndarray, np.ndarray]:
    """The windows' rows and columns."""
    rows, columns = (
        _ends(pool_windows(*axis))
        for axis in zip(size, output, kernel_size, stride, padding, dilation, strict=True)
    )
    return rows, columns


def _taps(
    x: np.ndarray,
    windows: tuple[np.ndarray, np.ndarray],
    kernel_size: Pair,
    stride: Pair,
    dilation: Pair,
) -> list[np.ndarray]:
    """For each place in a window, its pixels in all windows, as views; none if some are cut off.

    Whole arrays at a time: loops over windows branch at every pixel, which costs ten times as much.
    """
    starts = [window[0, 0] for window in windows]
    counts = [len(window) for window in windows]
    for window, size, step in zip(windows, kernel_size, dilation, strict=True):
        if (window[:, 1] - window[:, 0] <= (size - 1) * step).any():
            return []

    def along(axis: int, place: int) -> slice:
        first = starts[axis] + place * dilation[axis]
        return slice(first, first + (counts[axis] - 1) * stride[axis] + 1, stride[axis])

    return [
        x[:, :, along(0, row), along(1, column)]
        for row in range(kernel_size[0])
        for column in range(kernel_size[1])
    ]


def _in_memory_order(x: np.ndarray) -> tuple[np.ndarray, bool]:
    """Maps as they follow each other in memory; whether that turns samples and channels.

    Convolutions give results ordered by channels, and pooling treats every map alike.
    """
    turned = not x.flags.c_contiguous and x.swapaxes(0, 1).flags.c_contiguous
    return np.ascontiguousarray(x.swapaxes(0, 1) if turned else x), turned


def _to_winners(grad_output: np.ndarray, x: np.ndarray, *windows: Any) -> np.ndarray:
    maps, turned = _in_memory_order(x)
    dy = np.ascontiguousarray(grad_output.swapaxes(0, 1) if turned else grad_output)
    grad_x = np.zeros_like(maps)
    _max_backward(dy, maps, grad_x, *windows)
    return grad_x.swapaxes(0, 1) if turned else grad_x


@on_sequences
def max_pool2d(
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair = (1, 1),
    ceil_mode: bool = False,
) -> np.ndarray:
    """Maximum over each window; of equal values the first wins, NaN beats every number."""
    window = (kernel_size, stride, padding, dilation)
    output = pool_output(x.shape[2:], *window, ceil_mode)
    windows = _windows(x.shape[2:], output, *window)
    taps = _taps(x, windows, kernel_size, stride, dilation)
    if taps:
        return reduce(np.maximum, taps)
    y = np.empty((*x.shape[:2], *output), x.dtype)
    _max_forward(np.ascontiguousarray(x), y, *windows, *dilation)
    return y


@on_sequences
def max_pool2d_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair = (1, 1),
    ceil_mode: bool = False,
) -> np.ndarray:
    """The gradient of each window goes to its winner, found again from ``x``."""
    windows = _windows(x.shape[2:], grad_output.shape[2:], kernel_size, stride, padding, dilation)
    return _to_winners(grad_output, x, *windows, *dilation)


@on_sequences
def adaptive_max_pool2d(x: np.ndarray, output_size: AdaptiveSize) -> np.ndarray:
    """Maximum over windows that share the map out over the output's pixels."""
    output = adaptive_output(x.shape[2:], output_size)
    y = np.empty((*x.shape[:2], *output), x.dtype)
    windows = map(_ends, map(adaptive_windows, x.shape[2:], output))
    _max_forward(np.ascontiguousarray(x), y, *windows, 1, 1)
    return y


@on_sequences
def adaptive_max_pool2d_backward(
    grad_output: np.ndarray, x: np.ndarray, output_size: AdaptiveSize
) -> np.ndarray:
    """The gradient of each window goes to its winner."""
    windows = map(_ends, map(adaptive_windows, x.shape[2:], grad_output.shape[2:]))
    return _to_winners(grad_output, x, *windows, 1, 1)


@on_sequences
def avg_pool2d(
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> np.ndarray:
    """Mean over each window."""
    window, size = (kernel_size, stride, padding), x.shape[2:]
    output = pool_output(size, *window, (1, 1), ceil_mode)
    divisors = average_divisors(size, output, *window, count_include_pad, divisor_override)
    y = np.empty((*x.shape[:2], *output), x.dtype)
    windows = _windows(size, output, *window)
    _average_forward(np.ascontiguousarray(x), y, *windows, divisors)
    return y


@on_sequences
def avg_pool2d_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> np.ndarray:
    """The gradient of each window is spread evenly over its pixels."""
    window, size, output = (kernel_size, stride, padding), x.shape[2:], grad_output.shape[2:]
    divisors = average_divisors(size, output, *window, count_include_pad, divisor_override)
    grad_x = np.zeros(x.shape, x.dtype)
    windows = _windows(size, output, *window)
    _average_backward(np.ascontiguousarray(grad_output), grad_x, *windows, divisors)
    return grad_x
