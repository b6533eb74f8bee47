"""Losses over whole arrays, summed in float64."""

import numpy as np


def cross_entropy(logits: np.ndarray, target: np.ndarray, label_smoothing: float) -> float:
    """Mean over samples of the cross-entropy between the smoothed target and the softmax."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    loss = (1.0 - label_smoothing) * (log_sum - shifted[np.arange(len(logits)), target])
    if label_smoothing > 0.0:
        loss += label_smoothing * (log_sum - shifted.mean(axis=1))
    return float(loss.mean())


def cross_entropy_backward(
    grad_output: float, logits: np.ndarray, target: np.ndarray, label_smoothing: float
) -> np.ndarray:
    """``(softmax - smoothed target) / N``."""
    grad = np.exp(logits - logits.max(axis=1, keepdims=True))
    grad /= grad.sum(axis=1, keepdims=True)
    grad -= label_smoothing / logits.shape[1]
    grad[np.arange(len(logits)), target] -= 1.0 - label_smoothing
    grad *= grad_output / len(logits)
    return grad


def mse(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean over all elements of ``(prediction - target)^2``."""
    difference = prediction.astype(np.float64) - target
    return float(np.mean(difference * difference))


def mse_backward(grad_output: float, prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``2 * (prediction - target) / size``."""
    return ((prediction - target) * (2.0 * grad_output / prediction.size)).astype(prediction.dtype)
