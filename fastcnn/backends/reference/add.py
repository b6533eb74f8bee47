"""Sum of two maps, one element at a time."""

import numpy as np


def add(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``y = x + other``."""
    y = np.empty(x.shape, x.dtype)
    for index in np.ndindex(x.shape):
        y[index] = x[index] + other[index]
    return y


def add_backward(
    grad_output: np.ndarray, x: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both inputs have the gradient of the output."""
    return grad_output.copy(), grad_output.copy()
