"""Activations over whole arrays, and flatten."""

import math

import numpy as np

from fastcnn.codegen import compiled


def relu(x: np.ndarray) -> np.ndarray:
    """``max(0, x)``; NaN stays NaN."""
    return np.maximum(x, 0)


def relu_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``dy`` except where ``x <= 0``, where it is 0."""
    return np.where(x <= 0, x.dtype.type(0), grad_output)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))``, with the exponential of a number that is never positive."""
    exponential = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, exponential) / (1 + exponential)


def sigmoid_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``dy * sigmoid(x) * sigmoid(-x)``, exact near saturation."""
    exponential = np.exp(-np.abs(x))
    return grad_output * exponential / (1 + exponential) ** 2


def tanh(x: np.ndarray) -> np.ndarray:
    """Hyperbolic tangent."""
    return np.tanh(x)


def tanh_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``dy * (1 - tanh(x)^2)``."""
    return grad_output * (1 - np.tanh(x) ** 2)


def leaky_relu(x: np.ndarray, negative_slope: float) -> np.ndarray:
    """``x`` where ``x > 0``, else ``negative_slope * x``."""
    return np.where(x <= 0, negative_slope * x, x)


def leaky_relu_backward(
    grad_output: np.ndarray, x: np.ndarray, negative_slope: float
) -> np.ndarray:
    """``dy`` where ``x > 0``, else ``negative_slope * dy``."""
    return np.where(x <= 0, negative_slope * grad_output, grad_output)


def elu(x: np.ndarray, alpha: float) -> np.ndarray:
    """``x`` where ``x > 0``, else ``alpha * (exp(x) - 1)``."""
    return np.where(x <= 0, alpha * np.expm1(np.minimum(x, 0)), x)


def elu_backward(grad_output: np.ndarray, x: np.ndarray, alpha: float) -> np.ndarray:
    """``dy`` where ``x > 0``, else ``dy * alpha * exp(x)``."""
    return grad_output * np.where(x <= 0, alpha * np.exp(np.minimum(x, 0)), x.dtype.type(1))


def gelu(x: np.ndarray, approximate: str) -> np.ndarray:
    """``x * Phi(x)`` with the normal distribution function, or with its approximation by tanh."""
    return x * (_normal_area(x) if approximate == "none" else _tanh_area(x)[0])


def gelu_backward(grad_output: np.ndarray, x: np.ndarray, approximate: str) -> np.ndarray:
    """``dy * (Phi(x) + x * Phi'(x))``."""
    if approximate == "none":
        area = _normal_area(x)
        density = np.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
    else:
        area, density = _tanh_area(x)
    return grad_output * (area + x * density)


def silu(x: np.ndarray) -> np.ndarray:
    """``x * sigmoid(x)``."""
    return x * sigmoid(x)


def silu_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``dy * s * (1 + x * (1 - s))`` with ``s = sigmoid(x)``."""
    return grad_output * sigmoid(x) * (1 + x * sigmoid(-x))


def softplus(x: np.ndarray, beta: float, threshold: float) -> np.ndarray:
    """``log(1 + exp(beta * x)) / beta``, or ``x`` where ``beta * x > threshold``."""
    scaled = beta * x
    curve = (np.maximum(scaled, 0) + np.log1p(np.exp(-np.abs(scaled)))) / beta
    return np.where(scaled > threshold, x, curve)


def softplus_backward(
    grad_output: np.ndarray, x: np.ndarray, beta: float, threshold: float
) -> np.ndarray:
    """``dy * sigmoid(beta * x)``, or ``dy`` where ``beta * x > threshold``."""
    scaled = beta * x
    return np.where(scaled > threshold, grad_output, grad_output * sigmoid(scaled))


def flatten(x: np.ndarray) -> np.ndarray:
    """``(N, C, H, W)`` to ``(N, C * H * W)``."""
    return np.array(x, order="C").reshape(len(x), -1)


def flatten_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Back to the shape of ``x``."""
    return np.array(grad_output, order="C").reshape(x.shape)


def _normal_area(x: np.ndarray) -> np.ndarray:
    area = np.empty(x.shape, x.dtype)
    _fill_normal_area(np.ascontiguousarray(x).reshape(-1), area.reshape(-1))
    return area


@compiled("real[:]", "out real[:]")
def _fill_normal_area(x: np.ndarray, area: np.ndarray) -> None:
    """The normal distribution function: numpy has no error function."""
    for i in range(x.size):
        area[i] = 0.5 * math.erfc(-x[i] * math.sqrt(0.5))


def _tanh_area(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The approximate distribution function and its derivative."""
    root = math.sqrt(2.0 / math.pi)
    bend = np.tanh(root * (x + 0.044715 * x**3))
    slope = root * (1 + (3 * 0.044715) * x * x)
    return 0.5 * (1 + bend), 0.5 * (1 - bend * bend) * slope
