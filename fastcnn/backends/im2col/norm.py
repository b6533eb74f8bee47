"""Batch normalisation with sums in float64: compiled loops for float32, else whole arrays."""

from collections.abc import Sequence

import numpy as np

from fastcnn.backends.im2col import norm_loops
from fastcnn.backends.im2col.memory import empty_in_order, empty_like, flat, stored_order
from fastcnn.codegen.build import is_disabled
from fastcnn.codegen.functions import Compiled
from fastcnn.codegen.simd import LANES


def batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each channel, over samples and pixels."""
    count, mean, squares = moments(x)
    return mean.astype(x.dtype), (squares / count).astype(x.dtype)


def moments(x: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Count, mean and sum of squared deviations of each channel in a part of a batch."""
    axes, count = _axes(x), x.size // x.shape[1]
    # Two passes, not the mean of squares: no cancellation where the mean is large.
    if _is_compiled(x):
        order, numbers = _runs(x)
        sums, lanes = np.empty((2, x.shape[1])), np.empty(2 * LANES)
        norm_loops.moments(flat(x, order), np.empty(x.shape[1], x.dtype), sums, lanes, numbers)
        return count, *sums
    mean = x.mean(axis=axes, dtype=np.float64)
    deviation = np.subtract(x, _by_channel(mean.astype(x.dtype), x), out=empty_like(x))
    np.square(deviation, out=deviation)
    return count, mean, deviation.sum(axis=axes, dtype=np.float64)


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
    """``y = weight * (x - mean) / sqrt(variance + eps) + bias``; a mean of None is the batch's."""
    if mean is None or variance is None:
        mean, variance = batch_statistics(x)
    mean = _centre(mean, variance)
    if _is_compiled(x):
        added = np.zeros_like(mean) if bias is None else bias
        return _in_one_pass(norm_loops.normalise, x, mean, _scale(weight, variance, eps), added)
    y = np.subtract(x, _by_channel(mean, x), out=empty_like(x))
    y *= _by_channel(_scale(weight, variance, eps), x)
    if bias is not None:
        y += _by_channel(bias, x)
    return y


def gradient_sums(
    grad_output: np.ndarray, x: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float
) -> tuple[int, np.ndarray, np.ndarray]:
    """Count of values in a part of a batch, and each channel's sums of dy z and of dy."""
    axes, count, mean = _axes(x), x.size // x.shape[1], _centre(mean, variance)
    if _is_compiled(x):
        order, numbers = _runs(x)
        sums, lanes = np.empty((2, x.shape[1])), np.empty(2 * LANES)
        both = flat(grad_output, order), flat(x, order)
        norm_loops.products(*both, mean, sums, lanes, numbers)
        of_dy, of_products = sums
        return count, of_products * _scale(None, variance, eps), of_dy
    product = _normalised(x, mean, variance, eps)
    product *= grad_output
    of_products = product.sum(axis=axes, dtype=np.float64)
    return count, of_products, grad_output.sum(axis=axes, dtype=np.float64)


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
    sums: tuple[int, np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """With z the normalised input, ``dw`` is the sum of dy z, ``db`` that of dy.

    ``dx = weight / sqrt(variance + eps) * (dy - mean(dy) - z mean(dy z))``; if mean and variance
    do not depend on ``x``, both means are omitted. For a part of a batch, statistics are those of
    the whole batch, and so are ``gradient_means``, of dy z and of dy; ``sums`` are the part's
    :func:`gradient_sums`, if they are known.
    """
    of_batch = mean is None or variance is None
    if mean is None or variance is None:
        mean, variance = batch_statistics(x)
    mean = _centre(mean, variance)
    count, *totals = sums or gradient_sums(grad_output, x, mean, variance, eps)
    grad_weight, grad_bias = (each.astype(x.dtype) for each in totals)
    if of_batch:
        gradient_means = (grad_weight / count, grad_bias / count)
    scale = _scale(weight, variance, eps)
    if gradient_means is None:
        return grad_output * _by_channel(scale, x), grad_weight, grad_bias
    of_weight, of_bias = gradient_means
    if _is_compiled(x):
        factors = (mean, scale, of_bias, of_weight * _scale(None, variance, eps))
        grad_x = _in_one_pass(norm_loops.gradient, x, *factors, dy=grad_output)
        return grad_x, grad_weight, grad_bias
    grad_x = _normalised(x, mean, variance, eps)
    grad_x *= _by_channel(-of_weight, x)
    grad_x += grad_output
    grad_x -= _by_channel(of_bias, x)
    grad_x *= _by_channel(scale, x)
    return grad_x, grad_weight, grad_bias


def _is_compiled(x: np.ndarray) -> bool:
    return x.dtype == np.float32 and x.size > 0 and not is_disabled()


def _in_one_pass(
    loop: Compiled, x: np.ndarray, *factors: np.ndarray, dy: np.ndarray | None = None
) -> np.ndarray:
    """The result of a loop over ``x``, and dy before it, with some factors for each channel."""
    order, numbers = _runs(x)
    made = empty_in_order(x, order)
    given = [flat(each, order) for each in (dy, x) if each is not None]
    loop(*given, np.stack(factors).astype(x.dtype, copy=False), flat(made, order), numbers)
    return made


def _runs(x: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Axes in memory order, channels and samples first, and where the channels are in it."""
    order = [axis for axis in stored_order(x) if axis < 2] + list(range(2, x.ndim))
    N, C, pixels = x.shape[0], x.shape[1], x[0, 0].size
    # If channels come first, a channel of all samples is contiguous.
    numbers = (C, 1, N * pixels, N * pixels, 0) if order[0] else (C, N, pixels, pixels, C * pixels)
    return order, np.array(numbers)


def _normalised(x: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float) -> np.ndarray:
    z = np.subtract(x, _by_channel(mean, x), out=empty_like(x))
    z *= _by_channel(_scale(None, variance, eps), x)
    return z


def _centre(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The value subtracted from a channel: its mean, or 0 if its variance overflowed.

    The normalised value is then 0. Deviations may overflow as well, and infinity times 0 is NaN.
    """
    return np.where(np.isinf(variance), mean.dtype.type(0), mean)


def _axes(x: np.ndarray) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _by_channel(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Per-channel values in a shape that broadcasts against ``x``."""
    return values.reshape(-1, *(1,) * (x.ndim - 2))


def _scale(weight: np.ndarray | None, variance: np.ndarray, eps: float) -> np.ndarray:
    # In float64: in float32 a small eps would vanish, and a small root would be inexact.
    inverse = (1.0 / np.sqrt(variance.astype(np.float64) + eps)).astype(variance.dtype)
    return inverse if weight is None else weight * inverse
