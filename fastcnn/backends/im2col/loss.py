"""Losses over whole arrays, summed in float64."""

import numpy as np


def cross_entropy(
    logits: np.ndarray,
    target: np.ndarray,
    label_smoothing: float,
    sample_weight: np.ndarray | None = None,
) -> float:
    """Mean over samples of the cross-entropy between the smoothed target and the softmax."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    if target.ndim == 2:
        at_target = (target * shifted).sum(axis=1)
    else:
        at_target = shifted[np.arange(len(logits)), target]
    loss = (1.0 - label_smoothing) * (log_sum - at_target)
    if label_smoothing > 0.0:
        loss += label_smoothing * (log_sum - shifted.mean(axis=1))
    return float(np.average(loss, weights=sample_weight))


def cross_entropy_backward(
    grad_output: float,
    logits: np.ndarray,
    target: np.ndarray,
    label_smoothing: float,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray:
    """``(softmax - smoothed target) / N``, or times each sample's share of all weights."""
    grad = np.exp(logits - logits.max(axis=1, keepdims=True))
    grad /= grad.sum(axis=1, keepdims=True)
    grad -= label_smoothing / logits.shape[1]
    if target.ndim == 2:
        grad -= (1.0 - label_smoothing) * target
    else:
        grad[np.arange(len(logits)), target] -= 1.0 - label_smoothing
    if sample_weight is None:
        grad *= grad_output / len(logits)
    else:
        grad *= (grad_output * sample_weight / sample_weight.sum())[:, None]
    return grad


def mse(
    prediction: np.ndarray, target: np.ndarray, sample_weight: np.ndarray | None = None
) -> float:
    """Mean over samples of the mean of ``(prediction - target)^2``."""
    difference = prediction.astype(np.float64) - target
    squares = (difference * difference).reshape(len(prediction), -1).mean(axis=1)
    return float(np.average(squares, weights=sample_weight))


def mse_backward(
    grad_output: float,
    prediction: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray:
    """``2 * (prediction - target) / size``, or by each sample's share of all weights."""
    grad = (prediction - target) * (2.0 * grad_output / prediction.size)
    if sample_weight is not None:
        share = len(prediction) * sample_weight / sample_weight.sum()
        grad *= share.reshape(-1, *(1,) * (prediction.ndim - 1))
    return grad.astype(prediction.dtype, copy=False)
