"""Losses in loops."""

import math

import numpy as np


def cross_entropy(logits: np.ndarray, target: np.ndarray, label_smoothing: float) -> float:
    """Mean over n of ``-sum over k of q[k] * log softmax(logits[n])[k]``.

    ``q`` is ``label_smoothing / classes`` everywhere, plus ``1 - label_smoothing`` at the target.
    """
    N, K = logits.shape
    total = 0.0
    for n in range(N):
        largest = float(max(logits[n]))
        log_sum = largest + math.log(sum(math.exp(float(z) - largest) for z in logits[n]))
        for k in range(K):
            share = _target_share(k, target[n], K, label_smoothing)
            if share > 0.0:
                total += share * (log_sum - float(logits[n, k]))
    return total / N


def cross_entropy_backward(
    grad_output: float, logits: np.ndarray, target: np.ndarray, label_smoothing: float
) -> np.ndarray:
    """``(softmax(logits) - q) / N``."""
    N, K = logits.shape
    grad = np.empty(logits.shape, logits.dtype)
    for n in range(N):
        largest = float(max(logits[n]))
        exponentials = [math.exp(float(z) - largest) for z in logits[n]]
        for k in range(K):
            probability = exponentials[k] / sum(exponentials)
            share = _target_share(k, target[n], K, label_smoothing)
            grad[n, k] = grad_output * (probability - share) / N
    return grad


def mse(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean over all elements of ``(prediction - target)^2``."""
    total = 0.0
    for index in np.ndindex(prediction.shape):
        total += (float(prediction[index]) - float(target[index])) ** 2
    return total / prediction.size


def mse_backward(grad_output: float, prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``2 * (prediction - target) / size``."""
    grad = np.empty(prediction.shape, prediction.dtype)
    for index in np.ndindex(prediction.shape):
        difference = float(prediction[index]) - float(target[index])
        grad[index] = grad_output * 2.0 * difference / prediction.size
    return grad


def _target_share(k: int, target: int, classes: int, label_smoothing: float) -> float:
    return label_smoothing / classes + (1.0 - label_smoothing if k == target else 0.0)
