"""Transposed convolution: the input gradient of a convolution as an operation of its own."""

import numpy as np

from fastcnn.backends.geometry import Padding, Pair, conv_transpose_output
from fastcnn.backends.im2col.columns import Window
from fastcnn.backends.im2col.conv import bias_gradient, conv2d, input_gradient, weight_gradient
from fastcnn.backends.one_row import on_sequences


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
    """``y = col2im(W^T x) + b``."""
    window = Window(weight.shape[2:], stride, padding, dilation)
    size = conv_transpose_output(x.shape[2:], *window, output_padding)
    shape = (len(x), weight.shape[1] * groups, *size)
    y = input_gradient(x, weight, shape, window, groups)
    if bias is not None:
        y += bias[:, None, None]
    return y


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
    """``dx`` is the convolution of dy; ``dw`` is its weight gradient, with dy as the input."""
    window = Window(weight.shape[2:], stride, padding, dilation)
    # Output rows added by output padding alone are beyond the last window.
    return (
        conv2d(grad_output, weight, None, *window[1:], groups)[:, :, : x.shape[2], : x.shape[3]],
        weight_gradient(x, grad_output, weight, window, groups),
        bias_gradient(grad_output),
    )
