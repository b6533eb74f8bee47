"""Element-wise operations, evaluated from their formulas over whole arrays."""

import math
from functools import partial
from typing import Any

import numpy as np

from fastcnn.backends.im2col.loss import over_sum
from fastcnn.operations import Elementwise, elementwise_function
from fastcnn.operations.losses import LOSSES, ElementwiseLoss
from fastcnn.operations.record import by_channel


def function(name: str) -> Any:
    """The function of that name, such as ``relu`` or ``relu_backward``."""
    loss = LOSSES.get(name.removesuffix("_backward"))
    if loss is not None:
        return partial(loss_backward if name.endswith("_backward") else loss_value, loss)
    record, is_backward = elementwise_function(name)
    return partial(backward if is_backward else forward, record)


def forward(
    record: Elementwise, x: np.ndarray, *parameters: np.ndarray, **arguments: Any
) -> np.ndarray:
    """Evaluate the formula."""
    formula, numbers = record.formula_of(arguments)
    given = [by_channel(parameter, x) for parameter in parameters]
    # A user's formula may return float64, such as a choice between two numbers, or booleans.
    return _of_shape(x, formula.value(x, *given, *numbers)).astype(x.dtype, copy=False)


def _of_shape(x: np.ndarray, values: Any) -> np.ndarray:
    """A formula's values in the shape of its input: a user's formula may return a constant."""
    return values if np.shape(values) == x.shape else np.full(x.shape, values, x.dtype)


def backward(
    record: Elementwise,
    grad_output: np.ndarray,
    x: np.ndarray,
    *parameters: np.ndarray,
    **arguments: Any,
) -> Any:
    """The gradient of the input and of each parameter, the latter summed over elements."""
    formula, numbers = record.formula_of(arguments)
    given = [by_channel(parameter, x) for parameter in parameters]
    grad_x = formula.gradient(grad_output, x, *given, *numbers).astype(x.dtype, copy=False)
    if not parameters:
        return grad_x
    gradients = [grad_x]
    for share, parameter in zip(formula.parameter_gradients, given, strict=True):
        elements = share(grad_output, x, *given, *numbers)
        axes = tuple(axis for axis in range(x.ndim) if parameter.shape[axis] == 1)
        gradients.append(elements.sum(axis=axes).reshape(-1))
    return tuple(gradients)


def loss_value(
    record: ElementwiseLoss,
    prediction: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None = None,
    reduction: str = "mean",
    **arguments: Any,
) -> float:
    """Weighted mean of the formula's values."""
    numbers = _loss_numbers(record, prediction, arguments)
    values = _of_shape(prediction, record.value(prediction.astype(np.float64), target, *numbers))
    share = _loss_share(prediction, sample_weight, reduction)
    return float(np.where(share > 0.0, values * share, 0.0).sum())


def loss_backward(
    record: ElementwiseLoss,
    grad_output: float,
    prediction: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None = None,
    reduction: str = "mean",
    **arguments: Any,
) -> np.ndarray:
    """The formula's derivative, weighted by each element's share of the loss."""
    numbers = _loss_numbers(record, prediction, arguments)
    slope = _of_shape(prediction, record.derivative(prediction, target, *numbers))
    share = grad_output * _loss_share(prediction, sample_weight, reduction)
    grad = np.where(share != 0.0, slope * share, 0.0)
    return grad.astype(prediction.dtype, copy=False)


def _loss_numbers(
    record: ElementwiseLoss, prediction: np.ndarray, arguments: dict[str, Any]
) -> list[Any]:
    """Per-channel arguments broadcast to the prediction's shape, and the others."""
    by_channel = record.channel_numbers(arguments, math.prod(prediction.shape[1:2]))
    trailing = (1,) * (prediction.ndim - 2)
    first = [np.array(by_channel, prediction.dtype).reshape(-1, *trailing)] if by_channel else []
    return [*first, *record.numbers(arguments)]


def _loss_share(
    prediction: np.ndarray, sample_weight: np.ndarray | None, reduction: str
) -> np.ndarray:
    """Each element's weight in the loss, in a shape that broadcasts against the prediction."""
    ones = (1,) * (prediction.ndim - 1)
    if sample_weight is None:
        return np.full((1, *ones), 1.0 if reduction == "sum" else 1.0 / prediction.size)
    share = sample_weight
    if sample_weight.shape != prediction.shape:
        share = sample_weight.reshape(-1, *ones)
    return over_sum(share, np.broadcast_to(share, prediction.shape), reduction)
