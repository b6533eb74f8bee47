"""Transposed convolution of maps and of sequences."""

from typing import Any

import numpy as np

from fastcnn.arguments import as_bias, as_gradient, conv_transpose_arguments
from fastcnn.backends import get_backend
from fastcnn.backends.geometry import IntOrPair


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
