"""Activations over whole arrays, and flatten."""

import numpy as np


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


def flatten(x: np.ndarray) -> np.ndarray:
    """``(N, C, H, W)`` to ``(N, C * H * W)``."""
    return np.array(x, order="C").reshape(len(x), -1)


def flatten_backward(grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Back to the shape of ``x``."""
    return np.array(grad_output, order="C").reshape(x.shape)
