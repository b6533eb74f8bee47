"""Max and average pooling, adaptive or not, in nested loops."""

import numpy as np

from fastcnn.backends.geometry import (
    AdaptiveSize,
    Pair,
    adaptive_output,
    adaptive_windows,
    pool_output,
)
from fastcnn.backends.one_row import on_sequences

#: By output pixel, the pixels of its window inside the image, in row-major order.
Windows = dict[Pair, list[Pair]]
#: By output pixel, the divisor of its window's sum.
Divisors = dict[Pair, int]


@on_sequences
def max_pool2d(
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair = (1, 1),
    ceil_mode: bool = False,
) -> np.ndarray:
    """Maximum over each window; padding never wins."""
    return _maxima(x, _windows(x, kernel_size, stride, padding, dilation, ceil_mode))


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
    """The whole gradient of a window goes to its maximum."""
    windows = _windows(x, kernel_size, stride, padding, dilation, ceil_mode)
    return _to_winners(grad_output, x, windows)


@on_sequences
def adaptive_max_pool2d(x: np.ndarray, output_size: AdaptiveSize) -> np.ndarray:
    """Maximum over windows that divide the map evenly among the output's pixels."""
    return _maxima(x, _adaptive_windows(x, output_size))


@on_sequences
def adaptive_max_pool2d_backward(
    grad_output: np.ndarray, x: np.ndarray, output_size: AdaptiveSize
) -> np.ndarray:
    """The whole gradient of a window goes to its maximum."""
    return _to_winners(grad_output, x, _adaptive_windows(x, output_size))


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
    """Mean over each window, with zeros in the padding."""
    windows = _windows(x, kernel_size, stride, padding, (1, 1), ceil_mode)
    sides = (kernel_size, stride, padding)
    return _means(x, windows, _divisors(x, windows, sides, count_include_pad, divisor_override))


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
    """The gradient of a window is spread evenly over its pixels."""
    windows = _windows(x, kernel_size, stride, padding, (1, 1), ceil_mode)
    sides = (kernel_size, stride, padding)
    divisors = _divisors(x, windows, sides, count_include_pad, divisor_override)
    return _spread(grad_output, x, windows, divisors)


@on_sequences
def adaptive_avg_pool2d(x: np.ndarray, output_size: AdaptiveSize) -> np.ndarray:
    """Mean over windows that divide the map evenly among the output's pixels."""
    windows = _adaptive_windows(x, output_size)
    return _means(x, windows, {pixel: len(window) for pixel, window in windows.items()})


@on_sequences
def adaptive_avg_pool2d_backward(
    grad_output: np.ndarray, x: np.ndarray, output_size: AdaptiveSize
) -> np.ndarray:
    """The gradient of each window is spread evenly over its pixels."""
    windows = _adaptive_windows(x, output_size)
    divisors = {pixel: len(window) for pixel, window in windows.items()}
    return _spread(grad_output, x, windows, divisors)


def _windows(
    x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Windows:
    H, W = x.shape[2:]
    windows: Windows = {}
    for i, j in np.ndindex(pool_output((H, W), kernel_size, stride, padding, dilation, ceil_mode)):
        windows[i, j] = []
        for kh, kw in np.ndindex(kernel_size):
            h = i * stride[0] + kh * dilation[0] - padding[0]
            w = j * stride[1] + kw * dilation[1] - padding[1]
            if 0 <= h < H and 0 <= w < W:
                windows[i, j].append((h, w))
    return windows


def _adaptive_windows(x: np.ndarray, output_size: AdaptiveSize) -> Windows:
    size = x.shape[2:]
    rows, columns = map(adaptive_windows, size, adaptive_output(size, output_size))
    return {
        (i, j): [(h, w) for h in range(top, bottom) for w in range(left, right)]
        for i, (top, bottom) in enumerate(rows)
        for j, (left, right) in enumerate(columns)
    }


def _divisors(
    x: np.ndarray,
    windows: Windows,
    sides: tuple[Pair, Pair, Pair],
    count_include_pad: bool,
    override: int | None,
) -> Divisors:
    found: Divisors = {}
    for pixel, window in windows.items():
        found[pixel] = len(window) if override is None else override
        if override is None and count_include_pad:
            found[pixel] = 1
            for place, size, kernel, stride, padding in zip(
                pixel, x.shape[2:], *sides, strict=True
            ):
                first = place * stride - padding
                # Rows after the padding, which ceil_mode may reach, do not count.
                found[pixel] *= min(first + kernel, size + padding) - first
    return found


def _empty_output(x: np.ndarray, windows: Windows) -> np.ndarray:
    rows, columns = max(windows)
    return np.empty((*x.shape[:2], rows + 1, columns + 1), x.dtype)


def _maxima(x: np.ndarray, windows: Windows) -> np.ndarray:
    y = _empty_output(x, windows)
    for n, c in np.ndindex(x.shape[:2]):
        for pixel, window in windows.items():
            y[n, c][pixel] = x[n, c][_winner(x[n, c], window)]
    return y


def _to_winners(grad_output: np.ndarray, x: np.ndarray, windows: Windows) -> np.ndarray:
    grad_x = np.zeros(x.shape)
    for n, c in np.ndindex(x.shape[:2]):
        for pixel, window in windows.items():
            grad_x[n, c][_winner(x[n, c], window)] += float(grad_output[n, c][pixel])
    return grad_x.astype(x.dtype)


def _means(x: np.ndarray, windows: Windows, divisors: Divisors) -> np.ndarray:
    y = _empty_output(x, windows)
    for n, c in np.ndindex(x.shape[:2]):
        for pixel, window in windows.items():
            y[n, c][pixel] = sum(float(x[n, c][place]) for place in window) / divisors[pixel]
    return y


def _spread(
    grad_output: np.ndarray, x: np.ndarray, windows: Windows, divisors: Divisors
) -> np.ndarray:
    grad_x = np.zeros(x.shape)
    for n, c in np.ndindex(x.shape[:2]):
        for pixel, window in windows.items():
            for place in window:
                grad_x[n, c][place] += float(grad_output[n, c][pixel]) / divisors[pixel]
    return grad_x.astype(x.dtype)


def _winner(image: np.ndarray, pixels: list[Pair]) -> Pair:
    """The first pixel that holds the maximum; a NaN beats every number."""
    best = pixels[0]
    for pixel in pixels[1:]:
        value, largest = image[pixel], image[best]
        if value > largest or (np.isnan(value) and not np.isnan(largest)):
            best = pixel
    return best
