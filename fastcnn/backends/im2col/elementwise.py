"""Element-wise operations: their formulas over whole arrays."""

from functools import partial
from typing import Any

import numpy as np

from fastcnn.operations import Elementwise, elementwise_function, own
from fastcnn.operations.record import by_channel


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
    """The formula's value."""
    formula, numbers = record.formula_of(arguments)
    given = [by_channel(parameter, x) for parameter in parameters]
    return formula.value(x, *given, *numbers)


def backward(
    record: Elementwise,
    grad_output: np.ndarray,
    x: np.ndarray,
    *parameters: np.ndarray,
    **arguments: Any,
) -> Any:
    """The formula's gradient, and that of each parameter: the sum of what its elements give."""
    formula, numbers = record.formula_of(arguments)
    given = [by_channel(parameter, x) for parameter in parameters]
    grad_x = formula.gradient(grad_output, x, *given, *numbers)
    if not parameters:
        return grad_x
    gradients = [grad_x]
    for share, parameter in zip(formula.parameter_gradients, given, strict=True):
        elements = share(grad_output, x, *given, *numbers)
        axes = tuple(axis for axis in range(x.ndim) if parameter.shape[axis] == 1)
        gradients.append(elements.sum(axis=axes).reshape(-1))
    return tuple(gradients)


def loss_value(
    record: own.ElementwiseLoss,
    prediction: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None = None,
    **arguments: Any,
) -> float:
    """Mean over samples of the mean of the formula's values."""
    values = record.value(prediction.astype(np.float64), target, *record.numbers(arguments))
    return float(np.average(values.reshape(len(values), -1).mean(axis=1), weights=sample_weight))


def loss_backward(
    record: own.ElementwiseLoss,
    grad_output: float,
    prediction: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None = None,
    **arguments: Any,
) -> np.ndarray:
    """The formula's derivative over the number of elements, or by each sample's weight."""
    slope = record.derivative(prediction, target, *record.numbers(arguments))
    grad = slope * (grad_output / prediction.size)
    if sample_weight is not None:
        share = len(prediction) * sample_weight / sample_weight.sum()
        grad = grad * share.reshape(-1, *(1,) * (prediction.ndim - 1))
    return grad.astype(prediction.dtype, copy=False)
