"""Normalisation within each sample, one value at a time.

A set of elements has a mean m and a variance v; which elements are a set is said by
``sets_of``. ``y = weight * (x - m) / sqrt(v + eps) + bias``. Root-mean-square normalisation has no
m, and v is the mean of the squares.
"""

from collections.abc import Iterator

import numpy as np

from fastcnn.backends.reference.sums import root, total
from fastcnn.backends.sample_sets import Sets, sets_of

Gradients = tuple[np.ndarray, np.ndarray, np.ndarray]


def layer_norm(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> np.ndarray:
    """A set is what the last dimensions hold, of the shape ``normalized_shape``."""
    sets = sets_of("layer_norm", {"normalized_shape": normalized_shape}, x.shape[1:])
    return _normalised(x, sets, weight, bias, eps)


def layer_norm_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> Gradients:
    """Gradients of x, weight and bias."""
    sets = sets_of("layer_norm", {"normalized_shape": normalized_shape}, x.shape[1:])
    grad_x, *grads = _gradients(grad_output, x, sets, weight, eps)
    return grad_x, grads[0].reshape(normalized_shape), grads[1].reshape(normalized_shape)


def rms_norm(
    x: np.ndarray, weight: np.ndarray | None, normalized_shape: tuple[int, ...], eps: float
) -> np.ndarray:
    """Sets as in :func:`layer_norm`; no mean is taken away."""
    sets = sets_of("rms_norm", {"normalized_shape": normalized_shape}, x.shape[1:])
    return _normalised(x, sets, weight, None, eps, centred=False)


def rms_norm_backward(
    grad_output: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of x and weight."""
    sets = sets_of("rms_norm", {"normalized_shape": normalized_shape}, x.shape[1:])
    grad_x, grad_weight, _ = _gradients(grad_output, x, sets, weight, eps, centred=False)
    return grad_x, grad_weight.reshape(normalized_shape)


def group_norm(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    num_groups: int,
    eps: float,
) -> np.ndarray:
    """A set is all pixels of the channels of a group; a weight belongs to a channel."""
    sets = sets_of("group_norm", {"num_groups": num_groups}, x.shape[1:])
    return _normalised(x, sets, weight, bias, eps)


def group_norm_backward(
    grad_output: np.ndarray, x: np.ndarray, weight: np.ndarray | None, num_groups: int, eps: float
) -> Gradients:
    """Gradients of x, weight and bias."""
    sets = sets_of("group_norm", {"num_groups": num_groups}, x.shape[1:])
    return _gradients(grad_output, x, sets, weight, eps)


def layer_norm2d(
    x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, eps: float
) -> np.ndarray:
    """A set is the channels of one pixel."""
    return _normalised(x, sets_of("layer_norm2d", {}, x.shape[1:]), weight, bias, eps)


def layer_norm2d_backward(
    grad_output: np.ndarray, x: np.ndarray, weight: np.ndarray | None, eps: float
) -> Gradients:
    """Gradients of x, weight and bias."""
    return _gradients(grad_output, x, sets_of("layer_norm2d", {}, x.shape[1:]), weight, eps)


def _normalised(
    x: np.ndarray,
    sets: Sets,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    centred: bool = True,
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
    centred: bool = True,
) -> Gradients:
    """With z the normalised input and g = weight * dy, ``dw`` is the sum of dy z, ``db`` of dy.

    ``dx = (g - mean(g) - z mean(g z)) / sqrt(v + eps)``; without m the mean of g is left out.
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
    """Mean, or 0, and the inverse of the deviation from it; a variance has the type of x."""
    values = [float(x[place]) for place in places]
    mean = total(values) / len(values) if centred else 0.0
    variance = total((value - mean) * (value - mean) for value in values) / len(values)
    return mean, 1.0 / root(float(x.dtype.type(variance)) + eps)


def members(x: np.ndarray, sets: Sets) -> Iterator[list[tuple[int, ...]]]:
    """Indices of the elements of each set."""
    places = list(np.ndindex(x.shape[1:]))
    members: list[list[tuple[int, ...]]] = [[] for _ in range(sets.count)]
    for place, number in zip(places, sets.set_numbers(), strict=True):
        members[number].append(place)
    for n in range(x.shape[0]):
        for part in members:
            yield [(n, *place) for place in part]


def _or(values: np.ndarray | None, place: int, default: float) -> float:
    return default if values is None else float(values.reshape(-1)[place])
