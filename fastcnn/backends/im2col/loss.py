"""Losses over classes, on whole arrays, summed in float64."""

from typing import Any

import numpy as np


class _Terms:
    """Logits of shape (N, K, P), and the weight of each of N x P targets.

    Targets are ``classes`` of shape (N, P), 0 where they are ignored, or ``probabilities`` of shape
    (N, K, P). ``share``, of shape (N, P), is each target's share of the loss, without the
    ``weight`` of its class.
    """

    def __init__(
        self,
        x: np.ndarray,
        target: np.ndarray,
        sample_weight: np.ndarray | None = None,
        weight: np.ndarray | None = None,
        ignore_index: int | None = None,
        reduction: str = "mean",
    ) -> None:
        count, classes = x.shape[:2]
        self.x = x.reshape(count, classes, -1)
        pixels = self.x.shape[2]
        self.weight = np.ones(classes) if weight is None else np.asarray(weight, np.float64)
        self.classes = self.probabilities = None
        share = np.ones((count, pixels))
        if target.ndim == x.ndim:
            self.probabilities = target.reshape(self.x.shape)
        else:
            self.classes = target.reshape(count, pixels)
            if ignore_index is not None:
                share[self.classes == ignore_index] = 0.0
                self.classes = np.where(share > 0.0, self.classes, 0)
        if sample_weight is not None:
            share *= sample_weight.reshape(count, -1)
        each_counts = weight is None or self.classes is None
        counted = share if each_counts else share * self.weight[self.classes]
        self.share = over_sum(share, counted, reduction)

    def pick(self, values: np.ndarray) -> np.ndarray:
        """The value of the target's class in each column of ``values``, shape (N, K, P)."""
        return values[self._places()]

    def add(self, values: np.ndarray, more: np.ndarray) -> None:
        """Add values to the elements of the targets' classes, in place."""
        values[self._places()] += more.astype(values.dtype)

    def _places(self) -> tuple[np.ndarray, ...]:
        """Indices of the targets' classes."""
        assert self.classes is not None
        count, pixels = self.classes.shape
        return np.arange(count)[:, None], self.classes, np.arange(pixels)

    def sum(self, losses: np.ndarray) -> float:
        """Sum of the losses of all targets; those of weight zero may have any value."""
        return float(np.where(self.share > 0.0, losses * self.share, 0.0).sum())

    def times_share(self, grad: np.ndarray, grad_output: float) -> np.ndarray:
        """The gradient in the shape and dtype of x; 0 at targets of weight zero."""
        share = (grad_output * self.share).astype(grad.dtype)[:, None]
        return np.where(share != 0.0, grad * share, grad.dtype.type(0))


def over_sum(share: np.ndarray, counted: np.ndarray, reduction: str) -> np.ndarray:
    """Weights divided by the sum of what is counted, or unchanged with the reduction "sum".

    If nothing is counted, the loss is 0.
    """
    if reduction == "sum":
        return share
    total = counted.sum()
    return share / total if total > 0.0 else np.zeros_like(share)


