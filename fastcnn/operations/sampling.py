"""What copies pixels to other places, or mixes them."""

import math
from typing import Any

import numpy as np

from fastcnn.arguments import as_array, as_choice, as_count, as_gradient
from fastcnn.backends import get_backend
from fastcnn.backends.sampling import (
    PADDING_MODES,
    as_interpolation,
    as_padding,
    interpolated_output,
    interpolation_of,
    padded_size,
    shuffled_shape,
    unshuffled_shape,
)
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.operations.record import Operation, case

__all__ = [
    "channel_shuffle",
    "channel_shuffle_backward",
    "interpolate",
    "interpolate_backward",
    "pad",
    "pad_backward",
    "pixel_shuffle",
    "pixel_shuffle_backward",
    "pixel_unshuffle",
    "pixel_unshuffle_backward",
    "unflatten",
    "unflatten_backward",
]


def _sequence_or_map(operation: str, x: Any) -> tuple[np.ndarray, int]:
    x = as_array(operation, "x", x)
    if x.ndim not in (3, 4):
        raise ShapeError(f"{operation}: x must have 3 or 4 dimensions, got shape {x.shape}")
    return x, x.ndim - 2


def _pad_arguments(
    operation: str, x: Any, padding: Any, mode: Any
) -> tuple[np.ndarray, dict[str, Any], tuple[int, ...]]:
    x, axes = _sequence_or_map(operation, x)
    mode = as_choice(operation, "mode", mode, PADDING_MODES)
    sides = as_padding(operation, padding, axes, cuts=mode == "constant")
    try:
        sizes = [
            padded_size(size, side, mode)
            for size, side in zip(x.shape[2:], sides[-axes:], strict=True)
        ]
    except ShapeError as error:
        raise ShapeError(f"{operation}: x {x.shape}: {error}") from None
    return x, {"padding": sides, "mode": mode}, (*x.shape[:2], *sizes)


def pad(
    x: Any, padding: int | tuple[int, ...], mode: str = "constant", *, backend: str | None = None
) -> np.ndarray:
    """Zeros, or copies of pixels, around maps or sequences.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (N, C, L)
    padding : int, (left, right, top, bottom), or (left, right) of a sequence
        With zeros, negative numbers cut off.
    mode : {"constant", "reflect", "replicate", "circular"}
        Zeros; the map in a mirror, without its border; copies of the border; or of the other side.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C, top + H + bottom, left + W + right)

    Raises
    ------
    ShapeError
        If nothing is left, a reflection is as long as the map, or what wraps around is longer.
    ConfigurationError
    """
    x, arguments, _ = _pad_arguments("pad", x, padding, mode)
    return get_backend(backend).pad(x, **arguments)


