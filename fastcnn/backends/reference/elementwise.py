"""Element-wise operations: their formulas, one element at a time."""

from functools import partial
from typing import Any

import numpy as np

from fastcnn.operations import Elementwise, elementwise_function, own


def function(name: str) -> Any:
    """The function of that name, such as ``relu`` or ``relu_backward``."""
    loss = own.LOSSES.get(name.removesuffix("_backward"))
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
    """The element of a parameter, one for all or one a channel, that goes with one of ``x``."""
    return index[1] if len(parameter) > 1 else 0


def loss_value(
    record: own.ElementwiseLoss,
    prediction: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None = None,
    **arguments: Any,
) -> float:
    """Mean over samples, by their weights, of the mean of the formula's values."""
    numbers, size = record.numbers(arguments), prediction[0].size
    weights = np.ones(len(prediction)) if sample_weight is None else sample_weight
    total = 0.0
    for index in np.ndindex(prediction.shape):
        value = record.value(float(prediction[index]), float(target[index]), *numbers)
        total += weights[index[0]] * value / size
    return float(total / weights.sum())


def loss_backward(
    record: own.ElementwiseLoss,
    grad_output: float,
    prediction: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None = None,
    **arguments: Any,
) -> np.ndarray:
    """Each element's derivative times its share in the mean."""
    numbers, size = record.numbers(arguments), prediction[0].size
    weights = np.ones(len(prediction)) if sample_weight is None else sample_weight
    grad = np.empty(prediction.shape, prediction.dtype)
    for index in np.ndindex(prediction.shape):
        slope = record.derivative(float(prediction[index]), float(target[index]), *numbers)
        grad[index] = grad_output * slope * weights[index[0]] / (weights.sum() * size)
    return grad
