"""Convolution in nested loops.

N samples, C input channels, O output channels, (KH, KW) kernel, (OH, OW) output map.
Sums are kept in Python floats (float64), whatever the dtype of the arrays.
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
    O, CG, KH, KW = weight.shape
    output = conv_output(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    y = np.zeros((len(x), O, *output), x.dtype)
    for n, o, i, j in np.ndindex(y.shape):
        first = (o // (O // groups)) * CG
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
    """Each product of the forward sum passes its gradient to its two factors.

    ``dw[o, c, kh, kw] += dy[n, o, i, j] * x[n, c, h, w]``,
    ``dx[n, c, h, w] += dy[n, o, i, j] * w[o, c, kh, kw]``, ``db[o] += dy[n, o, i, j]``.
    """
    O, CG, KH, KW = weight.shape
    grad_x, grad_weight, grad_bias = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(O)
    for n, o, i, j in np.ndindex(grad_output.shape):
        first = (o // (O // groups)) * CG
        dy = float(grad_output[n, o, i, j])
        grad_bias[o] += dy
        for kh, kw, h, w in taps(i, j, x, KH, KW, stride, padding, dilation):
            for c in range(CG):
                grad_weight[o, c, kh, kw] += dy * float(x[n, first + c, h, w])
                grad_x[n, first + c, h, w] += dy * float(weight[o, c, kh, kw])
    made = (grad.astype(x.dtype) for grad in (grad_x, grad_weight, grad_bias))
    return masked(output_mask, *made)


def taps(
    i: int, j: int, x: np.ndarray, KH: int, KW: int, stride: Pair, padding: Padding, dilation: Pair
) -> Iterator[tuple[int, int, int, int]]:
    """Kernel positions whose input pixel is inside the image, with that pixel."""
    H, W = x.shape[2:]
    for kh, kw in np.ndindex(KH, KW):
        h = i * stride[0] + kh * dilation[0] - padding[0][0]
        w = j * stride[1] + kw * dilation[1] - padding[1][0]
        if 0 <= h < H and 0 <= w < W:
            yield kh, kw, h, w
