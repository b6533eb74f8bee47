"""Softmax and its logarithm."""

import math

import numpy as np

from fastcnn.backends.plain.sums import members, total
from fastcnn.backends.sample_sets import sets_of


def softmax(x: np.ndarray, dim: int) -> np.ndarray:
    """``y_i = exp(x_i) / sum_j exp(x_j)``, after subtracting the maximum."""
    y = np.exp(x - x.max(axis=dim, keepdims=True))
    y /= y.sum(axis=dim, keepdims=True, dtype=np.float64)
    return y


def softmax_backward(grad_output: np.ndarray, x: np.ndarray, dim: int) -> np.ndarray:
    """``dx_i = y_i (dy_i - sum_j dy_j y_j)``."""
    y = softmax(x, dim)
    along = (grad_output * y).sum(axis=dim, keepdims=True, dtype=np.float64)
    return y * (grad_output - along.astype(x.dtype))


def log_softmax(x: np.ndarray, dim: int) -> np.ndarray:
    """``y_i = x_i - log(sum_j exp(x_j))``, after subtracting the maximum."""
    shifted = x - x.max(axis=dim, keepdims=True)
    whole = np.exp(shifted).sum(axis=dim, keepdims=True, dtype=np.float64)
    return shifted - np.log(whole).astype(x.dtype)


def log_softmax_backward(grad_output: np.ndarray, x: np.ndarray, dim: int) -> np.ndarray:
    """``dx_i = dy_i - softmax(x)_i sum_j dy_j``."""
    along = grad_output.sum(axis=dim, keepdims=True, dtype=np.float64)
    return grad_output - softmax(x, dim) * along.astype(x.dtype)


def softmax_loops(x: np.ndarray, dim: int) -> np.ndarray:
    """``y_i = exp(x_i) / sum_j exp(x_j)``, after subtracting the maximum."""
    y = np.empty(x.shape, x.dtype)
    for places in members(x, sets_of("softmax", {"dim": dim}, x.shape[1:])):
        shifted = _less_largest([float(x[place]) for place in places])
        exponentials = [_exp(value) for value in shifted]
        whole = total(exponentials)
        for place, value in zip(places, exponentials, strict=True):
            y[place] = value / whole
    return y


def softmax_backward_loops(grad_output: np.ndarray, x: np.ndarray, dim: int) -> np.ndarray:
    """``dx_i = y_i (dy_i - sum_j dy_j y_j)``."""
    y = softmax_loops(x.astype(np.float64), dim)
    grad_x = np.empty(x.shape, x.dtype)
    for places in members(x, sets_of("softmax", {"dim": dim}, x.shape[1:])):
        along = total(float(grad_output[place]) * float(y[place]) for place in places)
        for place in places:
            grad_x[place] = float(y[place]) * (float(grad_output[place]) - along)
    return grad_x


def log_softmax_loops(x: np.ndarray, dim: int) -> np.ndarray:
    """``y_i = x_i - log(sum_j exp(x_j))``, after subtracting the maximum."""
    y = np.empty(x.shape, x.dtype)
    for places in members(x, sets_of("log_softmax", {"dim": dim}, x.shape[1:])):
        shifted = _less_largest([float(x[place]) for place in places])
        whole = total(_exp(value) for value in shifted)
        logarithm = math.log(whole) if whole > 0.0 else math.nan
        for place, value in zip(places, shifted, strict=True):
            y[place] = value - logarithm
    return y


def log_softmax_backward_loops(grad_output: np.ndarray, x: np.ndarray, dim: int) -> np.ndarray:
    """``dx_i = dy_i - softmax_loops(x)_i sum_j dy_j``."""
    y = softmax_loops(x.astype(np.float64), dim)
    grad_x = np.empty(x.shape, x.dtype)
    for places in members(x, sets_of("log_softmax", {"dim": dim}, x.shape[1:])):
        along = total(float(grad_output[place]) for place in places)
        for place in places:
            grad_x[place] = float(grad_output[place]) - float(y[place]) * along
    return grad_x


def _less_largest(values: list[float]) -> list[float]:
    largest = values[0]
    for value in values:
        if value > largest or value != value:
            largest = value
    return [value - largest for value in values]


def _exp(value: float) -> float:
    return math.exp(value) if value == value else value
