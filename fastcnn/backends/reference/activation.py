"""Activations one element at a time, and flatten."""

import math
from collections.abc import Callable

import numpy as np


def relu(x: np.ndarray) -> np.ndarray:
    """``max(0, x)``; NaN stays NaN."""
    return _each(lambda value: 0.0 if value <= 0 else value, x)


def relu_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``dy`` where ``x > 0``, else 0: the gradient at 0 is 0."""
    return _each(lambda dy, value: 0.0 if value <= 0 else dy, grad_output, x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))``, with the exponential of a number that is never positive."""
    return _each(_logistic, x)


def sigmoid_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``dy * y * (1 - y)`` with ``1 - y`` taken as ``sigmoid(-x)``, exact near saturation."""
    return _each(lambda dy, v: dy * _logistic(v) * _logistic(-v), grad_output, x)


def tanh(x: np.ndarray) -> np.ndarray:
    """Hyperbolic tangent."""
    return _each(math.tanh, x)


def tanh_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``dy * (1 - tanh(x)^2)``."""
    return _each(lambda dy, v: dy * (1.0 - math.tanh(v) ** 2), grad_output, x)


def leaky_relu(x: np.ndarray, negative_slope: float) -> np.ndarray:
    """``x`` where ``x > 0``, else ``negative_slope * x``."""
    return _each(lambda value: negative_slope * value if value <= 0 else value, x)


def leaky_relu_backward(
    grad_output: np.ndarray, x: np.ndarray, negative_slope: float
) -> np.ndarray:
    """``dy`` where ``x > 0``, else ``negative_slope * dy``."""
    return _each(lambda dy, v: negative_slope * dy if v <= 0 else dy, grad_output, x)


def elu(x: np.ndarray, alpha: float) -> np.ndarray:
    """``x`` where ``x > 0``, else ``alpha * (exp(x) - 1)``."""
    return _each(lambda value: alpha * math.expm1(value) if value <= 0 else value, x)


def elu_backward(grad_output: np.ndarray, x: np.ndarray, alpha: float) -> np.ndarray:
    """``dy`` where ``x > 0``, else ``dy * alpha * exp(x)``."""
    return _each(lambda dy, v: dy * alpha * math.exp(v) if v <= 0 else dy, grad_output, x)


def gelu(x: np.ndarray, approximate: str) -> np.ndarray:
    """``x * Phi(x)`` with the normal distribution function, or with its approximation by tanh."""
    area = _normal_area if approximate == "none" else _tanh_area
    return _each(lambda value: value * area(value), x)


def gelu_backward(grad_output: np.ndarray, x: np.ndarray, approximate: str) -> np.ndarray:
    """``dy * (Phi(x) + x * Phi'(x))``."""
    if approximate == "none":
        return _each(lambda dy, v: dy * (_normal_area(v) + v * _normal_density(v)), grad_output, x)
    return _each(lambda dy, v: dy * (_tanh_area(v) + v * _tanh_density(v)), grad_output, x)


def silu(x: np.ndarray) -> np.ndarray:
    """``x * sigmoid(x)``."""
    return _each(lambda value: value * _logistic(value), x)


def silu_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``dy * s * (1 + x * (1 - s))`` with ``s = sigmoid(x)``."""
    return _each(lambda dy, v: dy * _logistic(v) * (1.0 + v * _logistic(-v)), grad_output, x)


def softplus(x: np.ndarray, beta: float, threshold: float) -> np.ndarray:
    """``log(1 + exp(beta * x)) / beta``, or ``x`` where ``beta * x > threshold``."""

    def value_at(value: float) -> float:
        scaled = beta * value
        if scaled > threshold:
            return value
        return (max(scaled, 0.0) + math.log1p(math.exp(-abs(scaled)))) / beta

    return _each(value_at, x)


def softplus_backward(
    grad_output: np.ndarray, x: np.ndarray, beta: float, threshold: float
) -> np.ndarray:
    """``dy * sigmoid(beta * x)``, or ``dy`` where ``beta * x > threshold``."""
    return _each(
        lambda dy, v: dy if beta * v > threshold else dy * _logistic(beta * v), grad_output, x
    )


def flatten(x: np.ndarray) -> np.ndarray:
    """``(N, C, H, W)`` to ``(N, C * H * W)``."""
    return np.array(x).reshape(len(x), -1)


def flatten_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Back to the shape of ``x``."""
    return np.array(grad_output).reshape(x.shape)


def _logistic(value: float) -> float:
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    exponential = math.exp(value)
    return exponential / (1.0 + exponential)


def _normal_area(value: float) -> float:
    return 0.5 * math.erfc(-value * math.sqrt(0.5))


def _normal_density(value: float) -> float:
    return math.exp(-0.5 * value * value) / math.sqrt(2.0 * math.pi)


def _tanh_area(value: float) -> float:
    cubic = value + 0.044715 * value * value * value
    return 0.5 * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * cubic))


def _tanh_density(value: float) -> float:
    slope = math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * 0.044715 * value * value)
    return 2.0 * _tanh_area(value) * (1.0 - _tanh_area(value)) * slope


def _each(function: Callable[..., float], first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    result = np.empty(first.shape, first.dtype)
    for index in np.ndindex(first.shape):
        result[index] = function(float(first[index]), *(float(other[index]) for other in others))
    return result
