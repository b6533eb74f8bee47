"""Normalisation within each sample over whole arrays, with sums in float64."""

import numpy as np

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
    deviations, inverse = _deviations(x, sets, eps, centred)
    deviations *= inverse
    if weight is not None:
        deviations *= _of_weights(weight, sets)
    if bias is not None:
        deviations += _of_weights(bias, sets)
    return deviations.reshape(x.shape)


def _gradients(
    grad_output: np.ndarray,
    x: np.ndarray,
    sets: Sets,
    weight: np.ndarray | None,
    eps: float,
    centred: bool,
) -> Gradients:
    """With z the normalised input and g = weight * dy, ``dw`` is the sum of dy z, ``db`` of dy.

    ``dx = (g - mean(g) - z mean(g z)) / sqrt(v + eps)``; if not centred, the mean of g is omitted.
    Gradients of weights have one dimension.
    """
    z, inverse = _deviations(x, sets, eps, centred)
    z *= inverse
    g = grad_output.reshape(z.shape)
    shared = (0, *(axis + 1 for axis in range(len(sets.view)) if axis not in sets.weighted))
    grads = (part.sum(axis=shared, dtype=np.float64).astype(x.dtype) for part in (g * z, g))
    grad_weight, grad_bias = (grad.reshape(-1) for grad in grads)
    if weight is not None:
        g = g * _of_weights(weight, sets)
    grad_x = g - z * _mean(g * z, sets)
    if centred:
        grad_x -= _mean(g, sets)
    grad_x *= inverse
    return grad_x.reshape(x.shape), grad_weight, grad_bias


def _deviations(
    x: np.ndarray, sets: Sets, eps: float, centred: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Deviations from each set's mean, in the view by sets, and 1 / their root mean square."""
    values = x.reshape(len(x), *sets.view)
    # Two passes, not the mean of squares: no cancellation where the mean is large.
    deviations = values - _mean(values, sets) if centred else values.copy()
    axes = tuple(axis + 1 for axis in sets.axes)
    variance = np.square(deviations).mean(axis=axes, keepdims=True, dtype=np.float64)
    # In float64: in float32 a small eps would vanish.
    inverse = (1.0 / np.sqrt(variance + eps)).astype(x.dtype)
    if not inverse.all():
        # A variance overflowed. Deviations may have overflowed as well, and infinity times 0 is
        # NaN.
        np.copyto(deviations, 0, where=(inverse == 0) & np.isfinite(values))
    return deviations, inverse


def _mean(values: np.ndarray, sets: Sets) -> np.ndarray:
    axes = tuple(axis + 1 for axis in sets.axes)
    return values.mean(axis=axes, keepdims=True, dtype=np.float64).astype(values.dtype)


def _of_weights(values: np.ndarray, sets: Sets) -> np.ndarray:
    """Weights in a shape that broadcasts against the view."""
    shape = (size if axis in sets.weighted else 1 for axis, size in enumerate(sets.view))
    return values.reshape(tuple(shape))


layer_norm, layer_norm_backward = sample_norm("layer_norm", _normalised, _gradients)
rms_norm, rms_norm_backward = sample_norm("rms_norm", _normalised, _gradients)
group_norm, group_norm_backward = sample_norm("group_norm", _normalised, _gradients)
layer_norm2d, layer_norm2d_backward = sample_norm("layer_norm2d", _normalised, _gradients)
