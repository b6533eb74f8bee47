"""Fully connected layer as matrix products."""

import numpy as np


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """``y = x W^T + b``."""
    y = np.matmul(x, weight.T)
    if bias is not None:
        y += bias
    return y


def linear_backward(
    grad_output: np.ndarray, x: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``dx = dy W``, ``dW = dy^T x``, ``db`` the sum of dy over samples."""
    return grad_output @ weight, grad_output.T @ x, grad_output.sum(axis=0)
