"""Convolutions and linear layers: products with weights."""

from typing import Any

import numpy as np

from fastcnn.arguments import (
    as_array,
    as_bias,
    as_gradient,
    as_output_mask,
    conv_arguments,
    conv_transpose_arguments,
    linear_arguments,
)
from fastcnn.backends import get_backend
from fastcnn.backends.geometry import IntOrPair
from fastcnn.operations.record import Operation, case

__all__ = [
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "flatten",
    "flatten_backward",
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
        If the shapes do not fit each other, or the kernel exceeds the padded input.
    ConfigurationError
        If an argument makes no sense, or the types differ.

    References
    ----------
    Dumoulin and Visin, arXiv:1603.07285.
    """
    given = (stride, padding, dilation, groups)
    return _convolution("conv2d", x, weight, bias, given, backend)


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
    """:func:`conv2d` of sequences: those are maps of one row, and are computed as such.

    Parameters
    ----------
    x : array_like, shape (N, in_channels, L)
    weight : array_like, shape (out_channels, in_channels / groups, K)

    Returns
    -------
    ndarray, shape (N, out_channels, OL)
    """
    given = (stride, padding, dilation, groups)
    return _convolution("conv1d", x, weight, bias, given, backend)


def _convolution(
    name: str, x: Any, weight: Any, bias: Any, given: tuple[Any, ...], backend: str | None
) -> np.ndarray:
    x, weight, arguments, _ = conv_arguments(name, x, weight, *given)
    if bias is not None:
        bias = as_bias(name, bias, x, len(weight))
    return get_backend(backend).conv2d(x, weight, bias, **arguments)


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
        Whether the gradients of input, weight and bias are wanted.

    Returns
    -------
    grad_x : ndarray, shape (N, in_channels, H, W), or None
    grad_weight : ndarray, shape (out_channels, in_channels / groups, KH, KW), or None
    grad_bias : ndarray, shape (out_channels,), or None

    Raises
    ------
    ShapeError
        If ``grad_output`` is not what ``x``, ``weight`` and the geometry produce.

    References
    ----------
    docs/derivations.md, "Convolution"; Dumoulin and Visin, arXiv:1603.07285, section 4.
    """
    name, given = "conv2d_backward", (stride, padding, dilation, groups)
    x, weight, arguments, output = conv_arguments(name, x, weight, *given)
    grad_output = as_gradient(name, grad_output, x, output)
    return get_backend(backend).conv2d_backward(
        grad_output, x, weight, **arguments, output_mask=as_output_mask(name, output_mask)
    )


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
    """Gradients of :func:`conv1d`: ``(grad_x, grad_weight, grad_bias)``."""
    name, given = "conv1d_backward", (stride, padding, dilation, groups)
    x, weight, arguments, output = conv_arguments(name, x, weight, *given)
    grad_output = as_gradient(name, grad_output, x, output)
    return get_backend(backend).conv2d_backward(
        grad_output, x, weight, **arguments, output_mask=as_output_mask(name, output_mask)
    )


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
        Rows and columns of the output that are left out on both sides.
    output_padding : int or (int, int)
        Rows and columns added at the bottom and right, below the stride or the dilation: of the
        sizes that the convolution makes one of, which one is meant.
    groups : int
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, out_channels, OH, OW)
        ``OH = (H - 1) * stride - 2 * padding + dilation * (KH - 1) + output_padding + 1``.

    Raises
    ------
    ShapeError, ConfigurationError

    References
    ----------
    Dumoulin and Visin, arXiv:1603.07285, section 4; Zeiler et al., "Deconvolutional networks",
    CVPR 2010.
    """
    given = (stride, padding, output_padding, groups, dilation)
    return _conv_transpose("conv_transpose2d", x, weight, bias, given, backend)


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
    """:func:`conv_transpose2d` of sequences, shape (N, in_channels, L) to (N, out_channels, OL).

    The weight has shape (in_channels, out_channels / groups, K).
    """
    given = (stride, padding, output_padding, groups, dilation)
    return _conv_transpose("conv_transpose1d", x, weight, bias, given, backend)


def _conv_transpose(
    name: str, x: Any, weight: Any, bias: Any, given: tuple[Any, ...], backend: str | None
) -> np.ndarray:
    x, weight, arguments, output = conv_transpose_arguments(name, x, weight, *given)
    if bias is not None:
        bias = as_bias(name, bias, x, output[1])
    return get_backend(backend).conv_transpose2d(x, weight, bias, **arguments)


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
    """Gradients of :func:`conv_transpose1d`: ``(grad_x, grad_weight, grad_bias)``."""
    given = (stride, padding, output_padding, groups, dilation)
    return _backward("conv_transpose1d_backward", grad_output, x, weight, given, backend)


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
    """Gradients of :func:`conv_transpose2d`: ``(grad_x, grad_weight, grad_bias)``.

    Raises
    ------
    ShapeError
        If ``grad_output`` is not what ``x``, ``weight`` and the geometry produce.

    References
    ----------
    docs/derivations.md, "Transposed convolution".
    """
    given = (stride, padding, output_padding, groups, dilation)
    return _backward("conv_transpose2d_backward", grad_output, x, weight, given, backend)


def _backward(
    name: str, grad_output: Any, x: Any, weight: Any, given: tuple[Any, ...], backend: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, weight, arguments, output = conv_transpose_arguments(name, x, weight, *given)
    grad_output = as_gradient(name, grad_output, x, output)
    return get_backend(backend).conv_transpose2d_backward(grad_output, x, weight, **arguments)


def flatten(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``(N, C, H, W)`` to ``(N, C * H * W)``."""
    return get_backend(backend).flatten(as_array("flatten", "x", x))


def flatten_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`flatten`: ``grad_output`` in the shape of ``x``."""
    x = as_array("flatten_backward", "x", x)
    output = (len(x), x.size // len(x))
    grad_output = as_gradient("flatten_backward", grad_output, x, output)
    return get_backend(backend).flatten_backward(grad_output, x)


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

    Raises
    ------
    ShapeError, ConfigurationError
    """
    x, weight = linear_arguments("linear", x, weight)
    if bias is not None:
        bias = as_bias("linear", bias, x, len(weight))
    return get_backend(backend).linear(x, weight, bias)


def linear_backward(
    grad_output: Any, x: Any, weight: Any, *, backend: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of :func:`linear`: ``(grad_x, grad_weight, grad_bias)``.

    Raises
    ------
    ShapeError
        If ``grad_output`` is not of shape (N, out_features).
    """
    x, weight = linear_arguments("linear_backward", x, weight)
    grad_output = as_gradient("linear_backward", grad_output, x, (len(x), len(weight)))
    return get_backend(backend).linear_backward(grad_output, x, weight)


#: What products with weights have in common.
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
    Operation("linear", **PRODUCT, layers=(case("Linear", (6,), 6, 4, seed=4),)),
    Operation("flatten", renames=True, layers=(case("Flatten", (2, 3, 3)),)),
)
