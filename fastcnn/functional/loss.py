"""Losses."""

from typing import Any

import numpy as np

from fastcnn.arguments import (
    as_number,
    as_sample_weight,
    as_share,
    classification_arguments,
    regression_arguments,
)
from fastcnn.backends import get_backend


def cross_entropy(
    logits: Any,
    target: Any,
    label_smoothing: float = 0.0,
    *,
    sample_weight: Any = None,
    backend: str | None = None,
) -> float:
    """Softmax cross-entropy, mean over the batch.

    Parameters
    ----------
    logits : array_like, shape (N, classes)
    target : array_like of int, shape (N,), or of float, shape (N, classes)
        Classes, or a row of probabilities for each sample.
    label_smoothing : float
        ``0 <= label_smoothing < 1``.
    sample_weight : array_like, shape (N,), optional
        The mean is then ``sum(weight * loss) / sum(weight)``.

    Returns
    -------
    float

    Raises
    ------
    ShapeError, ConfigurationError
    """
    logits, target = classification_arguments("cross_entropy", logits, target)
    smoothing = as_share("cross_entropy", "label_smoothing", label_smoothing)
    weight = as_sample_weight("cross_entropy", sample_weight, len(logits))
    return float(get_backend(backend).cross_entropy(logits, target, smoothing, weight))


def cross_entropy_backward(
    grad_output: float,
    logits: Any,
    target: Any,
    label_smoothing: float = 0.0,
    *,
    sample_weight: Any = None,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`cross_entropy` with respect to the logits, shape (N, classes).

    ``grad_output`` is the gradient with respect to the loss itself, a number (1.0).
    """
    logits, target = classification_arguments("cross_entropy_backward", logits, target)
    weight = as_sample_weight("cross_entropy_backward", sample_weight, len(logits))
    smoothing = as_share("cross_entropy_backward", "label_smoothing", label_smoothing)
    grad = as_number("cross_entropy_backward", "grad_output", grad_output)
    return get_backend(backend).cross_entropy_backward(grad, logits, target, smoothing, weight)


def mse(
    prediction: Any, target: Any, *, sample_weight: Any = None, backend: str | None = None
) -> float:
    """Mean squared error of two arrays of one shape: mean over elements, then over samples.

    With ``sample_weight`` of shape (N,), the mean over samples is weighted.
    """
    prediction, target = regression_arguments("mse", prediction, target)
    weight = as_sample_weight("mse", sample_weight, len(prediction))
    return float(get_backend(backend).mse(prediction, target, weight))


def mse_backward(
    grad_output: float,
    prediction: Any,
    target: Any,
    *,
    sample_weight: Any = None,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`mse` with respect to ``prediction``; ``grad_output`` is a number."""
    prediction, target = regression_arguments("mse_backward", prediction, target)
    weight = as_sample_weight("mse_backward", sample_weight, len(prediction))
    grad = as_number("mse_backward", "grad_output", grad_output)
    return get_backend(backend).mse_backward(grad, prediction, target, weight)
