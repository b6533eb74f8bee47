"""Batch normalisation, and local response normalisation."""

from typing import Any

import numpy as np

from fastcnn.arguments import (
    MOST_WINDOW,
    as_array,
    as_count,
    as_flag,
    as_gradient,
    as_number,
    as_same_type,
)
from fastcnn.backends import get_backend
from fastcnn.errors import ConfigurationError, ShapeError
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

    Unlike PyTorch's function it leaves the running statistics as they are; what to move them
    towards is :func:`batch_statistics`.

    Parameters
    ----------
    x : array_like, shape (N, C) or (N, C, H, W)
    running_mean, running_var : array_like, shape (C,), optional
        Taken for mean and variance unless ``training``; without them those of ``x`` are.
    weight, bias : array_like, shape (C,), optional
    training : bool
        Whether to take mean and biased variance of ``x``.
    eps : float
    backend : str, optional

    Returns
    -------
    ndarray, of the shape of ``x``

    Raises
    ------
    ShapeError
        If the shapes do not fit, or mean and variance of one value a channel are asked for.
    ConfigurationError
        If there is a running mean without a running variance or the other way round, ``eps`` is
        not above 0, or the types differ.

    References
    ----------
    Ioffe and Szegedy, arXiv:1502.03167, algorithms 1 and 2.
    """
    x, arguments = _arguments("batch_norm", x, running_mean, running_var, training, eps)
    factors = _of_channels("batch_norm", x, weight=weight, bias=bias)
    return get_backend(backend).batch_norm(x, **factors, **arguments)


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
    """Gradients of :func:`batch_norm` with respect to its input, weight and bias.

    Returns
    -------
    grad_x : ndarray, of the shape of ``x``
    grad_weight, grad_bias : ndarray, shape (C,)

    Raises
    ------
    ShapeError, ConfigurationError
    """
    operation = "batch_norm_backward"
    x, arguments = _arguments(operation, x, running_mean, running_var, training, eps)
    grad_output = as_gradient(operation, grad_output, x, x.shape)
    factors = _of_channels(operation, x, weight=weight)
    return get_backend(backend).batch_norm_backward(grad_output, x, **factors, **arguments)


def batch_statistics(x: Any, *, backend: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each channel of ``x``, over samples and pixels.

    Parameters
    ----------
    x : array_like, shape (N, C) or (N, C, H, W)

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


def _arguments(
    operation: str, x: Any, running_mean: Any, running_var: Any, training: bool, eps: float
) -> tuple[np.ndarray, dict[str, Any]]:
    x = _as_maps(operation, x)
    if (running_mean is None) != (running_var is None):
        raise ConfigurationError(f"{operation}: running_mean and running_var come together")
    of_batch = as_flag(operation, "training", training) or running_mean is None
    if of_batch and x.size == x.shape[1]:
        raise ShapeError(
            f"{operation}: statistics need more than one value a channel, x has shape {x.shape}"
        )
    names = {"running_mean": running_mean, "running_var": running_var}
    mean, variance = _of_channels(operation, x, **names).values()
    if of_batch:
        mean = variance = None
    return x, {
        "mean": mean,
        "variance": variance,
        "eps": as_number(operation, "eps", eps, above=0.0),
    }


def _of_channels(operation: str, x: np.ndarray, **values: Any) -> dict[str, np.ndarray | None]:
    """Check arrays of one value a channel, or None."""
    checked: dict[str, np.ndarray | None] = {}
    for name, value in values.items():
        checked[name] = None
        if value is not None:
            array = checked[name] = as_same_type(operation, x, name, value, 1)
            if len(array) != x.shape[1]:
                raise ShapeError(
                    f"{operation}: {name} must have shape ({x.shape[1]},), got {array.shape}"
                )
    return checked


def local_response_norm(
    x: Any,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Divide each pixel by ``(k + alpha / size * sum of squares)^beta`` of the channels around it.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    size : int
        Channels of a window, from ``size // 2`` before on; those outside count as 0.
    alpha, beta, k : float
    backend : str, optional

    Returns
    -------
    ndarray, of the shape of ``x``

    Raises
    ------
    ShapeError, ConfigurationError

    References
    ----------
    Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
    networks", NIPS 2012, section 3.3; with PyTorch's division by ``size``.
    """
    x = as_array("local_response_norm", "x", x, 4)
    arguments = _response("local_response_norm", size, alpha, beta, k)
    return get_backend(backend).local_response_norm(x, **arguments)


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
    """Gradient of :func:`local_response_norm` at its input ``x``.

    Raises
    ------
    ShapeError, ConfigurationError
    """
    operation = "local_response_norm_backward"
    x = as_array(operation, "x", x, 4)
    grad_output = as_gradient(operation, grad_output, x, x.shape)
    arguments = _response(operation, size, alpha, beta, k)
    return get_backend(backend).local_response_norm_backward(grad_output, x, **arguments)


def _response(operation: str, size: int, alpha: float, beta: float, k: float) -> dict[str, Any]:
    numbers = {"alpha": alpha, "beta": beta, "k": k}
    checked = {name: as_number(operation, name, value) for name, value in numbers.items()}
    return {"size": as_count(operation, "size", size, most=MOST_WINDOW), **checked}


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
