"""Element-wise activations."""

from typing import Any

import numpy as np

from fastcnn.arguments import APPROXIMATIONS, as_array, as_choice, as_gradient, as_number
from fastcnn.backends import get_backend


def relu(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``max(0, x)`` for an array of any shape."""
    return _elementwise("relu", x, backend)


def relu_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`relu`: ``grad_output`` where ``x > 0``, else 0 (also at 0)."""
    return _elementwise_backward("relu_backward", grad_output, x, backend)


def sigmoid(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``1 / (1 + exp(-x))`` without overflow, for an array of any shape."""
    return _elementwise("sigmoid", x, backend)


def sigmoid_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`sigmoid` at its input ``x``: ``grad_output * y * (1 - y)``."""
    return _elementwise_backward("sigmoid_backward", grad_output, x, backend)


def tanh(x: Any, *, backend: str | None = None) -> np.ndarray:
    """Hyperbolic tangent of an array of any shape."""
    return _elementwise("tanh", x, backend)


def tanh_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`tanh` at its input ``x``: ``grad_output * (1 - y^2)``."""
    return _elementwise_backward("tanh_backward", grad_output, x, backend)


def leaky_relu(x: Any, negative_slope: float = 0.01, *, backend: str | None = None) -> np.ndarray:
    """``x`` where ``x > 0``, else ``negative_slope * x``, for an array of any shape.

    Raises
    ------
    ConfigurationError
        If ``negative_slope`` is no finite number.
    """
    return _elementwise("leaky_relu", x, backend, **_leaky_relu(negative_slope))


def leaky_relu_backward(
    grad_output: Any, x: Any, negative_slope: float = 0.01, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`leaky_relu` at its input ``x``; ``negative_slope`` also at 0."""
    arguments = _leaky_relu(negative_slope)
    return _elementwise_backward("leaky_relu_backward", grad_output, x, backend, **arguments)


def elu(x: Any, alpha: float = 1.0, *, backend: str | None = None) -> np.ndarray:
    """``x`` where ``x > 0``, else ``alpha * (exp(x) - 1)``, for an array of any shape.

    Raises
    ------
    ConfigurationError
        If ``alpha`` is no finite number.

    References
    ----------
    Clevert, Unterthiner and Hochreiter, arXiv:1511.07289.
    """
    return _elementwise("elu", x, backend, **_elu(alpha))


def elu_backward(
    grad_output: Any, x: Any, alpha: float = 1.0, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`elu` at its input ``x``: times ``alpha * exp(x)`` where ``x <= 0``."""
    return _elementwise_backward("elu_backward", grad_output, x, backend, **_elu(alpha))


def gelu(x: Any, approximate: str = "none", *, backend: str | None = None) -> np.ndarray:
    """Gaussian error linear unit, for an array of any shape.

    Parameters
    ----------
    x : array_like
    approximate : {"none", "tanh"}
        ``x * Phi(x)`` with the normal distribution function, or
        ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))``.

    Raises
    ------
    ConfigurationError
        If ``approximate`` is neither.

    References
    ----------
    Hendrycks and Gimpel, arXiv:1606.08415.
    """
    return _elementwise("gelu", x, backend, **_gelu(approximate))


def gelu_backward(
    grad_output: Any, x: Any, approximate: str = "none", *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`gelu` at its input ``x``."""
    return _elementwise_backward("gelu_backward", grad_output, x, backend, **_gelu(approximate))


def silu(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``x * sigmoid(x)``, also called swish, for an array of any shape.

    References
    ----------
    Hendrycks and Gimpel, arXiv:1606.08415; Ramachandran, Zoph and Le, arXiv:1710.05941.
    """
    return _elementwise("silu", x, backend)


def silu_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`silu` at its input ``x``: times ``s * (1 + x * (1 - s))``."""
    return _elementwise_backward("silu_backward", grad_output, x, backend)


def softplus(
    x: Any, beta: float = 1.0, threshold: float = 20.0, *, backend: str | None = None
) -> np.ndarray:
    """``log(1 + exp(beta * x)) / beta``, for an array of any shape.

    Parameters
    ----------
    x : array_like
    beta : float
        Above 0.
    threshold : float
        Where ``beta * x`` is larger, the result is ``x`` itself.

    Raises
    ------
    ConfigurationError
        If ``beta`` is not above 0, or a number is not finite.
    """
    return _elementwise("softplus", x, backend, **_softplus(beta, threshold))


def softplus_backward(
    grad_output: Any,
    x: Any,
    beta: float = 1.0,
    threshold: float = 20.0,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`softplus` at its input ``x``: times ``sigmoid(beta * x)``."""
    arguments = _softplus(beta, threshold)
    return _elementwise_backward("softplus_backward", grad_output, x, backend, **arguments)


def _leaky_relu(negative_slope: float) -> dict[str, Any]:
    return {"negative_slope": as_number("leaky_relu", "negative_slope", negative_slope)}


def _elu(alpha: float) -> dict[str, Any]:
    return {"alpha": as_number("elu", "alpha", alpha)}


def _gelu(approximate: str) -> dict[str, Any]:
    return {"approximate": as_choice("gelu", "approximate", approximate, APPROXIMATIONS)}


def _softplus(beta: float, threshold: float) -> dict[str, Any]:
    return {
        "beta": as_number("softplus", "beta", beta, above=0.0),
        "threshold": as_number("softplus", "threshold", threshold),
    }


def _elementwise(operation: str, x: Any, backend: str | None, **arguments: Any) -> np.ndarray:
    x = as_array(operation, "x", x)
    return getattr(get_backend(backend), operation)(x, **arguments)


def _elementwise_backward(
    operation: str, grad_output: Any, x: Any, backend: str | None, **arguments: Any
) -> np.ndarray:
    x = as_array(operation, "x", x)
    grad_output = as_gradient(operation, grad_output, x, x.shape)
    return getattr(get_backend(backend), operation)(grad_output, x, **arguments)
