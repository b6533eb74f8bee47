"""Source pixels and output sizes of padding, interpolation and shuffles, for every backend."""

import math
from typing import Any

import numpy as np

from fastcnn.backends.geometry import (
    MOST_SIZE,
    AdaptiveSize,
    Padding,
    Pair,
    each_of,
    of_map,
    per_axis,
)
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.scalars import is_integer

PADDING_MODES = ("constant", "reflect", "replicate", "circular")
INTERPOLATIONS = ("nearest", "bilinear")


def padded_size(size: int, padding: Pair, mode: str) -> int:
    """Rows (or columns) of a padded map.

    Raises ShapeError if nothing is left, or if a reflection or circular padding is longer than the
    map.
    """
    before, after = padding
    if mode == "reflect" and max(padding) >= size:
        raise ShapeError(f"a reflection of {max(padding)} pixels needs a map of more, got {size}")
    if mode == "circular" and max(padding) > size:
        raise ShapeError(f"{max(padding)} pixels of a map of size {size} cannot wrap around once")
    if size + before + after < 1 or size + min(before, 0) + min(after, 0) < 1:
        raise ShapeError(f"padding {padding} leaves nothing of a map of size {size}")
    return size + before + after


def padded_sources(size: int, padding: Pair, mode: str) -> np.ndarray:
    """The source row (or column) of each row of a padded map, -1 for zeros."""
    places = np.arange(-padding[0], size + padding[1])
    if mode == "replicate":
        return places.clip(0, size - 1)
    if mode == "circular":
        return places % size
    if mode == "reflect":
        return size - 1 - np.abs(size - 1 - np.abs(places))
    return np.where((places >= 0) & (places < size), places, -1)


def padded_output(size: Any, padding: Padding, mode: str) -> Pair:
    """Rows and columns of a padded map, or ShapeError."""
    rows, columns = (padded_size(*axis, mode) for axis in zip(size, padding, strict=True))
    return rows, columns


def interpolated_output(size: Any, output_size: AdaptiveSize | None, scale: Pair | None) -> Pair:
    """Rows and columns of an interpolation: the requested size, or the map's times a factor."""
    if output_size is not None:
        rows, columns = output_size
        assert rows is not None
        assert columns is not None
        return rows, columns
    assert scale is not None
    return int(size[0]) * scale[0], int(size[1]) * scale[1]


