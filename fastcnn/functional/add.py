"""Sum of two maps."""

from typing import Any

import numpy as np

from fastcnn.arguments import as_array, as_gradient, as_same_type
from fastcnn.backends import get_backend
from fastcnn.errors import ShapeError


def add(x: Any, other: Any, *, backend: str | None = None) -> np.ndarray:
    """``x + other`` for two arrays of one shape: where the branches of a residual block meet.

    Raises
    ------
    ShapeError
        If the shapes differ: nothing is broadcast.
    """
    return get_backend(backend).add(*_arguments("add", x, other))


def add_backward(
    grad_output: Any, x: Any, other: Any, *, backend: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of :func:`add`: ``grad_output`` twice."""
    x, other = _arguments("add_backward", x, other)
    grad_output = as_gradient("add_backward", grad_output, x, x.shape)
    return get_backend(backend).add_backward(grad_output, x, other)


def _arguments(operation: str, x: Any, other: Any) -> tuple[np.ndarray, np.ndarray]:
    x = as_array(operation, "x", x)
    other = as_same_type(operation, x, "other", other, x.ndim)
    if x.shape != other.shape:
        raise ShapeError(f"{operation}: x has shape {x.shape}, other {other.shape}")
    return x, other
