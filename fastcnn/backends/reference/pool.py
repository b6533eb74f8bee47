"""Max and average pooling in nested loops."""

from collections.abc import Iterator

import numpy as np

from fastcnn.backends.geometry import Pair, pool_output_size


def max_pool2d(x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """Maximum over each window; padding never wins."""
    y = np.empty(_output_shape(x, kernel_size, stride, padding), x.dtype)
    for n, c, i, j in np.ndindex(y.shape):
        h, w = _winner(x[n, c], i, j, kernel_size, stride, padding)
        y[n, c, i, j] = x[n, c, h, w]
    return y


def max_pool2d_backward(
    grad_output: np.ndarray, x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """The whole gradient of a window goes to its winner."""
    grad_x = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(grad_output.shape):
        h, w = _winner(x[n, c], i, j, kernel_size, stride, padding)
        grad_x[n, c, h, w] += float(grad_output[n, c, i, j])
    return grad_x.astype(x.dtype)


def avg_pool2d(
    x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool
) -> np.ndarray:
    """Mean over each window, with zeros in the padding."""
    y = np.empty(_output_shape(x, kernel_size, stride, padding), x.dtype)
    for n, c, i, j in np.ndindex(y.shape):
        pixels = list(_window(x[n, c], i, j, kernel_size, stride, padding))
        total = sum(float(x[n, c, h, w]) for h, w in pixels)
        y[n, c, i, j] = total / _divisor(x, i, j, kernel_size, stride, padding, count_include_pad)
    return y


def avg_pool2d_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool,
) -> np.ndarray:
    """The gradient of a window is spread evenly over its pixels."""
    grad_x = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(grad_output.shape):
        divisor = _divisor(x, i, j, kernel_size, stride, padding, count_include_pad)
        for h, w in _window(x[n, c], i, j, kernel_size, stride, padding):
            grad_x[n, c, h, w] += float(grad_output[n, c, i, j]) / divisor
    return grad_x.astype(x.dtype)


def _output_shape(
    x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair
) -> tuple[int, int, int, int]:
    rows, columns = (
        pool_output_size(x.shape[2 + a], kernel_size[a], stride[a], padding[a]) for a in (0, 1)
    )
    return x.shape[0], x.shape[1], rows, columns


def _window(
    image: np.ndarray, i: int, j: int, kernel_size: Pair, stride: Pair, padding: Pair
) -> Iterator[Pair]:
    """Pixels of one window that lie inside the image, in row-major order."""
    H, W = image.shape
    for kh in range(kernel_size[0]):
        for kw in range(kernel_size[1]):
            h = i * stride[0] + kh - padding[0]
            w = j * stride[1] + kw - padding[1]
            if 0 <= h < H and 0 <= w < W:
                yield h, w


def _winner(
    image: np.ndarray, i: int, j: int, kernel_size: Pair, stride: Pair, padding: Pair
) -> Pair:
    """The first pixel that holds the maximum; a NaN beats every number."""
    pixels = _window(image, i, j, kernel_size, stride, padding)
    best = next(pixels)
    for pixel in pixels:
        value, largest = image[pixel], image[best]
        if value > largest or (np.isnan(value) and not np.isnan(largest)):
            best = pixel
    return best


def _divisor(
    x: np.ndarray,
    i: int,
    j: int,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool,
) -> int:
    if count_include_pad:
        return kernel_size[0] * kernel_size[1]
    return sum(1 for _ in _window(x[0, 0], i, j, kernel_size, stride, padding))
