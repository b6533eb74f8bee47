"""Normalisation within each sample."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn.arguments import as_array, as_count, as_number, as_optional
from fastcnn.backends.sample_sets import sets_of
from fastcnn.errors import ShapeError
from fastcnn.operations.forms import Checked, computed, gradient
from fastcnn.operations.record import Operation, case
from fastcnn.scalars import plain

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
        Sizes of the last dimensions, over which mean and biased variance are computed.
    weight, bias : array_like, shape ``normalized_shape``, optional
    eps : float
    backend : str, optional
    """
    return computed("layer_norm", _trailing, backend, x, normalized_shape, weight, bias, eps)


def _trailing(
    name: str, x: Any, normalized_shape: Any, weight: Any, bias: Any, eps: Any
) -> Checked:
    x, shape = _last_dimensions(name, x, normalized_shape)
    factors = {"weight": weight, "bias": bias}
    return _with_factors(name, x, shape, factors, eps, normalized_shape=shape)


def layer_norm_backward(
    grad_output: Any,
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    eps: float = 1e-5,
    *,
    backend: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient of :func:`layer_norm`.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray
    """
    return gradient(
        "layer_norm", _trailing, backend, grad_output, x, normalized_shape, weight, None, eps
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
        Sizes of the last dimensions, over which the mean is computed.
    weight : array_like, shape ``normalized_shape``, optional
    eps : float, optional
        By default the machine epsilon of the type of ``x``.
    backend : str, optional
    """
    return computed("rms_norm", _root_mean_square, backend, x, normalized_shape, weight, eps)


def _root_mean_square(name: str, x: Any, normalized_shape: Any, weight: Any, eps: Any) -> Checked:
    x, shape = _last_dimensions(name, x, normalized_shape)
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    return _with_factors(name, x, shape, {"weight": weight}, eps, normalized_shape=shape)


def rms_norm_backward(
    grad_output: Any,
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    eps: float | None = None,
    *,
    backend: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of :func:`rms_norm`.

    Returns
    -------
    grad_x, grad_weight : ndarray
    """
    return gradient(
        "rms_norm", _root_mean_square, backend, grad_output, x, normalized_shape, weight, eps
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
    """Group normalisation: mean and variance over the channels of a group and all pixels.

    Parameters
    ----------
    x : array_like, shape (N, C, ...)
    num_groups : int
        Must divide C.
    weight, bias : array_like, shape (C,), optional
    eps : float
    backend : str, optional
    """
    return computed("group_norm", _groups, backend, x, num_groups, weight, bias, eps)


def _groups(name: str, x: Any, num_groups: Any, weight: Any, bias: Any, eps: Any) -> Checked:
    x = as_array(name, "x", x)
    groups = as_count(name, "num_groups", num_groups)
    if x.ndim < 2 or x.shape[1] % groups:
        raise ShapeError(
            f"{name}: num_groups={groups} must divide the channels of x of shape {x.shape}"
        )
    if sets_of("group_norm", {"num_groups": groups}, x.shape[1:]).members == 1:
        raise ShapeError(
            f"{name}: statistics need more than one value per group, x has shape {x.shape}"
        )
    factors = {"weight": weight, "bias": bias}
    return _with_factors(name, x, x.shape[1:2], factors, eps, num_groups=groups)


def group_norm_backward(
    grad_output: Any,
    x: Any,
    num_groups: int,
    weight: Any = None,
    eps: float = 1e-5,
    *,
    backend: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient of :func:`group_norm`.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray
    """
    return gradient("group_norm", _groups, backend, grad_output, x, num_groups, weight, None, eps)


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
    """
    return computed("layer_norm2d", _of_pixels, backend, x, weight, bias, eps)


def _of_pixels(name: str, x: Any, weight: Any, bias: Any, eps: Any) -> Checked:
    x = as_array(name, "x", x, 4)
    return _with_factors(name, x, x.shape[1:2], {"weight": weight, "bias": bias}, eps)


def layer_norm2d_backward(
    grad_output: Any, x: Any, weight: Any = None, eps: float = 1e-06, *, backend: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient of :func:`layer_norm2d`.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray
    """
    return gradient("layer_norm2d", _of_pixels, backend, grad_output, x, weight, None, eps)


def _last_dimensions(
    name: str, x: Any, normalized_shape: Any
) -> tuple[np.ndarray, tuple[int, ...]]:
    x = as_array(name, "x", x)
    sizes = plain(normalized_shape)
    several = sizes if isinstance(sizes, (tuple, list)) else (sizes,)
    shape = tuple(as_count(name, "normalized_shape", size) for size in several)
    if not shape or len(shape) >= x.ndim or x.shape[x.ndim - len(shape) :] != shape:
        raise ShapeError(
            f"{name}: normalized_shape {shape} must be the last dimensions of a sample of x, "
            f"which has shape {x.shape}"
        )
    return x, shape


def _with_factors(
    name: str,
    x: np.ndarray,
    shape: tuple[int, ...],
    factors: dict[str, Any],
    eps: Any,
    **arguments: Any,
) -> Checked:
    """Sizes of the sets, with ``eps`` and with weights of a shape, which are arrays or None."""
    arguments["eps"] = as_number(name, "eps", eps, above=0.0)
    for key, value in factors.items():
        arguments[key] = as_optional(name, x, key, value, shape)
    return Checked((x,), arguments, x.shape)


#: Common fields of normalisations within a sample.
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
