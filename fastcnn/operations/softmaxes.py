"""Softmax and its logarithm."""

from typing import Any

import numpy as np

from fastcnn.arguments import as_array
from fastcnn.errors import ShapeError
from fastcnn.operations.forms import Checked, computed, gradient
from fastcnn.operations.record import Operation, case
from fastcnn.scalars import is_integer

__all__ = ["log_softmax", "log_softmax_backward", "softmax", "softmax_backward"]


def softmax(x: Any, dim: int = -1, *, backend: str | None = None) -> np.ndarray:
    """``exp(x_i) / sum exp(x_j)`` along a dimension, with the maximum subtracted first.

    Parameters
    ----------
    x : array_like, shape (N, ...)
    dim : int
        Any dimension but the first.
    backend : str, optional

    Raises
    ------
    ShapeError
        If ``x`` has no such dimension, or it is that of the samples.
    """
    return computed("softmax", _along, backend, x, dim)


def log_softmax(x: Any, dim: int = -1, *, backend: str | None = None) -> np.ndarray:
    """Logarithm of :func:`softmax`, ``x_i - log(sum exp(x_j))``, without underflow.

    Parameters
    ----------
    x, dim, backend
        As for :func:`softmax`.
    """
    return computed("log_softmax", _along, backend, x, dim)


def _along(name: str, x: Any, dim: Any) -> Checked:
    x = as_array(name, "x", x)
    if not is_integer(dim) or not 1 <= (dim if dim >= 0 else dim + x.ndim) < x.ndim:
        raise ShapeError(
            f"{name}: dim must be a dimension of x after the first, x has shape {x.shape}, "
            f"got {dim!r}"
        )
    return Checked((x,), {"dim": int(dim)}, x.shape)


def softmax_backward(
    grad_output: Any, x: Any, dim: int = -1, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`softmax`."""
    return gradient("softmax", _along, backend, grad_output, x, dim)


def log_softmax_backward(
    grad_output: Any, x: Any, dim: int = -1, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`log_softmax`."""
    return gradient("log_softmax", _along, backend, grad_output, x, dim)


SOFTMAX: dict[str, Any] = {
    "any_layout": True,
    "frees_input": True,
    "needs_output": True,
    "timed": (((100,), {"dim": 1}), ((16, 32, 32), {"dim": 1})),
}
#: The operations of this file.
RECORDS = (
    Operation(
        "softmax", **SOFTMAX, layers=(case("Softmax", (4, 2, 3)), case("Softmax", (2, 3, 4), -1))
    ),
    Operation(
        "log_softmax",
        **SOFTMAX,
        layers=(case("LogSoftmax", (5,)), case("LogSoftmax", (3, 2, 2), 1)),
    ),
)