def pad_backward(
    grad_output: Any,
    x: Any,
    padding: int | tuple[int, ...],
    mode: str = "constant",
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`pad` with respect to ``x``: of each pixel the sum over its copies."""
    x, arguments, output = _pad_arguments("pad_backward", x, padding, mode)
    grad_output = as_gradient("pad_backward", grad_output, x, output)
    return get_backend(backend).pad_backward(grad_output, x, **arguments)


def _interpolation(
    operation: str, x: Any, given: tuple[Any, ...]
) -> tuple[np.ndarray, dict[str, Any], tuple[int, ...]]:
    x, axes = _sequence_or_map(operation, x)
    arguments = interpolation_of(operation, axes, as_interpolation(operation, *given))
    size = x.shape[2:] if axes == 2 else (1, x.shape[2])
    output = interpolated_output(size, arguments["size"], arguments["scale_factor"])
    return x, arguments, (*x.shape[:2], *output[-axes:])


def interpolate(
    x: Any,
    size: int | tuple[int, ...] | None = None,
    scale_factor: int | tuple[int, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Maps or sequences of another size, from the nearest pixels or those around a place.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (N, C, L)
    size : int or (int, int), optional
        Size of the output.
    scale_factor : int or (int, int), optional
        The output's size by that of the input.
    mode : {"nearest", "bilinear", "linear"}
        Row i of the nearest is row ``floor(i * H / OH)``, exactly: PyTorch computes the quotient
        with rounding errors, which differs where it is whole and ``H / OH`` is not a float.
        "linear" is the bilinear one of sequences.
    align_corners : bool, optional
        Whether the outermost pixels of input and output have the same places, not their borders.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (N, C, OL)

    Raises
    ------
    ShapeError, ConfigurationError
    """
    given = (size, scale_factor, mode, align_corners)
    x, arguments, _ = _interpolation("interpolate", x, given)
    return get_backend(backend).interpolate(x, **arguments)


def interpolate_backward(
    grad_output: Any,
    x: Any,
    size: int | tuple[int, ...] | None = None,
    scale_factor: int | tuple[int, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Gradient of :func:`interpolate` with respect to ``x``."""
    given = (size, scale_factor, mode, align_corners)
    x, arguments, output = _interpolation("interpolate_backward", x, given)
    grad_output = as_gradient("interpolate_backward", grad_output, x, output)
    return get_backend(backend).interpolate_backward(grad_output, x, **arguments)


def pixel_shuffle(x: Any, upscale_factor: int, *, backend: str | None = None) -> np.ndarray:
    """Channels become pixels: (N, C * r * r, H, W) to (N, C, H * r, W * r).

    Raises
    ------
    ShapeError
        If the channels are not a multiple of ``upscale_factor ** 2``.

    References
    ----------
    Shi et al., arXiv:1609.05158, equation 4.
    """
    x, factor, _ = _shuffled("pixel_shuffle", x, upscale_factor)
    return get_backend(backend).pixel_shuffle(x, factor)


def pixel_shuffle_backward(
    grad_output: Any, x: Any, upscale_factor: int, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`pixel_shuffle` with respect to ``x``."""
    x, factor, output = _shuffled("pixel_shuffle_backward", x, upscale_factor)
    grad_output = as_gradient("pixel_shuffle_backward", grad_output, x, output)
    return get_backend(backend).pixel_shuffle_backward(grad_output, x, factor)


def pixel_unshuffle(x: Any, downscale_factor: int, *, backend: str | None = None) -> np.ndarray:
    """Pixels become channels: (N, C, H * r, W * r) to (N, C * r * r, H, W).

    Raises
    ------
    ShapeError
        If rows or columns are not a multiple of ``downscale_factor``.
    """
    x, factor, _ = _shuffled("pixel_unshuffle", x, downscale_factor)
    return get_backend(backend).pixel_unshuffle(x, factor)


def pixel_unshuffle_backward(
    grad_output: Any, x: Any, downscale_factor: int, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`pixel_unshuffle` with respect to ``x``."""
    x, factor, output = _shuffled("pixel_unshuffle_backward", x, downscale_factor)
    grad_output = as_gradient("pixel_unshuffle_backward", grad_output, x, output)
    return get_backend(backend).pixel_unshuffle_backward(grad_output, x, factor)


def _shuffled(operation: str, x: Any, value: Any) -> tuple[np.ndarray, int, tuple[int, ...]]:
    x = as_array(operation, "x", x, 4)
    is_down = operation.startswith("pixel_unshuffle")
    factor = as_count(operation, "downscale_factor" if is_down else "upscale_factor", value)
    try:
        output = (unshuffled_shape if is_down else shuffled_shape)(x.shape[1:], factor)
    except ShapeError as error:
        raise ShapeError(f"{operation}: x {x.shape}: {error}") from None
    return x, factor, (len(x), *output)


def channel_shuffle(x: Any, groups: int, *, backend: str | None = None) -> np.ndarray:
    """Channels of groups take turns: channel ``g * (C / groups) + k`` becomes ``k * groups + g``.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (N, C, L)
    groups : int
        Must divide C.
    backend : str, optional

    References
    ----------
    Zhang et al., "ShuffleNet", arXiv:1707.01083, section 3.1.
    """
    x, groups = _grouped("channel_shuffle", x, groups)
    return get_backend(backend).channel_shuffle(x, groups)


def channel_shuffle_backward(
    grad_output: Any, x: Any, groups: int, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`channel_shuffle` with respect to ``x``."""
    x, groups = _grouped("channel_shuffle_backward", x, groups)
    grad_output = as_gradient("channel_shuffle_backward", grad_output, x, x.shape)
    return get_backend(backend).channel_shuffle_backward(grad_output, x, groups)


def _grouped(operation: str, x: Any, groups: Any) -> tuple[np.ndarray, int]:
    x, _ = _sequence_or_map(operation, x)
    groups = as_count(operation, "groups", groups)
    if x.shape[1] % groups:
        raise ShapeError(f"{operation}: groups={groups} must divide {x.shape[1]} channels")
    return x, groups


def unflatten(x: Any, shape: tuple[int, ...], *, backend: str | None = None) -> np.ndarray:
    """Samples of as many numbers in another shape, such as (N, C * H * W) to (N, C, H, W).

    Parameters
    ----------
    x : array_like, shape (N, ...)
    shape : tuple of int
        The shape of one sample.
    backend : str, optional

    Raises
    ------
    ShapeError
        If samples have another number of elements.
    """
    x, shape = _reshaped("unflatten", x, shape)
    return get_backend(backend).unflatten(x, shape)


def unflatten_backward(
    grad_output: Any, x: Any, shape: tuple[int, ...], *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`unflatten` with respect to ``x``."""
    x, shape = _reshaped("unflatten_backward", x, shape)
    grad_output = as_gradient("unflatten_backward", grad_output, x, (len(x), *shape))
    return get_backend(backend).unflatten_backward(grad_output, x, shape)


def _reshaped(operation: str, x: Any, shape: Any) -> tuple[np.ndarray, tuple[int, ...]]:
    x = as_array(operation, "x", x)
    if not isinstance(shape, (tuple, list)) or not shape:
        raise ConfigurationError(f"{operation}: shape must be a tuple, got {shape!r}")
    sizes = tuple(as_count(operation, "each size in shape", size) for size in shape)
    if math.prod(sizes) != math.prod(x.shape[1:]):
        raise ShapeError(f"{operation}: samples of shape {x.shape[1:]} cannot have shape {sizes}")
    return x, sizes


#: What copies or mixes pixels, by tables of their places.
SAMPLING: dict[str, Any] = {"gradient_needs": "nothing", "frees_input": True, "any_layout": True}
_TWICE: dict[str, Any] = {"size": None, "scale_factor": (2, 2), "align_corners": False}
#: The operations of this file.
RECORDS = (
    Operation(
        "pad",
        **SAMPLING,
        layers=(
            case("ZeroPad2d", (2, 4, 3), (1, 2, -1, 0)),
            case("ZeroPad1d", (2, 4), (2, 1)),
            case("ReflectionPad2d", (2, 4, 3), (1, 2, 0, 3)),
            case("ReflectionPad1d", (2, 4), 2),
            case("ReplicationPad2d", (2, 3, 3), (1, 0, 2, 1)),
            case("CircularPad2d", (2, 3, 3), (1, 0, 2, 1)),
        ),
        timed=(((32, 32, 32), {"padding": ((1, 1), (1, 1)), "mode": "reflect"}),),
    ),
    Operation(
        "interpolate",
        **SAMPLING,
        layers=(
            case("Upsample", (2, 2, 3), scale_factor=(2, 3)),
            case("Upsample", (2, 3, 6), size=(5, 4), mode="bilinear"),
            case("Upsample", (2, 3, 2), scale_factor=2, mode="bilinear", align_corners=True),
            case("Upsample", (2, 5), scale_factor=2, mode="linear"),
        ),
        timed=tuple(((16, 16, 16), _TWICE | {"mode": mode}) for mode in ("nearest", "bilinear")),
    ),
    Operation(
        "pixel_shuffle",
        **SAMPLING,
        layers=(case("PixelShuffle", (8, 2, 3), 2),),
        timed=(((32, 16, 16), {"upscale_factor": 2}),),
    ),
    Operation(
        "pixel_unshuffle",
        **SAMPLING,
        layers=(case("PixelUnshuffle", (2, 4, 2), 2),),
        timed=(((8, 32, 32), {"downscale_factor": 2}),),
    ),
    Operation(
        "channel_shuffle",
        **SAMPLING,
        layers=(case("ChannelShuffle", (6, 2, 2), 3),),
        timed=(((32, 16, 16), {"groups": 4}),),
    ),
    Operation(
        "unflatten",
        gradient_needs="nothing",
        renames=True,
        layers=(case("Unflatten", (12,), 1, (2, 3, 2)),),
    ),
)
