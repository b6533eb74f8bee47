"""Element-wise losses: formulas of prediction and target, and their derivatives.

A loss is the weighted mean of the formula over elements. It is evaluated on numpy arrays, plain
floats and the engine's vectors alike; users add their own with :func:`fastcnn.kernel.loss`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from fastcnn.codegen import linked
from fastcnn.codegen.elementary import absolute, exp, log1p_exp, maximum, minimum, sigmoid, where
from fastcnn.operations.record import Number, Value

__all__ = ["cross_entropy", "cross_entropy_backward", "mse", "mse_backward"]


@dataclass(frozen=True)
class ElementwiseLoss:
    """A loss that is the mean over elements of a function of prediction and target.

    Attributes
    ----------
    name : str
        Name of the backend function.
    value, derivative : function
        ``value(prediction, target, *numbers)``, and its derivative with respect to the prediction.
    by_channel : str
        An argument that may have a value per channel of the output; formulas take it before the
        other numbers.
    """

    name: str
    value: Callable[..., Any]
    derivative: Callable[..., Any]
    arguments: tuple[Number, ...] = ()
    by_channel: str = ""

    def numbers(self, arguments: Mapping[str, Any]) -> tuple[float, ...]:
        """The numbers in the order of the formulas, without the per-channel ones."""
        return tuple(float(arguments[argument.name]) for argument in self.arguments)

    def channel_numbers(self, arguments: Mapping[str, Any], channels: int) -> tuple[float, ...]:
        """The per-channel argument, with a value per channel; empty if the loss has none."""
        if not self.by_channel:
            return ()
        given = arguments[self.by_channel]
        return tuple(map(float, given)) if isinstance(given, tuple) else (float(given),) * channels


@linked
def _square(prediction: Value, target: Value) -> Value:
    return (prediction - target) * (prediction - target)


@linked
def _square_slope(prediction: Value, target: Value) -> Value:
    return 2.0 * (prediction - target)


@linked
def _distance(prediction: Value, target: Value) -> Value:
    return absolute(prediction - target)


@linked
def _distance_slope(prediction: Value, target: Value) -> Value:
    return where(prediction > target, 1.0, where(prediction < target, -1.0, 0.0))


@linked
def _huber(prediction: Value, target: Value, delta: float) -> Value:
    error = absolute(prediction - target)
    return where(error <= delta, 0.5 * error * error, delta * (error - 0.5 * delta))


@linked
def _huber_slope(prediction: Value, target: Value, delta: float) -> Value:
    return maximum(minimum(prediction - target, delta), -delta)


@linked
def _smooth_l1(prediction: Value, target: Value, beta: float) -> Value:
    error = absolute(prediction - target)
    return where(error < beta, 0.5 * error * error / beta, error - 0.5 * beta)


@linked
def _smooth_l1_slope(prediction: Value, target: Value, beta: float) -> Value:
    return maximum(minimum((prediction - target) / beta, 1.0), -1.0)


@linked
def _bce(logit: Value, target: Value, pos_weight: Value) -> Value:
    return pos_weight * target * log1p_exp(-logit) + (1.0 - target) * log1p_exp(logit)


@linked
def _bce_slope(logit: Value, target: Value, pos_weight: Value) -> Value:
    return (1.0 - target) * sigmoid(logit) - pos_weight * target * sigmoid(-logit)


@linked
def _focal(logit: Value, target: Value, alpha: float, gamma: float) -> Value:
    z = where(target > 0.5, logit, -logit)
    share = where(target > 0.5, alpha, 1.0 - alpha)
    # 1 - p = sigmoid(-z), whose logarithm is -log(1 + exp(z)).
    return share * exp(-gamma * log1p_exp(z)) * log1p_exp(-z)


@linked
def _focal_slope(logit: Value, target: Value, alpha: float, gamma: float) -> Value:
    z = where(target > 0.5, logit, -logit)
    share = where(target > 0.5, alpha, alpha - 1.0)
    easy = exp(-gamma * log1p_exp(z))
    return share * easy * (-gamma * sigmoid(z) * log1p_exp(-z) - sigmoid(-z))


#: Losses by the name of the backend function, including user-defined ones.
LOSSES: dict[str, ElementwiseLoss] = {
    loss.name: loss
    for loss in (
        ElementwiseLoss("mse", _square, _square_slope),
        ElementwiseLoss("l1", _distance, _distance_slope),
        ElementwiseLoss("huber", _huber, _huber_slope, (Number("delta", 1.0, above=0.0),)),
        ElementwiseLoss(
            "smooth_l1", _smooth_l1, _smooth_l1_slope, (Number("beta", 1.0, above=0.0),)
        ),
        ElementwiseLoss("bce_with_logits", _bce, _bce_slope, by_channel="pos_weight"),
        ElementwiseLoss(
            "sigmoid_focal",
            _focal,
            _focal_slope,
            (Number("alpha", 0.25, above=0.0), Number("gamma", 2.0)),
        ),
    )
}


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
        ``0 <= label_smoothing <= 1``.
    sample_weight : array_like, shape (N,), optional
        The mean is then ``sum(weight * loss) / sum(weight)``.
    backend : str, optional

    Returns
    -------
    float
    """
    logits, target = classification_arguments("cross_entropy", logits, target)
    smoothing = as_share("cross_entropy", "label_smoothing", label_smoothing)
    weight = as_sample_weight("cross_entropy", sample_weight, logits.shape[:1])
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
    """Gradient of :func:`cross_entropy` with respect to the logits.

    Parameters
    ----------
    grad_output : float
        Gradient with respect to the loss itself, such as 1.0.
    logits, target, label_smoothing, sample_weight, backend
        As given to :func:`cross_entropy`.

    Returns
    -------
    ndarray, shape (N, classes)
    """
    logits, target = classification_arguments("cross_entropy_backward", logits, target)
    weight = as_sample_weight("cross_entropy_backward", sample_weight, logits.shape[:1])
    smoothing = as_share("cross_entropy_backward", "label_smoothing", label_smoothing)
    grad = as_number("cross_entropy_backward", "grad_output", grad_output)
    return get_backend(backend).cross_entropy_backward(grad, logits, target, smoothing, weight)


def mse(
    prediction: Any, target: Any, *, sample_weight: Any = None, backend: str | None = None
) -> float:
    """Mean squared error: mean over elements, then over samples.

    Parameters
    ----------
    prediction, target : array_like, both of shape (N, ...)
    sample_weight : array_like, shape (N,), optional
        The mean over samples is then weighted.
    backend : str, optional

    Returns
    -------
    float
    """
    prediction, target = regression_arguments("mse", prediction, target)
    weight = as_sample_weight("mse", sample_weight, prediction.shape[:1])
    return float(get_backend(backend).mse(prediction, target, weight))


def mse_backward(
    grad_output: float,
    prediction: Any,
    target: Any,
    *,
    sample_weight: Any = None,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`mse` with respect to ``prediction``.

    Parameters
    ----------
    grad_output : float
        Gradient with respect to the loss itself, such as 1.0.
    prediction, target, sample_weight, backend
        As given to :func:`mse`.

    Returns
    -------
    ndarray, of the shape of ``prediction``
    """
    prediction, target = regression_arguments("mse_backward", prediction, target)
    weight = as_sample_weight("mse_backward", sample_weight, prediction.shape[:1])
    grad = as_number("mse_backward", "grad_output", grad_output)
    return get_backend(backend).mse_backward(grad, prediction, target, weight)
