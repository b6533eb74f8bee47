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


def _each(function: Callable[..., float], first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    result = np.empty(first.shape, first.dtype)
    for index in np.ndindex(first.shape):
        result[index] = function(float(first[index]), *(float(other[index]) for other in others))
    return result
