"""Fully connected layer in nested loops."""

import numpy as np


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """``y[n, o] = b[o] + sum over k of w[o, k] * x[n, k]``."""
    N, O = len(x), len(weight)
    y = np.empty((N, O), x.dtype)
    for n in range(N):
        for o in range(O):
            total = 0.0 if bias is None else float(bias[o])
            for k in range(x.shape[1]):
                total += float(weight[o, k]) * float(x[n, k])
            y[n, o] = total
    return y


def linear_backward(
    grad_output: np.ndarray, x: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``dx = dy W``, ``dW = dy^T x``, ``db = sum over n of dy``."""
    grad_x = np.zeros(x.shape)
    grad_weight = np.zeros(weight.shape)
    grad_bias = np.zeros(len(weight))
    for n in range(len(x)):
        for o in range(len(weight)):
            dy = float(grad_output[n, o])
            grad_bias[o] += dy
            for k in range(x.shape[1]):
                grad_x[n, k] += dy * float(weight[o, k])
                grad_weight[o, k] += dy * float(x[n, k])
    return grad_x.astype(x.dtype), grad_weight.astype(x.dtype), grad_bias.astype(x.dtype)
