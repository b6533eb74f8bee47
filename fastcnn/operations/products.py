"""Convolutions and linear layers: products with weights."""

from typing import Any

import numpy as np

from fastcnn.arguments import (
    as_array,
    as_flag,
    as_gradient,
    as_optional,
    as_same_type,
    convolution_groups,
    naming,
)
from fastcnn.backends import get_backend
from fastcnn.backends.geometry import (
    IntOrPair,
    conv_output,
    of_map,
    per_axis,
    resolve_padding,
)
from fastcnn.errors import ConfigurationError, ShapeError, counted
from fastcnn.operations.forms import Checked, axes_of, computed, gradient
from fastcnn.operations.record import Operation, case

__all__ = [
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "linear",
    "linear_backward",
]


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: IntOrPair = 1,
    padding: IntOrPair | str = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Two-dimensional convolution (cross-correlation).

    Parameters
    ----------
    x : array_like, shape (N, in_channels, H, W)
    weight : array_like, shape (out_channels, in_channels / groups, KH, KW)
    bias : array_like, shape (out_channels,), optional
    stride, dilation : int or (int, int)
    padding : int, (int, int), "valid" or "same"
    groups : int
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, out_channels, OH, OW)
        ``OH = floor((H + 2 * padding - dilation * (KH - 1) - 1) / stride) + 1``.

    Raises
    ------
    ShapeError
        If the shapes do not match, or the kernel exceeds the padded input.
    ConfigurationError
        If an argument is invalid, or the types differ.

    References
    ----------
    Dumoulin and Visin, arXiv:1603.07285.
    """
    given = (stride, padding, dilation, groups)
    return computed("conv2d", _convolution, backend, x, weight, bias, *given)


def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    groups: int = 1,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """:func:`conv2d` of sequences, which are computed as maps of one row.

    Parameters
    ----------
    x : array_like, shape (N, in_channels, L)
    weight : array_like, shape (out_channels, in_channels / groups, K)
    bias : array_like, shape (out_channels,), optional
    stride, dilation : int
    padding : int, "valid" or "same"
    groups, backend
        As for :func:`conv2d`.

    Returns
    -------
    ndarray, shape (N, out_channels, OL)
    """
    given = (stride, padding, dilation, groups)
    return computed("conv1d", _convolution, backend, x, weight, bias, *given)


def _convolution(
    name: str, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Checked:
    axes = axes_of(name)
    x = as_array(name, "x", x, 2 + axes)
    weight = as_same_type(name, x, "weight", weight, 2 + axes)
    groups = convolution_groups(name, groups, x.shape[1], len(weight))
    if weight.shape[1] * groups != x.shape[1]:
        raise ShapeError(
            f"{name}: weight of shape {weight.shape} with groups={groups} takes "
            f"{weight.shape[1] * groups} input channels, x of shape {x.shape} has {x.shape[1]}"
        )
    stride = per_axis(stride, f"{name}: stride", axes)
    dilation = per_axis(dilation, f"{name}: dilation", axes)
    padding = resolve_padding(padding, weight.shape[2:], dilation, stride)
    with naming(f"{name}: x {x.shape} and weight {weight.shape}"):
        sizes = conv_output(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    arguments = {
        "bias": as_optional(name, x, "bias", bias, (len(weight),)),
        "stride": of_map(stride, 1),
        "padding": of_map(padding, (0, 0)),
        "dilation": of_map(dilation, 1),
        "groups": groups,
    }
    return Checked((x, weight), arguments, (len(x), len(weight), *sizes))


def conv2d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: IntOrPair = 1,
    padding: IntOrPair | str = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    output_mask: tuple[bool, bool, bool] = (True, True, True),
    backend: str | None = None,
) -> tuple[Any, Any, Any]:
    """Gradients of :func:`conv2d` with respect to its input, weight and bias.

    Parameters
    ----------
    grad_output : array_like, shape (N, out_channels, OH, OW)
        Gradient of the loss with respect to the output.
    x, weight, stride, padding, dilation, groups, backend
        As given to :func:`conv2d`.
    output_mask : tuple of bool
        Whether to compute the gradients of input, weight and bias.

    Returns
    -------
    grad_x : ndarray, shape (N, in_channels, H, W), or None
    grad_weight : ndarray, shape (out_channels, in_channels / groups, KH, KW), or None
    grad_bias : ndarray, shape (out_channels,), or None

    Raises
    ------
    ShapeError
        If ``grad_output`` does not have the shape of the output.

    References
    ----------
    docs/derivations.md, "Convolution"; Dumoulin and Visin, arXiv:1603.07285, section 4.
    """
    given = (stride, padding, dilation, groups)
    return _backward("conv2d_backward", grad_output, x, weight, given, output_mask, backend)


def conv1d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    groups: int = 1,
    *,
    output_mask: tuple[bool, bool, bool] = (True, True, True),
    backend: str | None = None,
) -> tuple[Any, Any, Any]:
    """Gradients of :func:`conv1d` with respect to its input, weight and bias.

    Parameters
    ----------
    grad_output : array_like, shape (N, out_channels, OL)
    x, weight, stride, padding, dilation, groups, backend
        As given to :func:`conv1d`.
    output_mask
        As for :func:`conv2d_backward`.

    Returns
    -------
    grad_x : ndarray, shape (N, in_channels, L), or None
    grad_weight : ndarray, shape (out_channels, in_channels / groups, K), or None
    grad_bias : ndarray, shape (out_channels,), or None
    """
    given = (stride, padding, dilation, groups)
    return _backward("conv1d_backward", grad_output, x, weight, given, output_mask, backend)


def _backward(
    name: str,
    grad_output: Any,
    x: Any,
    weight: Any,
    given: tuple[Any, ...],
    output_mask: Any,
    backend: str | None,
) -> tuple[Any, Any, Any]:
    arrays, arguments, output = _convolution(name, x, weight, None, *given)
    grad_output = as_gradient(name, grad_output, arrays[0], output)
    if not isinstance(output_mask, (tuple, list)) or len(output_mask) != 3:
        raise ConfigurationError(
            f"{name}: output_mask must be three of True or False, got {output_mask!r}"
        )
    arguments["output_mask"] = tuple(as_flag(name, "output_mask", each) for each in output_mask)
    del arguments["bias"]
    return get_backend(backend).conv2d_backward(grad_output, *arrays, **arguments)


def linear(x: Any, weight: Any, bias: Any = None, *, backend: str | None = None) -> np.ndarray:
    """Fully connected layer, ``x W^T + b``.

    Parameters
    ----------
    x : array_like, shape (N, in_features)
    weight : array_like, shape (out_features, in_features)
    bias : array_like, shape (out_features,), optional
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, out_features)
    """
    return computed("linear", _connected, backend, x, weight, bias)


def _connected(name: str, x: Any, weight: Any, bias: Any) -> Checked:
    x = as_array(name, "x", x, 2)
    weight = as_same_type(name, x, "weight", weight, 2)
    if x.shape[1] != weight.shape[1]:
        raise ShapeError(
            f"{name}: x of shape {x.shape} has {counted(x.shape[1], 'feature')}, weight of shape "
            f"{weight.shape} takes {weight.shape[1]}"
        )
    bias = as_optional(name, x, "bias", bias, (len(weight),))
    return Checked((x, weight), {"bias": bias}, (len(x), len(weight)))


def linear_backward(
    grad_output: Any, x: Any, weight: Any, *, backend: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient of :func:`linear`.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray
    """
    return gradient("linear", _connected, backend, grad_output, x, weight, None)


