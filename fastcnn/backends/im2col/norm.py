"""Batch normalisation over whole arrays, with sums in float64."""

import numpy as np


def batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each channel, over samples and pixels."""
    axes = _axes(x)
    mean = x.mean(axis=axes, dtype=np.float64).astype(x.dtype)
    # About the mean, not by the mean of squares: nothing cancels where the mean is large.
    variance = np.square(x - _by_channel(mean, x)).mean(axis=axes, dtype=np.float64)
    return mean, variance.astype(x.dtype)


def batch_norm(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray | None,
    variance: np.ndarray | None,
    eps: float,
) -> np.ndarray:
    """``y = weight * (x - mean) / sqrt(variance + eps) + bias``; no mean means the batch's own."""
    if mean is None or variance is None:
        mean, variance = batch_statistics(x)
    y = x - _by_channel(mean, x)
    y *= _by_channel(_scale(weight, variance, eps), x)
    if bias is not None:
        y += _by_channel(bias, x)
    return y


def batch_norm_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray | None,
    variance: np.ndarray | None,
    eps: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """With z the normalised input, ``dw`` is the sum of dy z, ``db`` that of dy.

    ``dx = weight / sqrt(variance + eps) * (dy - mean(dy) - z mean(dy z))``; where mean and
    variance do not come from ``x``, both means are left out.
    """
    of_batch = mean is None or variance is None
    if mean is None or variance is None:
        mean, variance = batch_statistics(x)
    axes, count = _axes(x), x.size // x.shape[1]
    z = (x - _by_channel(mean, x)) * _by_channel(_scale(None, variance, eps), x)
    grad_weight = (grad_output * z).sum(axis=axes, dtype=np.float64).astype(x.dtype)
    grad_bias = grad_output.sum(axis=axes, dtype=np.float64).astype(x.dtype)
    grad_x = grad_output
    if of_batch:
        grad_x = grad_x - _by_channel(grad_bias / count, x)
        grad_x -= z * _by_channel(grad_weight / count, x)
    return grad_x * _by_channel(_scale(weight, variance, eps), x), grad_weight, grad_bias


def _axes(x: np.ndarray) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _by_channel(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values of channels in a shape that broadcasts against ``x``."""
    return values.reshape(-1, *(1,) * (x.ndim - 2))


def _scale(weight: np.ndarray | None, variance: np.ndarray, eps: float) -> np.ndarray:
    # In float64: in float32 a small eps would be 0, and the root of a small variance inexact.
    inverse = (1.0 / np.sqrt(variance.astype(np.float64) + eps)).astype(variance.dtype)
    return inverse if weight is None else weight * inverse
