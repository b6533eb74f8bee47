"""Transposed convolution in nested loops.

N samples, C input channels, O output channels, (KH, KW) kernel, (H, W) input map. Sums are kept
in float64, whatever the dtype of the arrays.
"""

import numpy as np

from fastcnn.backends.geometry import Padding, Pair, conv_transpose_output
from fastcnn.backends.one_row import on_sequences
from fastcnn.backends.reference.conv import taps


@on_sequences
def conv_transpose2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Padding,
    output_padding: Pair,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Each input pixel is scattered: ``y[n, o, h, w] += x[n, c, i, j] * w[c, o, kh, kw]``.

    ``h = i * stride + kh * dilation - top`` and ``w`` likewise, where they are inside the output.
    """
    C, OG, KH, KW = weight.shape
    window = (weight.shape[2:], stride, padding, dilation, output_padding)
    y = np.zeros((len(x), OG * groups, *conv_transpose_output(x.shape[2:], *window)))
    if bias is not None:
        y += bias[:, None, None]
    for n, c, i, j in np.ndindex(x.shape):
        first = (c // (C // groups)) * OG
        for kh, kw, h, w in taps(i, j, y, KH, KW, stride, padding, dilation):
            for o in range(OG):
                y[n, first + o, h, w] += float(x[n, c, i, j]) * float(weight[c, o, kh, kw])
    return y.astype(x.dtype)


@on_sequences
def conv_transpose2d_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stride: Pair,
    padding: Padding,
    output_padding: Pair,
    dilation: Pair,
    groups: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each product of the forward sum passes its gradient to its two factors.

    ``dw[c, o, kh, kw] += dy[n, o, h, w] * x[n, c, i, j]``,
    ``dx[n, c, i, j] += dy[n, o, h, w] * w[c, o, kh, kw]``, ``db[o] += dy[n, o, h, w]``.
    """
    C, OG, KH, KW = weight.shape
    grad_x, grad_weight = np.zeros(x.shape), np.zeros(weight.shape)
    for n, c, i, j in np.ndindex(x.shape):
        first = (c // (C // groups)) * OG
        for kh, kw, h, w in taps(i, j, grad_output, KH, KW, stride, padding, dilation):
            for o in range(OG):
                dy = float(grad_output[n, first + o, h, w])
                grad_weight[c, o, kh, kw] += dy * float(x[n, c, i, j])
                grad_x[n, c, i, j] += dy * float(weight[c, o, kh, kw])
    grad_bias = grad_output.sum(axis=(0, 2, 3), dtype=np.float64)
    return grad_x.astype(x.dtype), grad_weight.astype(x.dtype), grad_bias.astype(x.dtype)
