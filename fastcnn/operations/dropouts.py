"""Dropout."""

from typing import Any

import numpy as np

from fastcnn.arguments import as_array, as_key, as_share
from fastcnn.operations.forms import Checked, computed, gradient
from fastcnn.operations.record import Operation, case

__all__ = ["dropout", "dropout2d", "dropout2d_backward", "dropout_backward"]


def dropout(x: Any, p: float = 0.5, *, key: int, backend: str | None = None) -> np.ndarray:
    """Inverted dropout: zero elements with probability ``p``, divide the others by ``1 - p``.

    Parameters
    ----------
    x : array_like, shape (N, ...)
    p : float
        ``0 <= p <= 1``.
    key : int
        64-bit key of the mask; the same key gives the same mask in every backend.
    backend : str, optional
    """
    return computed("dropout", _masked, backend, x, p, key)


def dropout2d(x: Any, p: float = 0.5, *, key: int, backend: str | None = None) -> np.ndarray:
    """Inverted dropout of whole channels.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    p : float
        Probability of a channel of a sample to be zeroed, ``0 <= p <= 1``.
    key : int
        64-bit key of the mask; the same key gives the same mask in every backend.
    backend : str, optional
    """
    return computed("dropout2d", _masked, backend, x, p, key)


def _masked(name: str, x: Any, p: Any, key: Any) -> Checked:
    x = as_array(name, "x", x, 4 if name.startswith("dropout2d") else None)
    return Checked((x,), {"p": as_share(name, "p", p), "key": as_key(key)}, x.shape)


def dropout_backward(
    grad_output: Any, x: Any, p: float = 0.5, *, key: int, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`dropout`: the same ``key`` gives the same mask."""
    return gradient("dropout", _masked, backend, grad_output, x, p, key)


def dropout2d_backward(
    grad_output: Any, x: Any, p: float = 0.5, *, key: int, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`dropout2d`: the same ``key`` gives the same mask."""
    return gradient("dropout2d", _masked, backend, grad_output, x, p, key)


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
