"""Dropout."""

from typing import Any

import numpy as np

from fastcnn.arguments import as_array, as_gradient, as_key, as_share
from fastcnn.backends import get_backend
from fastcnn.operations.record import Operation, case

__all__ = ["dropout", "dropout2d", "dropout2d_backward", "dropout_backward"]


def dropout(x: Any, p: float = 0.5, *, key: int, backend: str | None = None) -> np.ndarray:
    """Inverted dropout: zero elements with probability ``p``, divide the others by ``1 - p``.

    Parameters
    ----------
    x : array_like, shape (N, ...)
    p : float
        ``0 <= p < 1``.
    key : int
        64-bit key of the mask; the same key gives the same mask in every backend.
    """
    x = as_array("dropout", "x", x)
    return get_backend(backend).dropout(x, as_share("dropout", "p", p), as_key(key))


def dropout_backward(
    grad_output: Any, x: Any, p: float = 0.5, *, key: int, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`dropout` with the same ``p`` and ``key``."""
    x = as_array("dropout_backward", "x", x)
    grad_output = as_gradient("dropout_backward", grad_output, x, x.shape)
    return get_backend(backend).dropout_backward(
        grad_output, x, as_share("dropout", "p", p), as_key(key)
    )


def dropout2d(x: Any, p: float = 0.5, *, key: int, backend: str | None = None) -> np.ndarray:
    """Inverted dropout of whole channels.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    p : float
        Probability of a channel of a sample to be zeroed, ``0 <= p < 1``.
    key : int
        64-bit key of the mask; the same key gives the same mask in every backend.
    """
    x = as_array("dropout2d", "x", x, 4)
    return get_backend(backend).dropout2d(x, as_share("dropout2d", "p", p), as_key(key))


def dropout2d_backward(
    grad_output: Any, x: Any, p: float = 0.5, *, key: int, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`dropout2d` with the same ``p`` and ``key``."""
    x = as_array("dropout2d_backward", "x", x, 4)
    grad_output = as_gradient("dropout2d_backward", grad_output, x, x.shape)
    return get_backend(backend).dropout2d_backward(
        grad_output, x, as_share("dropout2d", "p", p), as_key(key)
    )


DROPOUT: dict[str, Any] = {"random": True, "renames": True, "any_layout": True, "frees_input": True}
#: The operations of this file.
RECORDS = (
    Operation(
        "dropout",
        **DROPOUT,
        layers=(case("Dropout", (3, 4), 0.4),),
        timed=(((32, 16, 16), {"p": 0.5}),),
    ),
    Operation(
        "dropout2d",
        **DROPOUT,
        layers=(case("Dropout2d", (3, 2, 2), 0.4),),
        timed=(((32, 16, 16), {"p": 0.25}),),
    ),
)