def _log_softmax(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits minus their maximum, and the log of the sum of their exponentials."""
    shifted = x.astype(np.float64) - x.max(axis=1, keepdims=True)
    return shifted, np.log(np.exp(shifted).sum(axis=1))


def _softmax(x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(x - x.max(axis=1, keepdims=True))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def cross_entropy(
    logits: np.ndarray,
    target: np.ndarray,
    label_smoothing: float = 0.0,
    sample_weight: np.ndarray | None = None,
    **options: Any,
) -> float:
    """Weighted mean of the cross-entropy between the smoothed target and the softmax."""
    terms = _Terms(logits, target, sample_weight, **options)
    shifted, log_sum = _log_softmax(terms.x)
    spread = label_smoothing / shifted.shape[1]
    weight = terms.weight[:, None]
    if terms.probabilities is None:
        own = (1.0 - label_smoothing) * terms.weight[terms.classes]
        loss = own * (log_sum - terms.pick(shifted))
    else:
        own = weight * (1.0 - label_smoothing) * terms.probabilities
        loss = own.sum(axis=1) * log_sum - (own * shifted).sum(axis=1)
    if label_smoothing > 0.0:
        loss += spread * (terms.weight.sum() * log_sum - (weight * shifted).sum(axis=1))
    return terms.sum(loss)


def cross_entropy_backward(
    grad_output: float,
    logits: np.ndarray,
    target: np.ndarray,
    label_smoothing: float = 0.0,
    sample_weight: np.ndarray | None = None,
    **options: Any,
) -> np.ndarray:
    """``c.sum() * softmax - c`` with the weighted, smoothed target c, times the target's share."""
    terms = _Terms(logits, target, sample_weight, **options)
    grad, weight = _softmax(terms.x), terms.weight[:, None].astype(logits.dtype)
    spread = logits.dtype.type(label_smoothing / grad.shape[1])
    if terms.probabilities is None:
        own = (1.0 - label_smoothing) * terms.weight[terms.classes]
        grad *= (own + spread * terms.weight.sum())[:, None].astype(grad.dtype)
        terms.add(grad, -own)
    else:
        coefficients = weight * terms.probabilities * (1.0 - label_smoothing)
        grad *= coefficients.sum(axis=1, keepdims=True) + spread * weight.sum()
        grad -= coefficients
    grad -= spread * weight
    return terms.times_share(grad, grad_output).reshape(logits.shape)


def nll(
    log_probabilities: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None = None,
    **options: Any,
) -> float:
    """Weighted mean of minus the input at the targets' classes."""
    terms = _Terms(log_probabilities, target, sample_weight, **options)
    own = terms.pick(terms.x).astype(np.float64)
    return terms.sum(-terms.weight[terms.classes] * own)


def nll_backward(
    grad_output: float,
    log_probabilities: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None = None,
    **options: Any,
) -> np.ndarray:
    """Minus the target's share at its class, else 0."""
    terms = _Terms(log_probabilities, target, sample_weight, **options)
    grad = np.zeros_like(terms.x)
    terms.add(grad, -terms.weight[terms.classes])
    return terms.times_share(grad, grad_output).reshape(log_probabilities.shape)


def focal(
    logits: np.ndarray,
    target: np.ndarray,
    gamma: float,
    sample_weight: np.ndarray | None = None,
    **options: Any,
) -> float:
    """Weighted mean of ``-(1 - p)**gamma * log(p)``."""
    terms = _Terms(logits, target, sample_weight, **options)
    shifted, log_sum = _log_softmax(terms.x)
    loss, _, rest = _focal_terms(terms, shifted, log_sum)
    return terms.sum(terms.weight[terms.classes] * rest**gamma * loss)


def focal_backward(
    grad_output: float,
    logits: np.ndarray,
    target: np.ndarray,
    gamma: float,
    sample_weight: np.ndarray | None = None,
    **options: Any,
) -> np.ndarray:
    """``g * (softmax - one-hot)``; ``g = (1 - p)**gamma - gamma p (1 - p)**(gamma - 1) log p``."""
    terms = _Terms(logits, target, sample_weight, **options)
    shifted, log_sum = _log_softmax(terms.x)
    loss, p, rest = _focal_terms(terms, shifted, log_sum)
    # At p = 1, log p is replaced by its first-order term, p - 1.
    ratio = np.divide(loss, rest, out=np.ones_like(loss), where=rest > 0.0)
    g = terms.weight[terms.classes] * rest**gamma * (1.0 + gamma * p * ratio)
    grad = np.exp(shifted - log_sum[:, None]) * g[:, None]
    terms.add(grad, -g)
    return terms.times_share(grad, grad_output).reshape(logits.shape).astype(logits.dtype)


def _focal_terms(
    terms: _Terms, shifted: np.ndarray, log_sum: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``-log p``, p, and ``1 - p`` without cancellation, of the targets' classes."""
    loss = log_sum - terms.pick(shifted)
    others = np.exp(shifted)
    assert terms.classes is not None
    np.put_along_axis(others, terms.classes[:, None], 0.0, axis=1)
    rest = others.sum(axis=1) / np.exp(log_sum)
    # log(1 + others / own), where the target's class has the largest probability.
    loss = np.where(rest < 0.5, -np.log1p(-np.minimum(rest, 0.5)), loss)
    return loss, np.exp(-loss), rest
