"""Normalisation within each sample."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn.arguments import (
    as_array,
    as_count,
    as_gradient,
    as_number,
    as_same_type,
)
from fastcnn.backends import get_backend
from fastcnn.backends.sample_sets import sets_of
from fastcnn.errors import ShapeError
from fastcnn.operations.record import Operation, case

__all__ = [
    "group_norm",
    "group_norm_backward",
    "layer_norm",
    "layer_norm2d",
    "layer_norm2d_backward",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]

Gradients = tuple[np.ndarray, np.ndarray, np.ndarray]


def layer_norm(
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Layer normalisation, ``weight * (x - mean) / sqrt(variance + eps) + bias``.

    Parameters
    ----------
    x : array_like, shape ``(N, ..., *normalized_shape)``
    normalized_shape : int or tuple of int
        Sizes of the last dimensions, over which mean and biased variance are taken.
    weight, bias : array_like, shape ``normalized_shape``, optional
    eps : float
    backend : str, optional

    Returns
    -------
    ndarray, of the shape of ``x``

    Raises
    ------
    ShapeError
        If the shapes do not fit.
    ConfigurationError
        If ``eps`` is not above 0, or the types differ.

    References
    ----------
    Ba, Kiros and Hinton, arXiv:1607.06450.
    """
    x, shape = _trailing("layer_norm", x, normalized_shape)
    factors = _weights("layer_norm", x, shape, weight=weight, bias=bias)
    eps = as_number("layer_norm", "eps", eps, above=0.0)
    return get_backend(backend).layer_norm(x, **factors, normalized_shape=shape, eps=eps)


def layer_norm_backward(
    grad_output: Any,
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    eps: float = 1e-5,
    *,
    backend: str | None = None,
) -> Gradients:
    """Gradients of :func:`layer_norm` with respect to its input, weight and bias.

    Returns
    -------
    grad_x : ndarray, of the shape of ``x``
    grad_weight, grad_bias : ndarray, shape ``normalized_shape``

    Raises
    ------
    ShapeError, ConfigurationError
    """
    operation = "layer_norm_backward"
    x, shape = _trailing(operation, x, normalized_shape)
    grad_output = as_gradient(operation, grad_output, x, x.shape)
    factors = _weights(operation, x, shape, weight=weight)
    eps = as_number(operation, "eps", eps, above=0.0)
    return get_backend(backend).layer_norm_backward(
        grad_output, x, **factors, normalized_shape=shape, eps=eps
    )


