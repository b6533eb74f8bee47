"""Batch normalisation, one value at a time."""

from collections.abc import Iterator

import numpy as np

from fastcnn.backends.plain.sums import root, total


def batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each channel, over samples and pixels."""
    mean, variance = np.zeros(x.shape[1], x.dtype), np.zeros(x.shape[1], x.dtype)
    for c in range(x.shape[1]):
        values = [float(x[index]) for index in _channel(x.shape, c)]
        middle = total(values) / len(values)
        squares = [(value - middle) * (value - middle) for value in values]
        mean[c] = middle
        variance[c] = total(squares) / len(values)
    return mean, variance


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
    y = np.empty(x.shape, x.dtype)
    for c in range(x.shape[1]):
        inverse = 1.0 / root(float(variance[c]) + eps)
        for index in _channel(x.shape, c):
            normalised = (float(x[index]) - float(mean[c])) * inverse
            y[index] = normalised * _or(weight, c, 1.0) + _or(bias, c, 0.0)
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

    ``dx = weight / sqrt(variance + eps) * (dy - mean(dy) - z mean(dy z))``; if mean and variance do
    not depend on ``x``, both means are omitted.
    """
    of_batch = mean is None or variance is None
    if mean is None or variance is None:
        mean, variance = batch_statistics(x)
    grad_x = np.empty(x.shape, x.dtype)
    grad_weight, grad_bias = np.zeros(x.shape[1], x.dtype), np.zeros(x.shape[1], x.dtype)
    for c in range(x.shape[1]):
        inverse = 1.0 / root(float(variance[c]) + eps)
        pixels = list(_channel(x.shape, c))
        z = {index: (float(x[index]) - float(mean[c])) * inverse for index in pixels}
        plain = total(float(grad_output[index]) for index in pixels)
        product = total(float(grad_output[index]) * z[index] for index in pixels)
        grad_weight[c], grad_bias[c] = product, plain
        for index in pixels:
            dy = float(grad_output[index])
            if of_batch:
                dy -= (plain + z[index] * product) / len(pixels)
            grad_x[index] = _or(weight, c, 1.0) * inverse * dy
    return grad_x, grad_weight, grad_bias


def _channel(shape: tuple[int, ...], c: int) -> Iterator[tuple[int, ...]]:
    """Indices of all values of one channel."""
    for n, *pixel in np.ndindex(shape[0], *shape[2:]):
        yield (n, c, *pixel)


def _or(values: np.ndarray | None, c: int, default: float) -> float:
    return default if values is None else float(values[c])
