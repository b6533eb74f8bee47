"""Transposed convolutions."""

from typing import Any

import numpy as np

from fastcnn.arguments import (
    as_array,
    as_count,
    as_optional,
    as_same_type,
    naming,
)
from fastcnn.backends.geometry import (
    IntOrPair,
    check_output_padding,
    conv_transpose_output,
    of_map,
    per_axis,
)
from fastcnn.errors import ShapeError
from fastcnn.operations.forms import Checked, axes_of, computed, gradient
from fastcnn.operations.products import PRODUCT
from fastcnn.operations.record import Operation, case

__all__ = [
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
]


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    output_padding: IntOrPair = 0,
    groups: int = 1,
    dilation: IntOrPair = 1,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Transposed convolution: the gradient of :func:`conv2d` with respect to its input.

    Parameters
    ----------
    x : array_like, shape (N, in_channels, H, W)
    weight : array_like, shape (in_channels, out_channels / groups, KH, KW)
    bias : array_like, shape (out_channels,), optional
    stride, dilation : int or (int, int)
    padding : int or (int, int)
        Rows and columns cropped from both sides of the output.
    output_padding : int or (int, int)
        Rows and columns added at the bottom and right, less than the stride or the dilation:
        selects one of the input sizes that the convolution maps to the same output size.
    groups : int
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, out_channels, OH, OW)
        ``OH = (H - 1) * stride - 2 * padding + dilation * (KH - 1) + output_padding + 1``.

    References
    ----------
    Dumoulin and Visin, arXiv:1603.07285, section 4; Zeiler et al., "Deconvolutional networks",
    CVPR 2010.
    """
    given = (stride, padding, output_padding, groups, dilation)
    return computed("conv_transpose2d", _transposed, backend, x, weight, bias, *given)


def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """:func:`conv_transpose2d` of sequences.

    Parameters
    ----------
    x : array_like, shape (N, in_channels, L)
    weight : array_like, shape (in_channels, out_channels / groups, K)
    bias : array_like, shape (out_channels,), optional
    stride, padding, output_padding, dilation : int
    groups, backend
        As for :func:`conv_transpose2d`.

    Returns
    -------
    ndarray, shape (N, out_channels, OL)
    """
    given = (stride, padding, output_padding, groups, dilation)
    return computed("conv_transpose1d", _transposed, backend, x, weight, bias, *given)


def _transposed(name: str, x: Any, weight: Any, bias: Any, *given: Any) -> Checked:
    stride, padding, output_padding, groups, dilation = given
    axes = axes_of(name)
    x = as_array(name, "x", x, 2 + axes)
    weight = as_same_type(name, x, "weight", weight, 2 + axes)
    groups = as_count(name, "groups", groups)
    if len(weight) != x.shape[1] or len(weight) % groups:
        raise ShapeError(
            f"{name}: weight of shape {weight.shape} takes {len(weight)} input channels in "
            f"{groups} groups, x of shape {x.shape} has {x.shape[1]}"
        )
    stride = per_axis(stride, f"{name}: stride", axes)
    padding = per_axis(padding, f"{name}: padding", axes, minimum=0)
    output_padding = per_axis(output_padding, f"{name}: output_padding", axes, minimum=0)
    dilation = per_axis(dilation, f"{name}: dilation", axes)
    check_output_padding(output_padding, stride, dilation)
    sides = tuple((size, size) for size in padding)
    with naming(f"{name}: x {x.shape} and weight {weight.shape}"):
        window = (weight.shape[2:], stride, sides, dilation, output_padding)
        sizes = conv_transpose_output(x.shape[2:], *window)
    channels = weight.shape[1] * groups
    arguments = {
        "bias": as_optional(name, x, "bias", bias, (channels,)),
        "stride": of_map(stride, 1),
        "padding": of_map(sides, (0, 0)),
        "output_padding": of_map(output_padding, 0),
        "dilation": of_map(dilation, 1),
        "groups": groups,
    }
    return Checked((x, weight), arguments, (len(x), channels, *sizes))


def conv_transpose2d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    output_padding: IntOrPair = 0,
    groups: int = 1,
    dilation: IntOrPair = 1,
    *,
    backend: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient of :func:`conv_transpose2d`.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray
    """
    given = (stride, padding, output_padding, groups, dilation)
    return gradient("conv_transpose2d", _transposed, backend, grad_output, x, weight, None, *given)


def conv_transpose1d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
    *,
    backend: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient of :func:`conv_transpose1d`.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray
    """
    given = (stride, padding, output_padding, groups, dilation)
    return gradient("conv_transpose1d", _transposed, backend, grad_output, x, weight, None, *given)


#: The operations of this file.
RECORDS = (
    Operation(
        "conv_transpose2d",
        **PRODUCT,
        any_layout=True,
        layers=(
            case("ConvTranspose2d", (2, 3, 4), 2, 3, 3, seed=5),
            case(
                "ConvTranspose2d",
                (4, 3, 2),
                4,
                2,
                (3, 2),
                stride=(2, 3),
                padding=(1, 0),
                output_padding=(1, 2),
                groups=2,
                dilation=(1, 2),
                seed=6,
            ),
            case("ConvTranspose1d", (2, 4), 2, 3, 3, stride=2, output_padding=1, seed=8),
        ),
    ),
)