def rms_norm(
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    eps: float | None = None,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Root-mean-square normalisation, ``weight * x / sqrt(mean(x^2) + eps)``.

    Parameters
    ----------
    x : array_like, shape ``(N, ..., *normalized_shape)``
    normalized_shape : int or tuple of int
        Sizes of the last dimensions, over which the mean is taken.
    weight : array_like, shape ``normalized_shape``, optional
    eps : float, optional
        By default the distance from 1 to the next number of the type of ``x``.
    backend : str, optional

    Returns
    -------
    ndarray, of the shape of ``x``

    Raises
    ------
    ShapeError, ConfigurationError

    References
    ----------
    Zhang and Sennrich, arXiv:1910.07467.
    """
    x, shape = _trailing("rms_norm", x, normalized_shape)
    factors = _weights("rms_norm", x, shape, weight=weight)
    eps = _rms_eps("rms_norm", x, eps)
    return get_backend(backend).rms_norm(x, **factors, normalized_shape=shape, eps=eps)


def rms_norm_backward(
    grad_output: Any,
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    eps: float | None = None,
    *,
    backend: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of :func:`rms_norm` with respect to its input and weight.

    Raises
    ------
    ShapeError, ConfigurationError
    """
    operation = "rms_norm_backward"
    x, shape = _trailing(operation, x, normalized_shape)
    grad_output = as_gradient(operation, grad_output, x, x.shape)
    factors = _weights(operation, x, shape, weight=weight)
    eps = _rms_eps(operation, x, eps)
    return get_backend(backend).rms_norm_backward(
        grad_output, x, **factors, normalized_shape=shape, eps=eps
    )


def group_norm(
    x: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Group normalisation: mean and variance of the channels of a group, over all pixels.

    Parameters
    ----------
    x : array_like, shape (N, C, ...)
    num_groups : int
        It divides C.
    weight, bias : array_like, shape (C,), optional
    eps : float
    backend : str, optional

    Returns
    -------
    ndarray, of the shape of ``x``

    Raises
    ------
    ShapeError, ConfigurationError

    References
    ----------
    Wu and He, arXiv:1803.08494.
    """
    x, arguments = _groups("group_norm", x, num_groups, eps)
    factors = _weights("group_norm", x, x.shape[1:2], weight=weight, bias=bias)
    return get_backend(backend).group_norm(x, **factors, **arguments)


def group_norm_backward(
    grad_output: Any,
    x: Any,
    num_groups: int,
    weight: Any = None,
    eps: float = 1e-5,
    *,
    backend: str | None = None,
) -> Gradients:
    """Gradients of :func:`group_norm` with respect to its input, weight and bias.

    Raises
    ------
    ShapeError, ConfigurationError
    """
    operation = "group_norm_backward"
    x, arguments = _groups(operation, x, num_groups, eps)
    grad_output = as_gradient(operation, grad_output, x, x.shape)
    factors = _weights(operation, x, x.shape[1:2], weight=weight)
    return get_backend(backend).group_norm_backward(grad_output, x, **factors, **arguments)


def layer_norm2d(
    x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-6, *, backend: str | None = None
) -> np.ndarray:
    """Layer normalisation of the channels of each pixel.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    weight, bias : array_like, shape (C,), optional
    eps : float
    backend : str, optional

    Returns
    -------
    ndarray, of the shape of ``x``

    Raises
    ------
    ShapeError, ConfigurationError

    References
    ----------
    Liu et al., "A ConvNet for the 2020s", arXiv:2201.03545.
    """
    x = as_array("layer_norm2d", "x", x, 4)
    factors = _weights("layer_norm2d", x, x.shape[1:2], weight=weight, bias=bias)
    eps = as_number("layer_norm2d", "eps", eps, above=0.0)
    return get_backend(backend).layer_norm2d(x, **factors, eps=eps)


def layer_norm2d_backward(
    grad_output: Any, x: Any, weight: Any = None, eps: float = 1e-6, *, backend: str | None = None
) -> Gradients:
    """Gradients of :func:`layer_norm2d` with respect to its input, weight and bias.

    Raises
    ------
    ShapeError, ConfigurationError
    """
    operation = "layer_norm2d_backward"
    x = as_array(operation, "x", x, 4)
    grad_output = as_gradient(operation, grad_output, x, x.shape)
    factors = _weights(operation, x, x.shape[1:2], weight=weight)
    eps = as_number(operation, "eps", eps, above=0.0)
    return get_backend(backend).layer_norm2d_backward(grad_output, x, **factors, eps=eps)


def _trailing(
    operation: str, x: Any, normalized_shape: int | Sequence[int]
) -> tuple[np.ndarray, tuple[int, ...]]:
    x = as_array(operation, "x", x)
    is_list = isinstance(normalized_shape, (tuple, list))
    given: tuple[Any, ...] = tuple(normalized_shape) if is_list else (normalized_shape,)  # type: ignore[arg-type]
    if isinstance(normalized_shape, np.ndarray):
        given = tuple(normalized_shape.ravel().tolist())
    shape = tuple(as_count(operation, "normalized_shape", size) for size in given)
    if not shape or len(shape) >= x.ndim or x.shape[x.ndim - len(shape) :] != shape:
        raise ShapeError(
            f"{operation}: normalized_shape {shape} must be the last dimensions of a sample of x, "
            f"which has shape {x.shape}"
        )
    return x, shape


def _groups(
    operation: str, x: Any, num_groups: int, eps: float
) -> tuple[np.ndarray, dict[str, Any]]:
    x = as_array(operation, "x", x)
    groups = as_count(operation, "num_groups", num_groups)
    if x.ndim < 2 or x.shape[1] % groups:
        raise ShapeError(
            f"{operation}: num_groups={groups} must divide the channels of x of shape {x.shape}"
        )
    arguments = {"num_groups": groups, "eps": as_number(operation, "eps", eps, above=0.0)}
    if sets_of("group_norm", arguments, x.shape[1:]).members == 1:
        raise ShapeError(
            f"{operation}: statistics need more than one value a group, x has shape {x.shape}"
        )
    return x, arguments


def _rms_eps(operation: str, x: np.ndarray, eps: float | None) -> float:
    if eps is None:
        return float(np.finfo(x.dtype).eps)
    return as_number(operation, "eps", eps, above=0.0)


def _weights(
    operation: str, x: np.ndarray, shape: tuple[int, ...], **values: Any
) -> dict[str, np.ndarray | None]:
    """Check arrays of a shape, or None."""
    checked: dict[str, np.ndarray | None] = {}
    for name, value in values.items():
        checked[name] = None
        if value is not None:
            array = checked[name] = as_same_type(operation, x, name, value, len(shape))
            if array.shape != shape:
                raise ShapeError(f"{operation}: {name} must have shape {shape}, got {array.shape}")
    return checked


#: What normalisations within a sample have in common.
SAMPLE_NORM: dict[str, Any] = {
    "parameters": ("weight", "bias"),
    "backward_reads": ("weight",),
    "fuses_relu": True,
    "any_layout": True,
    "frees_input": True,
}
_EPS: dict[str, Any] = {"eps": 1e-5}
#: The operations of this file.
RECORDS = (
    Operation(
        "layer_norm",
        **SAMPLE_NORM,
        layers=(
            case("LayerNorm", (2, 3, 2), (2, 3, 2)),
            case("LayerNorm", (2, 3, 2), (3, 2), eps=0.1, bias=False),
            case("LayerNorm", (3, 2, 4), 4, elementwise_affine=False),
            case("LayerNorm", (6,), 6),
        ),
        timed=tuple((size, _EPS | {"normalized_shape": size}) for size in ((256,), (16, 32, 32))),
    ),
    Operation(
        "layer_norm2d",
        **SAMPLE_NORM,
        layers=(
            case("LayerNorm2d", (3, 2, 3), 3),
            case("LayerNorm2d", (5, 2, 2), 5, eps=0.1, affine=False),
        ),
        timed=(((64, 16, 16), _EPS),),
    ),
    Operation(
        "group_norm",
        **SAMPLE_NORM,
        layers=(
            case("GroupNorm", (4, 2, 3), 2, 4),
            case("GroupNorm", (6,), 2, 6, eps=0.1, affine=False),
            case("InstanceNorm2d", (3, 2, 3), 3, affine=True),
        ),
        timed=tuple(((64, 16, 16), _EPS | {"num_groups": groups}) for groups in (8, 64)),
    ),
    Operation(
        "rms_norm",
        **(SAMPLE_NORM | {"parameters": ("weight",)}),
        layers=(
            case("RMSNorm", (3, 2, 3), (3, 2, 3)),
            case("RMSNorm", (2, 2, 5), 5, eps=0.1, elementwise_affine=False),
        ),
        timed=(((256,), _EPS | {"normalized_shape": (256,)}),),
    ),
)
