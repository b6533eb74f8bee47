"""Batch normalisation over whole arrays, with sums in float64."""

from collections.abc import Sequence

import numpy as np

from fastcnn.backends.im2col.memory import empty_like


def batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each channel, over samples and pixels."""
    axes = _axes(x)
    mean = x.mean(axis=axes, dtype=np.float64).astype(x.dtype)
    # About the mean, not by the mean of squares: nothing cancels where the mean is large.
    variance = np.square(x - _by_channel(mean, x)).mean(axis=axes, dtype=np.float64)
    return mean, variance.astype(x.dtype)


def moments(x: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Values in a part of a batch, their mean and the squares about it, for each channel."""
    axes = _axes(x)
    mean = x.mean(axis=axes, dtype=np.float64)
    deviation = np.subtract(x, _by_channel(mean.astype(x.dtype), x), out=empty_like(x))
    np.square(deviation, out=deviation)
    return x.size // x.shape[1], mean, deviation.sum(axis=axes, dtype=np.float64)


def joint_statistics(
    parts: Sequence[tuple[int, np.ndarray, np.ndarray]], dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """The mean and variance of a batch from the :func:`moments` of its parts."""
    total = sum(count for count, _, _ in parts)
    mean = np.sum([count * of_part for count, of_part, _ in parts], axis=0) / total
    squares = [square + count * (of_part - mean) ** 2 for count, of_part, square in parts]
    return mean.astype(dtype), (np.sum(squares, axis=0) / total).astype(dtype)


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
    y = np.subtract(x, _by_channel(mean, x), out=empty_like(x))
    y *= _by_channel(_scale(weight, variance, eps), x)
    if bias is not None:
        y += _by_channel(bias, x)
    return y


def gradient_sums(
    grad_output: np.ndarray, x: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float
) -> tuple[int, np.ndarray, np.ndarray]:
    """Values in a part of a batch, and the sums of dy z and of dy, for each channel."""
    axes = _axes(x)
    product = _normalised(x, mean, variance, eps)
    product *= grad_output
    return (
        x.size // x.shape[1],
        product.sum(axis=axes, dtype=np.float64),
        grad_output.sum(axis=axes, dtype=np.float64),
    )


def joint_means(
    parts: Sequence[tuple[int, np.ndarray, np.ndarray]], dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """The means of dy z and of dy over a batch from the :func:`gradient_sums` of its parts."""
    total = sum(count for count, _, _ in parts)
    weight = np.sum([of_part for _, of_part, _ in parts], axis=0) / total
    bias = np.sum([of_part for _, _, of_part in parts], axis=0) / total
    return weight.astype(dtype), bias.astype(dtype)


def batch_norm_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray | None,
    variance: np.ndarray | None,
    eps: float,
    gradient_means: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """With z the normalised input, ``dw`` is the sum of dy z, ``db`` that of dy.

    ``dx = weight / sqrt(variance + eps) * (dy - mean(dy) - z mean(dy z))``; where mean and
    variance do not come from ``x``, both means are left out. For a part of a batch they come
    from the whole batch, and so do ``gradient_means``, those of dy z and of dy.
    """
    of_batch = mean is None or variance is None
    if mean is None or variance is None:
        mean, variance = batch_statistics(x)
    z = _normalised(x, mean, variance, eps)
    axes, count = _axes(x), x.size // x.shape[1]
    product = np.multiply(grad_output, z, out=empty_like(x))
    grad_weight = product.sum(axis=axes, dtype=np.float64).astype(x.dtype)
    grad_bias = grad_output.sum(axis=axes, dtype=np.float64).astype(x.dtype)
    if of_batch:
        gradient_means = (grad_weight / count, grad_bias / count)
    grad_x, scale = product, _by_channel(_scale(weight, variance, eps), x)
    if gradient_means is None:
        np.multiply(grad_output, scale, out=grad_x)
        return grad_x, grad_weight, grad_bias
    of_weight, of_bias = gradient_means
    z *= _by_channel(of_weight, x)
    np.subtract(grad_output, _by_channel(of_bias, x), out=grad_x)
    grad_x -= z
    grad_x *= scale
    return grad_x, grad_weight, grad_bias


def _normalised(x: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float) -> np.ndarray:
    z = np.subtract(x, _by_channel(mean, x), out=empty_like(x))
    z *= _by_channel(_scale(None, variance, eps), x)
    return z


def _axes(x: np.ndarray) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _by_channel(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values of channels in a shape that broadcasts against ``x``."""
    return values.reshape(-1, *(1,) * (x.ndim - 2))


def _scale(weight: np.ndarray | None, variance: np.ndarray, eps: float) -> np.ndarray:
    # In float64: in float32 a small eps would be 0, and the root of a small variance inexact.
    inverse = (1.0 / np.sqrt(variance.astype(np.float64) + eps)).astype(variance.dtype)
    return inverse if weight is None else weight * inverse