#: Common fields of products with weights.
PRODUCT: dict[str, Any] = {
    "parameters": ("weight", "bias"),
    "backward_reads": ("weight",),
    "fuses_relu": True,
    "gradient_needs": "input",
    "masks_gradient": True,
    "frees_input": True,
}
#: The operations of this file.
RECORDS = (
    Operation(
        "conv2d",
        **PRODUCT,
        any_layout=True,
        output_mask=True,
        layers=(
            case("Conv2d", (2, 5, 4), 2, 3, 3, padding=1, seed=0),
            case(
                "Conv2d",
                (2, 6, 5),
                2,
                4,
                (3, 2),
                stride=(2, 1),
                padding=(1, 0),
                dilation=(1, 2),
                groups=2,
                seed=1,
            ),
            case(
                "Conv2d",
                (3, 5, 6),
                3,
                3,
                3,
                stride=2,
                padding="valid",
                groups=3,
                bias=False,
                seed=2,
            ),
            case("Conv2d", (1, 4, 5), 1, 2, (2, 4), padding="same", seed=3),
            case("Conv1d", (2, 9), 2, 4, 3, stride=2, padding=1, dilation=2, groups=2, seed=7),
        ),
    ),
    Operation("linear", **PRODUCT, layers=(case("Linear", (6,), 6, 4, seed=4),)),
)
