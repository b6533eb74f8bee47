"""Joins and splits of branches, one element at a time."""

import numpy as np


def add(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``y = x + other``."""
    y = np.empty(x.shape, x.dtype)
    for index in np.ndindex(x.shape):
        y[index] = x[index] + other[index]
    return y


def add_backward(
    grad_output: np.ndarray, x: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both inputs get the output's gradient."""
    return grad_output.copy(), grad_output.copy()


def subtract(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``y = x - other``."""
    y = np.empty(x.shape, x.dtype)
    for index in np.ndindex(x.shape):
        y[index] = x[index] - other[index]
    return y


def subtract_backward(
    grad_output: np.ndarray, x: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The second input gets the negative of the output's gradient."""
    grad_other = np.empty(other.shape, other.dtype)
    for index in np.ndindex(other.shape):
        grad_other[index] = -grad_output[index]
    return grad_output.copy(), grad_other


def multiply(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``y = x * other``, either of which may be one value per channel or per pixel."""
    y = np.empty(np.broadcast_shapes(x.shape, other.shape), x.dtype)
    for index in np.ndindex(y.shape):
        y[index] = x[_own(x, index)] * other[_own(other, index)]
    return y


def multiply_backward(
    grad_output: np.ndarray, x: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each product passes its gradient to both factors, summed for broadcast elements."""
    grad_x, grad_other = np.zeros_like(x), np.zeros_like(other)
    for index in np.ndindex(grad_output.shape):
        here, there = _own(x, index), _own(other, index)
        grad_x[here] += grad_output[index] * other[there]
        grad_other[there] += grad_output[index] * x[here]
    return grad_x, grad_other


def _own(x: np.ndarray, index: tuple[int, ...]) -> tuple[int, ...]:
    """The element of ``x`` that is a factor of the product at ``index``."""
    return tuple(0 if size == 1 else place for place, size in zip(index, x.shape, strict=True))


def concat(*inputs: np.ndarray) -> np.ndarray:
    """``y[n, first + c] = x[n, c]``, where ``first`` counts the channels of the inputs before."""
    channels = sum(x.shape[1] for x in inputs)
    y = np.empty((inputs[0].shape[0], channels, *inputs[0].shape[2:]), inputs[0].dtype)
    first = 0
    for x in inputs:
        for n, c, *place in np.ndindex(x.shape):
            y[(n, first + c, *place)] = x[(n, c, *place)]
        first += x.shape[1]
    return y


def concat_backward(grad_output: np.ndarray, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Each input gets the gradient of its channels."""
    gradients, first = [], 0
    for x in inputs:
        grad_x = np.empty(x.shape, x.dtype)
        for n, c, *place in np.ndindex(x.shape):
            grad_x[(n, c, *place)] = grad_output[(n, first + c, *place)]
        gradients.append(grad_x)
        first += x.shape[1]
    return tuple(gradients)


def narrow(x: np.ndarray, start: int, length: int) -> np.ndarray:
    """``y[n, c] = x[n, start + c]``."""
    y = np.empty((x.shape[0], length, *x.shape[2:]), x.dtype)
    for n, c, *place in np.ndindex(y.shape):
        y[(n, c, *place)] = x[(n, start + c, *place)]
    return y


def narrow_backward(grad_output: np.ndarray, x: np.ndarray, start: int, length: int) -> np.ndarray:
    """The gradient of the other channels is zero."""
    grad_x = np.zeros_like(x)
    for n, c, *place in np.ndindex(grad_output.shape):
        grad_x[(n, start + c, *place)] = grad_output[(n, c, *place)]
    return grad_x
