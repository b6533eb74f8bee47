"""Convolution of maps and of sequences."""

from typing import Any

import numpy as np

from fastcnn.arguments import as_bias, as_gradient, as_output_mask, conv_arguments
from fastcnn.backends import get_backend
from fastcnn.backends.geometry import IntOrPair


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
