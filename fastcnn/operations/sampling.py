"""Operations that move or interpolate pixels."""

import math
from typing import Any

import numpy as np

from fastcnn.arguments import as_array, as_choice, as_count, naming
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
from fastcnn.errors import ConfigurationError, ShapeError, counted
from fastcnn.operations.forms import Checked, computed, gradient
from fastcnn.operations.record import Operation, case

__all__ = [
    "channel_shuffle",
    "channel_shuffle_backward",
    "flatten",
    "flatten_backward",
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


def pad(
    x: Any, padding: int | tuple[int, ...], mode: str = "constant", *, backend: str | None = None
) -> np.ndarray:
    """Pad maps or sequences with zeros or copies of pixels.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (N, C, L)
    padding : int, (left, right, top, bottom), or (left, right) of a sequence
        With zeros, negative values crop.
    mode : {"constant", "reflect", "replicate", "circular"}
        Zeros; the map mirrored without repeating its edge; copies of the edge; or of the opposite
        side.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C, top + H + bottom, left + W + right)

    Raises
    ------
    ShapeError
        If nothing is left, a reflection is at least as long as the map, or circular padding is
        longer.
    ConfigurationError
    """
    return computed("pad", _padded, backend, x, padding, mode)


def _padded(name: str, x: Any, padding: Any, mode: Any) -> Checked:
    x, axes = _sequence_or_map(name, x)
    mode = as_choice(name, "mode", mode, PADDING_MODES)
    sides = as_padding(name, padding, axes, cuts=mode == "constant")
    with naming(f"{name}: x {x.shape}"):
        places = zip(x.shape[2:], sides[-axes:], strict=True)
        sizes = [padded_size(size, side, mode) for size, side in places]
    return Checked((x,), {"padding": sides, "mode": mode}, (*x.shape[:2], *sizes))


def _sequence_or_map(name: str, x: Any) -> tuple[np.ndarray, int]:
    x = as_array(name, "x", x)
    if x.ndim not in (3, 4):
        raise ShapeError(f"{name}: x must have 3 or 4 dimensions, got shape {x.shape}")
    return x, x.ndim - 2


def pad_backward(
    grad_output: Any,
    x: Any,
    padding: int | tuple[int, ...],
    mode: str = "constant",
    *,
    backend: str | None = None,
) -> tuple[np.ndarray, ...]:
    """Gradient of :func:`pad`: for each pixel the sum over its copies."""
    return gradient("pad", _padded, backend, grad_output, x, padding, mode)


def interpolate(
    x: Any,
    size: int | tuple[int, ...] | None = None,
    scale_factor: int | tuple[int, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    *,
    backend: str | None = None,
) -> np.ndarray:
    """Resize maps or sequences by nearest or linear interpolation.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (N, C, L)
    size : int or (int, int), optional
        Size of the output.
    scale_factor : int or (int, int), optional
        Ratio of output to input size.
    mode : {"nearest", "bilinear", "linear"}
        With "nearest", row i is exactly row ``floor(i * H / OH)``: PyTorch computes the quotient
        with rounding errors, and differs where it is an integer and ``H / OH`` is not a float.
        "linear" is for sequences.
    align_corners : bool, optional
        Whether the centres of the corner pixels of input and output are aligned, rather than their
        edges.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (N, C, OL)
    """
    return computed(
        "interpolate", _interpolated, backend, x, size, scale_factor, mode, align_corners
    )


def _interpolated(name: str, x: Any, *given: Any) -> Checked:
    x, axes = _sequence_or_map(name, x)
    arguments = interpolation_of(name, axes, as_interpolation(name, *given))
    size = x.shape[2:] if axes == 2 else (1, x.shape[2])
    output = interpolated_output(size, arguments["size"], arguments["scale_factor"])
    return Checked((x,), arguments, (*x.shape[:2], *output[-axes:]))


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
    """Gradient of :func:`interpolate`."""
    return gradient(
        "interpolate",
        _interpolated,
        backend,
        grad_output,
        x,
        size,
        scale_factor,
        mode,
        align_corners,
    )


def pixel_shuffle(x: Any, upscale_factor: int, *, backend: str | None = None) -> np.ndarray:
    """Rearrange channels to pixels: (N, C * r * r, H, W) to (N, C, H * r, W * r).

    Parameters
    ----------
    x : array_like, shape (N, C * r * r, H, W)
    upscale_factor : int
        The factor r.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C, H * r, W * r)

    Raises
    ------
    ShapeError
        If the channels are not a multiple of ``upscale_factor ** 2``.
    """
    return computed("pixel_shuffle", _shuffled, backend, x, upscale_factor)


def pixel_unshuffle(x: Any, downscale_factor: int, *, backend: str | None = None) -> np.ndarray:
    """Rearrange pixels to channels: (N, C, H * r, W * r) to (N, C * r * r, H, W).

    Parameters
    ----------
    x : array_like, shape (N, C, H * r, W * r)
    downscale_factor : int
        The factor r.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, C * r * r, H, W)

    Raises
    ------
    ShapeError
        If rows or columns are not a multiple of ``downscale_factor``.
    """
    return computed("pixel_unshuffle", _shuffled, backend, x, downscale_factor)


def _shuffled(name: str, x: Any, factor: Any) -> Checked:
    x = as_array(name, "x", x, 4)
    is_down = name.startswith("pixel_unshuffle")
    argument = "downscale_factor" if is_down else "upscale_factor"
    factor = as_count(name, argument, factor)
    with naming(f"{name}: x {x.shape}"):
        output = (unshuffled_shape if is_down else shuffled_shape)(x.shape[1:], factor)
    return Checked((x,), {argument: factor}, (len(x), *output))


def pixel_shuffle_backward(
    grad_output: Any, x: Any, upscale_factor: int, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`pixel_shuffle`."""
    return gradient("pixel_shuffle", _shuffled, backend, grad_output, x, upscale_factor)


def pixel_unshuffle_backward(
    grad_output: Any, x: Any, downscale_factor: int, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`pixel_unshuffle`."""
    return gradient("pixel_unshuffle", _shuffled, backend, grad_output, x, downscale_factor)


def channel_shuffle(x: Any, groups: int, *, backend: str | None = None) -> np.ndarray:
    """Interleave the channels of groups: ``g * (C / groups) + k`` becomes ``k * groups + g``.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (N, C, L)
    groups : int
        Must divide C.
    backend : str, optional
    """
    return computed("channel_shuffle", _grouped, backend, x, groups)


def _grouped(name: str, x: Any, groups: Any) -> Checked:
    x, _ = _sequence_or_map(name, x)
    groups = as_count(name, "groups", groups)
    if x.shape[1] % groups:
        raise ShapeError(f"{name}: groups={groups} must divide {counted(x.shape[1], 'channel')}")
    return Checked((x,), {"groups": groups}, x.shape)


def channel_shuffle_backward(
    grad_output: Any, x: Any, groups: int, *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`channel_shuffle`."""
    return gradient("channel_shuffle", _grouped, backend, grad_output, x, groups)


def flatten(x: Any, *, backend: str | None = None) -> np.ndarray:
    """``(N, C, H, W)`` to ``(N, C * H * W)``.

    Parameters
    ----------
    x : array_like, shape (N, ...)
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, size of a sample)
    """
    return computed("flatten", _whole, backend, x)


def _whole(name: str, x: Any) -> Checked:
    x = as_array(name, "x", x)
    return Checked((x,), {}, (len(x), x.size // len(x)))


def flatten_backward(grad_output: Any, x: Any, *, backend: str | None = None) -> np.ndarray:
    """Gradient of :func:`flatten`: ``grad_output`` in the shape of ``x``."""
    return gradient("flatten", _whole, backend, grad_output, x)


def unflatten(x: Any, shape: tuple[int, ...], *, backend: str | None = None) -> np.ndarray:
    """Reshape samples, such as (N, C * H * W) to (N, C, H, W).

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
    return computed("unflatten", _reshaped, backend, x, shape)


def _reshaped(name: str, x: Any, shape: Any) -> Checked:
    x = as_array(name, "x", x)
    if not isinstance(shape, (tuple, list)) or not shape:
        raise ConfigurationError(f"{name}: shape must be a tuple, got {shape!r}")
    sizes = tuple(as_count(name, "each size in shape", size) for size in shape)
    if math.prod(sizes) != math.prod(x.shape[1:]):
        raise ShapeError(f"{name}: samples of shape {x.shape[1:]} cannot have shape {sizes}")
    return Checked((x,), {"shape": sizes}, (len(x), *sizes))


def unflatten_backward(
    grad_output: Any, x: Any, shape: tuple[int, ...], *, backend: str | None = None
) -> np.ndarray:
    """Gradient of :func:`unflatten`."""
    return gradient("unflatten", _reshaped, backend, grad_output, x, shape)


#: Common fields of operations that move or mix pixels by index tables.
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
    Operation("flatten", renames=True, layers=(case("Flatten", (2, 3, 3)),)),
    Operation(
        "unflatten",
        gradient_needs="nothing",
        renames=True,
        layers=(case("Unflatten", (12,), 1, (2, 3, 2)),),
    ),
)
