"""Softmax and its logarithm along one axis, with sums in float64."""

import numpy as np


def softmax(x: np.ndarray, dim: int) -> np.ndarray:
    """``y_i = exp(x_i) / sum_j exp(x_j)``, the largest taken away first."""
    y = np.exp(x - x.max(axis=dim, keepdims=True))
    y /= y.sum(axis=dim, keepdims=True, dtype=np.float64)
    return y


def softmax_backward(grad_output: np.ndarray, x: np.ndarray, dim: int) -> np.ndarray:
    """``dx_i = y_i (dy_i - sum_j dy_j y_j)``."""
    y = softmax(x, dim)
    along = (grad_output * y).sum(axis=dim, keepdims=True, dtype=np.float64)
    return y * (grad_output - along.astype(x.dtype))


def log_softmax(x: np.ndarray, dim: int) -> np.ndarray:
    """``y_i = x_i - log(sum_j exp(x_j))``, the largest taken away first."""
    shifted = x - x.max(axis=dim, keepdims=True)
    whole = np.exp(shifted).sum(axis=dim, keepdims=True, dtype=np.float64)
    return shifted - np.log(whole).astype(x.dtype)


def log_softmax_backward(grad_output: np.ndarray, x: np.ndarray, dim: int) -> np.ndarray:
    """``dx_i = dy_i - softmax(x)_i sum_j dy_j``."""
    along = grad_output.sum(axis=dim, keepdims=True, dtype=np.float64)
    return grad_output - softmax(x, dim) * along.astype(x.dtype)
