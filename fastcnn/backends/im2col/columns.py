"""im2col and its adjoint col2im: gather windows into columns, scatter columns onto images.

N samples, C channels, (H, W) image, (KH, KW) kernel, (OH, OW) output map.
"""

import numpy as np

from fastcnn.backends.geometry import Padding, Pair
from fastcnn.codegen import compiled


@compiled("real[:,:,:,:]", "out real[:,:,:,:,:]", *["int64"] * 8)
def _gather(
    x: np.ndarray,
    columns: np.ndarray,
    KH: int,
    KW: int,
    stride_h: int,
    stride_w: int,
    top: int,
    left: int,
    dilation_h: int,
    dilation_w: int,
) -> None:
    N, C, H, W = x.shape
    OH, OW = columns.shape[3], columns.shape[4]
    for n in range(N):
        for c in range(C):
            for k in range(KH * KW):
                kh, kw = k // KW, k % KW
                for i in range(OH):
                    h = i * stride_h + kh * dilation_h - top
                    row = columns[n, c, k, i]
                    if h < 0 or h >= H:
                        row[:] = 0
                        continue
                    for j in range(OW):
                        w = j * stride_w + kw * dilation_w - left
                        row[j] = x[n, c, h, w] if 0 <= w < W else 0


@compiled("real[:,:,:,:,:]", "out real[:,:,:,:]", *["int64"] * 8)
def _scatter(
    columns: np.ndarray,
    x: np.ndarray,
    KH: int,
    KW: int,
    stride_h: int,
    stride_w: int,
    top: int,
    left: int,
    dilation_h: int,
    dilation_w: int,
) -> None:
    N, C, H, W = x.shape
    OH, OW = columns.shape[3], columns.shape[4]
    for n in range(N):
        for c in range(C):
            for k in range(KH * KW):
                kh, kw = k // KW, k % KW
                for i in range(OH):
                    h = i * stride_h + kh * dilation_h - top
                    if h < 0 or h >= H:
                        continue
                    for j in range(OW):
                        w = j * stride_w + kw * dilation_w - left
                        if 0 <= w < W:
                            x[n, c, h, w] += columns[n, c, k, i, j]


def im2col(
    x: np.ndarray, kernel: Pair, output: Pair, stride: Pair, padding: Padding, dilation: Pair
) -> np.ndarray:
    """Windows of ``x`` as columns, shape (N, C, KH * KW, OH, OW); zeros outside the image."""
    columns = np.empty((*x.shape[:2], kernel[0] * kernel[1], *output), x.dtype)
    _gather(x, columns, *kernel, *stride, padding[0][0], padding[1][0], *dilation)
    return columns


def col2im(
    columns: np.ndarray,
    shape: tuple[int, ...],
    kernel: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
) -> np.ndarray:
    """The adjoint of :func:`im2col`: every column element is added to the pixel it came from."""
    x = np.zeros(shape, columns.dtype)
    _scatter(columns, x, *kernel, *stride, padding[0][0], padding[1][0], *dilation)
    return x
