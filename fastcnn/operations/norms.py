"""Batch normalisation, and local response normalisation."""

from typing import Any

import numpy as np

from fastcnn.arguments import MOST_WINDOW, as_array, as_count, as_flag, as_number, as_optional
from fastcnn.backends import get_backend
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.operations.forms import Checked, computed, gradient
from fastcnn.operations.record import Operation, case

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "batch_statistics",
    "local_response_norm",
    "local_response_norm_backward",
]


def batch_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    eps: float = 1e-5,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Batch normalisation, ``weight * (x - mean) / sqrt(variance + eps) + bias`` by channel.

    Unlike PyTorch's function it does not update the running statistics; :func:`batch_statistics`
    returns those of the batch.

    Parameters
    ----------
    x : array_like, shape (N, C) or (N, C, H, W)
    running_mean, running_var : array_like, shape (C,), optional
        Used as mean and variance unless ``training``; without them those of ``x`` are used.
    weight, bias : array_like, shape (C,), optional
    training : bool
        Whether to use the mean and biased variance of ``x``.
    eps : float
    backend : str, optional

    Raises
    ------
    ShapeError
        If the shapes do not match, or mean and variance of one value per channel are requested.
    ConfigurationError
        If only one of running mean and running variance is given, ``eps`` is not above 0, or the
        types differ.
    """
    given = (running_mean, running_var, weight, bias, training, eps)
    return computed("batch_norm", _by_channel, backend, x, *given)


def _by_channel(
    name: str,
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    training: Any,
    eps: Any,
) -> Checked:
    x = _as_maps(name, x)
    if (running_mean is None) != (running_var is None):
        raise ConfigurationError(f"{name}: running_mean and running_var must be given together")
    of_batch = as_flag(name, "training", training) or running_mean is None
    if of_batch and x.size == x.shape[1]:
        raise ShapeError(
            f"{name}: statistics need more than one value per channel, x has shape {x.shape}"
        )
    shape = x.shape[1:2]
    mean = as_optional(name, x, "running_mean", running_mean, shape)
    variance = as_optional(name, x, "running_var", running_var, shape)
    arguments = {
        "weight": as_optional(name, x, "weight", weight, shape),
        "bias": as_optional(name, x, "bias", bias, shape),
        "mean": None if of_batch else mean,
        "variance": None if of_batch else variance,
        "eps": as_number(name, "eps", eps, above=0.0),
    }
    return Checked((x,), arguments, x.shape)


def batch_norm_backward(
    grad_output: Any,
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    training: bool = False,
    eps: float = 1e-5,
    *,
    backend: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient of :func:`batch_norm`.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray
    """
    given = (running_mean, running_var, weight, None, training, eps)
    return gradient("batch_norm", _by_channel, backend, grad_output, x, *given)


def batch_statistics(x: Any, *, backend: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each channel of ``x``, over samples and pixels.

    Parameters
    ----------
    x : array_like, shape (N, C) or (N, C, H, W)
    backend : str, optional

    Returns
    -------
    mean, variance : ndarray, shape (C,)
    """
    return get_backend(backend).batch_statistics(_as_maps("batch_statistics", x))


def _as_maps(operation: str, x: Any) -> np.ndarray:
    x = as_array(operation, "x", x)
    if x.ndim < 2:
        raise ShapeError(f"{operation}: x must be (N, C) or (N, C, H, W), got shape {x.shape}")
    return x


def local_response_norm(
    x: Any,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Divide each pixel by ``(k + alpha / size * sum of squares)^beta`` of nearby channels.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    size : int
        Channels of a window, which starts ``size // 2`` before each; those out of range count as 0.
    alpha, beta, k : float
    backend : str, optional
    """
    return computed("local_response_norm", _windows, backend, x, size, alpha, beta, k)


def _windows(name: str, x: Any, size: Any, alpha: Any, beta: Any, k: Any) -> Checked:
    x = as_array(name, "x", x, 4)
    arguments = {
        "size": as_count(name, "size", size, most=MOST_WINDOW),
        "alpha": as_number(name, "alpha", alpha),
        "beta": as_number(name, "beta", beta),
        "k": as_number(name, "k", k),
    }
    return Checked((x,), arguments, x.shape)


def local_response_norm_backward(
    grad_output: Any,
    x: Any,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`local_response_norm`."""
    return gradient("local_response_norm", _windows, backend, grad_output, x, size, alpha, beta, k)


#: The operations of this file.
RECORDS = (
    Operation(
        "batch_norm",
        ("weight", "bias"),
        ("weight",),
        normalises=True,
        fuses_relu=True,
        any_layout=True,
        frees_input=True,
        layers=(
            case("BatchNorm1d", (3, 4), 3),
            case("BatchNorm2d", (2, 3, 3), 2),
            case("BatchNorm2d", (3, 2, 2), 3, eps=0.1, affine=False),
            case("BatchNorm1d", (4,), 4, eps=0.5, track_running_stats=False),
        ),
        timed=(((16, 32, 32), {"eps": 1e-5}), ((256,), {"eps": 1e-5})),
    ),
    Operation(
        "local_response_norm",
        any_layout=True,
        frees_input=True,
        layers=(
            case("LocalResponseNorm", (5, 2, 3), 3, alpha=0.5, beta=0.6, k=1.5),
            case("LocalResponseNorm", (3, 2, 2), 4, alpha=2.0),
        ),
        timed=(((64, 16, 16), {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0}),),
    ),
)
