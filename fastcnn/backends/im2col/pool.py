"""Max and average pooling, one pass over the windows."""

import numpy as np

from fastcnn.backends.geometry import Pair, pool_output_size
from fastcnn.codegen import compiled, linked

#: Kinds of a kernel's size, its stride and the padding before the first row and column.
WINDOW = ("int64",) * 6


@linked
def _winner(image: np.ndarray, h0: int, h1: int, w0: int, w1: int) -> tuple[int, int]:
    best_h, best_w = h0, w0
    best = image[h0, w0]
    for h in range(h0, h1):
        for w in range(w0, w1):
            value = image[h, w]
            if value > best or (value != value and best == best):
                best, best_h, best_w = value, h, w
    return best_h, best_w


@compiled("real[:,:,:,:]", "out real[:,:,:,:]", *WINDOW)
def _max_forward(
    x: np.ndarray,
    y: np.ndarray,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    top: int,
    left: int,
) -> None:
    N, C, H, W = x.shape
    for n in range(N):
        for c in range(C):
            for i in range(y.shape[2]):
                h0 = i * stride_h - top
                for j in range(y.shape[3]):
                    w0 = j * stride_w - left
                    h, w = _winner(
                        x[n, c],
                        max(h0, 0),
                        min(h0 + kernel_h, H),
                        max(w0, 0),
                        min(w0 + kernel_w, W),
                    )
                    y[n, c, i, j] = x[n, c, h, w]


@compiled("real[:,:,:,:]", "real[:,:,:,:]", "out real[:,:,:,:]", *WINDOW)
def _max_backward(
    dy: np.ndarray,
    x: np.ndarray,
    dx: np.ndarray,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    top: int,
    left: int,
) -> None:
    N, C, H, W = x.shape
    for n in range(N):
        for c in range(C):
            for i in range(dy.shape[2]):
                h0 = i * stride_h - top
                for j in range(dy.shape[3]):
                    w0 = j * stride_w - left
                    h, w = _winner(
                        x[n, c],
                        max(h0, 0),
                        min(h0 + kernel_h, H),
                        max(w0, 0),
                        min(w0 + kernel_w, W),
                    )
                    dx[n, c, h, w] += dy[n, c, i, j]


@compiled("real[:,:,:,:]", "out real[:,:,:,:]", *WINDOW, "bool")
def _average_forward(
    x: np.ndarray,
    y: np.ndarray,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    top: int,
    left: int,
    count_include_pad: bool,
) -> None:
    N, C, H, W = x.shape
    for n in range(N):
        for c in range(C):
            for i in range(y.shape[2]):
                start = i * stride_h - top
                h0, h1 = max(start, 0), min(start + kernel_h, H)
                for j in range(y.shape[3]):
                    start = j * stride_w - left
                    w0, w1 = max(start, 0), min(start + kernel_w, W)
                    divisor = kernel_h * kernel_w
                    if not count_include_pad:
                        divisor = (h1 - h0) * (w1 - w0)
                    total = x.dtype.type(0)
                    for h in range(h0, h1):
                        for w in range(w0, w1):
                            total += x[n, c, h, w]
                    y[n, c, i, j] = total / divisor


@compiled("real[:,:,:,:]", "out real[:,:,:,:]", *WINDOW, "bool")
def _average_backward(
    dy: np.ndarray,
    dx: np.ndarray,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    top: int,
    left: int,
    count_include_pad: bool,
) -> None:
    N, C, H, W = dx.shape
    for n in range(N):
        for c in range(C):
            for i in range(dy.shape[2]):
                start = i * stride_h - top
                h0, h1 = max(start, 0), min(start + kernel_h, H)
                for j in range(dy.shape[3]):
                    start = j * stride_w - left
                    w0, w1 = max(start, 0), min(start + kernel_w, W)
                    divisor = kernel_h * kernel_w
                    if not count_include_pad:
                        divisor = (h1 - h0) * (w1 - w0)
                    share = dy[n, c, i, j] / divisor
                    for h in range(h0, h1):
                        for w in range(w0, w1):
                            dx[n, c, h, w] += share


def max_pool2d(x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """Maximum over each window; of equal values the first wins, NaN beats every number."""
    y = np.empty(_output_shape(x, kernel_size, stride, padding), x.dtype)
    _max_forward(np.ascontiguousarray(x), y, *kernel_size, *stride, *padding)
    return y


def max_pool2d_backward(
    grad_output: np.ndarray, x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """The gradient of each window goes to its winner, found again from ``x``."""
    grad_x = np.zeros(x.shape, x.dtype)
    dy, x = grad_output, x
    _max_backward(dy, x, grad_x, *kernel_size, *stride, *padding)
    return grad_x


def avg_pool2d(
    x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool
) -> np.ndarray:
    """Mean over each window."""
    y = np.empty(_output_shape(x, kernel_size, stride, padding), x.dtype)
    _average_forward(np.ascontiguousarray(x), y, *kernel_size, *stride, *padding, count_include_pad)
    return y


def avg_pool2d_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool,
) -> np.ndarray:
    """The gradient of each window is spread evenly over its pixels."""
    grad_x = np.zeros(x.shape, x.dtype)
    dy = np.ascontiguousarray(grad_output)
    _average_backward(dy, grad_x, *kernel_size, *stride, *padding, count_include_pad)
    return grad_x


def _output_shape(
    x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair
) -> tuple[int, int, int, int]:
    rows, columns = (
        pool_output_size(x.shape[2 + a], kernel_size[a], stride[a], padding[a]) for a in (0, 1)
    )
    return x.shape[0], x.shape[1], rows, columns