def interpolation_taps(
    size: int, output: int, mode: str, align_corners: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two source rows (or columns) of each row of an interpolation, and their weights.

    Returns
    -------
    first, second : ndarray of int, shape (output,)
        Rows of the input.
    share : ndarray of float64, shape (output,)
        The row is ``(1 - share) * x[first] + share * x[second]``. For nearest pixels it is 0, and
        ``first`` is ``floor(i * size / output)``, exactly.
    """
    steps = np.arange(output)
    if mode == "nearest":
        nearest = steps * size // output
        return nearest, nearest, np.zeros(output)
    if align_corners:
        places = steps * ((size - 1) / (output - 1) if output > 1 else 0.0)
    else:
        places = ((steps + 0.5) * (size / output) - 0.5).clip(0.0, None)
    first = np.minimum(places.astype(np.int64), size - 1)
    return first, np.minimum(first + 1, size - 1), (places - first).clip(0.0, 1.0)


def shuffled_channels(channels: int, groups: int) -> np.ndarray:
    """The source channel of each channel of a channel shuffle, which interleaves the groups.

    References
    ----------
    Zhang et al., "ShuffleNet", arXiv:1707.01083, section 3.1.
    """
    return np.arange(channels).reshape(groups, -1).T.ravel()


def as_padding(owner: str, value: Any, axes: int, *, cuts: bool) -> Padding:
    """PyTorch's padding, from the last axis on, as ``((top, bottom), (left, right))``.

    Negative padding is allowed if it ``cuts``. Raises ConfigurationError.
    """
    least = None if cuts else 0
    sides = each_of(value, 2 * axes)
    integers = all(map(is_integer, sides))
    too_large = integers and any(abs(int(side)) > MOST_SIZE for side in sides)
    wrong = len(sides) != 2 * axes or not integers or too_large
    if wrong or (least is not None and min(sides) < least):
        names = "left, right" if axes == 1 else "left, right, top, bottom"
        bound = "" if cuts else " of at least 0"
        bound = f" of at most {MOST_SIZE:,}" if too_large else bound
        raise ConfigurationError(
            f"{owner}: padding must be an integer{bound}, or a tuple ({names}) of these, "
            f"got {value!r}"
        )
    pairs = [(int(sides[2 * a]), int(sides[2 * a + 1])) for a in range(axes)]
    return of_map(tuple(reversed(pairs)), (0, 0))


def as_interpolation(
    owner: str, size: Any, scale_factor: Any, mode: Any, align_corners: Any
) -> dict[str, Any]:
    """Checked arguments of an interpolation, otherwise unchanged; or ConfigurationError."""
    if not isinstance(mode, str) or mode not in (*INTERPOLATIONS, "linear"):
        raise ConfigurationError(
            f"{owner}: mode must be one of nearest, linear, bilinear, got {mode!r}"
        )
    if (size is None) == (scale_factor is None):
        raise ConfigurationError(f"{owner}: give either size or scale_factor")
    if align_corners is not None:
        if not isinstance(align_corners, (bool, np.bool_)):
            raise ConfigurationError(
                f"{owner}: align_corners must be True or False, got {align_corners!r}"
            )
        if mode == "nearest":
            raise ConfigurationError(f"{owner}: align_corners has no meaning for mode='nearest'")
    name, value = ("size", size) if scale_factor is None else ("scale_factor", scale_factor)
    numbers, is_list = each_of(value, 1), bool(np.ndim(np.asarray(value, object)))
    if name == "scale_factor":
        wholes = [
            isinstance(number, (int, float, np.number))
            and not isinstance(number, bool)
            and math.isfinite(number)
            and number == int(number)
            for number in numbers
        ]
        if not all(wholes):
            raise ConfigurationError(
                f"{owner}: scale_factor must be whole, got {value!r}; otherwise give a size"
            )
        numbers = tuple(int(number) for number in numbers)
    if len(numbers) not in (1, 2):
        raise ConfigurationError(f"{owner}: {name} must be a number or a pair, got {value!r}")
    checked: Any = per_axis(numbers, f"{owner}: {name}", len(numbers))
    checked = checked if is_list else checked[0]
    return {"size": None, "scale_factor": None, name: checked} | {
        "mode": mode,
        "align_corners": align_corners,
    }


def interpolation_of(owner: str, axes: int, checked: dict[str, Any]) -> dict[str, Any]:
    """The same for maps or sequences, in the form that backends accept.

    Raises ShapeError if mode or sizes are for the other kind.
    """
    mode = checked["mode"]
    if mode == ("bilinear" if axes == 1 else "linear"):
        wanted = {"bilinear": "(C, H, W)", "linear": "(C, L)"}[mode]
        raise ShapeError(f"{owner}: mode={mode!r} expects samples of shape {wanted}")
    made: dict[str, Any] = {}
    for name, of_row in (("size", 1), ("scale_factor", 1)):
        value = checked[name]
        if value is not None:
            if isinstance(value, tuple) and len(value) != axes:
                raise ShapeError(
                    f"{owner}: {name}={value} is of {len(value)} axes, the samples have {axes}"
                )
            value = of_map(per_axis(value, f"{owner}: {name}", axes), of_row)
        made[name] = value
    made["mode"] = "bilinear" if mode == "linear" else mode
    made["align_corners"] = bool(checked["align_corners"])
    return made


def shuffled_shape(shape: tuple[int, ...], factor: int) -> tuple[int, int, int]:
    """Shape of a sample after a pixel shuffle, or ShapeError."""
    channels, rows, columns = shape
    if channels % factor**2:
        raise ShapeError(f"{channels} channels are not a multiple of upscale_factor ** 2")
    return channels // factor**2, rows * factor, columns * factor


def unshuffled_shape(shape: tuple[int, ...], factor: int) -> tuple[int, int, int]:
    """Shape of a sample after a pixel unshuffle, or ShapeError."""
    channels, rows, columns = shape
    if rows % factor or columns % factor:
        raise ShapeError(f"{rows} x {columns} pixels are not a multiple of downscale_factor")
    return channels * factor**2, rows // factor, columns // factor
