"""Max and average pooling in nested loops."""

import numpy as np

from fastcnn.backends.geometry import Pair, pool_output
from fastcnn.backends.one_row import on_sequences


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
    windows = Windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    y = np.empty((*x.shape[:2], *windows.output), x.dtype)
    for n, c, i, j in np.ndindex(y.shape):
        y[n, c, i, j] = x[n, c][winner(x[n, c], windows.pixels(i, j))]
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
    """The whole gradient of a window goes to its winner."""
    windows = Windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    grad_x = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(grad_output.shape):
        place = winner(x[n, c], windows.pixels(i, j))
        grad_x[n, c][place] += float(grad_output[n, c, i, j])
    return grad_x.astype(x.dtype)


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
    windows = Windows(x.shape[2:], kernel_size, stride, padding, (1, 1), ceil_mode)
    y = np.empty((*x.shape[:2], *windows.output), x.dtype)
    for n, c, i, j in np.ndindex(y.shape):
        total = sum(float(x[n, c, h, w]) for h, w in windows.pixels(i, j))
        y[n, c, i, j] = total / windows.divisor(i, j, count_include_pad, divisor_override)
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
    """The gradient of a window is spread evenly over its pixels."""
    windows = Windows(x.shape[2:], kernel_size, stride, padding, (1, 1), ceil_mode)
    grad_x = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(grad_output.shape):
        divisor = windows.divisor(i, j, count_include_pad, divisor_override)
        for h, w in windows.pixels(i, j):
            grad_x[n, c, h, w] += float(grad_output[n, c, i, j]) / divisor
    return grad_x.astype(x.dtype)


class Windows:
    """The windows of a pooling over a map of some size."""

    def __init__(
        self,
        size: tuple[int, ...],
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        ceil_mode: bool,
    ) -> None:
        self.size = size
        self.kernel_size, self.stride = kernel_size, stride
        self.padding, self.dilation = padding, dilation
        self.output = pool_output(size, kernel_size, stride, padding, dilation, ceil_mode)

    def pixels(self, i: int, j: int) -> list[Pair]:
        """Pixels of one window that lie inside the image, in row-major order."""
        H, W = self.size
        found = []
        for kh in range(self.kernel_size[0]):
            for kw in range(self.kernel_size[1]):
                h = i * self.stride[0] + kh * self.dilation[0] - self.padding[0]
                w = j * self.stride[1] + kw * self.dilation[1] - self.padding[1]
                if 0 <= h < H and 0 <= w < W:
                    found.append((h, w))
        return found

    def divisor(self, i: int, j: int, count_include_pad: bool, override: int | None) -> int:
        """What the sum of one window is divided by."""
        if override is not None:
            return override
        if not count_include_pad:
            return len(self.pixels(i, j))
        divisor = 1
        for place, axis in ((i, 0), (j, 1)):
            first = place * self.stride[axis] - self.padding[axis]
            # Rows after the padding, which ceil_mode may reach, do not count.
            end = min(first + self.kernel_size[axis], self.size[axis] + self.padding[axis])
            divisor *= end - first
        return divisor


def winner(image: np.ndarray, pixels: list[Pair]) -> Pair:
    """The first pixel that holds the maximum; a NaN beats every number."""
    best = pixels[0]
    for pixel in pixels[1:]:
        value, largest = image[pixel], image[best]
        if value > largest or (np.isnan(value) and not np.isnan(largest)):
            best = pixel
    return best
