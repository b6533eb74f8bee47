"""Convolution as im2col followed by a matrix product.

N samples, C input channels, O output channels, G groups, P = OH * OW output positions.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastcnn.backends.geometry import ALL, Mask, Padding, Pair, conv_output_size
from fastcnn.backends.im2col.columns import col2im, im2col

#: Bytes of columns that are held at a time; larger batches are done in parts.
COLUMN_BYTES = 32 * 2**20


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """``y = W columns + b``, one product for each sample and group."""
    x = np.ascontiguousarray(x)
    rows, width = (
        conv_output_size(x.shape[2 + a], weight.shape[2 + a], stride[a], padding[a], dilation[a])
        for a in (0, 1)
    )
    output = (rows, width)
    matrix = _weight_matrix(weight, groups)
    y = np.empty((len(x), len(weight), *output), x.dtype)
    for part in _parts(x, weight, output):
        columns = _columns(x[part], weight, output, stride, padding, dilation, groups)
        np.matmul(matrix, columns, out=_by_group(y[part], groups))
    if bias is not None:
        y += bias[:, None, None]
    return y


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
    """``dW = dy columns^T``, ``dx = col2im(W^T dy)``, ``db`` the sum of dy over all positions."""
    arguments = (stride, padding, dilation, groups)
    wants_x, wants_weight, wants_bias = output_mask
    return (
        input_gradient(grad_output, weight, x.shape, *arguments) if wants_x else None,
        weight_gradient(grad_output, x, weight, *arguments) if wants_weight else None,
        grad_output.sum(axis=(0, 2, 3)) if wants_bias else None,
    )


def input_gradient(
    grad_output: np.ndarray,
    weight: np.ndarray,
    shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """``dx = col2im(W^T dy)`` for an input of ``shape``: the transposed convolution of dy."""
    grad_output = np.ascontiguousarray(grad_output)
    kernel = (weight.shape[2], weight.shape[3])
    output = (grad_output.shape[2], grad_output.shape[3])
    matrix = _weight_matrix(weight, groups).swapaxes(1, 2)
    grad_x = np.empty(shape, grad_output.dtype)
    for part in _parts(grad_x, weight, output):
        grad_columns = np.matmul(matrix, _by_group(grad_output[part], groups))
        if _is_pointwise(kernel, stride, padding):
            grad_x[part] = grad_columns.reshape(grad_x[part].shape)
        else:
            columns = (len(grad_columns), shape[1], kernel[0] * kernel[1], *output)
            grad_x[part] = col2im(
                grad_columns.reshape(columns), grad_x[part].shape, kernel, stride, padding, dilation
            )
    return grad_x


def weight_gradient(
    grad_output: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """``dW = dy columns^T``, in the shape of ``weight``."""
    x = np.ascontiguousarray(x)
    grad_output = np.ascontiguousarray(grad_output)
    output = (grad_output.shape[2], grad_output.shape[3])
    gradient = np.zeros(_weight_matrix(weight, groups).shape, x.dtype)
    for part in _parts(x, weight, output):
        columns = _columns(x[part], weight, output, stride, padding, dilation, groups)
        dy = _by_group(grad_output[part], groups)
        gradient += np.matmul(dy, columns.swapaxes(2, 3)).sum(axis=0)
    return gradient.reshape(weight.shape)


def _columns(
    x: np.ndarray,
    weight: np.ndarray,
    output: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Columns of shape (N, G, C / G * KH * KW, P); a 1x1 kernel needs no copy."""
    kernel = (weight.shape[2], weight.shape[3])
    if not _is_pointwise(kernel, stride, padding):
        x = im2col(x, kernel, output, stride, padding, dilation)
    return x.reshape(len(x), groups, -1, output[0] * output[1])


def _is_pointwise(kernel: Pair, stride: Pair, padding: Padding) -> bool:
    return kernel == stride == (1, 1) and padding == ((0, 0), (0, 0))


def _weight_matrix(weight: np.ndarray, groups: int) -> np.ndarray:
    """Weights of shape (G, O / G, C / G * KH * KW)."""
    return np.ascontiguousarray(weight).reshape(groups, len(weight) // groups, -1)


def _by_group(y: np.ndarray, groups: int) -> np.ndarray:
    """A view of (N, O, OH, OW) as (N, G, O / G, P)."""
    return y.reshape(len(y), groups, y.shape[1] // groups, -1)


def _parts(x: np.ndarray, weight: np.ndarray, output: Pair) -> Iterator[slice]:
    """Slices of the batch whose columns fit :data:`COLUMN_BYTES`."""
    sample = x.shape[1] * weight.shape[2] * weight.shape[3] * output[0] * output[1] * x.itemsize
    size = max(1, COLUMN_BYTES // sample)
    for start in range(0, len(x), size):
        yield slice(start, start + size)
