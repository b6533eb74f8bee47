"""Max and average pooling, one pass over the windows."""

from functools import lru_cache

import numpy as np

from fastcnn.backends.geometry import Pair, average_divisors, pool_output, pool_windows
from fastcnn.backends.im2col.columns import inside
from fastcnn.backends.im2col.memory import empty, empty_like, zeros_like
from fastcnn.backends.im2col.pairs import are_pairs, beats, max_pairs, max_pairs_backward
from fastcnn.backends.one_row import on_sequences
from fastcnn.codegen import compiled, linked

#: Argument types: first and last + 1 row of each window, and the same for columns.
WINDOWS = ("int64[:,:]", "int64[:,:]")


@linked
def _row_of_windows(
    x: np.ndarray,
    begin: int,
    i: int,
    best: np.ndarray,
    to: int,
    places: np.ndarray,
    numbers: tuple[int, ...],
) -> None:
    """Fill the maxima of one row of windows, from offset ``to`` on, and their places in the map."""
    H, W, _, OW, KH, KW, SH, SW, top, left, DH, DW = numbers
    for j in range(OW):
        places[j] = -1
    for k in range(KH * KW):
        h, w = i * SH + k // KW * DH - top, k % KW * DW - left
        if h < 0 or h >= H:
            continue
        first, end = inside(W, OW, SW, w)
        for j in range(np.uint64(first), np.uint64(end)):
            place = h * W + w + j * SW
            value = x[np.uint64(begin + place)]
            wins = (places[j] < 0) | beats(value, best[np.uint64(to + j)])
            best[np.uint64(to + j)] = value if wins else best[np.uint64(to + j)]
            places[j] = place if wins else places[j]


@compiled("real[:]", "out real[:]", "out int64[:]", "int64[:]")
def _max_rows(x: np.ndarray, y: np.ndarray, places: np.ndarray, numbers: np.ndarray) -> None:
    maps, H, W, OH, OW, KH, KW, SH, SW, top, left, DH, DW = numbers
    window = (H, W, OH, OW, KH, KW, SH, SW, top, left, DH, DW)
    for m in range(maps):
        for i in range(OH):
            _row_of_windows(x, m * H * W, i, y, (m * OH + i) * OW, places, window)


@compiled("real[:]", "real[:]", "out real[:]", "out real[:]", "out int64[:]", "int64[:]")
def _max_rows_backward(
    dy: np.ndarray,
    x: np.ndarray,
    dx: np.ndarray,
    best: np.ndarray,
    places: np.ndarray,
    numbers: np.ndarray,
) -> None:
    maps, H, W, OH, OW, KH, KW, SH, SW, top, left, DH, DW = numbers
    window = (H, W, OH, OW, KH, KW, SH, SW, top, left, DH, DW)
    for m in range(maps):
        for i in range(OH):
            at = (m * OH + i) * OW
            _row_of_windows(x, m * H * W, i, best, 0, places, window)
            for j in range(OW):
                dx[m * H * W + places[j]] += dy[at + j]


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


def _windows(
    size: tuple[int, ...], output: tuple[int, ...], kernel_size: Pair, stride: Pair, padding: Pair
) -> tuple[np.ndarray, np.ndarray]:
    """First and last + 1 row of each window, and the same for columns."""
    rows, columns = (
        np.array([(window.start, window.stop) for window in pool_windows(*axis)], np.int64)
        for axis in zip(size, output, kernel_size, stride, padding, strict=True)
    )
    return rows, columns


def _in_memory_order(x: np.ndarray) -> tuple[np.ndarray, bool]:
    """Maps in memory order, and whether samples and channels are exchanged.

    Convolutions return results ordered by channels, and pooling treats every map alike.
    """
    turned = not x.flags.c_contiguous and x.swapaxes(0, 1).flags.c_contiguous
    return np.ascontiguousarray(x.swapaxes(0, 1) if turned else x), turned


@on_sequences
def max_pool2d(
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair = (1, 1),
    ceil_mode: bool = False,
) -> np.ndarray:
    """Maximum over each window; the first of equal values wins, and NaN beats every number."""
    window = (kernel_size, stride, padding, dilation)
    output = pool_output(x.shape[2:], *window, ceil_mode)
    maps, turned = _in_memory_order(x)
    y = empty((*maps.shape[:2], *output), x.dtype)
    if are_pairs(maps, window, output):
        max_pairs(maps.reshape(-1), y.reshape(-1), _numbers(maps.shape, output))
    else:
        places, numbers = np.empty(output[1], np.int64), _numbers(maps.shape, output, *window)
        _max_rows(maps.reshape(-1), y.reshape(-1), places, numbers)
    return y.swapaxes(0, 1) if turned else y


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
    """Each window's gradient goes to its maximum, found again from ``x``."""
    maps, turned = _in_memory_order(x)
    dy = np.ascontiguousarray(grad_output.swapaxes(0, 1) if turned else grad_output)
    window, output = (kernel_size, stride, padding, dilation), dy.shape[2:]
    if are_pairs(maps, window, output):
        grad_x = empty_like(maps)
        numbers = _numbers(maps.shape, output)
        max_pairs_backward(dy.reshape(-1), maps.reshape(-1), grad_x.reshape(-1), numbers)
    else:
        grad_x = zeros_like(maps)
        numbers = _numbers(maps.shape, output, *window)
        scratch = np.empty(output[1], x.dtype), np.empty(output[1], np.int64)
        _max_rows_backward(dy.reshape(-1), maps.reshape(-1), grad_x.reshape(-1), *scratch, numbers)
    return grad_x.swapaxes(0, 1) if turned else grad_x


@lru_cache(maxsize=1024)
def _numbers(maps: tuple[int, ...], *pairs: tuple[int, ...]) -> np.ndarray:
    """The number of maps, their size, and the pairs of a pooling."""
    return np.array([maps[0] * maps[1], *maps[2:], *(n for pair in pairs for n in pair)])


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
    """Each window's gradient is spread evenly over its pixels."""
    window, size, output = (kernel_size, stride, padding), x.shape[2:], grad_output.shape[2:]
    divisors = average_divisors(size, output, *window, count_include_pad, divisor_override)
    grad_x = np.zeros(x.shape, x.dtype)
    windows = _windows(size, output, *window)
    _average_backward(np.ascontiguousarray(grad_output), grad_x, *windows, divisors)
    return grad_x
