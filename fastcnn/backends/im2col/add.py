"""Sum of two maps."""

import numpy as np


def add(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``y = x + other``."""
    return x + other


def add_backward(
    grad_output: np.ndarray, x: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both inputs have the gradient of the output."""
    return grad_output.copy(), grad_output.copy()
