"""Losses over classes, in loops."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np


def cross_entropy(
    logits: np.ndarray,
    target: np.ndarray,
    label_smoothing: float = 0.0,
    sample_weight: np.ndarray | None = None,
    **options: Any,
) -> float:
    """Sum over targets of their share of ``-sum over k of c[k] * log softmax(logits)[k]``.

    ``c`` is ``label_smoothing / classes`` everywhere, plus ``1 - label_smoothing`` at the target
    (or times the target's probabilities, where it has them), times the weight of each class.
    """
    total = 0.0
    for place, share in _shares(logits, target, sample_weight, **options):
        z, log_sum = _shifted(logits, place)
        c = _coefficients(len(z), target, place, label_smoothing, **options)
        for k in range(len(z)):
            # Classes other than the target do not count, even if their logit is infinite.
            if c[k] > 0.0 or target.ndim == logits.ndim:
                total += c[k] * (log_sum - z[k]) * share
    return total


def cross_entropy_backward(
    grad_output: float,
    logits: np.ndarray,
    target: np.ndarray,
    label_smoothing: float = 0.0,
    sample_weight: np.ndarray | None = None,
    **options: Any,
) -> np.ndarray:
    """``sum(c) * softmax(logits) - c``, times the target's share."""
    grad = np.zeros(logits.shape, logits.dtype)
    for place, share in _shares(logits, target, sample_weight, **options):
        z, log_sum = _shifted(logits, place)
        c = _coefficients(len(z), target, place, label_smoothing, **options)
        total = sum(c)
        for k in range(len(z)):
            slope = total * math.exp(z[k] - log_sum) - c[k]
            grad[_at(place, k)] = grad_output * slope * share
    return grad


def nll(
    log_probabilities: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None = None,
    **options: Any,
) -> float:
    """Sum over targets of minus their share of their class's weight and input."""
    total = 0.0
    for place, share in _shares(log_probabilities, target, sample_weight, **options):
        k = int(target[place])
        total -= _class_weight(k, **options) * float(log_probabilities[_at(place, k)]) * share
    return total


def nll_backward(
    grad_output: float,
    log_probabilities: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None = None,
    **options: Any,
) -> np.ndarray:
    """Minus the share and the class's weight at the target, else 0."""
    grad = np.zeros(log_probabilities.shape, log_probabilities.dtype)
    for place, share in _shares(log_probabilities, target, sample_weight, **options):
        k = int(target[place])
        grad[_at(place, k)] = -grad_output * _class_weight(k, **options) * share
    return grad


def focal(
    logits: np.ndarray,
    target: np.ndarray,
    gamma: float,
    sample_weight: np.ndarray | None = None,
    **options: Any,
) -> float:
    """Sum over targets of their share of ``-(1 - p)**gamma * log(p)``, by the class's weight."""
    total = 0.0
    for place, share in _shares(logits, target, sample_weight, **options):
        k = int(target[place])
        log_p, rest, _ = _right(logits, place, k)
        total -= _class_weight(k, **options) * rest**gamma * log_p * share
    return total


def focal_backward(
    grad_output: float,
    logits: np.ndarray,
    target: np.ndarray,
    gamma: float,
    sample_weight: np.ndarray | None = None,
    **options: Any,
) -> np.ndarray:
    """``d loss / d log p = -(1 - p)**gamma + gamma * p * (1 - p)**(gamma - 1) * log p``, and
    ``d log p / d logits[j] = (j is the target) - softmax[j]``.
    """
    grad = np.zeros(logits.shape, logits.dtype)
    for place, share in _shares(logits, target, sample_weight, **options):
        right = int(target[place])
        log_p, rest, probabilities = _right(logits, place, right)
        slope = -(rest**gamma)
        if rest > 0.0:
            slope += gamma * probabilities[right] * rest ** (gamma - 1.0) * log_p
        for j, probability in enumerate(probabilities):
            by_logit = rest if j == right else -probability
            factor = grad_output * _class_weight(right, **options) * share
            grad[_at(place, j)] = slope * by_logit * factor
    return grad


def _right(
    logits: np.ndarray, place: tuple[int, ...], right: int
) -> tuple[float, float, list[float]]:
    """``log p`` of the target's class, ``1 - p`` as a sum, and the probabilities of all classes."""
    z, log_sum = _shifted(logits, place)
    probabilities = [math.exp(value - log_sum) for value in z]
    rest = sum(p for k, p in enumerate(probabilities) if k != right)
    log_p = z[right] - log_sum if rest > 0.5 else math.log1p(-rest)
    return log_p, rest, probabilities


def _shifted(logits: np.ndarray, place: tuple[int, ...]) -> tuple[list[float], float]:
    """Logits minus their maximum, and the logarithm of the sum of their exponentials."""
    column = [float(logits[_at(place, k)]) for k in range(logits.shape[1])]
    largest = max(column)
    z = [value - largest for value in column]
    return z, math.log(sum(map(math.exp, z)))


def _at(place: tuple[int, ...], k: int) -> tuple[int, ...]:
    """The index of class k for a target's index: the class is the second axis."""
    return (place[0], k, *place[1:])


def _coefficients(
    classes: int, target: np.ndarray, place: tuple[int, ...], label_smoothing: float, **options: Any
) -> list[float]:
    found = []
    for k in range(classes):
        is_class = target.ndim == len(place)
        share = float(target[place] == k) if is_class else float(target[_at(place, k)])
        smoothed = label_smoothing / classes + (1.0 - label_smoothing) * share
        found.append(_class_weight(k, **options) * smoothed)
    return found


def _class_weight(k: int, weight: np.ndarray | None = None, **_: Any) -> float:
    return 1.0 if weight is None else float(weight[k])


def _shares(
    logits: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    **options: Any,
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Indices of the targets that count, (n,) or (n, row, column), and their share of the loss."""
    places, total = [], 0.0
    is_class = target.ndim < logits.ndim
    for place in np.ndindex(logits.shape[0], *logits.shape[2:]):
        if is_class and target[place] == ignore_index:
            continue
        own = 1.0
        if sample_weight is not None:
            own = float(sample_weight[place if sample_weight.ndim == len(place) else place[0]])
        total += own * (_class_weight(int(target[place]), **options) if is_class else 1.0)
        places.append((place, own))
    for place, own in places:
        if own > 0.0:
            yield place, own if reduction == "sum" else own / total if total > 0.0 else 0.0
