"""Losses in loops."""

import math

import numpy as np


def cross_entropy(
    logits: np.ndarray,
    target: np.ndarray,
    label_smoothing: float,
    sample_weight: np.ndarray | None = None,
) -> float:
    """Mean over n of ``-sum over k of q[k] * log softmax(logits[n])[k]``.

    ``q`` is ``label_smoothing / classes`` everywhere, plus ``1 - label_smoothing`` at the target
    (or times the target's probabilities, where it has a row of them for each sample).
    With ``sample_weight``, the mean is ``sum over n of w[n] * loss[n] / sum over n of w[n]``.
    """
    N, K = logits.shape
    total = 0.0
    for n in range(N):
        largest = float(max(logits[n]))
        log_sum = math.log(sum(math.exp(float(z) - largest) for z in logits[n]))
        for k in range(K):
            share = _target_share(k, target[n], K, label_smoothing)
            # A class that is not the target does not count, even where its logit is infinite.
            if share > 0.0 or target.ndim == 2:
                loss = share * (log_sum - (float(logits[n, k]) - largest))
                total += loss * _sample_share(n, N, sample_weight)
    return total


def cross_entropy_backward(
    grad_output: float,
    logits: np.ndarray,
    target: np.ndarray,
    label_smoothing: float,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray:
    """``(softmax(logits) - q) / N``, or ``* w[n] / sum(w)`` for samples of weights w."""
    N, K = logits.shape
    grad = np.empty(logits.shape, logits.dtype)
    for n in range(N):
        largest = float(max(logits[n]))
        exponentials = [math.exp(float(z) - largest) for z in logits[n]]
        for k in range(K):
            probability = exponentials[k] / sum(exponentials)
            share = _target_share(k, target[n], K, label_smoothing)
            grad[n, k] = grad_output * (probability - share) * _sample_share(n, N, sample_weight)
    return grad


def mse(
    prediction: np.ndarray, target: np.ndarray, sample_weight: np.ndarray | None = None
) -> float:
    """Mean over the samples (weighted, if they have weights) of the mean square of each one."""
    N = len(prediction)
    elements = prediction.size // N
    total = 0.0
    for index in np.ndindex(prediction.shape):
        difference = float(prediction[index]) - float(target[index])
        square = difference * difference
        total += square / elements * _sample_share(index[0], N, sample_weight)
    return total


def mse_backward(
    grad_output: float,
    prediction: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray:
    """``2 * (prediction - target) / size``, or ``/ elements * w[n] / sum(w)`` with weights w."""
    N = len(prediction)
    elements = prediction.size // N
    grad = np.empty(prediction.shape, prediction.dtype)
    for index in np.ndindex(prediction.shape):
        difference = float(prediction[index]) - float(target[index])
        share = _sample_share(index[0], N, sample_weight)
        grad[index] = difference * (2.0 * grad_output * share / elements)
    return grad


def _sample_share(n: int, samples: int, sample_weight: np.ndarray | None) -> float:
    """What sample ``n`` counts in a mean over all of them."""
    if sample_weight is None:
        return 1.0 / samples
    return float(sample_weight[n]) / sum(map(float, sample_weight))


def _target_share(k: int, target: int | np.ndarray, classes: int, label_smoothing: float) -> float:
    share = float(target[k]) if isinstance(target, np.ndarray) else float(k == target)
    return label_smoothing / classes + (1.0 - label_smoothing) * share
