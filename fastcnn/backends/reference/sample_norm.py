"""Normalisation within each sample, one value at a time.

A set of elements has a mean m and a variance v; ``sets_of`` defines the sets. ``y = weight * (x -
m) / sqrt(v + eps) + bias``. Root-mean-square normalisation has no m, and v is the mean of the
squares.
"""

import numpy as np

from fastcnn.backends.plain.sums import members, root, total
from fastcnn.backends.sample_norm import Gradients, sample_norm
from fastcnn.backends.sample_sets import Sets


def _normalised(
    x: np.ndarray,
    sets: Sets,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    centred: bool,
) -> np.ndarray:
    y, numbers = np.empty(x.shape, x.dtype), sets.weight_numbers().reshape(x.shape[1:])
    for places in members(x, sets):
        mean, inverse = _statistics(x, places, eps, centred)
        for place in places:
            normalised = (float(x[place]) - mean) * inverse
            number = numbers[place[1:]]
            y[place] = normalised * _or(weight, number, 1.0) + _or(bias, number, 0.0)
    return y


def _gradients(
    grad_output: np.ndarray,
    x: np.ndarray,
    sets: Sets,
    weight: np.ndarray | None,
    eps: float,
    centred: bool,
) -> Gradients:
    """With z the normalised input and g = weight * dy, ``dw`` is the sum of dy z, ``db`` of dy.

    ``dx = (g - mean(g) - z mean(g z)) / sqrt(v + eps)``; without m the mean of g is omitted.
    Gradients of weights have one dimension.
    """
    numbers = sets.weight_numbers().reshape(x.shape[1:])
    grad_x = np.empty(x.shape, x.dtype)
    shares: list[list[float]] = [[] for _ in range(sets.weights)]
    plain: list[list[float]] = [[] for _ in range(sets.weights)]
    for places in members(x, sets):
        mean, inverse = _statistics(x, places, eps, centred)
        z = [(float(x[place]) - mean) * inverse for place in places]
        g = []
        for place, value in zip(places, z, strict=True):
            number, dy = numbers[place[1:]], float(grad_output[place])
            shares[number].append(dy * value)
            plain[number].append(dy)
            g.append(dy * _or(weight, number, 1.0))
        level = total(g) / len(g) if centred else 0.0
        slope = total(a * b for a, b in zip(g, z, strict=True)) / len(g)
        for place, a, b in zip(places, g, z, strict=True):
            grad_x[place] = inverse * (a - level - b * slope)
    grad_weight, grad_bias = (
        np.array([total(part) for part in parts], x.dtype) for parts in (shares, plain)
    )
    return grad_x, grad_weight, grad_bias


def _statistics(
    x: np.ndarray, places: list[tuple[int, ...]], eps: float, centred: bool
) -> tuple[float, float]:
    """Mean, or 0, and 1 / standard deviation; the variance is rounded to the dtype of x."""
    values = [float(x[place]) for place in places]
    mean = total(values) / len(values) if centred else 0.0
    variance = total((value - mean) * (value - mean) for value in values) / len(values)
    return mean, 1.0 / root(float(x.dtype.type(variance)) + eps)


def _or(values: np.ndarray | None, place: int, default: float) -> float:
    return default if values is None else float(values.reshape(-1)[place])


layer_norm, layer_norm_backward = sample_norm("layer_norm", _normalised, _gradients)
rms_norm, rms_norm_backward = sample_norm("rms_norm", _normalised, _gradients)
group_norm, group_norm_backward = sample_norm("group_norm", _normalised, _gradients)
layer_norm2d, layer_norm2d_backward = sample_norm("layer_norm2d", _normalised, _gradients)
