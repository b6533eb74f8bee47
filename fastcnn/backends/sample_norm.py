"""Normalisations within each sample, in terms of one over arbitrary sets of elements.

Backends only differ in how they normalise one set: value by value, or over whole arrays.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcnn.backends.sample_sets import sets_of

Gradients = tuple[np.ndarray, np.ndarray, np.ndarray]


def sample_norm(
    operation: str, normalised: Callable[..., np.ndarray], gradients: Callable[..., Gradients]
) -> tuple[Callable[..., np.ndarray], Callable[..., tuple[np.ndarray, ...]]]:
    """The functions of an operation and of its gradient.

    Parameters
    ----------
    operation : str
        Determines the sets, and whether their mean is subtracted.
    normalised : callable
        ``normalised(x, sets, weight, bias, eps, centred)``.
    gradients : callable
        ``gradients(grad_output, x, sets, weight, eps, centred)`` returns those of x, and of weight
        and bias in one dimension.
    """
    centred = operation != "rms_norm"

    def forward(
        x: np.ndarray,
        weight: np.ndarray | None,
        bias: np.ndarray | None = None,
        *,
        eps: float,
        **arguments: Any,
    ) -> np.ndarray:
        sets = sets_of(operation, arguments, x.shape[1:])
        return normalised(x, sets, weight, bias, eps, centred)

    def backward(
        grad_output: np.ndarray,
        x: np.ndarray,
        weight: np.ndarray | None,
        *,
        eps: float,
        **arguments: Any,
    ) -> tuple[np.ndarray, ...]:
        sets = sets_of(operation, arguments, x.shape[1:])
        grad_x, *grads = gradients(grad_output, x, sets, weight, eps, centred)
        shape = arguments.get("normalized_shape", (-1,))
        return grad_x, *(grad.reshape(shape) for grad in grads[: 2 if centred else 1])

    return forward, backward
