"""Element-wise operations, evaluated from their formulas one element at a time."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from fastcnn.operations import Elementwise, elementwise_function
from fastcnn.operations.losses import LOSSES, ElementwiseLoss


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
    """``y[i] = value(x[i])``."""
    formula, numbers = record.formula_of(arguments)
    y = np.empty(x.shape, x.dtype)
    for index in np.ndindex(x.shape):
        given = [float(parameter[_place(parameter, index)]) for parameter in parameters]
        y[index] = formula.value(float(x[index]), *given, *numbers)
    return y


def backward(
    record: Elementwise,
    grad_output: np.ndarray,
    x: np.ndarray,
    *parameters: np.ndarray,
    **arguments: Any,
) -> Any:
    """``dx[i] = gradient(dy[i], x[i])``; a parameter's gradient is the sum over its elements."""
    formula, numbers = record.formula_of(arguments)
    grad_x = np.empty(x.shape, x.dtype)
    sums = [np.zeros(parameter.shape) for parameter in parameters]
    for index in np.ndindex(x.shape):
        places = [_place(parameter, index) for parameter in parameters]
        given = [float(p[place]) for p, place in zip(parameters, places, strict=True)]
        values = (float(grad_output[index]), float(x[index]), *given, *numbers)
        grad_x[index] = formula.gradient(*values)
        for total, share, place in zip(sums, formula.parameter_gradients, places, strict=True):
            total[place] += share(*values)
    if not parameters:
        return grad_x
    return grad_x, *(total.astype(x.dtype) for total in sums)


def _place(parameter: np.ndarray, index: tuple[int, ...]) -> int:
    """Index of the element of a parameter, shared or per channel, that belongs to one of ``x``."""
    return index[1] if len(parameter) > 1 else 0


def loss_value(
    record: ElementwiseLoss,
    prediction: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None = None,
    reduction: str = "mean",
    **arguments: Any,
) -> float:
    """Sum over elements of the formula's value times their share of the loss."""
    total = 0.0
    for index, share, numbers in _loss_terms(
        record, prediction, sample_weight, reduction, arguments
    ):
        total += share * record.value(float(prediction[index]), float(target[index]), *numbers)
    return float(total)


def loss_backward(
    record: ElementwiseLoss,
    grad_output: float,
    prediction: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None = None,
    reduction: str = "mean",
    **arguments: Any,
) -> np.ndarray:
    """Each element's derivative times its share of the loss."""
    grad = np.zeros(prediction.shape, prediction.dtype)
    for index, share, numbers in _loss_terms(
        record, prediction, sample_weight, reduction, arguments
    ):
        slope = record.derivative(float(prediction[index]), float(target[index]), *numbers)
        grad[index] = grad_output * slope * share
    return grad


def _loss_terms(
    record: ElementwiseLoss,
    prediction: np.ndarray,
    sample_weight: np.ndarray | None,
    reduction: str,
    arguments: dict[str, Any],
) -> Iterator[tuple[tuple[int, ...], float, list[float]]]:
    """Each element that counts: its index, its share of the loss, and the formula's settings."""
    weights = np.ones(len(prediction)) if sample_weight is None else sample_weight
    by_channel = record.channel_numbers(arguments, math.prod(prediction.shape[1:2]))
    numbers = record.numbers(arguments)

    def weight_of(index: tuple[int, ...]) -> float:
        return float(weights[index if weights.ndim == prediction.ndim else index[0]])

    total = sum(weight_of(index) for index in np.ndindex(prediction.shape))
    for index in np.ndindex(prediction.shape):
        share = weight_of(index)
        if share > 0.0:
            own = [by_channel[index[1]]] if by_channel else []
            yield index, share if reduction == "sum" else share / total, [*own, *numbers]
