"""Convolution in nested loops.

N samples, C input channels, O output channels, (KH, KW) kernel, (OH, OW) output map.
Sums are kept in Python floats (float64), whatever the type of the arrays.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastcnn.backends.geometry import ALL, Mask, Padding, Pair, conv_output, masked
from fastcnn.backends.one_row import on_sequences


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
    """``y[n, o, i, j] = b[o] + sum over c, kh, kw of w[o, c, kh, kw] * x[n, c, h, w]``.

    ``h = i * stride + kh * dilation - top`` and ``w`` likewise; ``x`` is 0 outside the image.
    """
    N = len(x)
    O, CG, KH, KW = weight.shape
    OH, OW = conv_output(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    y = np.zeros((N, O, OH, OW), x.dtype)
    for n in range(N):
        for o in range(O):
            first = (o // (O // groups)) * CG
            for i in range(OH):
                for j in range(OW):
                    total = 0.0 if bias is None else float(bias[o])
                    for kh, kw, h, w in taps(i, j, x, KH, KW, stride, padding, dilation):
                        for c in range(CG):
                            total += float(weight[o, c, kh, kw]) * float(x[n, first + c, h, w])
                    y[n, o, i, j] = total
    return y


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
    """Each product of the forward sum sends its gradient to its two factors.

    ``dw[o, c, kh, kw] += dy[n, o, i, j] * x[n, c, h, w]``,
    ``dx[n, c, h, w] += dy[n, o, i, j] * w[o, c, kh, kw]``, ``db[o] += dy[n, o, i, j]``.
    """
    N = len(x)
    O, CG, KH, KW = weight.shape
    OH, OW = grad_output.shape[2:]
    grad_x = np.zeros(x.shape)
    grad_weight = np.zeros(weight.shape)
    grad_bias = np.zeros(O)
    wants_x, wants_weight, wants_bias = output_mask
    for n in range(N):
        for o in range(O):
            first = (o // (O // groups)) * CG
            for i in range(OH):
                for j in range(OW):
                    dy = float(grad_output[n, o, i, j])
                    if wants_bias:
                        grad_bias[o] += dy
                    if not (wants_x or wants_weight):
                        continue
                    for kh, kw, h, w in taps(i, j, x, KH, KW, stride, padding, dilation):
                        for c in range(CG):
                            if wants_weight:
                                grad_weight[o, c, kh, kw] += dy * float(x[n, first + c, h, w])
                            if wants_x:
                                grad_x[n, first + c, h, w] += dy * float(weight[o, c, kh, kw])
    return masked(
        output_mask, grad_x.astype(x.dtype), grad_weight.astype(x.dtype), grad_bias.astype(x.dtype)
    )


def taps(
    i: int, j: int, x: np.ndarray, KH: int, KW: int, stride: Pair, padding: Padding, dilation: Pair
) -> Iterator[tuple[int, int, int, int]]:
    """Kernel positions whose input pixel lies inside the image, with that pixel."""
    H, W = x.shape[2:]
    for kh in range(KH):
        for kw in range(KW):
            h = i * stride[0] + kh * dilation[0] - padding[0][0]
            w = j * stride[1] + kw * dilation[1] - padding[1][0]
            if 0 <= h < H and 0 <= w < W:
                yield kh, kw, h, w
