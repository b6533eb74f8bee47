"""Joins and splits of branches: sums, products, concatenations and slices of channels."""

import numpy as np

from fastcnn.backends.im2col.memory import empty_like


def add(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``y = x + other``."""
    return np.add(x, other, out=empty_like(x))


def add_backward(
    grad_output: np.ndarray, x: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both inputs get the output's gradient: the same array, not copies."""
    return grad_output, grad_output


def subtract(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``y = x - other``."""
    return np.subtract(x, other, out=empty_like(x))


def subtract_backward(
    grad_output: np.ndarray, x: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The second input gets the negative of the output's gradient."""
    return grad_output, np.negative(grad_output, out=empty_like(grad_output))


def multiply(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``y = x * other``, either of which may be one value per channel or per pixel."""
    return x * other


def multiply_backward(
    grad_output: np.ndarray, x: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """An input's gradient is the output's times the other input, summed over broadcast axes."""
    return _summed(grad_output * other, x), _summed(grad_output * x, other)


def _summed(grad: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A gradient summed over the axes along which ``x`` was broadcast."""
    axes = tuple(axis for axis in range(x.ndim) if x.shape[axis] != grad.shape[axis])
    return grad.sum(axes, keepdims=True) if axes else grad


def concat(*inputs: np.ndarray) -> np.ndarray:
    """Concatenate the inputs' channels."""
    return np.concatenate(inputs, axis=1)


def concat_backward(grad_output: np.ndarray, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Each input gets the gradient of its channels."""
    ends = np.cumsum([x.shape[1] for x in inputs])
    return tuple(part.copy() for part in np.split(grad_output, ends[:-1], axis=1))


def narrow(x: np.ndarray, start: int, length: int) -> np.ndarray:
    """The channels ``start`` to ``start + length``."""
    return x[:, start : start + length].copy()


def narrow_backward(grad_output: np.ndarray, x: np.ndarray, start: int, length: int) -> np.ndarray:
    """The gradient of the other channels is zero."""
    grad_x = np.zeros_like(x)
    grad_x[:, start : start + length] = grad_output
    return grad_x
