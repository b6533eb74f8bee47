"""Fully connected layer and the flattening before it."""

from typing import Any

import numpy as np

from fastcnn.arguments import as_array, as_bias, as_gradient, linear_arguments
from fastcnn.backends import get_backend


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
